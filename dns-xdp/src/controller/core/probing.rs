//! Takes probe results: the clock guard, the pace of the next attempts, and the events and counters of a result.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::input::{Effect, Record};
use super::state::{Change, in_family};
use super::{Core, occurrences};
use crate::health::{CLEAN_ROUNDS, Health, Observation, Pace, ProbeId, Subject, Target};

/// The probes that the shell was last asked for.
#[derive(Debug, Default)]
pub(super) struct Probing {
    targets: BTreeMap<ProbeId, Target>,
    paces: BTreeMap<ProbeId, Pace>,
    /// The identifiers of each node's probes.
    by_node: BTreeMap<String, Vec<ProbeId>>,
    /// The nodes in doubt, whose probes are made fast.
    fast: BTreeSet<String>,
    /// Probes that were asked for an immediate attempt and have no report yet.
    asked: BTreeSet<ProbeId>,
    /// The number of results taken.
    pub(super) results: u64,
    /// The number of changes of health.
    pub(super) transitions: u64,
}

impl Core {
    /// Takes a pulse. If the core was held up, or a defect ended a probe, this server is blind for a while: it judges
    /// no node.
    pub(super) fn pulse(&mut self, ended: &[ProbeId]) {
        let (now, was_blind) = (self.now.elapsed, self.health.blind().is_some());
        let slipped = self.health.clock_guard().pulse(now);
        if was_blind && self.health.blind().is_none() {
            // A slow probe is not judged yet, and delays no other probe.
            self.see_again();
        }
        if !ended.is_empty() {
            let ended: Vec<String> = ended.iter().map(|probe| probe.subject.to_string()).collect();
            let reason = format!("a defect of dns-xdp ended the probing of {}", ended.join(", "));
            self.health.clock_guard().go_blind(now, reason);
        } else if !slipped {
            return;
        }
        self.blinded(was_blind);
    }

    /// Notes that the machine was stopped. Its clock stood still, so nothing looks late. All work under way is invalid
    /// nevertheless: the attempts, and the session with the store, whose lease ended meanwhile.
    pub(super) fn was_stopped(&mut self, stopped: Duration) {
        let was_blind = self.health.blind().is_some();
        let reason = format!("this machine was stopped for {} s", stopped.as_secs());
        self.health.clock_guard().go_blind(self.now.elapsed, reason.clone());
        self.blinded(was_blind);
        if self.shared.is_some() {
            self.store_lost(&reason);
            self.effects.push(Effect::RenewSession);
        }
    }

    /// Reports that this server is blind, and restarts every probe.
    fn blinded(&mut self, was_blind: bool) {
        let reason = self.health.blind().unwrap_or_default();
        let reason =
            format!("no probe is judged before it has {CLEAN_ROUNDS} results without a slip: {reason}");
        if was_blind {
            self.effects.push(Effect::Warn(format!("still blind: {reason}")));
        } else {
            self.emit(occurrences::blind(&reason));
        }
        self.effects.push(Effect::RestartProbes);
        self.probing.paces.clear();
        self.probing.asked.clear();
        self.pace_all();
        // The other servers must not use this server's earlier verdicts.
        self.write_own();
    }

    /// Takes the result of a probe, and decides again if it matters.
    pub(super) fn probed(&mut self, probe: &ProbeId, at: Duration, observation: &Observation) {
        let was_blind = self.health.blind().is_some();
        let Some(change) = self.health.observe(probe, at, observation) else { return };
        self.probing.results += 1;
        if let Some(target) = self.health.targets().get(probe) {
            let (subject, kind) = (probe.subject.clone(), target.probe.kind.text());
            let observation = observation.clone();
            self.effects.push(Effect::Record(Record::Probed { subject, kind, observation }));
        }
        self.turned(&probe.subject, &change, at);
        if was_blind && self.health.blind().is_none() {
            self.see_again();
        }
        self.pace(probe);
        for other in self.health.to_ask(probe, &self.probing.asked) {
            self.ask_at_once(other);
        }
        if change.decisive {
            self.decide_and_publish();
        }
    }

