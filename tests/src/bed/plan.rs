//! The plan of a cluster of the test bed, and the configuration file that each of its nodes gets.
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::bed::etcd::{self, Access};
use crate::bed::network::INTERFACE;
use crate::bed::run::Run;

/// The zone that the cluster serves.
pub const ZONE: &str = "demo.example.com";
/// The port of the nodes' database, which the probes connect to.
pub const DATABASE_PORT: u16 = 6379;

const NODES_FROM: u8 = 11;
const SECTIONS: [&str; 7] = ["zone", "listen", "xdp", "health", "failover", "control", "metrics"];
/// The sections of a node's own file if a store has the others.
const LOCAL: [&str; 5] = ["cluster", "listen", "xdp", "control", "metrics"];
/// The sections of the file for the store; the first one names the store.
const SHARED: [&str; 4] = ["cluster", "zone", "health", "failover"];

/// The number of nodes, and the settings that differ from the defaults.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The number of nodes; at most 40, so that their addresses end in two digits and are free.
    pub nodes: u8,
    /// The access to the store that the servers share; `None`: each server has everything in its file.
    pub store: Option<Access>,
    /// The interfaces that every node serves.
    pub interfaces: Vec<String>,
    lines: Vec<(String, String)>,
    tables: String,
    own_tables: String,
}

impl Plan {
    /// A cluster with the default settings.
    pub fn new(nodes: u8) -> Self {
        assert!((1..=40).contains(&nodes), "1 to 40 nodes, not {nodes}");
        let interfaces = vec![INTERFACE.to_owned()];
        Plan {
            nodes,
            store: None,
            interfaces,
            lines: Vec::new(),
            tables: String::new(),
            own_tables: String::new(),
        }
    }

    /// A cluster that probes 5 times as often as the default. It is for scenes that do not depend on the times.
    pub fn quick(nodes: u8) -> Self {
        Plan::new(nodes)
            .line("health", "interval = \"200ms\"")
            .line("health", "fast-interval = \"100ms\"")
            .line("health", "timeout = \"300ms\"")
    }

    /// Makes the servers share the shared sections through etcd.
    #[must_use]
    pub fn on_etcd(mut self, access: Access) -> Self {
        self.store = Some(access);
        self
    }

    /// Makes every node serve these interfaces instead of `eth0`.
    #[must_use]
    pub fn on(mut self, interfaces: &[&str]) -> Self {
        self.interfaces = interfaces.iter().map(|&name| name.to_owned()).collect();
        self
    }

    /// Adds a line to a section (`health`) or to one node's table (`node2`), in every node's file.
    #[must_use]
    pub fn line(mut self, section: &str, line: &str) -> Self {
        self.lines.push((section.into(), line.into()));
        self
    }

    /// Adds whole tables, such as `[[service]]`, at the end.
    #[must_use]
    pub fn tables(mut self, toml: &str) -> Self {
        self.tables.push_str(toml);
        self
    }

    /// Adds whole tables that a store does not share, such as `[[key]]`, at the end of every node's file.
    #[must_use]
    pub fn own_tables(mut self, toml: &str) -> Self {
        self.own_tables.push_str(toml);
        self
    }

    /// The names of the nodes.
    pub fn names(&self) -> impl Iterator<Item = String> + use<> {
        (1..=self.nodes).map(|number| format!("node{number}"))
    }

    /// The file of node `number` (from 1).
    pub fn config(&self, run: &Run, number: u8) -> String {
        let title = "# one node of a cluster in network namespaces\n";
        match self.store {
            None => {
                format!(
                    "{title}{}{}{}",
                    self.sections(&SECTIONS, run, number),
                    self.members(),
                    self.own_tables
                )
            }
            Some(_) => format!("{title}{}{}", self.sections(&LOCAL, run, number), self.own_tables),
        }
    }

    /// The file for `cluster init`, of a plan with a store.
    pub fn shared_config(&self, run: &Run) -> String {
        let title = "# what the nodes of a cluster in network namespaces share\n";
        format!("{title}{}{}", self.sections(&SHARED, run, 1), self.members())
    }

    fn sections(&self, sections: &[&str], run: &Run, number: u8) -> String {
        let mut toml = String::new();
        for section in sections {
            let lines = self.lines_of(section);
            let base = match (*section, self.store) {
                // There is no metrics listener unless the plan has one.
                ("metrics", _) if !lines.is_empty() => String::new(),
                ("cluster", Some(access)) => cluster(access, &run.directory()),
                ("listen", _) => listen(&self.interfaces, number),
                _ => base(section, &run.directory(), &run.pins(), number),
            };
            write!(toml, "[{section}]\n{base}{lines}\n").expect("a String takes all");
        }
        toml
    }

