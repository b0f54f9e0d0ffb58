//! Warnings about records that are valid, but probably a mistake.
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use hickory_proto::rr::{Name, RData, RecordType};

use super::super::{Config, suffix};
use crate::cluster::APEX;
use crate::records::{
    RecordSet, Records, addresses_within, full_name, presentation, relative, source_of_synthesis, target,
    type_text, under, with_names_above,
};

/// The most warnings about records.
const WARNINGS: usize = 20;

/// The names and addresses that the warnings compare with.
struct Names<'c> {
    apex: &'c Name,
    records: &'c Records,
    /// The names of nodes, name servers and services, and the apex.
    dynamic: HashSet<Name>,
    /// Every name that exists, with or without data.
    existing: BTreeSet<Name>,
    /// The nodes by their addresses.
    nodes: HashMap<IpAddr, &'c str>,
}

/// Returns the warnings about records: about their targets in the zone, about names that have the zone's name twice, and
/// about addresses of nodes.
pub(in crate::config) fn warnings(config: &Config) -> Vec<String> {
    if config.records.is_empty() {
        return Vec::new();
    }
    let names = Names::of(config);
    let of_set = |set| {
        let of_data = |rdata| [names.target(set, rdata), names.address(set, rdata)].into_iter().flatten();
        names.doubled(set).into_iter().chain(set.data.iter().flat_map(of_data)).collect::<Vec<_>>()
    };
    config.records.iter().flat_map(of_set).take(WARNINGS).collect()
}

impl<'c> Names<'c> {
    fn of(config: &'c Config) -> Self {
        let (apex, cluster) = (&config.zone.apex, &config.cluster);
        let records = &*config.repeated_records;
        let of_nodes = cluster.nodes.iter().flat_map(|node| [Some(node.name.as_str()), node.ns.as_deref()]);
        let others = cluster.services.iter().map(|service| service.name.as_str());
        let dynamic = of_nodes.flatten().chain(others).chain([APEX]);
        let dynamic: HashSet<Name> =
            dynamic.filter_map(|name| full_name(name, apex).ok()).map(|name| name.to_lowercase()).collect();
        let suffixes: Vec<Name> = cluster.suffixes.iter().map(|suffix| suffix.name.clone()).collect();
        let existing = with_names_above(dynamic.iter().chain(records.owners()).cloned(), apex);
        let copies = suffix::copies(&existing, apex, &suffixes);
        let existing = with_names_above(existing.into_iter().chain(copies).chain(suffixes.clone()), apex);
        let under =
            |name: &Name| suffixes.iter().filter_map(|suffix| under(name, apex, suffix)).collect::<Vec<_>>();
        let copies: Vec<Name> = dynamic.iter().flat_map(under).collect();
        let dynamic = dynamic.into_iter().chain(copies).collect();
        let address =
            |node: &'c crate::cluster::Node| node.all_addresses().map(|address| (address, &*node.name));
        let nodes = cluster.nodes.iter().flat_map(address).collect();
        Names { apex, records, dynamic, existing, nodes }
    }

    fn title(&self, set: &RecordSet) -> String {
        format!("record `{} {}`", relative(&set.owner, self.apex), type_text(set.rtype))
    }

    /// Warns of a target in the zone that does not exist, is an alias, or has no addresses.
    fn target(&self, set: &RecordSet, rdata: &RData) -> Option<String> {
        let is_alias = set.rtype == RecordType::CNAME;
        let target = match rdata {
            RData::CNAME(target) => Some(target.0.to_lowercase()),
            other => target(&set.owner, other),
        };
        let target = target.filter(|target| self.apex.zone_of(target))?;
        let (title, shown) = (self.title(set), relative(&target, self.apex));
        if self.is_doubled(&target) {
            let whole = presentation(rdata);
            return Some(format!(
                "{title} points to `{whole}`, which has the zone's name twice; write a final dot if the zone's own \
                 name is meant"
            ));
        }
        let source = if self.existing.contains(&target) {
            Some(target)
        } else {
            let source = source_of_synthesis(&target, self.apex, |name| self.existing.contains(name));
            source.filter(|source| self.existing.contains(source))
        };
        let Some(source) = source else {
            return Some(format!(
                "{title} points to `{shown}`, and the zone has no such name; correct it, or add the name"
            ));
        };
        let sets = self.records.at(&source);
        let is_address = |set: &RecordSet| matches!(set.rtype, RecordType::A | RecordType::AAAA);
        let is_dynamic = self.dynamic.contains(&source);
        if is_alias {
            (sets.is_empty() && !is_dynamic).then(|| {
                format!("{title} points to `{shown}`, which has no records; correct it, or add records")
            })
        } else if self.records.alias(&source).is_some() {
            Some(format!(
                "{title} points to the alias `{shown}`; write the alias's target (RFC 2181, section 10.3)"
            ))
        } else {
            (!is_dynamic && !sets.iter().any(is_address)).then(|| {
                format!("{title} points to `{shown}`, which has no addresses; correct it, or add A and AAAA records")
            })
        }
    }

