//! Computes when attempts at one subject start and when they are overdue. This module is pure.
use std::time::Duration;

/// The attempts of one probe. At most one attempt is under way. Times are durations since an origin that the caller
/// chooses.
#[derive(Debug)]
pub(crate) struct Schedule {
    fast_interval: Duration,
    /// The share of the first pause, so that the nodes' probes do not run at the same time.
    first_share: f64,
    started: u64,
    newest: Option<Duration>,
    under_way: bool,
    doubted: bool,
}

impl Schedule {
    /// Creates a schedule that starts its first attempt at once. The pause after it is shortened to `first_share`.
    pub(crate) fn new(fast_interval: Duration, first_share: f64) -> Self {
        Schedule { fast_interval, first_share, started: 0, newest: None, under_way: false, doubted: false }
    }

    /// Creates a schedule that continues after every attempt was abandoned at `now`. The first attempt starts within
    /// the share of a pause, so that the nodes' attempts do not start at the same time.
    pub(crate) fn resumed(fast_interval: Duration, first_share: f64, now: Duration) -> Self {
        Schedule { started: 1, newest: Some(now), ..Schedule::new(fast_interval, first_share) }
    }

    /// The time of the next attempt, with `delay` from start to start. `None`: it does not start before the end of the
    /// attempt under way. A late attempt has a time in the past.
    pub(crate) fn due(&self, delay: Duration) -> Option<Duration> {
        let share = if self.started == 1 { self.first_share } else { 1.0 };
        let due = self.newest.map_or(Duration::ZERO, |newest| newest + delay.mul_f64(share));
        (!self.under_way).then_some(due)
    }

    /// Starts an attempt.
    pub(crate) fn start(&mut self, now: Duration) {
        self.started += 1;
        self.newest = Some(now);
        (self.under_way, self.doubted) = (true, false);
    }

    /// The time when the attempt under way becomes overdue: after `fast-interval` without an answer. `None` once that
    /// has been reported.
    pub(crate) fn overdue(&self) -> Option<Duration> {
        self.newest.filter(|_| self.under_way && !self.doubted).map(|start| start + self.fast_interval)
    }

    /// Notes that the attempt under way has been reported as overdue.
    pub(crate) fn doubt(&mut self) {
        self.doubted = true;
    }

