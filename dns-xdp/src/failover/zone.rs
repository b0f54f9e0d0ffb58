//! The zone that follows from a decision.
use std::collections::HashMap;
use std::sync::Arc;

use hickory_proto::rr::Name;

use super::nodata::{self, ServiceFamilies, families_of};
use super::rendezvous::substitute;
use super::{Answers, Decision};
use crate::cluster::{APEX, AllDown, Family};
use crate::config::{Config, NsAddresses};
use crate::zone::{Addresses, Origin, Zone};

/// Returns the zone of a decision. The decision has to be about the configuration's cluster.
pub fn zone(config: &Config, decision: &Decision) -> Zone {
    answering(config, &decision.answers)
}

/// The zone while every node is up.
pub fn healthy_zone(config: &Config) -> Zone {
    answering(config, &Answers::configured(&config.cluster))
}

/// Returns the zone of these answers. They have to be about the configuration's cluster.
pub fn answering(config: &Config, answers: &Answers) -> Zone {
    let settings = &config.zone;
    let (nodes, usual) = (&config.cluster.nodes, config.failover.all_down);
    // The nodes of a name, by family.
    let addresses = |answering: [&[usize]; 2], families: &[Family], rotate, while_down: AllDown| {
        let all = Family::ALL.iter().zip(answering).flat_map(|(family, answering)| {
            answering.iter().filter_map(|&index| nodes[index].address(*family))
        });
        let left = answering.iter().flat_map(|answering| answering.iter());
        let left = left.filter_map(|index| answers.seconds_left.get(index)).min();
        let ttl = left.map_or(settings.ttl_seconds, |&left| {
            left.max(settings.ttl_min_seconds).min(settings.ttl_seconds)
        });
        let is_empty = answering.iter().all(|answering| answering.is_empty());
        let refused = is_empty && while_down != AllDown::Nodata;
        let live = Addresses { rotate, refused, ..Addresses::new(ttl, all) };
        let nodata_ttl_seconds = nodata::ttl(families, &live, settings.negative_ttl_seconds);
        Addresses { nodata_ttl_seconds, ..live }
    };
    let owner = |name: &str| owner(name, &settings.apex);
    let mut names = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let families: Vec<Family> = families_of(node).collect();
        let answering = Family::ALL.map(|family| answers.node_in(family, index));
        let live = addresses(answering.each_ref().map(Option::as_slice), &families, false, usual);
        if let Some(ns) = &node.ns {
            let name_server = match settings.ns_addresses {
                NsAddresses::Live => {
                    let servers = Family::ALL.map(|family| server(config, answers, family, index));
                    match servers == answering {
                        true => live.clone(),
                        false => addresses(servers.each_ref().map(Option::as_slice), &families, false, usual),
                    }
                }
                // A resolver keeps these addresses as long as the NS set, so it never has only the address of a dead
                // server.
                NsAddresses::Fixed => Addresses::new(settings.ns_ttl_seconds, node.addresses()),
            };
            names.push((owner(ns), name_server));
        }
        names.push((owner(&node.name), live));
    }
    let own = config.cluster.services.iter().map(|service| {
        let answers_max = service.answers_max.unwrap_or(settings.answers_max);
        (service.name.as_str(), (answers_max, service.all_down.unwrap_or(usual)))
    });
    let own: HashMap<&str, (usize, AllDown)> = own.collect();
    let families = ServiceFamilies::of(&config.cluster);
    for (place, (service, _)) in answers.services().enumerate() {
        let (answers_max, while_down) = own.get(service).copied().unwrap_or((settings.answers_max, usual));
        let answering = Family::ALL.map(|family| answers.service_at(family, place));
        let live = addresses(answering, families.get(service), true, while_down);
        names.push((owner(service), Addresses { answers_max, ..live }));
    }
    let origin = Origin {
        apex: settings.apex.clone(),
        contact: settings.contact.clone(),
        serial: config.epoch(),
        ns_ttl_seconds: settings.ns_ttl_seconds,
        negative_ttl_seconds: settings.negative_ttl_seconds,
        name_servers: nodes.iter().filter_map(|node| node.ns.as_deref()).map(owner).collect(),
    };
    Zone::new(origin, names).with_records(Arc::clone(&config.records)).guarded(config.flood_limits.table())
}

/// Returns the node that answers for the name of a node's name server: the node that answers for the node, if that is a
/// name server. Otherwise it is a healthy name server, because resolvers send queries to this address.
fn server(config: &Config, answers: &Answers, family: Family, index: usize) -> Option<usize> {
    let nodes = &config.cluster.nodes;
    let answering = answers.node_in(family, index)?;
    if nodes[answering].ns.is_some() {
        return Some(answering);
    }
    let is_healthy_server =
        |&index: &usize| nodes[index].ns.is_some() && answers.node_in(family, index) == Some(index);
    let servers: Vec<usize> = (0..nodes.len()).filter(is_healthy_server).collect();
    substitute(&config.cluster, index, &servers).or(Some(answering))
}

pub(crate) fn owner(relative: &str, apex: &Name) -> Name {
    if relative == APEX {
        return apex.clone();
    }
    let name = Name::from_ascii(relative).and_then(|name| name.append_domain(apex));
    name.expect("the configuration's names have been checked")
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::tests::{config, node};
    use super::*;
    use crate::cluster::Cluster;

    #[test]
    fn fixed_name_servers_have_the_ttl_of_the_ns_set_and_live_ones_that_of_addresses() {
        let cluster = || Cluster::new(vec![node(1, true, false)], Vec::new());
        let ttl = |ns_addresses, name: &str| {
            let mut config = config(cluster());
            config.zone.ns_addresses = ns_addresses;
            let zone = healthy_zone(&config);
            zone.addresses(&owner(name, zone.apex())).unwrap().ttl_seconds
        };
        assert_eq!([ttl(NsAddresses::Fixed, "ns1"), ttl(NsAddresses::Fixed, "node1")], [60, 5]);
        assert_eq!(ttl(NsAddresses::Live, "ns1"), 5);
    }

    #[test]
    fn a_name_server_that_is_called_as_its_node_answers_as_the_node() {
        let mut node1 = node(1, true, false);
        node1.ns = Some("node1".to_owned());
        let nodes = vec![node1, node(2, false, true)];
        let zone = healthy_zone(&config(Cluster::new(nodes, Vec::new())));
        assert_eq!(zone.soa().data.to_string().split(' ').next(), Some("node1.demo.example.com."));
        let node = owner("node1", zone.apex());
        assert_eq!(zone.addresses(&node).unwrap().ipv4, [Ipv4Addr::new(192, 0, 2, 1)]);
    }
}
