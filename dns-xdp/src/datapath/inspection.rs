//! Inspects the XDP program on an interface for `doctor`. Attaches, loads and changes nothing.
use std::fs;
use std::path::{Path, PathBuf};

use super::foreign::{AttachedBy, Foreign};
use super::{links, pins};
use crate::network::{Link, OnInterface};

const BPFFS: &str = "/sys/fs/bpf";
/// The most directories that are searched below the BPF filesystem, and the greatest depth.
const DIRECTORIES_MAX: usize = 1000;
const DEPTH_MAX: usize = 8;

/// The XDP program on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramThere {
    /// The kernel's description of the program.
    pub program: Foreign,
    /// Whether the configuration's directory pins its link.
    pub ours: bool,
    /// The pins of its link.
    pub pins: Vec<PathBuf>,
    /// The processes that hold its link.
    pub holders: Vec<u32>,
}

/// Returns the program on an interface. `pin` is `[xdp] pin`.
pub fn program_on(link: &Link, pin: &Path) -> Option<ProgramThere> {
    let there = link.program()?;
    let program = Foreign::find(there, link.index);
    let ours = (program.name.is_empty() || program.is_dns_xdp()) && is_pinned(link, there, pin);
    let (pins, holders) = match program.by {
        AttachedBy::Link(link) if !ours => (pins_of(link), holders_of(link)),
        _ => (Vec::new(), Vec::new()),
    };
    Some(ProgramThere { program, ours, pins, holders })
}

/// Whether the program on an interface is attached by the link that `[xdp] pin` has for it. An unreadable pin counts as
/// that link.
pub(super) fn is_pinned(link: &Link, there: OnInterface, pin: &Path) -> bool {
    let pin = pins::link(pin, &link.name);
    match links::pinned(&pin) {
        Some(pinned) => (pinned.program, pinned.interface) == (there.id, link.index),
        None => pin.exists(),
    }
}

/// Returns where a link is pinned below the usual BPF filesystem.
fn pins_of(link: u32) -> Vec<PathBuf> {
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
                Ok(kind)
                    if kind.is_file() && links::pinned(&path).is_some_and(|pinned| pinned.id == link) =>
                {
                    pins.push(path);
                }
                _ => {}
            }
        }
    }
    pins.sort();
    pins
}

/// Returns the processes that have the link open.
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
        assert!(pins_of(u32::MAX).is_empty());
    }
}
