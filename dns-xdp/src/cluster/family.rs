//! The two address families. Each has an RRset of its own: A and AAAA.
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Cluster, HealthCheck, Node, Probe};

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4, with records of type A.
    Ipv4,
    /// IPv6, with records of type AAAA.
    Ipv6,
}

/// How the health of both families of a node combines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FamilyRule {
    /// Each RRset follows the health of its own family.
    #[default]
    Each,
    /// Both RRsets are answered while one family is healthy.
    Any,
}

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// Returns the family of an address.
    pub const fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::Ipv4,
            IpAddr::V6(_) => Family::Ipv6,
        }
    }

    /// Returns the other family.
    pub const fn other(self) -> Family {
        match self {
            Family::Ipv4 => Family::Ipv6,
            Family::Ipv6 => Family::Ipv4,
        }
    }

    /// Returns the name in `status`, the events, the metrics and the store's documents.
    pub const fn text(self) -> &'static str {
        match self {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

impl Node {
    /// Returns the node's address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4 => self.ipv4.map(IpAddr::V4),
            Family::Ipv6 => self.ipv6.map(IpAddr::V6),
        }
    }

    /// Whether the node has addresses of both families.
    pub fn is_dual_stack(&self) -> bool {
        Family::ALL.iter().all(|family| self.address(*family).is_some())
    }
}

impl Cluster {
    /// Returns a warning where `families = "any"` has no effect.
    pub(crate) fn family_rule_warning(&self) -> Option<String> {
        let of_nodes = self.nodes.iter().map(|node| (node, &node.health));
        let services = self.services.iter().filter_map(|service| Some((service, service.health.as_ref()?)));
        let of_members = services.flat_map(|(service, check)| {
            let is_member = |node: &&Node| service.candidates().any(|name| *name == node.name);
            self.nodes.iter().filter(is_member).map(move |node| (node, check))
        });
        let any: Vec<(&Node, &HealthCheck)> =
            of_nodes.chain(of_members).filter(|(_, check)| check.families == FamilyRule::Any).collect();
        let mut both = any.iter().filter(|(node, _)| node.is_dual_stack()).peekable();
        let why = if any.is_empty() {
            return None;
        } else if both.peek().is_none() {
            "no node with this rule has both an `ipv4` and an `ipv6`"
        } else if both.all(|(_, check)| !check.probes.iter().any(Probe::is_made_at_each_address)) {
            "each probe with this rule counts for both families, as `exec` and a probe with a `target` do"
        } else {
            return None;
        };
        Some(format!("`families = \"any\"` has no effect: {why}; remove it"))
    }

    /// Returns a warning about nodes that lack a family which other nodes have.
    pub(crate) fn family_warning(&self) -> Option<String> {
        let lacking = |family: Family| {
            let without = self.nodes.iter().filter(|node| node.address(family).is_none());
            let names: Vec<&str> = without.map(|node| node.name.as_str()).collect();
            (!names.is_empty() && names.len() < self.nodes.len())
                .then(|| format!("no {family} address: {}", some_of(&names)))
        };
        let lacking: Vec<String> = Family::ALL.into_iter().filter_map(lacking).collect();
        (!lacking.is_empty()).then(|| {
            format!(
                "the nodes differ in families ({}): a name that such a node answers for another has no record of that \
                 family meanwhile; give every node both an `ipv4` and an `ipv6`, or none of them one of the two",
                lacking.join("; ")
            )
        })
    }
}

/// Returns the first names of a list in words, and how many more there are.
pub(crate) fn some_of(names: &[&str]) -> String {
    const MOST: usize = 3;
    match names.split_at_checked(MOST) {
        Some((first, more @ [_, ..])) => format!("{} and {} more", first.join(", "), more.len()),
        _ => names.join(", "),
    }
}
