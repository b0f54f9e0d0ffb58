//! Detects that this server was held up: it then cannot tell which nodes are dead, and is blind. This module is pure.
use std::collections::BTreeMap;
use std::time::Duration;

use super::ProbeId;
use crate::cluster::Probe;

/// The number of results of each probe that are discarded after a slip.
pub const CLEAN_ROUNDS: u32 = 2;
/// The shortest delay that counts as a slip: schedulers cause shorter delays.
const LEAST_SLIP: Duration = Duration::from_millis(200);
/// The bounds of the time of blindness. A server is blind until all probes have their results or a limit is reached;
/// the limit lies between these bounds.
const BOUNDS: [Duration; 2] = [Duration::from_secs(10), Duration::from_secs(30)];

/// Watches the pulse of the loop that judges. Times are durations since an origin that the caller chooses.
///
/// If a virtual machine is paused, or a flood of queries starves the CPU, every probe times out at once. After such a
/// slip, the first [`CLEAN_ROUNDS`] results of each probe are discarded, independently of the other probes. The server
/// is blind until all probes have had these results, or until this takes too long.
#[derive(Debug, Clone)]
pub struct ClockGuard {
    limit: Duration,
    /// The time until the slowest probe has had its results.
    longest: Duration,
    last: Option<Duration>,
    blind: Option<Blind>,
}

#[derive(Debug, Clone)]
struct Blind {
    reason: String,
    since: Duration,
    until: Duration,
    is_over: bool,
    /// The number of discarded results of each probe.
    discarded: BTreeMap<ProbeId, u32>,
    /// The number of probes with enough discarded results.
    clean: usize,
}

