//! The live state of a delegation: what the parent, each name server and a resolver say, held against the configuration.
//!
//! A file for each of the three.
mod parent;
mod resolver;
mod server;

use std::fs;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RecordType};

use super::ask::Asker;
use super::{Check, CheckResult, Delegation};
use crate::config::Config;
use crate::failover;

/// Where to ask.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Places {
    /// A server of the parent zone; `None`: found through the resolver.
    pub parent: Option<IpAddr>,
    /// A resolver; `None`: there is none.
    pub resolver: Option<IpAddr>,
}

impl Places {
    /// The resolver that the system's own library asks first (resolv.conf(5)).
    pub fn system_resolver() -> Option<IpAddr> {
        resolver_in(&fs::read_to_string("/etc/resolv.conf").ok()?)
    }
}

fn resolver_in(resolv_conf: &str) -> Option<IpAddr> {
    resolv_conf.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok()).flatten()
    })
}

/// Asks all of them at the same time, and returns what was found in the order of [`Check`].
pub async fn verify(
    config: &Config,
    delegation: &Delegation,
    places: Places,
    asker: &Arc<Asker>,
) -> Vec<CheckResult> {
    let (parent, servers, resolver) = tokio::join!(
        parent::verify(config, delegation, places, asker),
        server::verify(config, delegation, asker),
        resolver::verify(config, places.resolver, asker),
    );
    let mut findings = vec![enough(delegation)];
    findings.extend(parent.into_iter().chain(servers).chain(resolver));
    // Stable: within a check the order of the configuration.
    findings.sort_by_key(|finding| finding.check);
    findings
}

fn enough(delegation: &Delegation) -> CheckResult {
    let zone = &delegation.apex;
    match delegation.name_servers.len() {
        1 => CheckResult::warn(
            Check::Servers,
            zone,
            "has one name server: when it dies, nobody finds the zone",
            "add a second node",
        ),
        count => CheckResult::ok(Check::Servers, zone, format!("has {count} name servers")),
    }
}

/// The first node's name and a type of which it has an address.
fn node(config: &Config) -> (Name, RecordType) {
    let node = config.cluster.nodes.first().expect("a cluster has a node");
    let rtype = if node.ipv4.is_some() { RecordType::A } else { RecordType::AAAA };
    (failover::owner(&node.name, &config.zone.apex), rtype)
}

/// A name of another zone (RFC 2606, section 3).
fn foreign(apex: &Name) -> Name {
    let names =
        ["example.net.", "example.org."].map(|name| Name::from_ascii(name).expect("a well-formed name"));
    let [first, second] = names;
    if apex.zone_of(&first) { second } else { first }
}

/// Names for a reader, sorted.
fn listed(names: &[&Name]) -> String {
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.sort();
    names.join(", ")
}

/// What of `seen` is not in `wanted` and the other way round, in words; `None` when they are the same set.
fn difference(wanted: &[&Name], seen: &[&Name]) -> Option<String> {
    let missing: Vec<&Name> = wanted.iter().filter(|name| !seen.contains(name)).copied().collect();
    let foreign: Vec<&Name> = seen.iter().filter(|name| !wanted.contains(name)).copied().collect();
    let parts = [("does not name", missing), ("names besides", foreign)];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    let parts: Vec<String> = parts.map(|(what, names)| format!("{what} {}", listed(names))).collect();
    (!parts.is_empty()).then(|| parts.join(", and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_resolver_that_can_be_read_is_the_systems() {
        let text =
            "# nameserver 192.0.2.1\nsearch example.com\nnameserver fe80::1%eth0\nnameserver 192.0.2.2 x\n";
        assert_eq!(resolver_in(text), Some(IpAddr::from([192, 0, 2, 2])));
        assert_eq!(resolver_in("options edns0\nnameserver\n"), None);
    }

    #[test]
    fn what_is_missing_and_what_is_foreign_is_told() {
        let [a, b, c] = ["a.", "b.", "c."].map(|name| Name::from_ascii(name).unwrap());
        assert_eq!(difference(&[&a, &b], &[&b, &a]), None);
        assert_eq!(difference(&[&a, &b], &[&b]).unwrap(), "does not name a.");
        assert_eq!(difference(&[&a], &[&c, &b]).unwrap(), "does not name a., and names besides b., c.");
    }
}
