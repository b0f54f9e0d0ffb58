//! How long a NODATA answer may be kept while a name lacks a family that it has when all is well.
use std::collections::HashMap;

use crate::cluster::{APEX, Cluster, Family, Node};
use crate::zone::Addresses;

/// The families that each service has addresses of when all is well, the apex among them.
pub(super) struct ServiceFamilies<'a>(HashMap<&'a str, Vec<Family>>);

impl<'a> ServiceFamilies<'a> {
    pub(super) fn of(cluster: &'a Cluster) -> Self {
        let is_uniform = Family::ALL.iter().all(|family| {
            let has = |node: &Node| node.address(*family).is_some();
            cluster.nodes.iter().all(has) || !cluster.nodes.iter().any(has)
        });
        if is_uniform {
            // Whatever a name answers has the families of its own nodes.
            return ServiceFamilies(HashMap::new());
        }
        let nodes: HashMap<&str, &Node> =
            cluster.nodes.iter().map(|node| (node.name.as_str(), node)).collect();
        let of = |members: &mut dyn Iterator<Item = &Node>| -> Vec<Family> {
            let mut families: Vec<Family> = members.flat_map(families_of).collect();
            families.sort_unstable();
            families.dedup();
            families
        };
        let apex = (APEX, of(&mut cluster.nodes.iter()));
        let services = cluster.services.iter().map(|service| {
            let mut members = service.nodes.iter().filter_map(|name| nodes.get(name.as_str()).copied());
            (service.name.as_str(), of(&mut members))
        });
        ServiceFamilies(std::iter::once(apex).chain(services).collect())
    }

    pub(super) fn get(&self, service: &str) -> &[Family] {
        self.0.get(service).map_or(&[], Vec::as_slice)
    }
}

/// The families of a node.
pub(super) fn families_of(node: &Node) -> impl Iterator<Item = Family> + use<> {
    node.addresses().map(Family::of)
}

/// The TTL of NODATA for a name that lacks one of its families, where the zone's negative TTL is longer: that of the
/// name's addresses, so that no resolver keeps the absence longer than the failover (RFC 2308, section 5).
pub(super) fn ttl(families: &[Family], addresses: &Addresses, negative_ttl_seconds: u32) -> Option<u32> {
    let lacks = |family: &Family| match family {
        Family::Ipv4 => addresses.ipv4.is_empty(),
        Family::Ipv6 => addresses.ipv6.is_empty(),
    };
    let is_shorter = addresses.ttl_seconds < negative_ttl_seconds;
    (is_shorter && !addresses.refused && families.iter().any(lacks)).then_some(addresses.ttl_seconds)
}
