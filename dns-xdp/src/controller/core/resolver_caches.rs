//! The caches of resolvers: until when they may hold an answer that is no longer given.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::Name;

use crate::cluster::Node;
use crate::config::{Config, NsAddresses};
use crate::failover::owner;
use crate::zone::{Addresses, Zone};

/// Addresses that some name no longer answers, each with the end of the longest TTL that it was answered with. Times
/// are of a monotonic clock.
#[derive(Debug, Clone, Default)]
pub(super) struct Caches {
    until: BTreeMap<IpAddr, Duration>,
}

impl Caches {
    /// Notes that a zone was replaced at `at`. `left`: the addresses that [some name no longer answers](left).
    pub(super) fn replaced(&mut self, left: &BTreeMap<IpAddr, Duration>, at: Duration) {
        self.until.retain(|_, until| *until > at);
        for (address, ttl) in left {
            let until = self.until.entry(*address).or_default();
            *until = (*until).max(at + *ttl);
        }
    }

    /// How long caches may still hold any of these addresses.
    pub(super) fn left(&self, addresses: impl IntoIterator<Item = IpAddr>, at: Duration) -> Duration {
        let until = addresses.into_iter().filter_map(|address| self.until.get(&address)).max();
        until.map_or(Duration::ZERO, |until| until.saturating_sub(at))
    }
}

/// The addresses that some name of `before` no longer answers, each with the longest TTL that it was answered with. If
/// a name keeps an address with a shorter TTL, caches hold the address for the longer TTL.
pub(in crate::controller) fn left(before: &Zone, zone: &Zone) -> BTreeMap<IpAddr, Duration> {
    let mut left: BTreeMap<IpAddr, Duration> = BTreeMap::new();
    for (name, old) in before.names() {
        let new = zone.addresses(name);
        if new == Some(old) {
            continue;
        }
        let ttl = Duration::from_secs(old.ttl_seconds.into());
        for address in handed_out(old).difference(&kept(old, new)) {
            let known = left.entry(*address).or_default();
            *known = ttl.max(*known);
        }
    }
    left
}

/// Every address in the answer to some name of the zone. Name servers' addresses that are fixed to the glue do not
/// count, because they are always answered.
pub(in crate::controller) fn answered(zone: &Zone, config: &Config) -> BTreeSet<IpAddr> {
    let suffixes = config.cluster.suffixes.iter().map(|suffix| &suffix.name);
    let origins: Vec<&Name> = std::iter::once(&config.zone.apex).chain(suffixes).collect();
    let name_servers = |node: &Node| -> Vec<Name> {
        let full = |origin: &&Name| Some(owner(node.ns.as_ref()?, origin));
        origins.iter().filter_map(full).collect()
    };
    let glue: BTreeSet<Name> = match config.zone.ns_addresses {
        NsAddresses::Fixed => config.cluster.nodes.iter().flat_map(name_servers).collect(),
        NsAddresses::Live => BTreeSet::new(),
    };
    let names = zone.names().filter(|(name, _)| !glue.contains(name));
    names.flat_map(|(_, addresses)| handed_out(addresses)).collect()
}

fn kept(old: &Addresses, new: Option<&Addresses>) -> BTreeSet<IpAddr> {
    new.filter(|new| new.ttl_seconds >= old.ttl_seconds).map(handed_out).unwrap_or_default()
}

fn handed_out(addresses: &Addresses) -> BTreeSet<IpAddr> {
    addresses.iter().filter(|_| !addresses.refused).collect()
}

#[cfg(test)]
mod tests {
    use super::super::state::State;
    use super::super::state::tests::{TEXT, config, healthy, kill, observe};
    use super::*;
    use crate::failover;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn zone(state: &State) -> Zone {
        state.zone().unwrap()
    }

    /// The same state under a configuration with another TTL.
    fn with_ttl(state: &mut State, ttl: &str) -> Zone {
        state.adopt(config(&TEXT.replace("[listen]", &format!("ttl = \"{ttl}\"\n[listen]"))));
        state.decide();
        zone(state)
    }

    #[test]
    fn an_address_that_leaves_the_answers_is_remembered_for_its_ttl() {
        let start = Duration::ZERO;
        let mut caches = Caches::default();
        let mut state = healthy(TEXT);
        let before = zone(&state);
        kill(&mut state, "node2");
        caches.replaced(&left(&before, &zone(&state)), start);
        assert_eq!(caches.left([ip(12)], start), seconds(5));
        assert_eq!(caches.left([ip(12)], start + seconds(3)), seconds(2));
        assert_eq!(caches.left([ip(12)], start + seconds(6)), Duration::ZERO);
        assert_eq!(caches.left([ip(11), ip(13)], start), Duration::ZERO);
        assert_eq!(caches.left([ip(13), ip(12)], start), seconds(5));
        caches.replaced(&left(&before, &before), start + seconds(5));
        assert!(caches.until.is_empty());
    }

    #[test]
    fn a_substitute_that_gives_a_name_back_is_remembered_too() {
        let start = Duration::ZERO;
        let mut caches = Caches::default();
        let mut state = healthy(TEXT);
        let well = zone(&state);
        kill(&mut state, "node2");
        let failed_over = zone(&state);
        for _ in 0..2 {
            observe(&mut state, "node2", true);
        }
        state.decide();
        assert_eq!(zone(&state), well);
        caches.replaced(&left(&failed_over, &well), start);
        assert_eq!(caches.left([ip(13)], start), seconds(5), "node2 answered it");
        assert_eq!(caches.left([ip(12)], start), Duration::ZERO);
    }

    #[test]
    fn the_longest_ttl_counts_even_if_it_was_shortened_before_the_address_left() {
        let start = Duration::ZERO;
        let mut caches = Caches::default();
        let mut state = healthy(TEXT);
        let long = with_ttl(&mut state, "60s");
        let short = with_ttl(&mut state, "1s");
        caches.replaced(&left(&long, &short), start);
        kill(&mut state, "node2");
        caches.replaced(&left(&short, &zone(&state)), start + seconds(10));
        assert_eq!(caches.left([ip(12)], start + seconds(10)), seconds(50));

        let mut longer = Caches::default();
        longer.replaced(&left(&short, &long), start);
        assert_eq!(longer.left([ip(12)], start), Duration::ZERO, "it is answered, and longer than before");
    }

    #[test]
    fn glue_that_is_fixed_counts_as_not_answered() {
        let mut state = healthy(&TEXT.replace("[listen]", "ns-addresses = \"fixed\"\n[listen]"));
        assert!(answered(&zone(&state), state.config()).contains(&ip(12)));
        kill(&mut state, "node2");
        let ns2 = Name::from_ascii("ns2.demo.example.com.").unwrap();
        assert_eq!(zone(&state).addresses(&ns2).unwrap().iter().next(), Some(ip(12)));
        assert!(!answered(&zone(&state), state.config()).contains(&ip(12)));
    }

    #[test]
    fn the_past_of_a_zone_that_begins_is_what_is_configured() {
        let start = Duration::ZERO;
        let mut state = healthy(TEXT);
        kill(&mut state, "node2");
        let mut caches = Caches::default();
        let past = failover::healthy_zone(state.config());
        caches.replaced(&left(&past, &zone(&state)), start);
        assert_eq!(caches.left([ip(12)], start), seconds(5));
    }
}
