//! A change to one node, one service, one suffix or static records that a command asks for, and its effect on a
//! configuration text.
use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::update::sets_of;
use crate::config::edit::{
    EditError, Edited, Existing, NodeKeys, RecordKeys, ServiceKeys, add_node, add_records, add_service,
    add_suffix, remove_node, remove_record, remove_service, remove_suffix, replace_records, set_node,
    set_record, set_service,
};
use crate::config::{Config, shown};
use crate::control::{Command, Refusal};
use crate::update::{SetChange, SignedUpdate};

/// A change to the nodes, services, suffixes or static records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ClusterChange {
    Node(NodeChange),
    Service(ServiceChange),
    Record(RecordChange),
    Suffix(SuffixChange),
}

/// A change to one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NodeChange {
    Add { name: String, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>, keys: Box<NodeKeys> },
    Set { name: String, ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>, keys: Box<NodeKeys> },
    Remove { name: String },
}

/// A change to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ServiceChange {
    Add { name: String, keys: ServiceKeys },
    Set { name: String, keys: ServiceKeys },
    Remove { name: String },
}

/// A change to static records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RecordChange {
    Add(RecordKeys),
    Set(RecordKeys),
    Remove(RecordKeys),
    Import(Vec<RecordKeys>),
    /// An update by DNS UPDATE. [`ClusterChange::against`] makes the RRsets of it.
    Update(Box<SignedUpdate>),
    /// The RRsets that an update changes.
    Replace(Vec<SetChange>),
}

/// A change to one suffix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SuffixChange {
    Add { name: String, addresses: Option<String> },
    Remove { name: String },
}

impl ClusterChange {
    /// Returns the change that a command asks for, and whether it is ephemeral.
    ///
    /// # Errors
    /// The command, if it asks for something else.
    pub(super) fn asked(command: Command) -> Result<(Self, bool), Command> {
        use ClusterChange::{Node, Record, Service, Suffix};
        Ok(match command {
            Command::NodeAdd { name, ipv4, ipv6, keys, ephemeral } => {
                (Node(NodeChange::Add { name, ipv4, ipv6, keys }), ephemeral)
            }
            Command::NodeSet { name, ipv4, ipv6, keys, ephemeral } => {
                (Node(NodeChange::Set { name, ipv4, ipv6, keys }), ephemeral)
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
            Command::SuffixAdd { name, addresses, ephemeral } => {
                (Suffix(SuffixChange::Add { name, addresses }), ephemeral)
            }
            Command::SuffixRemove { name, ephemeral } => (Suffix(SuffixChange::Remove { name }), ephemeral),
            Command::RecordAdd { record, ephemeral } => (Record(RecordChange::Add(record)), ephemeral),
            Command::RecordSet { record, ephemeral } => (Record(RecordChange::Set(record)), ephemeral),
            Command::RecordRemove { record, ephemeral } => (Record(RecordChange::Remove(record)), ephemeral),
            Command::RecordImport { records, ephemeral } => {
                (Record(RecordChange::Import(records)), ephemeral)
            }
            other => return Err(other),
        })
    }

    /// The configured name of the node, service or suffix that is changed; of a record, its name and type.
    pub(super) fn name(&self) -> String {
        match self {
            ClusterChange::Node(
                NodeChange::Add { name, .. } | NodeChange::Set { name, .. } | NodeChange::Remove { name },
            )
            | ClusterChange::Service(
                ServiceChange::Add { name, .. }
                | ServiceChange::Set { name, .. }
                | ServiceChange::Remove { name },
            )
            | ClusterChange::Suffix(SuffixChange::Add { name, .. } | SuffixChange::Remove { name }) => {
                name.to_ascii_lowercase()
            }
            ClusterChange::Record(
                RecordChange::Add(record) | RecordChange::Set(record) | RecordChange::Remove(record),
            ) => format!("{} {}", record.name.to_ascii_lowercase(), record.r#type),
            ClusterChange::Record(RecordChange::Import(records)) => format!("{} imported", records.len()),
            ClusterChange::Record(RecordChange::Update(update)) => {
                format!("updated by the key {}", shown(&update.key.name))
            }
            ClusterChange::Record(RecordChange::Replace(sets)) => format!("{} replaced", sets.len()),
        }
    }

    /// Whether it removes something.
    pub(super) fn is_removal(&self) -> bool {
        matches!(
            self,
            ClusterChange::Node(NodeChange::Remove { .. })
                | ClusterChange::Service(ServiceChange::Remove { .. })
                | ClusterChange::Record(RecordChange::Remove(_))
        )
    }

    /// The name of the changed node; `None`: something else is changed.
    pub(super) fn node(&self) -> Option<String> {
        matches!(self, ClusterChange::Node(_)).then(|| self.name())
    }

    /// Whether it is an update by DNS UPDATE, which may be tried again from other documents.
    pub(super) fn is_update(&self) -> bool {
        matches!(self, ClusterChange::Record(RecordChange::Update(_)))
    }

    /// Returns the change to make in the configuration in force: of an update, the RRsets that it changes.
    ///
    /// # Errors
    /// A prerequisite of the update is not met, or its key may not make it.
    pub(super) fn against(&self, in_force: &Config) -> Result<Cow<'_, ClusterChange>, Refusal> {
        Ok(match self {
            ClusterChange::Record(RecordChange::Update(update)) => {
                Cow::Owned(ClusterChange::Record(RecordChange::Replace(sets_of(in_force, update)?)))
            }
            other => Cow::Borrowed(other),
        })
    }

    pub(super) fn edit(&self, text: &str) -> Result<Edited, EditError> {
        match self {
            ClusterChange::Node(NodeChange::Add { name, ipv4, ipv6, keys }) => {
                add_node(text, name, *ipv4, *ipv6, keys)
            }
            ClusterChange::Node(NodeChange::Set { name, ipv4, ipv6, keys }) => {
                set_node(text, name, *ipv4, *ipv6, keys)
            }
            ClusterChange::Node(NodeChange::Remove { name }) => remove_node(text, name),
            ClusterChange::Service(ServiceChange::Add { name, keys }) => add_service(text, name, keys),
            ClusterChange::Service(ServiceChange::Set { name, keys }) => set_service(text, name, keys),
            ClusterChange::Service(ServiceChange::Remove { name }) => remove_service(text, name),
            ClusterChange::Suffix(SuffixChange::Add { name, addresses }) => {
                add_suffix(text, name, addresses.as_deref())
            }
            ClusterChange::Suffix(SuffixChange::Remove { name }) => remove_suffix(text, name),
            ClusterChange::Record(RecordChange::Add(record)) => {
                add_records(text, std::slice::from_ref(record), Existing::Extend)
            }
            ClusterChange::Record(RecordChange::Set(record)) => set_record(text, record),
            ClusterChange::Record(RecordChange::Remove(record)) => remove_record(text, record),
            ClusterChange::Record(RecordChange::Import(records)) => {
                add_records(text, records, Existing::Refuse)
            }
            ClusterChange::Record(RecordChange::Replace(sets)) => replace_records(text, sets),
            ClusterChange::Record(RecordChange::Update(_)) => {
                Err(EditError::Conflict("a defect of dns-xdp: the update was not read".to_owned()))
            }
        }
    }
}
