//! Decides which probes are urgent: probes of a node in doubt, and probes that show whether this server is cut off.
use std::collections::BTreeSet;
use std::time::Duration;

use super::State;
use crate::cluster::Family;
use crate::health::{Pace, ProbeId, Subject};

/// The most probes that are made at once so that a quorum is heard, after a node's first failures. A lost packet is no
/// reason to probe a large cluster. [`ASKED`] is the limit if only one more failure is needed for the fall.
const ASKED_FIRST: usize = 8;
const ASKED: usize = 100;

impl State {
    /// Returns the time when a subject or one of its families began to fail: the time when the last of its probes began
    /// to fail.
    pub(super) fn failing_since(&self, subject: &Subject, family: Option<Family>) -> Option<Duration> {
        let speaks = |probe: &ProbeId| probe.family.is_none() || family.is_none() || probe.family == family;
        let probes = self.verdicts.range(ProbeId::all_of(subject)).filter(|(probe, _)| speaks(probe));
        probes.filter_map(|(_, verdict)| verdict.failing_since()).max()
    }

    /// Whether a probe of this node is in doubt. Then all probes of the node are made fast.
    pub(in crate::controller::core) fn is_in_doubt(&self, node: &str) -> bool {
        self.in_doubt.contains_key(node)
    }

    /// Whether a subject is out by its probes but stays in the answers until a quorum is heard.
    pub(in crate::controller::core) fn fall_waits(&self, subject: &Subject) -> bool {
        let both = || Family::ALL.into_iter().any(|family| self.fall_waits_in(subject, family));
        !self.is_joined() && (self.confirmation.holds(subject, None) || both())
    }

    /// Whether a subject is out in one family but stays in the answers until a quorum is heard.
    pub(in crate::controller::core) fn fall_waits_in(&self, subject: &Subject, family: Family) -> bool {
        !self.is_joined() && self.confirmation.holds(subject, Some(family))
    }

    /// Whether the next result of one of a subject's probes is discarded.
    pub(super) fn is_discarded(&self, subject: &Subject) -> bool {
        self.verdicts.range(ProbeId::all_of(subject)).any(|(probe, _)| self.clock_guard.discards(probe))
    }

    /// Whether some node is out by its probes but stays in the answers until a quorum is heard.
    pub(in crate::controller::core) fn falls_wait(&self) -> bool {
        !self.is_joined() && self.confirmation.wanted_since().is_some()
    }

    /// The pace of a probe's next attempt. A probe whose next result is discarded is not urgent.
    pub(in crate::controller::core) fn pace(&self, probe: &ProbeId) -> Option<Pace> {
        let verdict = self.verdicts.get(probe)?;
        if self.clock_guard.discards(probe) && verdict.serving().is_some() {
            return Some(verdict.unhurried());
        }
        let is_doubted = probe.subject.node().is_some_and(|node| self.is_in_doubt(node));
        Some(verdict.pace(is_doubted || self.is_beside_one_that_rises(probe)))
    }

    /// The probes to make at once after a report of this probe. If its subject may fall, or falls wait, a quorum has to
    /// be heard. `under_way`: probes that were asked for and have no report yet.
    pub(in crate::controller::core) fn to_ask(
        &self,
        probe: &ProbeId,
        under_way: &BTreeSet<ProbeId>,
    ) -> Vec<ProbeId> {
        if self.is_joined() {
            // The servers of a store confirm each other's findings.
            return Vec::new();
        }
        let is_node = probe.subject.node().is_some() && !self.clock_guard.discards(probe);
        let failing = self.verdicts.get(probe).filter(|_| is_node);
        let failing = failing.and_then(|verdict| verdict.failing_since().zip(verdict.failures_left()));
        let (since, most) = match (self.confirmation.wanted_since(), failing) {
            (Some(since), failing) => (failing.map_or(since, |(failing, _)| since.max(failing)), ASKED),
            (None, Some((since, left))) => (since, if left <= 1 { ASKED } else { ASKED_FIRST }),
            (None, None) => return Vec::new(),
        };
        let is_visible =
            |subject: &Subject| self.health_by_subject.get(subject).is_some_and(|known| known.visible);
        let eligible = |other: &ProbeId| {
            other.subject.node() != probe.subject.node()
                && self.targets.contains_key(other)
                && is_visible(&other.subject)
                && !under_way.contains(other)
        };
        self.confirmation.to_ask(since, under_way.len(), most, eligible)
    }
}
