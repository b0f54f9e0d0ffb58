//! Reads `[[suffix]]` and the address sets of nodes, and checks them against the other names of the zone.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::Name;

use super::check::names_of_the_zone;
use super::diagnostic::{At, Diagnostics};
use super::record::RecordSpec;
use super::spec::{ClusterSpec, NodeSpec};
use super::table_reader::TableReader;
use super::{Config, field};
use crate::cluster::{APEX, SetAddresses, Suffix, some_of};
use crate::records::{self, relative};

/// The most suffixes of a zone. The program compares a name that it does not find with each of their names.
pub(super) const SUFFIXES_MAX: usize = 8;
/// The most octets of a name (RFC 1035, section 2.3.4).
const NAME_MAX: usize = 255;

/// One `[node.addresses.NAME]`, with the places of its values.
pub(super) struct SetSpec {
    pub(super) name: At<String>,
    pub(super) ipv4: Option<At<Ipv4Addr>>,
    pub(super) ipv6: Option<At<Ipv6Addr>>,
}

/// One `[[suffix]]`, with the places of its values.
pub(super) struct SuffixSpec {
    pub(super) name: At<Name>,
    pub(super) set: Option<At<String>>,
}

/// Reads the address sets of a node.
pub(super) fn sets(mut section: TableReader<'_>) -> Vec<SetSpec> {
    let mut sets: Vec<SetSpec> = Vec::new();
    for (At { at, value: key }, mut section) in section.tables("[node.addresses.internal]") {
        let ipv4 = section.located("ipv4", field::ipv4);
        let ipv6 = section.located("ipv6", field::ipv6);
        if !section.has("ipv4") && !section.has("ipv6") {
            section.problem(
                at,
                format!(
                    "the address set `{key}` has no address; write ipv4 = \"10.0.0.11\", or `ipv6`, or both"
                ),
            );
        }
        section.close();
        match field::set_name(&key) {
            Ok(name) if sets.iter().any(|set| set.name.value == name) => {
                section.problem(at, format!("the node has the address set `{name}` already; remove one"));
            }
            Ok(name) => sets.push(SetSpec { name: At { at, value: name }, ipv4, ipv6 }),
            Err(problem) => section.problem(at, format!("the name of an address set {problem}")),
        }
    }
    sets
}

/// Reads a suffix. Without an apex only the keys are checked.
pub(super) fn suffix(mut section: TableReader<'_>, apex: Option<&Name>) -> Option<SuffixSpec> {
    let name = section.required("name", "\"internal\"", field::suffix_name);
    let set = section.located("addresses", field::set);
    section.close();
    let (At { at, value: text }, apex) = (name?, apex?);
    match full_name(&text, apex) {
        Ok(name) => Some(SuffixSpec { name: At { at, value: name }, set }),
        Err(problem) => {
            section.problem(at, format!("`name` is `{text}`, {problem}"));
            None
        }
    }
}

/// Returns the full name of a suffix. A name with a final dot, or with the zone's name at its end, is full; one label is
/// relative to the zone.
pub(super) fn full_name(text: &str, apex: &Name) -> Result<Name, String> {
    let too_long = |_| "which is longer than 255 octets in full; shorten it".to_owned();
    let mut full = Name::from_ascii(text).map_err(too_long)?;
    let is_full = full.is_fqdn();
    full.set_fqdn(true);
    let shown = apex.to_ascii();
    if full == *apex {
        return Err("which is the zone itself; write another name".to_owned());
    }
    if full.zone_of(apex) {
        return Err(format!("and the zone {shown} is below it; write a name below the zone, or beside it"));
    }
    if is_full || apex.zone_of(&full) {
        return Ok(full);
    }
    if text.contains('.') {
        return Err(format!(
            "which has several labels; for a zone of its own write \"{text}.\" with a final dot, for a name below the \
             zone write \"{text}.{}\" in full",
            shown.trim_end_matches('.')
        ));
    }
    let mut label = Name::from_ascii(text).map_err(too_long)?;
    label.set_fqdn(false);
    label.append_domain(apex).map_err(too_long)
}