    fn members(&self) -> String {
        let mut toml = String::new();
        for other in 1..=self.nodes {
            let (ipv4, ipv6) = (ipv4(other), ipv6(other));
            let name = format!("node{other}");
            let lines = self.lines_of(&name);
            write!(toml, "[[node]]\nname = \"{name}\"\nipv4 = \"{ipv4}\"\nipv6 = \"{ipv6}\"\n{lines}\n")
                .expect("a String takes all");
        }
        toml + &self.tables
    }

    fn lines_of(&self, section: &str) -> String {
        self.lines.iter().filter(|(of, _)| of == section).map(|(_, line)| format!("{line}\n")).collect()
    }
}

/// The lines of a section that every file has.
fn base(section: &str, directory: &Path, pins: &Path, number: u8) -> String {
    let (directory, pins) = (directory.display(), pins.display());
    match section {
        "zone" => format!("name = \"{ZONE}\"\n"),
        "xdp" => format!("pin = \"{pins}/node{number}\"\n"),
        "health" => format!("port = {DATABASE_PORT}\n"),
        "control" => {
            format!(
                "socket = \"{directory}/node{number}.sock\"\nstate = \"{directory}/node{number}.state\"\n"
            )
        }
        "metrics" => "listen = \"off\"\n".into(),
        _ => String::new(),
    }
}

fn listen(interfaces: &[String], number: u8) -> String {
    let (ipv4, ipv6) = (ipv4(number), ipv6(number));
    format!("interfaces = {interfaces:?}\naddresses = [\"{ipv4}\", \"{ipv6}\"]\n")
}

fn cluster(access: Access, directory: &Path) -> String {
    let endpoints: Vec<String> =
        etcd::endpoints(access).iter().map(|endpoint| format!("\"{endpoint}\"")).collect();
    let (endpoints, prefix) = (endpoints.join(", "), etcd::prefix());
    let lines = access.lines(directory);
    format!("store = \"etcd\"\nendpoints = [{endpoints}]\nprefix = \"{prefix}\"\n{lines}")
}

/// The addresses of node `number` (from 1).
pub fn addresses(number: u8) -> [IpAddr; 2] {
    [ipv4(number).into(), ipv6(number).into()]
}

fn ipv4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, NODES_FROM + number - 1)
}

/// The IPv6 address of a node. Its last group reads like the IPv4 address's last byte: `2001:db8::11` goes with
/// 192.0.2.11.
fn ipv6(number: u8) -> Ipv6Addr {
    let last = NODES_FROM + number - 1;
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(last / 10 * 16 + last % 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_land_in_their_section_and_addresses_read_alike() {
        let plan = Plan::new(2).line("node2", "backup = [\"node1\"]").line("zone", "ttl = \"1s\"");
        let toml = plan.config(&Run::existing("plan"), 2);
        assert!(toml.contains("[zone]\nname = \"demo.example.com\"\nttl = \"1s\"\n"), "{toml}");
        assert!(toml.contains("ipv6 = \"2001:db8::12\"\nbackup = [\"node1\"]\n"), "{toml}");
        assert!(toml.contains("pin = \"/sys/fs/bpf/dns-xdp-plan/node2\"\n"), "{toml}");
    }

    #[test]
    fn what_is_shared_through_a_store_is_in_no_nodes_file() {
        let plan = Plan::new(2).on_etcd(Access::Open).line("zone", "ttl = \"1s\"");
        let plan = plan.tables("[[service]]\nname = \"db1\"\nnodes = [\"node1\"]\n");
        let run = Run::existing("plan");
        let (own, shared) = (plan.config(&run, 2), plan.shared_config(&run));
        for section in ["[zone]", "[health]", "[failover]", "[[node]]", "[[service]]"] {
            assert!(shared.contains(section) && !own.contains(section), "{section} in {own}");
        }
        for section in ["[listen]", "[xdp]", "[control]", "[metrics]"] {
            assert!(own.contains(section) && !shared.contains(section), "{section} in {shared}");
        }
        assert!(own.contains("[cluster]\nstore = \"etcd\"\n") && shared.contains("[cluster]\nstore"));
    }
}
