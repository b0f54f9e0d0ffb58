//! The parts of the answers about a node.
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::FamilyStatus;
use crate::cluster::{Admin, Family};

/// The health that is shown of a node without probes.
pub const UNPROBED: &str = "unprobed";

/// One node of [`Status`](super::Status).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The name, relative to the zone.
    pub name: String,
    /// Its own address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its own address.
    pub ipv6: Option<Ipv6Addr>,
    /// Its admin intent.
    pub admin: Admin,
    /// Its health by its probes: `unknown`, `up`, `suspect`, `down` or `recovering`; `unprobed` without probes.
    pub health: String,
    /// The result of intent and health: `up`, `down` or `drain`; `held`: it fell, is healthy again, and stays out.
    pub effective: String,
    /// The addresses that its name answers now.
    pub answers: Vec<String>,
    /// When its health or its admin intent changed last.
    pub since: Timestamp,
    /// The reason of this state, if there is one.
    pub reason: Option<String>,
    /// The operator that set the intent.
    #[serde(default)]
    pub by: Option<String>,
    /// When the intent ends, and the probes decide again; `None`: it does not end.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// How long caches may still hold its addresses; `None`: they are answered. Name servers with addresses fixed to
    /// the glue do not count.
    #[serde(default)]
    pub cached_ms: Option<u64>,
    /// Each family of its addresses, if it is probed at both; otherwise empty.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub families: BTreeMap<Family, FamilyStatus>,
    /// Its addresses in each address set that a suffix uses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, SetStatus>,
    /// Whether its intent was set on this server alone, while the store was away.
    #[serde(default)]
    pub local: bool,
    /// Its hold: it fell, and stays out of the answers after its recovery. `None`: it is not held.
    #[serde(default)]
    pub held: Option<HeldStatus>,
}

/// A node in one address set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetStatus {
    /// Its address in the set; neither this nor [`SetStatus::ipv6`]: it lacks the set.
    pub ipv4: Option<Ipv4Addr>,
    /// Its address in the set.
    pub ipv6: Option<Ipv6Addr>,
    /// The addresses that its name answers under the suffixes of the set.
    pub answers: Vec<String>,
}

/// The hold of a node in [`NodeStatus`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatus {
    /// When the node fell.
    pub since: Timestamp,
    /// When it comes back, if it stays healthy. `None`: it is not healthy, or only `dns-xdp node failback` brings it
    /// back.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

impl HeldStatus {
    /// Returns the text for an operator.
    pub fn in_words(&self, node: &str) -> String {
        let until = self.until.map(|until| format!(" until {until:.0}")).unwrap_or_default();
        format!("held since {:.0}{until}, dns-xdp node failback {node}", self.since)
    }
}

/// One node of `node list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// The name, relative to the zone.
    pub name: String,
    /// Its own address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its own address.
    pub ipv6: Option<Ipv6Addr>,
    /// Its name server's name, relative to the zone; `None`: it is not a name server.
    pub ns: Option<String>,
    /// Whether it counts for the quorum.
    #[serde(default = "yes")]
    pub quorum: bool,
    /// Whether the apex answers it, unless the apex is configured as a service.
    #[serde(default = "yes")]
    pub apex: bool,
    /// Like [`NodeStatus::health`].
    #[serde(default)]
    pub health: String,
    /// The nodes that take over its name, in order; empty: rendezvous hash.
    pub backup: Vec<String>,
    /// Its admin intent.
    pub admin: Admin,
    /// The reason of the intent.
    pub reason: Option<String>,
    /// The operator that set the intent.
    #[serde(default)]
    pub by: Option<String>,
    /// When the intent ends; `None`: it does not end.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Whether the configuration file lacks it or its addresses.
    pub ephemeral: bool,
    /// Whether it is in the store that the servers share, and not in this server's file.
    #[serde(default)]
    pub shared: bool,
    /// Whether its intent was set on this server alone, while the store was away.
    #[serde(default)]
    pub local: bool,
}

/// The role of every node of a daemon that does not tell roles.
fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_has_the_fields_that_outsiders_rely_on() {
        let node = NodeStatus {
            name: "node1".to_owned(),
            ipv4: Some(Ipv4Addr::new(192, 0, 2, 11)),
            ipv6: None,
            admin: Admin::Auto,
            health: "up".to_owned(),
            effective: "up".to_owned(),
            answers: vec!["192.0.2.11".to_owned()],
            since: Timestamp::UNIX_EPOCH,
            reason: None,
            by: Some("alice".to_owned()),
            until: None,
            cached_ms: None,
            families: BTreeMap::new(),
            sets: BTreeMap::new(),
            local: false,
            held: None,
        };
        let json = serde_json::to_value(node).unwrap();
        let expected = serde_json::json!({
            "name": "node1", "ipv4": "192.0.2.11", "ipv6": null, "admin": "auto", "health": "up",
            "effective": "up", "answers": ["192.0.2.11"], "since": "1970-01-01T00:00:00Z", "reason": null,
            "by": "alice", "until": null, "cached_ms": null, "local": false, "held": null,
        });
        assert_eq!(json, expected);
    }
}
