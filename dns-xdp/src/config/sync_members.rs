//! Replaces all nodes and services of a text. Nodes and services that stay keep their health, weight and comments.
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toml_edit::{Array, DocumentMut, Item, Table, Value};

use super::edit::{
    EditError, NodeRole, append, given, holds, name_of, name_server, nodes, nodes_of, parse, position,
    remove_from, set_value, tables_of, take_out,
};
use super::{edit, spec};
use crate::cluster::APEX;

/// A node's name and addresses. The name is in lower case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The name, relative to the zone.
    pub name: String,
    /// The IPv4 address. At least one of the two addresses is set.
    pub ipv4: Option<Ipv4Addr>,
    /// See [`Place::ipv4`].
    pub ipv6: Option<Ipv6Addr>,
}

impl Place {
    /// Makes a node without addresses.
    pub fn new(name: &str) -> Self {
        Place { name: name.to_owned(), ..Place::default() }
    }

    /// Returns the node with this address in place of its earlier address of the same family.
    #[must_use]
    pub fn at(mut self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(ipv4) => self.ipv4 = Some(ipv4),
            IpAddr::V6(ipv6) => self.ipv6 = Some(ipv6),
        }
        self
    }

    /// Returns the addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// All nodes, and all services with the names of their members.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members {
    /// The nodes. New nodes are appended in this order.
    pub nodes: Vec<Place>,
    /// The services with their members, appended in the order of the names.
    pub services: BTreeMap<String, Vec<String>>,
}

/// The nodes and services of a text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The nodes and services, in the order of the text.
    pub members: Members,
    /// The names of the nodes' name servers.
    pub name_servers: BTreeSet<String>,
    /// The names of the nodes that are name servers or count for the quorum.
    pub servers: BTreeSet<String>,
    /// The names of the nodes that the apex answers, unless it is a service.
    pub in_apex: BTreeSet<String>,
}

/// Reads the nodes and services of a text. Skips parts that cannot be read.
///
/// # Errors
/// The text is not TOML.
pub fn known(text: &str) -> Result<Known, EditError> {
    let document = parse(text)?;
    let mut known = Known::default();
    for (index, table) in nodes_of(&document).enumerate() {
        let written = |key| table.get(key).and_then(Item::as_str);
        let address = |key| written(key).and_then(|text| text.parse::<IpAddr>().ok());
        let name = name_of(table).to_ascii_lowercase();
        let ns = name_server(table, index + 1);
        let addresses = [address("ipv4"), address("ipv6")].into_iter().flatten();
        known.members.nodes.push(addresses.fold(Place::new(&name), Place::at));
        let health = table.get("health").and_then(Item::as_table_like);
        let probe = health.and_then(|health| health.get("probe")).and_then(Item::as_str);
        let is_voter = table.get("quorum").and_then(Item::as_bool);
        let is_voter = is_voter.unwrap_or(probe != Some(spec::NO_PROBE));
        if table.get("apex").and_then(Item::as_bool) != Some(false) {
            known.in_apex.insert(name.clone());
        }
        if ns.is_some() || is_voter {
            known.servers.insert(name);
        }
        known.name_servers.extend(ns);
    }
    for table in tables_of(&document, "service") {
        let members = table.get("nodes").and_then(Item::as_array).into_iter().flatten();
        let members = members.filter_map(Value::as_str).map(str::to_ascii_lowercase).collect();
        known.members.services.insert(name_of(table).to_ascii_lowercase(), members);
    }
    Ok(known)
}

/// Returns the text with exactly these nodes and services; the same text if it has them already. New nodes have this
/// role.
///
/// # Errors
/// The text is not TOML, or does not write nodes as `[[node]]` and services as `[[service]]`.
pub fn sync_members(text: &str, members: &Members, role: NodeRole) -> Result<String, EditError> {
    let mut document = parse(text)?;
    let tables = nodes(&mut document)?;
    let wanted = |name: &str| members.nodes.iter().find(|place| place.name.eq_ignore_ascii_case(name));
    for index in (0..tables.len()).rev() {
        let name = tables.get(index).map(name_of).unwrap_or_default().to_owned();
        if wanted(&name).is_none() {
            take_out(tables, index, &name, &mut Vec::new());
        }
    }
    for table in tables.iter_mut() {
        if let Some(place) = wanted(name_of(table)) {
            set_addresses(table, place);
        }
    }
    if members.services.contains_key(APEX) {
        // The key has no effect beside this service, and would be refused.
        nodes(&mut document)?.iter_mut().for_each(|table| drop(table.remove("apex")));
    }
    renew_services(&mut document, members)?;
    for place in &members.nodes {
        if position(nodes(&mut document)?, &place.name).is_none() {
            append(&mut document, &place.name, &given(place.ipv4, place.ipv6), role)?;
        }
    }
    Ok(document.to_string())
}

fn set_addresses(table: &mut Table, place: &Place) {
    let addresses = [("ipv4", place.ipv4.map(IpAddr::V4)), ("ipv6", place.ipv6.map(IpAddr::V6))];
    for (key, address) in addresses {
        match address {
            Some(address) if holds(table, key, address) => {}
            Some(address) => set_value(table, key, Value::from(address.to_string())),
            None => drop(table.remove(key)),
        }
    }
}

