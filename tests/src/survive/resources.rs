//! The resources of a process: processor time, memory, descriptors, BPF programs and maps, and which of them leak.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{MapData, loaded_maps};
use aya::programs::loaded_programs;
use nix::unistd::{Pid, SysconfVar, sysconf};

use crate::bed::wait;

/// The longest time until the kernel frees a program or a map, which it does when no core reads it any more.
const FREED: Duration = Duration::from_secs(5);

/// The resources that a process holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// Open descriptors.
    pub descriptors: usize,
    /// Resident memory in KiB.
    pub memory_kib: u64,
    /// The kernel's numbers of the programs.
    pub programs: BTreeSet<u32>,
    /// The kernel's numbers of the maps.
    pub maps: BTreeSet<u32>,
}

impl Resources {
    /// Returns the resources that a process holds now.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of(process: Pid) -> Result<Resources> {
        let directory = format!("/proc/{process}/fdinfo");
        let entries = fs::read_dir(&directory).with_context(|| format!("cannot list {directory}"))?;
        let infos: Vec<String> =
            entries.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect();
        let status = format!("/proc/{process}/status");
        let status = fs::read_to_string(&status).with_context(|| format!("cannot read {status}"))?;
        Ok(Resources {
            descriptors: infos.len(),
            memory_kib: number(&status, "VmRSS:").context("a process has a size")?.into(),
            programs: infos.iter().filter_map(|info| number(info, "prog_id:")).collect(),
            maps: infos.iter().filter_map(|info| number(info, "map_id:")).collect(),
        })
    }

    /// Waits until the kernel has freed all of these programs and maps. Objects that this process holds may stay, and
    /// so may objects that are pinned below `pins`. A zone has two heads, and a daemon opens a head only while it
    /// writes it.
    ///
    /// # Errors
    /// Some are still there after 5 s: they have leaked.
    pub fn are_all_that_is_left_of(&self, earlier: &[Resources], pins: &Path) -> Result<()> {
        let programs: BTreeSet<u32> = earlier.iter().flat_map(|held| held.programs.iter().copied()).collect();
        let maps: BTreeSet<u32> = earlier.iter().flat_map(|held| held.maps.iter().copied()).collect();
        wait::until("what was let go is freed", FREED, || {
            let leaked: Vec<u32> = loaded_programs()
                .flatten()
                .map(|program| program.id())
                .filter(|id| programs.contains(id) && !self.programs.contains(id))
                .collect();
            ensure!(leaked.is_empty(), "programs {leaked:?} are left behind");
            let pinned = pinned_maps(pins);
            let left = |id: u32| maps.contains(&id) && !self.maps.contains(&id) && !pinned.contains(&id);
            let leaked: Vec<String> = loaded_maps()
                .flatten()
                .filter(|map| left(map.id()))
                .map(|map| format!("{} {}", map.id(), map.name_as_str().unwrap_or_default()))
                .collect();
            ensure!(leaked.is_empty(), "maps {leaked:?} are left behind");
            Ok(())
        })?;
        Ok(())
    }
}

/// A process, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(pub u32);

impl Process {
    /// The time that it has run on any core.
    ///
    /// # Errors
    /// The process is gone.
    pub fn cpu_time(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // proc_pid_stat(5): the second field, in brackets, may hold anything; utime and stime are 14 and 15.
        let fields = stat.rsplit_once(')').context("a stat has a name")?.1.split_whitespace();
        let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        let second = sysconf(SysconfVar::CLK_TCK)?.context("ticks have a length")?;
        Ok(Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / second as f64))
    }

    /// Its resident memory in octets.
    ///
    /// # Errors
    /// The process is gone.
    pub fn resident(self) -> Result<u64> {
        let status = self.read("status")?;
        let kilobytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("a process has a size")?.parse::<u64>()? << 10)
    }

    /// The number of its open descriptors.
    ///
    /// # Errors
    /// The process is gone.
    pub fn descriptors(self) -> Result<usize> {
        let directory = format!("/proc/{}/fd", self.0);
        Ok(fs::read_dir(&directory).with_context(|| format!("cannot list {directory}"))?.count())
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

/// The kernel's numbers of the maps that are pinned below a directory, at any depth.
fn pinned_maps(directory: &Path) -> BTreeSet<u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let numbers = |path: PathBuf| {
        if path.is_dir() {
            return pinned_maps(&path);
        }
        let map = MapData::from_pin(&path).and_then(|map| Ok(map.info()?.id()));
        map.into_iter().collect()
    };
    entries.flat_map(numbers).collect()
}

/// The number behind a label at the start of a line.
fn number(text: &str, label: &str) -> Option<u32> {
    let rest = text.lines().find_map(|line| line.strip_prefix(label))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_descriptors_and_memory() {
        let resources = Resources::of(nix::unistd::getpid()).unwrap();
        assert!(resources.descriptors >= 3 && resources.memory_kib > 100, "{resources:?}");
    }

    #[test]
    fn a_number_stands_behind_its_label() {
        assert_eq!(number("pos:\t0\nprog_id:\t41\n", "prog_id:"), Some(41));
        assert_eq!(number("VmRSS:\t  2052 kB\n", "VmRSS:"), Some(2052));
        assert_eq!(number("map_type:\t1\n", "map_id:"), None);
    }

    #[test]
    fn this_process_has_a_size_descriptors_and_has_run() {
        let this = Process(std::process::id());
        let before = this.descriptors().unwrap();
        let _file = fs::File::open("/proc/self/status").unwrap();
        assert!(this.resident().unwrap() > 1 << 20 && this.descriptors().unwrap() > 0 && before > 0);
        assert!(this.cpu_time().unwrap() < Duration::from_secs(3600));
    }
}
