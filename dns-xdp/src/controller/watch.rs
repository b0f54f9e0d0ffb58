//! The probes and the state that they feed.
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::event;
use super::state::State;
use crate::health::{Prober, Report};

/// Reports that wait for the loop; the probes then wait too.
const REPORTS: usize = 256;

/// The state, the probes that tell it of the nodes, and the origin of their clock.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) state: State,
    /// The same moment as the reports' zero.
    pub(super) started: Timestamp,
    pub(super) probes: u64,
    pub(super) transitions: u64,
    prober: Prober,
    reports: mpsc::Receiver<Report>,
}

impl Watch {
    /// Probes everyone from now on. Needs a tokio runtime.
    pub(super) fn new(state: State) -> Self {
        let (sender, reports) = mpsc::channel(REPORTS);
        let mut prober = Prober::new(Instant::now(), sender);
        prober.reconcile(state.targets());
        Watch { state, started: Timestamp::now(), probes: 0, transitions: 0, prober, reports }
    }

    /// The next report that is up to date. Cancel safe.
    pub(super) async fn next(&mut self) -> Report {
        loop {
            match self.reports.recv().await {
                Some(report) if self.prober.is_current(&report) => return report,
                Some(_) => {}
                None => unreachable!("the prober keeps a sender"),
            }
        }
    }

    /// Takes a report in. `true`: it is time to decide anew.
    pub(super) fn observe(&mut self, report: &Report) -> bool {
        let decisive = self.judge(report);
        self.prober.pace(self.state.verdicts());
        self.prober.heard(report);
        decisive
    }

    fn judge(&mut self, report: &Report) -> bool {
        let Report { probe, at, observation, .. } = report;
        let Some(change) = self.state.observe(probe, *at, observation) else {
            return false;
        };
        self.probes += 1;
        if let Some(transition) = change.transition {
            self.transitions += 1;
            event::transition(&probe.subject, transition, &self.state.standings()[&probe.subject]).log();
        }
        change.decisive
    }

    /// Replaces the state; who is new in it is probed at once.
    pub(super) fn replace(&mut self, state: State) {
        self.state = state;
        self.prober.reconcile(self.state.targets());
        self.prober.pace(self.state.verdicts());
    }
}
