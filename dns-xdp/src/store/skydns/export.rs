//! Turns answers into keys: the writes and removals after which CoreDNS gives the same answers for a zone.
use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::rr::Name;
use serde::Serialize;

use super::{MARKER, place};
use crate::cluster::APEX;
use crate::records::is_wildcard;
use crate::store::{Listing, Revision};
use crate::zone::Zone;

/// The most operations of one transaction; etcd's default limit is 128.
const OPERATIONS_MOST: usize = 64;

/// The message at a key. CoreDNS answers for a name with the name's key and the keys below it. With groups, it uses
/// only the keys in the group of the shortest key.
#[derive(Debug, Serialize)]
struct Record<'a> {
    host: String,
    ttl: u32,
    group: &'a str,
}

/// Changes that are made together, and the revisions that their keys must have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// The expected revisions; 0: the key must not exist.
    pub expected: BTreeMap<String, Revision>,
    /// The new values; `None`: the key is removed.
    pub changes: BTreeMap<String, Option<Vec<u8>>>,
}

/// The changes to the keys of a listing of the zone's path, in steps of bounded size. A name is changed in one step if
/// it fits. Keys that the mirror did not write are left alone.
pub fn steps(listing: &Listing, zone: &Zone) -> Vec<Step> {
    let mut wanted = wanted(zone);
    for key in listing.entries.keys() {
        if let Some((place, _)) = ours(key) {
            wanted.entry(place.to_owned()).or_default();
        }
    }
    let mut steps: Vec<Step> = Vec::new();
    for (place, values) in wanted {
        let changes = changes(listing, &place, values);
        let fits = |step: &&mut Step| step.changes.len() + changes.len() <= OPERATIONS_MOST;
        if steps.last_mut().filter(fits).is_none() && !changes.is_empty() {
            steps.push(Step::default());
        }
        for (key, value) in changes {
            if steps.last().is_some_and(|step| step.changes.len() == OPERATIONS_MOST) {
                steps.push(Step::default());
            }
            let Some(step) = steps.last_mut() else { continue };
            let revision = listing.entries.get(&key).map_or(0, |entry| entry.revision);
            step.expected.insert(key.clone(), revision);
            step.changes.insert(key, value);
        }
    }
    steps
}

/// The wanted values below each name's key.
fn wanted(zone: &Zone) -> BTreeMap<String, BTreeSet<Vec<u8>>> {
    // No key means all names that do not exist, and a slash separates the parts of a key. The names of a suffix that is
    // a zone of its own are not in the zone's path.
    let has_slash = |name: &Name| name.iter().flatten().any(|octet| *octet == b'/');
    let has_key = |name: &Name| zone.apex().zone_of(name) && !is_wildcard(name) && !has_slash(name);
    let answered = zone.names().filter(|(name, addresses)| !addresses.refused && has_key(name));
    let places = answered.filter_map(|(name, addresses)| {
        let labels = name.iter().len() - zone.apex().iter().len();
        let labels: Vec<_> = name.iter().take(labels).map(String::from_utf8_lossy).collect();
        let name = if labels.is_empty() { APEX.to_owned() } else { labels.join(".") };
        let value = |host: std::net::IpAddr| {
            let record = Record { host: host.to_string(), ttl: addresses.ttl_seconds, group: &name };
            serde_json::to_vec(&record).unwrap_or_default()
        };
        let values: BTreeSet<Vec<u8>> = addresses.iter().map(value).collect();
        (!values.is_empty()).then(|| (place(&name), values))
    });
    places.collect()
}

