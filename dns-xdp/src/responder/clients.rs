//! Limits the UDP answers to each client prefix, as the program does for its own answers.
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use dns_xdp_ebpf::table::{BUCKETS_MAX, FloodPolicy};
use lru::LruCache;

/// The limit's verdict on an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The answer is sent.
    Send,
    /// The answer is sent truncated.
    Slip,
    /// The answer is not sent.
    Drop,
}

/// An LRU table with the time of the next answer to each prefix, in nanoseconds since the start.
#[derive(Debug)]
pub(super) struct Clients {
    due: Mutex<LruCache<u64, u64>>,
    start: Instant,
}

impl Default for Clients {
    fn default() -> Self {
        let capacity = NonZeroUsize::new(BUCKETS_MAX).unwrap_or(NonZeroUsize::MIN);
        // `unbounded` does not allocate for the maximum in advance.
        let mut due = LruCache::unbounded();
        due.resize(capacity);
        Clients { due: Mutex::new(due), start: Instant::now() }
    }
}

impl Clients {
    /// Judges an answer to this address now. `random` decides which answers above the limit slip.
    pub(super) fn judge(&self, flood_policy: &FloodPolicy, address: [u64; 2], random: u32) -> Verdict {
        let now = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.judge_at(flood_policy, address, random, now)
    }

    fn judge_at(&self, flood_policy: &FloodPolicy, address: [u64; 2], random: u32, now: u64) -> Verdict {
        if flood_policy.answers.interval == 0 || flood_policy.exempts(address) {
            return Verdict::Send;
        }
        let mut clients = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let due = clients.get_or_insert_mut(flood_policy.prefix(address), || 0);
        match flood_policy.answers.admit(*due, now) {
            Some(next) => {
                *due = next;
                Verdict::Send
            }
            None if flood_policy.slip != 0 && random.is_multiple_of(flood_policy.slip) => Verdict::Slip,
            None => Verdict::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use dns_xdp_ebpf::table::address_words;

    use super::*;
    use crate::flood_limits::{self, Network, RateLimit};

    fn flood_policy(slip: u32) -> FloodPolicy {
        let exempt = vec![Network { address: "192.0.2.7".parse().unwrap(), length: 32 }];
        let (answers_per_second, burst) = (10, 3);
        let rate_limit =
            RateLimit { answers_per_second, burst, slip, ipv4_prefix: 24, ipv6_prefix: 56, exempt };
        flood_limits::FloodLimits { rate_limit, ..flood_limits::FloodLimits::default() }.table()
    }

    fn words(address: &str) -> [u64; 2] {
        address_words(address.parse().unwrap())
    }

    #[test]
    fn a_prefix_gets_its_burst_and_its_rate_and_others_are_not_touched() {
        let (clients, flood_policy) = (Clients::default(), flood_policy(2));
        let judge = |address, random, now| clients.judge_at(&flood_policy, words(address), random, now);
        for address in ["192.0.2.1", "192.0.2.2", "192.0.2.3"] {
            assert_eq!(judge(address, 0, 1), Verdict::Send);
        }
        assert_eq!(judge("192.0.2.4", 2, 1), Verdict::Slip);
        assert_eq!(judge("192.0.2.4", 3, 1), Verdict::Drop);
        assert_eq!(judge("192.0.2.7", 3, 1), Verdict::Send);
        assert_eq!(judge("203.0.113.1", 3, 1), Verdict::Send);
        assert_eq!(judge("192.0.2.4", 3, 100_000_001), Verdict::Send);
        assert_eq!(judge("192.0.2.4", 3, 100_000_002), Verdict::Drop);
    }

    #[test]
    fn without_a_limit_nothing_is_kept_and_without_slip_nothing_slips() {
        let clients = Clients::default();
        assert_eq!(clients.judge(&FloodPolicy::NONE, words("192.0.2.1"), 0), Verdict::Send);
        assert_eq!(clients.due.lock().unwrap().len(), 0);
        let verdicts = [(); 4].map(|()| clients.judge_at(&flood_policy(0), words("192.0.2.1"), 0, 1));
        assert_eq!(verdicts, [Verdict::Send, Verdict::Send, Verdict::Send, Verdict::Drop]);
    }

    #[test]
    fn more_prefixes_than_there_is_room_for_are_forgotten() {
        let (clients, flood_policy) = (Clients::default(), flood_policy(0));
        for number in 0..BUCKETS_MAX as u64 + 100 {
            clients.judge_at(&flood_policy, [number << 8, 1], 0, 1);
        }
        assert_eq!(clients.due.lock().unwrap().len(), BUCKETS_MAX);
    }

    #[test]
    fn an_exempt_client_leaves_its_prefix_what_is_its_own() {
        let (clients, flood_policy) = (Clients::default(), flood_policy(0));
        for _ in 0..100 {
            assert_eq!(clients.judge_at(&flood_policy, words("192.0.2.7"), 0, 0), Verdict::Send);
        }
        let others = (0..4).map(|_| clients.judge_at(&flood_policy, words("192.0.2.8"), 0, 0));
        let sent = others.filter(|verdict| *verdict == Verdict::Send).count();
        assert_eq!(sent, 3);
    }
}
