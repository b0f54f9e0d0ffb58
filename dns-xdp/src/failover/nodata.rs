//! Computes how long a NODATA answer may be cached while a name lacks a family that it has when its nodes are healthy.
use std::collections::HashMap;

use crate::cluster::{APEX, Family, Node, Service};
use crate::zone::Addresses;

/// The families of each service's addresses while all nodes are healthy. The apex counts as a service here.
pub(super) enum ServiceFamilies<'a> {
    /// All services have these families, which all nodes have.
    Alike(Vec<Family>),
    /// The families of each service, by its name.
    Each(HashMap<&'a str, Vec<Family>>),
}

impl<'a> ServiceFamilies<'a> {
    pub(super) fn of(all: &'a [Node], services: &'a [Service]) -> Self {
        let has = |family: Family| move |node: &Node| node.address(family).is_some();
        let there: Vec<Family> = families_of_any(all).collect();
        if there.iter().all(|&family| all.iter().all(has(family))) {
            return ServiceFamilies::Alike(there);
        }
        let nodes: HashMap<&str, &Node> = all.iter().map(|node| (node.name.as_str(), node)).collect();
        // A service none of whose members has the address set answers substitutes.
        let or_any = |families: Vec<Family>| if families.is_empty() { there.clone() } else { families };
        let configured = services.iter().map(|service| {
            let members = || service.nodes.iter().filter_map(|name| nodes.get(name.as_str()));
            let of_service = |family: &Family| members().any(|node| node.address(*family).is_some());
            (service.name.as_str(), or_any(there.iter().copied().filter(of_service).collect()))
        });
        let in_apex =
            |family: &Family| all.iter().any(|node| node.is_in_apex && node.address(*family).is_some());
        let of_apex = or_any(there.iter().copied().filter(in_apex).collect());
        ServiceFamilies::Each(std::iter::once((APEX, of_apex)).chain(configured).collect())
    }

    pub(super) fn get(&self, service: &str) -> &[Family] {
        match self {
            ServiceFamilies::Alike(families) => families,
            ServiceFamilies::Each(each) => each.get(service).map_or(&[], Vec::as_slice),
        }
    }
}

/// The families of a node.
pub(super) fn families_of(node: &Node) -> impl Iterator<Item = Family> + use<> {
    node.addresses().map(Family::of)
}

/// The families that at least one of the nodes has.
pub(super) fn families_of_any(nodes: &[Node]) -> impl Iterator<Item = Family> {
    Family::ALL.into_iter().filter(|&family| nodes.iter().any(|node| node.address(family).is_some()))
}

/// The TTL of NODATA for a name that lacks one of its families, if the zone's negative TTL is longer. It is the TTL of
/// the name's addresses, so that no resolver keeps the absence longer than the failover (RFC 2308, section 5).
pub(super) fn ttl(families: &[Family], addresses: &Addresses, negative_ttl_seconds: u32) -> Option<u32> {
    let lacks = |family: &Family| match family {
        Family::Ipv4 => addresses.ipv4.is_empty(),
        Family::Ipv6 => addresses.ipv6.is_empty(),
    };
    let is_shorter = addresses.ttl_seconds < negative_ttl_seconds;
    (is_shorter && !addresses.refused && families.iter().any(lacks)).then_some(addresses.ttl_seconds)
}