/// The changes at one name. A key with a wanted value keeps it. Any other key gets a missing value, or is removed.
fn changes(listing: &Listing, place: &str, mut missing: BTreeSet<Vec<u8>>) -> Vec<(String, Option<Vec<u8>>)> {
    let prefix = format!("{place}/{MARKER}");
    let there = listing.entries.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
    let mut numbers = BTreeSet::new();
    let mut spare = BTreeSet::new();
    for (key, entry) in there {
        let Some((_, number)) = ours(key) else { continue };
        numbers.insert(number);
        if !missing.remove(&entry.value) {
            spare.insert(number);
        }
    }
    let free: Vec<u64> = (1..).filter(|number| !numbers.contains(number)).take(missing.len()).collect();
    let mut places = spare.into_iter().chain(free).map(|number| format!("{prefix}{number}"));
    let mut changes: Vec<(String, Option<Vec<u8>>)> =
        missing.into_iter().filter_map(|value| Some((places.next()?, Some(value)))).collect();
    let surplus = places.filter(|key| listing.entries.contains_key(key)).map(|key| (key, None));
    changes.extend(surplus);
    changes
}

/// The name's key and the number of a key of the mirror; `None`: the mirror did not write it.
pub(super) fn ours(key: &str) -> Option<(&str, u64)> {
    let (place, mark) = key.rsplit_once('/')?;
    let number = mark.strip_prefix(MARKER)?;
    let parsed: u64 = number.parse().ok()?;
    (parsed.to_string() == number).then_some((place, parsed))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::super::import::follow;
    use super::*;
    use crate::config::Config;
    use crate::config::edit::NodeRole;
    use crate::failover::{healthy_zone, zone};
    use crate::store::documents::{Documents, split};
    use crate::store::{Batch, Entry};

    const HEAD: &str = "[listen]\ninterfaces = [\"eth0\"]\n[zone]\nname = \"demo.example.com\"\n";
    const TEXT: &str = "\
[[node]]
name = \"node1\"
ipv4 = \"192.0.2.11\"
[[node]]
name = \"node2\"
ipv4 = \"192.0.2.12\"
ipv6 = \"2001:db8::12\"
[[service]]
name = \"db.prod\"
nodes = [\"node1\", \"node2\"]
";

    fn config(text: &str) -> Config {
        Config::parse(&format!("{HEAD}{text}"), Path::new("/etc/dns-xdp/dns-xdp.toml")).unwrap()
    }

    /// Returns the listing after all steps, and the number of changes.
    fn done(listing: &Listing, zone: &Zone) -> (Listing, usize) {
        let (mut after, mut count) = (listing.clone(), 0);
        for step in steps(listing, zone) {
            assert!(step.expected.keys().eq(step.changes.keys()) && step.changes.len() <= OPERATIONS_MOST);
            count += step.changes.len();
            let revision = after.revision + 1;
            let entry = |value| Entry { value, revision };
            let changes = step.changes.into_iter().map(|(key, value)| (key, value.map(entry)));
            after.apply(Batch { revision, changes: changes.collect() });
        }
        (after, count)
    }

    fn shown(listing: &Listing) -> Vec<String> {
        let text = |entry: &Entry| String::from_utf8(entry.value.clone()).unwrap();
        listing.entries.iter().map(|(key, entry)| format!("{key} {}", text(entry))).collect()
    }

    #[test]
    fn every_name_has_a_key_for_each_address_it_answers() {
        let (listing, _) = done(&Listing::default(), &healthy_zone(&config(TEXT)));
        let expected = [
            r#"dns/apex/dns-xdp-1 {"host":"192.0.2.11","ttl":5,"group":"@"}"#,
            r#"dns/apex/dns-xdp-2 {"host":"192.0.2.12","ttl":5,"group":"@"}"#,
            r#"dns/apex/dns-xdp-3 {"host":"2001:db8::12","ttl":5,"group":"@"}"#,
            r#"node1/dns-xdp-1 {"host":"192.0.2.11","ttl":5,"group":"node1"}"#,
            r#"node2/dns-xdp-1 {"host":"192.0.2.12","ttl":5,"group":"node2"}"#,
            r#"node2/dns-xdp-2 {"host":"2001:db8::12","ttl":5,"group":"node2"}"#,
            r#"ns1/dns-xdp-1 {"host":"192.0.2.11","ttl":5,"group":"ns1"}"#,
            r#"ns2/dns-xdp-1 {"host":"192.0.2.12","ttl":5,"group":"ns2"}"#,
            r#"ns2/dns-xdp-2 {"host":"2001:db8::12","ttl":5,"group":"ns2"}"#,
            r#"prod/db/dns-xdp-1 {"host":"192.0.2.11","ttl":5,"group":"db.prod"}"#,
            r#"prod/db/dns-xdp-2 {"host":"192.0.2.12","ttl":5,"group":"db.prod"}"#,
            r#"prod/db/dns-xdp-3 {"host":"2001:db8::12","ttl":5,"group":"db.prod"}"#,
        ];
        assert_eq!(shown(&listing), expected);
        assert_eq!(done(&listing, &healthy_zone(&config(TEXT))).1, 0, "nothing differs");
    }

    #[test]
    fn only_what_differs_is_written_and_what_is_not_ours_is_left_alone() {
        let foreign = [
            "node1",
            "node1/x1",
            "node1/dns-xdp-",
            "node1/dns-xdp-01",
            "old/dns-xdp-x",
            "old/x1",
            "dns-xdp-1",
        ];
        let entry = || Entry { value: b"{}".to_vec(), revision: 1 };
        let entries = foreign.iter().map(|key| ((*key).to_owned(), entry())).collect();
        let (full, _) =
            done(&Listing { revision: 1, entries, ..Listing::default() }, &healthy_zone(&config(TEXT)));
        let moved = TEXT.replace("192.0.2.11", "192.0.2.21").replace("db.prod", "new");
        let (after, count) = done(&full, &healthy_zone(&config(&moved)));
        // The keys of node1, its name server and the apex are changed in place; 3 are removed and 3 added.
        assert_eq!(count, 3 + 3 + 3, "{:#?}", shown(&after));
        assert!(foreign.iter().all(|key| after.entries[*key] == entry()), "{:#?}", shown(&after));
        assert!(!after.entries.keys().any(|key| key.starts_with("prod/")));
        assert_eq!(after.entries.len(), full.entries.len());
    }

    #[test]
    fn names_that_are_refused_have_no_keys() {
        let config = config(&format!("{TEXT}[failover]\nall-down = \"refused\"\n"));
        let view = crate::failover::View {
            nodes: vec![
                crate::failover::NodeState {
                    serving: Some(false),
                    visible: true,
                    admin: crate::cluster::Admin::Auto,
                    seconds_left: None,
                    held: false,
                };
                2
            ],
            ..crate::failover::View::default()
        };
        let decision = crate::failover::decide(&config.cluster, &config.failover, &view, None);
        let (full, _) = done(&Listing::default(), &healthy_zone(&config));
        assert!(done(&full, &zone(&config, &decision)).0.entries.is_empty());
    }

    #[test]
    fn large_zones_are_changed_step_by_step_and_a_name_at_once() {
        let nodes: String = (1..=150)
            .map(|number| format!("[[node]]\nname = \"node{number}\"\nipv4 = \"10.0.0.{number}\"\nipv6 = \"fd00::{number}\"\n"))
            .collect();
        let zone = healthy_zone(&config(&nodes));
        let steps = steps(&Listing::default(), &zone);
        assert!(steps.len() >= 300 * 3 / OPERATIONS_MOST && steps.len() < 20, "{}", steps.len());
        let of_node = |step: &&Step| step.changes.keys().filter(|key| key.starts_with("node77/")).count();
        assert_eq!(
            steps.iter().map(|step| of_node(&step)).filter(|count| *count > 0).collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(done(&Listing::default(), &zone).0.entries.len(), 300 * 3);
    }

    /// The answer of CoreDNS' etcd plugin for a name: the keys below it, or else its own key, in the group of the
    /// shortest key.
    fn read(listing: &Listing, place: &str) -> BTreeSet<String> {
        let below = format!("{place}/");
        let found: Vec<(usize, serde_json::Value)> = listing
            .entries
            .range(below.clone()..)
            .take_while(|(key, _)| key.starts_with(&below))
            .map(|(key, entry)| (key.matches('/').count(), serde_json::from_slice(&entry.value).unwrap()))
            .collect();
        let (mut depth, mut group) =
            found.first().map(|(depth, first)| (*depth, first["group"].clone())).unwrap();
        for (other, value) in &found {
            if *other < depth {
                (depth, group) = (*other, value["group"].clone());
            }
        }
        let of_group = found.into_iter().filter(|(_, value)| value["group"] == group);
        of_group.map(|(_, value)| value["host"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn coredns_finds_the_answers_for_names_above_others_too() {
        let text = "[[node]]\nname = \"a\"\nipv4 = \"192.0.2.1\"\n[[node]]\nname = \"b.a\"\nipv4 = \"192.0.2.2\"\n\
                    [[node]]\nname = \"z.a\"\nipv4 = \"192.0.2.3\"\n\
                    [[service]]\nname = \"x.b.a\"\nnodes = [\"a\", \"z.a\"]\n\
                    [[service]]\nname = \"@\"\nnodes = [\"b.a\"]\n";
        let zone = healthy_zone(&config(text));
        let (listing, _) = done(&Listing::default(), &zone);
        for (name, addresses) in zone.names() {
            let relative = name.to_ascii().replace("demo.example.com.", "");
            let place = if relative.is_empty() { place(APEX) } else { place(relative.trim_end_matches('.')) };
            let answered: BTreeSet<String> = addresses.iter().map(|address| address.to_string()).collect();
            assert_eq!(read(&listing, &place), answered, "{name}");
        }
        assert_eq!(zone.names().len(), 8);
    }

    /// The families of each node, and the members of each service.
    type Drawn = (Vec<(bool, bool)>, Vec<Vec<usize>>);

    fn drawn() -> impl Strategy<Value = Drawn> {
        let families = prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))];
        proptest::collection::vec(families, 1..9).prop_flat_map(|nodes| {
            let members = subsequence((0..nodes.len()).collect::<Vec<_>>(), 1..=nodes.len());
            let services = proptest::collection::vec(members, 0..4);
            (Just(nodes), services)
        })
    }

    fn text((nodes, services): &Drawn, from: usize) -> String {
        let mut text = String::new();
        for (index, (ipv4, ipv6)) in nodes.iter().enumerate() {
            text += &format!("[[node]]\nname = \"node{index}\"\n");
            if *ipv4 {
                text += &format!("ipv4 = \"192.0.2.{}\"\n", from + index);
            }
            if *ipv6 {
                text += &format!("ipv6 = \"2001:db8::{}\"\n", from + index);
            }
        }
        for (index, members) in services.iter().enumerate() {
            let members: Vec<String> = members.iter().map(|member| format!("\"node{member}\"")).collect();
            let name = ["db", "all.prod", "web"].get(index).copied().unwrap_or("a.b.c");
            text += &format!("[[service]]\nname = \"{name}\"\nnodes = [{}]\n", members.join(", "));
        }
        text
    }

    fn documents(text: &str) -> Documents {
        let (_, texts) = split(&format!("{HEAD}{text}")).unwrap();
        Documents { texts, ..Documents::default() }
    }

    proptest! {
        #[test]
        fn a_follower_of_a_mirror_has_the_same_nodes_and_services(drawn in drawn()) {
            let text_then = text(&drawn, 11);
            let (listing, _) = done(&Listing::default(), &healthy_zone(&config(&text_then)));
            prop_assert_eq!(follow(&listing, &documents(&text_then), NodeRole::Name).texts, Ok(None));
            // The same names at other addresses also lead to the right answers.
            let moved = documents(&text(&drawn, 101));
            let texts = follow(&listing, &moved, NodeRole::Name).texts.unwrap().unwrap();
            let after = Config::parse(&format!("{HEAD}{}", Documents { texts, ..moved }.text().replace("[zone]\nname = \"demo.example.com\"\n", "")), Path::new("/x")).unwrap();
            prop_assert_eq!(after.cluster, config(&text_then).cluster);
        }
    }
}
