//! Changes the text of the configuration file, and keeps everything else in it, comments too.
//!
//! Nodes are here and in `node_keys`, services in `service`, suffixes in `suffix`, static records in `record`. The
//! functions take a text and return a text. The caller parses the new text before it writes it.
mod node_keys;
mod record;
pub(super) mod service;
mod suffix;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value};

pub use node_keys::NodeKeys;
pub use record::{
    Existing, RecordKeys, add_records, import_records, record_sections, remove_record, replace_records,
    set_record,
};
pub use service::{ServiceKeys, add_service, remove_service, set_service};
pub use suffix::{add_suffix, remove_suffix};

use super::{nearest, spec};

/// A changed file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// The whole new text; the old text if there was nothing to do.
    pub text: String,
    /// Notes for the operator: further changes, or why nothing was changed.
    pub notes: Vec<String>,
}

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no node of that name.
    #[error("{}", unknown_node(name, nearest.as_deref()))]
    UnknownNode {
        /// The name asked for.
        name: String,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// There is no service of that name.
    #[error("{}", unknown_of("service", name, nearest.as_deref()))]
    UnknownService {
        /// The name asked for.
        name: String,
        /// The name that was probably meant.
        nearest: Option<String>,
    },
    /// There are no records of that name and type.
    #[error("there is no record `{name} {rtype}`; `dns-xdp record list` shows them")]
    UnknownRecord {
        /// The name asked for.
        name: String,
        /// The type asked for.
        rtype: String,
    },
    /// The records of that name and type have other data.
    #[error("the record `{name} {rtype}` has no such value; `dns-xdp record list` shows its values")]
    UnknownData {
        /// The name asked for.
        name: String,
        /// The type asked for.
        rtype: String,
    },
    /// The change contradicts the file.
    #[error("{0}")]
    Conflict(String),
    /// The text is not TOML.
    #[error("the configuration file is not valid TOML: {0}; correct it and run `dns-xdp check`")]
    Malformed(String),
}

impl EditError {
    /// Whether what is to be changed is not there.
    pub fn is_unknown(&self) -> bool {
        match self {
            EditError::UnknownNode { .. }
            | EditError::UnknownService { .. }
            | EditError::UnknownRecord { .. }
            | EditError::UnknownData { .. } => true,
            EditError::Conflict(_) | EditError::Malformed(_) => false,
        }
    }
}

impl Edited {
    /// Returns a text that stays as it is.
    pub fn unchanged(text: &str) -> Edited {
        Edited { text: text.to_owned(), notes: Vec::new() }
    }
}

/// Returns the message about a name that no node has.
pub fn unknown_node(name: &str, nearest: Option<&str>) -> String {
    unknown_of("node", name, nearest)
}

fn unknown_of(kind: &str, name: &str, nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("there is no {kind} `{name}`; did you mean `{nearest}`?"),
        None => format!("there is no {kind} `{name}`; `dns-xdp {kind} list` shows them"),
    }
}

/// Appends a node. Adding the same node again changes nothing.
pub fn add_node(
    text: &str,
    name: &str,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    keys: &NodeKeys,
) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let addresses = given(ipv4, ipv6);
    if let Some(index) = position(nodes(&mut document)?, name) {
        let table = nodes(&mut document)?.get(index).expect("the position was just found");
        if addresses.iter().all(|(key, address)| holds(table, key, *address)) && keys.are_in(table) {
            return Ok(unchanged(text, format!("node `{name}` is there already")));
        }
        return Err(EditError::Conflict(format!(
            "node `{name}` is there with another address or other keys; use `dns-xdp node set {name}`"
        )));
    }
    let ns = append(&mut document, name, &addresses, NodeRole::Server)?.filter(|_| keys.ns.is_none());
    if let Some(table) = nodes(&mut document)?.iter_mut().last() {
        keys.write(table)?;
    }
    let notes = ns.into_iter().map(|ns| format!("its name server is `{ns}`: the next name is taken"));
    Ok(Edited { text: document.to_string(), notes: notes.collect() })
}

/// The role of a new node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeRole {
    /// It is a name server and counts for the quorum.
    Server,
    /// Its name is answered. It is no name server and does not count for the quorum.
    Name,
}

