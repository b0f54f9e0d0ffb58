//! The messages of the control socket: commands, and the JSON that answers them.
//!
//! `node`, `services`, `records` and `store` have the parts about nodes, services, records and the store. Nothing here
//! reads or writes a socket.
mod family;
mod guard;
mod node;
mod records;
mod services;
mod store;
mod suffixes;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

pub use family::FamilyStatus;
pub use guard::GuardStatus;
pub use node::{HeldStatus, NodeEntry, NodeStatus, SetStatus, UNPROBED};
pub use records::RecordEntry;
pub use services::{ServiceEntry, ServiceStatus};
pub use store::{ClusterServer, ClusterStatus, StoreStatus};
pub use suffixes::{SuffixEntry, SuffixStatus};

use crate::cluster::{Admin, AllDown, Order};
use crate::config::edit::{EditError, NodeKeys, RecordKeys, unknown_node};
use crate::config::{ConfigError, nearest};

/// A command on its way to the controller.
#[derive(Debug)]
pub struct Call {
    /// The command.
    pub command: Command,
    /// The time when the client gives up, by [`super::monotonic`]; `None`: unknown.
    pub until: Option<Duration>,
    /// The channel for the answer. Answer when the effect is visible to clients. Dropping the channel reports a
    /// failure.
    pub reply: oneshot::Sender<Result<Value, Refusal>>,
}

impl Call {
    /// Whether the client has given up. Its command must then not begin, because the client has reported that there was
    /// no answer.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed() || self.until.is_some_and(|until| super::monotonic() >= until)
    }
}

/// The answer to [`Command::ZoneExport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneFile {
    /// The zone as it is answered now, as a zone file (RFC 1035, section 5).
    pub text: String,
}

