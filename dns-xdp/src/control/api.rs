//! What goes over the control socket: commands, and the JSON that answers them.
//!
//! What is said of a node is in `node`, of services in `services`, of a store in `store`. Nothing here reads or writes a socket.
mod family;
mod node;
mod services;
mod store;

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
pub use node::{HeldStatus, NodeEntry, NodeStatus};
pub use services::{ServiceEntry, ServiceStatus};
pub use store::{ClusterServer, ClusterStatus, StoreStatus};

use crate::cluster::{Admin, AllDown, Order};
use crate::config::edit::{EditError, unknown_node};
use crate::config::{ConfigError, nearest};

/// A command on its way to the controller.
#[derive(Debug)]
pub struct Call {
    /// What is asked.
    pub command: Command,
    /// When the client gives up, by [`super::monotonic`]; `None`: that is not known.
    pub until: Option<Duration>,
    /// Where the answer goes. Answer when the effect is visible to clients; dropping it is a failure.
    pub reply: oneshot::Sender<Result<Value, Refusal>>,
}

impl Call {
    /// Whether the client has given up. Its command must not be begun then, for the client has reported that there was no
    /// answer.
    pub fn is_abandoned(&self) -> bool {
        self.reply.is_closed() || self.until.is_some_and(|until| super::monotonic() >= until)
    }
}

/// What can be asked of the daemon. Commands that change something answer [`Done`].
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
        /// Relative to the zone or fully qualified.
        name: String,
        /// A type's mnemonic: `A`, `NS`.
        qtype: String,
    },
    /// Answers [`ClusterStatus`].
    Cluster,
    /// Accepts what the store holds, on all servers: it is older than what was seen of it, another one, or has lost documents.
    AcceptStore,
    /// Tells what [`Command::AcceptStore`] would change.
    CompareStore,
    /// Reads the configuration file again: all of it or nothing.
    Reload {
        /// Take the file even if it removes more than half of the nodes, or the server's own.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        force: bool,
    },
    /// Answers a list of [`NodeEntry`].
    NodeList,
    /// Adds a node.
    NodeAdd {
        /// Relative to the zone.
        name: String,
        /// At least one address is given.
        ipv4: Option<Ipv4Addr>,
        /// See `ipv4`.
        ipv6: Option<Ipv6Addr>,
        /// Leave the configuration file as it is.
        ephemeral: bool,
    },
    /// Gives a node other addresses.
    NodeSet {
        /// Relative to the zone.
        name: String,
        /// `None`: as it is.
        ipv4: Option<Ipv4Addr>,
        /// `None`: as it is.
        ipv6: Option<Ipv6Addr>,
        /// Leave the configuration file as it is.
        ephemeral: bool,
    },
    /// Removes a node.
    NodeRemove {
        /// Relative to the zone.
        name: String,
        /// Leave the configuration file as it is.
        ephemeral: bool,
    },
    /// Answers a list of [`ServiceEntry`].
    ServiceList,
    /// Adds a service.
    ServiceAdd {
        /// Relative to the zone, or `@`.
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
        /// Leave the configuration file as it is.
        ephemeral: bool,
    },
    /// Gives a service other members or other rules.
    ServiceSet {
        /// Relative to the zone, or `@`.
        name: String,
        /// Names of its members; empty: as they are.
        nodes: Vec<String>,
        /// `None`: as it is.
        min_healthy: Option<usize>,
        /// `None`: as it is.
        #[serde(default)]
        order: Option<Order>,
        /// Names of the nodes that answer while no member is healthy; empty: none; `None`: as they are.
        #[serde(default)]
        backup: Option<Vec<String>>,
        /// `None`: as it is.
        #[serde(default)]
        all_down: Option<AllDown>,
        /// Leave the configuration file as it is.
        ephemeral: bool,
    },
    /// Removes a service.
    ServiceRemove {
        /// Relative to the zone, or `@`.
        name: String,
        /// Leave the configuration file as it is.
        ephemeral: bool,
    },
    /// Sets what is wanted of a node.
    Admin {
        /// Its name, relative to the zone.
        node: String,
        /// What is wanted.
        admin: Admin,
        /// Why, for those who look at the status later.
        reason: Option<String>,
        /// The operator that asks for it.
        by: Option<String>,
        /// For how long, in milliseconds; `None`: for good.
        for_ms: Option<u64>,
        /// Drain the node even if that breaks the quorum.
        #[serde(default)]
        force: bool,
        /// On this server alone, while the store is away.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        local: bool,
    },
    /// Lets a node that is held come back into the answers.
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
        /// The daemon's start in whose numbers `after` is; that of another daemon counts as 0.
        #[serde(default)]
        started: Option<Timestamp>,
        /// At most so many events; the server has a limit of its own.
        #[serde(default)]
        limit: Option<usize>,
        /// Wait so long for an event if there is none yet; the server has a limit of its own.
        #[serde(default)]
        wait_ms: u64,
    },
    /// Gives way to a new daemon: everything stays pinned and answering.
    Handover,
    /// Detaches, unpins and ends.
    Unload,
}