    /// Notes that the attempt under way has a result.
    pub(crate) fn end(&mut self) {
        self.under_way = false;
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cluster::Probe;
    use crate::config::PROBE;
    use crate::health::verdict::{Failure, Observation, Pace, Verdict};
    use proptest::prelude::*;

    fn success(round_trip: Duration) -> Observation {
        Observation::Success { round_trip }
    }

    fn silence() -> Observation {
        Observation::Failure(Failure { reason: "timeout".to_owned(), visible: false })
    }

    /// A subject, its probe and its verdict in virtual time.
    #[derive(Debug)]
    pub(in crate::health) struct Simulation {
        pub(in crate::health) verdict: Verdict,
        schedule: Schedule,
        under_way: Option<(Duration, Observation)>,
        attempts: u64,
    }

    impl Simulation {
        /// Creates a subject that has passed one attempt, which started and ended at `since`.
        pub(in crate::health) fn new(probe: &Probe, since: Duration) -> Self {
            let mut simulation = Simulation {
                verdict: Verdict::new(probe),
                schedule: Schedule::new(probe.fast_interval, 1.0),
                under_way: None,
                attempts: 0,
            };
            simulation.schedule.start(since);
            simulation.schedule.end();
            simulation.verdict.observe(since, &success(Duration::ZERO));
            simulation
        }

        /// The time of the next event at this pace. A late event has a time in the past.
        pub(in crate::health) fn next(&self, pace: Pace) -> Duration {
            let end = self.under_way.as_ref().map(|(end, _)| *end);
            let events = end.into_iter().chain(self.schedule.due(pace.delay)).chain(self.schedule.overdue());
            events.min().expect("an attempt is due or under way")
        }

        /// Performs the next event if its time is not after `now`. An attempt that starts is answered after
        /// `round_trip`, or never.
        pub(in crate::health) fn step(
            &mut self,
            now: Duration,
            pace: Pace,
            answer: impl FnOnce(u64) -> Option<Duration>,
        ) {
            if let Some((_, result)) = self.under_way.take_if(|(end, _)| *end <= now) {
                self.schedule.end();
                self.verdict.observe(now, &result);
            } else if self.schedule.overdue().is_some_and(|overdue| overdue <= now) {
                self.schedule.doubt();
                self.verdict.observe(now, &Observation::Overdue);
            } else if self.schedule.due(pace.delay).is_some_and(|due| due <= now) {
                self.schedule.start(now);
                self.attempts += 1;
                let answered = answer(self.attempts).filter(|round_trip| *round_trip <= pace.timeout);
                self.under_way = Some(match answered {
                    Some(round_trip) => (now + round_trip, success(round_trip)),
                    None => (now + pace.timeout, silence()),
                });
            }
        }
    }

    /// How long a node that dies at `death` stays in the answers. Before its death it answers after `round_trip`,
    /// except attempts that are `lost`.
    fn time_to_verdict(probe: &Probe, round_trip: Duration, lost: &[bool], death: Duration) -> Duration {
        let mut node = Simulation::new(probe, Duration::ZERO);
        let mut now = Duration::ZERO;
        loop {
            let pace = node.verdict.pace(false);
            now = node.next(pace).max(now);
            if now > death && node.verdict.serving() == Some(false) {
                return Duration::ZERO;
            }
            node.step(now, pace, |attempt| {
                let is_lost = lost.get(attempt as usize).copied().unwrap_or(false);
                (!is_lost && now + round_trip <= death).then_some(round_trip)
            });
            if now >= death && node.verdict.serving() == Some(false) {
                return now - death;
            }
        }
    }

    #[test]
    fn the_default_probe_detects_a_death_in_two_seconds_in_every_phase() {
        assert_eq!(PROBE.time_to_detect(), Duration::from_secs(2));
        let round_trip = Duration::from_millis(1);
        let phases = (5000..6001).map(Duration::from_millis);
        let slowest = phases.map(|death| time_to_verdict(&PROBE, round_trip, &[], death)).max().unwrap();
        assert!(slowest <= PROBE.time_to_detect(), "{slowest:?}");
        assert!(slowest + 2 * round_trip >= PROBE.time_to_detect(), "the bound is no larger than necessary");
    }

    #[test]
    fn an_attempt_is_overdue_once_and_holds_the_next_one_up() {
        let mut schedule = Schedule::new(Duration::from_millis(250), 1.0);
        let delay = Duration::from_secs(1);
        assert_eq!(schedule.due(delay), Some(Duration::ZERO));
        schedule.start(Duration::ZERO);
        assert_eq!((schedule.overdue(), schedule.due(delay)), (Some(Duration::from_millis(250)), None));
        schedule.doubt();
        assert_eq!(schedule.overdue(), None);
        schedule.end();
        assert_eq!(schedule.due(delay), Some(delay));
        schedule.start(delay);
        assert_eq!(schedule.overdue(), Some(Duration::from_millis(1250)));
    }

    #[test]
    fn what_is_resumed_starts_within_a_pause_and_then_after_each() {
        let (now, delay) = (Duration::from_secs(7), Duration::from_secs(1));
        let mut schedule = Schedule::resumed(Duration::from_millis(250), 0.4, now);
        assert_eq!((schedule.due(delay), schedule.overdue()), (Some(now + delay.mul_f64(0.4)), None));
        schedule.start(now + delay);
        schedule.end();
        assert_eq!(schedule.due(delay), Some(now + 2 * delay));
    }

    #[test]
    fn a_node_that_answers_slowly_is_not_given_up_for_one_lost_probe() {
        let round_trip = Duration::from_millis(400);
        assert!(round_trip > PROBE.fast_interval);
        let mut node = Simulation::new(&PROBE, Duration::ZERO);
        let mut now = Duration::ZERO;
        while node.attempts < 60 {
            let pace = node.verdict.pace(false);
            now = node.next(pace).max(now);
            node.step(now, pace, |attempt| (attempt % 10 != 5).then_some(round_trip));
            assert_eq!(node.verdict.serving(), Some(true), "{now:?}");
        }
    }

    proptest! {
        #[test]
        fn a_death_is_detected_within_the_bound(
            (interval, fast) in (2u64..3000).prop_flat_map(|interval| (Just(interval), 2..=interval)),
            timeout in 1u64..2000, fall in 1u32..6, rise in 1u32..6, round_trip in 0u64..2000,
            lost in proptest::collection::vec(any::<bool>(), 0..40), death in 0u64..20_000,
        ) {
            let [interval, fast_interval, timeout] = [interval, fast, timeout].map(Duration::from_millis);
            let probe = Probe { interval, fast_interval, timeout, fall, rise, ..PROBE };
            // A node that answers more slowly gets more time: see Verdict::pace.
            let round_trip = Duration::from_millis(round_trip).min(timeout).min(fast_interval / 2);
            let took = time_to_verdict(&probe, round_trip, &lost, Duration::from_millis(death));
            prop_assert!(took <= probe.time_to_detect(), "{took:?} > {:?}", probe.time_to_detect());
        }
    }
}