/// A command to the daemon. Commands that change something answer [`Done`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Answers [`Status`].
    Status,
    /// Answers [`Stats`].
    Stats,
    /// Answers [`Names`]. The program samples names from the first such command until some seconds after the last.
    Names,
    /// Answers [`QueryAnswer`].
    Query {
        /// The name, relative to the zone or fully qualified.
        name: String,
        /// A type's mnemonic: `A`, `NS`.
        qtype: String,
    },
    /// Answers [`ClusterStatus`].
    Cluster,
    /// Makes all servers accept a store that is older than the last state seen, is another store, or has lost
    /// documents.
    AcceptStore,
    /// Answers what [`Command::AcceptStore`] would change.
    CompareStore,
    /// Reads the configuration file again. An invalid file changes nothing.
    Reload {
        /// Whether to apply the file even if it removes more than half of the nodes, or the server's own node.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    /// Answers [`ZoneFile`].
    ZoneExport,
    /// Answers a [`ZoneFile`] of a suffix that is a zone of its own.
    ZoneExportOf {
        /// Its name.
        zone: String,
    },
    /// Answers a list of [`NodeEntry`].
    NodeList,
    /// Adds a node.
    NodeAdd {
        /// The name, relative to the zone.
        name: String,
        /// At least one address is given.
        ipv4: Option<Ipv4Addr>,
        /// See `ipv4`.
        ipv6: Option<Ipv6Addr>,
        /// Its other keys; those that are not given have their defaults.
        #[serde(default, skip_serializing_if = "NodeKeys::is_empty")]
        keys: Box<NodeKeys>,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Changes the addresses or the keys of a node.
    NodeSet {
        /// The name, relative to the zone.
        name: String,
        /// `None`: unchanged.
        ipv4: Option<Ipv4Addr>,
        /// `None`: unchanged.
        ipv6: Option<Ipv6Addr>,
        /// Its other keys; those that are not given stay as they are.
        #[serde(default, skip_serializing_if = "NodeKeys::is_empty")]
        keys: Box<NodeKeys>,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Removes a node.
    NodeRemove {
        /// The name, relative to the zone.
        name: String,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Answers a list of [`ServiceEntry`].
    ServiceList,
    /// Adds a service.
    ServiceAdd {
        /// The name, relative to the zone, or `@`.
        name: String,
        /// Names of its members; not empty.
        nodes: Vec<String>,
        /// `None`: the default.
        min_healthy: Option<usize>,
        /// `None`: the default.
        #[serde(default)]
        order: Option<Order>,
        /// Names of the nodes that answer while no member is healthy.
        #[serde(default)]
        backup: Option<Vec<String>>,
        /// `None`: the default.
        #[serde(default)]
        all_down: Option<AllDown>,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Changes the members or the rules of a service.
    ServiceSet {
        /// The name, relative to the zone, or `@`.
        name: String,
        /// Names of its members; empty: unchanged.
        nodes: Vec<String>,
        /// `None`: unchanged.
        min_healthy: Option<usize>,
        /// `None`: unchanged.
        #[serde(default)]
        order: Option<Order>,
        /// Names of the nodes that answer while no member is healthy; empty: none; `None`: unchanged.
        #[serde(default)]
        backup: Option<Vec<String>>,
        /// `None`: unchanged.
        #[serde(default)]
        all_down: Option<AllDown>,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Removes a service.
    ServiceRemove {
        /// The name, relative to the zone, or `@`.
        name: String,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Answers a list of [`SuffixEntry`].
    SuffixList,
    /// Adds a suffix.
    SuffixAdd {
        /// One label relative to the zone, or the full name.
        name: String,
        /// The address set; `None`: the nodes' own addresses.
        addresses: Option<String>,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Removes a suffix.
    SuffixRemove {
        /// One label relative to the zone, or the full name.
        name: String,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Answers a list of [`RecordEntry`].
    RecordList,
    /// Adds records to those of the same name and type.
    RecordAdd {
        /// The records. Their TTL, if it is given, has to be that of the records that are there.
        record: RecordKeys,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Replaces the records of a name and type, or their TTL.
    RecordSet {
        /// The records; without values they stay.
        record: RecordKeys,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Removes records of a name and type.
    RecordRemove {
        /// The records; without values all of them.
        record: RecordKeys,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Adds all these records, or none of them if one is there with other data.
    RecordImport {
        /// The records, each name and type once.
        records: Vec<RecordKeys>,
        /// Whether to leave the configuration file unchanged.
        ephemeral: bool,
    },
    /// Sets the admin intent of a node.
    Admin {
        /// Its name, relative to the zone.
        node: String,
        /// The intent.
        admin: Admin,
        /// The reason, which the status shows.
        reason: Option<String>,
        /// The operator that asks for it.
        by: Option<String>,
        /// How long it lasts, in milliseconds; `None`: without an end.
        for_ms: Option<u64>,
        /// Whether to drain the node even if that breaks the quorum.
        #[serde(default)]
        force: bool,
        /// Whether to change this server alone, while the store is away.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        local: bool,
    },
    /// Lets a held node come back into the answers.
    Failback {
        /// Its name, relative to the zone.
        node: String,
        /// The operator that asks for it.
        #[serde(default)]
        by: Option<String>,
    },
    /// Answers [`Page`](crate::event::Page): the events after a number.
    Events {
        /// `None`: from the oldest that is kept.
        #[serde(default)]
        after: u64,
        /// The start of the daemon that numbered the event `after`. If another daemon runs now, `after` counts as 0.
        #[serde(default)]
        started: Option<Timestamp>,
        /// The most events of the answer. The server has a limit too.
        #[serde(default)]
        limit: Option<usize>,
        /// How long to wait for an event if there is none yet. The server has a limit too.
        #[serde(default)]
        wait_ms: u64,
    },
    /// Hands over to a new daemon. Everything stays pinned, and the program continues to answer.
    Handover,
    /// Detaches and unpins everything, and ends the daemon.
    Unload,
}

/// The error of a command that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The message in lower case: what, where, what to do next.
    pub message: String,
    /// The kind of the refusal.
    pub kind: RefusalKind,
    /// The RCODE for the client of a DNS UPDATE; `None`: it follows from the kind.
    #[serde(skip)]
    pub rcode: Option<u16>,
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// Something that the command names does not exist.
    NotFound,
    /// The request itself, or the configuration that it would make, is invalid.
    Invalid,
    /// The request contradicts the present state.
    Conflict,
    /// The request was tried, and failed.
    Failed,
}

impl RefusalKind {
    /// Returns the HTTP status (RFC 9110, section 15).
    pub fn http_status(self) -> u16 {
        match self {
            RefusalKind::NotFound => 404,
            RefusalKind::Invalid => 400,
            RefusalKind::Conflict => 409,
            RefusalKind::Failed => 500,
        }
    }

    /// Returns the exit code of the command line: 1 refused or failed, 2 wrong usage or configuration.
    pub fn exit_code(self) -> u8 {
        match self {
            RefusalKind::Invalid => 2,
            RefusalKind::NotFound | RefusalKind::Conflict | RefusalKind::Failed => 1,
        }
    }
}

impl Refusal {
    /// Makes a refusal of that kind.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Refusal { message: message.into(), kind, rcode: None }
    }

    /// Makes the refusal of a name that is not among the `known` nodes. It suggests the nearest name.
    pub fn unknown_node<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        Refusal::new(RefusalKind::NotFound, unknown_node(name, nearest(name, known)))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<EditError> for Refusal {
    fn from(error: EditError) -> Self {
        let kind = match error {
            EditError::Conflict(_) => RefusalKind::Conflict,
            EditError::Malformed(_) => RefusalKind::Invalid,
            _ => RefusalKind::NotFound,
        };
        Refusal::new(kind, error.to_string())
    }
}

impl From<ConfigError> for Refusal {
    fn from(error: ConfigError) -> Self {
        Refusal::new(RefusalKind::Invalid, error.to_string())
    }
}

/// The answer to a command that changed something.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Done {
    /// Notes: further changes, or why nothing was changed.
    pub notes: Vec<String>,
    /// How long caches may still hold the changed node's old addresses. `None`: its addresses are still answered, or
    /// none has left the answers.
    #[serde(default)]
    pub cached_ms: Option<u64>,
}

/// The answer to `status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The apex, fully qualified.
    pub zone: String,
    /// The zone's `ttl`. Records without a `ttl` have it.
    #[serde(default)]
    pub ttl_seconds: Option<u32>,
    /// [`crate::config::Config::epoch`] of the configuration in force, which is the SOA's serial.
    pub epoch: u32,
    /// The interfaces, in the order of the configuration.
    pub interfaces: Vec<InterfaceStatus>,
    /// The addresses of `[listen]`, and whether they are served.
    #[serde(default)]
    pub addresses: Vec<AddressStatus>,
    /// How many nodes and witnesses this server sees.
    pub quorum: QuorumStatus,
    /// Whether every node is down, so that the configured addresses are answered.
    pub fail_open: bool,
    /// Why the answers are frozen, whatever the probes say; `None`: they are not frozen.
    pub frozen: Option<String>,
    /// Why no node is judged at present: this server's own clock slipped. `None`: nodes are judged.
    #[serde(default)]
    pub blind: Option<String>,
    /// The nodes, in the order of the configuration.
    pub nodes: Vec<NodeStatus>,
    /// The services, in the order of the configuration. If there are more than 1,000 services, only services that are
    /// down are listed, at most 1,000.
    #[serde(default)]
    pub services: Vec<ServiceStatus>,
    /// The suffixes, in the order of the configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suffixes: Vec<SuffixStatus>,
    /// The guaranteed repair time.
    pub promise: RepairBound,
    /// How long the program answers without its daemon.
    pub lease: Lease,
    /// Problems that an operator should look at; empty if there are none.
    pub alarms: Vec<String>,
    /// The configuration file.
    pub config: PathBuf,
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// Seconds since the daemon started.
    pub uptime_seconds: u64,
    /// The time of the last change of the answers.
    pub published: Option<Timestamp>,
    /// Whether the decided answers are in force. If not, an alarm says why.
    #[serde(default)]
    pub up_to_date: bool,
    /// The rate of answers; `None`: the daemon has just started.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// The limits that apply in a flood.
    #[serde(default)]
    pub guard: GuardStatus,
    /// The place of the shared part of the configuration.
    #[serde(default)]
    pub store: StoreStatus,
}

/// The rate of answers, averaged over the last seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Answers of the program and of the responder.
    pub queries_per_second: f64,
    /// The program's share of the answers, from 0 to 1; `None`: there were no answers.
    pub kernel_share: Option<f64>,
    /// The time over which the rate is averaged.
    pub seconds: f64,
}

/// One interface of [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// The interface's name.
    pub name: String,
    /// The mode in force: `native`, `generic` or `off`.
    pub mode: String,
    /// Why the mode is not a better one.
    pub reason: Option<String>,
    /// Whether the mode is lower than `[xdp] mode` wants.
    #[serde(default)]
    pub degraded: bool,
}

/// One address of [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// The address, from `[listen]` or of a configured interface.
    pub address: IpAddr,
    /// The interface that has the address; `None`: no interface has it.
    pub interface: Option<String>,
    /// `served`, or why not: `absent`, `tentative`, `duplicate`, `deprecated`, `temporary`.
    pub state: String,
    /// Why it is not served, and what to do.
    pub reason: Option<String>,
}

/// The quorum of [`Status`]: nodes and witnesses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumStatus {
    /// How many nodes and witnesses have answered recently.
    pub visible: usize,
    /// How many nodes and witnesses have to be visible.
    pub needed: usize,
    /// Whether enough of them are visible.
    pub ok: bool,
}

/// The guaranteed repair time. After `detect_ms` and `publish_ms` the servers no longer answer the address of a dead
/// node. After another `ttl_seconds` no cache holds the old address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairBound {
    /// The longest [`crate::cluster::HealthCheck::time_to_detect`] of any node or service, in milliseconds.
    pub detect_ms: u64,
    /// The summands of `detect_ms`, as text.
    #[serde(default)]
    pub detect_by: String,
    /// The node or service with the longest detection, if the times differ.
    #[serde(default)]
    pub slowest: Option<String>,
    /// The time to publish the answers in milliseconds: measured at the last change, or a safe estimate.
    #[serde(default)]
    pub publish_ms: u64,
    /// Whether `publish_ms` was measured.
    #[serde(default)]
    pub publish_measured: bool,
    /// TTL of every address answer.
    pub ttl_seconds: u32,
}

/// The lease of the program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The time that each renewal gives; `None`: for ever.
    pub stale_after_ms: Option<u64>,
    /// The time left; `None`: for ever, or no program is attached.
    pub left_ms: Option<u64>,
}

/// The answer to `stats`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// The program's counters by outcome, summed over the CPUs.
    pub xdp: BTreeMap<String, u64>,
    /// The responder's answers by rcode.
    pub responder: BTreeMap<String, u64>,
    /// The controller's counters: probes, failovers, publications and others.
    #[serde(default)]
    pub controller: BTreeMap<String, u64>,
    /// Answers of the program that the driver failed to send, by interface, for drivers that count them.
    #[serde(default)]
    pub transmit_errors: BTreeMap<String, u64>,
}

/// The names that are asked most, from the program's samples of about the last 30 s.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Names {
    /// Whether an attached program takes samples. Queries that only the responder sees, over TCP or without XDP, are in
    /// no sample.
    pub sampled: bool,
    /// How many queries one sample stands for.
    pub one_of: u64,
    /// The number of samples that the shares are computed from. Older samples count less.
    pub samples: u64,
    /// The names, the most asked first; empty at first.
    pub names: Vec<AskedName>,
}

