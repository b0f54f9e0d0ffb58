//! Decides from the last confirmation of its lease whether a server is joined, on probation or alone. This module is
//! pure.
use std::time::Duration;

/// The longest time between two calls of a session. A call detects a dead connection, and etcd does not close a
/// connection that carries calls.
const LONGEST_RHYTHM: Duration = Duration::from_secs(3);

/// Whether a server may use the verdicts of all servers, or judges by itself.
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
/// The age of a confirmation counts from the time of its *request*, because the store counts the lease from a later
/// moment. So a server is alone for 2/5 of the lease before the other servers can drop its verdicts, however long the
/// answer took.
///
/// Probation exists because a store that comes back is empty at first: the leases of all servers that lost it have
/// ended. A server that joined at once would use the few verdicts that are back already. A server that finds the store
/// again lists it, asks for a lease and writes its verdicts, each within 1/5 of the lease. After 6/5 of the lease, the
/// store has the verdicts of all servers that lost it together. A server that joins then changes only the answers that
/// the servers disagree about. Documents and intents are not verdicts: they count at once.
///
/// A server that has just been started and has decided nothing yet joins with its first confirmation. It has no answer
/// of its own that could flap, and the verdicts in the store come from live servers. If the store has only its own
/// verdicts, the rules of a lone server apply: only the verdicts of several servers lower the
/// [quorum](crate::failover).
///
/// Times are durations since an origin that the caller chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    lease: Duration,
    /// Whether no decision was made yet, and the store was never reached.
    fresh: bool,
    confirmed: Option<Confirmed>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Confirmed {
    /// The time of the request for the last confirmation.
    asked: Duration,
    /// The time when enough confirmations have come without a gap.
    joins: Duration,
}

/// The state of the membership at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MembershipState {
    /// The server uses the verdicts of all servers.
    Joined,
    /// The store is back. The server uses its own verdicts for this long.
    Probation(Duration),
    /// The server has lost the store, and uses its own verdicts.
    Alone,
}

impl Membership {
    /// Creates the membership of a server that has not reached the store yet. `lease`: how long the other servers use
    /// the verdicts of a silent server.
    pub fn new(lease: Duration) -> Self {
        Membership { lease, fresh: true, confirmed: None }
    }

    /// Notes that the store has granted a lease of this length.
    pub fn grant(&mut self, lease: Duration) {
        self.lease = lease;
    }

    /// Notes that the server decides from now on. If it has not joined yet, it joins after a probation.
    pub fn decide(&mut self) {
        self.fresh = false;
    }

    /// Notes that the store has confirmed the lease. `asked`: the time of the request; `now`: the time of the answer.
    pub fn confirm(&mut self, asked: Duration, now: Duration) {
        if now >= asked + self.patience() {
            // The confirmation is too old to count.
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

    /// The state now.
    pub fn state(&self, now: Duration) -> MembershipState {
        match self.confirmed {
            Some(confirmed) if !self.is_old(confirmed, now) => match confirmed.joins.checked_sub(now) {
                Some(left) if !left.is_zero() => MembershipState::Probation(left),
                _ => MembershipState::Joined,
            },
            _ => MembershipState::Alone,
        }
    }

    /// When the state changes without a further confirmation; `None`: never.
    pub fn turns(&self, now: Duration) -> Option<Duration> {
        let Confirmed { asked, joins } = self.confirmed?;
        match self.state(now) {
            MembershipState::Alone => None,
            MembershipState::Joined => Some(asked + self.patience()),
            MembershipState::Probation(_) => Some(joins.min(asked + self.patience())),
        }
    }

    /// The time between two renewals of the lease.
    pub fn rhythm(&self) -> Duration {
        (self.lease / 5).min(LONGEST_RHYTHM)
    }

    /// The longest age of a confirmation that still counts. It is also the longest time that a verdict may wait to be
    /// written. After it, this server lets its lease end, so that the other servers drop its old verdicts.
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

    /// A joined membership whose last confirmation was asked for at `asked`.
    fn joined(asked: Duration) -> Membership {
        let mut membership = Membership::new(LEASE);
        membership.confirm(asked, asked);
        membership.decide();
        membership
    }

    /// Renews the lease at its usual interval, from `from` to `to`.
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
        assert_eq!(membership.state(at(3999)), MembershipState::Joined, "the age counts from the request");
        assert_eq!(membership.state(at(4000)), MembershipState::Alone);
        membership.confirm(at(4100), at(7100));
        assert_eq!(membership.state(at(7100)), MembershipState::Alone, "a late answer does not count");
    }

    #[test]
    fn a_lone_server_joins_after_confirmations_without_a_gap_for_six_fifths_of_the_lease() {
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
            "a gap restarts the probation"
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
        fn no_server_is_joined_with_a_confirmation_that_is_older_than_three_fifths_of_the_lease(
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
