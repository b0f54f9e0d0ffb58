//! A memory limit for one program and its kernel memory.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The mount points of version 2, and of the memory controller of version 1, under systemd.
const UNIFIED: &str = "/sys/fs/cgroup";
const MEMORY: &str = "/sys/fs/cgroup/memory";

/// A control group (cgroups(7)); a drop removes the group, once no process runs in it.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes a group of this name with a limit in octets.
    ///
    /// # Errors
    /// Memory is not accounted for on this machine, or this is not root.
    pub fn of_memory(name: &str, octets: u64) -> Result<Self> {
        let (root, limit) = if Path::new(MEMORY).exists() {
            (MEMORY, "memory.limit_in_bytes")
        } else {
            fs::write(format!("{UNIFIED}/cgroup.subtree_control"), "+memory")
                .context("no memory in cgroups")?;
            (UNIFIED, "memory.max")
        };
        let group = Cgroup(Path::new(root).join(name));
        fs::create_dir(&group.0).with_context(|| format!("cannot make {}", group.0.display()))?;
        fs::write(group.0.join(limit), octets.to_string())?;
        Ok(group)
    }

    /// Returns the command that starts a program in the group.
    pub fn wrapper(&self) -> Vec<String> {
        let script = format!("echo $$ > {}/cgroup.procs; exec \"$@\"", self.0.display());
        ["sh", "-c", &script, "sh"].map(String::from).to_vec()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            eprintln!("cannot remove {}: {error}", self.0.display());
        }
    }
}
