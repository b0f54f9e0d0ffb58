//! How often something may happen: the generic cell rate algorithm (ITU-T I.371), whose state is one time; and how much
//! somebody has asked of late.

/// A rate, and how far it may be exceeded for a short while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// Nanoseconds from one to the next; 0: there is no limit.
    pub interval: u64,
    /// How far ahead of its time one may come, in nanoseconds: the burst less one, times the interval.
    pub tolerance: u64,
}

impl Rate {
    /// No limit.
    pub const NONE: Rate = Rate { interval: 0, tolerance: 0 };

    /// So many in a second, and at once; none is no limit.
    pub const fn per_second(count: u32, burst: u32) -> Rate {
        if count == 0 {
            return Rate::NONE;
        }
        let interval = 1_000_000_000 / count as u64;
        let interval = if interval == 0 { 1 } else { interval };
        let burst = if burst == 0 { 1 } else { burst };
        Rate { interval, tolerance: interval * (burst as u64 - 1) }
    }

    /// Whether it may happen now, in nanoseconds of any clock; then when the next is due, given when this one was.
    #[inline(always)]
    pub fn admit(&self, due: u64, now: u64) -> Option<u64> {
        let due = if due > now { due } else { now };
        if due - now > self.tolerance { None } else { Some(due + self.interval) }
    }
}

/// How much a prefix of clients has asked of late: a count that is halved about once a second. In the lower 16 bits the
/// count, above them the time of the last halving in units of 2^20 nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand(pub u64);

impl Demand {
    const COUNT: u64 = 0xffff;
    /// A halving is about a second: 2^10 units.
    const HALVING: u32 = 10;

    /// One more query at this time, in nanoseconds; and the count before it.
    #[inline(always)]
    pub const fn one_more(self, now: u64) -> (Demand, u64) {
        let (units, last) = (now >> 20, self.0 >> 16);
        let halvings = units.wrapping_sub(last) >> Demand::HALVING;
        let before = if halvings < 16 { (self.0 & Demand::COUNT) >> halvings } else { 0 };
        let last = if before == 0 { units } else { last + (halvings << Demand::HALVING) };
        let count = if before < Demand::COUNT { before + 1 } else { before };
        (Demand(last << 16 | count), before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_is_forgotten_in_some_seconds() {
        let mut demand = Demand::default();
        for nth in 0..1000 {
            demand = demand.one_more(5 * SECOND + nth * SECOND / 1000).0;
        }
        let count_after = |seconds| demand.one_more(6 * SECOND + seconds * SECOND).1;
        assert!((400..=1000).contains(&count_after(0)), "{}", count_after(0));
        assert!((100..=300).contains(&count_after(2)), "{}", count_after(2));
        assert_eq!((count_after(20), count_after(3600)), (0, 0));
        assert_eq!(Demand::default().one_more(5 * SECOND).1, 0);
    }

    /// How many of those that come every `step` nanoseconds are admitted in `time`.
    fn admitted(rate: Rate, step: u64, time: u64) -> u64 {
        let (mut due, mut count) = (0, 0);
        for now in (0..time).step_by(usize::try_from(step).unwrap()) {
            if let Some(next) = rate.admit(due, now + 1) {
                due = next;
                count += 1;
            }
        }
        count
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn who_keeps_the_rate_is_never_held_back_and_who_does_not_gets_the_burst_and_the_rate() {
        let rate = Rate::per_second(100, 20);
        assert_eq!(admitted(rate, SECOND / 100, 10 * SECOND), 1000);
        let flooded = admitted(rate, 1000, SECOND);
        assert!((119..=121).contains(&flooded), "{flooded}");
    }

    #[test]
    fn a_pause_is_worth_no_more_than_the_burst() {
        let rate = Rate::per_second(100, 20);
        let mut due = 0;
        let now = 1000 * SECOND;
        let burst = (0..100).filter(|_| rate.admit(due, now).map(|next| due = next).is_some()).count();
        assert_eq!(burst, 20);
    }

    #[test]
    fn the_least_and_the_most_that_can_be_said() {
        assert_eq!(Rate::per_second(0, 5), Rate::NONE);
        assert_eq!(Rate::per_second(1, 0).admit(2 * SECOND, SECOND), None);
        assert_eq!(Rate::per_second(u32::MAX, u32::MAX).interval, 1);
    }
}
