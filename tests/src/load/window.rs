//! A window of time under load: the offered queries, the answers, and the work of the server's core.
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Result;
use dns_xdp_testbed::load::Seen;

use super::cores::Workers;
use super::generator::{Counts, Generator};
use super::wire::Wire;

/// The time until the queues are filled.
const WARM_UP: Duration = Duration::from_millis(200);

/// The results of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Queries per second.
    pub offered: f64,
    /// Answers of the expected kind per second, counted on arrival.
    pub answered: f64,
    /// Other frames from port 53 per second.
    pub others: f64,
    /// The share of the time that the server's core worked on it.
    pub busy: f64,
}

impl Window {
    /// The window with more answers.
    #[must_use]
    pub fn better(self, other: Window) -> Window {
        if other.answered > self.answered { other } else { self }
    }

    /// The share of the queries that was not answered.
    pub fn lost(&self) -> f64 {
        (1.0 - self.answered / self.offered.max(1.0)).max(0.0)
    }
}

/// Sends over a wire at the generator's pace and measures for `length`.
///
/// # Errors
/// The generator cannot run.
pub fn measure(
    generator: &Generator,
    wire: &Wire,
    workers: &Workers,
    expected: Seen,
    length: Duration,
) -> Result<Window> {
    generator.run(wire, || {
        sleep(WARM_UP);
        let before = Moment::now(generator, workers)?;
        sleep(length);
        Ok(before.until(&Moment::now(generator, workers)?, expected))
    })
}

struct Moment {
    at: Instant,
    counts: Counts,
    run_time: Duration,
}

impl Moment {
    fn now(generator: &Generator, workers: &Workers) -> Result<Self> {
        Ok(Moment { counts: generator.counts()?, at: Instant::now(), run_time: workers.run_time() })
    }

    fn until(&self, after: &Moment, expected: Seen) -> Window {
        let seconds = (after.at - self.at).as_secs_f64();
        let rate = |count: u64| count as f64 / seconds;
        let seen = |counts: &Counts| counts.seen.iter().sum::<u64>();
        let of_kind = |counts: &Counts| counts.seen[expected as usize];
        let answered = of_kind(&after.counts) - of_kind(&self.counts);
        Window {
            offered: rate(after.counts.sent - self.counts.sent),
            answered: rate(answered),
            others: rate(seen(&after.counts) - seen(&self.counts) - answered),
            busy: after.run_time.saturating_sub(self.run_time).as_secs_f64() / seconds,
        }
    }
}
