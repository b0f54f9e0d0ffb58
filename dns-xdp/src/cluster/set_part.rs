//! A cluster with the addresses of one address set.
use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Cluster, Node, Parts};

/// The nodes of a cluster with the addresses of one set. A node without the set has no address here.
#[derive(Debug, Clone)]
pub(crate) struct SetPart {
    name: String,
    cluster: Cluster,
}

impl SetPart {
    /// Returns the parts of all sets that a suffix of the cluster uses, in the order of their names.
    pub(super) fn all(whole: &Cluster) -> Vec<SetPart> {
        let names: BTreeSet<&String> =
            whole.suffixes.iter().filter_map(|suffix| suffix.set.as_ref()).collect();
        names.into_iter().map(|name| SetPart::new(whole, name)).collect()
    }

    fn new(whole: &Cluster, name: &str) -> Self {
        let node = |node: &Node| {
            let set = node.sets.get(name);
            let (ipv4, ipv6) = (set.and_then(|set| set.ipv4), set.and_then(|set| set.ipv6));
            Node { ipv4, ipv6, ..node.clone() }
        };
        // Decisions about services look at their members only, so the services are not copied.
        let parts = Parts {
            nodes: whole.nodes.iter().map(node).collect(),
            services: Vec::new(),
            suffixes: Vec::new(),
        };
        let cluster = Cluster::with(parts, Arc::clone(whole.members()));
        SetPart { name: name.to_owned(), cluster }
    }

    /// Returns the name of the set.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the nodes as a cluster. Its nodes and services have the same places and groups as in the whole cluster.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}