/// Appends a new node. Returns the name of its name server, if the default name is taken.
pub(super) fn append(
    document: &mut DocumentMut,
    name: &str,
    addresses: &[(&'static str, IpAddr)],
    role: NodeRole,
) -> Result<Option<String>, EditError> {
    let ns = match role {
        NodeRole::Server => free_ns(document, nodes_of(document).count()),
        NodeRole::Name => None,
    };
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table.insert("name", toml_edit::value(name));
    for (key, address) in addresses {
        table.insert(key, toml_edit::value(address.to_string()));
    }
    if let Some(ns) = &ns {
        table.insert("ns", toml_edit::value(ns));
    }
    if role == NodeRole::Name {
        table.insert("ns", toml_edit::value(false));
        table.insert("quorum", toml_edit::value(false));
    }
    nodes(document)?.push(table);
    Ok(ns)
}

/// Changes the addresses and the keys of a node. What is not given stays as it is.
pub fn set_node(
    text: &str,
    name: &str,
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    keys: &NodeKeys,
) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let nodes = nodes(&mut document)?;
    let index = position(nodes, name).ok_or_else(|| unknown(nodes, name))?;
    let table = nodes.get_mut(index).expect("the position was just found");
    for (key, address) in given(ipv4, ipv6) {
        if !holds(table, key, address) {
            set_value(table, key, Value::from(address.to_string()));
        }
    }
    keys.write(table)?;
    Ok(Edited { text: document.to_string(), notes: Vec::new() })
}

/// Removes a node and every mention of it. The other nodes keep the names of their name servers, because the parent
/// zone has those names.
pub fn remove_node(text: &str, name: &str) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let nodes = nodes(&mut document)?;
    let index = position(nodes, name).ok_or_else(|| unknown(nodes, name))?;
    if nodes.len() == 1 {
        return Err(EditError::Conflict(format!("`{name}` is the only node; add another first")));
    }
    let mut notes = Vec::new();
    take_out(nodes, index, name, &mut notes);
    remove_from_services(&mut document, name, &mut notes)?;
    Ok(Edited { text: document.to_string(), notes })
}

/// Removes the node at this place from the nodes and from their backup lists.
pub(super) fn take_out(nodes: &mut ArrayOfTables, index: usize, name: &str, notes: &mut Vec<String>) {
    keep_comments_of_the_section(nodes, index);
    for (later, table) in nodes.iter_mut().enumerate().skip(index + 1) {
        if !table.contains_key("ns") {
            let ns = spec::default_ns(later + 1);
            notes.push(format!("wrote ns = \"{ns}\" to `{}`, which keeps that name", name_of(table)));
            table.insert("ns", toml_edit::value(ns));
        }
    }
    nodes.remove(index);
    for table in nodes.iter_mut() {
        if let Some(backup) = table.get_mut("backup").and_then(Item::as_array_mut)
            && remove_from(backup, name)
        {
            let emptied = backup.is_empty();
            notes.push(format!("removed it from the backup list of `{}`", name_of(table)));
            if emptied {
                table.remove("backup");
            }
        }
    }
}

pub(super) fn parse(text: &str) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|error: toml_edit::TomlError| EditError::Malformed(error.message().to_owned()))
}

pub(super) fn nodes(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, EditError> {
    let nodes = document.get_mut("node").and_then(Item::as_array_of_tables_mut);
    nodes.ok_or_else(|| {
        EditError::Conflict("the nodes are not written as [[node]]; rewrite them so".to_owned())
    })
}

pub(super) fn nodes_of(document: &DocumentMut) -> impl Iterator<Item = &Table> {
    tables_of(document, "node")
}

pub(super) fn tables_of<'a>(
    document: &'a DocumentMut,
    key: &str,
) -> impl Iterator<Item = &'a Table> + use<'a> {
    document.get(key).and_then(Item::as_array_of_tables).into_iter().flatten()
}

pub(super) fn name_of(table: &Table) -> &str {
    table.get("name").and_then(Item::as_str).unwrap_or_default()
}

/// Returns the position of a node. Names in the file may be in upper or lower case.
pub(super) fn position(nodes: &ArrayOfTables, name: &str) -> Option<usize> {
    nodes.iter().position(|table| name_of(table).eq_ignore_ascii_case(name))
}

fn unknown(nodes: &ArrayOfTables, name: &str) -> EditError {
    let nearest = nearest(name, nodes.iter().map(name_of)).map(str::to_owned);
    EditError::UnknownNode { name: name.to_owned(), nearest }
}

fn unchanged(text: &str, note: String) -> Edited {
    Edited { text: text.to_owned(), notes: vec![note] }
}

pub(super) fn given(ipv4: Option<Ipv4Addr>, ipv6: Option<Ipv6Addr>) -> Vec<(&'static str, IpAddr)> {
    let ipv4 = ipv4.map(|ipv4| ("ipv4", IpAddr::V4(ipv4)));
    let ipv6 = ipv6.map(|ipv6| ("ipv6", IpAddr::V6(ipv6)));
    ipv4.into_iter().chain(ipv6).collect()
}

