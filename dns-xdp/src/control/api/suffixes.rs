//! The parts of `status` and `suffix list` about suffixes.
use serde::{Deserialize, Serialize};

/// A suffix of `status`: another name under which the zone's names are repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuffixStatus {
    /// The name, fully qualified.
    pub name: String,
    /// The address set that the names below it answer; `None`: the nodes' own addresses.
    pub addresses: Option<String>,
}

/// One suffix of `suffix list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuffixEntry {
    /// The name, fully qualified.
    pub name: String,
    /// The address set that the names below it answer; `None`: the nodes' own addresses.
    pub addresses: Option<String>,
    /// Whether it is a zone of its own, with its own SOA, NS and delegation.
    pub is_zone: bool,
    /// Whether the suffix is not in the file, or has other addresses there.
    pub ephemeral: bool,
    /// Whether it is in the store that the servers share.
    pub shared: bool,
}
