//! The protection against floods in the zone's head.
use core::net::IpAddr;

use super::limit::{Admissions, Demand, Rate};
use super::{Local, address_words};
use crate::message::OPTION_COOKIE;

/// The protection against floods: cookies, limits, and the prefixes that are exempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct FloodPolicy {
    /// The limit on answers to the clients of one prefix.
    pub answers: Rate,
    /// The limit on queries to the responder, from all clients together.
    pub fallback: Rate,
    /// Nanoseconds that each recent query of a prefix takes from its tolerance in `fallback`. A prefix that asks more
    /// is therefore limited earlier. See [`FloodPolicy::admit_fallback`].
    pub fallback_penalty: u64,
    /// The share of a known prefix in recent queries. Up to it the prefix may use the reserve.
    pub fallback_share: u64,
    /// One in `slip` of the answers above the limit goes out empty and truncated, so that the client asks over TCP. 0:
    /// none.
    pub slip: u32,
    /// The code of the cookie option, in network order. [`FloodPolicy::NO_OPTION`]: cookies are ignored.
    pub cookie_option: u32,
    /// Number of secrets.
    pub secret_count: u64,
    /// The first secret makes cookies, all verify them.
    pub secrets: [Secret; SECRETS_MAX],
    /// The masks of a prefix, as [`address_words`] has the bits: of the first word for IPv6, of the second for IPv4.
    pub masks: [u64; 2],
    /// Prefixes that the limit on answers does not apply to.
    pub exempt: [Prefix; EXEMPT_MAX],
}

/// The most secrets at a time: the one that makes cookies, and its predecessor or successor.
pub const SECRETS_MAX: usize = 2;

/// The most prefixes that are exempt from limits.
pub const EXEMPT_MAX: usize = 16;

/// A SipHash key that makes cookies, as two words. Its debug output does not show it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Secret(pub [u64; 2]);

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// No secret.
    pub const NONE: Secret = Secret([0; 2]);

    /// Returns the key of these octets.
    pub fn new(octets: [u8; 16]) -> Secret {
        let mut halves = [0; 2];
        for (half, eight) in halves.iter_mut().zip(octets.chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(eight);
            *half = u64::from_le_bytes(word);
        }
        Secret(halves)
    }
}

/// The addresses with these bits, as [`address_words`] has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Prefix {
    /// The bits that are compared.
    pub mask: [u64; 2],
    /// The values of those bits.
    pub value: [u64; 2],
}

impl Prefix {
    /// A prefix without addresses.
    pub const NONE: Prefix = Prefix { mask: [0; 2], value: [1; 2] };

    /// Returns the prefix of the addresses that share the first `length` bits with `address`.
    pub fn new(address: IpAddr, length: u8) -> Prefix {
        let mask = match address {
            IpAddr::V4(_) => [u64::MAX, ipv4_mask(length)],
            IpAddr::V6(_) => {
                let bits = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                address_words(IpAddr::V6(bits.into()))
            }
        };
        let [high, low] = address_words(address);
        Prefix { mask, value: [high & mask[0], low & mask[1]] }
    }

    /// Whether the prefix contains the address.
    #[inline(always)]
    pub fn holds(&self, [high, low]: [u64; 2]) -> bool {
        high & self.mask[0] == self.value[0] && low & self.mask[1] == self.value[1]
    }
}

impl FloodPolicy {
    /// The code of no option.
    pub const NO_OPTION: u32 = u32::MAX;

    /// No limits and no cookies.
    pub const NONE: FloodPolicy = FloodPolicy {
        answers: Rate::NONE,
        fallback: Rate::NONE,
        fallback_penalty: 0,
        fallback_share: 0,
        slip: 0,
        cookie_option: FloodPolicy::NO_OPTION,
        secret_count: 0,
        secrets: [Secret::NONE; SECRETS_MAX],
        masks: [0; 2],
        exempt: [Prefix::NONE; EXEMPT_MAX],
    };

    /// Sets the secrets. The first makes cookies, all verify them. Only [`SECRETS_MAX`] are used.
    pub fn set_secrets(&mut self, secrets: &[Secret]) {
        for (place, secret) in self.secrets.iter_mut().zip(secrets) {
            *place = *secret;
            self.secret_count += 1;
            self.cookie_option = u32::from(OPTION_COOKIE.to_be());
        }
    }

