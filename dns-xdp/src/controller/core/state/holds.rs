//! The nodes that are held, and how long each of them has been healthy.
use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::{Admin, Node};
use crate::config::{Failback, Failover};
use crate::failover::{Falls, NodeState};
use crate::intent::{Hold, Holds, Intents};

/// The holds that count here, and the falls that lead to new ones.
#[derive(Debug, Clone, Default)]
pub(in crate::controller) struct HeldNodes {
    holds: Holds,
    pub(super) falls: Falls,
    /// Since when each held node has been healthy without interruption, as a time after the origin.
    healthy_since: BTreeMap<String, Duration>,
}

impl HeldNodes {
    /// Starts with the holds that are kept beside the intents.
    pub(super) fn new(holds: Holds) -> Self {
        HeldNodes { holds, ..HeldNodes::default() }
    }

    pub(super) fn contains(&self, node: &str) -> bool {
        self.holds.contains_key(node)
    }

    /// The holds that count.
    pub(in crate::controller) fn holds(&self) -> &Holds {
        &self.holds
    }

    /// Replaces the holds. The healthy time of a newly held node begins now.
    pub(in crate::controller) fn set(&mut self, holds: Holds) {
        self.healthy_since.retain(|node, _| holds.get(node) == self.holds.get(node));
        self.holds = holds;
    }

    /// Holds a node, unless it is held.
    pub(in crate::controller) fn hold(&mut self, node: &str, hold: Hold) {
        self.holds.entry(node.to_owned()).or_insert(hold);
    }

    /// Ends the hold of a node. Returns the hold.
    pub(in crate::controller) fn release(&mut self, node: &str) -> Option<Hold> {
        self.healthy_since.remove(node);
        self.holds.remove(node)
    }

    /// Ends the holds of nodes that operators want up.
    pub(super) fn release_wanted(&mut self, intents: &Intents) {
        let is_wanted = |node: &String| intents.get(node).is_some_and(|intent| intent.admin == Admin::Up);
        self.holds.retain(|node, _| !is_wanted(node));
        self.healthy_since.retain(|node, _| !is_wanted(node));
    }

    /// Drops the health times of all nodes but these. Holds stay, like intents: the file may have the nodes again.
    pub(super) fn retain(&mut self, nodes: &[Node]) {
        let is_known = |name: &str| nodes.iter().any(|node| node.name == name && node.is_probed());
        self.healthy_since.retain(|node, _| is_known(node));
        self.falls.retain(is_known);
    }

    /// Notes which held nodes are healthy at this time after the origin; `None`: this is not known, and their times
    /// begin again.
    pub(super) fn note_health(&mut self, now: Duration, states: Option<(&[Node], &[NodeState])>) {
        let Some((nodes, states)) = states else { return self.healthy_since.clear() };
        for (node, state) in nodes.iter().zip(states) {
            if !self.holds.contains_key(&node.name) {
                continue;
            }
            if state.serving == Some(true) {
                self.healthy_since.entry(node.name.clone()).or_insert(now);
            } else {
                self.healthy_since.remove(&node.name);
            }
        }
    }

    /// How long it takes until a node comes back, if it stays healthy; `None`: it is not healthy, or only an operator
    /// ends its hold.
    pub(in crate::controller) fn left(
        &self,
        node: &str,
        rules: &Failover,
        now: Duration,
    ) -> Option<Duration> {
        let since = self.healthy_since.get(node).filter(|_| rules.failback == Failback::Auto)?;
        Some((*since + rules.hold_down).saturating_sub(now))
    }

    /// The held nodes that have been healthy for long enough.
    pub(in crate::controller) fn over(&self, rules: &Failover, now: Duration) -> Vec<String> {
        let is_over = |node: &&String| self.left(node, rules, now).is_some_and(|left| left.is_zero());
        self.holds.keys().filter(is_over).cloned().collect()
    }
}
