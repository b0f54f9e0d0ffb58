//! The probes of a simulated server.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::world::{Answer, Port};
use crate::cluster::Family;
use crate::health::schedule::Schedule;
use crate::health::{CLEAN_ROUNDS, Failure, Health, Observation, Pace, ProbeId, Subject, Target};

/// Counts each probe's results after its server was held up.
#[derive(Debug, Default)]
pub(super) struct HeldUp {
    heard: BTreeMap<ProbeId, u32>,
}

/// A probe and its attempts.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) probe: ProbeId,
    /// The host that is probed; `None`: the witness.
    pub(super) node: Option<usize>,
    pub(super) port: Port,
    /// The failures that counted since the verdict was last up.
    pub(super) failures: u32,
    /// The number of attempts made.
    pub(super) made: u64,
    pub(super) schedule: Schedule,
    pub(super) pace: Pace,
    pub(super) target: Target,
    /// The attempt under way: when it ends, when it began, and its result.
    pub(super) under_way: Option<(Duration, Duration, Answer)>,
}

impl HeldUp {
    /// Whether the next result of a probe has to be discarded.
    pub(super) fn discards(&self, probe: &ProbeId) -> bool {
        self.heard.get(probe).is_none_or(|heard| *heard < CLEAN_ROUNDS)
    }

    /// Counts a result of a probe.
    pub(super) fn note_result(&mut self, probe: &ProbeId) {
        *self.heard.entry(probe.clone()).or_default() += 1;
    }

    /// Forgets the probes that are not kept.
    pub(super) fn retain(&mut self, kept: &BTreeSet<ProbeId>) {
        self.heard.retain(|probe, _| kept.contains(probe));
    }

    /// Whether all probes are judged again; `all`: their number.
    pub(super) fn is_over(&self, all: usize) -> bool {
        self.heard.values().filter(|heard| **heard >= CLEAN_ROUNDS).count() >= all
    }
}

impl Attempt {
    /// The family of the probed address.
    pub(super) fn family(&self) -> Family {
        Family::of(self.target.address)
    }

    /// Counts the probe's failures.
    pub(super) fn note(&mut self, observation: &Observation, health: Health, held_up: bool) {
        if matches!(observation, Observation::Failure(_)) && !held_up {
            self.failures += 1;
        }
        if health == Health::Up {
            self.failures = 0;
        }
    }
}

/// The host of a subject; `None`: the subject is the witness.
pub(super) fn host(subject: &Subject) -> Option<usize> {
    match subject {
        Subject::Node(name) | Subject::Member { node: name, .. } => Some(number(name)),
        Subject::Witness(_) => None,
    }
}

/// Returns the number of a node's host: `node1` runs on the first host.
pub(super) fn number(node: &str) -> usize {
    let number: usize = node["node".len()..].parse().expect("a node's name has a number");
    number - 1
}

pub(super) fn observation(answer: Answer, round_trip: Duration) -> Observation {
    let failure =
        |reason: &str, visible| Observation::Failure(Failure { reason: reason.to_owned(), visible });
    match answer {
        Answer::Accepted => Observation::Success { round_trip },
        Answer::Refused => failure("refused", true),
        Answer::Silence => failure("timeout", false),
    }
}
