//! The probes and the state that they feed.
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::event;
use super::events::Events;
use super::repair::Falls;
use super::state::State;
use crate::health::{CLEAN_ROUNDS, Prober, Report};
use crate::metrics::Recorder;

/// Reports that wait for the loop; the probes then wait too.
const REPORTS: usize = 256;
/// How often the guard against our own blindness looks at the clock.
const PULSE: Duration = Duration::from_millis(100);

/// The state, the probes that tell it of the nodes, and the origin of their clock.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) state: State,
    pub(super) probes: u64,
    pub(super) transitions: u64,
    events: Events,
    recorder: Recorder,
    falls: Falls,
    origin: Instant,
    pulse: Interval,
    prober: Prober,
    reports: mpsc::Receiver<Report>,
}

impl Watch {
    /// Probes everyone from now on. Needs a tokio runtime.
    pub(super) fn new(state: State, events: Events, recorder: Recorder) -> Self {
        let (sender, reports) = mpsc::channel(REPORTS);
        let origin = Instant::now();
        let mut prober = Prober::new(origin, sender);
        let mut pulse = tokio::time::interval(PULSE);
        pulse.set_missed_tick_behavior(MissedTickBehavior::Delay);
        prober.reconcile(state.targets());
        recorder.attend(state.targets());
        let falls = Falls::default();
        Watch { state, probes: 0, transitions: 0, events, recorder, falls, origin, pulse, prober, reports }
    }

    /// Since the reports' zero.
    pub(super) fn uptime(&self) -> Duration {
        self.origin.elapsed()
    }

    /// The next report that is up to date. Cancel safe.
    pub(super) async fn next(&mut self) -> Report {
        loop {
            let report = tokio::select! {
                report = self.reports.recv() => report,
                _ = self.pulse.tick() => {
                    self.look_at_ourselves();
                    continue;
                }
            };
            // Before anything is believed that was found out while we were held up.
            self.look_at_ourselves();
            match report {
                Some(report) if self.prober.is_current(&report) => return report,
                Some(_) => {}
                None => unreachable!("the prober keeps a sender"),
            }
        }
    }

    fn look_at_ourselves(&mut self) {
        let (now, blind) = (self.origin.elapsed(), self.state.blind().is_some());
        let ended: Vec<String> = self.prober.ended().iter().map(|probe| probe.subject.to_string()).collect();
        let slipped = self.state.blindness().pulse(now);
        if !ended.is_empty() {
            let reason = format!("a defect of dns-xdp ended the probing of {}", ended.join(", "));
            self.state.blindness().go_blind(now, reason);
        }
        if slipped || !ended.is_empty() {
            let reason = self.state.blind().unwrap_or_default();
            let reason = format!("nobody is judged for {CLEAN_ROUNDS} clean rounds of probes: {reason}");
            if blind {
                tracing::warn!("still blind: {reason}");
            } else {
                self.events.tell(event::blind(&reason));
            }
            self.prober.restart();
            self.pace();
        }
    }

    /// Takes a report in. `true`: it is time to decide anew.
    pub(super) fn observe(&mut self, report: &Report) -> bool {
        let blind = self.state.blind().is_some();
        let decisive = self.judge(report);
        if blind && self.state.blind().is_none() {
            self.events.tell(event::seeing());
        }
        self.pace();
        self.prober.heard(report);
        decisive
    }

    fn judge(&mut self, report: &Report) -> bool {
        let Report { probe, at, observation, .. } = report;
        let Some(change) = self.state.observe(probe, *at, observation) else {
            return false;
        };
        self.probes += 1;
        if let Some(target) = self.state.targets().get(probe) {
            self.recorder.probed(&probe.subject, target.probe.kind.text(), observation);
        }
        if let Some(transition) = change.transition {
            self.transitions += 1;
            self.recorder.turned(&probe.subject, transition.to);
            self.falls.turned(&probe.subject, transition, *at);
            let standing = &self.state.standings()[&probe.subject];
            let told = event::transition(&probe.subject, transition, standing);
            told.into_iter().for_each(|what| self.events.tell(what));
        }
        change.decisive
    }

    /// The answers follow the verdicts; `moved`: names have gone from somebody who is out to another.
    pub(super) fn answered(&mut self, moved: bool) {
        let repairs = self.falls.answered(self.origin.elapsed());
        repairs.into_iter().filter(|_| moved).for_each(|repair| self.recorder.repaired(repair));
    }

    fn pace(&self) {
        self.prober.pace(self.state.verdicts(), self.state.blind().is_some());
    }

    /// Replaces the state; who is new in it is probed at once.
    pub(super) fn replace(&mut self, state: State) {
        self.state = state;
        self.prober.reconcile(self.state.targets());
        self.recorder.attend(self.state.targets());
        self.pace();
    }
}
