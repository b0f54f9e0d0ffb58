//! Decides whether a node that seems dead is dead, or this server is cut off. This module is pure.
//!
//! A node falls only when a quorum of nodes and witnesses was heard after the node began to fail. Until then its fall
//! waits. A server that is cut off no longer hears a quorum. It therefore freezes before a node falls.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use crate::cluster::Family;
use crate::health::{ProbeId, Subject};

/// A node or witness that counts for the quorum.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Voter {
    Node(String),
    Witness(IpAddr),
}

impl Voter {
    fn of(subject: &Subject) -> Voter {
        match subject {
            Subject::Node(node) | Subject::Member { node, .. } => Voter::Node(node.clone()),
            Subject::Witness(address) => Voter::Witness(*address),
        }
    }
}

/// The times when nodes and witnesses were last heard, and the falls that wait. The times come from the reports.
#[derive(Debug, Clone, Default)]
pub(super) struct Confirmation {
    /// How many nodes and witnesses a quorum has.
    needed: usize,
    /// The time when each voter was last heard, and the probe that heard it.
    last: BTreeMap<Voter, (Duration, ProbeId)>,
    /// The `needed` voters that were heard last.
    newest: BTreeSet<(Duration, Voter)>,
    /// The other voters.
    older: BTreeSet<(Duration, Voter)>,
    /// Subjects, or families of subjects, whose fall waits. Each has the time when it began to fail.
    waiting: BTreeMap<(Subject, Option<Family>), Duration>,
    /// The earliest of these times.
    first_waiting: Option<Duration>,
}

impl Confirmation {
    /// Takes over the times when the `kept` subjects were heard. A subject counts for the quorum if it `is_voter`. It
    /// takes over no waiting fall, because the new configuration decides which subjects are out.
    pub(super) fn adopt(
        &mut self,
        before: Confirmation,
        needed: usize,
        is_voter: impl Fn(&Subject) -> bool,
        kept: impl Fn(&Subject) -> bool,
    ) {
        *self = Confirmation { needed, ..Confirmation::default() };
        let counts = |probe: &ProbeId| is_voter(&probe.subject) && kept(&probe.subject);
        for (at, probe) in before.last.into_values().filter(|(_, probe)| counts(probe)) {
            self.note(&probe, at);
        }
    }

    /// Takes the result of a probe that heard a host at `at`, or that does not contradict the last answer. Returns
    /// whether a waiting fall counts now.
    pub(super) fn note_result(&mut self, probe: &ProbeId, at: Duration) -> bool {
        self.note(probe, at);
        let Some(since) = self.quorum_since() else { return false };
        if self.first_waiting.is_none_or(|first| first > since) {
            return false;
        }
        self.waiting.retain(|_, failing_since| *failing_since > since);
        self.first_waiting = self.waiting.values().min().copied();
        true
    }

    fn note(&mut self, probe: &ProbeId, at: Duration) {
        let voter = Voter::of(&probe.subject);
        let before = self.last.get(&voter).map(|(at, _)| *at);
        let at = before.map_or(at, |before| before.max(at));
        if let Some(before) = before {
            let place = (before, voter.clone());
            if !self.newest.remove(&place) {
                self.older.remove(&place);
            }
        }
        self.newest.insert((at, voter.clone()));
        if self.newest.len() > self.needed {
            self.older.extend(self.newest.pop_first());
        }
        self.last.insert(voter, (at, probe.clone()));
    }

    /// The latest time since which a whole quorum was heard; `None`: it never was.
    fn quorum_since(&self) -> Option<Duration> {
        if self.needed == 0 {
            return Some(Duration::MAX);
        }
        self.newest.first().filter(|_| self.newest.len() >= self.needed).map(|(at, _)| *at)
    }

    /// Notes that a subject's probes have failed since `failing_since`. Its fall waits until a quorum is heard.
    pub(super) fn fell(&mut self, subject: &Subject, family: Option<Family>, failing_since: Duration) {
        if self.quorum_since().is_none_or(|heard| heard < failing_since) {
            self.waiting.insert((subject.clone(), family), failing_since);
            self.first_waiting = self.waiting.values().min().copied();
        }
    }

