//! Warnings about the zone's name servers, for the sake of the parent zone, of resolvers and of clients.
use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::rr::Name;

use super::Config;
use crate::cluster::{Family, Node, SetAddresses, Suffix, some_of};

/// The most name servers: as many as the root zone has. With a glue record each they fit a referral of 512 octets.
const MANY: usize = 13;
/// The longest answer over UDP for a client without EDNS, in octets (RFC 1035, section 2.3.4).
const SHORT: usize = 512;

impl Config {
    /// Returns warnings about the NS set of this configuration.
    pub(super) fn name_server_warnings(&self) -> Vec<String> {
        let servers: Vec<(&Node, &str)> = servers(self).collect();
        let mut warnings = Vec::new();
        if let [(node, _)] = servers[..] {
            warnings.push(format!(
                "{} is the only name server: while it is down, no resolver gets an answer; a zone has at least 2 (RFC \
                 1034, section 4.1)",
                node.name
            ));
        }
        let octets = ns_octets(self, servers.iter().map(|(_, ns)| *ns));
        if servers.len() > MANY {
            warnings.push(format!(
                "the zone has {} name servers, more than {MANY}: its referrals may be longer than {SHORT} octets; write `ns = false` in the [[node]] of the others",
                servers.len()
            ));
        } else if octets > SHORT {
            warnings.push(format!(
                "the answer with the NS records has {octets} octets, more than the {SHORT} of clients without EDNS; \
                 shorten the names (`ns`), or write `ns = false` in some [[node]]"
            ));
        }
        warnings.extend(Family::ALL.into_iter().filter_map(|family| unreachable(&servers, family)));
        warnings
    }
}

/// Returns a warning for each name server that a new configuration renames, moves or removes, and for new ones, because
/// the parent zone has their names and addresses.
pub(super) fn changed(before: &Config, after: &Config) -> Option<String> {
    let glue = |config: &Config| -> BTreeMap<String, Vec<IpAddr>> {
        servers(config).map(|(node, ns)| (ns.to_owned(), node.addresses().collect())).collect()
    };
    let (old, new) = (glue(before), glue(after));
    if before.zone.apex != after.zone.apex || old == new {
        return None;
    }
    let mut changes = Vec::new();
    for (ns, addresses) in &new {
        match old.get(ns) {
            Some(known) if known == addresses => {}
            Some(known) => changes.push(format!("{ns} moves from {} to {}", list(known), list(addresses))),
            None => changes.push(format!("{ns} is new ({})", list(addresses))),
        }
    }
    changes.extend(old.keys().filter(|ns| !new.contains_key(*ns)).map(|ns| format!("{ns} is gone")));
    let known: BTreeMap<&str, &str> = servers(before).map(|(node, ns)| (node.name.as_str(), ns)).collect();
    let renamed = servers(after).filter_map(|(node, ns)| {
        let known = known.get(node.name.as_str()).filter(|known| **known != ns)?;
        Some(format!("ns = \"{known}\" in [[node]] {}", node.name))
    });
    let renamed: Vec<String> = renamed.collect();
    let keep = match &renamed[..] {
        [] => String::new(),
        renamed => format!("; to keep the names, write {}", listed(renamed)),
    };
    Some(format!(
        "the name servers change: {}; `dns-xdp delegation show` prints the records for the parent zone{keep}",
        listed(&changes)
    ))
}

/// Returns a warning for each suffix that is a zone of its own, if a new configuration adds it or changes its name servers.
pub(super) fn changed_of_suffixes(before: &Config, after: &Config) -> Vec<String> {
    let old = glue_of_suffixes(before);
    let is_other = |(zone, glue): &(&Name, Vec<(&str, Vec<IpAddr>)>)| old.get(zone) != Some(glue);
    let changed = glue_of_suffixes(after).into_iter().filter(is_other);
    changed
        .map(|(zone, _)| {
            let zone = zone.to_ascii();
            let zone = zone.trim_end_matches('.');
            format!(
                "the zone {zone} has new name servers; `dns-xdp delegation show --zone {zone}` prints the records for \
                 its parent zone"
            )
        })
        .collect()
}

/// Returns the name servers of each suffix that is a zone of its own, with their addresses.
fn glue_of_suffixes(config: &Config) -> BTreeMap<&Name, Vec<(&str, Vec<IpAddr>)>> {
    let own = config.cluster.suffixes.iter().filter(|suffix| !config.zone.apex.zone_of(&suffix.name));
    let glue = |suffix: &Suffix| {
        let addresses = |node: &Node| -> Vec<IpAddr> {
            match &suffix.set {
                Some(set) => node.sets.get(set).into_iter().flat_map(SetAddresses::addresses).collect(),
                None => node.addresses().collect(),
            }
        };
        let servers = servers(config).map(|(node, ns)| (ns, addresses(node)));
        servers.filter(|(_, addresses)| !addresses.is_empty()).collect()
    };
    own.map(|suffix| (&suffix.name, glue(suffix))).collect()
}

fn listed(texts: &[String]) -> String {
    some_of(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The nodes that are name servers, with the names of their name servers.
fn servers(config: &Config) -> impl Iterator<Item = (&Node, &str)> {
    config.cluster.nodes.iter().filter_map(|node| Some((node, node.ns.as_deref()?)))
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// Returns the octets of the answer to a query for the NS records. Each record repeats the zone's name by a pointer (RFC
/// 1035, section 4.1.4).
fn ns_octets<'a>(config: &Config, servers: impl Iterator<Item = &'a str>) -> usize {
    const HEADER: usize = 12;
    const TYPE_AND_CLASS: usize = 4;
    const POINTER: usize = 2;
    const TYPE_TO_LENGTH: usize = 10;
    let record = |ns: &str| POINTER + TYPE_TO_LENGTH + ns.len() + 1 + POINTER;
    // hickory does not count the octet of the root.
    HEADER + config.zone.apex.len() + 1 + TYPE_AND_CLASS + servers.map(record).sum::<usize>()
}

/// Returns a warning about name servers with private addresses, if others have public ones: no client has a path to all.
fn unreachable(servers: &[(&Node, &str)], family: Family) -> Option<String> {
    let addresses = || servers.iter().filter_map(|(node, _)| Some((node, node.address(family)?)));
    let private: Vec<&str> =
        addresses().filter(|(_, address)| is_private(*address)).map(|(node, _)| node.name.as_str()).collect();
    if private.is_empty() || addresses().all(|(_, address)| is_private(address)) {
        return None;
    }
    Some(format!(
        "name servers with private {family} addresses ({}) are beside some with public ones: a client outside \
         reaches only a part of the name servers; write `ns = false` in the [[node]] of the private ones",
        some_of(&private)
    ))
}

/// Whether an address is for private networks (RFC 1918, RFC 4193, RFC 6598).
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ipv4) => {
            let [first, second, ..] = ipv4.octets();
            ipv4.is_private() || first == 100 && second & 0xc0 == 64
        }
        IpAddr::V6(ipv6) => ipv6.is_unique_local(),
    }
}
