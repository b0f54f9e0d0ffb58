//! Limits a rate by the generic cell rate algorithm (ITU-T I.371); its state is one timestamp. Also counts each client
//! prefix's recent queries for the responder.

/// A rate, and how far a burst may exceed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// Nanoseconds from one admission to the next. 0: there is no limit.
    pub interval: u64,
    /// How early an admission may come, in nanoseconds: interval · (burst − 1).
    pub tolerance: u64,
}

impl Rate {
    /// No limit.
    pub const NONE: Rate = Rate { interval: 0, tolerance: 0 };

    /// Returns a limit of `count` per second and `burst` at once. A `count` of 0 is no limit.
    pub const fn per_second(count: u32, burst: u32) -> Rate {
        if count == 0 {
            return Rate::NONE;
        }
        let interval = 1_000_000_000 / count as u64;
        let interval = if interval == 0 { 1 } else { interval };
        let burst = if burst == 0 { 1 } else { burst };
        Rate { interval, tolerance: interval * (burst as u64 - 1) }
    }

    /// Returns the time of the next admission; `None`: there is no admission at `now`. `due` is the time of this
    /// admission. Times are nanoseconds of any one clock.
    #[inline(always)]
    pub fn admit(&self, due: u64, now: u64) -> Option<u64> {
        let due = if due > now { due } else { now };
        if due - now > self.tolerance { None } else { Some(due + self.interval) }
    }
}

/// The state of the limit on queries to the responder, in nanoseconds on the clock of the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Admissions {
    /// The time of the next query.
    pub due: u64,
    /// The time of the last refusal; 0: there was none.
    pub refused: u64,
}

impl Admissions {
    /// After a refusal no prefix becomes known for this long: about 69 s. A flood has ended by then.
    const CALM_AFTER: u64 = 1 << 36;

    /// Whether the limit has refused nothing for `CALM_AFTER`.
    #[inline(always)]
    pub const fn is_calm(&self, now: u64) -> bool {
        self.refused == 0 || now.wrapping_sub(self.refused) > Admissions::CALM_AFTER
    }
}

/// How many queries for the responder a client prefix has sent recently: a count that is halved about once a second.
///
/// The lower 16 bits are the count. The bit above them marks a known prefix. The rest is the time of the last halving
/// in units of 2^20 ns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand(pub u64);

impl Demand {
    /// The demand of an unseen prefix. No seen prefix has this number.
    pub const UNSEEN: Demand = Demand(0);
    const COUNT: u64 = 0xffff;
    /// The prefix was within its share in an earlier second, while the limit refused nothing.
    const KNOWN: u64 = 1 << 16;
    const LAST: u32 = 17;
    /// Time from one halving to the next, as a power of two: 2^10 units, about a second.
    const HALVING: u32 = 10;
    /// A prefix becomes unseen again after this many halvings without a query: about 18 minutes.
    const FORGOTTEN: u64 = 1 << 10;

    /// Returns the demand at the time `now`, in nanoseconds, and the number of seconds that have begun since the last
    /// query.
    #[inline(always)]
    pub const fn at(self, now: u64) -> (Demand, u64) {
        let (units, last) = (now >> 20, self.0 >> Demand::LAST);
        let halvings = units.wrapping_sub(last) >> Demand::HALVING;
        if halvings >= Demand::FORGOTTEN {
            return (Demand::UNSEEN, 0);
        }
        let count = if halvings < 16 { (self.0 & Demand::COUNT) >> halvings } else { 0 };
        let last = if count == 0 { units } else { last + (halvings << Demand::HALVING) };
        (Demand(last << Demand::LAST | self.0 & Demand::KNOWN | count), halvings)
    }

    /// Returns the demand after one more query at this time; `is_known` says whether this query makes the prefix known.
    #[inline(always)]
    pub const fn one_more(self, now: u64, is_known: bool) -> Demand {
        let last = if self.is_unseen() { now >> 20 } else { self.0 >> Demand::LAST };
        let known = self.0 & Demand::KNOWN | if is_known { Demand::KNOWN } else { 0 };
        let count = if self.count() < Demand::COUNT { self.count() + 1 } else { Demand::COUNT };
        Demand(last << Demand::LAST | known | count)
    }

    /// Returns the number of recent queries.
    #[inline(always)]
    pub const fn count(self) -> u64 {
        self.0 & Demand::COUNT
    }

    /// Whether the prefix is known.
    #[inline(always)]
    pub const fn is_known(self) -> bool {
        self.0 & Demand::KNOWN != 0
    }

    /// Whether the prefix has not been seen.
    #[inline(always)]
    pub const fn is_unseen(self) -> bool {
        self.0 == Demand::UNSEEN.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_demand_is_halved_every_second_and_its_prefix_is_forgotten_in_some_minutes() {
        let demand = Demand(((5 * SECOND) >> 20) << Demand::LAST | Demand::KNOWN | 1000);
        let count_after = |seconds| demand.at(5 * SECOND + seconds * SECOND).0.count();
        assert_eq!((count_after(0), count_after(3), count_after(20)), (1000, 250, 0));
        let is_known_after = |seconds| demand.at(5 * SECOND + seconds * SECOND).0.is_known();
        assert!(is_known_after(0) && is_known_after(600) && !is_known_after(1200));
        assert!(demand.at(1200 * SECOND).0.is_unseen());
    }

    /// Returns how many are admitted in `time`, if one comes every `step` nanoseconds.
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
