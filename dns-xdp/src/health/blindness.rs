//! The guard against our own blindness: whoever was held up cannot tell who is dead. Pure.
use std::collections::BTreeSet;
use std::time::Duration;

use super::ProbeId;
use crate::cluster::Probe;

/// Rounds in which every probe had a result and no time slipped, before judging goes on.
pub const CLEAN_ROUNDS: u32 = 2;
/// Being held up for less than this is what schedulers do.
const LEAST_SLIP: Duration = Duration::from_millis(200);

/// Watches the rhythm of the loop that judges. Times are durations since an origin that the caller chooses.
///
/// A virtual machine that is paused, or a CPU starved by the very flood that is answered, lets every probe time out at
/// once. From such a slip on judging stops: what the probes say counts for nothing but their round.
#[derive(Debug, Clone)]
pub struct Blindness {
    limit: Duration,
    last: Option<Duration>,
    blind: Option<Blind>,
}

#[derive(Debug, Clone)]
struct Blind {
    reason: String,
    since: Duration,
    rounds_left: u32,
    heard: BTreeSet<ProbeId>,
}

impl Blindness {
    /// Sees well. A slip as long as the shortest timeout of the probes can have made one of them fail.
    pub fn new<'a>(probes: impl IntoIterator<Item = &'a Probe>) -> Self {
        let shortest = probes.into_iter().map(|probe| probe.timeout).min().unwrap_or_default();
        Blindness { limit: shortest.max(LEAST_SLIP), last: None, blind: None }
    }

    /// Takes the limit of another one. Of the round under way only the probes that are `kept` still count.
    pub fn adopt(&mut self, other: &Blindness, kept: impl Fn(&ProbeId) -> bool) {
        self.limit = other.limit;
        if let Some(blind) = &mut self.blind {
            blind.heard.retain(kept);
        }
    }

    /// The loop runs, as it is to do several times within the shortest timeout. `true`: it was held up before, and
    /// every attempt under way is worthless.
    pub fn pulse(&mut self, now: Duration) -> bool {
        let gap = self.last.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        self.last = Some(now);
        let slipped = gap >= self.limit;
        if slipped {
            self.go_blind(now, format!("this server was held up for {} ms", gap.as_millis()));
        }
        slipped
    }

    /// Something else made us blind.
    pub fn go_blind(&mut self, now: Duration, reason: String) {
        let since = self.blind.as_ref().map_or(now, |blind| blind.since);
        self.blind = Some(Blind { reason, since, rounds_left: CLEAN_ROUNDS, heard: BTreeSet::new() });
    }

    /// A probe has a result while blind; `all`: how many probes there are.
    pub fn hear(&mut self, probe: &ProbeId, all: usize) {
        let Some(blind) = &mut self.blind else {
            return;
        };
        blind.heard.insert(probe.clone());
        if blind.heard.len() >= all {
            blind.heard.clear();
            blind.rounds_left -= 1;
            if blind.rounds_left == 0 {
                self.blind = None;
            }
        }
    }

    /// Why judging has stopped; `None`: it has not.
    pub fn reason(&self) -> Option<&str> {
        self.blind.as_ref().map(|blind| blind.reason.as_str())
    }

    /// Since when it has stopped.
    pub fn since(&self) -> Option<Duration> {
        self.blind.as_ref().map(|blind| blind.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PROBE;
    use crate::health::Subject;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn probe(node: &str) -> ProbeId {
        ProbeId::first(Subject::Node(node.to_owned()))
    }

    #[test]
    fn a_steady_rhythm_is_never_blind() {
        let mut guard = Blindness::new([&PROBE]);
        for tick in 0..100 {
            assert!(!guard.pulse(at(tick * 499)));
        }
        assert_eq!(guard.reason(), None);
    }

    #[test]
    fn a_slip_stops_the_judging_until_two_clean_rounds_have_passed() {
        let mut guard = Blindness::new([&PROBE]);
        guard.pulse(at(0));
        assert!(guard.pulse(at(10_000)));
        assert_eq!(guard.reason(), Some("this server was held up for 10000 ms"));
        let round = |guard: &mut Blindness| {
            for node in ["node1", "node1", "node2"] {
                assert!(guard.reason().is_some(), "{node}");
                guard.hear(&probe(node), 2);
            }
        };
        round(&mut guard);
        round(&mut guard);
        assert_eq!((guard.reason(), guard.since()), (None, None));
    }

    #[test]
    fn another_slip_begins_the_rounds_anew() {
        let mut guard = Blindness::new([&PROBE]);
        guard.pulse(at(0));
        guard.pulse(at(1000));
        guard.hear(&probe("node1"), 1);
        assert!(guard.pulse(at(2000)));
        guard.hear(&probe("node1"), 1);
        assert_eq!(guard.since(), Some(at(1000)));
        guard.hear(&probe("node1"), 1);
        assert_eq!(guard.reason(), None);
    }

    #[test]
    fn the_limit_is_the_shortest_timeout_and_no_less_than_a_schedulers_whim() {
        for (timeout, steady, slip) in [(500, 499, 500), (1, 199, 200)] {
            let probe = Probe { timeout: at(timeout), ..PROBE };
            let mut guard = Blindness::new([&PROBE, &probe]);
            guard.pulse(at(0));
            assert!(!guard.pulse(at(steady)) && guard.pulse(at(steady + slip)), "{timeout}");
        }
    }
}
