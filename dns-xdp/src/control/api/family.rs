//! What `status` says of each family of a node's addresses.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One family of a node's addresses, whose RRset follows its own health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyStatus {
    /// As [`NodeStatus::health`](super::NodeStatus::health).
    pub health: String,
    /// When that changed last.
    pub since: Timestamp,
    /// Why it is as it is, where there is something to say.
    pub reason: Option<String>,
    /// The addresses of the family that the node's name answers now.
    pub answers: Vec<String>,
}
