//! Remedies: a command to type, or a line of the configuration to write. A test executes each kind of remedy, or says
//! why it cannot.
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;

use serde::{Serialize, Serializer};

use super::facts::{Holder, Setting};
use crate::datapath::{AttachedBy, ProgramThere};

/// The remedy for a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remedy {
    /// The kind of remedy.
    pub kind: Kind,
    text: String,
}

/// The kinds of remedy. A scene executes the printed text of each kind, or a table in the scenes says why it cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Boot another kernel.
    InstallKernel,
    /// Check that the program loads on an untested kernel.
    TryKernel,
    /// Boot a kernel that describes its types.
    InstallBtf,
    /// Mount the BPF filesystem.
    MountBpffs,
    /// Run doctor with all capabilities.
    BeRoot,
    /// Let the daemon lock memory.
    LockMemory,
    /// Synchronise the clock.
    SetClock,
    /// Correct the configuration file.
    CorrectFile,
    /// Write other interfaces into the configuration.
    SetInterfaces,
    /// Write another XDP mode into the configuration.
    SetMode,
    /// Set an interface up.
    SwitchOn,
    /// Remove a program that netlink attached.
    RemoveProgram,
    /// Detach a link by its number.
    DetachLink,
    /// Remove pins and end processes that hold a link.
    ReleaseLink,
    /// End another dns-xdp, which then removes its program.
    EndOther,
    /// Install bpftool and detach a link.
    InstallBpftool,
    /// Lower an MTU.
    LowerMtu,
    /// Set the number of queues.
    SetQueues,
    /// Give a veth as many receive queues as it can have.
    SetVethQueues,
    /// Shorten a receive ring.
    ShortenRing,
    /// Leave VLAN tags in frames.
    KeepTags,
    /// Give an interface an address.
    AddAddress,
    /// Remove an address from an interface.
    RemoveAddress,
    /// Add this machine as a node.
    AddNode,
    /// Stop the unit that holds the port.
    StopUnit,
    /// Stop the stub listener of systemd-resolved.
    StopStubListener,
    /// End the process that holds the port.
    EndHolder,
    /// Find the process that holds the port.
    FindHolder,
    /// Let queries through the packet filter.
    OpenFilter,
    /// Start the daemon by its unit.
    StartUnit,
    /// Start the daemon.
    StartDaemon,
    /// Read the daemon's log.
    ReadLog,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 32] = [
        Kind::InstallKernel,
        Kind::TryKernel,
        Kind::InstallBtf,
        Kind::MountBpffs,
        Kind::BeRoot,
        Kind::LockMemory,
        Kind::SetClock,
        Kind::CorrectFile,
        Kind::SetInterfaces,
        Kind::SetMode,
        Kind::SwitchOn,
        Kind::RemoveProgram,
        Kind::DetachLink,
        Kind::ReleaseLink,
        Kind::EndOther,
        Kind::InstallBpftool,
        Kind::LowerMtu,
        Kind::SetQueues,
        Kind::SetVethQueues,
        Kind::ShortenRing,
        Kind::KeepTags,
        Kind::AddAddress,
        Kind::RemoveAddress,
        Kind::AddNode,
        Kind::StopUnit,
        Kind::StopStubListener,
        Kind::EndHolder,
        Kind::FindHolder,
        Kind::OpenFilter,
        Kind::StartUnit,
        Kind::StartDaemon,
        Kind::ReadLog,
    ];
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Remedy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl Remedy {
    /// Makes a remedy of this kind with this text.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Remedy { kind, text: text.into() }
    }

    /// Makes a remedy that is a line of the configuration.
    fn line(kind: Kind, section: &str, line: &str, is_running: bool) -> Self {
        let restart = if is_running { ", then restart the daemon" } else { "" };
        Remedy::new(kind, format!("write [{section}] {line}{restart}"))
    }

    pub(super) fn interfaces(names: &[&str], is_running: bool) -> Self {
        let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let line = format!("interfaces = [{}]", names.join(", "));
        Remedy::line(Kind::SetInterfaces, "listen", &line, is_running)
    }

    pub(super) fn mode(mode: &str, is_running: bool) -> Self {
        Remedy::line(Kind::SetMode, "xdp", &format!("mode = \"{mode}\""), is_running)
    }

    pub(super) fn switch_on(interface: &str) -> Self {
        Remedy::new(Kind::SwitchOn, format!("ip link set dev {interface} up"))
    }

    /// Removes another process's program from an interface, with the tools that are installed. `units` are the units of
    /// its holders.
    pub(super) fn remove_program(
        interface: &str,
        there: &ProgramThere,
        has_bpftool: bool,
        units: &BTreeMap<u32, String>,
    ) -> Self {
        let Some(detach) = there.program.remedy(interface) else {
            return Remedy::be_root();
        };
        match there.program.by {
            _ if there.program.is_dns_xdp() && !there.holders.is_empty() => {
                Remedy::new(Kind::EndOther, end_daemon(there, units))
            }
            AttachedBy::Link(_) if there.program.is_dns_xdp() && !there.pins.is_empty() => {
                Remedy::new(Kind::ReleaseLink, release(there))
            }
            AttachedBy::Netlink | AttachedBy::Unreadable => Remedy::new(Kind::RemoveProgram, detach),
            AttachedBy::Link(_) if has_bpftool => Remedy::new(Kind::DetachLink, detach),
            AttachedBy::Link(_) if there.pins.is_empty() && there.holders.is_empty() => {
                Remedy::new(Kind::InstallBpftool, format!("install bpftool, then: {detach}"))
            }
            AttachedBy::Link(_) => Remedy::new(Kind::ReleaseLink, release(there)),
        }
    }

    /// Runs doctor as root, which may read more than this process.
    pub(super) fn be_root() -> Self {
        Remedy::new(Kind::BeRoot, "sudo dns-xdp doctor")
    }

    pub(super) fn lower_mtu(interface: &str, mtu: u32) -> Self {
        Remedy::new(Kind::LowerMtu, format!("ip link set dev {interface} mtu {mtu}"))
    }

    /// Sets numbers of queues. `numbers` are arguments of `ethtool -L`.
    pub(super) fn queues(kind: Kind, interface: &str, numbers: &str) -> Self {
        Remedy::new(kind, format!("ethtool -L {interface} {numbers}"))
    }

    pub(super) fn shorten_ring(interface: &str, slots: u32) -> Self {
        Remedy::new(Kind::ShortenRing, format!("ethtool -G {interface} rx {slots}"))
    }

    pub(super) fn keep_tags(interface: &str) -> Self {
        Remedy::new(Kind::KeepTags, format!("ethtool -K {interface} rxvlan off txvlan off"))
    }

    pub(super) fn add_address(address: IpAddr, interface: &str) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        Remedy::new(Kind::AddAddress, format!("ip address add {address}/{length} dev {interface}"))
    }

    pub(super) fn remove_address(address: IpAddr, length: u8, interface: &str) -> Self {
        Remedy::new(Kind::RemoveAddress, format!("ip address del {address}/{length} dev {interface}"))
    }

    pub(super) fn add_node(host: &str, address: IpAddr, socket: Option<&Path>) -> Self {
        let name = if host.is_empty() { "NAME" } else { host };
        let family = if address.is_ipv4() { "--ipv4" } else { "--ipv6" };
        let socket = socket.map(|socket| format!("--socket {} ", word(socket))).unwrap_or_default();
        Remedy::new(Kind::AddNode, format!("dns-xdp {socket}node add {name} {family} {address}"))
    }

    /// Frees the port that another process holds.
    pub(super) fn free_port(holder: &Holder, setting: &Setting) -> Self {
        let Some((pid, name)) = &holder.process else {
            let port = setting.listen.port;
            return Remedy::new(
                Kind::FindHolder,
                format!("as root, outside of containers: ss -lunpt 'sport = :{port}'"),
            );
        };
        // The kernel keeps 15 letters of a name.
        if name.starts_with("systemd-resolve") {
            let stub = "mkdir -p /etc/systemd/resolved.conf.d; printf '[Resolve]\\nDNSStubListener=no\\n' \
                        >/etc/systemd/resolved.conf.d/dns-xdp.conf; systemctl restart systemd-resolved";
            return Remedy::new(Kind::StopStubListener, stub);
        }
        match setting.units.get(pid) {
            Some(unit) => Remedy::new(Kind::StopUnit, format!("systemctl disable --now {unit}")),
            None => Remedy::new(Kind::EndHolder, format!("kill {pid}")),
        }
    }

    /// Starts the daemon.
    pub(super) fn start(has_unit: bool, setting: Option<&Setting>) -> Self {
        if has_unit {
            return Remedy::new(Kind::StartUnit, "systemctl start dns-xdp");
        }
        let config = setting.map(|setting| format!(" --config {}", word(&setting.path))).unwrap_or_default();
        let socket = setting.and_then(|setting| setting.socket.as_deref());
        let socket = socket.map(|socket| format!(" --socket {}", word(socket))).unwrap_or_default();
        Remedy::new(Kind::StartDaemon, format!("dns-xdp{socket} run{config}"))
    }
}

