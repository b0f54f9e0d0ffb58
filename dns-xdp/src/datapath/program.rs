//! The loaded object and its programs.
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use dns_xdp_ebpf::table;

use super::variant::Variant;
use super::{Error, maps};

/// The programs that answer and the program that renews their lease, as the BPF linker wrote them.
pub(super) const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/responder"));

/// The log level of the object when its log is on.
const LOG_LEVEL: aya_log::Level = aya_log::Level::Debug;

/// The options of loading an object.
pub(super) struct Options<'a> {
    /// The maps to pin or to take from pins, with their paths. The object makes all other maps for itself.
    pub(super) pinned: &'a [(&'static str, PathBuf)],
    /// Slots in a bank of the table.
    pub(super) bank_slots: u32,
    /// The served port.
    pub(super) port: u16,
    /// Whether the program logs.
    pub(super) log: bool,
}

/// Makes the object's maps and verifies the program that renews the lease. [`load`] verifies a variant when it is first
/// used.
pub(super) fn object(options: &Options<'_>) -> Result<Ebpf, Error> {
    let port = options.port.to_be();
    let jiffy = u64::try_from(maps::tick().as_nanos()).unwrap_or(u64::MAX);
    let log_level = if options.log { LOG_LEVEL as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    // Log the reason of a refusal, without the verifier's path. The full log would need more attempts after a refusal:
    // the kernel verifies the program again until the log fits, which takes 30 s.
    loader.verifier_log_level(VerifierLogLevel::STATS);
    loader.map_max_entries(table::NAMES, 2 * options.bank_slots);
    loader.map_max_entries(table::NAME_OVERFLOW, table::overflow_elements(options.bank_slots));
    loader.override_global(table::PORT, &port, true);
    loader.override_global(table::JIFFY, &jiffy, true);
    loader.override_global(aya_log::LEVEL, &log_level, true);
    for (name, path) in options.pinned {
        loader.map_pin_path(name, path);
    }
    let mut object = loader.load(OBJECT).map_err(|error| Error::loading(error.into()))?;
    program_mut(&mut object, table::RENEW)?.load().map_err(|error| Error::loading(error.into()))?;
    Ok(object)
}

/// Verifies a variant, unless it is verified already, and returns it.
pub(super) fn load(object: &mut Ebpf, variant: Variant) -> Result<&mut Xdp, Error> {
    let program = program_mut(object, variant.program())?;
    if program.fd().is_err() {
        program.load().map_err(|error| Error::loading(error.into()))?;
    }
    Ok(program)
}

/// Returns the kernel's numbers of the loaded variants.
pub(super) fn ids(object: &Ebpf) -> Vec<u32> {
    let loaded = Variant::ALL.iter().filter_map(|variant| program(object, variant.program()).ok());
    loaded.filter_map(|program| Some(program.info().ok()?.id())).collect()
}

/// Returns one of the object's programs.
pub(super) fn program<'a>(object: &'a Ebpf, name: &str) -> Result<&'a Xdp, Error> {
    let program =
        object.program(name).ok_or_else(|| Error::new(format!("the object has no program {name}")))?;
    program.try_into().map_err(|error: ProgramError| Error::loading(error.into()))
}

/// Returns one of the object's programs.
pub(super) fn program_mut<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, Error> {
    let program =
        object.program_mut(name).ok_or_else(|| Error::new(format!("the object has no program {name}")))?;
    program.try_into().map_err(|error: ProgramError| Error::loading(error.into()))
}

/// Attaches a program to the interface with this index, in this mode and no other. The attachment ends with the link.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn attach(program: &mut Xdp, index: u32, mode: XdpMode) -> Result<FdLink, ProgramError> {
    let id = program.attach_to_if_index(index, mode)?;
    taken(program, id)
}

/// Replaces the program of a link.
///
/// # Errors
/// The kernel refuses. The link is then gone, unless it is pinned.
pub(super) fn replace(program: &mut Xdp, link: FdLink) -> Result<FdLink, ProgramError> {
    let link = XdpLink::try_from(link).map_err(|error| match error {
        LinkError::SyscallError(error) => ProgramError::SyscallError(error),
        _ => ProgramError::NotAttached,
    })?;
    let id = program.attach_to_link(link)?;
    taken(program, id)
}

/// Returns the link of an attachment. On kernels that refuse a link, the library attaches without a link. Such an
/// attachment cannot be pinned.
fn taken(program: &mut Xdp, id: XdpLinkId) -> Result<FdLink, ProgramError> {
    let link = program.take_link(id)?;
    // Dropping an attachment of another kind detaches it.
    FdLink::try_from(link).map_err(|_| ProgramError::NotAttached)
}

/// Returns a pinned link; `None`: there is none, or it cannot be used.
///
/// # Errors
/// This process lacks permission or memory to open it. Keep the pin then: removing it would detach a predecessor's
/// program.
pub(super) fn pinned(pin: &Path) -> Result<Option<FdLink>, Error> {
    match PinnedLink::from_pin(pin) {
        Ok(link) => Ok(Some(link.into())),
        Err(LinkError::SyscallError(call)) if is_want(&call.io_error) => {
            Err(Error::opening(pin, call.io_error))
        }
        Err(_) => Ok(None),
    }
}

/// Whether a call failed because this process lacks permission or memory, and not because of its object.
pub(super) fn is_want(error: &std::io::Error) -> bool {
    const WANTS: [i32; 5] = [libc::EPERM, libc::ENOMEM, libc::ENOSPC, libc::EMFILE, libc::ENFILE];
    error.raw_os_error().is_some_and(|code| WANTS.contains(&code))
}

/// Returns the kernel's error number.
pub(super) fn errno(error: &ProgramError) -> Option<i32> {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(errno) = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return Some(errno);
        }
        cause = cause.source()?;
    }
}

/// Returns the text of the kernel's error.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
