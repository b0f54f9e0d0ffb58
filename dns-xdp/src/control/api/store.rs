//! What is told of the store that servers share: how each stands to it, and whether they agree.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failover::Quorum;
use crate::store::Revision;
use crate::store::client::Mode;

/// Where the shared part of the configuration is, and how this server stands to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// `file` or `etcd`.
    pub kind: String,
    /// A file is always joined.
    pub mode: Mode,
    /// As [`Status::epoch`](super::Status::epoch).
    pub epoch: u32,
    /// How far the store has been seen; 0 for a file.
    pub revision: Revision,
    /// Since when the mode is what it is.
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

/// `status --cluster`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// When the documents were changed last.
    pub epoch: Revision,
    /// How far the asked server has seen the store.
    pub revision: Revision,
    /// How it stands to it.
    pub mode: Mode,
    /// Those that live, by name, and nodes whose servers do not.
    pub servers: Vec<ClusterServer>,
    /// What keeps them from giving the same answers; empty: they do.
    pub disagreement: Vec<String>,
}

/// One server of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterServer {
    /// Its name.
    pub name: String,
    /// Of its program.
    pub version: String,
    /// Of the documents that it has in force.
    pub epoch: Revision,
    /// Of what it has decided from.
    pub revision: Revision,
    /// The same for the same answers.
    pub digest: String,
    /// Its lease lives.
    pub alive: bool,
    /// Whether it decides together with the others.
    pub mode: Mode,
    /// What it sees.
    pub quorum: Option<Quorum>,
    /// Why its answers are frozen, or why it judges no node.
    pub trouble: Option<String>,
    /// When the asked server has heard of it last, through the store; `None`: never since it was started.
    #[serde(default)]
    pub last_seen: Option<Timestamp>,
}
