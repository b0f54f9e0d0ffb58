//! The part of a cluster that has addresses of one family.
use std::sync::Arc;

use super::{Cluster, Family, Node, Parts};

/// The nodes that have an address of a family, as a cluster of their own.
#[derive(Debug)]
pub(crate) struct FamilyPart {
    /// The places of the nodes in the whole cluster, in order.
    places: Vec<usize>,
    cluster: Cluster,
}

impl FamilyPart {
    pub(super) fn new(whole: &Cluster, family: Family) -> Self {
        let nodes = || whole.nodes.iter().enumerate().filter(|(_, node)| node.address(family).is_some());
        let places: Vec<usize> = nodes().map(|(place, _)| place).collect();
        let nodes: Vec<Node> = nodes().map(|(_, node)| node.clone()).collect();
        let members = whole.members().within(&nodes, |node| places.binary_search(&node).ok());
        // Decisions about services look at their members only, so the services are not copied.
        let parts = Parts { nodes, services: Vec::new(), suffixes: Vec::new() };
        let cluster = Cluster::with(parts, Arc::new(members));
        FamilyPart { places, cluster }
    }

    /// Returns the nodes of this part as a cluster. Its [`Cluster::members`] has all services of the whole cluster, in
    /// the same places and groups. The services have only members and backups that have the family.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns the place that a node of the whole cluster has in this part.
    pub(crate) fn place(&self, node: usize) -> Option<usize> {
        self.places.binary_search(&node).ok()
    }

    /// Returns the place that each node of this part has in the whole cluster.
    pub(crate) fn places(&self) -> &[usize] {
        &self.places
    }
}
