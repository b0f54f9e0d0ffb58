//! The calls of a session to the store, and the store's answers.
use std::collections::BTreeMap;
use std::time::Duration;

use super::watch_lag::Extent;
use crate::store::{Lease, Listing, Revision, Swap};

/// A call to the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// Connect to the next member.
    Connect,
    /// [`Store::list`](crate::store::Store::list)
    List,
    /// [`Store::had`](crate::store::Store::had)
    Had { key: String, revision: Revision },
    /// [`Store::lease`](crate::store::Store::lease)
    Lease(Duration),
    /// [`Store::put`](crate::store::Store::put)
    Put { expected: BTreeMap<String, Revision>, writes: BTreeMap<String, Vec<u8>>, lease: i64 },
    /// [`Store::swap`](crate::store::Store::swap): an operator accepts the store's documents.
    Accept(Swap),
    /// [`Store::watch`](crate::store::Store::watch)
    Watch { from: Revision },
    /// [`Store::keep_alive`](crate::store::Store::keep_alive)
    KeepAlive(i64),
    /// [`Store::extent`](crate::store::Store::extent)
    Extent,
}

/// The store's answer to a call.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The answer to [`Call::Connect`].
    Connected,
    /// The answer to [`Call::List`].
    Listing(Listing),
    /// The answer to [`Call::Had`].
    Had(Option<bool>),
    /// The answer to [`Call::Lease`].
    Lease(Lease),
    /// The answer to [`Call::Put`].
    Written,
    /// The answer to [`Call::Accept`].
    Accepted,
    /// The answer to [`Call::Watch`]: changes arrive from now on, see
    /// [`Session::changed`](super::session::Session::changed).
    Watching,
    /// The answer to [`Call::KeepAlive`].
    Kept,
    /// The answer to [`Call::Extent`].
    Extent(Extent),
}
