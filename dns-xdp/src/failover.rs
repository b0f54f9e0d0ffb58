//! Who answers for whom: a pure function of the cluster, the verdicts and the admin intent.
use hickory_proto::rr::Name;

use crate::cluster::{APEX, Node};
use crate::config::Config;
use crate::zone::{Addresses, Origin, Zone};

/// The zone while every node is healthy.
pub fn healthy_zone(config: &Config) -> Zone {
    let (apex, ttl) = (&config.zone.apex, config.zone.ttl_seconds);
    let full = |name: &str| match name {
        APEX => apex.clone(),
        name => Name::from_ascii(name).and_then(|name| name.append_domain(apex)).expect("checked by config"),
    };
    let cluster = &config.cluster;
    let rotating = |nodes: Vec<&Node>| {
        let addresses = nodes.into_iter().flat_map(Node::addresses);
        Addresses { rotate: true, ..Addresses::new(ttl, addresses) }
    };
    let mut names = vec![(apex.clone(), rotating(cluster.nodes.iter().collect()))];
    for service in &cluster.services {
        let members = cluster.nodes.iter().filter(|node| service.nodes.contains(&node.name)).collect();
        names.push((full(&service.name), rotating(members)));
    }
    for node in &cluster.nodes {
        names.push((full(&node.name), Addresses::new(ttl, node.addresses())));
        names.push((full(&node.ns), Addresses::new(ttl, node.addresses())));
    }
    let origin = Origin {
        apex: apex.clone(),
        contact: config.zone.contact.clone(),
        serial: config.epoch(),
        ns_ttl_seconds: config.zone.ns_ttl_seconds,
        negative_ttl_seconds: config.zone.negative_ttl_seconds,
        name_servers: cluster.nodes.iter().map(|node| full(&node.ns)).collect(),
    };
    Zone::new(origin, names)
}
