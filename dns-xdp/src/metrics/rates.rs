//! Computes queries per second from totals at several times. This module is pure.
use std::collections::VecDeque;
use std::time::Duration;

/// The age after which a total no longer counts for the present rate.
const WINDOW: Duration = Duration::from_secs(60);
/// The time over which a rate is averaged; less if there are no older totals.
const SPAN: Duration = Duration::from_secs(5);
/// The shortest time for a rate: over less it would be noise.
const SHORTEST: Duration = Duration::from_secs(1);
/// The most samples: enough for one a second.
const SAMPLES: usize = 64;

/// The queries answered since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Totals {
    /// The queries answered by the program.
    pub(super) kernel: u64,
    /// The queries answered by the responder.
    pub(super) responder: u64,
}

/// Rates in queries per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    pub(super) kernel: f64,
    pub(super) responder: f64,
}

impl Rates {
    pub(super) fn total(self) -> f64 {
        self.kernel + self.responder
    }

    /// The kernel's share, from 0 to 1; `None`: there are no queries.
    pub(super) fn kernel_share(self) -> Option<f64> {
        (self.total() > 0.0).then(|| self.kernel / self.total())
    }
}

/// The totals of the last minute.
#[derive(Debug, Default)]
pub(super) struct Samples(VecDeque<(Duration, Totals)>);

impl Samples {
    /// Takes the totals at `now`, on the caller's clock. Returns the rates; `None`: there are no recent totals to
    /// compare with.
    pub(super) fn add(&mut self, now: Duration, totals: Totals) -> Option<Rates> {
        let age = |at: Duration| now.saturating_sub(at);
        self.0.retain(|(at, _)| age(*at) <= WINDOW);
        let recent = self.0.iter().rev().find(|(at, _)| age(*at) >= SPAN);
        let before = recent.or(self.0.front()).copied().filter(|(at, _)| age(*at) >= SHORTEST);
        if self.0.back().is_none_or(|(at, _)| age(*at) >= SHORTEST) {
            self.0.push_back((now, totals));
            let surplus = self.0.len().saturating_sub(SAMPLES);
            self.0.drain(..surplus);
        }
        let (at, before) = before?;
        let per_second =
            |before: u64, after: u64| after.saturating_sub(before) as f64 / age(at).as_secs_f64();
        Some(Rates {
            kernel: per_second(before.kernel, totals.kernel),
            responder: per_second(before.responder, totals.responder),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    fn totals(kernel: u64, responder: u64) -> Totals {
        Totals { kernel, responder }
    }

    #[test]
    fn the_first_look_has_no_rate_and_the_next_ones_have_that_of_the_last_seconds() {
        let mut samples = Samples::default();
        assert_eq!(samples.add(at(10.0), totals(1_000, 0)), None);
        assert_eq!(samples.add(at(10.5), totals(1_500, 0)), None, "too short to tell");
        let rates = samples.add(at(12.0), totals(1_600, 200)).unwrap();
        assert_eq!((rates.kernel, rates.responder, rates.kernel_share()), (300.0, 100.0, Some(0.75)));
        samples.add(at(20.0), totals(1_600, 200));
        let quiet = samples.add(at(26.0), totals(1_600, 200)).unwrap();
        assert_eq!(
            (quiet.total(), quiet.kernel_share()),
            (0.0, None),
            "the time before the last look no longer counts"
        );
        assert_eq!(samples.add(at(600.0), totals(9_999, 0)), None, "the last look is too old");
    }

    #[test]
    fn samples_are_bounded_for_any_number_of_looks() {
        let mut samples = Samples::default();
        for step in 0..10_000_u32 {
            samples.add(at(f64::from(step) / 100.0), totals(step.into(), 0));
        }
        assert!(samples.0.len() <= SAMPLES);
    }
}