    /// Notes that a subject no longer fails.
    pub(super) fn rose(&mut self, subject: &Subject, family: Option<Family>) {
        if self.waiting.remove(&(subject.clone(), family)).is_some() {
            self.first_waiting = self.waiting.values().min().copied();
        }
    }

    /// Whether the fall of a subject waits.
    pub(super) fn holds(&self, subject: &Subject, family: Option<Family>) -> bool {
        !self.waiting.is_empty() && self.waiting.contains_key(&(subject.clone(), family))
    }

    /// The time since which a quorum has to be heard for every waiting fall to count; `None`: no fall waits.
    pub(super) fn wanted_since(&self) -> Option<Duration> {
        self.waiting.values().max().copied()
    }

    /// Chooses a limited number of the `eligible` probes to make at once, so that a quorum is heard soon. Nodes heard
    /// most recently come first, because their own next probe is the furthest away.
    pub(super) fn to_ask(
        &self,
        since: Duration,
        under_way: usize,
        most: usize,
        eligible: impl Fn(&ProbeId) -> bool,
    ) -> Vec<ProbeId> {
        let earlier = |(at, _): &&(Duration, Voter)| *at < since;
        let heard = self.newest.iter().rev().take_while(|(at, _)| *at >= since).count();
        let missing = self.needed.saturating_sub(heard + under_way).min(most);
        if missing == 0 {
            return Vec::new();
        }
        let others = self.newest.iter().rev().skip(heard).chain(self.older.iter().rev().filter(earlier));
        let probes = others.filter_map(|(_, voter)| self.last.get(voter)).map(|(_, probe)| probe);
        probes.filter(|probe| eligible(probe)).take(missing).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn node(number: usize) -> ProbeId {
        ProbeId::first(Subject::Node(format!("node{number}")))
    }

    /// Five nodes, heard at 1, 2, 3, 4 and 5 ms.
    fn five() -> Confirmation {
        let mut confirmation = Confirmation { needed: 3, ..Confirmation::default() };
        for number in 1..=5 {
            confirmation.note_result(&node(number), at(number as u64));
        }
        confirmation
    }

    #[test]
    fn a_fall_waits_until_a_quorum_was_heard_since_the_node_failed() {
        let mut confirmation = five();
        let dead = node(5).subject;
        confirmation.fell(&dead, None, at(3));
        assert!(!confirmation.holds(&dead, None), "three were heard since");
        confirmation.fell(&dead, None, at(4));
        assert!(confirmation.holds(&dead, None), "two were heard since");
        assert!(!confirmation.note_result(&node(4), at(6)), "the same two");
        assert!(confirmation.note_result(&node(1), at(7)) && !confirmation.holds(&dead, None));
    }

    #[test]
    fn a_node_that_rises_waits_no_longer_and_one_that_is_gone_is_no_voter() {
        let mut confirmation = five();
        for number in [4, 5] {
            confirmation.fell(&node(number).subject, None, at(10));
        }
        confirmation.rose(&node(4).subject, None);
        assert_eq!(confirmation.wanted_since(), Some(at(10)));
        let mut next = Confirmation::default();
        next.adopt(confirmation, 2, |_| true, |subject| *subject != node(5).subject);
        assert_eq!((next.wanted_since(), next.quorum_since()), (None, Some(at(3))));
    }

    #[test]
    fn as_many_are_asked_as_are_missing_those_first_whose_turn_is_last() {
        let confirmation = five();
        let ask = |since: u64, under_way: usize, most: usize| {
            confirmation.to_ask(at(since), under_way, most, |probe| *probe != node(4))
        };
        assert_eq!(ask(5, 0, 10), [node(3), node(2)]);
        assert_eq!(ask(5, 1, 10), [node(3)]);
        assert_eq!(ask(6, 0, 1), [node(5)]);
        assert_eq!(ask(3, 0, 10), []);
    }
}
