//! The services of a cluster, worked out once: which nodes are their members, and which services have the same rules.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{APEX, AllDown, Order, Parts, Service};

/// The names of a cluster's nodes and services, and the rules of the services. The apex is among the services; unless it is
/// configured, it has all nodes.
#[derive(Debug)]
pub(crate) struct Members {
    nodes: Arc<[String]>,
    /// In the order of the names.
    services: Arc<[String]>,
    /// The group of each service.
    groups_of: Vec<usize>,
    groups: Vec<Group>,
}

/// What one or more services have in common. In one state of the nodes they all answer the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Group {
    /// Places among the cluster's nodes, in the order of the configuration.
    pub(crate) members: Arc<[usize]>,
    /// The places of the nodes that answer while no member is healthy, in order of preference.
    pub(crate) backup: Arc<[usize]>,
    /// As [`Service::order`].
    pub(crate) order: Order,
    /// As [`Service::all_down`].
    pub(crate) all_down: Option<AllDown>,
    /// As [`Service::min_healthy`].
    pub(crate) min_healthy: usize,
    /// The name of the service, if the health of its members is found out apart. No other service is in its group.
    pub(crate) apart: Option<String>,
}

impl Members {
    pub(super) fn new(parts: &Parts) -> Self {
        let places: HashMap<&str, usize> =
            parts.nodes.iter().map(|node| node.name.as_str()).zip(0..).collect();
        let places = |names: &[String]| -> Arc<[usize]> {
            names.iter().filter_map(|name| places.get(name.as_str()).copied()).collect()
        };
        let group = |service: &Service| Group {
            members: places(&service.nodes),
            backup: places(&service.backup),
            order: service.order,
            all_down: service.all_down,
            min_healthy: service.min_healthy,
            apart: service.health.as_ref().map(|_| service.name.clone()),
        };
        let every_node = Group {
            members: (0..parts.nodes.len()).collect(),
            backup: Arc::default(),
            order: Order::Rotate,
            all_down: None,
            min_healthy: 0,
            apart: None,
        };
        let configured = parts.services.iter().map(|service| (service.name.as_str(), group(service)));
        let by_name: BTreeMap<&str, Group> = std::iter::once((APEX, every_node)).chain(configured).collect();
        let services = by_name.keys().map(|name| (*name).to_owned()).collect();
        let (mut numbers, mut groups) = (HashMap::new(), Vec::new());
        let groups_of = by_name.into_values().map(|group| {
            *numbers.entry(group).or_insert_with_key(|group| {
                groups.push(group.clone());
                groups.len() - 1
            })
        });
        let groups_of = groups_of.collect();
        let nodes = parts.nodes.iter().map(|node| node.name.clone()).collect();
        Members { nodes, services, groups_of, groups }
    }

    /// The names of the nodes, in the order of the cluster.
    pub(crate) fn nodes(&self) -> &Arc<[String]> {
        &self.nodes
    }

    /// The names of the services, in their order.
    pub(crate) fn services(&self) -> &Arc<[String]> {
        &self.services
    }

    /// Every group.
    pub(crate) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The number of each service's group, in the order of the names.
    pub(crate) fn groups_of(&self) -> &[usize] {
        &self.groups_of
    }

    /// The place of a service among the names, and its group.
    pub(crate) fn service(&self, name: &str) -> Option<(usize, &Group)> {
        let place = self.services.binary_search_by(|known| known.as_str().cmp(name)).ok()?;
        Some((place, &self.groups[self.groups_of[place]]))
    }
}