    /// Counts and reports changes of health. A change of one family that does not change the subject's health is
    /// reported for that family.
    fn turned(&mut self, subject: &Subject, change: &Change, at: Duration) {
        let families = change.families.iter().map(|(family, transition)| (Some(*family), *transition));
        let whole = change.transition.map(|transition| (None, transition));
        let is_told_apart = self.health.told_apart(subject).is_some();
        for (family, transition) in whole.into_iter().chain(families) {
            if family.is_none() {
                self.probing.transitions += 1;
            }
            self.effects.push(Effect::Record(Record::Turned(subject.clone(), family, transition.to)));
            if family.is_some() == is_told_apart {
                self.repair_timer.turned((subject, family), transition, at);
            }
            let subject_health = &self.health.health_by_subject()[subject];
            let told = match family.zip(self.health.in_families(subject)) {
                None => occurrences::transition(subject, transition, subject_health),
                // At the start, the second family confirms a result that was already reported for the first.
                Some(_) if transition.from == Health::Unknown && transition.to == subject_health.health => {
                    Vec::new()
                }
                Some((family, both)) if change.transition.is_none() => {
                    occurrences::transition(&in_family(subject, family), transition, both.of(family))
                }
                Some(_) => Vec::new(),
            };
            for occurrence in told {
                self.emit(occurrence);
            }
        }
    }

    fn see_again(&mut self) {
        self.emit(occurrences::seeing());
        self.write_own();
    }

    /// Makes a probe start its next attempt now. After the report of this attempt, the usual pace applies.
    fn ask_at_once(&mut self, probe: ProbeId) {
        if let Some(pace) = self.health.pace(&probe) {
            self.probing.asked.insert(probe.clone());
            self.give(probe, Pace { delay: Duration::ZERO, ..pace });
        }
    }

    /// Asks the shell for the probes that are needed, and no others.
    pub(super) fn reconcile_probes(&mut self) {
        let targets = self.health.targets();
        if self.probing.targets != *targets {
            let before = std::mem::replace(&mut self.probing.targets, targets.clone());
            let same = |probe: &ProbeId| before.get(probe) == targets.get(probe);
            self.probing.paces.retain(|probe, _| same(probe));
            self.probing.asked.retain(same);
            self.probing.by_node.clear();
            for probe in targets.keys() {
                if let Some(node) = probe.subject.node() {
                    self.probing.by_node.entry(node.to_owned()).or_default().push(probe.clone());
                }
            }
            self.effects.push(Effect::Probe(targets.clone()));
        }
        self.pace_all();
    }

    /// Sets the pace of a probe that has reported. If its node's doubt begins or ends, sets the pace of the node's
    /// other probes too.
    fn pace(&mut self, probe: &ProbeId) {
        self.probing.asked.remove(probe);
        self.pace_one(probe);
        let Some(node) = probe.subject.node() else { return };
        let is_fast = self.health.is_in_doubt(node);
        if is_fast == self.probing.fast.contains(node) && probe.family.is_none() {
            return;
        }
        if is_fast {
            self.probing.fast.insert(node.to_owned());
        } else {
            self.probing.fast.remove(node);
        }
        for other in self.probing.by_node.get(node).cloned().unwrap_or_default() {
            self.pace_one(&other);
        }
    }

    fn pace_all(&mut self) {
        let nodes = self.probing.by_node.keys();
        self.probing.fast = nodes.filter(|node| self.health.is_in_doubt(node)).cloned().collect();
        let probes: Vec<ProbeId> = self.health.verdicts().keys().cloned().collect();
        for probe in probes {
            self.pace_one(&probe);
        }
    }

    fn pace_one(&mut self, probe: &ProbeId) {
        let pace = self.health.pace(probe).filter(|_| !self.probing.asked.contains(probe));
        if let Some(pace) = pace {
            self.give(probe.clone(), pace);
        }
    }

    fn give(&mut self, probe: ProbeId, pace: Pace) {
        if self.probing.paces.get(&probe) != Some(&pace) {
            self.probing.paces.insert(probe.clone(), pace);
            self.effects.push(Effect::Pace(probe, pace));
        }
    }
}
