//! The part of `status` about each family of a node's addresses.
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// One family of a node's addresses, whose RRset follows its own health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FamilyStatus {
    /// The health in this family, like [`NodeStatus::health`](super::NodeStatus::health).
    pub health: String,
    /// When the health changed last.
    pub since: Timestamp,
    /// The reason of this state, if there is one.
    pub reason: Option<String>,
    /// The addresses of the family that the node's name answers now.
    pub answers: Vec<String>,
}