impl ClockGuard {
    /// Creates a guard that is not blind. A slip as long as the shortest timeout of the probes can have made a probe
    /// fail.
    pub fn new<'a>(probes: impl IntoIterator<Item = &'a Probe>) -> Self {
        let (mut shortest, mut slowest) = (None, Duration::ZERO);
        for Probe { interval, timeout, .. } in probes {
            shortest = Some(shortest.map_or(*timeout, |shortest: Duration| shortest.min(*timeout)));
            slowest = slowest.max(interval.saturating_add(*timeout));
        }
        let [least, most] = BOUNDS;
        let longest = slowest.saturating_mul(CLEAN_ROUNDS).clamp(least, most);
        ClockGuard { limit: shortest.unwrap_or_default().max(LEAST_SLIP), longest, last: None, blind: None }
    }

    /// Takes the limits of another guard, which has `all` probes. Discarded results of the probes that are `kept` still
    /// count.
    pub fn adopt(&mut self, other: &ClockGuard, all: usize, kept: impl Fn(&ProbeId) -> bool) {
        (self.limit, self.longest) = (other.limit, other.longest);
        if let Some(blind) = &mut self.blind {
            blind.discarded.retain(|probe, _| kept(probe));
            blind.clean = blind.discarded.values().filter(|discarded| **discarded >= CLEAN_ROUNDS).count();
            if blind.clean >= all {
                self.blind = None;
            }
        }
    }

    /// Takes a pulse of the loop, which has to come several times within the shortest timeout. Returns `true` if the
    /// loop was held up: every attempt under way is then invalid.
    pub fn pulse(&mut self, now: Duration) -> bool {
        let gap = self.last.map_or(Duration::ZERO, |last| now.saturating_sub(last));
        self.last = Some(now);
        let slipped = gap >= self.limit;
        if slipped {
            self.go_blind(now, format!("this server was held up for {} ms", gap.as_millis()));
        } else if let Some(blind) = &mut self.blind {
            blind.is_over |= now >= blind.until;
        }
        slipped
    }

    /// Makes this server blind for another reason.
    pub fn go_blind(&mut self, now: Duration, reason: String) {
        let since = self.blind.as_ref().filter(|blind| !blind.is_over).map_or(now, |blind| blind.since);
        let until = now + self.longest;
        let discarded = BTreeMap::new();
        self.blind = Some(Blind { reason, since, until, is_over: false, discarded, clean: 0 });
    }

    /// Counts a result of a probe; `all`: the number of probes. Returns whether the result has to be discarded.
    pub fn note_result(&mut self, probe: &ProbeId, all: usize) -> bool {
        if !self.discards(probe) {
            return false;
        }
        if let Some(blind) = &mut self.blind {
            let discarded = blind.discarded.entry(probe.clone()).or_default();
            *discarded += 1;
            blind.clean += usize::from(*discarded == CLEAN_ROUNDS);
            if blind.clean >= all {
                self.blind = None;
            }
        }
        true
    }

    /// Whether the next result of a probe has to be discarded.
    pub fn discards(&self, probe: &ProbeId) -> bool {
        let discarded = |blind: &Blind| blind.discarded.get(probe).copied().unwrap_or(0);
        self.blind.as_ref().is_some_and(|blind| discarded(blind) < CLEAN_ROUNDS)
    }

    /// Why this server is blind; `None`: it is not blind, but may still discard results of slow probes.
    pub fn reason(&self) -> Option<&str> {
        self.blind.as_ref().filter(|blind| !blind.is_over).map(|blind| blind.reason.as_str())
    }

    /// Since when this server is blind.
    pub fn since(&self) -> Option<Duration> {
        self.blind.as_ref().filter(|blind| !blind.is_over).map(|blind| blind.since)
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

    /// A guard that is blind since 1 s.
    fn blind() -> ClockGuard {
        let mut guard = ClockGuard::new([&PROBE]);
        guard.pulse(at(0));
        guard.pulse(at(1000));
        guard
    }

    #[test]
    fn a_steady_rhythm_is_never_blind() {
        let mut guard = ClockGuard::new([&PROBE]);
        for tick in 0..100 {
            assert!(!guard.pulse(at(tick * 499)));
        }
        assert_eq!(guard.reason(), None);
    }

    #[test]
    fn each_probe_is_judged_after_two_results_of_its_own_and_all_of_them_end_the_blindness() {
        let mut guard = ClockGuard::new([&PROBE]);
        guard.pulse(at(0));
        assert!(guard.pulse(at(10_000)));
        assert_eq!(guard.reason(), Some("this server was held up for 10000 ms"));
        let [fast, slow] = ["node1", "node2"].map(probe);
        assert_eq!([(); 3].map(|()| guard.note_result(&fast, 2)), [true, true, false]);
        assert!(guard.reason().is_some() && guard.discards(&slow));
        assert_eq!([(); 2].map(|()| guard.note_result(&slow, 2)), [true, true]);
        assert_eq!((guard.reason(), guard.since(), guard.discards(&slow)), (None, None, false));
    }

    #[test]
    fn a_probe_that_never_ends_holds_up_no_other_and_the_blindness_ends_without_it() {
        let slow = Probe { interval: at(4_000), timeout: at(2_000), ..PROBE };
        let mut guard = ClockGuard::new([&PROBE, &slow]);
        guard.pulse(at(0));
        assert!(guard.pulse(at(1_000)));
        for pulse in 11..130 {
            guard.pulse(at(pulse * 100));
            assert!(guard.reason().is_some(), "{pulse}");
        }
        guard.pulse(at(13_000));
        assert_eq!((guard.reason(), guard.since()), (None, None));
        assert!(guard.discards(&probe("node1")), "it has had no result");
    }

    #[test]
    fn another_slip_begins_anew() {
        let mut guard = blind();
        guard.note_result(&probe("node1"), 1);
        assert!(guard.pulse(at(2000)));
        guard.note_result(&probe("node1"), 1);
        assert_eq!(guard.since(), Some(at(1000)));
        guard.note_result(&probe("node1"), 1);
        assert_eq!(guard.reason(), None);
    }

    #[test]
    fn another_slip_prolongs_the_blindness() {
        let mut guard = blind();
        let mut last = 1000;
        while guard.since() == Some(at(1000)) && last < 60_000 {
            last += 100;
            guard.pulse(at(last));
        }
        let alone = last - 1000;
        let mut guard = blind();
        guard.pulse(at(5000));
        for pulse in 1..alone / 100 {
            guard.pulse(at(5000 + pulse * 100));
            assert!(guard.reason().is_some(), "{pulse} of {alone}");
        }
    }

    #[test]
    fn a_changed_probe_is_discarded_anew_after_a_reload() {
        let mut guard = blind();
        for _ in 0..CLEAN_ROUNDS {
            guard.note_result(&probe("node1"), 2);
        }
        assert!(!guard.discards(&probe("node1")));
        guard.adopt(&ClockGuard::new([&PROBE]), 2, |_| false);
        assert!(guard.discards(&probe("node1")), "its results were those of another probe");
    }

    #[test]
    fn a_reload_without_the_last_probe_that_is_discarded_ends_the_blindness() {
        let mut guard = blind();
        for _ in 0..CLEAN_ROUNDS {
            guard.note_result(&probe("node1"), 2);
        }
        guard.adopt(&ClockGuard::new([&PROBE]), 1, |kept| *kept == probe("node1"));
        assert_eq!(guard.reason(), None);
    }

    #[test]
    fn the_limit_is_the_shortest_timeout_and_no_less_than_a_schedulers_whim() {
        for (timeout, steady, slip) in [(500, 499, 500), (1, 199, 200)] {
            let probe = Probe { timeout: at(timeout), ..PROBE };
            let mut guard = ClockGuard::new([&PROBE, &probe]);
            guard.pulse(at(0));
            assert!(!guard.pulse(at(steady)) && guard.pulse(at(steady + slip)), "{timeout}");
        }
    }
}
