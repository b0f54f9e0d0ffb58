//! What the probes find: the clock guard, the pace of the next attempts, and what is told and counted of a result.
use std::collections::BTreeMap;
use std::time::Duration;

use super::input::{Effect, Record};
use super::{Core, occurrences};
use crate::health::{CLEAN_ROUNDS, Observation, Pace, ProbeId, Target};

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
        self.blinded(was_blind);
    }

    /// The machine was stopped, and its clock with it, so nothing looks late. What was under way is worthless all the same:
    /// attempts, and the session with the store, whose lease ran out while the machine stood still.
    pub(super) fn was_stopped(&mut self, stopped: Duration) {
        let was_blind = self.health.blind().is_some();
        let reason = format!("this machine was stopped for {} s", stopped.as_secs());
        self.health.blindness().go_blind(self.now.elapsed, reason.clone());
        self.blinded(was_blind);
        if self.shared.is_some() {
            self.store_lost(&reason);
            self.effects.push(Effect::RenewSession);
        }
    }

    /// Tells that nobody is judged from now on, and probes everybody anew.
    fn blinded(&mut self, was_blind: bool) {
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
        if let Some(transition) = change.transition {
            self.probing.transitions += 1;
            self.effects.push(Effect::Record(Record::Turned(probe.subject.clone(), transition.to)));
            self.repair_timer.turned(&probe.subject, transition, at);
            let standing = &self.health.standings()[&probe.subject];
            for occurrence in occurrences::transition(&probe.subject, transition, standing) {
                self.emit(occurrence);
            }
        }
        if was_blind && self.health.blind().is_none() {
            self.emit(occurrences::seeing());
        }
        self.pace(probe);
        if change.decisive {
            self.decide_and_publish();
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
        if let Some(verdict) = self.health.verdicts().get(probe) {
            let pace = verdict.pace(fast);
            self.give(probe.clone(), pace);
        }
    }

    fn pace_all(&mut self) {
        let fast = self.health.probes_fast();
        self.probing.fast = fast;
        let paces: Vec<(ProbeId, Pace)> = self
            .health
            .verdicts()
            .iter()
            .map(|(probe, verdict)| (probe.clone(), verdict.pace(fast)))
            .collect();
        for (probe, pace) in paces {
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
