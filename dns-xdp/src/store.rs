//! The store that the servers of a cluster share: its contents, and the interface to its engine.
//!
//! `etcd` is the engine; `client` keeps a session with it, `view` is the last state seen, and `votes` counts the
//! verdicts. `continuity` detects an older or another store, and `identity` detects another server of the same name.
//! `last_good` is the copy on disk; `skydns` exchanges names with other programs. The servers' decisions are not made
//! here.
//!
//! The shared part of the configuration and the operators' intent are documents, replaced whole by compare-and-swap.
//! Every server mirrors them, joins them with the local part of its file, and writes the verdicts of its probes beside
//! them under a lease. A server that loses the store keeps the last documents and judges by itself.
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

/// The keys of the verdicts of each server's probes; the server's name follows.
pub const VERDICTS: &str = "verdicts/";
/// The keys of each server's status; the server's name follows.
pub const SERVERS: &str = "servers/";

/// A value and the revision of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The value as written.
    pub value: Vec<u8>,
    /// The revision of its last change.
    pub revision: Revision,
}

/// All keys below the prefix at one revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The store's revision that the listing shows. It has every change up to this revision, and none after.
    pub revision: Revision,
    /// The identifier of the store's cluster; `None`: it is not known.
    pub cluster: Option<u64>,
    /// The entries by their keys without the prefix.
    pub entries: BTreeMap<String, Entry>,
}

impl Listing {
    /// Applies later changes.
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

/// The changes of one revision or of several consecutive ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The last of these revisions.
    pub revision: Revision,
    /// The changes in their order; `None`: the key was removed.
    pub changes: Vec<(String, Option<Entry>)>,
}

/// A change that the store makes as a whole, and only if the keys that it depends on have not changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swap {
    /// Keys that must still have these revisions; 0: the key must not exist.
    pub expected: BTreeMap<String, Revision>,
    /// The values to write, by their keys.
    pub writes: BTreeMap<String, Vec<u8>>,
}

/// Why the store did not perform a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The store cannot be reached, or has no majority. Whether a change was made is not known.
    #[error("the store cannot be reached: {0}")]
    Unreachable(String),
    /// The store refuses the credentials.
    #[error("the store refuses: {0}; check user and password-file, and ca, cert and key of [cluster]")]
    Denied(String),
    /// The store takes no request of this size. Nothing was written.
    #[error(
        "a document is too large for the store: {0}; nothing was written: remove nodes or records, or divide the zone"
    )]
    TooLarge(String),
    /// The store has compacted the wanted revisions. The caller has to list the keys again.
    #[error("the store no longer has the wanted revisions: {0}")]
    Compacted(String),
    /// The lease has run out.
    #[error("the lease has run out")]
    LeaseLost,
    /// A key that the change depends on has changed: nothing was written.
    #[error("another client has changed it meanwhile")]
    Conflict,
}

/// A lease that the store has granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The number of the lease.
    pub id: i64,
    /// How long the lease lasts without being kept alive. A store may grant a longer time than asked for.
    pub time: Duration,
}

/// An engine with revisions, leases and a compare-and-swap over several keys. Keys have no prefix.
pub trait Store: Clone + Send + Sync + 'static {
    /// A watch of this engine.
    type Watch: Watch;

    /// Lists all keys at one revision that a majority has.
    fn list(&self) -> impl Future<Output = Result<Listing, Error>> + Send;
    /// Returns the extent of the store that a majority has. Cheaper than [`Store::list`].
    fn extent(&self) -> impl Future<Output = Result<Extent, Error>> + Send;
    /// Whether the store's history shows that the key was written at this revision. `None`: the history does not reach
    /// back so far.
    fn had(&self, key: &str, revision: Revision) -> impl Future<Output = Result<Option<bool>, Error>> + Send;
    /// Watches the changes from this revision on.
    fn watch(&self, from: Revision) -> impl Future<Output = Result<Self::Watch, Error>> + Send;
    /// Writes, if no expected key has changed. Returns the revision of the writes.
    fn swap(&self, swap: Swap) -> impl Future<Output = Result<Revision, Error>> + Send;
    /// Writes each `Some` and removes each `None`, without a lease, if no expected key has changed.
    fn change(
        &self,
        expected: BTreeMap<String, Revision>,
        changes: BTreeMap<String, Option<Vec<u8>>>,
    ) -> impl Future<Output = Result<Revision, Error>> + Send;
    /// Asks for a lease that lasts this long without [`Store::keep_alive`].
    fn lease(&self, time: Duration) -> impl Future<Output = Result<Lease, Error>> + Send;
    /// Gives a lease its whole time again.
    fn keep_alive(&self, lease: i64) -> impl Future<Output = Result<(), Error>> + Send;
    /// Ends a lease, and removes the keys that were written under it.
    fn revoke(&self, lease: i64) -> impl Future<Output = Result<(), Error>> + Send;
    /// Writes keys that end with the lease, if no expected key has changed.
    fn put(
        &self,
        expected: BTreeMap<String, Revision>,
        writes: BTreeMap<String, Vec<u8>>,
        lease: i64,
    ) -> impl Future<Output = Result<Revision, Error>> + Send;
}

/// A stream of changes.
pub trait Watch: Send + 'static {
    /// Returns the next changes. Cancel safe.
    fn next(&mut self) -> impl Future<Output = Result<Batch, Error>> + Send;
}

/// The status that a server writes at `servers/<name>`. Unknown fields are ignored, because versions differ during an
/// upgrade.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The version of dns-xdp.
    #[serde(default)]
    pub version: String,
    /// The identifier that tells servers of the same name apart: [`identity::Instance`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instance: String,
    /// The host and address where it runs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub place: String,
    /// The epoch of the documents that it has in force.
    #[serde(default)]
    pub epoch: Revision,
    /// The revision of the verdicts and documents that its decision is made from; 0: it judges by itself.
    #[serde(default)]
    pub revision: Revision,
    /// The number of these verdicts and documents: [`InputsVersion`].
    #[serde(default)]
    pub entries: usize,
    /// The digest of its answers: servers with the same digest give the same answers.
    #[serde(default)]
    pub digest: String,
    /// The quorum that it sees by itself.
    #[serde(default)]
    pub quorum: Option<Quorum>,
    /// Why its answers are frozen, or why it judges no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}