pub(super) fn holds(table: &Table, key: &str, address: IpAddr) -> bool {
    let written = table.get(key).and_then(Item::as_str);
    written.and_then(|text| text.parse().ok()) == Some(address)
}

/// Sets a key to a value, and keeps the comment beside the old one. An equal value stays as it is written.
pub(super) fn set_value(table: &mut Table, key: &str, mut new: Value) {
    if let Some(old) = table.get(key).and_then(Item::as_value) {
        if plain(old) == plain(&new) {
            return;
        }
        *new.decor_mut() = old.decor().clone();
    }
    table.insert(key, Item::Value(new));
}

/// Returns the text of a value without blanks, comments and other ways to write it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => Value::from(text.value().as_str()).to_string(),
        Value::Integer(number) => number.value().to_string(),
        Value::Array(array) => array.iter().map(plain).collect::<Vec<_>>().join(","),
        other => other.clone().decorated("", "").to_string(),
    }
}

/// Returns the name of a node's name server, in lower case; `None`: the node is not a name server. `position`: the node's
/// position, counted from 1.
pub(super) fn name_server(table: &Table, position: usize) -> Option<String> {
    match table.get("ns") {
        None => Some(spec::default_ns(position)),
        Some(written) => written.as_str().map(str::to_ascii_lowercase),
    }
}

/// Returns the name to write for the name server of a node after `count` others; `None` if the default is free.
fn free_ns(document: &DocumentMut, count: usize) -> Option<String> {
    let written = |table: &Table, key| table.get(key).and_then(Item::as_str).map(str::to_ascii_lowercase);
    let servers = (1..).zip(nodes_of(document)).filter_map(|(position, table)| name_server(table, position));
    let others = nodes_of(document).chain(tables_of(document, "service"));
    let taken: Vec<String> = servers.chain(others.filter_map(|table| written(table, "name"))).collect();
    let free = |ns: &String| !taken.contains(ns);
    if free(&spec::default_ns(count + 1)) {
        return None;
    }
    // The number of tried names is the number of taken names plus 1, so at least one is free.
    (1..=taken.len() + 1).map(spec::default_ns).find(free)
}

/// Moves comments of a removed node to the next one. A comment directly above `[[node]]` goes with its node. A comment
/// above a blank line is about all that follows, so it moves.
fn keep_comments_of_the_section(nodes: &mut ArrayOfTables, index: usize) {
    let prefix = |table: &Table| {
        table.decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned()
    };
    let leaving = nodes.get(index).map(prefix).unwrap_or_default();
    let Some((section, _)) = leaving.rsplit_once("\n\n").filter(|(section, _)| !section.trim().is_empty())
    else {
        return;
    };
    if let Some(next) = nodes.get_mut(index + 1) {
        let own = prefix(next);
        next.decor_mut().set_prefix(format!("{section}\n{own}"));
    }
}

/// Removes a name from a list. Returns whether it was there.
pub(super) fn remove_from(array: &mut Array, name: &str) -> bool {
    let is_it = |value: &Value| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case(name));
    let Some(index) = array.iter().position(is_it) else {
        return false;
    };
    let removed = array.remove(index);
    if let Some(next) = array.get_mut(index).filter(|_| index == 0)
        && let Some(prefix) = removed.decor().prefix()
    {
        next.decor_mut().set_prefix(prefix.clone());
    }
    true
}

