//! The zone that follows from a decision.
use std::collections::HashMap;
use std::sync::Arc;

use hickory_proto::rr::Name;

use super::nodata::{self, ServiceFamilies, families_of, families_of_any};
use super::rendezvous::substitute;
use super::{Answers, Decision};
use crate::cluster::{APEX, AllDown, Cluster, Family, Node, SetPart, Suffix};
use crate::config::{Config, NsAddresses};
use crate::zone::{Addresses, FurtherApex, Origin, Zone};

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
    let rules = Rules::of(config);
    let mut names = Names { config, cluster: &config.cluster, answers, rules: &rules }.below(&settings.apex);
    for suffix in &config.cluster.suffixes {
        let part = suffix.set.as_ref().and_then(|set| config.cluster.address_set(set));
        let (cluster, answers) = match part {
            Some(part) => (part.cluster(), answers.set(part.name()).unwrap_or(answers)),
            None => (&config.cluster, answers),
        };
        names.extend(Names { config, cluster, answers, rules: &rules }.below(&suffix.name));
    }
    let name_servers = config.cluster.nodes.iter().filter_map(|node| node.ns.as_deref());
    let further = config.cluster.suffixes.iter().filter(|suffix| !settings.apex.zone_of(&suffix.name));
    let further = further.map(|suffix| FurtherApex {
        apex: suffix.name.clone(),
        name_servers: nodes_of(config, Some(suffix))
            .filter_map(|node| Some(owner(node.ns.as_ref()?, &suffix.name)))
            .collect(),
    });
    let origin = Origin {
        apex: settings.apex.clone(),
        contact: settings.contact.clone(),
        serial: config.epoch(),
        ns_ttl_seconds: settings.ns_ttl_seconds,
        negative_ttl_seconds: settings.negative_ttl_seconds,
        name_servers: name_servers.map(|ns| owner(ns, &settings.apex)).collect(),
    };
    let records = Arc::clone(&config.repeated_records);
    Zone::with_further(origin, further, names).with_records(records).guarded(config.flood_limits.table())
}

/// Returns the nodes with addresses under a suffix, or with their own addresses.
pub(crate) fn nodes_of<'c>(config: &'c Config, suffix: Option<&Suffix>) -> impl Iterator<Item = &'c Node> {
    let part = suffix.and_then(|suffix| config.cluster.address_set(suffix.set.as_ref()?));
    let nodes = &part.map_or(&config.cluster, SetPart::cluster).nodes;
    nodes.iter().filter(|node| node.has_address())
}

/// The most addresses of each service's answers, and its rule while it is down.
struct Rules<'c>(HashMap<&'c str, (usize, AllDown)>);

impl<'c> Rules<'c> {
    fn of(config: &'c Config) -> Self {
        let (most, usual) = (config.zone.answers_max, config.failover.all_down);
        let own = config.cluster.services.iter().map(|service| {
            let answers_max = service.answers_max.unwrap_or(most);
            (service.name.as_str(), (answers_max, service.all_down.unwrap_or(usual)))
        });
        Rules(own.collect())
    }
}

/// The inputs for the names below the apex, or below one suffix.
struct Names<'a> {
    config: &'a Config,
    /// The nodes with their own addresses, or with the addresses of a set.
    cluster: &'a Cluster,
    /// The answers with these addresses.
    answers: &'a Answers,
    rules: &'a Rules<'a>,
}

impl Names<'_> {
    /// Returns the addresses of each name below `origin`.
    fn below(&self, origin: &Name) -> Vec<(Name, Addresses)> {
        let Names { config, answers, .. } = *self;
        let (settings, usual) = (&config.zone, config.failover.all_down);
        let families = ServiceFamilies::of(&self.cluster.nodes, &config.cluster.services);
        let owner = |name: &str| owner(name, origin);
        let mut names = Vec::new();
        for (index, node) in self.cluster.nodes.iter().enumerate() {
            let own: Vec<Family> = match node.has_address() {
                true => families_of(node).collect(),
                false => families_of_any(&self.cluster.nodes).collect(),
            };
            let answering = Family::ALL.map(|family| answers.node_in(family, index));
            let live = self.addresses(answering.each_ref().map(Option::as_slice), &own, false, usual);
            if let Some(ns) = &node.ns {
                let name_server = match settings.ns_addresses {
                    // A resolver keeps these addresses as long as the NS set, so it never has only the address of a
                    // dead server.
                    NsAddresses::Fixed if node.has_address() => {
                        Addresses::new(settings.ns_ttl_seconds, node.addresses())
                    }
                    NsAddresses::Live | NsAddresses::Fixed => {
                        let servers = Family::ALL.map(|family| self.server(family, index));
                        match servers == answering {
                            true => live.clone(),
                            false => {
                                self.addresses(servers.each_ref().map(Option::as_slice), &own, false, usual)
                            }
                        }
                    }
                };
                names.push((owner(ns), name_server));
            }
            names.push((owner(&node.name), live));
        }
        for (place, (service, _)) in answers.services().enumerate() {
            let own = self.rules.0.get(service).copied();
            let (answers_max, while_down) = own.unwrap_or((settings.answers_max, usual));
            let answering = Family::ALL.map(|family| answers.service_at(family, place));
            let live = self.addresses(answering, families.get(service), true, while_down);
            names.push((owner(service), Addresses { answers_max, ..live }));
        }
        names
    }

    /// Returns the addresses of a name. `answering` has its nodes by family, and `families` the families that it has
    /// while its nodes are healthy.
    fn addresses(
        &self,
        answering: [&[usize]; 2],
        families: &[Family],
        rotate: bool,
        while_down: AllDown,
    ) -> Addresses {
        let (settings, nodes) = (&self.config.zone, &self.cluster.nodes);
        let all = Family::ALL.iter().zip(answering).flat_map(|(family, answering)| {
            answering.iter().filter_map(|&index| nodes[index].address(*family))
        });
        let left = answering.iter().flat_map(|answering| answering.iter());
        let left = left.filter_map(|index| self.answers.seconds_left.get(index)).min();
        let ttl = left.map_or(settings.ttl_seconds, |&left| {
            left.max(settings.ttl_min_seconds).min(settings.ttl_seconds)
        });
        let is_empty = answering.iter().all(|answering| answering.is_empty());
        let refused = is_empty && while_down != AllDown::Nodata;
        let live = Addresses { rotate, refused, ..Addresses::new(ttl, all) };
        let nodata_ttl_seconds = nodata::ttl(families, &live, settings.negative_ttl_seconds);
        Addresses { nodata_ttl_seconds, ..live }
    }

    /// Returns the node that answers for the name of a node's name server. It is the node that answers for the node, if
    /// that is a name server. Otherwise it is a healthy name server, because resolvers send queries to this address.
    fn server(&self, family: Family, index: usize) -> Option<usize> {
        let Names { cluster, answers, .. } = *self;
        let nodes = &cluster.nodes;
        let answering = answers.node_in(family, index)?;
        if nodes[answering].ns.is_some() {
            return Some(answering);
        }
        let is_healthy_server =
            |&index: &usize| nodes[index].ns.is_some() && answers.node_in(family, index) == Some(index);
        let servers: Vec<usize> = (0..nodes.len()).filter(is_healthy_server).collect();
        substitute(cluster, index, &servers).or(Some(answering))
    }
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
