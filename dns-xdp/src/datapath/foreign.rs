//! XDP programs that are not ours: what they are called, what holds them, and the command that removes them.
use std::fs;

use aya::programs::links::LinkType;
use aya::programs::{loaded_links, loaded_programs};
use dns_xdp_ebpf::table::RESPONDER;

use crate::network::OnInterface;

/// An XDP program of somebody else on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// The kernel's number of it.
    pub id: u32,
    /// In the driver; otherwise in the network stack.
    pub native: bool,
    /// Its name; empty where it cannot be read.
    pub name: String,
    /// The number of the BPF link that attaches it; `None`: it was attached by netlink, or that cannot be read.
    pub link: Option<u32>,
}

impl Foreign {
    /// Looks a program up.
    pub fn find(there: OnInterface) -> Self {
        let program = loaded_programs().flatten().find(|program| program.id() == there.id);
        let name = program.and_then(|program| Some(program.name_as_str()?.to_owned())).unwrap_or_default();
        let is_its = |link: &aya::programs::links::LinkInfo| {
            link.program_id() == there.id && matches!(link.link_type(), Ok(LinkType::Xdp))
        };
        let link = loaded_links().flatten().find(is_its).map(|link| link.id());
        Foreign { id: there.id, native: there.native, name, link }
    }

    /// It is a program of another dns-xdp.
    pub fn is_dns_xdp(&self) -> bool {
        self.name.starts_with(RESPONDER)
    }

    /// The command that removes it from the interface.
    pub fn remedy(&self, interface: &str) -> String {
        match (self.link, self.native) {
            (Some(link), _) => format!("bpftool link detach id {link}"),
            (None, true) => format!("ip link set dev {interface} xdpdrv off"),
            (None, false) => format!("ip link set dev {interface} xdpgeneric off"),
        }
    }

    /// What is in the way, and how to remove it.
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
        // Its name takes CAP_SYS_ADMIN to ask for.
        let name = if name.is_empty() { "with a name that only root is told" } else { name };
        format!(
            "{interface} has another XDP program, {name} (id {id}), which is left alone; if nobody needs it: {}",
            self.remedy(interface)
        )
    }
}

/// The process that has the program open, other than this one.
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
        let foreign = |link, native| Foreign { id: 7, native, name: "filter".to_owned(), link };
        assert_eq!(foreign(Some(3), true).remedy("eth0"), "bpftool link detach id 3");
        assert_eq!(foreign(None, true).remedy("eth0"), "ip link set dev eth0 xdpdrv off");
        assert_eq!(foreign(None, false).remedy("eth0"), "ip link set dev eth0 xdpgeneric off");
        assert!(foreign(None, true).reason("eth0").contains("filter (id 7), which is left alone"));
    }
}
