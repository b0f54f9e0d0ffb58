//! Compares the live delegation with the configuration: at the parent, at each name server and at a resolver.
//!
//! Each of the three has a file.
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

/// The servers to ask, besides the zone's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Places {
    /// A server of the parent zone; `None`: found through the resolver.
    pub parent: Option<IpAddr>,
    /// A resolver; `None`: none is known.
    pub resolver: Option<IpAddr>,
}

impl Places {
    /// Returns the resolver that the system's library asks first (resolv.conf(5)).
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

/// Asks all servers at the same time, and returns the results in the order of [`Check`].
pub async fn verify(
    config: &Config,
    delegation: &Delegation,
    places: Places,
    asker: &Arc<Asker>,
) -> Vec<CheckResult> {
    let (parent, servers, resolver) = tokio::join!(
        parent::verify(config, delegation, places, asker),
        server::verify(config, delegation, asker),
        resolver::verify(config, delegation, places.resolver, asker),
    );
    let mut findings = vec![enough(delegation)];
    findings.extend(parent.into_iter().chain(servers).chain(resolver));
    // A stable sort keeps the order of the configuration within each check.
    findings.sort_by_key(|finding| finding.check);
    findings
}

fn enough(delegation: &Delegation) -> CheckResult {
    let zone = &delegation.apex;
    match delegation.name_servers.len() {
        1 => CheckResult::warn(
            Check::Servers,
            zone,
            "has one name server: when it dies, no client finds the zone",
            "add a second node, or remove `ns = false` from one",
        ),
        count => CheckResult::ok(Check::Servers, zone, format!("has {count} name servers")),
    }
}

/// Returns the name of the first node and a record type. The node has an address of this type.
fn node(delegation: &Delegation) -> (Name, RecordType) {
    let node = delegation.nodes.first().expect("a zone has a node");
    let rtype = if node.ipv4.is_some() { RecordType::A } else { RecordType::AAAA };
    (failover::owner(&node.name, &delegation.apex), rtype)
}

/// Returns a name of another zone (RFC 2606, section 3).
fn foreign(apex: &Name) -> Name {
    let names =
        ["example.net.", "example.org."].map(|name| Name::from_ascii(name).expect("a well-formed name"));
    let [first, second] = names;
    if apex.zone_of(&first) { second } else { first }
}

/// Returns the names as text, sorted.
fn listed(names: &[&Name]) -> String {
    let mut names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.sort();
    names.join(", ")
}

/// Returns the difference of two sets of names as text; `None` if they are equal.
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
