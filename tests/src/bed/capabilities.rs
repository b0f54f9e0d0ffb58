//! The capabilities of a process, read from the kernel for each of its threads.
use std::fs;

use anyhow::{Context, Result, ensure};

/// CAP_NET_BIND_SERVICE as a bit (capabilities(7)).
pub const NET_BIND_SERVICE: u64 = 1 << 10;
/// CAP_NET_RAW as a bit.
pub const NET_RAW: u64 = 1 << 13;
/// The capabilities that XDP needs: CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF.
pub const XDP: u64 = 1 << 12 | 1 << 38 | 1 << 39;

/// The capabilities of one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// The effective user.
    pub uid: u32,
    /// The capabilities that are in force.
    pub effective: u64,
    /// The capabilities that it can make effective.
    pub permitted: u64,
    /// The capabilities that an executed program can gain without being root.
    pub inherited: u64,
    /// The capabilities that an executed program can gain at all (the bounding set).
    pub bounding: u64,
    /// Whether an executed program cannot gain privileges.
    pub no_new_privileges: bool,
    /// Whether a filter checks its system calls.
    pub filtered: bool,
}

impl Capabilities {
    /// Parses a `status` file of the kernel.
    ///
    /// # Errors
    /// A line is missing.
    pub fn parse(status: &str) -> Result<Capabilities> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            line.with_context(|| format!("no {name} in {status}"))
        };
        let set = |name: &str| Ok::<_, anyhow::Error>(u64::from_str_radix(field(name)?, 16)?);
        Ok(Capabilities {
            uid: field("Uid")?.split('\t').nth(1).context("no effective user")?.parse()?,
            effective: set("CapEff")?,
            permitted: set("CapPrm")?,
            inherited: set("CapInh")? | set("CapAmb")?,
            bounding: set("CapBnd")?,
            no_new_privileges: field("NoNewPrivs")? == "1",
            filtered: field("Seccomp")? == "2",
        })
    }

    /// Returns the capabilities of each thread of a process.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_threads(pid: u32) -> Result<Vec<Capabilities>> {
        let mut threads = Vec::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may have ended since it was listed.
            let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
            threads.push(Capabilities::parse(&status)?);
        }
        ensure!(!threads.is_empty(), "process {pid} has no threads");
        Ok(threads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_understood() {
        let own = Capabilities::of_threads(std::process::id()).unwrap();
        assert!(own.iter().all(|thread| thread.uid == nix::unistd::geteuid().as_raw()), "{own:?}");
        assert!(own.iter().all(|thread| thread.effective & !thread.permitted == 0), "{own:?}");
    }
}
