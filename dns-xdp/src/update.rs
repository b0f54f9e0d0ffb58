//! DNS UPDATE (RFC 2136): the keys that may write to the zone, their grants, and the meaning of an update.
//!
//! `key` has the keys of TSIG (RFC 8945), and `grant` has the names and types that a key may write. `apply` finds the
//! RRsets that an update changes. Nothing here reads messages or changes a configuration.
mod apply;
mod grant;
mod key;

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, RecordType};

pub use apply::{SetChange, apply};
pub use grant::{Grant, Pattern, RECORDS_MAX_USUAL, TTL_MAX_SECONDS};
pub use key::{Algorithm, Key, Secret};

/// An update as a message asks for it. Names are in lower case and within the zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// What has to be true of the zone before the changes (RFC 2136, section 2.4).
    pub prerequisites: Vec<Prerequisite>,
    /// The changes, in the order of the message (RFC 2136, section 2.5).
    pub changes: Vec<Change>,
}

/// A condition on the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prerequisite {
    /// The name has at least one record of the type (RFC 2136, section 2.4.1).
    SetExists(Name, RecordType),
    /// This record is in its RRset. All such records of one name and type are together its whole RRset (section 2.4.2).
    SetHas(Name, RData),
    /// The name has no record of the type (section 2.4.3).
    SetAbsent(Name, RecordType),
    /// The name has a record of some type (section 2.4.4).
    NameInUse(Name),
    /// The name has no records (section 2.4.5).
    NameNotInUse(Name),
}

/// A change of the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Add a record to its RRset (RFC 2136, section 2.5.1).
    Add {
        /// The name.
        owner: Name,
        /// The TTL, which the whole RRset gets.
        ttl_seconds: u32,
        /// The data, whose type is the record's.
        data: RData,
    },
    /// Delete an RRset (section 2.5.2).
    RemoveSet {
        /// The name.
        owner: Name,
        /// The type.
        rtype: RecordType,
    },
    /// Delete all RRsets of a name (section 2.5.3).
    RemoveName {
        /// The name.
        owner: Name,
    },
    /// Delete a record from its RRset (section 2.5.4).
    Remove {
        /// The name.
        owner: Name,
        /// The data, whose type is the record's.
        data: RData,
    },
}

/// A verified update, with the key that signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedUpdate {
    /// The key.
    pub key: Arc<Key>,
    /// The address that it came from.
    pub client: IpAddr,
    /// The update.
    pub update: Update,
}

/// The zone that may be updated, and the keys that may do it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// The zone's name.
    pub apex: Name,
    /// The keys; empty: there are no updates.
    pub keys: Vec<Arc<Key>>,
}

impl Access {
    /// Returns the key of a name, which has no case.
    pub fn key(&self, name: &Name) -> Option<&Arc<Key>> {
        let name = name.to_lowercase();
        self.keys.iter().find(|key| key.name == name)
    }
}

/// Why an update changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The RCODE of the answer.
    pub rcode: ResponseCode,
    /// The reason, for the log and for the answer's extended error.
    pub reason: String,
}

impl Failure {
    /// Makes a failure.
    pub fn new(rcode: ResponseCode, reason: impl Into<String>) -> Self {
        Failure { rcode, reason: reason.into() }
    }

    /// Makes a failure with the RCODE REFUSED.
    pub fn refused(reason: impl Into<String>) -> Self {
        Failure::new(ResponseCode::Refused, reason)
    }
}
