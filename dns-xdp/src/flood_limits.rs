//! The limits that apply in a flood: cookies, a limit on answers to each client prefix, and a limit on queries to the
//! responder.
use std::net::IpAddr;

use dns_xdp_ebpf::cookie::Secret;
use dns_xdp_ebpf::table;
use dns_xdp_ebpf::table::limit::Rate;

/// The burst for the responder is the rate divided by this: the queries of 1/4 s.
const FALLBACK_BURST: u32 = 4;

/// The settings, for the program and the responder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FloodLimits {
    /// `[rate-limit]`
    pub rate_limit: RateLimit,
    /// `[fallback] queries-per-second`: the most queries that the program passes up; 0: no limit.
    pub fallback_per_second: u32,
    /// `[cookies] secrets`: the first secret makes cookies, all verify them. Empty: cookies are ignored.
    pub secrets: Vec<Secret>,
}

/// Response rate limiting: the limit on UDP answers to the clients of one prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RateLimit {
    /// Answers per second to a prefix; 0: no limit.
    pub answers_per_second: u32,
    /// The answers that may be sent at once; 0: as many as in 1 s.
    pub burst: u32,
    /// One in `slip` of the answers above the limit is sent truncated, the others are dropped. 0: all are dropped.
    pub slip: u32,
    /// Bits of an IPv4 prefix, at most 32.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 prefix, at most 64.
    pub ipv6_prefix: u8,
    /// Networks that are never limited, at most [`table::EXEMPT_MAX`].
    pub exempt: Vec<Network>,
}

/// The addresses that share their first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// An address in the network.
    pub address: IpAddr,
    /// The number of the shared bits.
    pub length: u8,
}

impl FloodLimits {
    /// Whether cookies or limits on answers are on, which only some variants of the program have.
    pub fn takes_guarded_program(&self) -> bool {
        !self.secrets.is_empty() || self.rate_limit.answers_per_second != 0
    }

    /// Returns the settings as the program and the responder use them.
    pub fn table(&self) -> table::FloodPolicy {
        let RateLimit { answers_per_second, burst, slip, ipv4_prefix, ipv6_prefix, exempt } =
            &self.rate_limit;
        let burst = if *burst == 0 { *answers_per_second } else { *burst };
        let mut policy = table::FloodPolicy {
            answers: Rate::per_second(*answers_per_second, burst),
            slip: *slip,
            ..table::FloodPolicy::NONE
        };
        policy.set_fallback(self.fallback_per_second, self.fallback_per_second / FALLBACK_BURST);
        policy.set_secrets(&self.secrets);
        for (place, network) in policy.exempt.iter_mut().zip(exempt) {
            *place = table::Prefix::new(network.address, network.length);
        }
        policy.set_prefixes(*ipv4_prefix, *ipv6_prefix);
        policy
    }
}

#[cfg(test)]
mod tests {
    use dns_xdp_ebpf::table::address_words;

    use super::*;

    fn words(address: &str) -> [u64; 2] {
        address_words(address.parse().unwrap())
    }

    fn prefixes(ipv4_prefix: u8, ipv6_prefix: u8) -> table::FloodPolicy {
        FloodLimits {
            rate_limit: RateLimit { ipv4_prefix, ipv6_prefix, ..RateLimit::default() },
            ..FloodLimits::default()
        }
        .table()
    }

    #[test]
    fn clients_of_one_prefix_share_a_key_and_others_do_not() {
        let policy = prefixes(24, 56);
        let key = |address| policy.prefix(words(address));
        assert_eq!(key("192.0.2.1"), key("192.0.2.255"));
        assert_ne!(key("192.0.2.1"), key("192.0.3.1"));
        assert_eq!(key("2001:db8:0:12::1"), key("2001:db8:0:34:5::9"));
        assert_ne!(key("2001:db8:0:100::1"), key("2001:db8:0:200::1"));
        assert_ne!(key("192.0.2.1"), key("::192.0.2.1"));
        let (each, all) = (prefixes(32, 64), prefixes(0, 0));
        assert_ne!(each.prefix(words("192.0.2.1")), each.prefix(words("192.0.2.2")));
        assert_eq!(all.prefix(words("192.0.2.1")), all.prefix(words("203.0.113.9")));
        assert_eq!(all.prefix(words("2001:db8::1")), all.prefix(words("fe80::1")));
    }

    #[test]
    fn exempt_are_the_addresses_of_the_networks_and_no_others() {
        let network = |address: &str, length| Network { address: address.parse().unwrap(), length };
        let networks = [network("10.1.2.3", 8), network("2001:db8:1::", 48), network("2001:db8:2::7", 128)];
        let rate_limit = RateLimit { exempt: networks.to_vec(), ..RateLimit::default() };
        let policy = FloodLimits { rate_limit, ..FloodLimits::default() }.table();
        for (address, exempt) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("2001:db8:1:ffff::1", true),
            ("2001:db8:2::7", true),
            ("2001:db8:2::8", false),
            ("::a01:203", false),
        ] {
            assert_eq!(policy.exempts(words(address)), exempt, "{address}");
        }
        assert!(!prefixes(24, 56).exempts([0; 2]) && !prefixes(24, 56).exempts([1; 2]));
        let all = RateLimit { exempt: vec![network("0.0.0.0", 0)], ..RateLimit::default() };
        let all = FloodLimits { rate_limit: all, ..FloodLimits::default() }.table();
        assert!(all.exempts(words("192.0.2.1")) && !all.exempts(words("2001:db8::1")));
    }

    #[test]
    fn no_secret_shows_itself() {
        let limits = FloodLimits { secrets: vec![Secret::new([0x5e; 16])], ..FloodLimits::default() };
        for text in [format!("{limits:?}"), format!("{:?}", limits.table())] {
            assert!(!text.contains("5e") && !text.contains(&0x5e5e_5e5e_5e5e_5e5e_u64.to_string()), "{text}");
        }
    }
}
