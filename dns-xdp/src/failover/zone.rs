//! The zone that follows from a decision.
use std::collections::HashMap;

use hickory_proto::rr::Name;

use super::nodata::{self, ServiceFamilies, families_of};
use super::{Answers, Decision};
use crate::cluster::{APEX, Family};
use crate::config::{Config, NsAddresses};
use crate::zone::{Addresses, Origin, Zone};

/// The zone that a decision makes of the configuration; the decision has to be about its cluster.
pub fn zone(config: &Config, decision: &Decision) -> Zone {
    answering(config, &decision.answers)
}

/// The zone while every node is up.
pub fn healthy_zone(config: &Config) -> Zone {
    answering(config, &Answers::configured(&config.cluster))
}

/// The zone that answers make of the configuration; they have to be about its cluster.
pub fn answering(config: &Config, answers: &Answers) -> Zone {
    let settings = &config.zone;
    let nodes = &config.cluster.nodes;
    // The nodes of a name, by the family whose addresses it has of them.
    let addresses = |answering: [&[usize]; 2], families: &[Family], rotate| {
        let all = Family::ALL.iter().zip(answering).flat_map(|(family, answering)| {
            answering.iter().filter_map(|&index| nodes[index].address(*family))
        });
        let left = answering.iter().flat_map(|answering| answering.iter());
        let left = left.filter_map(|index| answers.seconds_left.get(index)).min();
        let ttl = left.map_or(settings.ttl_seconds, |&left| {
            left.max(settings.ttl_min_seconds).min(settings.ttl_seconds)
        });
        let refused = answering.iter().all(|answering| answering.is_empty());
        let live = Addresses { rotate, refused, ..Addresses::new(ttl, all) };
        let nodata_ttl_seconds = nodata::ttl(families, &live, settings.negative_ttl_seconds);
        Addresses { nodata_ttl_seconds, ..live }
    };
    let owner = |name: &str| owner(name, &settings.apex);
    let mut names = Vec::new();
    for (index, node) in nodes.iter().enumerate() {
        let families: Vec<Family> = families_of(node).collect();
        let answering = Family::ALL.map(|family| answers.node_in(family, index));
        let live = addresses(answering.each_ref().map(Option::as_slice), &families, false);
        let name_server = match settings.ns_addresses {
            NsAddresses::Live => live.clone(),
            NsAddresses::Fixed => addresses([&[index]; 2], &families, false),
        };
        names.push((owner(&node.ns), name_server));
        names.push((owner(&node.name), live));
    }
    let own: HashMap<&str, usize> = (config.cluster.services.iter())
        .filter_map(|service| Some((service.name.as_str(), service.answers_max?)))
        .collect();
    let families = ServiceFamilies::of(&config.cluster);
    for (service, _) in answers.services() {
        let answers_max = own.get(service).copied().unwrap_or(settings.answers_max);
        let answering = Family::ALL.map(|family| answers.service_in(family, service));
        let live = addresses(answering, families.get(service), true);
        names.push((owner(service), Addresses { answers_max, ..live }));
    }
    let origin = Origin {
        apex: settings.apex.clone(),
        contact: settings.contact.clone(),
        serial: config.epoch(),
        ns_ttl_seconds: settings.ns_ttl_seconds,
        negative_ttl_seconds: settings.negative_ttl_seconds,
        name_servers: nodes.iter().map(|node| owner(&node.ns)).collect(),
    };
    Zone::new(origin, names).guarded(config.guard.table())
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
    fn a_name_server_that_is_called_as_its_node_answers_as_the_node() {
        let mut node1 = node(1, true, false);
        "node1".clone_into(&mut node1.ns);
        let nodes = vec![node1, node(2, false, true)];
        let zone = healthy_zone(&config(Cluster::new(nodes, Vec::new())));
        assert_eq!(zone.soa().data.to_string().split(' ').next(), Some("node1.demo.example.com."));
        let node = owner("node1", zone.apex());
        assert_eq!(zone.addresses(&node).unwrap().ipv4, [Ipv4Addr::new(192, 0, 2, 1)]);
    }
}
