//! The machine: kernel, processors, clock, packet filters.
use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;

use super::facts::Host;
use crate::privileges;
use crate::subprocess::{self, Leftovers};

/// The time limit for a program that lists rules.
const RULES_TIMEOUT: Duration = Duration::from_secs(2);

/// The paths where packages and operators put the unit.
const UNITS: [&str; 3] = [
    "/etc/systemd/system/dns-xdp.service",
    "/usr/lib/systemd/system/dns-xdp.service",
    "/lib/systemd/system/dns-xdp.service",
];

pub(super) async fn host() -> Host {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let cpus =
        std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
    Host {
        name: fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        kernel: release.trim().to_owned(),
        btf: Path::new("/sys/kernel/btf/vmlinux").exists(),
        bpffs: has_bpffs(&mounts),
        lacking: privileges::lacking(),
        cpus,
        clock_synchronised: clock_synchronised(),
        filters: filters().await,
        bpftool: is_installed("bpftool"),
        unit: UNITS.iter().any(|path| Path::new(path).exists()),
    }
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn has_bpffs(mounts: &str) -> bool {
    let mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    mounts.into_iter().any(|words| words.get(1..3) == Some(&["/sys/fs/bpf", "bpf"]))
}

/// Whether the clock is synchronised (adjtimex(2)); `None`: unknown.
fn clock_synchronised() -> Option<bool> {
    #[expect(unsafe_code, reason = "adjtimex(2) has no safe wrapper")]
    // SAFETY: every field of a timex is a number, so zeroes are valid. No modes are set, so the kernel only writes into
    // the timex, which outlives the call.
    let state = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        libc::adjtimex(&raw mut timex)
    };
    match state {
        -1 => None,
        state => Some(state != libc::TIME_ERROR),
    }
}

/// Returns the packet filters with rules.
async fn filters() -> Vec<&'static str> {
    let mut filters = Vec::new();
    let mut nft = Command::new("nft");
    nft.args(["list", "ruleset"]);
    let listed = subprocess::run(nft, b"", RULES_TIMEOUT, Leftovers::Kill).await;
    if listed.is_ok_and(|ended| ended.success() && !ended.last_line.is_empty()) {
        filters.push("nftables");
    }
    let tables = ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"];
    if tables.iter().any(|tables| fs::read_to_string(tables).is_ok_and(|names| !names.trim().is_empty())) {
        filters.push("iptables");
    }
    filters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bpf_filesystem_counts_where_it_belongs() {
        assert!(has_bpffs("sysfs /sys sysfs rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n"));
        assert!(!has_bpffs("sysfs /sys sysfs rw 0 0\nbpf /mnt bpf rw 0 0\ntmpfs /sys/fs/bpf tmpfs rw 0 0\n"));
    }
}
