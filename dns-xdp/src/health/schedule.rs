//! When attempts at one subject start, when they are overdue, and in which order their results count: pure.
use std::collections::VecDeque;
use std::time::Duration;

use super::verdict::Observation;
use crate::cluster::Probe;

/// The attempts whose results have not counted yet. Times are durations since an origin that the caller chooses.
///
/// A silent host would hold up the next attempt for a whole timeout if they did not overlap. They start at least
/// `fast-interval` apart, so that no more than `timeout / fast-interval + 1` are under way.
#[derive(Debug)]
pub(super) struct Schedule {
    fast_interval: Duration,
    fall: usize,
    /// Of the first pause, so that the nodes' probes keep apart.
    first_share: f64,
    started: u64,
    newest: Option<Duration>,
    /// In the order of their starts; the last one has number `started`.
    attempts: VecDeque<Attempt>,
}

#[derive(Debug)]
struct Attempt {
    start: Duration,
    doubted: bool,
    result: Option<Observation>,
}

impl Schedule {
    /// The first attempt is due at once; the pause behind it is shortened to `first_share` of what it would be.
    pub(super) fn new(probe: &Probe, first_share: f64) -> Self {
        Schedule {
            fast_interval: probe.fast_interval,
            fall: probe.fall as usize,
            first_share,
            started: 0,
            newest: None,
            attempts: VecDeque::new(),
        }
    }

    /// When the next attempt starts, if `delay` is to pass from start to start. `None`: not before one has ended,
    /// for the newest `fall` are without an answer, which is enough for a verdict.
    pub(super) fn due(&self, delay: Duration) -> Option<Duration> {
        let silent = self.attempts.iter().rev().take_while(|attempt| attempt.result.is_none()).count();
        if silent >= self.fall {
            return None;
        }
        let share = if self.started == 1 { self.first_share } else { 1.0 };
        Some(self.newest.map_or(Duration::ZERO, |newest| newest + delay.mul_f64(share)))
    }

    /// Starts an attempt and numbers it.
    pub(super) fn start(&mut self, now: Duration) -> u64 {
        self.started += 1;
        self.newest = Some(now);
        self.attempts.push_back(Attempt { start: now, doubted: false, result: None });
        self.started
    }

    /// When the next attempt will have had no answer for `fast-interval`.
    pub(super) fn overdue(&self) -> Option<Duration> {
        let waiting = self.attempts.iter().filter(|attempt| attempt.result.is_none() && !attempt.doubted);
        waiting.map(|attempt| attempt.start + self.fast_interval).min()
    }

    /// Notes that those that are overdue have been reported.
    pub(super) fn doubt(&mut self, now: Duration) {
        for attempt in &mut self.attempts {
            attempt.doubted |= attempt.start + self.fast_interval <= now;
        }
    }

