//! The parts of the answers about the store that servers share: the mode of each server, and whether the servers agree.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failover::Quorum;
use crate::store::Revision;
use crate::store::client::Mode;

/// The place of the shared part of the configuration, and this server's mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// `file` or `etcd`.
    pub kind: String,
    /// The mode. With a file it is always joined.
    pub mode: Mode,
    /// See [`Status::epoch`](super::Status::epoch).
    pub epoch: u32,
    /// The last revision of the store that was seen; 0 for a file.
    pub revision: Revision,
    /// The time when the server entered this mode.
    pub since: Option<Timestamp>,
    /// Why it is not joined.
    pub trouble: Option<String>,
}

impl Default for StoreStatus {
    fn default() -> Self {
        let (kind, mode) = ("file".to_owned(), Mode::Joined);
        StoreStatus { kind, mode, epoch: 0, revision: 0, since: None, trouble: None }
    }
}

/// The answer to `status --cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// The revision of the last change of the documents.
    pub epoch: Revision,
    /// The last revision of the store that the asked server has seen.
    pub revision: Revision,
    /// The asked server's mode.
    pub mode: Mode,
    /// The live servers by name, and the nodes whose servers are not live.
    pub servers: Vec<ClusterServer>,
    /// Why the servers do not give the same answers; empty: they do.
    pub disagreement: Vec<String>,
}

/// One server of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterServer {
    /// Its name.
    pub name: String,
    /// The version of its program.
    pub version: String,
    /// The epoch of the documents that it has in force.
    pub epoch: Revision,
    /// The store's revision that its decisions come from.
    pub revision: Revision,
    /// A digest of its answers, equal for equal answers.
    pub digest: String,
    /// Whether its lease has not ended.
    pub alive: bool,
    /// Its mode: whether it decides with the other servers.
    pub mode: Mode,
    /// The quorum that it sees.
    pub quorum: Option<Quorum>,
    /// Why its answers are frozen, or why it judges no node.
    pub trouble: Option<String>,
    /// The time when the store last had news of it for the asked server; `None`: never since the asked server started.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
}
