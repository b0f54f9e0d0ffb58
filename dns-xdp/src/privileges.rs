//! The privileges of this process. It checks them before it changes anything, and gives them up before it reads the
//! first query.
//!
//! This module knows which capabilities are needed. `lower` gives up the others, and `filter` refuses system calls.
//!
//! | capability | kept for | where |
//! |---|---|---|
//! | BPF, PERFMON, NET_ADMIN | loading and attaching the program, again and again | `[xdp] mode` is not "off" |
//! | NET_BIND_SERVICE | addresses that come while the daemon runs | `[listen] port` is below 1024 |
//! | NET_RAW | ICMP echoes | a probe or a witness needs them |
//! | CHOWN, DAC_OVERRIDE, FOWNER | files of other users | root has started it with a configuration that is not root's |
//!
//! The process gives up every other capability when the sockets are bound and the program is attached. The operator's
//! commands always run without any capability.
mod filter;
mod lower;

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::thread::{CapabilitySet, capabilities};

use crate::cluster::ProbeKind;
use crate::config::{Config, Mode};
use crate::health::{self, probe};

pub(crate) use lower::{close_to_programs, decide, drop_privileges, drop_thread_privileges, look_at_threads};

/// The capabilities for loading and attaching an XDP program.
const XDP: [(CapabilitySet, &str); 3] = [
    (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN"),
    (CapabilitySet::PERFMON, "CAP_PERFMON"),
    (CapabilitySet::BPF, "CAP_BPF"),
];
/// Binding a port below this needs a capability (the default of net.ipv4.ip_unprivileged_port_start).
const UNPRIVILEGED_PORT: u16 = 1024;
/// The capabilities that root needs to read and replace another user's file.
const FILES_OF_OTHERS: CapabilitySet =
    CapabilitySet::CHOWN.union(CapabilitySet::DAC_OVERRIDE).union(CapabilitySet::FOWNER);

/// Refuses a start without the capabilities, although `mode = "auto"` works without XDP. A start without `sudo` is more
/// likely a mistake than a wish for a slow server.
pub(crate) fn check(mode: Mode) -> anyhow::Result<()> {
    let missing = lacking();
    if mode == Mode::Off || missing.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "missing {}: run as root, give the process these capabilities, or turn XDP off: [xdp] mode = \"off\"",
        missing.join(", ")
    )
}

/// Returns the capabilities for XDP that this process lacks.
pub(crate) fn lacking() -> Vec<&'static str> {
    capabilities(None).map(|sets| missing(sets.effective)).unwrap_or_default()
}

fn missing(effective: CapabilitySet) -> Vec<&'static str> {
    let is_missing = |&&(capability, name): &&(CapabilitySet, &str)| {
        // CAP_SYS_ADMIN includes the last two.
        let covered = effective.contains(CapabilitySet::SYS_ADMIN) && name != "CAP_NET_ADMIN";
        !effective.contains(capability) && !covered
    };
    XDP.iter().filter(is_missing).map(|(_, name)| *name).collect()
}

/// Returns why a new configuration is refused: it needs a capability that the daemon gave up at its start.
pub(crate) fn beyond(config: &Config) -> Option<&'static str> {
    let missing = echoes(config)
        && !capabilities(None).is_ok_and(|sets| sets.permitted.contains(CapabilitySet::NET_RAW))
        && !probe::may_echo();
    missing.then_some(
        "its icmp probes need CAP_NET_RAW, which this daemon gave up at its start, because none was configured: \
         take over with `dns-xdp run --replace`, or widen net.ipv4.ping_group_range",
    )
}

/// Returns the capabilities that the daemon needs while it runs.
fn needed(config: &Config) -> CapabilitySet {
    needed_where(config, nix::unistd::geteuid().is_root() && of_others(&config.path))
}