/// Records every problem of the suffixes and address sets.
pub(super) fn check(spec: &ClusterSpec, records: &[RecordSpec], problems: &Diagnostics) {
    addresses(spec, problems);
    if let Some(SuffixSpec { name, .. }) = spec.suffixes.get(SUFFIXES_MAX) {
        let text = format!(
            "there are {} suffixes; a zone has at most {SUFFIXES_MAX}: remove some",
            spec.suffixes.len()
        );
        problems.add(name.at, text);
    }
    for suffix in &spec.suffixes {
        set(suffix, spec, problems);
    }
    let Some(apex) = &spec.apex else { return };
    among_themselves(spec, apex, problems);
    beside_other_names(spec, apex, problems);
    let suffixes = names(&spec.suffixes);
    let full = names_of_the_zone(spec, records).filter_map(|name| records::full_name(name, apex).ok());
    let full: Vec<Name> = full.filter(|name| records::suffix_of(name, &suffixes).is_none()).collect();
    for SuffixSpec { name: At { at, value }, .. } in &spec.suffixes {
        if let Some(name) = full.iter().find(|name| records::under(name, apex, value).is_none()) {
            let text = format!(
                "`{}` has more than {NAME_MAX} octets under the suffix `{}`; shorten one of them",
                relative(name, apex),
                relative(value, apex)
            );
            problems.add(*at, text);
        }
    }
    for suffix in spec.suffixes.iter().filter(|suffix| !apex.zone_of(&suffix.name.value)) {
        let has = |node: &&NodeSpec| match &suffix.set {
            Some(At { value, .. }) => node.sets.iter().any(|set| set.name.value == *value),
            None => true,
        };
        if !spec.nodes.iter().filter(has).any(|node| node.ns.is_some()) {
            let text = format!(
                "the suffix `{}` is a zone of its own, and no node with its addresses is a name server; remove `ns = \
                 false` from one of them, or write a name below the zone",
                suffix.name.value
            );
            problems.add(suffix.name.at, text);
        }
    }
}

/// Records an address set that no node has, or that decides about no probed node.
fn set(suffix: &SuffixSpec, spec: &ClusterSpec, problems: &Diagnostics) {
    let Some(At { at, value }) = &suffix.set else { return };
    let has = |node: &&NodeSpec| node.sets.iter().any(|set| set.name.value == *value);
    let mut nodes = spec.nodes.iter().filter(has).peekable();
    if nodes.peek().is_none() {
        let known: BTreeSet<&str> =
            spec.nodes.iter().flat_map(|node| &node.sets).map(|set| set.name.value.as_str()).collect();
        let remedy = match problems.nearest_name(value, known.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => format!("write [node.addresses.{value}] below the [[node]] of each node that has them"),
        };
        problems.add(*at, format!("`addresses` is `{value}`, and no node has such addresses; {remedy}"));
    } else if nodes.all(|node| node.health.probes.is_empty()) {
        let text = format!(
            "every node with the addresses `{value}` has probe = \"none\"; a node can take over for another only if \
             some node is probed: give the set to a node that is probed"
        );
        problems.add(*at, text);
    }
}

/// Records suffixes at or below another.
fn among_themselves(spec: &ClusterSpec, apex: &Name, problems: &Diagnostics) {
    for (place, suffix) in spec.suffixes.iter().enumerate() {
        let (name, shown) = (&suffix.name.value, relative(&suffix.name.value, apex));
        if spec.suffixes[..place].iter().any(|other| other.name.value == *name) {
            let text = format!("the suffix `{shown}` is there already; remove one");
            problems.add(suffix.name.at, text);
        } else if let Some(above) =
            spec.suffixes.iter().find(|other| other.name.value != *name && other.name.value.zone_of(name))
        {
            let text = format!(
                "the suffix `{shown}` is below the suffix `{}`, which repeats the names of the zone; rename one",
                relative(&above.name.value, apex)
            );
            problems.add(suffix.name.at, text);
        }
    }
}

