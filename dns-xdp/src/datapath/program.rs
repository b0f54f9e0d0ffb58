//! The loaded object and its programs.
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use dns_xdp_ebpf::table;

use super::variant::Variant;
use super::{Error, maps};

/// The programs that answer and the one that renews their lease, as the BPF linker left them.
pub(super) const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/responder"));

/// What the object logs at when its log is on.
const LOG_LEVEL: aya_log::Level = aya_log::Level::Debug;

/// How an object is loaded.
pub(super) struct Options<'a> {
    /// The maps that are pinned, or to be pinned, with their places; the others are this object's own.
    pub(super) pinned: &'a [(&'static str, PathBuf)],
    /// Slots in a bank of the table.
    pub(super) bank_slots: u32,
    /// The served port.
    pub(super) port: u16,
    /// Whether the program logs.
    pub(super) log: bool,
}

/// Makes the object's maps and verifies the program that renews the lease. The variants that answer are verified when they
/// are used first: [`load`].
pub(super) fn object(options: &Options<'_>) -> Result<Ebpf, Error> {
    let port = options.port.to_be();
    let jiffy = u64::try_from(maps::tick().as_nanos()).unwrap_or(u64::MAX);
    let log_level = if options.log { LOG_LEVEL as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    // The reason of a refusal, without the verifier's path. The full log is read only after a refusal: the kernel
    // walks through the program again and again until the log fits, which takes half a minute.
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

/// Verifies a variant, unless it has been before, and returns it.
pub(super) fn load(object: &mut Ebpf, variant: Variant) -> Result<&mut Xdp, Error> {
    let program = program_mut(object, variant.program())?;
    if program.fd().is_err() {
        program.load().map_err(|error| Error::loading(error.into()))?;
    }
    Ok(program)
}

/// The kernel's numbers of the variants that are loaded.
pub(super) fn ids(object: &Ebpf) -> Vec<u32> {
    let loaded = Variant::ALL.iter().filter_map(|variant| program(object, variant.program()).ok());
    loaded.filter_map(|program| Some(program.info().ok()?.id())).collect()
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

/// Attaches a program to the interface with this index, in this mode and no other. The attachment ends with the link.
///
/// # Errors
/// Why the kernel refuses.
pub(super) fn attach(program: &mut Xdp, index: u32, mode: XdpMode) -> Result<FdLink, ProgramError> {
    let id = program.attach_to_if_index(index, mode)?;
    taken(program, id)
}

/// Replaces the program of a link.
///
/// # Errors
/// The kernel refuses. The link is gone then, unless it is pinned.
pub(super) fn replace(program: &mut Xdp, link: FdLink) -> Result<FdLink, ProgramError> {
    let link = XdpLink::try_from(link).map_err(|error| match error {
        LinkError::SyscallError(error) => ProgramError::SyscallError(error),
        _ => ProgramError::NotAttached,
    })?;
    let id = program.attach_to_link(link)?;
    taken(program, id)
}

/// The link of an attachment. On kernels that refuse a link the library attaches without one, which nothing would hold.
fn taken(program: &mut Xdp, id: XdpLinkId) -> Result<FdLink, ProgramError> {
    let link = program.take_link(id)?;
    // What is no link of this kind is detached where it is dropped.
    FdLink::try_from(link).map_err(|_| ProgramError::NotAttached)
}

/// A pinned link; `None`: there is none, or nothing that can be used.
///
/// # Errors
/// This process lacks what opening it takes. Then it is left alone: removing it would detach a predecessor's program.
pub(super) fn pinned(pin: &Path) -> Result<Option<FdLink>, Error> {
    match PinnedLink::from_pin(pin) {
        Ok(link) => Ok(Some(link.into())),
        Err(LinkError::SyscallError(call)) if is_want(&call.io_error) => {
            Err(Error::opening(pin, call.io_error))
        }
        Err(_) => Ok(None),
    }
}

/// Whether something failed for what this process lacks, and not for what it was done to.
pub(super) fn is_want(error: &std::io::Error) -> bool {
    const WANTS: [i32; 5] = [libc::EPERM, libc::ENOMEM, libc::ENOSPC, libc::EMFILE, libc::ENFILE];
    error.raw_os_error().is_some_and(|code| WANTS.contains(&code))
}

/// The number of the error that the kernel gave.
pub(super) fn errno(error: &ProgramError) -> Option<i32> {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(errno) = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return Some(errno);
        }
        cause = cause.source()?;
    }
}

/// What the kernel said.
pub(super) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