fn renew_services(
    document: &mut DocumentMut,
    Members { nodes, services, .. }: &Members,
) -> Result<(), EditError> {
    if services.is_empty() {
        document.remove("service");
        return Ok(());
    }
    let tables = edit::service::services(document)?;
    let wanted = |table: &Table| services.get(&name_of(table).to_ascii_lowercase());
    tables.retain(|table| wanted(table).is_some());
    for table in tables.iter_mut() {
        let Some(members) = wanted(table) else { continue };
        if let Some(written) = table.get_mut("nodes").and_then(Item::as_array_mut) {
            list(written, members);
        } else {
            table.insert("nodes", toml_edit::value(members.iter().collect::<Array>()));
        }
        // Remove from the backups every node that no longer exists or has become a member.
        let is_node = |name: &str| nodes.iter().any(|node| node.name.eq_ignore_ascii_case(name));
        for backup in edit::service::backups(table) {
            if !is_node(&backup) || members.contains(&backup) {
                edit::service::remove_backup(table, &backup);
            }
        }
    }
    let there: Vec<String> = tables.iter().map(|table| name_of(table).to_ascii_lowercase()).collect();
    for (name, members) in services.iter().filter(|(name, _)| !there.contains(name)) {
        tables.push(edit::service::table_of(name, members));
    }
    Ok(())
}

/// Sets the members of a list. Members that stay keep their order.
fn list(written: &mut Array, members: &[String]) {
    let names = |written: &Array| -> Vec<String> {
        written.iter().filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
    };
    for name in names(written).iter().filter(|name| !members.contains(name)) {
        remove_from(written, name);
    }
    let there = names(written);
    for name in members.iter().filter(|name| !there.contains(name)) {
        written.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# all nodes

# the old machine
[[node]]
name = "node1"
ipv4 = "192.0.2.11" # rack A
ipv6 = "2001:db8::11"
backup = ["node2"]

[[node]]
name = "Node2"
ipv4 = "192.0.2.12"
weight = 3
[node.health]
port = 7000

[[node]]
name = "node3"
ipv4 = "192.0.2.13"
backup = ["node1", "node2"]

# the databases
[[service]]
name = "db"
nodes = ["node3", "node1"] # in this order
min-healthy = 1

[[service]]
name = "old"
nodes = ["node1"]
"#;

    fn place(name: &str, addresses: &[&str]) -> Place {
        addresses.iter().map(|address| address.parse().unwrap()).fold(Place::new(name), Place::at)
    }

    fn services(services: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        services.iter().map(|(name, members)| ((*name).to_owned(), own(members))).collect()
    }

    #[test]
    fn a_backup_that_is_gone_or_has_become_a_member_is_none() {
        let text = TEXT.replace("min-healthy = 1\n", "backup = [\"node2\", \"node4\"] # both go\n");
        let mut members = known(&text).unwrap().members;
        members.services.insert("db".to_owned(), vec!["node3".to_owned(), "node2".to_owned()]);
        let renewed = sync_members(&text, &members, NodeRole::Server).unwrap();
        assert!(!renewed.contains("node4") && !renewed.contains("both go"), "{renewed}");
    }

    #[test]
    fn what_a_text_has_is_read_and_changes_nothing() {
        let known = known(TEXT).unwrap();
        assert_eq!(known.members.nodes[1], place("node2", &["192.0.2.12"]));
        assert_eq!(known.members.services["db"], ["node3", "node1"]);
        assert!(known.name_servers.iter().eq(["ns1", "ns2", "ns3"]));
        assert_eq!(sync_members(TEXT, &known.members, NodeRole::Server).unwrap(), TEXT);
    }

    #[test]
    fn what_is_said_of_those_that_stay_is_kept() {
        let nodes = vec![
            place("node2", &["192.0.2.22", "2001:db8::22"]),
            place("node3", &["192.0.2.13"]),
            place("node4", &["2001:db8::14"]),
        ];
        let services = services(&[("db", &["node2", "node3"]), ("new", &["node4"])]);
        let renewed = sync_members(TEXT, &Members { nodes, services }, NodeRole::Server).unwrap();
        let expected = r#"# all nodes

[[node]]
name = "Node2"
ipv4 = "192.0.2.22"
weight = 3
ns = "ns2"
ipv6 = "2001:db8::22"
[node.health]
port = 7000

[[node]]
name = "node3"
ipv4 = "192.0.2.13"
backup = ["node2"]
ns = "ns3"

[[node]]
name = "node4"
ipv6 = "2001:db8::14"
ns = "ns1"

# the databases
[[service]]
name = "db"
nodes = ["node3", "node2"] # in this order
min-healthy = 1

[[service]]
name = "new"
nodes = ["node4"]
"#;
        assert_eq!(renewed, expected);
    }

    #[test]
    fn services_come_and_go_as_a_whole() {
        let nodes = known(TEXT).unwrap().members.nodes;
        let without =
            sync_members(TEXT, &Members { nodes: nodes.clone(), ..Members::default() }, NodeRole::Server)
                .unwrap();
        assert!(!without.contains("service") && without.contains("node3"), "{without}");
        let services = services(&[("db", &["node1"])]);
        let again = sync_members(&without, &Members { nodes, services }, NodeRole::Server).unwrap();
        assert!(again.ends_with("\n[[service]]\nname = \"db\"\nnodes = [\"node1\"]\n"), "{again}");
    }

    #[test]
    fn nodes_that_change_their_places_do_so_at_once() {
        let nodes = vec![
            place("node1", &["192.0.2.12"]),
            place("node2", &["192.0.2.11", "2001:db8::11"]),
            place("node3", &["192.0.2.13"]),
        ];
        let renewed =
            sync_members(TEXT, &Members { nodes: nodes.clone(), ..Members::default() }, NodeRole::Server)
                .unwrap();
        assert_eq!(known(&renewed).unwrap().members.nodes, nodes);
        assert!(renewed.contains("ipv4 = \"192.0.2.12\" # rack A"), "{renewed}");
    }
}