/// Records suffixes at or below another name of the zone, and other names below a suffix.
fn beside_other_names(spec: &ClusterSpec, apex: &Name, problems: &Diagnostics) {
    let suffixes: BTreeMap<String, &SuffixSpec> = (spec.suffixes.iter())
        .filter(|suffix| apex.zone_of(&suffix.name.value))
        .map(|suffix| (relative(&suffix.name.value, apex), suffix))
        .collect();
    if suffixes.is_empty() {
        return;
    }
    let nodes = spec.nodes.iter().map(|node| (&node.name, "the node"));
    let servers = spec.nodes.iter().filter_map(|node| Some((node.ns.as_ref()?, "the name server")));
    let services = spec.services.iter().map(|service| (&service.name, "the service"));
    let is_below = |name: &str, above: &str| {
        name.strip_suffix(above).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    for (At { at, value: name }, kind) in nodes.chain(servers).chain(services) {
        for (shown, suffix) in &suffixes {
            if is_below(shown, name) {
                let how = if shown == name { "is" } else { "is below" };
                let text = format!("the suffix `{shown}` {how} {kind} `{name}`; rename one");
                problems.add(suffix.name.at, text);
            } else if is_below(name, shown) {
                let text = format!(
                    "{kind} `{name}` is below the suffix `{shown}`, which repeats the names of the zone; rename one"
                );
                problems.add(*at, text);
            }
        }
    }
}

/// Records an address that 2 nodes have. A node may have the same address in several sets.
fn addresses(spec: &ClusterSpec, problems: &Diagnostics) {
    let mut taken: BTreeMap<IpAddr, (Option<usize>, String)> = BTreeMap::new();
    for (index, node) in spec.nodes.iter().enumerate() {
        let own = node.ipv4.iter().map(|ipv4| IpAddr::V4(ipv4.value));
        for address in own.chain(node.ipv6.iter().map(|ipv6| IpAddr::V6(ipv6.value))) {
            let holder = format!("node `{}`", node.name.value);
            taken.entry(address).or_insert((Some(index), holder));
        }
    }
    for witness in &spec.witness {
        taken.entry(witness.value).or_insert((None, "a witness".to_owned()));
    }
    for (index, node) in spec.nodes.iter().enumerate() {
        for set in &node.sets {
            let ipv4 = set.ipv4.iter().map(|ipv4| (ipv4.at, IpAddr::V4(ipv4.value)));
            let ipv6 = set.ipv6.iter().map(|ipv6| (ipv6.at, IpAddr::V6(ipv6.value)));
            for (at, address) in ipv4.chain(ipv6) {
                let holder = format!("node `{}` in the set `{}`", node.name.value, set.name.value);
                match taken.get(&address) {
                    Some((other, holder)) if *other != Some(index) => {
                        let text =
                            format!("{address} is already the address of {holder}; each address counts once");
                        problems.add(at, text);
                    }
                    Some(_) => {}
                    None => drop(taken.insert(address, (Some(index), holder))),
                }
            }
        }
    }
}

/// Returns the address sets of a checked node.
pub(super) fn into_sets(sets: Vec<SetSpec>) -> BTreeMap<String, SetAddresses> {
    let set = |set: SetSpec| {
        let (ipv4, ipv6) = (set.ipv4.map(|ipv4| ipv4.value), set.ipv6.map(|ipv6| ipv6.value));
        (set.name.value, SetAddresses { ipv4, ipv6 })
    };
    sets.into_iter().map(set).collect()
}

/// Returns a checked suffix.
pub(super) fn into_suffix(suffix: SuffixSpec) -> Suffix {
    Suffix { name: suffix.name.value, set: suffix.set.map(|set| set.value) }
}

/// Returns the holder of the name that a suffix repeats at `name`, and the suffix. Both names are relative to the zone.
pub(super) fn repeated<'n>(spec: &ClusterSpec, name: &'n str) -> Option<(&'n str, String)> {
    let apex = spec.apex.as_ref()?;
    let suffixes = spec.suffixes.iter().map(|suffix| &suffix.name.value);
    suffixes.filter(|suffix| apex.zone_of(suffix)).find_map(|suffix| {
        let suffix = relative(suffix, apex);
        let own = name.strip_suffix(&suffix)?;
        match own.strip_suffix('.') {
            Some(own) => Some((own, suffix)),
            None if own.is_empty() => Some((APEX, suffix)),
            None => None,
        }
    })
}

