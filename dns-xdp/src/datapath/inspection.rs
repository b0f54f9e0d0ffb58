//! The XDP program on an interface looked at from outside, for `doctor`: nothing is attached, loaded or changed.
use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkType, PinnedLink};

use super::foreign::Foreign;
use super::pins;
use crate::network::Link;

const BPFFS: &str = "/sys/fs/bpf";
/// Directories below the BPF filesystem that are looked into, and how deep; more than anybody makes.
const DIRECTORIES_MAX: usize = 1000;
const DEPTH_MAX: usize = 8;

/// The XDP program on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramThere {
    /// What the kernel tells of it.
    pub program: Foreign,
    /// It hangs on the link that the configuration's directory pins.
    pub ours: bool,
    /// Where its link is pinned.
    pub pins: Vec<PathBuf>,
    /// The processes that hold its link.
    pub holders: Vec<u32>,
}

/// The program on a link; `pin` is `[xdp] pin`.
pub fn program_on(link: &Link, pin: &Path) -> Option<ProgramThere> {
    let program = Foreign::find(link.program()?);
    let is_ours = program.name.is_empty() || program.is_dns_xdp();
    let ours = is_ours && pins::link(pin, &link.name).exists();
    let (pins, holders) = match program.link {
        Some(link) if !ours => (pins_of(link, program.id), holders_of(link)),
        _ => (Vec::new(), Vec::new()),
    };
    Some(ProgramThere { program, ours, pins, holders })
}

/// Where a link is pinned below the usual BPF filesystem.
fn pins_of(link: u32, program: u32) -> Vec<PathBuf> {
    let mut pins = Vec::new();
    let mut left = vec![(PathBuf::from(BPFFS), 0)];
    let mut looked = 0;
    while let Some((directory, depth)) = left.pop() {
        looked += 1;
        if looked > DIRECTORIES_MAX {
            break;
        }
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth < DEPTH_MAX => left.push((path, depth + 1)),
                Ok(kind) if kind.is_file() && is_pin_of(&path, link, program) => pins.push(path),
                _ => {}
            }
        }
    }
    pins.sort();
    pins
}

/// A pinned map or program has no number of a program where a link has it.
fn is_pin_of(path: &Path, link: u32, program: u32) -> bool {
    let Ok(pinned) = PinnedLink::from_pin(path) else { return false };
    let Ok(info) = FdLink::from(pinned).info() else { return false };
    let is_xdp = matches!(info.link_type(), Ok(LinkType::Xdp));
    is_xdp && info.id() == link && info.program_id() == program
}

/// The processes that have the link open.
fn holders_of(link: u32) -> Vec<u32> {
    let wanted = format!("link_id:\t{link}");
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        let mut infos = descriptors.filter_map(|entry| fs::read_to_string(entry.path()).ok());
        infos.any(|info| info.lines().any(|line| line == wanted))
    };
    pids.filter(holds).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_nobody_made_is_held_by_nobody() {
        assert!(holders_of(u32::MAX).is_empty());
        assert!(pins_of(u32::MAX, u32::MAX).is_empty());
    }
}
