//! Detects sessions that keep ending. One end is harmless: the next session begins at once, within the lease.
use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// This number of ends within [`WINDOW`] gives a warning, at most one warning in that time.
const MANY: usize = 3;
const WINDOW: Duration = Duration::from_secs(60);

/// The ends of the last minute.
#[derive(Debug, Default)]
pub(in crate::store) struct RepeatedEnds {
    ends: VecDeque<Instant>,
    warned: Option<Instant>,
}

impl RepeatedEnds {
    /// Counts the end of a session. If it is time for a warning, returns the number of ends within [`WINDOW`].
    pub(in crate::store) fn count(&mut self, now: Instant) -> Option<usize> {
        let is_recent = |at: &Instant| now.duration_since(*at) < WINDOW;
        self.ends.retain(is_recent);
        self.ends.push_back(now);
        let is_warned = self.warned.as_ref().is_some_and(is_recent);
        let is_due = self.ends.len() >= MANY && !is_warned;
        is_due.then(|| {
            self.warned = Some(now);
            self.ends.len()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_that_keep_ending_are_warned_of_once_a_minute() {
        let (start, mut ends) = (Instant::now(), RepeatedEnds::default());
        let mut warned = |from: u64, step: u64, count: u64| {
            let seconds = (0..count).map(|number| from + number * step);
            let due = |second: &u64| ends.count(start + Duration::from_secs(*second)).is_some();
            seconds.filter(due).collect::<Vec<_>>()
        };
        assert_eq!(warned(0, 40, 10), [0; 0], "now and then");
        assert_eq!(warned(1000, 5, 30), [1010, 1070, 1130]);
    }
}
