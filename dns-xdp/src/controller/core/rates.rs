//! The recent rate of answers by path, from the growth of the counters.
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use dns_xdp_ebpf::outcome::{Action, Outcome};

use crate::control::api::Rate;
use crate::responder::is_answer;

/// The longest time over which a rate is averaged.
const WINDOW: Duration = Duration::from_secs(10);
/// The time between two readings, and the shortest time over which a rate is averaged.
const INTERVAL: Duration = Duration::from_millis(500);

/// Messages that were answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    kernel: u64,
    responder: u64,
    /// Queries that were not passed up, because they exceeded the responder's limit.
    kept: u64,
}

/// Readings of the counters.
#[derive(Debug, Default)]
pub(super) struct Rates {
    readings: VecDeque<(Duration, Answered)>,
}

impl Answered {
    /// Adds up the counters of the program and of the responder.
    pub(super) fn new(xdp: &BTreeMap<&str, u64>, responder: &BTreeMap<&str, u64>) -> Self {
        let transmitted = Outcome::ALL.iter().filter(|outcome| outcome.action() == Action::Transmit);
        let kernel = transmitted.filter_map(|outcome| xdp.get(outcome.text())).sum();
        let responder = responder.iter().filter(|(text, _)| is_answer(text)).map(|(_, count)| count).sum();
        let kept = xdp.get(Outcome::FallbackLimited.text()).copied().unwrap_or(0);
        Answered { kernel, responder, kept }
    }
}

impl Rates {
    /// Whether it is time for [`Rates::read`].
    pub(super) fn due(&self, now: Duration) -> bool {
        self.readings.back().is_none_or(|(at, _)| now - *at >= INTERVAL)
    }

    /// Keeps a reading.
    pub(super) fn read(&mut self, now: Duration, answered: Answered) {
        self.readings.push_back((now, answered));
        // Keep one reading that is older than the window: a rate counts from that reading.
        while self.readings.get(1).is_some_and(|(at, _)| now - *at >= WINDOW) {
            self.readings.pop_front();
        }
    }

    /// The number of queries kept from the responder since the beginning of the window.
    pub(super) fn kept(&self, now: Answered) -> u64 {
        self.readings.front().map_or(0, |(_, before)| now.kept.saturating_sub(before.kept))
    }

    /// The mean rate since the beginning of the window; `None`: the time is too short.
    pub(super) fn rate(&self, now: Duration, answered: Answered) -> Option<Rate> {
        let (since, before) = self.readings.front()?;
        let time = now - *since;
        if time < INTERVAL {
            return None;
        }
        let kernel = answered.kernel.saturating_sub(before.kernel) as f64;
        let all = kernel + answered.responder.saturating_sub(before.responder) as f64;
        Some(Rate {
            queries_per_second: all / time.as_secs_f64(),
            kernel_share: (all > 0.0).then(|| kernel / all),
            seconds: time.as_secs_f64(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(kernel: u64, responder: u64) -> Answered {
        let xdp = BTreeMap::from([("answered", kernel), ("type", 1_000_000), ("response", 1_000_000)]);
        let responder = BTreeMap::from([("NOERROR", responder), ("dropped", 1_000_000)]);
        Answered::new(&xdp, &responder)
    }

    #[test]
    fn a_rate_is_the_mean_of_the_last_seconds_and_counts_answers_alone() {
        let start = Duration::ZERO;
        let second = |nth| start + Duration::from_secs(nth);
        let mut rates = Rates::default();
        rates.read(second(0), answered(1_000, 1_000));
        (1..=60).for_each(|nth| rates.read(second(nth), answered(1_000 + 90 * nth, 1_000 + 10 * nth)));
        let rate = rates.rate(second(60), answered(1_000 + 90 * 60, 1_000 + 10 * 60)).unwrap();
        assert_eq!((rate.queries_per_second, rate.kernel_share, rate.seconds), (100.0, Some(0.9), 10.0));
        assert!(rates.readings.len() < 12);
    }

    #[test]
    fn what_was_kept_from_the_responder_is_told_for_as_long_as_the_window() {
        let start = Duration::ZERO;
        let second = |nth| start + Duration::from_secs(nth);
        let kept = |count| Answered::new(&BTreeMap::from([("fallback-limited", count)]), &BTreeMap::new());
        let mut rates = Rates::default();
        assert_eq!(rates.kept(kept(7)), 0);
        rates.read(second(0), kept(0));
        assert_eq!(rates.kept(kept(7)), 7);
        (1..=60).for_each(|nth| rates.read(second(nth), kept(7)));
        assert_eq!(rates.kept(kept(7)), 0);
    }

    #[test]
    fn nothing_asked_has_no_share_and_a_moment_no_rate() {
        let start = Duration::ZERO;
        let mut rates = Rates::default();
        assert_eq!(rates.rate(start, answered(1, 1)), None);
        rates.read(start, answered(1, 1));
        assert_eq!(rates.rate(start + Duration::from_millis(10), answered(9, 9)), None);
        let rate = rates.rate(start + Duration::from_secs(2), answered(1, 1)).unwrap();
        assert_eq!((rate.queries_per_second, rate.kernel_share), (0.0, None));
    }
}
