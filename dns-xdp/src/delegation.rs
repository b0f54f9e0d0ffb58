//! The delegation of the cluster's zone: writes the parent's records in each provider's form, and verifies the live
//! delegation.
//!
//! `form` writes the records. `verify` asks the servers and the resolver through `ask`, and `check` has the results.
//! Nothing here changes a provider's zone.
pub mod ask;
mod check;
mod form;
mod verify;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RecordType};

use crate::cluster::{Node, Suffix};
use crate::config::Config;
use crate::failover;

pub use check::{Check, CheckResult, worst};
pub use form::Form;
pub use verify::{Places, verify};

/// The delegation of one zone: the NS set at the cut, and the glue below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The delegated zone, fully qualified and in lower case.
    pub apex: Name,
    /// The zone that holds the delegation: an ancestor of the apex.
    pub parent: Name,
    /// The name servers, in the order of the nodes; not empty.
    pub name_servers: Vec<NameServer>,
    /// TTL of every record, in seconds.
    pub ttl_seconds: u32,
    /// The nodes with the zone's addresses.
    nodes: Vec<Node>,
}

/// A name server with a name below the apex. Without glue no resolver finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameServer {
    /// Its name, fully qualified and in lower case.
    pub name: Name,
    /// Its IPv4 address. At least one of the two addresses is set.
    pub ipv4: Option<Ipv4Addr>,
    /// See [`NameServer::ipv4`].
    pub ipv6: Option<Ipv6Addr>,
}

impl NameServer {
    /// Returns its glue, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// The records of one owner and type (RFC 2181, section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
struct RecordSet {
    owner: Name,
    rtype: RecordType,
    /// The data in the notation of zone files. Names have the final dot.
    data: Vec<String>,
}

impl Delegation {
    /// Returns the records that the parent zone has to hold. The parent is the name directly above the zone's name,
    /// unless `parent` gives another name. `zone`: the suffix that is the zone; `None`: the configuration's own zone.
    ///
    /// # Errors
    /// `parent` is not above the zone's name. The text says what to write instead.
    pub fn new(
        config: &Config,
        zone: Option<&Suffix>,
        parent: Option<&Name>,
        ttl_seconds: u32,
    ) -> Result<Self, String> {
        let apex = zone.map_or(&config.zone.apex, |suffix| &suffix.name).clone();
        let parent = parent.map_or_else(|| apex.base_name(), Name::to_lowercase);
        if !parent.zone_of(&apex) || parent == apex {
            let nearest = apex.base_name();
            return Err(format!("{parent} is not above {apex}; the nearest zone that can be is {nearest}"));
        }
        let nodes: Vec<Node> = failover::nodes_of(config, zone).cloned().collect();
        let name_server = |node: &Node| {
            let name = failover::owner(node.ns.as_ref()?, &apex);
            Some(NameServer { name, ipv4: node.ipv4, ipv6: node.ipv6 })
        };
        let name_servers = nodes.iter().filter_map(name_server).collect();
        Ok(Delegation { apex, parent, name_servers, ttl_seconds, nodes })
    }

    /// Returns the zone that a configuration gives this name: `None` for its own zone, otherwise the suffix.
    ///
    /// # Errors
    /// The name is no zone. The text says which names are.
    pub fn zone_named<'c>(config: &'c Config, name: &Name) -> Result<Option<&'c Suffix>, String> {
        let (apex, name) = (&config.zone.apex, name.to_lowercase());
        if name == *apex {
            return Ok(None);
        }
        if let Some(suffix) = config.cluster.suffixes.iter().find(|suffix| suffix.name == name) {
            return match apex.zone_of(&name) {
                true => {
                    Err(format!("{name} is a name of the zone {apex} and needs no delegation of its own"))
                }
                false => Ok(Some(suffix)),
            };
        }
        let own =
            config.cluster.suffixes.iter().map(|suffix| &suffix.name).filter(|name| !apex.zone_of(name));
        let zones: Vec<String> = std::iter::once(apex).chain(own).map(ToString::to_string).collect();
        Err(format!("{name} is no zone of the configuration; there is {}", zones.join(", ")))
    }

    /// Returns the NS set, then the glue.
    fn record_sets(&self) -> Vec<RecordSet> {
        let names = self.name_servers.iter().map(|server| server.name.to_string()).collect();
        let mut sets = vec![RecordSet { owner: self.apex.clone(), rtype: RecordType::NS, data: names }];
        for server in &self.name_servers {
            for address in server.addresses() {
                let rtype = if address.is_ipv4() { RecordType::A } else { RecordType::AAAA };
                let data = vec![address.to_string()];
                sets.push(RecordSet { owner: server.name.clone(), rtype, data });
            }
        }
        sets
    }

    /// Returns the same sets, with the NS set last. Applied in this order, they never name a server without glue.
    fn glue_first(&self) -> Vec<RecordSet> {
        let mut sets = self.record_sets();
        sets.rotate_left(1);
        sets
    }
}