    /// Sets how many bits of an address are its prefix: at most 32 for IPv4, and 64 for IPv6.
    pub fn set_prefixes(&mut self, ipv4: u8, ipv6: u8) {
        let bits = u64::MAX.checked_shl(64 - u32::from(ipv6)).unwrap_or(0);
        self.masks = [bits.to_be(), ipv4_mask(ipv4)];
    }

    /// Returns the prefix of an address: the key of [`RRL_BUCKETS`](super::RRL_BUCKETS).
    #[inline(always)]
    pub fn prefix(&self, [high, low]: [u64; 2]) -> u64 {
        if high == Local::IPV4 {
            // Multicast addresses begin with this octet (RFC 4291, section 2.7). No client has such an address.
            0xff | (low & self.masks[1]) << 32
        } else {
            high & self.masks[0]
        }
    }

    /// Sets how many queries per second go up to the responder, and how many at once.
    pub fn set_fallback(&mut self, per_second: u32, burst: u32) {
        // The burst is one larger, because the penalty of a single query takes up to one away.
        self.fallback = Rate::per_second(per_second, burst.saturating_add(1));
        self.fallback_penalty = self.fallback.tolerance * 3 / 4 / FloodPolicy::DEMAND_MAX;
        self.fallback_share = u64::from(per_second / 4).clamp(1, FloodPolicy::SHARE_MAX);
    }

    /// Prefixes with at least this many recent queries are treated alike.
    const DEMAND_MAX: u64 = 1024;
    /// The largest share. With so many recent queries a known prefix still precedes all unknown prefixes, because its
    /// penalty is less than its reserve.
    const SHARE_MAX: u64 = FloodPolicy::DEMAND_MAX / 4;

    /// Decides whether a query may go up to the responder at the time `now`, in nanoseconds. `demand` is the demand of
    /// the query's prefix; `None`: the prefix is not in the table. Returns whether the query may go up, and the demand
    /// afterwards.
    ///
    /// The queries of known prefixes count only if they go up. A known prefix that asks more than its share therefore
    /// keeps that share. For the other prefixes all queries count, so that prefixes that ask less come first. A prefix
    /// that is not in the table may be forged. It enters the table only with a query that goes up.
    #[inline(always)]
    pub fn admit_fallback(&self, all: &mut Admissions, demand: Option<Demand>, now: u64) -> (bool, Demand) {
        let (demand, seconds) = match demand {
            Some(demand) => demand.at(now),
            None => (Demand::UNSEEN, 0),
        };
        if let Some(due) = self.fallback_of(demand).admit(all.due, now) {
            all.due = due;
            let becomes_known = seconds > 0 && demand.count() < self.fallback_share && all.is_calm(now);
            return (true, demand.one_more(now, becomes_known));
        }
        all.refused = now;
        let counts = !demand.is_unseen() && !demand.is_known();
        (false, if counts { demand.one_more(now, false) } else { demand })
    }

    /// Returns the limit on queries that go up, for a prefix with this demand. All prefixes share one rate. A prefix
    /// with more recent queries may use less of the burst, and an unseen prefix may use a quarter. A reserve of half
    /// the burst is for known prefixes within their share.
    #[inline(always)]
    fn fallback_of(&self, demand: Demand) -> Rate {
        let Rate { interval, tolerance } = self.fallback;
        let count = demand.count();
        let counted = if demand.is_unseen() || count > FloodPolicy::DEMAND_MAX {
            FloodPolicy::DEMAND_MAX
        } else {
            count
        };
        let is_reserved_for = demand.is_known() && count <= self.fallback_share;
        let reserve = if is_reserved_for { tolerance / 2 + interval } else { 0 };
        let tolerance = tolerance.wrapping_add(reserve).wrapping_sub(counted * self.fallback_penalty);
        Rate { interval, tolerance }
    }

    /// Whether an address is exempt from the limit on answers.
    #[inline(always)]
    pub fn exempts(&self, address: [u64; 2]) -> bool {
        self.exempt.iter().any(|prefix| prefix.holds(address))
    }
}

fn ipv4_mask(length: u8) -> u64 {
    u64::from(u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0).to_be())
}
