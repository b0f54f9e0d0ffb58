//! How a server stands to the store, by when its lease was last confirmed: pure.
use std::time::Duration;

/// The longest time from one call of a session to the next. A call detects a dead connection. etcd does not close a
/// connection that carries calls.
const LONGEST_RHYTHM: Duration = Duration::from_secs(3);

/// When a server may go by what all say together, and when it judges by itself.
///
/// ```text
///            confirmed: at the start, before anything was decided
///        ┌───────────────────────────────────────────────────────────────┐
///        │       confirmed            without a gap for 6/5 of the lease ▼
///      alone ───────────────► probation ───────────────────────────► joined
///        ▲                        │     the confirmation is 3/5 old      │
///        └────────────────────────┴──────────────────────────────────────┘
/// ```
///
/// A confirmation is as old as the moment at which it was *asked for*: the store counts the lease from some moment behind
/// that. So a server is alone for two fifths of the lease before the others can take it for dead and go on without its
/// verdicts, however long the answer took.
///
/// Probation is there because a store that comes back is empty at first: the leases of all that lost it have run out. Whoever
/// joined at once would go by the few verdicts that are back already. A server that finds the store again lists it, asks for a lease and
/// writes what it finds, each within a fifth of the lease: behind six fifths the verdicts of all that lost it together are there, and
/// joining changes only what they do not agree on. The documents and what operators want are no verdicts: they
/// count at once.
///
/// A server that has just been started and has decided nothing yet joins with its first confirmation. It has no answer of
/// its own that could flap; what it finds in the store are the verdicts of servers that live; and where the store holds
/// nobody's but its own, the rules of a server that is alone are in force, for only what several servers say is evidence beyond
/// [quorum](crate::failover).
///
/// Times are durations since an origin that the caller chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    lease: Duration,
    /// Nothing was decided yet, and the store never reached.
    fresh: bool,
    confirmed: Option<Confirmed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Confirmed {
    /// When the last confirmation was asked for.
    asked: Duration,
    /// When there have been enough of them without a gap.
    joins: Duration,
}

/// How it stands at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipState {
    /// It goes by what all say together.
    Joined,
    /// The store is back, and it goes by its own verdicts for so long.
    Probation(Duration),
    /// It has lost the store, and goes by its own verdicts.
    Alone,
}

impl Membership {
    /// Has not reached the store yet. The lease is how long the others believe in this server without hearing of it.
    pub fn new(lease: Duration) -> Self {
        Membership { lease, fresh: true, confirmed: None }
    }

    /// The store has granted a lease of this length.
    pub fn grant(&mut self, lease: Duration) {
        self.lease = lease;
    }

    /// Something is decided from now on: whoever has not joined yet does so by way of a probation.
    pub fn decide(&mut self) {
        self.fresh = false;
    }

    /// The store has confirmed the lease; `asked`: when it was asked to, and `now` that has been heard.
    pub fn confirm(&mut self, asked: Duration, now: Duration) {
        if now >= asked + self.patience() {
            // As good as none.
            return;
        }
        let joins = match self.confirmed.filter(|confirmed| !self.is_old(*confirmed, now)) {
            Some(confirmed) => confirmed.joins,
            None if self.fresh => asked,
            None => asked + self.probation(),
        };
        self.fresh = false;
        let asked = self.confirmed.map_or(asked, |confirmed| confirmed.asked.max(asked));
        self.confirmed = Some(Confirmed { asked, joins });
    }

    /// How it stands now.
    pub fn state(&self, now: Duration) -> MembershipState {
        match self.confirmed {
            Some(confirmed) if !self.is_old(confirmed, now) => match confirmed.joins.checked_sub(now) {
                Some(left) if !left.is_zero() => MembershipState::Probation(left),
                _ => MembershipState::Joined,
            },
            _ => MembershipState::Alone,
        }
    }

    /// When it stands otherwise unless it is confirmed; `None`: never.
    pub fn turns(&self, now: Duration) -> Option<Duration> {
        let Confirmed { asked, joins } = self.confirmed?;
        match self.state(now) {
            MembershipState::Alone => None,
            MembershipState::Joined => Some(asked + self.patience()),
            MembershipState::Probation(_) => Some(joins.min(asked + self.patience())),
        }
    }

    /// From one time that the lease is kept alive to the next.
    pub fn rhythm(&self) -> Duration {
        (self.lease / 5).min(LONGEST_RHYTHM)
    }

    /// How old a confirmation may be that is gone by; and how long a verdict may wait to be written before this server lets
    /// its lease run out, lest the others go by what it said before.
    pub fn patience(&self) -> Duration {
        self.lease * 3 / 5
    }

    /// How often the view is compared with the store.
    pub fn comparison(&self) -> Duration {
        self.lease * 2 / 5
    }

    fn probation(&self) -> Duration {
        self.lease * 6 / 5
    }