/// Returns a warning for each address set that no suffix uses, and about nodes that lack a set.
pub(super) fn warnings(config: &Config) -> Vec<String> {
    let cluster = &config.cluster;
    let used: BTreeSet<&String> = cluster.suffixes.iter().filter_map(|suffix| suffix.set.as_ref()).collect();
    let sets: BTreeSet<&String> = cluster.nodes.iter().flat_map(|node| node.sets.keys()).collect();
    let unused = sets.iter().filter(|set| !used.contains(*set)).map(|set| {
        format!("no suffix uses the addresses `{set}`; write a [[suffix]] with addresses = \"{set}\", or remove them")
    });
    let lacking = used.iter().filter_map(|set| {
        let without = cluster.nodes.iter().filter(|node| !node.sets.contains_key(*set));
        let names: Vec<&str> = without.map(|node| node.name.as_str()).collect();
        (!names.is_empty()).then(|| {
            format!(
                "no addresses `{set}`: {}; under the suffix, another node answers for such a node",
                some_of(&names)
            )
        })
    });
    let few = used.iter().flat_map(|set| {
        let has_it = |name: &String| {
            cluster.nodes.iter().any(|node| node.name == *name && node.sets.contains_key(*set))
        };
        cluster.services.iter().filter_map(move |service| {
            let members = service.nodes.iter().filter(|name| has_it(name)).count();
            (members < service.min_healthy).then(|| {
                format!(
                    "`min-healthy` of the service `{}` is {}, and {members} of its nodes have the addresses `{set}`: under the \
                     suffix all of them are answered, dead ones too; lower it, or give more of its nodes such addresses",
                    service.name, service.min_healthy
                )
            })
        })
    });
    unused.chain(lacking).chain(few).collect()
}

/// Returns the names of all suffixes.
pub(super) fn names(suffixes: &[SuffixSpec]) -> Vec<Name> {
    suffixes.iter().map(|suffix| suffix.name.value.clone()).collect()
}

