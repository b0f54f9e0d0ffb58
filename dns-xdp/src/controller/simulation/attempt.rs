//! The probes of a simulated server, one by one.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::world::{Answer, Port};
use crate::cluster::Family;
use crate::health::schedule::Schedule;
use crate::health::{CLEAN_ROUNDS, Failure, Health, Observation, Pace, ProbeId, Subject, Target};

/// The results of each probe since a server was held up.
#[derive(Debug, Default)]
pub(super) struct HeldUp {
    heard: BTreeMap<ProbeId, u32>,
}

/// A probe, and what has come of it.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) probe: ProbeId,
    /// The host that is asked; `None`: the witness.
    pub(super) node: Option<usize>,
    pub(super) port: Port,
    /// Failures that counted since the verdict was plainly up.
    pub(super) failures: u32,
    /// How many attempts have been made.
    pub(super) made: u64,
    pub(super) schedule: Schedule,
    pub(super) pace: Pace,
    pub(super) target: Target,
    /// When the one under way ends, when it began, and what comes of it.
    pub(super) under_way: Option<(Duration, Duration, Answer)>,
}

impl HeldUp {
    /// Whether the next result of a probe is to be discarded.
    pub(super) fn discards(&self, probe: &ProbeId) -> bool {
        self.heard.get(probe).is_none_or(|heard| *heard < CLEAN_ROUNDS)
    }

    /// A probe has a result.
    pub(super) fn note_result(&mut self, probe: &ProbeId) {
        *self.heard.entry(probe.clone()).or_default() += 1;
    }

    /// Forgets the probes that are not kept.
    pub(super) fn retain(&mut self, kept: &BTreeSet<ProbeId>) {
        self.heard.retain(|probe, _| kept.contains(probe));
    }

    /// Whether all of them are judged again; `all`: how many there are.
    pub(super) fn is_over(&self, all: usize) -> bool {
        self.heard.values().filter(|heard| **heard >= CLEAN_ROUNDS).count() >= all
    }
}

impl Attempt {
    /// The family over which it is made.
    pub(super) fn family(&self) -> Family {
        Family::of(self.target.address)
    }

    /// Counts its failures, as far as they count.
    pub(super) fn note(&mut self, observation: &Observation, health: Health, held_up: bool) {
        if matches!(observation, Observation::Failure(_)) && !held_up {
            self.failures += 1;
        }
        if health == Health::Up {
            self.failures = 0;
        }
    }
}

/// The host of a subject; `None`: it is the witness.
pub(super) fn host(subject: &Subject) -> Option<usize> {
    match subject {
        Subject::Node(name) | Subject::Member { node: name, .. } => Some(number(name)),
        Subject::Witness(_) => None,
    }
}

/// `node1` lives on the first host.
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
