//! The version of the running kernel, and whether the program can run on it.
use std::fmt;

use nix::sys::utsname::uname;

/// A kernel's version: 6 and 1 of `6.1.0-50-amd64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion(pub u32, pub u32);

impl KernelVersion {
    /// The oldest kernel that the program loads on.
    pub const OLDEST: KernelVersion = KernelVersion(5, 10);
    /// The newest kernel that `cargo xtask test kernels` boots.
    pub const NEWEST_TESTED: KernelVersion = KernelVersion(7, 3);
    /// The first kernel with BPF links for XDP.
    const LINKS: KernelVersion = KernelVersion(5, 9);
    /// The first kernel with programs for fragmented frames and `bpf_xdp_get_buff_len`.
    const FRAGS: KernelVersion = KernelVersion(5, 18);

    /// Returns the version in a release's name; `None`: it has none.
    pub fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
        Some(KernelVersion(numbers.next()?.ok()?, numbers.next()?.ok()?))
    }

    /// Returns the running kernel's version; `None`: it cannot be read.
    pub fn running() -> Option<Self> {
        KernelVersion::parse(uname().ok()?.release().to_str()?)
    }

    /// Returns why the program cannot run on this kernel; `None`: it can.
    pub fn lacks(self) -> Option<String> {
        if self >= KernelVersion::OLDEST {
            return None;
        }
        let reason = if self < KernelVersion::LINKS {
            "has no BPF link for XDP"
        } else {
            "is too old for the program"
        };
        let oldest = KernelVersion::OLDEST;
        Some(format!("Linux {self} {reason}: the responder answers everything; {oldest} or later is needed"))
    }

    /// Whether it runs programs for fragmented frames.
    pub fn has_frags(self) -> bool {
        self >= KernelVersion::FRAGS
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_told_apart_by_their_first_two_numbers() {
        assert_eq!(KernelVersion::parse("6.1.0-50-cloud-amd64"), Some(KernelVersion(6, 1)));
        assert_eq!(KernelVersion::parse("5.10.223"), Some(KernelVersion(5, 10)));
        assert_eq!(KernelVersion::parse("next"), None);
        assert!(KernelVersion(5, 9) < KernelVersion(5, 10) && KernelVersion(5, 10) < KernelVersion(6, 1));
    }

    #[test]
    fn an_old_kernel_is_named_with_what_it_lacks_and_what_is_needed() {
        let lacks = KernelVersion(4, 19).lacks().unwrap();
        let expected =
            "Linux 4.19 has no BPF link for XDP: the responder answers everything; 5.10 or later is needed";
        assert_eq!(lacks, expected);
        assert!(KernelVersion(5, 9).lacks().is_some());
        assert_eq!(KernelVersion(5, 10).lacks(), None);
        assert!(!KernelVersion(5, 17).has_frags() && KernelVersion(5, 18).has_frags());
    }
}