/// Returns every name of the zone under the suffixes. `names` are the other names of the zone.
pub(super) fn copies(names: &BTreeSet<Name>, apex: &Name, suffixes: &[Name]) -> BTreeSet<Name> {
    let own = || names.iter().filter(|name| records::suffix_of(name, suffixes).is_none());
    suffixes.iter().flat_map(|suffix| own().filter_map(|name| records::under(name, apex, suffix))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The first line behind this file is line 16.
    const FILE: &str = r#"[zone]
name = "demo.example.com"
[listen]
interfaces = ["eth0"]
[[node]]
name = "node1"
ipv4 = "192.0.2.11"
[node.addresses.internal]
ipv4 = "10.0.0.11"
[[node]]
name = "node2"
ipv4 = "192.0.2.12"
[[service]]
name = "db.prod"
nodes = ["node1"]
"#;

    fn parse(more: &str) -> Result<Config, String> {
        Config::parse(&format!("{FILE}{more}"), Path::new("f")).map_err(|error| error.to_string())
    }

    fn suffix(name: &str) -> String {
        format!("[[suffix]]\nname = \"{name}\"\n")
    }

    #[test]
    fn a_suffix_is_one_label_or_a_full_name_and_has_the_nodes_own_addresses_or_a_set() {
        let text = suffix("Internal") + "addresses = \"INTERNAL\"\n" + &suffix("a.b.demo.example.com");
        let config = parse(&text).unwrap();
        let found: Vec<_> = config
            .cluster
            .suffixes
            .iter()
            .map(|suffix| (suffix.name.to_string(), suffix.set.clone()))
            .collect();
        let expected = [
            ("internal.demo.example.com.".to_owned(), Some("internal".to_owned())),
            ("a.b.demo.example.com.".to_owned(), None),
        ];
        assert_eq!(found, expected);
        assert_eq!(config.cluster.nodes[0].sets["internal"].ipv4, Some([10, 0, 0, 11].into()));
    }

    #[test]
    fn a_zone_of_its_own_ends_in_a_dot_and_needs_a_name_server() {
        let text = suffix("mycluster.corp.example.") + "addresses = \"internal\"\n";
        let config = parse(&text).unwrap();
        assert_eq!(config.cluster.suffixes[0].name.to_string(), "mycluster.corp.example.");
        let none = Config::parse(&(FILE.replacen("ipv4", "ns = false\nipv4", 1) + &text), Path::new("f"));
        let error = none.unwrap_err().to_string();
        assert!(
            error.contains("f:18: the suffix `mycluster.corp.example.` is a zone of its own, and no node"),
            "{error}"
        );
    }

    #[test]
    fn what_no_suffix_can_be_is_refused_with_its_line() {
        let many: String = (1..=9).map(|number| suffix(&format!("s{number}"))).collect();
        let cases = [
            (suffix("node1"), "f:17: the suffix `node1` is the node `node1`"),
            (suffix("a.node1.demo.example.com"), "f:17: the suffix `a.node1` is below the node `node1`"),
            (suffix("ns2"), "f:17: the suffix `ns2` is the name server `ns2`"),
            (
                suffix("x.db.prod.demo.example.com."),
                "f:17: the suffix `x.db.prod` is below the service `db.prod`",
            ),
            (suffix("prod"), "f:14: the service `db.prod` is below the suffix `prod`"),
            (suffix("a") + &suffix("A.demo.example.com"), "f:19: the suffix `a` is there already"),
            (suffix("a") + &suffix("b.a.demo.example.com"), "f:19: the suffix `b.a` is below the suffix `a`"),
            (suffix("b.a.demo.example.com") + &suffix("a"), "f:17: the suffix `b.a` is below the suffix `a`"),
            (suffix("demo.example.com"), "f:17: `name` is `demo.example.com`, which is the zone itself"),
            (
                suffix("example.com."),
                "f:17: `name` is `example.com.`, and the zone demo.example.com. is below it",
            ),
            (suffix("mycluster.corp.example"), "for a zone of its own write \"mycluster.corp.example.\""),
            (suffix("a_b"), "f:17: `name` is `a_b`, which is no host name"),
            (many, "f:33: there are 9 suffixes; a zone has at most 8"),
            (
                suffix("in") + "addresses = \"intrenal\"\n",
                "f:18: `addresses` is `intrenal`, and no node has such addresses; did you mean `internal`?",
            ),
            (suffix("in") + "addresses = \"a.b\"\n", "f:18: `addresses` is `a.b`; use letters"),
            (suffix("in") + "adresses = \"internal\"\n", "did you mean `addresses`?"),
            ("[[suffix]]\naddresses = \"internal\"\n".to_owned(), "f:16: [[suffix]] has no `name`"),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn what_no_address_set_can_be_is_refused_with_its_line() {
        let node3 = |set: &str| format!("[[node]]\nname = \"node3\"\nipv4 = \"192.0.2.13\"\n{set}");
        let cases = [
            ("[node.addresses.x]\n", "f:19: the address set `x` has no address"),
            (
                "[node.addresses.x]\nipv4 = \"192.0.2.11\"\n",
                "f:20: 192.0.2.11 is already the address of node `node1`",
            ),
            (
                "[node.addresses.x]\nipv4 = \"10.0.0.11\"\n",
                "f:20: 10.0.0.11 is already the address of node `node1` in the set `internal`",
            ),
            ("[node.addresses.\"a b\"]\nipv4 = \"10.0.0.13\"\n", "f:19: the name of an address set is `a b`"),
            ("[node.addresses.x]\nipv4 = \"127.0.0.1\"\n", "f:20: `ipv4` is 127.0.0.1, a loopback address"),
            ("[node.addresses.x]\nipv4 = \"10.0.0.13\"\ntarget = \"10.0.0.1\"\n", "f:21: "),
            ("addresses = \"10.0.0.13\"\n", "a section is wanted here; write [node.addresses]"),
        ];
        for (set, expected) in cases {
            let error = parse(&node3(set)).unwrap_err();
            assert!(error.contains(expected), "{set}: {error}");
        }
        let own = node3("[node.addresses.x]\nipv4 = \"192.0.2.13\"\n");
        assert!(parse(&own).is_ok(), "a node may have one address in several sets");
    }

    #[test]
    fn names_that_are_too_long_under_a_suffix_are_refused() {
        let label = "a".repeat(60);
        let long = format!("{label}.{label}.{label}.demo.example.com");
        let node = format!("[[node]]\nname = \"{label}\"\nipv4 = \"192.0.2.13\"\n");
        let error = parse(&(node + &suffix(&long))).unwrap_err();
        assert!(error.contains("more than 255 octets under the suffix"), "{error}");
    }

    #[test]
    fn records_do_not_take_the_names_that_a_suffix_repeats() {
        let record = |name: &str, rtype: &str, value: &str| {
            format!("[[record]]\nname = {name:?}\ntype = {rtype:?}\nvalue = {value:?}\n")
        };
        for name in ["node1.internal", "internal", "db.prod.internal"] {
            let error = parse(&(suffix("internal") + &record(name, "A", "192.0.2.99"))).unwrap_err();
            assert!(
                error.contains("under the suffix `internal`, which answers addresses already"),
                "{error}"
            );
            let error = parse(&(suffix("internal") + &record(name, "CNAME", "www"))).unwrap_err();
            assert!(error.contains("beside a CNAME"), "{error}");
        }
        let text = suffix("internal")
            + &record("_acme-challenge.internal", "TXT", "a")
            + &record("www", "CNAME", "node1.internal");
        let config = parse(&text).unwrap();
        assert!(!config.warnings().iter().any(|warning| warning.contains("www")), "{:?}", config.warnings());
    }

    #[test]
    fn names_under_suffixes_count_for_the_capacity() {
        // 2 nodes, 2 name servers, a service and the name above it, and the apex.
        let names = 7;
        let with = |suffixes: &str, capacity: usize| {
            let text = FILE.replace("[[service]]", &format!("[xdp]\ncapacity = {capacity}\n[[service]]"));
            Config::parse(&format!("{text}{suffixes}"), Path::new("f")).map_err(|error| error.to_string())
        };
        let two = suffix("a") + &suffix("b.c.demo.example.com");
        // The name above the second suffix exists too.
        let expected = 3 * names + 1;
        assert!(with(&two, expected).is_ok());
        let error = with(&two, expected - 1).unwrap_err();
        assert!(error.contains(&format!("the zone has {expected} names")), "{error}");
    }

    #[test]
    fn a_set_that_no_suffix_uses_and_nodes_that_lack_one_are_warned_of() {
        let warned = |text: &str| {
            let warnings = parse(text).unwrap().warnings();
            warnings
                .into_iter()
                .filter(|warning| warning.contains("addresses `internal`"))
                .collect::<Vec<_>>()
        };
        assert!(warned("")[0].starts_with("no suffix uses the addresses `internal`"));
        let used = warned(&(suffix("internal") + "addresses = \"internal\"\n"));
        assert!(used[0].starts_with("no addresses `internal`: node2;"), "{used:?}");
    }

    #[test]
    fn a_zone_of_its_own_that_comes_or_moves_is_warned_of() {
        let own = suffix("demo.corp.example.") + "addresses = \"internal\"\n";
        let moved = format!("{FILE}{own}").replace("10.0.0.11", "10.0.0.99");
        let moved = Config::parse(&moved, Path::new("f")).unwrap();
        let beyond = |before: &Config, after: &Config| {
            let warnings = after.warnings_beyond(before);
            warnings.into_iter().filter(|warning| warning.contains("--zone demo.corp.example`")).count()
        };
        let [none, own, below] = ["", &own, &suffix("x")].map(|text| parse(text).unwrap());
        assert_eq!([beyond(&none, &own), beyond(&own, &moved)], [1, 1]);
        assert_eq!([beyond(&own, &own), beyond(&none, &below), beyond(&own, &none)], [0, 0, 0]);
    }

    #[test]
    fn suffixes_and_sets_change_the_epoch_and_their_absence_does_not() {
        let epoch = |text: &str| parse(text).unwrap().epoch();
        let plain = Config::parse(
            &FILE.replace("[node.addresses.internal]\nipv4 = \"10.0.0.11\"\n", ""),
            Path::new("f"),
        );
        let all = [
            plain.unwrap().epoch(),
            epoch(""),
            epoch(&suffix("internal")),
            epoch(&(suffix("internal") + "addresses = \"internal\"\n")),
        ];
        assert_eq!(BTreeSet::from(all).len(), 4);
    }
}
