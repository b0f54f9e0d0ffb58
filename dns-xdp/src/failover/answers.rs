//! Which nodes each name answers, as indexes into the cluster's nodes.
use std::collections::{BTreeMap, BTreeSet};

use super::Effective;
use super::rendezvous::substitute;
use crate::cluster::{APEX, Cluster, Node};

/// Who answers for whom. The indexes point into the nodes of the cluster it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// For each node the one whose addresses its name answers; `None`: refused.
    pub by_node: Vec<Option<usize>>,
    /// For each service, the apex among them, the nodes whose addresses it answers; empty: refused.
    pub services: BTreeMap<String, Vec<usize>>,
    /// The names of the nodes, so that the answers can be carried over to a cluster that has changed.
    nodes: Vec<String>,
}

impl Answers {
    /// Every node answers for itself, every service all its members.
    pub fn configured(cluster: &Cluster) -> Self {
        Answers::new(cluster, (0..cluster.nodes.len()).map(Some).collect(), members(cluster))
    }

    /// Every name is refused.
    pub(super) fn withheld(cluster: &Cluster) -> Self {
        let services = members(cluster).into_keys().map(|service| (service, Vec::new())).collect();
        Answers::new(cluster, vec![None; cluster.nodes.len()], services)
    }

    /// A node that is up answers for itself, one that is not has a substitute among the `trusted`. A service
    /// answers its trusted members; if there are none, whoever answers for its members.
    pub(super) fn live(cluster: &Cluster, effective: &[Effective], trusted: &[usize]) -> Self {
        let stand_in = |(index, &effective)| match effective {
            Effective::Up => Some(index),
            Effective::Down | Effective::Drain => substitute(cluster, index, trusted),
        };
        let by_node: Vec<Option<usize>> = (0..).zip(effective).map(stand_in).collect();
        let mut services = members(cluster);
        for answering in services.values_mut() {
            let healthy: Vec<usize> =
                answering.iter().copied().filter(|index| trusted.contains(index)).collect();
            *answering = if healthy.is_empty() {
                distinct(answering.iter().filter_map(|&member| by_node[member]))
            } else {
                healthy
            };
        }
        Answers::new(cluster, by_node, services)
    }

    fn new(cluster: &Cluster, by_node: Vec<Option<usize>>, services: BTreeMap<String, Vec<usize>>) -> Self {
        Answers { by_node, services, nodes: cluster.nodes.iter().map(|node| node.name.clone()).collect() }
    }

    /// Whether any name is refused.
    pub(super) fn refused(&self) -> bool {
        self.by_node.contains(&None)
    }

    /// The same answers for a cluster that may have changed since: what is gone is replaced by what is
    /// configured.
    pub(super) fn carried(&self, cluster: &Cluster) -> Self {
        let now: BTreeMap<&str, usize> =
            cluster.nodes.iter().map(|node| node.name.as_str()).zip(0..).collect();
        let place = |then: usize| now.get(self.nodes[then].as_str()).copied();
        let then: BTreeMap<&str, Option<usize>> =
            self.nodes.iter().map(String::as_str).zip(self.by_node.iter().copied()).collect();
        let carry = |(index, node): (usize, &Node)| match then.get(node.name.as_str()) {
            Some(None) => None,
            Some(Some(answering)) => place(*answering).or(Some(index)),
            None => Some(index),
        };
        let by_node = (0..).zip(&cluster.nodes).map(carry).collect();
        let mut services = members(cluster);
        for (service, answering) in &mut services {
            match self.services.get(service) {
                Some(previous) if previous.is_empty() => answering.clear(),
                Some(previous) => {
                    let kept = distinct(previous.iter().filter_map(|&then| place(then)));
                    if !kept.is_empty() {
                        *answering = kept;
                    }
                }
                None => {}
            }
        }
        Answers::new(cluster, by_node, services)
    }
}

/// The members of every service; the apex, unless it is configured, has all nodes.
fn members(cluster: &Cluster) -> BTreeMap<String, Vec<usize>> {
    let index = |name: &String| cluster.nodes.iter().position(|node| node.name == *name);
    let apex = (APEX.to_owned(), (0..cluster.nodes.len()).collect());
    let configured = cluster.services.iter().map(|service| {
        let members = service.nodes.iter().filter_map(index).collect();
        (service.name.clone(), members)
    });
    std::iter::once(apex).chain(configured).collect()
}

fn distinct(nodes: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    nodes.filter(|&node| seen.insert(node)).collect()
}