fn needed_where(config: &Config, files_are_of_others: bool) -> CapabilitySet {
    let wanted = [
        (config.xdp.mode != Mode::Off, XDP.iter().fold(CapabilitySet::empty(), |all, (one, _)| all | *one)),
        (config.listen.port < UNPRIVILEGED_PORT, CapabilitySet::NET_BIND_SERVICE),
        (echoes(config), CapabilitySet::NET_RAW),
        (files_are_of_others, FILES_OF_OTHERS),
    ];
    wanted.into_iter().filter(|(wanted, _)| *wanted).fold(CapabilitySet::empty(), |all, (_, some)| all | some)
}

/// Whether a probe or a witness needs ICMP echoes.
fn echoes(config: &Config) -> bool {
    let targets = health::targets(&config.cluster, &config.failover.witness);
    targets.values().any(|target| target.probe.kind == ProbeKind::Icmp)
}

/// Whether a file or a directory above it does not belong to root.
fn of_others(path: &Path) -> bool {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    any_of_others(&path, |part| part.metadata().ok().map(|metadata| metadata.uid()))
}

/// Whether any part of the path belongs to another user. `owner` returns `None` for a part that does not exist.
fn any_of_others(path: &Path, owner: impl Fn(&Path) -> Option<u32>) -> bool {
    path.ancestors().any(|part| owner(part).is_some_and(|uid| uid != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
[zone]
name = \"demo.example.com\"
[listen]
interfaces = [\"eth0\"]
[[node]]
name = \"node1\"
ipv4 = \"192.0.2.11\"
";

    fn config(text: &str) -> Config {
        Config::parse(text, Path::new("/etc/dns-xdp/dns-xdp.toml")).unwrap()
    }

    #[test]
    fn missing_capabilities_are_named() {
        assert!(missing(CapabilitySet::all()).is_empty());
        assert_eq!(missing(CapabilitySet::empty()), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(missing(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN), [""; 0]);
        assert_eq!(missing(CapabilitySet::BPF | CapabilitySet::NET_ADMIN), ["CAP_PERFMON"]);
    }

    #[test]
    fn the_configuration_says_what_is_needed() {
        let xdp = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::NET_ADMIN;
        let needed = |text: &str| needed_where(&config(text), false);
        let off = format!("[xdp]\nmode = \"off\"\n{TEXT}");
        let echo = format!("[health]\nprobe = \"icmp\"\n{TEXT}");
        let bind = CapabilitySet::NET_BIND_SERVICE;
        let high_port = off.replace("[listen]\n", "[listen]\nport = 5353\n");
        assert_eq!(needed(TEXT), xdp | bind);
        assert_eq!(needed(&off), bind);
        assert_eq!(needed(&high_port), CapabilitySet::empty());
        assert_eq!(needed(&echo), xdp | bind | CapabilitySet::NET_RAW);
        let files = CapabilitySet::CHOWN | CapabilitySet::DAC_OVERRIDE | CapabilitySet::FOWNER;
        assert_eq!(needed_where(&config(TEXT), true), xdp | bind | files);
        assert_eq!(needed_where(&config(&high_port), true), files);
    }

    #[test]
    fn a_file_below_somebody_elses_directory_is_not_roots() {
        assert!(!of_others(Path::new("/etc")));
        assert!(!of_others(Path::new("/proc/1/nothing")));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("dns-xdp.toml");
        std::fs::write(&file, "").unwrap();
        // Root owns the directory until root gives the directory away. Any other user owns the directory already.
        if nix::unistd::geteuid().is_root() {
            assert!(!of_others(&file));
            std::os::unix::fs::chown(directory.path(), Some(65_534), None).unwrap();
        }
        assert!(of_others(&file));
    }

    #[test]
    fn the_owner_of_each_part_of_a_path_counts() {
        let file = Path::new("/srv/cluster/etc/dns-xdp.toml");
        assert!(!any_of_others(file, |_| Some(0)));
        assert!(!any_of_others(file, |_| None));
        for others in ["/", "/srv", "/srv/cluster", "/srv/cluster/etc", "/srv/cluster/etc/dns-xdp.toml"] {
            let owner = |part: &Path| Some(if part == Path::new(others) { 1000 } else { 0 });
            assert!(any_of_others(file, owner), "{others}");
        }
    }
}