/// A command that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Lower case: what, where, what to do next.
    pub message: String,
    /// What kind of refusal.
    pub kind: RefusalKind,
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// Something named does not exist.
    NotFound,
    /// The request, or the configuration that it leads to, is wrong in itself.
    Invalid,
    /// It contradicts what is there.
    Conflict,
    /// It was tried and did not work.
    Failed,
}

impl RefusalKind {
    /// The HTTP status (RFC 9110, section 15).
    pub fn http_status(self) -> u16 {
        match self {
            RefusalKind::NotFound => 404,
            RefusalKind::Invalid => 400,
            RefusalKind::Conflict => 409,
            RefusalKind::Failed => 500,
        }
    }

    /// The exit code of the command line: 1 refused or failed, 2 wrong usage or configuration.
    pub fn exit_code(self) -> u8 {
        match self {
            RefusalKind::Invalid => 2,
            RefusalKind::NotFound | RefusalKind::Conflict | RefusalKind::Failed => 1,
        }
    }
}

impl Refusal {
    /// A refusal of that kind.
    pub fn new(kind: RefusalKind, message: impl Into<String>) -> Self {
        Refusal { message: message.into(), kind }
    }

    /// The refusal of a name that is not among the `known` nodes; it suggests the nearest.
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
            EditError::UnknownNode { .. } | EditError::UnknownService { .. } => RefusalKind::NotFound,
            EditError::Conflict(_) => RefusalKind::Conflict,
            EditError::Malformed(_) => RefusalKind::Invalid,
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
    /// What was done besides, or why nothing was.
    pub notes: Vec<String>,
    /// How long caches may yet hold addresses of the changed node that no name answers any more; `None`: they are
    /// answered, or no address has left the answers.
    #[serde(default)]
    pub cached_ms: Option<u64>,
}

/// `status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The apex, fully qualified.
    pub zone: String,
    /// [`crate::config::Config::epoch`] of the configuration in force, which is the SOA's serial.
    pub epoch: u32,
    /// In the order of the configuration.
    pub interfaces: Vec<InterfaceStatus>,
    /// Those of `[listen]`, and whether they are served.
    #[serde(default)]
    pub addresses: Vec<AddressStatus>,
    /// Who is visible to this server.
    pub quorum: QuorumStatus,
    /// Every node is down, and the configured addresses are answered all the same.
    pub fail_open: bool,
    /// Why the answers stay as they are whatever the probes say; `None`: they do not.
    pub frozen: Option<String>,
    /// Why no probe is believed for the moment: this server's own clock slipped; `None`: they are.
    #[serde(default)]
    pub blind: Option<String>,
    /// In the order of the configuration.
    pub nodes: Vec<NodeStatus>,
    /// In the order of the configuration. Of more than 1,000 services only those that are down, at most 1,000.
    #[serde(default)]
    pub services: Vec<ServiceStatus>,
    /// How soon a dead node is replaced.
    pub promise: RepairBound,
    /// How long the program answers without its daemon.
    pub lease: Lease,
    /// What an operator should look at, in words; empty when all is well.
    pub alarms: Vec<String>,
    /// The configuration file.
    pub config: PathBuf,
    /// The daemon's version.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// Since the daemon started.
    pub uptime_seconds: u64,
    /// When the answers changed last.
    pub published: Option<Timestamp>,
    /// What was decided is what is answered; an alarm says why not.
    #[serde(default)]
    pub up_to_date: bool,
    /// What is answered; `None`: the daemon has only just started.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// What floods are met with.
    #[serde(default)]
    pub guard: GuardStatus,
    /// Where the shared part of the configuration is.
    #[serde(default)]
    pub store: StoreStatus,
}