/// Returns a name without the final dot, for forms without it.
fn undotted(name: &Name) -> String {
    let text = name.to_string();
    text.strip_suffix('.').map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
fn example() -> Delegation {
    Delegation::new(&example_config(), None, None, 60).unwrap()
}

/// Makes a configuration of two nodes. The second has an IPv6 address.
#[cfg(test)]
fn example_config() -> Config {
    let text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n\
                [[node]]\nname = \"node2\"\nipv4 = \"192.0.2.12\"\nipv6 = \"2001:db8::12\"\n";
    Config::parse(text, std::path::Path::new("f")).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn every_node_is_a_name_server_with_its_own_addresses() {
        let delegation = example();
        assert_eq!((delegation.apex, delegation.parent), (name("demo.example.com."), name("example.com.")));
        let of = |index: usize| {
            let server: &NameServer = &delegation.name_servers[index];
            let addresses: Vec<String> = server.addresses().map(|address| address.to_string()).collect();
            (server.name.to_string(), addresses.join(" "))
        };
        assert_eq!(of(0), ("ns1.demo.example.com.".to_owned(), "192.0.2.11".to_owned()));
        assert_eq!(of(1), ("ns2.demo.example.com.".to_owned(), "192.0.2.12 2001:db8::12".to_owned()));
    }

    #[test]
    fn a_suffix_that_is_a_zone_has_the_name_servers_and_the_glue_of_its_set() {
        let text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                    [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n\
                    [[node]]\nname = \"node2\"\nipv4 = \"192.0.2.12\"\n\
                    [node.addresses.internal]\nipv4 = \"10.0.0.12\"\n\
                    [[suffix]]\nname = \"demo.corp.example.\"\naddresses = \"internal\"\n\
                    [[suffix]]\nname = \"below\"\n";
        let config = Config::parse(text, std::path::Path::new("f")).unwrap();
        let zone = |text: &str| Delegation::zone_named(&config, &name(text));
        assert_eq!(zone("Demo.example.com."), Ok(None));
        let suffix = zone("demo.corp.example.").unwrap();
        let delegation = Delegation::new(&config, suffix, None, 60).unwrap();
        assert_eq!(
            (&delegation.apex, delegation.parent),
            (&name("demo.corp.example."), name("corp.example."))
        );
        let servers: Vec<String> =
            delegation.name_servers.iter().map(|server| server.name.to_string()).collect();
        assert_eq!(servers, ["ns2.demo.corp.example."]);
        assert_eq!(delegation.name_servers[0].ipv4, Some(Ipv4Addr::new(10, 0, 0, 12)));
        assert!(zone("below.demo.example.com.").unwrap_err().contains("needs no delegation"));
        assert!(
            zone("other.example.").unwrap_err().ends_with("there is demo.example.com., demo.corp.example.")
        );
    }

    #[test]
    fn a_parent_may_be_any_zone_above_and_no_other() {
        let of = |parent: &str| Delegation::new(&example_config(), None, Some(&name(parent)), 60);
        assert_eq!(of("COM.").unwrap().parent, name("com."));
        assert_eq!(of(".").unwrap().parent, Name::root());
        for wrong in ["demo.example.com.", "example.org.", "x.demo.example.com."] {
            let error = of(wrong).unwrap_err();
            assert!(
                error.contains("is not above demo.example.com.") && error.ends_with("example.com."),
                "{error}"
            );
        }
    }
}
