//! The store that the servers of a cluster share: what is in it, and the seam to the engine that keeps it.
//!
//! `etcd` is the engine; `client` keeps a session with it, `view` is what it has seen, and `votes` counts the verdicts.
//! `continuity` tells an older or another store, `identity` another server of the same name. `last_good` is the copy on disk;
//! `skydns` exchanges names with other programs. What the servers decide from all this is not here.
//!
//! The shared part of the configuration and the operators' intent are documents, replaced whole by compare-and-swap.
//! Every server mirrors them, joins them with the local part of its file, and puts the verdicts of its probes beside
//! them under a lease. Whoever loses the store goes on with what it knows and judges by itself.
//!
//! ```text
//!  cluster init, node …, reload ──► swap ──► config/*, intent ──► client ──► Config, Intents ─┐
//!  probes ──► health ──► lease ──► verdicts/<server> ───────────► client ──► votes ───────────┴─► failover ─► Zone
//! ```
pub mod client;
pub mod continuity;
mod credentials;
pub mod documents;
pub mod etcd;
pub mod identity;
pub mod last_good;
pub mod load;
#[cfg(test)]
mod memory;
pub mod skydns;
#[cfg(test)]
mod versions;
mod view;
pub mod votes;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use client::watch_lag::Extent;
pub use continuity::Known;
pub use documents::{Documents, Revision, Shared};
pub use load::{Loaded, load};
pub use view::InputsVersion;

use crate::failover::Quorum;

/// Where each server puts the verdicts of its probes: the server's name follows.
pub const VERDICTS: &str = "verdicts/";
/// Where each server says how it is: the server's name follows.
pub const SERVERS: &str = "servers/";

/// A value and when it was put there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// As it was written.
    pub value: Vec<u8>,
    /// Of its last change.
    pub revision: Revision,
}

/// Everything below the prefix at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The moment: nothing after it is in here.
    pub revision: Revision,
    /// The identifier of the store's cluster; `None`: it is not known.
    pub cluster: Option<u64>,
    /// By the key without the prefix.
    pub entries: BTreeMap<String, Entry>,
}

impl Listing {
    /// Takes in what has happened since.
    pub fn apply(&mut self, batch: Batch) {
        let Batch { revision, changes } = batch;
        for (key, value) in changes {
            match value {
                Some(entry) => self.entries.insert(key, entry),
                None => self.entries.remove(&key),
            };
        }
        self.revision = self.revision.max(revision);
    }
}

/// Changes of one moment or of several that follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The last of these moments.
    pub revision: Revision,
    /// In their order; `None`: the key is gone.
    pub changes: Vec<(String, Option<Entry>)>,
}

/// A change that takes place as a whole, if what it was made from is still there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swap {
    /// Keys that must not have changed since; 0: that are not there.
    pub expected: BTreeMap<String, Revision>,
    /// What is written.
    pub writes: BTreeMap<String, Vec<u8>>,
}

/// Why the store did not do as it was told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It cannot be reached, or has no majority; whether a change took place is not known.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// It does not let us in.
    #[error("the store refuses: {0}; check user and password-file, and ca, cert and key of [cluster]")]
    Denied(String),
    /// What was asked for is compacted away: list again.
    #[error("the store has forgotten what was asked for: {0}")]
    Compacted(String),
    /// The lease has run out.
    #[error("the lease has run out")]
    LeaseLost,
    /// What it was made from has changed: nothing was written.
    #[error("somebody else has changed it meanwhile")]
    Conflict,
}

/// What the store has granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Its number.
    pub id: i64,
    /// How long it lives without being kept alive. A store may grant longer than it was asked for.
    pub time: Duration,
}

/// An engine with revisions, leases and a compare-and-swap over several keys. Keys are without the prefix.
pub trait Store: Clone + Send + Sync + 'static {
    /// What watching gives.
    type Watch: Watch;

    /// Everything, at one moment, as a majority knows it.
    fn list(&self) -> impl Future<Output = Result<Listing, Error>> + Send;
    /// How far it has come, as a majority knows it; cheaper than [`Store::list`].
    fn extent(&self) -> impl Future<Output = Result<Extent, Error>> + Send;
    /// Whether the store's history has the key as written at this revision. `None`: the history does not reach back so
    /// far.
    fn had(&self, key: &str, revision: Revision) -> impl Future<Output = Result<Option<bool>, Error>> + Send;
    /// What happens from this revision on.
    fn watch(&self, from: Revision) -> impl Future<Output = Result<Self::Watch, Error>> + Send;
    /// Writes if nothing expected has changed; the revision of the writes.
    fn swap(&self, swap: Swap) -> impl Future<Output = Result<Revision, Error>> + Send;
    /// Writes what is some and removes what is none, under no lease, if nothing expected has changed.
    fn change(
        &self,
        expected: BTreeMap<String, Revision>,
        changes: BTreeMap<String, Option<Vec<u8>>>,
    ) -> impl Future<Output = Result<Revision, Error>> + Send;
    /// A lease that is to live so long without [`Store::keep_alive`].
    fn lease(&self, time: Duration) -> impl Future<Output = Result<Lease, Error>> + Send;
    /// Gives a lease its whole time again.
    fn keep_alive(&self, lease: i64) -> impl Future<Output = Result<(), Error>> + Send;
    /// Ends a lease, and all that was written under it.
    fn revoke(&self, lease: i64) -> impl Future<Output = Result<(), Error>> + Send;
    /// Writes what goes with the lease, if nothing expected has changed.
    fn put(
        &self,
        expected: BTreeMap<String, Revision>,
        writes: BTreeMap<String, Vec<u8>>,
        lease: i64,
    ) -> impl Future<Output = Result<Revision, Error>> + Send;
}

/// The changes as they come.
pub trait Watch: Send + 'static {
    /// The next ones. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Result<Batch, Error>> + Send;
}

/// What a server says of itself at `servers/<name>`. Unknown fields are ignored, for versions differ during an upgrade.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Of the program.
    #[serde(default)]
    pub version: String,
    /// Of the servers of this name: [`identity::Instance`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// Where it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// Of the documents that it has in force.
    #[serde(default)]
    pub epoch: Revision,
    /// Of the verdicts and documents that it has decided from; 0: it has judged by itself.
    #[serde(default)]
    pub revision: Revision,
    /// How many of them there were: [`InputsVersion`].
    #[serde(default)]
    pub entries: usize,
    /// Of its answers: servers with the same digest give the same ones.
    #[serde(default)]
    pub digest: String,
    /// What it sees by itself.
    #[serde(default)]
    pub quorum: Option<Quorum>,
    /// Why its answers are frozen, or nobody is judged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}