/// The limits in force, and what was held back by them since the program was attached first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardStatus {
    /// Cookies are made and verified.
    pub cookies: bool,
    /// Answers to each prefix of clients; 0: as many as are asked for.
    pub answers_per_second: u32,
    /// Queries that the program passes up; 0: as many as come.
    pub fallback_per_second: u32,
    /// Queries not answered, for their prefix gets more than it may.
    pub rate_limited: u64,
    /// Queries that the program answered truncated instead.
    pub slipped: u64,
    /// Queries kept from the responder.
    pub fallback_limited: u64,
}

/// How much is answered, the mean of the last seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// Answers of the program and of the responder.
    pub queries_per_second: f64,
    /// The program's share of them, from 0 to 1; `None`: nothing was asked.
    pub kernel_share: Option<f64>,
    /// The time that this is the mean of.
    pub seconds: f64,
}

/// One interface of [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceStatus {
    /// Of the interface.
    pub name: String,
    /// In force: `native`, `generic` or `off`.
    pub mode: String,
    /// Why it is not a better one.
    pub reason: Option<String>,
    /// It is not in the mode that `[xdp] mode` wants.
    #[serde(default)]
    pub degraded: bool,
}

/// One address of [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// Of `[listen]`, or of a configured interface.
    pub address: IpAddr,
    /// The interface that has it; `None`: none has.
    pub interface: Option<String>,
    /// `served`, or why not: `absent`, `tentative`, `duplicate`, `deprecated`, `temporary`.
    pub state: String,
    /// Why it is not served, and what to do.
    pub reason: Option<String>,
}

/// The quorum of [`Status`]: nodes and witnesses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumStatus {
    /// That have answered anything of late.
    pub visible: usize,
    /// That have to be visible.
    pub needed: usize,
    /// Enough are visible.
    pub ok: bool,
}

/// How soon a dead node is replaced: `detect_ms` and `publish_ms` until the servers answer another address, and
/// `ttl_seconds` more until the last cache has forgotten the old one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairBound {
    /// The longest [`crate::cluster::HealthCheck::time_to_detect`] of any node or service, in milliseconds.
    pub detect_ms: u64,
    /// What that is the sum of, in words.
    #[serde(default)]
    pub detect_by: String,
    /// The node or service that takes so long, where they differ.
    #[serde(default)]
    pub slowest: Option<String>,
    /// What publishing the answers takes, in milliseconds: as measured when they changed last, or an estimate that is
    /// on the safe side.
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
    /// Given at each renewal; `None`: for ever.
    pub stale_after_ms: Option<u64>,
    /// Left of it; `None`: for ever, or no program is attached.
    pub left_ms: Option<u64>,
}

/// `stats`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// By outcome text, summed over CPUs.
    pub xdp: BTreeMap<String, u64>,
    /// By rcode, of the fallback.
    pub responder: BTreeMap<String, u64>,
    /// Of the controller: probes sent, failovers, publications and the like.
    #[serde(default)]
    pub controller: BTreeMap<String, u64>,
    /// Answers of the program that the driver did not get out, by interface; where the driver tells.
    #[serde(default)]
    pub transmit_errors: BTreeMap<String, u64>,
}

/// The names that are asked most, by the program's samples of the last half minute or so.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Names {
    /// A program is attached, and samples. What only the responder sees, over TCP or without XDP, is in no sample.
    pub sampled: bool,
    /// One sample stands for so many queries.
    pub one_of: u64,
    /// Samples that the shares are made of, older ones counted less.
    pub samples: u64,
    /// The most asked first, as many as there are to tell; empty at first.
    pub names: Vec<AskedName>,
}

/// One name of [`Names`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AskedName {
    /// Fully qualified, in lower case, with `\DDD` for whatever is no letter, digit, `-` or `_`.
    pub name: String,
    /// Of all samples, from 0 to 1.
    pub share: f64,
}

/// `query`
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
    /// Of the answers, or of the negative answer; in seconds.
    pub ttl: Option<u32>,
    /// Who answers: `xdp` or `responder`.
    pub path: String,
    /// Why these answers, in words.
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
