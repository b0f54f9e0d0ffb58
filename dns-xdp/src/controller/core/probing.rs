//! What the probes find: the clock guard, the pace of the next attempts, and what is told and counted of a result.
use std::collections::BTreeMap;
use std::time::Duration;

use super::input::{Effect, Record};
use super::state::{Change, in_family};
use super::{Core, occurrences};
use crate::health::{CLEAN_ROUNDS, Health, Observation, Pace, ProbeId, Subject, Target};

/// The probes as they were asked for last.
#[derive(Debug, Default)]
pub(super) struct Probing {
    targets: BTreeMap<ProbeId, Target>,
    paces: BTreeMap<ProbeId, Pace>,
    /// Everybody is probed fast.
    fast: bool,
    /// Results taken in.
    pub(super) results: u64,
    /// Changes of health.
    pub(super) transitions: u64,
}

impl Core {
    /// The core runs. Where it was held up, or a probe has ended by a defect, nobody is judged for a while.
    pub(super) fn pulse(&mut self, ended: &[ProbeId]) {
        let (now, was_blind) = (self.now.elapsed, self.health.blind().is_some());
        let slipped = self.health.blindness().pulse(now);
        if !ended.is_empty() {
            let ended: Vec<String> = ended.iter().map(|probe| probe.subject.to_string()).collect();
            let reason = format!("a defect of dns-xdp ended the probing of {}", ended.join(", "));
            self.health.blindness().go_blind(now, reason);
        } else if !slipped {
            return;
        }
        let reason = self.health.blind().unwrap_or_default();
        let reason = format!("nobody is judged for {CLEAN_ROUNDS} clean rounds of probes: {reason}");
        if was_blind {
            self.effects.push(Effect::Warn(format!("still blind: {reason}")));
        } else {
            self.emit(occurrences::blind(&reason));
        }
        self.effects.push(Effect::RestartProbes);
        self.probing.paces.clear();
        self.pace_all();
        // The other servers must not go by what this server found before.
        self.write_own();
    }

    /// Takes the result of a probe in, and decides anew where that follows.
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
            self.emit(occurrences::seeing());
        }
        self.pace(probe);
        if change.decisive {
            self.decide_and_publish();
        }
    }

    /// Counts and tells changes of health. Where both families of a subject are probed, a change that does not change the
    /// subject as a whole is told of the family.
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
            let standing = &self.health.standings()[subject];
            let told = match family.zip(self.health.in_families(subject)) {
                None => occurrences::transition(subject, transition, standing),
                // At the start the second family finds what the first has told.
                Some(_) if transition.from == Health::Unknown && transition.to == standing.health => {
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

    /// Has those probed that are to be, and no others.
    pub(super) fn reconcile_probes(&mut self) {
        let targets = self.health.targets();
        if self.probing.targets != *targets {
            let before = std::mem::replace(&mut self.probing.targets, targets.clone());
            self.probing.paces.retain(|probe, _| before.get(probe) == targets.get(probe));
            self.effects.push(Effect::Probe(targets.clone()));
        }
        self.pace_all();
    }

    /// Gives a probe the pace that its verdict asks for, and everybody where somebody's doubt begins or ends.
    fn pace(&mut self, probe: &ProbeId) {
        let fast = self.health.probes_fast();
        if fast != self.probing.fast {
            return self.pace_all();
        }
        let probes: Vec<ProbeId> = match probe.family {
            None => vec![probe.clone()],
            // The other family may have to hurry.
            Some(_) => {
                let all = self.health.verdicts().range(ProbeId::all_of(&probe.subject));
                all.map(|(probe, _)| probe.clone()).collect()
            }
        };
        self.give_all(probes, fast);
    }

    fn pace_all(&mut self) {
        let fast = self.health.probes_fast();
        self.probing.fast = fast;
        self.give_all(self.health.verdicts().keys().cloned().collect(), fast);
    }

    fn give_all(&mut self, probes: Vec<ProbeId>, fast: bool) {
        for probe in probes {
            let Some(verdict) = self.health.verdicts().get(&probe) else { continue };
            let pace = verdict.pace(fast || self.health.is_beside_one_that_rises(&probe));
            self.give(probe, pace);
        }
    }

    fn give(&mut self, probe: ProbeId, pace: Pace) {
        if self.probing.paces.get(&probe) != Some(&pace) {
            self.probing.paces.insert(probe.clone(), pace);
            self.effects.push(Effect::Pace(probe, pace));
        }
    }
}
