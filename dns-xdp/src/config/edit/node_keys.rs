//! The keys of a node besides its name and addresses, as a command sets them.
use serde::{Deserialize, Serialize};
use toml_edit::{Array, Item, Table, Value};

use super::{EditError, name_of, set_value};
use crate::cluster::Family;
use crate::config::spec::NO_PROBE;

/// The keys that a command sets on a node. A key that is not given has its default in a new node, and keeps its value in
/// an existing node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeKeys {
    /// The name of its name server, relative to the zone; empty: it is not a name server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns: Option<String>,
    /// `quorum`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quorum: Option<bool>,
    /// `apex`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apex: Option<bool>,
    /// Whether it is probed: `probe = "none"` in its `[node.health]`, or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probed: Option<bool>,
    /// `weight`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// Names of its backups; an empty list removes its backups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup: Option<Vec<String>>,
    /// The families whose address it loses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub without: Vec<Family>,
}

impl NodeKeys {
    /// Whether no key is given.
    pub fn is_empty(&self) -> bool {
        *self == NodeKeys::default()
    }

    /// Returns the keys of `[[node]]`, each with its value; `None`: remove the key.
    fn values(&self) -> Vec<(&'static str, Option<Value>)> {
        let ns = |ns: &String| if ns.is_empty() { Value::from(false) } else { Value::from(ns.as_str()) };
        let list = |names: &Vec<String>| {
            let names: Array = names.iter().map(String::as_str).collect();
            (!names.is_empty()).then(|| Value::from(names))
        };
        let families = self.without.iter().map(|family| (family.text(), None));
        [
            self.ns.as_ref().map(|name| ("ns", Some(ns(name)))),
            self.quorum.map(|has| ("quorum", Some(Value::from(has)))),
            self.apex.map(|has| ("apex", Some(Value::from(has)))),
            self.weight.map(|weight| ("weight", Some(Value::from(i64::from(weight))))),
            self.backup.as_ref().map(|names| ("backup", list(names))),
        ]
        .into_iter()
        .flatten()
        .chain(families)
        .collect()
    }

    /// Whether the node has all these keys already.
    pub(super) fn are_in(&self, table: &Table) -> bool {
        let mut changed = table.clone();
        self.write(&mut changed).is_ok() && changed.to_string() == table.to_string()
    }

    /// Writes the keys into a node. A key that has its value already stays as it is written.
    ///
    /// # Errors
    /// The node has keys for its probes, and is to have none.
    pub(super) fn write(&self, table: &mut Table) -> Result<(), EditError> {
        for (key, value) in self.values() {
            match value {
                Some(value) => set_value(table, key, value),
                None => drop(table.remove(key)),
            }
        }
        match self.probed {
            Some(true) => probe(table),
            Some(false) => return unprobe(table),
            None => {}
        }
        Ok(())
    }
}

/// Removes `probe = "none"`.
fn probe(table: &mut Table) {
    let Some(health) = table.get_mut("health").and_then(Item::as_table_like_mut) else { return };
    if health.get("probe").and_then(Item::as_str) == Some(NO_PROBE) {
        health.remove("probe");
        if health.is_empty() {
            table.remove("health");
        }
    }
}