    fn is_old(&self, confirmed: Confirmed, now: Duration) -> bool {
        now >= confirmed.asked + self.patience()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LEASE: Duration = Duration::from_secs(5);

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Joined, and confirmed for the last time when asked at that time.
    fn joined(asked: Duration) -> Membership {
        let mut membership = Membership::new(LEASE);
        membership.confirm(asked, asked);
        membership.decide();
        membership
    }

    /// Kept alive in its rhythm, from the first to the last of these times.
    fn keep(membership: &mut Membership, from: u64, to: u64) {
        for asked in (from..=to).step_by(1000).map(at) {
            membership.confirm(asked, asked + at(100));
        }
    }

    #[test]
    fn a_server_is_alone_when_its_confirmation_is_three_fifths_of_the_lease_old() {
        let mut membership = joined(at(0));
        assert_eq!(membership.turns(at(0)), Some(at(3000)));
        assert_eq!(
            (membership.state(at(2999)), membership.state(at(3000))),
            (MembershipState::Joined, MembershipState::Alone)
        );
        membership.confirm(at(1000), at(2900));
        assert_eq!(
            membership.state(at(3999)),
            MembershipState::Joined,
            "it counts from when it was asked for"
        );
        assert_eq!(membership.state(at(4000)), MembershipState::Alone);
        membership.confirm(at(4100), at(7100));
        assert_eq!(membership.state(at(7100)), MembershipState::Alone, "an answer that is too late is none");
    }

    #[test]
    fn who_was_alone_joins_when_it_has_been_confirmed_without_a_gap_for_six_fifths_of_the_lease() {
        let mut membership = joined(at(0));
        membership.confirm(at(9000), at(9100));
        assert_eq!(membership.state(at(9100)), MembershipState::Probation(at(5900)));
        keep(&mut membership, 10_000, 14_000);
        assert_eq!(membership.turns(at(14_100)), Some(at(15_000)));
        assert_eq!(
            (membership.state(at(14_999)), membership.state(at(15_000))),
            (MembershipState::Probation(at(1)), MembershipState::Joined)
        );
        let mut membership = joined(at(0));
        membership.confirm(at(9000), at(9100));
        membership.confirm(at(12_000), at(12_000));
        assert_eq!(
            membership.state(at(12_000)),
            MembershipState::Probation(at(6000)),
            "a gap begins it anew"
        );
    }

    #[test]
    fn a_moment_alone_is_a_gap_though_the_answer_was_on_its_way() {
        let mut membership = joined(at(0));
        membership.confirm(at(2500), at(3100));
        assert_eq!(membership.state(at(3100)), MembershipState::Probation(at(5400)));
    }

    #[test]
    fn a_start_joins_at_once_unless_it_has_decided_without_the_store() {
        assert_eq!(joined(at(100)).state(at(100)), MembershipState::Joined);
        let mut late = Membership::new(LEASE);
        assert_eq!((late.state(at(0)), late.turns(at(0))), (MembershipState::Alone, None));
        late.decide();
        late.confirm(at(2000), at(2000));
        assert_eq!(late.state(at(2000)), MembershipState::Probation(at(6000)));
        let mut again = Membership::new(LEASE);
        again.confirm(at(0), at(0));
        again.confirm(at(9000), at(9000));
        assert_eq!(again.state(at(9000)), MembershipState::Probation(at(6000)), "only the first time");
    }

    proptest! {
        #[test]
        fn nobody_is_joined_with_a_confirmation_that_is_older_than_three_fifths_of_the_lease(
            servers in proptest::collection::vec(
                (any::<bool>(), proptest::collection::vec((0u64..4000, 0u64..3500), 0..30)), 2,
            ),
        ) {
            for (fresh, confirmations) in servers {
                let mut membership = Membership::new(LEASE);
                if !fresh {
                    membership.decide();
                }
                let (mut now, mut newest, mut alone) = (Duration::ZERO, None, None);
                let mut decides = !fresh;
                let mut confirmations = confirmations.into_iter();
                let mut next = None;
                loop {
                    if next.is_none() {
                        let Some((pause, takes)) = confirmations.next() else { break };
                        next = Some((now + at(pause), now + at(pause + takes)));
                    }
                    if let Some((asked, _)) = next.take_if(|(_, heard)| *heard <= now) {
                        membership.confirm(asked, now);
                        newest = Some(asked);
                    }
                    let turns = membership.turns(now);
                    prop_assert!(turns.is_none_or(|turns| membership.state(turns) != membership.state(now)));
                    match membership.state(now) {
                        MembershipState::Joined => {
                            decides = true;
                            prop_assert!(newest.is_some_and(|asked| now < asked + LEASE * 3 / 5), "{:?} at {:?}", newest, now);
                            prop_assert!(alone.is_none_or(|alone| now >= alone + LEASE * 3 / 5), "{:?} at {:?}", alone, now);
                        }
                        MembershipState::Probation(left) => prop_assert!(left <= LEASE * 6 / 5),
                        MembershipState::Alone => alone = Some(now).filter(|_| decides),
                    }
                    now += at(50);
                }
            }
        }
    }
}
