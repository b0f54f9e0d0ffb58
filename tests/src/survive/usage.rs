//! What a process uses of its machine.
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::unistd::{SysconfVar, sysconf};

/// A process, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process(pub u32);

impl Process {
    /// The time that it has run on any core.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_time(self) -> Result<Duration> {
        let stat = self.read("stat")?;
        // proc_pid_stat(5): the second field, in brackets, may hold anything; utime and stime are 14 and 15.
        let fields = stat.rsplit_once(')').context("a stat has a name")?.1.split_whitespace();
        let ticks: Vec<u64> = fields.skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        let second = sysconf(SysconfVar::CLK_TCK)?.context("ticks have a length")?;
        Ok(Duration::from_secs_f64(ticks.iter().sum::<u64>() as f64 / second as f64))
    }

    /// Octets of it that are in memory.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident(self) -> Result<u64> {
        let status = self.read("status")?;
        let kilobytes =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        Ok(kilobytes.context("a process has a size")?.parse::<u64>()? << 10)
    }

    /// Descriptors that it has open.
    ///
    /// # Errors
    /// When it is gone.
    pub fn descriptors(self) -> Result<usize> {
        let directory = format!("/proc/{}/fd", self.0);
        Ok(fs::read_dir(&directory).with_context(|| format!("cannot list {directory}"))?.count())
    }

    fn read(self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.0);
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_size_descriptors_and_has_run() {
        let this = Process(std::process::id());
        let before = this.descriptors().unwrap();
        let _file = fs::File::open("/proc/self/status").unwrap();
        assert!(this.resident().unwrap() > 1 << 20 && this.descriptors().unwrap() > 0 && before > 0);
        assert!(this.cpu_time().unwrap() < Duration::from_secs(3600));
    }
}
