//! Tables about the services of a cluster, computed once: the nodes that are their members, and the services with the
//! same rules.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{APEX, AllDown, Node, Order, Parts, Service};

/// The names of a cluster's nodes and services, and the rules of the services. The apex is among the services. Unless it is
/// configured, it has the nodes with [`Node::is_in_apex`]; without such nodes it is no service.
#[derive(Debug)]
pub(crate) struct Members {
    nodes: Arc<[String]>,
    /// The place of each node.
    places: HashMap<String, usize>,
    /// The names of the services, in order.
    services: Arc<[String]>,
    /// The place of each service in the configuration; `None`: it is not configured.
    configured: Arc<[Option<usize>]>,
    /// The group of each service.
    groups_of: Arc<[usize]>,
    groups: Vec<Group>,
}

/// The rules that one or more services share. These services give the same answers in every state of the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    /// Places among the cluster's nodes, in the order of the configuration.
    pub(crate) members: Arc<[usize]>,
    /// The places of the nodes that answer while no member is healthy, in order of preference.
    pub(crate) backup: Arc<[usize]>,
    /// See [`Service::order`].
    pub(crate) order: Order,
    /// See [`Service::all_down`].
    pub(crate) all_down: Option<AllDown>,
    /// See [`Service::min_healthy`].
    pub(crate) min_healthy: usize,
    /// The name of the service, if it has probes of its own. No other service is in its group.
    pub(crate) apart: Option<String>,
}

impl Members {
    pub(super) fn new(parts: &Parts) -> Self {
        let places = places(&parts.nodes);
        let members = |names: &[String]| -> Arc<[usize]> {
            names.iter().filter_map(|name| places.get(name).copied()).collect()
        };
        let group = |service: &Service| Group {
            members: members(&service.nodes),
            backup: members(&service.backup),
            order: service.order,
            all_down: service.all_down,
            min_healthy: service.min_healthy,
            apart: service.health.as_ref().map(|_| service.name.clone()),
        };
        let in_apex = (0..).zip(&parts.nodes).filter(|(_, node)| node.is_in_apex).map(|(place, _)| place);
        let of_apex = Group {
            members: in_apex.collect(),
            backup: Arc::default(),
            order: Order::Rotate,
            all_down: None,
            min_healthy: 0,
            apart: None,
        };
        let of_apex = Some(of_apex).filter(|group| !group.members.is_empty());
        let configured = parts.services.iter().zip(0..);
        let configured =
            configured.map(|(service, place)| (service.name.as_str(), (group(service), Some(place))));
        let by_name: BTreeMap<&str, (Group, Option<usize>)> =
            of_apex.into_iter().map(|group| (APEX, (group, None))).chain(configured).collect();
        let services = by_name.keys().map(|name| (*name).to_owned()).collect();
        let configured = by_name.values().map(|(_, place)| *place).collect();
        let (mut numbers, mut groups) = (HashMap::new(), Vec::new());
        let groups_of = by_name.into_values().map(|(group, _)| {
            *numbers.entry(group).or_insert_with_key(|group| {
                groups.push(group.clone());
                groups.len() - 1
            })
        });
        let groups_of = groups_of.collect();
        let nodes = parts.nodes.iter().map(|node| node.name.clone()).collect();
        Members { nodes, places, services, configured, groups_of, groups }
    }

    /// Returns the same services for these nodes alone. Other members and backups are left out. Each service keeps its
    /// place and each group its number. `place` returns the place of a node among these nodes.
    pub(super) fn within(&self, nodes: &[Node], place: impl Fn(usize) -> Option<usize>) -> Self {
        let there = |all: &[usize]| -> Arc<[usize]> { all.iter().filter_map(|&node| place(node)).collect() };
        let within = |group: &Group| {
            let (members, backup) = (there(&group.members), there(&group.backup));
            let min_healthy = group.min_healthy.min(members.len());
            Group { members, backup, min_healthy, ..group.clone() }
        };
        Members {
            nodes: nodes.iter().map(|node| node.name.clone()).collect(),
            places: places(nodes),
            services: Arc::clone(&self.services),
            configured: self.services.iter().map(|_| None).collect(),
            groups_of: Arc::clone(&self.groups_of),
            groups: self.groups.iter().map(within).collect(),
        }
    }

    /// Returns the names of the nodes, in the order of the cluster.
    pub(crate) fn nodes(&self) -> &Arc<[String]> {
        &self.nodes
    }

    /// Returns the place of a node.
    pub(crate) fn place(&self, node: &str) -> Option<usize> {
        self.places.get(node).copied()
    }

    /// Returns the names of the services, in their order.
    pub(crate) fn services(&self) -> &Arc<[String]> {
        &self.services
    }

    /// Returns every group.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Returns the number of each service's group, in the order of the names.
    pub(crate) fn groups_of(&self) -> &[usize] {
        &self.groups_of
    }

    /// Returns the place of a service among the names, and its group.
    pub(crate) fn service(&self, name: &str) -> Option<(usize, &Group)> {
        let place = self.place_of_service(name)?;
        Some((place, &self.groups[self.groups_of[place]]))
    }

    /// Returns the place of a service in the configuration.
    pub(super) fn configured(&self, name: &str) -> Option<usize> {
        self.configured[self.place_of_service(name)?]
    }

    fn place_of_service(&self, name: &str) -> Option<usize> {
        self.services.binary_search_by(|known| known.as_str().cmp(name)).ok()
    }
}

fn places(nodes: &[Node]) -> HashMap<String, usize> {
    nodes.iter().map(|node| node.name.clone()).zip(0..).collect()
}