/// Returns the command that ends another dns-xdp. SIGINT makes a daemon detach and unpin everything. A unit would start
/// the daemon again, so the unit is stopped. The program of a stopped daemon is removed with its pins.
fn end_daemon(there: &ProgramThere, units: &BTreeMap<u32, String>) -> String {
    let mut names: Vec<&str> =
        there.holders.iter().filter_map(|pid| units.get(pid)).map(|unit| &**unit).collect();
    names.dedup();
    if names.is_empty() {
        return format!("kill -INT {}", numbers(&there.holders));
    }
    let stop = format!("systemctl stop {}", names.join(" "));
    let pins: Vec<String> = there.pins.iter().map(|pin| word(pin)).collect();
    if pins.is_empty() { stop } else { format!("{stop}; rm -f {}", pins.join(" ")) }
}

/// Returns the command that releases a link. A link lives as long as a pin or a process holds it.
fn release(there: &ProgramThere) -> String {
    let pins: Vec<String> = there.pins.iter().map(|pin| word(pin)).collect();
    let rm = (!pins.is_empty()).then(|| format!("rm {}", pins.join(" ")));
    let kill = (!there.holders.is_empty()).then(|| format!("kill {}", numbers(&there.holders)));
    rm.into_iter().chain(kill).collect::<Vec<_>>().join("; ")
}