    /// Warns of the address of a node. The record keeps it after a failover.
    fn address(&self, set: &RecordSet, rdata: &RData) -> Option<String> {
        let found = addresses_within(rdata).into_iter();
        let (address, node) =
            found.filter_map(|address| Some((address, self.nodes.get(&address)?))).next()?;
        let title = self.title(set);
        Some(format!(
            "{title} has {address}, the address of the node `{node}`; it does not follow failover: use a CNAME record, \
             a [[service]] or the name of the node"
        ))
    }

    /// Warns of an owner that ends with the zone's name twice.
    fn doubled(&self, set: &RecordSet) -> Option<String> {
        self.is_doubled(&set.owner).then(|| {
            format!(
                "{} has the zone's name twice; write a final dot if the zone's own name is meant",
                self.title(set)
            )
        })
    }

    /// Whether a name ends with the zone's name twice.
    fn is_doubled(&self, name: &Name) -> bool {
        let labels = name.iter().len().saturating_sub(self.apex.iter().len());
        let front: Vec<&[u8]> = name.iter().take(labels).collect();
        let apex: Vec<&[u8]> = self.apex.iter().collect();
        // In a zone of one label, such a name is probably meant.
        apex.len() > 1 && front.ends_with(&apex)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn warnings(records: &[(&str, &str, &str)]) -> Vec<String> {
        let mut text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                        [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\nipv6 = \"2001:db8::11\"\n"
            .to_owned();
        for (name, rtype, value) in records {
            text += &format!("[[record]]\nname = {name:?}\ntype = {rtype:?}\nvalue = {value:?}\n");
        }
        super::warnings(&Config::parse(&text, Path::new("f")).unwrap())
    }

    #[test]
    fn targets_that_do_not_exist_or_are_aliases_are_warned_of() {
        let sound = [
            ("a", "MX", "10 node1"),
            ("b", "CNAME", "www.example.org."),
            ("c", "MX", "0 ."),
            ("d", "SRV", "0 0 1 ns1"),
            ("e", "MX", "10 @"),
        ];
        assert_eq!(warnings(&sound), [""; 0]);
        let found = warnings(&[("a", "SRV", "0 0 1 nod1"), ("b", "CNAME", "@"), ("c", "MX", "10 b")]);
        assert!(found[0].contains("`a SRV` points to `nod1`, and the zone has no such name"), "{found:?}");
        assert!(found[1].contains("`c MX` points to the alias `b`") && found.len() == 2, "{found:?}");
    }

    #[test]
    fn a_wildcard_stands_for_a_target_only_if_it_answers_for_it() {
        let wildcard = ("*", "A", "192.0.2.99");
        assert_eq!(warnings(&[("a", "MX", "10 x"), wildcard]), [""; 0]);
        let blocked = warnings(&[("a", "MX", "10 x.node1"), wildcard]);
        assert!(blocked[0].contains("no such name"), "{blocked:?}");
        let other = warnings(&[("a", "MX", "10 x"), ("*.y", "A", "192.0.2.99")]);
        assert!(other[0].contains("no such name"), "{other:?}");
    }

    #[test]
    fn a_target_without_addresses_exists() {
        let found = warnings(&[("a", "MX", "10 ent"), ("x.ent", "TXT", "t"), ("b", "SRV", "0 0 1 x.ent")]);
        assert!(found.iter().all(|warning| warning.contains("has no addresses")), "{found:?}");
        assert_eq!(found.len(), 2, "{found:?}");
        let alias = warnings(&[("a", "CNAME", "ent"), ("x.ent", "TXT", "t"), ("b", "CNAME", "x.ent")]);
        assert!(alias[0].contains("has no records") && alias.len() == 1, "{alias:?}");
    }

    #[test]
    fn the_zones_name_twice_is_warned_of() {
        let found = warnings(&[("demo.example.com", "TXT", "x"), ("a", "MX", "10 node1.demo.example.com")]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().all(|warning| warning.contains("write a final dot")), "{found:?}");
        assert_eq!(warnings(&[("demo", "TXT", "x"), ("example.com", "TXT", "x")]), [""; 0]);
    }

    #[test]
    fn the_address_of_a_node_does_not_follow_failover() {
        let found = warnings(&[
            ("a", "A", "192.0.2.11"),
            ("b", "AAAA", "2001:db8::11"),
            ("@", "HTTPS", "1 . ipv4hint=192.0.2.11"),
            ("c", "A", "192.0.2.12"),
        ]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found.iter().all(|warning| warning.contains("the node `node1`")), "{found:?}");
    }
}