/// One name of [`Names`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AskedName {
    /// The name, fully qualified and in lower case. Octets other than letters, digits, `-` and `_` are written as
    /// `\DDD`.
    pub name: String,
    /// Its share of all samples, from 0 to 1.
    pub share: f64,
}

/// The answer to `query`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryAnswer {
    /// The qname, fully qualified.
    pub name: String,
    /// The qtype.
    pub r#type: String,
    /// `NOERROR`, `NXDOMAIN`, `REFUSED`.
    pub rcode: String,
    /// The records' data in presentation form.
    pub answers: Vec<String>,
    /// The TTL of the answers, or of the negative answer, in seconds.
    pub ttl: Option<u32>,
    /// The part that answers: `xdp` or `responder`.
    pub path: String,
    /// The reason of these answers.
    pub why: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_readable_json_and_unknown_fields_are_refused() {
        let (node, by) = ("node1".to_owned(), Some("alice".to_owned()));
        let admin = Admin::Drain;
        let force = true;
        let command =
            Command::Admin { node, admin, reason: None, by, for_ms: Some(1500), force, local: false };
        let json = r#"{"verb":"admin","node":"node1","admin":"drain","reason":null,"by":"alice","for_ms":1500,"force":true}"#;
        assert_eq!(serde_json::to_string(&command).unwrap(), json);
        assert_eq!(serde_json::from_str::<Command>(json).unwrap(), command);
        let bare = r#"{"verb":"admin","node":"node1","admin":"drain"}"#;
        let (node, by) = ("node1".to_owned(), None);
        let force = false;
        let command = Command::Admin { node, admin, reason: None, by, for_ms: None, force, local: false };
        assert_eq!(serde_json::from_str::<Command>(bare).unwrap(), command);
        assert_eq!(serde_json::from_str::<Command>(r#"{"verb":"node-list"}"#).unwrap(), Command::NodeList);
        let misspelt = r#"{"verb":"node-remove","name":"node1","ephemeral":true,"forse":true}"#;
        assert!(serde_json::from_str::<Command>(misspelt).is_err());
    }
}
