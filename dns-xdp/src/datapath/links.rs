//! BPF links that attach XDP programs, as the kernel describes them: number, program and interface.
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::programs::links::LinkType;
use aya::programs::loaded_links;

/// linux/bpf.h, `enum bpf_cmd`
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
/// linux/bpf.h, `enum bpf_link_type`
const BPF_LINK_TYPE_XDP: u32 = 6;
/// Words of 32 bits in the buffer, more than `struct bpf_link_info` has on any kernel. The kernel accepts a longer
/// buffer if the rest is zero.
const INFO: usize = 64;

/// A BPF link that attaches an XDP program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct XdpLinkThere {
    /// The kernel's number of the link.
    pub(super) id: u32,
    /// The kernel's number of the program.
    pub(super) program: u32,
    /// The index of the interface in its network namespace; 0: the interface is gone.
    pub(super) interface: u32,
}

/// Returns the link that is pinned here; `None`: there is none, it attaches no XDP program, or it cannot be read.
pub(super) fn pinned(pin: &Path) -> Option<XdpLinkThere> {
    let path = CString::new(pin.as_os_str().as_bytes()).ok()?;
    // pathname, bpf_fd and file_flags
    let mut attributes = [path.as_ptr() as u64, 0];
    let link = open(BPF_OBJ_GET, &mut attributes).ok()?;
    info(&link)
}

/// Returns the BPF link that attaches a program to an interface. `None`: another mechanism attaches the program.
///
/// # Errors
/// This process lacks CAP_SYS_ADMIN, which it needs to list all links.
pub(super) fn of(program: u32, interface: u32) -> io::Result<Option<XdpLinkThere>> {
    for link in loaded_links() {
        let link = link.map_err(io::Error::other)?;
        if link.program_id() != program || !matches!(link.link_type(), Ok(LinkType::Xdp)) {
            continue;
        }
        // link_id, next_id and open_flags
        let mut attributes = [u64::from_ne_bytes(halves(link.id(), 0)), 0];
        let opened = match open(BPF_LINK_GET_FD_BY_ID, &mut attributes) {
            // The link has gone meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
            opened => opened?,
        };
        let found = info(&opened).filter(|found| (found.program, found.interface) == (program, interface));
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn info(link: &OwnedFd) -> Option<XdpLinkThere> {
    let mut words = [0_u32; INFO];
    let length = u32::try_from(size_of_val(&words)).ok()?;
    let descriptor = u32::try_from(link.as_raw_fd()).ok()?;
    // bpf_fd, info_len and info
    let mut attributes = [u64::from_ne_bytes(halves(descriptor, length)), words.as_mut_ptr() as u64];
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes).ok()?;
    // type, id, prog_id, padding, and for XDP: ifindex
    let [kind, id, program, _, interface, ..] = words;
    (kind == BPF_LINK_TYPE_XDP).then_some(XdpLinkThere { id, program, interface })
}

fn open(command: libc::c_int, attributes: &mut [u64; 2]) -> io::Result<OwnedFd> {
    let descriptor = bpf(command, attributes)?;
    #[expect(unsafe_code, reason = "the kernel returns a number")]
    // SAFETY: these commands return a new descriptor, which nothing else has.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Makes a bpf system call. `attributes` point to memory that outlives the call and has room for the command's output.
fn bpf(command: libc::c_int, attributes: &mut [u64; 2]) -> io::Result<libc::c_int> {
    let length = size_of_val(attributes);
    #[expect(unsafe_code, reason = "the library does not report a link's interface")]
    // SAFETY: `length` is the length of the attributes. The memory that they point to is the caller's during the whole
    // call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), length) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        libc::c_int::try_from(result).map_err(io::Error::other)
    }
}

fn halves(first: u32, second: u32) -> [u8; 8] {
    let mut both = [0; 8];
    both[..4].copy_from_slice(&first.to_ne_bytes());
    both[4..].copy_from_slice(&second.to_ne_bytes());
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_pinned_link_is_none() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(pinned(file.path()), None);
        assert_eq!(pinned(Path::new("/nonexistent")), None);
    }
}
