//! Turns keys into documents: the nodes and services in a listing of a zone's path, as the documents' text.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::{Cause, Ignored, names};
use crate::cluster::APEX;
use crate::config::edit::NodeRole;
use crate::config::sync_members::{Known, Members, Place, known, sync_members};
use crate::store::Listing;
use crate::store::documents::{Documents, Shared, join, split};

/// The most keys. No cluster has more.
const KEYS_MOST: usize = 20_000;
const NODES: &str = "config/nodes";
const SERVICES: &str = "config/services";

/// The result of following a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Followed {
    /// The keys that are not followed.
    pub ignored: Ignored,
    /// The new documents; `None`: the documents do not change. The error says why the documents cannot follow the keys.
    pub texts: Result<Option<Shared>, String>,
}

/// Returns the documents that follow from a listing. The caller has to check whether they are a valid configuration.
/// `role`: that of the nodes that the documents do not have. If these are only names, then the servers of the documents
/// stay, whatever the keys say.
pub fn follow(listing: &Listing, documents: &Documents, role: NodeRole) -> Followed {
    let mut ignored = Ignored::default();
    let texts = followed(listing, documents, role, &mut ignored);
    Followed { ignored, texts }
}

fn followed(
    listing: &Listing,
    documents: &Documents,
    role: NodeRole,
    ignored: &mut Ignored,
) -> Result<Option<Shared>, String> {
    if listing.entries.len() > KEYS_MOST {
        return Err(format!("there are {} keys, more than {KEYS_MOST}", listing.entries.len()));
    }
    let names = names(listing, ignored);
    let ours = |key: &&str| [NODES, SERVICES].contains(key);
    let before: Shared = documents.texts.iter().filter(|(key, _)| ours(&key.as_str())).map(owned).collect();
    let text = join(&before);
    let known = known(&text).map_err(|error| error.to_string())?;
    let servers = match role {
        NodeRole::Server => Vec::new(),
        NodeRole::Name => servers(&names, &known),
    };
    let without_keys = servers.len();
    let members = members(names, servers, role, &known, ignored);
    if members.nodes.len() == without_keys && members.services.is_empty() {
        return Err("there is no address of a node among the keys".to_owned());
    }
    let renewed = sync_members(&text, &members, role).map_err(|error| error.to_string())?;
    if renewed == text {
        return Ok(None);
    }
    let (_, mut renewed) = split(&renewed)?;
    let mut texts = documents.texts.clone();
    for key in [NODES, SERVICES] {
        match renewed.remove(key) {
            Some(text) => texts.insert(key.to_owned(), text),
            None => texts.remove(key),
        };
    }
    Ok(Some(texts))
}

fn owned((key, text): (&String, &String)) -> (String, String) {
    (key.clone(), text.clone())
}

/// The servers of the documents that the keys do not name as nodes.
fn servers(names: &BTreeMap<String, BTreeSet<IpAddr>>, known: &Known) -> Vec<Place> {
    let is_in_keys = |name: &String| names.get(name).is_some_and(|addresses| is_node(name, addresses, known));
    let servers = known.members.nodes.iter().filter(|node| known.servers.contains(&node.name));
    servers.filter(|node| !is_in_keys(&node.name)).cloned().collect()
}