fn numbers(pids: &[u32]) -> String {
    pids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// Returns the path as a word of the shell.
fn word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-%+=@:".contains(letter);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::datapath::Foreign;

    fn there(by: AttachedBy, pins: &[&str], holders: &[u32]) -> ProgramThere {
        let program = Foreign { id: 9, native: true, name: "filter".to_owned(), by };
        let pins = pins.iter().map(PathBuf::from).collect();
        ProgramThere { program, ours: false, pins, holders: holders.to_vec() }
    }

    #[test]
    fn a_program_is_removed_with_what_is_installed() {
        let remedy = |there: &ProgramThere, bpftool| {
            let units = BTreeMap::from([(9, "dns-xdp.service".to_owned())]);
            let remedy = Remedy::remove_program("eth0", there, bpftool, &units);
            (remedy.kind, remedy.to_string())
        };
        let netlink = (Kind::RemoveProgram, "ip link set dev eth0 xdpdrv off".to_owned());
        assert_eq!(remedy(&there(AttachedBy::Netlink, &[], &[]), false), netlink);
        let unreadable = there(AttachedBy::Unreadable, &[], &[]);
        assert_eq!(remedy(&unreadable, true), (Kind::BeRoot, "sudo dns-xdp doctor".to_owned()));
        let pinned = there(AttachedBy::Link(4), &["/sys/fs/bpf/a b"], &[7, 8]);
        assert_eq!(remedy(&pinned, true), (Kind::DetachLink, "bpftool link detach id 4".to_owned()));
        assert_eq!(remedy(&pinned, false), (Kind::ReleaseLink, "rm '/sys/fs/bpf/a b'; kill 7 8".to_owned()));
        let held = remedy(&there(AttachedBy::Link(4), &[], &[7]), false);
        assert_eq!(held, (Kind::ReleaseLink, "kill 7".to_owned()));
        assert_eq!(remedy(&there(AttachedBy::Link(4), &[], &[]), false).0, Kind::InstallBpftool);
        let mut other = there(AttachedBy::Link(4), &["/sys/fs/bpf/other/link-eth0"], &[7]);
        other.program.name = dns_xdp_ebpf::table::RESPONDER.to_owned();
        assert_eq!(remedy(&other, true), (Kind::EndOther, "kill -INT 7".to_owned()));
        // A unit would start the process again.
        other.holders = vec![9, 9];
        let stop = "systemctl stop dns-xdp.service; rm -f /sys/fs/bpf/other/link-eth0".to_owned();
        assert_eq!(remedy(&other, true), (Kind::EndOther, stop));
        other.holders.clear();
        assert_eq!(remedy(&other, true), (Kind::ReleaseLink, "rm /sys/fs/bpf/other/link-eth0".to_owned()));
    }

    #[test]
    fn a_path_is_one_word_of_the_shell() {
        assert_eq!(word(Path::new("/etc/dns-xdp/a.toml")), "/etc/dns-xdp/a.toml");
        assert_eq!(word(Path::new("/tmp/it's")), r"'/tmp/it'\''s'");
        assert_eq!(word(Path::new("/tmp/$(x)")), "'/tmp/$(x)'");
    }

    #[test]
    fn every_kind_is_in_the_list_of_all() {
        assert!(Kind::ALL.iter().enumerate().all(|(place, kind)| *kind as usize == place));
        assert_eq!(Kind::ALL.last(), Some(&Kind::ReadLog));
    }
}