fn remove_from_services(
    document: &mut DocumentMut,
    name: &str,
    notes: &mut Vec<String>,
) -> Result<(), EditError> {
    let services = document.get_mut("service").and_then(Item::as_array_of_tables_mut);
    for table in services.into_iter().flat_map(|services| services.iter_mut()) {
        if service::remove_backup(table, name) {
            notes.push(format!("removed it from the backup list of service `{}`", name_of(table)));
        }
        let Some(members) = table.get_mut("nodes").and_then(Item::as_array_mut) else {
            continue;
        };
        if remove_from(members, name) {
            let emptied = members.is_empty();
            let service = name_of(table);
            if emptied {
                return Err(EditError::Conflict(format!(
                    "`{name}` is the only node of service `{service}`; give that another node first"
                )));
            }
            notes.push(format!("removed it from service `{service}`"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# our cluster
[zone]
name = "demo.example.com" # delegated

# All nodes.

# the old machine
[[node]]
name = "node1"
ipv4 = "192.0.2.11"   # rack A
backup = ["node2"]

[[node]]
name = "Node2"
ipv4 = "192.0.2.12"

[[node]]
name = "node3"
ipv4 = "192.0.2.13"
backup = [ "node1", "node2" ]
  [node.health]
  port = 7000 # another port

# services
[[service]]
name = "db1"
nodes = ["node1", "node3"] # both

[metrics]
listen = "off"
"#;

    fn addresses(last: u8) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        (Some(Ipv4Addr::new(192, 0, 2, last)), None)
    }

    fn add(text: &str, name: &str, last: u8) -> Result<Edited, EditError> {
        let (ipv4, ipv6) = addresses(last);
        add_node(text, name, ipv4, ipv6, &NodeKeys::default())
    }

    #[test]
    fn a_node_is_added_after_the_last_and_nothing_else_changes() {
        let edited = add(TEXT, "node4", 14).unwrap();
        let added = "\n[[node]]\nname = \"node4\"\nipv4 = \"192.0.2.14\"\n";
        let place = TEXT.find("\n# services").unwrap();
        let expected = format!("{}{added}{}", &TEXT[..place], &TEXT[place..]);
        assert_eq!(edited.text, expected);
        assert!(edited.notes.is_empty());
    }

    #[test]
    fn adding_the_same_node_again_changes_nothing() {
        assert_eq!(add(TEXT, "node2", 12).unwrap().text, TEXT);
    }

    #[test]
    fn adding_a_node_with_another_address_is_refused() {
        let error = add(TEXT, "node2", 99).unwrap_err();
        assert_eq!(
            error.to_string(),
            "node `node2` is there with another address or other keys; use `dns-xdp node set node2`"
        );
    }

    #[test]
    fn setting_an_address_keeps_the_comment_beside_it() {
        let (ipv4, ipv6) = addresses(99);
        let set = |text: &str| set_node(text, "NODE1", ipv4, ipv6, &NodeKeys::default()).unwrap().text;
        let edited = set(TEXT);
        assert_eq!(edited, TEXT.replace("192.0.2.11", "192.0.2.99"));
        assert_eq!(set(&edited), edited);
    }

    #[test]
    fn setting_an_unknown_node_names_the_nearest() {
        let error = set_node(TEXT, "nod1", None, None, &NodeKeys::default()).unwrap_err();
        assert_eq!(error.to_string(), "there is no node `nod1`; did you mean `node1`?");
    }

    #[test]
    fn a_removed_node_is_named_nowhere_and_the_others_keep_their_name_servers() {
        let edited = remove_node(TEXT, "node1").unwrap();
        let expected = r#"# our cluster
[zone]
name = "demo.example.com" # delegated

# All nodes.

[[node]]
name = "Node2"
ipv4 = "192.0.2.12"
ns = "ns2"

[[node]]
name = "node3"
ipv4 = "192.0.2.13"
backup = [ "node2" ]
ns = "ns3"
  [node.health]
  port = 7000 # another port

# services
[[service]]
name = "db1"
nodes = ["node3"] # both

[metrics]
listen = "off"
"#;
        assert_eq!(edited.text, expected);
        assert_eq!(
            edited.notes,
            [
                "wrote ns = \"ns2\" to `Node2`, which keeps that name",
                "wrote ns = \"ns3\" to `node3`, which keeps that name",
                "removed it from the backup list of `node3`",
                "removed it from service `db1`",
            ]
        );
    }

    #[test]
    fn a_node_added_after_a_removal_takes_the_free_name_server() {
        let removed = remove_node(TEXT, "node2").unwrap().text;
        assert!(!removed.contains("Node2"));
        let added = add(&removed, "node4", 14).unwrap();
        assert!(added.text.contains("ipv4 = \"192.0.2.14\"\nns = \"ns2\"\n"), "{}", added.text);
    }

    #[test]
    fn the_last_node_of_a_service_and_of_the_cluster_stay() {
        let once = remove_node(TEXT, "node1").unwrap().text;
        let error = remove_node(&once, "node3").unwrap_err();
        let text = "`node3` is the only node of service `db1`; give that another node first";
        assert_eq!(error.to_string(), text);
        let single = "[[node]]\nname = \"node1\"\n";
        let error = remove_node(single, "node1").unwrap_err();
        assert_eq!(error.to_string(), "`node1` is the only node; add another first");
    }

    #[test]
    fn removing_an_unknown_node_is_refused() {
        let error = remove_node(TEXT, "nod3").unwrap_err();
        assert_eq!(error.to_string(), "there is no node `nod3`; did you mean `node3`?");
    }
}
