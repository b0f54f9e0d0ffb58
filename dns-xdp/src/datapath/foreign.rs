//! XDP programs of other processes: their name, what attaches them, and the command that removes them.
use std::fs;

use aya::programs::loaded_programs;
use dns_xdp_ebpf::table::RESPONDER;

use super::links;
use crate::network::OnInterface;

/// The mechanism that attaches a program to an interface. It decides how to remove the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachedBy {
    /// The BPF link with this number.
    Link(u32),
    /// Netlink, as `ip link set … xdp` does.
    Netlink,
    /// Unknown: reading it needs CAP_SYS_ADMIN.
    Unreadable,
}

/// An XDP program of another process on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The kernel's number of the program.
    pub id: u32,
    /// Whether it runs in the driver. Otherwise it runs in the network stack.
    pub native: bool,
    /// Its name; empty if it cannot be read.
    pub name: String,
    /// The mechanism that attaches it.
    pub by: AttachedBy,
}

impl Foreign {
    /// Looks up a program on the interface with this index.
    pub fn find(there: OnInterface, interface: u32) -> Self {
        let program = loaded_programs().flatten().find(|program| program.id() == there.id);
        let name = program.and_then(|program| Some(program.name_as_str()?.to_owned())).unwrap_or_default();
        let by = match links::of(there.id, interface) {
            Ok(Some(link)) => AttachedBy::Link(link.id),
            Ok(None) => AttachedBy::Netlink,
            Err(_) => AttachedBy::Unreadable,
        };
        Foreign { id: there.id, native: there.native, name, by }
    }

    /// Whether it is a program of another dns-xdp.
    pub fn is_dns_xdp(&self) -> bool {
        self.name.starts_with(RESPONDER)
    }

    /// Returns the command that removes it from the interface; `None`: this process cannot read what attaches it.
    pub fn remedy(&self, interface: &str) -> Option<String> {
        match (self.by, self.native) {
            (AttachedBy::Link(link), _) => Some(format!("bpftool link detach id {link}")),
            (AttachedBy::Netlink, true) => Some(format!("ip link set dev {interface} xdpdrv off")),
            (AttachedBy::Netlink, false) => Some(format!("ip link set dev {interface} xdpgeneric off")),
            (AttachedBy::Unreadable, _) => None,
        }
    }

    /// Returns which program blocks the interface, and how to remove it.
    pub fn reason(&self, interface: &str) -> String {
        let Foreign { id, name, .. } = self;
        if self.is_dns_xdp() {
            let holder = holder(*id).map_or_else(
                || {
                    "its daemon is gone: dns-xdp unload --config FILE with the file that it ran with"
                        .to_owned()
                },
                |pid| format!("process {pid} holds it: stop that first"),
            );
            return format!("another dns-xdp answers on {interface}: {holder}");
        }
        // Reading its name needs CAP_SYS_ADMIN.
        let name = if name.is_empty() { "with a name that only root can read" } else { name };
        let remedy = self
            .remedy(interface)
            .unwrap_or_else(|| "run dns-xdp doctor as root to see how to remove it".to_owned());
        format!(
            "{interface} has another XDP program, {name} (id {id}), which is left alone; if it is not needed: {remedy}"
        )
    }
}

/// Returns another process that has the program open.
fn holder(program: u32) -> Option<u32> {
    let wanted = format!("prog_id:\t{program}");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
        let mut infos = descriptors.filter_map(|entry| fs::read_to_string(entry.path()).ok());
        *pid != std::process::id() && infos.any(|info| info.lines().any(|line| line == wanted))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remedy_fits_how_the_program_was_attached() {
        let foreign = |by, native| Foreign { id: 7, native, name: "filter".to_owned(), by };
        let remedy = |by, native| foreign(by, native).remedy("eth0").unwrap();
        assert_eq!(remedy(AttachedBy::Link(3), true), "bpftool link detach id 3");
        assert_eq!(remedy(AttachedBy::Netlink, true), "ip link set dev eth0 xdpdrv off");
        assert_eq!(remedy(AttachedBy::Netlink, false), "ip link set dev eth0 xdpgeneric off");
        let reason = foreign(AttachedBy::Netlink, true).reason("eth0");
        assert!(reason.contains("filter (id 7), which is left alone"), "{reason}");
    }

    #[test]
    fn a_daemon_that_may_not_read_how_a_program_was_attached_sends_to_doctor() {
        let foreign = Foreign { id: 7, native: true, name: String::new(), by: AttachedBy::Unreadable };
        assert_eq!(foreign.remedy("eth0"), None);
        let reason = foreign.reason("eth0");
        assert!(
            reason.ends_with("run dns-xdp doctor as root to see how to remove it")
                && !reason.contains("ip link"),
            "{reason}"
        );
    }
}