/// Divides the names into nodes, and services with their members. `servers` are nodes already.
fn members(
    mut names: BTreeMap<String, BTreeSet<IpAddr>>,
    servers: Vec<Place>,
    role: NodeRole,
    known: &Known,
    ignored: &mut Ignored,
) -> Members {
    let mut owners: BTreeMap<IpAddr, String> = BTreeMap::new();
    for server in &servers {
        owners.extend(server.addresses().map(|address| (address, server.name.clone())));
        if names.remove(&server.name).is_some() {
            ignored.add(Cause::Server, &server.name);
        }
    }
    let mut nodes = servers;
    let mut others: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    let (mut single, several): (Vec<_>, Vec<_>) =
        names.into_iter().partition(|(name, addresses)| is_node(name, addresses, known));
    others.extend(several);
    single.sort_by_key(|(name, _)| precedence(name, known));
    let protected = |name: &str| {
        let is_it =
            |node: &&Place| node.name == name && role == NodeRole::Name && known.servers.contains(name);
        known.members.nodes.iter().find(is_it)
    };
    for (name, addresses) in single {
        let is_known = known.members.nodes.iter().any(|node| node.name == name);
        let is_taken = addresses.iter().any(|address| owners.contains_key(address));
        if !is_known && (known.name_servers.contains(&name) || is_taken && is_usual_ns(&name)) {
            ignored.add(Cause::NameServer, &name);
        } else if is_taken && let Some(server) = protected(&name) {
            // Another node has the address already.
            ignored.add(Cause::Server, &name);
            owners.extend(server.addresses().map(|address| (address, name.clone())));
            nodes.push(server.clone());
        } else if is_taken {
            others.insert(name, addresses);
        } else {
            owners.extend(addresses.iter().map(|address| (*address, name.clone())));
            nodes.push(addresses.into_iter().fold(Place::new(&name), Place::at));
        }
    }
    let homeless: BTreeSet<IpAddr> =
        others.values().flatten().filter(|address| !owners.contains_key(address)).copied().collect();
    for address in homeless {
        let name = home(address, &nodes, &others, known);
        owners.insert(address, name.clone());
        match nodes.iter_mut().find(|node| node.name == name) {
            Some(node) => *node = node.clone().at(address),
            None => nodes.push(Place::new(&name).at(address)),
        }
    }
    let member = |address: &IpAddr| owners.get(address).cloned();
    let services = others.into_iter().map(|(name, addresses)| {
        let distinct: BTreeSet<String> = addresses.iter().filter_map(member).collect();
        let mut members: Vec<String> = distinct.into_iter().collect();
        members.sort_by_key(|name| precedence(name, known));
        (name, members)
    });
    let mut services: BTreeMap<String, Vec<String>> = services.collect();
    // Without a service of its own, the apex answers the nodes in the apex. New nodes are in it.
    let is_in_apex = |name: &&String| {
        let is_known = known.members.nodes.iter().any(|node| node.name == **name);
        !is_known || known.in_apex.contains(*name)
    };
    let in_apex: BTreeSet<&String> = nodes.iter().map(|node| &node.name).filter(is_in_apex).collect();
    let is_usual = |members: &Vec<String>| members.iter().collect::<BTreeSet<_>>() == in_apex;
    if !known.members.services.contains_key(APEX) && services.get(APEX).is_some_and(is_usual) {
        services.remove(APEX);
    }
    Members { nodes, services }
}

/// Whether a name is a node: it has at most one address of each family. A service stays a service, even with one member
/// left.
fn is_node(name: &str, addresses: &BTreeSet<IpAddr>, known: &Known) -> bool {
    let ipv4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    let single = ipv4 <= 1 && addresses.len() - ipv4 <= 1;
    single && name != APEX && !known.members.services.contains_key(name)
}

/// The order of several names with one address; the first is the node. Existing nodes come first, then other names,
/// then names like a name server's. `node2` comes before `node10`.
fn precedence(name: &str, known: &Known) -> (u8, usize, String) {
    let rank = if known.members.nodes.iter().any(|node| node.name == name) {
        0
    } else if known.name_servers.contains(name) || is_usual_ns(name) {
        2
    } else {
        1
    };
    (rank, name.len(), name.to_owned())
}

