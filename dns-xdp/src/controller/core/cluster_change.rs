//! A change to one node or one service that a command asks for, and its effect on a configuration text.
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::edit::{
    EditError, Edited, ServiceKeys, add_node, add_service, remove_node, remove_service, set_node, set_service,
};
use crate::control::Command;

/// A change to the nodes or services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClusterChange {
    Node(NodeChange),
    Service(ServiceChange),
}

/// A change to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeChange {
    Add { name: String, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr> },
    Set { name: String, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr> },
    Remove { name: String },
}

/// A change to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServiceChange {
    Add { name: String, keys: ServiceKeys },
    Set { name: String, keys: ServiceKeys },
    Remove { name: String },
}

impl ClusterChange {
    /// Returns the change that a command asks for, and whether it is ephemeral.
    ///
    /// # Errors
    /// The command, if it asks for something else.
    pub(super) fn asked(command: Command) -> Result<(Self, bool), Command> {
        use ClusterChange::{Node, Service};
        Ok(match command {
            Command::NodeAdd { name, ipv4, ipv6, ephemeral } => {
                (Node(NodeChange::Add { name, ipv4, ipv6 }), ephemeral)
            }
            Command::NodeSet { name, ipv4, ipv6, ephemeral } => {
                (Node(NodeChange::Set { name, ipv4, ipv6 }), ephemeral)
            }
            Command::NodeRemove { name, ephemeral } => (Node(NodeChange::Remove { name }), ephemeral),
            Command::ServiceAdd { name, nodes, min_healthy, order, backup, all_down, ephemeral } => {
                let keys = ServiceKeys { nodes, min_healthy, order, backup, all_down };
                (Service(ServiceChange::Add { name, keys }), ephemeral)
            }
            Command::ServiceSet { name, nodes, min_healthy, order, backup, all_down, ephemeral } => {
                let keys = ServiceKeys { nodes, min_healthy, order, backup, all_down };
                (Service(ServiceChange::Set { name, keys }), ephemeral)
            }
            Command::ServiceRemove { name, ephemeral } => {
                (Service(ServiceChange::Remove { name }), ephemeral)
            }
            other => return Err(other),
        })
    }

    /// The configured name of the node or service that is changed.
    pub(super) fn name(&self) -> String {
        match self {
            ClusterChange::Node(
                NodeChange::Add { name, .. } | NodeChange::Set { name, .. } | NodeChange::Remove { name },
            )
            | ClusterChange::Service(
                ServiceChange::Add { name, .. }
                | ServiceChange::Set { name, .. }
                | ServiceChange::Remove { name },
            ) => name.to_ascii_lowercase(),
        }
    }

    /// The name of the changed node; `None`: a service is changed.
    pub(super) fn node(&self) -> Option<String> {
        matches!(self, ClusterChange::Node(_)).then(|| self.name())
    }

    pub(super) fn edit(&self, text: &str) -> Result<Edited, EditError> {
        match self {
            ClusterChange::Node(NodeChange::Add { name, ipv4, ipv6 }) => add_node(text, name, *ipv4, *ipv6),
            ClusterChange::Node(NodeChange::Set { name, ipv4, ipv6 }) => set_node(text, name, *ipv4, *ipv6),
            ClusterChange::Node(NodeChange::Remove { name }) => remove_node(text, name),
            ClusterChange::Service(ServiceChange::Add { name, keys }) => add_service(text, name, keys),
            ClusterChange::Service(ServiceChange::Set { name, keys }) => set_service(text, name, keys),
            ClusterChange::Service(ServiceChange::Remove { name }) => remove_service(text, name),
        }
    }
}