    /// Ends an attempt. Those that count now, in the order of their starts: a result waits for the ones before it.
    pub(super) fn end(&mut self, number: u64, result: Observation) -> Vec<Observation> {
        let behind = usize::try_from(self.started - number).unwrap_or(usize::MAX);
        let index = self.attempts.len().checked_sub(behind.saturating_add(1));
        if let Some(attempt) = index.and_then(|index| self.attempts.get_mut(index)) {
            attempt.result = Some(result);
        }
        let mut counting = Vec::new();
        while let Some(result) = self.attempts.front_mut().and_then(|attempt| attempt.result.take()) {
            self.attempts.pop_front();
            counting.push(result);
        }
        counting
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::PROBE;
    use crate::health::verdict::{Failure, Verdict};
    use proptest::prelude::*;

    fn success() -> Observation {
        Observation::Success { round_trip: Duration::ZERO }
    }

    fn silence() -> Observation {
        Observation::Failure(Failure { reason: "timeout".to_owned(), visible: false })
    }

    /// A subject, its probes and its verdict in a time that is given to it.
    #[derive(Debug)]
    pub(in crate::health) struct Simulation {
        pub(in crate::health) verdict: Verdict,
        probe: Probe,
        schedule: Schedule,
        under_way: Vec<(Duration, u64, Observation)>,
        attempts: u64,
    }

    impl Simulation {
        /// It answered a probe that started at `since`.
        pub(in crate::health) fn new(probe: &Probe, since: Duration) -> Self {
            let mut simulation = Simulation {
                verdict: Verdict::new(probe),
                probe: probe.clone(),
                schedule: Schedule::new(probe, 1.0),
                under_way: Vec::new(),
                attempts: 0,
            };
            let number = simulation.schedule.start(since);
            for observation in simulation.schedule.end(number, success()) {
                simulation.verdict.observe(since, &observation);
            }
            simulation
        }

        /// When something happens next at this pace; what is late has a time that has passed.
        pub(in crate::health) fn next(&self, delay: Duration) -> Duration {
            let ends = self.under_way.iter().map(|(end, ..)| *end);
            let events = ends.chain(self.schedule.due(delay)).chain(self.schedule.overdue());
            events.min().expect("an attempt is due or under way")
        }

        /// Does what is to be done at `now`. An attempt that starts is answered after that time, or never.
        pub(in crate::health) fn step(
            &mut self,
            now: Duration,
            delay: Duration,
            answer: impl FnOnce(u64) -> Option<Duration>,
        ) {
            if let Some(index) = self.under_way.iter().position(|(end, ..)| *end <= now) {
                let (_, number, result) = self.under_way.remove(index);
                for observation in self.schedule.end(number, result) {
                    self.verdict.observe(now, &observation);
                }
            } else if self.schedule.overdue().is_some_and(|overdue| overdue <= now) {
                self.schedule.doubt(now);
                self.verdict.observe(now, &Observation::Overdue);
            } else if self.schedule.due(delay).is_some_and(|due| due <= now) {
                let number = self.schedule.start(now);
                self.attempts += 1;
                let (after, result) = match answer(self.attempts) {
                    Some(round_trip) => (round_trip, success()),
                    None => (self.probe.timeout, silence()),
                };
                self.under_way.push((now + after, number, result));
                self.under_way.sort_by_key(|(end, number, _)| (*end, *number));
            }
        }
    }

    /// How long a node that dies at `death` stays in the answers. Before, it answers after `round_trip`, but for
    /// the attempts that are `lost`.
    fn time_to_verdict(probe: &Probe, round_trip: Duration, lost: &[bool], death: Duration) -> Duration {
        let mut node = Simulation::new(probe, Duration::ZERO);
        let mut now = Duration::ZERO;
        loop {
            let delay = node.verdict.next_delay();
            now = node.next(delay).max(now);
            if now > death && node.verdict.serving() == Some(false) {
                return Duration::ZERO;
            }
            node.step(now, delay, |attempt| {
                let is_lost = lost.get(attempt as usize).copied().unwrap_or(false);
                (!is_lost && now + round_trip <= death).then_some(round_trip)
            });
            assert!(
                node.under_way.len() as u128 <= probe.timeout.as_nanos() / probe.fast_interval.as_nanos() + 1
            );
            if now >= death && node.verdict.serving() == Some(false) {
                return now - death;
            }
        }
    }

    #[test]
    fn the_default_probe_detects_a_death_in_two_seconds_in_every_phase() {
        let probe = PROBE;
        assert_eq!(probe.time_to_detect(), Duration::from_secs(2));
        let round_trip = Duration::from_millis(1);
        let phases = (5000..6001).map(Duration::from_millis);
        let slowest = phases.map(|death| time_to_verdict(&probe, round_trip, &[], death)).max().unwrap();
        assert!(slowest <= probe.time_to_detect(), "{slowest:?}");
        assert!(slowest + 2 * round_trip >= probe.time_to_detect(), "the promise is no larger than need be");
    }

    #[test]
    fn a_success_waits_for_the_attempt_before_it() {
        let mut schedule = Schedule::new(&PROBE, 1.0);
        let [first, second] = [0, 250].map(|start| schedule.start(Duration::from_millis(start)));
        assert_eq!(schedule.end(second, success()), []);
        assert_eq!(schedule.end(first, silence()), [silence(), success()]);
    }

    #[test]
    fn an_attempt_is_overdue_once() {
        let mut schedule = Schedule::new(&PROBE, 1.0);
        schedule.start(Duration::ZERO);
        let overdue = schedule.overdue().unwrap();
        assert_eq!(overdue, Duration::from_millis(250));
        schedule.doubt(overdue);
        assert_eq!(schedule.overdue(), None);
    }

    #[test]
    fn enough_silent_attempts_for_a_verdict_are_enough() {
        let mut schedule = Schedule::new(&PROBE, 1.0);
        let numbers = [0, 250, 500].map(|start| schedule.start(Duration::from_millis(start)));
        assert_eq!(schedule.due(Duration::from_millis(250)), None);
        schedule.end(numbers[0], silence());
        assert_eq!(schedule.due(Duration::from_millis(250)), Some(Duration::from_millis(750)));
    }

    proptest! {
        #[test]
        fn a_death_is_detected_within_the_promise(
            (interval, fast) in (1u64..3000).prop_flat_map(|interval| (Just(interval), 1..=interval)),
            timeout in 1u64..2000, fall in 1u32..6, rise in 1u32..6, round_trip in 0u64..2000,
            lost in proptest::collection::vec(any::<bool>(), 0..40), death in 0u64..20_000,
        ) {
            let [interval, fast_interval, timeout] = [interval, fast, timeout].map(Duration::from_millis);
            let probe = Probe { interval, fast_interval, timeout, fall, rise, ..PROBE };
            let round_trip = Duration::from_millis(round_trip).min(timeout);
            let took = time_to_verdict(&probe, round_trip, &lost, Duration::from_millis(death));
            prop_assert!(took <= probe.time_to_detect(), "{took:?} > {:?}", probe.time_to_detect());
        }
    }
}