/// Writes `probe = "none"`.
fn unprobe(table: &mut Table) -> Result<(), EditError> {
    let health = table.entry("health").or_insert_with(|| Item::Table(Table::new()));
    let written = health.as_table_like_mut().filter(|health| health.iter().all(|(key, _)| key == "probe"));
    let Some(health) = written else {
        return Err(EditError::Conflict(format!(
            "[node.health] of `{}` says how it is probed, which has no effect without probes; remove that section first",
            name_of(table)
        )));
    };
    health.insert("probe", toml_edit::value(NO_PROBE));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{add_node, set_node};
    use super::*;

    const TEXT: &str = "[[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n\n[metrics]\nlisten = \"off\"\n";

    fn set(text: &str, keys: &NodeKeys) -> String {
        set_node(text, "node1", None, None, keys).unwrap().text
    }

    fn all() -> NodeKeys {
        NodeKeys {
            ns: Some(String::new()),
            quorum: Some(false),
            apex: Some(false),
            probed: Some(false),
            weight: Some(3),
            backup: Some(vec!["node2".to_owned(), "node3".to_owned()]),
            without: Vec::new(),
        }
    }

    #[test]
    fn a_node_is_added_with_its_keys() {
        let address = Some([192, 0, 2, 12].into());
        let edited = add_node(TEXT, "lb", address, None, &all()).unwrap();
        let added = "\n[[node]]\nname = \"lb\"\nipv4 = \"192.0.2.12\"\nns = false\nquorum = false\napex = false\n\
                     weight = 3\nbackup = [\"node2\", \"node3\"]\n\n[node.health]\nprobe = \"none\"\n";
        assert_eq!(edited.text, TEXT.replace("\n[metrics]", &format!("{added}\n[metrics]")));
        assert!(edited.notes.is_empty(), "it has no name server: {:?}", edited.notes);
        let again = add_node(&edited.text, "lb", address, None, &all()).unwrap();
        assert_eq!(again.text, edited.text);
        let other = NodeKeys { weight: Some(4), ..NodeKeys::default() };
        let error = add_node(&edited.text, "lb", address, None, &other).unwrap_err().to_string();
        assert_eq!(error, "node `lb` is there with another address or other keys; use `dns-xdp node set lb`");
    }

    #[test]
    fn what_is_not_given_stays_and_what_is_emptied_goes() {
        let written = set(TEXT, &all());
        assert_eq!(set(&written, &NodeKeys::default()), written);
        let back = NodeKeys {
            ns: Some("ns1".to_owned()),
            quorum: Some(true),
            apex: Some(true),
            probed: Some(true),
            weight: None,
            backup: Some(Vec::new()),
            without: Vec::new(),
        };
        let expected = "ipv4 = \"192.0.2.11\"\nns = \"ns1\"\nquorum = true\napex = true\nweight = 3\n";
        assert_eq!(set(&written, &back), TEXT.replace("ipv4 = \"192.0.2.11\"\n", expected));
    }

    #[test]
    fn a_value_is_replaced_beside_its_comment() {
        let text = TEXT.replace("11\"\n", "11\"\nweight = 2 # half of a rack\n");
        let weight = |weight| NodeKeys { weight: Some(weight), ..NodeKeys::default() };
        assert_eq!(set(&text, &weight(2)), text);
        assert_eq!(set(&text, &weight(5)), text.replace("= 2", "= 5"));
    }

    #[test]
    fn an_address_is_taken_away() {
        let text = TEXT.replace("11\"\n", "11\"\nipv6 = \"2001:db8::1\"\n");
        assert_eq!(set(&text, &NodeKeys { without: vec![Family::Ipv6], ..NodeKeys::default() }), TEXT);
    }

    #[test]
    fn a_node_with_its_own_probes_is_not_made_one_without() {
        let text = TEXT.replace("\n[metrics]", "[node.health]\nport = 7000\n\n[metrics]");
        let unprobed = NodeKeys { probed: Some(false), ..NodeKeys::default() };
        let error = set_node(&text, "node1", None, None, &unprobed).unwrap_err().to_string();
        assert!(error.contains("`node1`") && error.contains("remove that section first"), "{error}");
        let probed = NodeKeys { probed: Some(true), ..NodeKeys::default() };
        assert_eq!(set(&text, &probed), text);
        for form in ["health.probe = \"none\"\n", "health = { probe = \"none\" }\n"] {
            let text = TEXT.replace("11\"\n", &format!("11\"\n{form}"));
            assert_eq!(set(&text, &unprobed), text);
            assert_eq!(set(&text, &probed), TEXT);
        }
    }
}