/// Whether a name looks like the usual name of a name server: `ns1`.
fn is_usual_ns(name: &str) -> bool {
    let number = name.strip_prefix("ns");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// The name of the node at an address that only services have: its present name, or else one made from the address.
fn home(
    address: IpAddr,
    nodes: &[Place],
    others: &BTreeMap<String, BTreeSet<IpAddr>>,
    known: &Known,
) -> String {
    let has = |node: &&Place| node.addresses().any(|known| known == address);
    let free = |node: &&Place| {
        let taken = nodes.iter().find(|other| other.name == node.name);
        // The node may already have this name because of its other address.
        let is_same = taken
            .is_none_or(|other| other.addresses().all(|other| node.addresses().any(|known| known == other)));
        is_same && !others.contains_key(&node.name)
    };
    match known.members.nodes.iter().filter(has).find(free) {
        Some(node) => node.name.clone(),
        None => called(address),
    }
}

/// Returns a name made from an address: `ip-192-0-2-11`, `ip-2001-db8-0-0-0-0-0-11`.
fn called(address: IpAddr) -> String {
    let parts: Vec<String> = match address {
        IpAddr::V4(ipv4) => ipv4.octets().iter().map(ToString::to_string).collect(),
        IpAddr::V6(ipv6) => ipv6.segments().iter().map(|segment| format!("{segment:x}")).collect(),
    };
    format!("ip-{}", parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::listing;
    use super::*;

    const NODES_TEXT: &str = "\
[[node]]
name = \"node1\"
ipv4 = \"192.0.2.11\"
ipv6 = \"2001:db8::11\"
weight = 2
[[node]]
name = \"node2\"
ipv4 = \"192.0.2.12\"
[node.health]
port = 7000
";
    const SERVICES_TEXT: &str =
        "# databases\n[[service]]\nname = \"db\"\nnodes = [\"node1\", \"node2\"]\nmin-healthy = 1\n";

    fn documents() -> Documents {
        let texts = [
            ("config/zone", "[zone]\nname = \"demo.example.com\"\n# behind it\n"),
            (NODES, NODES_TEXT),
            (SERVICES, SERVICES_TEXT),
        ];
        let texts = texts.map(|(key, text)| (key.to_owned(), text.to_owned())).into();
        Documents { texts, ..Documents::default() }
    }

    /// A listing of names with addresses. Each address is given by its last number, IPv6 with a colon before it. The
    /// last labels of the keys are like ExternalDNS'.
    fn keys(names: &[(&str, &[&str])]) -> Listing {
        let mut entries = Vec::new();
        for (name, addresses) in names {
            for (index, last) in addresses.iter().enumerate() {
                let address = match last.strip_prefix(':') {
                    Some(last) => format!("2001:db8::{last}"),
                    None => format!("192.0.2.{last}"),
                };
                let place =
                    if *name == APEX { String::new() } else { format!("{}/", super::super::place(name)) };
                entries.push((
                    format!("{place}{index:08x}"),
                    format!(r#"{{"host":"{address}","targetstrip":1}}"#),
                ));
            }
        }
        let entries: Vec<(&str, &str)> = entries.iter().map(|(key, value)| (&**key, &**value)).collect();
        listing(&entries)
    }

    /// The resulting nodes with their addresses, then the services with their members.
    fn told(names: &[(&str, &[&str])], role: NodeRole) -> Vec<String> {
        let texts = match follow(&keys(names), &documents(), role).texts {
            Ok(texts) => texts.unwrap_or_else(|| documents().texts),
            Err(reason) => return vec![reason],
        };
        let known = known(&join(&texts)).unwrap();
        let node = |node: &Place| {
            let addresses: Vec<String> = node.addresses().map(|address| address.to_string()).collect();
            format!("{} {}", node.name, addresses.join(" "))
        };
        let service = |(name, members): (&String, &Vec<String>)| format!("{name}: {}", members.join(" "));
        known.members.nodes.iter().map(node).chain(known.members.services.iter().map(service)).collect()
    }

    /// A case, the addresses of names, and the expected nodes and services.
    type Case = (&'static str, &'static [(&'static str, &'static [&'static str])], &'static [&'static str]);

    fn assert_told(cases: &[Case], role: NodeRole) {
        for (case, names, expected) in cases {
            assert_eq!(&told(names, role), expected, "{case}");
        }
    }

    #[test]
    fn names_are_nodes_or_services_by_their_addresses() {
        let cases: &[Case] = &[
            (
                "as they are",
                &[("node1", &["11", ":11"]), ("node2", &["12"]), ("db", &["11", ":11", "12"])],
                &["node1 192.0.2.11 2001:db8::11", "node2 192.0.2.12", "db: node1 node2"],
            ),
            (
                "another address, a new node, a new service, one less",
                &[("node1", &["21"]), ("node3", &["13"]), ("web", &["21", "13"])],
                &["node1 192.0.2.21", "node3 192.0.2.13", "web: node1 node3"],
            ),
            (
                "a service stays one with one member",
                &[("node1", &["11"]), ("node2", &["12"]), ("db", &["12"])],
                &["node1 192.0.2.11", "node2 192.0.2.12", "db: node2"],
            ),
            (
                "a second name of a node is a service of it",
                &[("node1", &["11"]), ("node2", &["12"]), ("a", &["12"]), ("db", &["11", "12"])],
                &["node1 192.0.2.11", "node2 192.0.2.12", "a: node2", "db: node1 node2"],
            ),
            (
                "addresses without a name of their own keep their nodes, or make new ones",
                &[("db", &["11", ":11", "12", "13", ":ff"])],
                &[
                    "node1 192.0.2.11 2001:db8::11",
                    "node2 192.0.2.12",
                    "ip-192-0-2-13 192.0.2.13",
                    "ip-2001-db8-0-0-0-0-0-ff 2001:db8::ff",
                    "db: node1 node2 ip-192-0-2-13 ip-2001-db8-0-0-0-0-0-ff",
                ],
            ),
            (
                "a node that becomes a service gives its name away",
                &[("node1", &["11", "12"]), ("node2", &["12"])],
                &["node2 192.0.2.12", "ip-192-0-2-11 192.0.2.11", "node1: node2 ip-192-0-2-11"],
            ),
            (
                "a node that was made gets a name",
                &[("web1", &["11"]), ("node2", &["12"]), ("db", &["11", "12"])],
                &["node2 192.0.2.12", "web1 192.0.2.11", "db: node2 web1"],
            ),
            (
                "name servers are not followed",
                &[
                    ("node1", &["11"]),
                    ("node2", &["12"]),
                    ("ns1", &["11"]),
                    ("ns2", &["99"]),
                    ("ns7", &["12"]),
                ],
                &["node1 192.0.2.11", "node2 192.0.2.12"],
            ),
            (
                "the apex of all nodes needs no service, that of some does",
                &[("node1", &["11"]), ("node2", &["12"]), ("@", &["11", "12"])],
                &["node1 192.0.2.11", "node2 192.0.2.12"],
            ),
            (
                "the apex of one",
                &[("node1", &["11"]), ("node2", &["12"]), ("@", &["12"])],
                &["node1 192.0.2.11", "node2 192.0.2.12", "@: node2"],
            ),
            (
                "deeper names",
                &[("db.prod", &["11"]), ("all.prod", &["11", "12"])],
                &["node2 192.0.2.12", "db.prod 192.0.2.11", "all.prod: node2 db.prod"],
            ),
            ("nothing", &[], &["there is no address of a node among the keys"]),
        ];
        assert_told(cases, NodeRole::Server);
    }

    #[test]
    fn what_is_the_same_is_not_written_and_what_else_is_said_stays() {
        let same: &[(&str, &[&str])] =
            &[("node1", &["11", ":11"]), ("node2", &["12"]), ("db", &["11", "12", ":11"])];
        assert_eq!(follow(&keys(same), &documents(), NodeRole::Server).texts, Ok(None));
        let grown: &[(&str, &[&str])] =
            &[same[0], ("node2", &["22"]), ("node3", &["13"]), ("db", &["22", "13"])];
        let texts = follow(&keys(grown), &documents(), NodeRole::Server).texts.unwrap().unwrap();
        assert_eq!(texts["config/zone"], documents().texts["config/zone"]);
        let nodes = NODES_TEXT.replace("192.0.2.12", "192.0.2.22");
        assert_eq!(texts[NODES], format!("{nodes}\n[[node]]\nname = \"node3\"\nipv4 = \"192.0.2.13\"\n"));
        assert_eq!(texts[SERVICES], SERVICES_TEXT.replace("\"node1\", \"node2\"", "\"node2\", \"node3\""));
        let after = Documents { texts, ..Documents::default() };
        assert_eq!(
            follow(&keys(grown), &after, NodeRole::Server).texts,
            Ok(None),
            "the second server finds no difference"
        );
    }

    #[test]
    fn keys_that_are_followed_make_names_and_leave_the_servers_alone() {
        let cases: &[Case] = &[
            (
                "a server without a key",
                &[("node1", &["21"]), ("node3", &["13"]), ("web", &["21", "13"])],
                &["node1 192.0.2.21", "node2 192.0.2.12", "node3 192.0.2.13", "web: node1 node3"],
            ),
            (
                "another name of a server's address",
                &[("web1", &["11"]), ("node2", &["12"])],
                &["node1 192.0.2.11 2001:db8::11", "node2 192.0.2.12", "web1: node1"],
            ),
            (
                "several addresses under a server's name",
                &[("node1", &["11", "13"]), ("node2", &["12"]), ("node3", &["13"])],
                &["node1 192.0.2.11 2001:db8::11", "node2 192.0.2.12", "node3 192.0.2.13"],
            ),
            (
                "a server's name with another server's address",
                &[("node1", &["12"])],
                &["node1 192.0.2.11 2001:db8::11", "node2 192.0.2.12"],
            ),
            ("nothing", &[], &["there is no address of a node among the keys"]),
        ];
        assert_told(cases, NodeRole::Name);
    }

    #[test]
    fn a_name_of_the_keys_is_no_server_and_goes_with_its_key() {
        let servers: &[(&str, &[&str])] =
            &[("node1", &["11", ":11"]), ("node2", &["12"]), ("db", &["11", ":11", "12"])];
        let more = [servers, &[("lb", &["13"])]].concat();
        let texts = follow(&keys(&more), &documents(), NodeRole::Name).texts.unwrap().unwrap();
        let name = "\n[[node]]\nname = \"lb\"\nipv4 = \"192.0.2.13\"\nns = false\nquorum = false\n";
        assert_eq!(texts[NODES], format!("{NODES_TEXT}{name}"));
        let after = Documents { texts, ..Documents::default() };
        assert_eq!(follow(&keys(&more), &after, NodeRole::Name).texts, Ok(None));
        let less = follow(&keys(servers), &after, NodeRole::Name).texts.unwrap().unwrap();
        assert_eq!(less[NODES].trim_end(), NODES_TEXT.trim_end());
    }

    /// The documents with a node that lacks these roles.
    fn with_a_node(lines: &str) -> Documents {
        let mut documents = documents();
        let node = format!("\n[[node]]\nname = \"lb\"\nipv4 = \"192.0.2.13\"\n{lines}\n");
        documents.texts.get_mut(NODES).unwrap().push_str(&node);
        documents
    }

    #[test]
    fn a_node_without_probes_is_no_server_unless_it_is_a_name_server() {
        let servers: &[(&str, &[&str])] =
            &[("node1", &["11", ":11"]), ("node2", &["12"]), ("db", &["11", ":11", "12"])];
        for (lines, stays) in [
            ("ns = false\nhealth.probe = \"none\"", false),
            ("ns = false\n[node.health]\nprobe = \"none\"", false),
            ("ns = false\nhealth = { probe = \"none\" }", false),
            ("ns = false", true),
            ("quorum = false", true),
            ("health.probe = \"none\"", true),
        ] {
            let documents = with_a_node(lines);
            let texts = follow(&keys(servers), &documents, NodeRole::Name).texts.unwrap();
            let nodes = &texts.as_ref().unwrap_or(&documents.texts)[NODES];
            assert_eq!(nodes.contains("\"lb\""), stays, "{lines}");
        }
    }

    #[test]
    fn the_apex_of_the_keys_and_the_apex_of_the_roles_go_together() {
        let documents = with_a_node("ns = false\napex = false");
        let with = |apex: &[&str]| {
            let names: &[(&str, &[&str])] = &[
                ("node1", &["11"]),
                ("node2", &["12"]),
                ("lb", &["13"]),
                ("db", &["11", "12"]),
                (APEX, apex),
            ];
            follow(&keys(names), &documents, NodeRole::Name).texts.unwrap().unwrap()
        };
        let usual = with(&["11", "12"]);
        assert!(!usual[SERVICES].contains("\"@\"") && usual[NODES].contains("apex = false"), "{usual:?}");
        let all = with(&["11", "12", "13"]);
        assert!(all[SERVICES].contains("\"@\"") && !all[NODES].contains("apex"), "{all:?}");
    }

    #[test]
    fn services_that_are_gone_leave_no_document() {
        let names: &[(&str, &[&str])] = &[("node1", &["11", ":11"]), ("node2", &["12"])];
        let texts = follow(&keys(names), &documents(), NodeRole::Server).texts.unwrap().unwrap();
        assert_eq!(texts[NODES].trim_end(), NODES_TEXT.trim_end());
        let services = texts.get(SERVICES).map_or("", String::as_str);
        assert!(!services.contains("service"), "{services}");
    }

    #[test]
    fn no_keys_or_far_too_many_change_nothing() {
        assert!(follow(&Listing::default(), &documents(), NodeRole::Server).texts.is_err());
        let heritage = listing(&[("node1", r#"{"text":"heritage=external-dns"}"#)]);
        assert!(follow(&heritage, &documents(), NodeRole::Server).texts.is_err());
        let entry =
            |number| (format!("node{number}"), super::super::super::Entry { value: Vec::new(), revision: 1 });
        let many =
            Listing { revision: 1, entries: (0..=KEYS_MOST).map(entry).collect(), ..Listing::default() };
        assert!(follow(&many, &documents(), NodeRole::Server).texts.unwrap_err().contains("20001 keys"));
    }
}
