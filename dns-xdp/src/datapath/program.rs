//! The loaded object, and its attachment to an interface.
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use aya::maps::{Array, MapData};
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{ProgramError, Xdp, XdpMode, loaded_programs};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use dns_xdp_ebpf::table::{self, LOCALS_CAPACITY, Local};

use super::interface::Interface;
use super::maps::take;
use super::pins::Pins;
use super::{Attached, Error};
use crate::config::Mode;

/// The program that answers, as the BPF linker left it.
pub(super) const RESPONDER: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/responder"));

/// What the object logs at when its log is on.
const LOG_LEVEL: aya_log::Level = aya_log::Level::Debug;

/// How an object is loaded.
pub(super) struct Options<'a> {
    /// The maps that are pinned, or to be pinned, with their places; the others are this object's own.
    pub(super) pinned: &'a [(&'static str, PathBuf)],
    /// Slots in a half of the table.
    pub(super) half: u32,
    /// The served addresses.
    pub(super) locals: &'a [Local],
    /// The served port.
    pub(super) port: u16,
    /// Whether the program logs.
    pub(super) log: bool,
}

/// Loads the object and verifies its programs.
pub(super) fn load(options: &Options<'_>) -> Result<Ebpf, Error> {
    let seed = locals_seed(options.locals);
    let port = options.port.to_be();
    let log_level = if options.log { LOG_LEVEL as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    // Why a program is refused, without the way there: that is written only after a refusal, by walking through the program
    // again and again until the log is long enough, which takes half a minute.
    loader.verifier_log_level(VerifierLogLevel::STATS);
    loader.map_max_entries(table::NAMES, 2 * options.half);
    loader.map_max_entries(table::MORE, 2 * options.half);
    loader.override_global(table::PORT, &port, true);
    loader.override_global(table::LOCALS_SEED, &seed, true);
    loader.override_global(aya_log::LEVEL, &log_level, true);
    for (name, path) in options.pinned {
        loader.map_pin_path(name, path);
    }
    let mut object = loader.load(RESPONDER).map_err(|error| Error::loading(error.into()))?;
    let mut slots: Array<MapData, [u8; size_of::<Local>()]> = take(&mut object, table::LOCALS)?;
    for local in options.locals {
        let slot = Local::slot(seed, local.interface, local.address);
        slots.set(slot, local.to_bytes(), 0).map_err(|error| Error::map(table::LOCALS, error))?;
    }
    for name in [table::RESPONDER, table::RENEW] {
        program_mut(&mut object, name)?.load().map_err(|error| Error::loading(error.into()))?;
    }
    Ok(object)
}

/// The served addresses on each interface.
pub(super) fn locals(interfaces: &[Interface], addresses: &[IpAddr]) -> Result<Vec<Local>, Error> {
    let each = |interface: &Interface| {
        let (index, mac) = (interface.index, interface.mac);
        addresses.iter().map(move |address| Local::new(index, *address, mac)).collect::<Vec<_>>()
    };
    let locals: Vec<Local> = interfaces.iter().flat_map(each).collect();
    let most = LOCALS_MAX;
    if locals.len() > most {
        let count = locals.len();
        return Err(Error::new(format!(
            "{count} addresses on interfaces are more than {most}: name fewer in [listen]"
        )));
    }
    Ok(locals)
}

/// So many addresses find a seed without collision soon.
const LOCALS_MAX: usize = LOCALS_CAPACITY as usize / 32;

/// The first seed that gives each address a slot of its own.
fn locals_seed(locals: &[Local]) -> u64 {
    let distinct = |seed: &u64| {
        let mut taken = [false; LOCALS_CAPACITY as usize];
        locals.iter().all(|local| {
            let slot = Local::slot(*seed, local.interface, local.address);
            !std::mem::replace(&mut taken[slot as usize], true)
        })
    };
    (0..).find(distinct).unwrap_or_default()
}

/// One of the object's programs.
pub(super) fn program<'a>(object: &'a Ebpf, name: &str) -> Result<&'a Xdp, Error> {
    let program =
        object.program(name).ok_or_else(|| Error::new(format!("the object has no program {name}")))?;
    program.try_into().map_err(|error: ProgramError| Error::loading(error.into()))
}

/// One of the object's programs.
pub(super) fn program_mut<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, Error> {
    let program =
        object.program_mut(name).ok_or_else(|| Error::new(format!("the object has no program {name}")))?;
    program.try_into().map_err(|error: ProgramError| Error::loading(error.into()))
}

