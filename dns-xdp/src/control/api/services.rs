//! The parts of `status` and `service list` about services.
use serde::{Deserialize, Serialize};

use crate::cluster::{AllDown, Order};

/// One service of `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// The name, relative to the zone, or `@`.
    pub name: String,
    /// Which of its healthy members it answers.
    pub order: Order,
    /// Names of the nodes that answer while no member is healthy, in order of preference.
    pub backup: Vec<String>,
    /// Whether neither a member nor a backup is healthy.
    pub down: bool,
    /// Names of the nodes that it answers, by the last decision.
    pub answers: Vec<String>,
}

/// One service of `service list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEntry {
    /// The name, relative to the zone, or `@`.
    pub name: String,
    /// Names of its members, in the order of the configuration.
    pub nodes: Vec<String>,
    /// With fewer healthy members than this, it answers all of them.
    pub min_healthy: usize,
    /// Which of its healthy members it answers.
    #[serde(default)]
    pub order: Order,
    /// Names of the nodes that answer while no member is healthy, in order of preference.
    #[serde(default)]
    pub backup: Vec<String>,
    /// The answer while neither a member nor a backup is healthy; `None`: the service has no rule of its own.
    #[serde(default)]
    pub all_down: Option<AllDown>,
    /// Whether neither a member nor a backup is healthy.
    #[serde(default)]
    pub down: bool,
    /// The addresses that its name answers now.
    pub answers: Vec<String>,
    /// Whether the service is not in the file, or differs from the service in the file.
    pub ephemeral: bool,
    /// Whether it is in the store that the servers share.
    pub shared: bool,
}