/// Attaches the program to an interface in the first mode of the ladder that the kernel accepts, and pins the link;
/// or swaps the program in where a pinned link has a predecessor's.
pub(super) fn attach(
    object: &mut Ebpf,
    interface: &Interface,
    mode: Mode,
    pins: &Pins,
) -> Result<Attached, Error> {
    let pin = pins.link(&interface.name);
    let program = program_mut(object, table::RESPONDER)?;
    if mode == Mode::Off {
        return Ok(Attached::Off);
    }
    if let Some(attached) = swap(program, interface, &pin)? {
        return Ok(attached);
    }
    let ladder: &[(XdpMode, Attached)] = match mode {
        Mode::Auto => &[(XdpMode::Driver, Attached::Native), (XdpMode::Skb, Attached::Generic)],
        Mode::Native => &[(XdpMode::Driver, Attached::Native)],
        Mode::Generic => &[(XdpMode::Skb, Attached::Generic)],
        Mode::Off => &[],
    };
    let mut refusals = Vec::new();
    for (mode, attached) in ladder {
        match program.attach_to_if_index(interface.index, *mode) {
            Ok(id) => {
                let link =
                    program.take_link(id).map_err(|error| Error::attaching(interface, error.into()))?;
                let link =
                    FdLink::try_from(link).map_err(|error| Error::attaching(interface, error.into()))?;
                link.pin(&pin).map_err(|error| Error::pinning(&pin, error))?;
                return Ok(*attached);
            }
            Err(error) => refusals.push(format!("{attached}: {}", root_cause(&error))),
        }
    }
    let refusals = refusals.join("; ");
    let name = &interface.name;
    if mode == Mode::Auto {
        tracing::warn!("no XDP on {name}, the responder answers everything ({refusals})");
        return Ok(Attached::Off);
    }
    Err(Error::new(format!("cannot attach to {name} ({refusals}): try [xdp] mode = \"auto\"")))
}

/// Puts the program in the place of a predecessor's; `None` when there is none, or its interface is gone.
fn swap(program: &mut Xdp, interface: &Interface, pin: &Path) -> Result<Option<Attached>, Error> {
    let pinned = match PinnedLink::from_pin(pin) {
        // Removing the pin would detach the predecessor's program for a want of ours.
        Err(error) if is_want(&error) => return Err(Error::opening(pin, error)),
        pinned => pinned,
    };
    let (Ok(pinned), Some(before)) = (pinned, interface.program) else {
        super::pins::remove(pin);
        return Ok(None);
    };
    let link = match XdpLink::try_from(FdLink::from(pinned)) {
        Ok(link) => link,
        // Attaching beside it would leave the predecessor's program to itself.
        Err(error) if is_want(&error) => return Err(Error::opening(pin, error)),
        Err(_) => return Ok(None),
    };
    match program.attach_to_link(link) {
        Ok(id) => {
            // The pin keeps the link; this process need not.
            drop(program.take_link(id).map_err(|error| Error::attaching(interface, error.into()))?);
            Ok(Some(if before.native { Attached::Native } else { Attached::Generic }))
        }
        // Anything but a link that outlived its interface leaves the predecessor's program where it is.
        Err(error) if !outlived(&error) => Err(Error::attaching(interface, error.into())),
        Err(_) => {
            // The interface that bears the name now is another.
            std::fs::remove_file(pin).map_err(|error| Error::attaching(interface, error.into()))?;
            Ok(None)
        }
    }
}

/// Whether a pin could not be opened for what this process lacks, and not for what is pinned there.
fn is_want(error: &LinkError) -> bool {
    const WANTS: [i32; 5] = [libc::EPERM, libc::ENOMEM, libc::ENOSPC, libc::EMFILE, libc::ENFILE];
    matches!(error, LinkError::SyscallError(call) if call.io_error.raw_os_error().is_some_and(|code| WANTS.contains(&code)))
}

/// Whether the kernel says that a link's interface is gone.
fn outlived(error: &ProgramError) -> bool {
    matches!(error, ProgramError::SyscallError(call) if call.io_error.raw_os_error() == Some(libc::ENOLINK))
}

/// Refuses an interface that another daemon of ours answers on, and tells of programs that are not ours.
pub(super) fn check_free(interface: &Interface, mode: Mode, pins: &Pins) -> Result<Mode, Error> {
    let Some(there) = interface.program else { return Ok(mode) };
    if pins.link(&interface.name).exists() {
        return Ok(mode);
    }
    let name = loaded_programs().flatten().find(|program| program.id() == there.id);
    let name = name.and_then(|program| Some(program.name_as_str()?.to_owned())).unwrap_or_default();
    let interface = &interface.name;
    if name == table::RESPONDER {
        let holder = holder(there.id).map_or_else(
            || "its daemon is gone: dns-xdp unload --config FILE with the file that it ran with".to_owned(),
            |pid| format!("process {pid} holds it: stop that first"),
        );
        return Err(Error::new(format!("another dns-xdp answers on {interface}: {holder}")));
    }
    // Its name takes CAP_SYS_ADMIN to ask for.
    let name = if name.is_empty() { "with a name that only root is told".to_owned() } else { name };
    let text = format!("{interface} has another XDP program, {name} (id {}), which is left alone", there.id);
    match mode {
        Mode::Auto => {
            tracing::warn!("{text}: the responder answers everything");
            Ok(Mode::Off)
        }
        _ => {
            Err(Error::new(format!("{text}: detach it (ip link set {interface} xdp off), or set [xdp] mode")))
        }
    }
}

/// The process that has the program open, other than this one.
fn holder(program: u32) -> Option<u32> {
    let wanted = format!("prog_id:\t{program}");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        let mut infos = descriptors.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        *pid != std::process::id() && infos.any(|info| info.lines().any(|line| line == wanted))
    })
}

fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
