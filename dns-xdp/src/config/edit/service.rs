//! Changes the services in the text of a configuration, and leaves everything else in it as it is.
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value};

use super::{EditError, Edited, name_of, parse, position, remove_from, set_value, unchanged};
use crate::cluster::{AllDown, Order};
use crate::config::nearest;

/// The keys that a command sets on a service. A key that is not given has its default in a new service, and keeps its
/// value in an existing service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceKeys {
    /// Names of its members; empty: not given.
    pub nodes: Vec<String>,
    /// `min-healthy`
    pub min_healthy: Option<usize>,
    /// `order`
    pub order: Option<Order>,
    /// Names of its backups; an empty list removes its backups.
    pub backup: Option<Vec<String>>,
    /// `all-down`
    pub all_down: Option<AllDown>,
}

impl ServiceKeys {
    /// Returns the keys besides `nodes`, each with its value; `None`: remove the key.
    fn others(&self) -> Vec<(&'static str, Option<Value>)> {
        let backup = |backup: &Vec<String>| (!backup.is_empty()).then(|| Value::from(array(backup)));
        [
            self.min_healthy.map(|least| ("min-healthy", Some(Value::from(integer(least))))),
            self.order.map(|order| ("order", Some(Value::from(order.text())))),
            self.backup.as_ref().map(|list| ("backup", backup(list))),
            self.all_down.map(|rule| ("all-down", Some(Value::from(rule.text())))),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Appends a service. Adding the same service again changes nothing.
pub fn add_service(text: &str, name: &str, keys: &ServiceKeys) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let services = services(&mut document)?;
    if let Some(index) = position(services, name) {
        let table = services.get(index).expect("the position was just found");
        if is(table, keys) {
            return Ok(unchanged(text, format!("service `{name}` is there already")));
        }
        return Err(EditError::Conflict(format!(
            "service `{name}` is there with other nodes or other rules; use `dns-xdp service set {name}`"
        )));
    }
    let mut table = table_of(name, &keys.nodes);
    for (key, value) in keys.others() {
        if let Some(value) = value {
            table.insert(key, Item::Value(value));
        }
    }
    services.push(table);
    Ok(Edited { text: document.to_string(), notes: Vec::new() })
}

/// Changes the nodes or the rules of a service. A key that is not given stays as it is.
pub fn set_service(text: &str, name: &str, keys: &ServiceKeys) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let services = services(&mut document)?;
    let index = position(services, name).ok_or_else(|| unknown(services, name))?;
    let table = services.get_mut(index).expect("the position was just found");
    if !keys.nodes.is_empty() && !has_names(table, "nodes", &keys.nodes) {
        set_value(table, "nodes", Value::from(array(&keys.nodes)));
    }
    for (key, value) in keys.others() {
        match value {
            Some(value) => set_value(table, key, value),
            None => drop(table.remove(key)),
        }
    }
    Ok(Edited { text: document.to_string(), notes: Vec::new() })
}

/// Removes a service.
pub fn remove_service(text: &str, name: &str) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let services = services(&mut document)?;
    let index = position(services, name).ok_or_else(|| unknown(services, name))?;
    services.remove(index);
    if services.is_empty() {
        document.remove("service");
    }
    Ok(Edited { text: document.to_string(), notes: Vec::new() })
}

/// Returns the backups of a service, in lower case.
pub(in crate::config) fn backups(table: &Table) -> Vec<String> {
    let written = table.get("backup").and_then(Item::as_array).into_iter().flatten();
    written.filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
}

/// Removes a node from the backups of a service. Returns whether it was one.
pub(in crate::config) fn remove_backup(table: &mut Table, node: &str) -> bool {
    let Some(backup) = table.get_mut("backup").and_then(Item::as_array_mut) else { return false };
    if !remove_from(backup, node) {
        return false;
    }
    if backup.is_empty() {
        table.remove("backup");
    }
    true
}

/// Makes a service that the text does not have yet.
pub(in crate::config) fn table_of(name: &str, nodes: &[String]) -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table.insert("name", toml_edit::value(name));
    table.insert("nodes", toml_edit::value(array(nodes)));
    table
}

/// Returns the services of the text. Adds an empty list if there are none.
pub(in crate::config) fn services(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, EditError> {
    let services = document.entry("service").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    services.as_array_of_tables_mut().ok_or_else(|| {
        EditError::Conflict("the services are not written as [[service]]; rewrite them so".to_owned())
    })
}

fn unknown(services: &ArrayOfTables, name: &str) -> EditError {
    let nearest = nearest(name, services.iter().map(name_of)).map(str::to_owned);
    EditError::UnknownService { name: name.to_owned(), nearest }
}

/// Whether a service already has the given keys.
fn is(table: &Table, keys: &ServiceKeys) -> bool {
    let has = |key: &str, wanted: &str| table.get(key).and_then(Item::as_str) == Some(wanted);
    let least = table.get("min-healthy").and_then(Item::as_integer);
    has_names(table, "nodes", &keys.nodes)
        && keys.min_healthy.is_none_or(|wanted| least == Some(integer(wanted)))
        && keys.order.is_none_or(|order| {
            has("order", order.text()) || order == Order::default() && !table.contains_key("order")
        })
        && keys.backup.as_ref().is_none_or(|backup| has_names(table, "backup", backup))
        && keys.all_down.is_none_or(|rule| has("all-down", rule.text()))
}

fn has_names(table: &Table, key: &str, nodes: &[String]) -> bool {
    let written = table.get(key).and_then(Item::as_array).into_iter().flatten();
    let written = written.map(|member| member.as_str().unwrap_or_default().to_ascii_lowercase());
    written.eq(nodes.iter().map(|node| node.to_ascii_lowercase()))
}

fn array(nodes: &[String]) -> Array {
    nodes.iter().map(String::as_str).collect()
}

/// Converts a count. No service has more members than an `i64` holds.
fn integer(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
[[node]]
name = \"node1\"

# where writers go
[[service]]
name = \"db1\"
nodes = [\"node1\", \"node3\"] # both
min-healthy = 2

[metrics]
listen = \"off\"
";

    fn keys(names: &[&str], min_healthy: Option<usize>) -> ServiceKeys {
        let nodes = names.iter().map(|&name| name.to_owned()).collect();
        ServiceKeys { nodes, min_healthy, ..ServiceKeys::default() }
    }

    #[test]
    fn a_service_is_added_after_the_last_and_nothing_else_changes() {
        let edited = add_service(TEXT, "cache", &keys(&["node1"], Some(1))).unwrap();
        let added = "\n[[service]]\nname = \"cache\"\nnodes = [\"node1\"]\nmin-healthy = 1\n";
        let place = TEXT.find("\n[metrics]").unwrap();
        assert_eq!(edited.text, format!("{}{added}{}", &TEXT[..place], &TEXT[place..]));
        let first = add_service("[zone]\nname = \"example.com\"\n", "@", &keys(&["node1"], None)).unwrap();
        assert_eq!(
            first.text,
            "[zone]\nname = \"example.com\"\n\n[[service]]\nname = \"@\"\nnodes = [\"node1\"]\n"
        );
    }

    #[test]
    fn the_same_service_again_changes_nothing_and_another_one_of_its_name_is_refused() {
        let nodes = ["Node1", "node3"];
        assert_eq!(add_service(TEXT, "DB1", &keys(&nodes, None)).unwrap().text, TEXT);
        assert_eq!(add_service(TEXT, "db1", &keys(&nodes, Some(2))).unwrap().text, TEXT);
        let rotate = ServiceKeys { order: Some(Order::Rotate), ..keys(&nodes, None) };
        assert_eq!(add_service(TEXT, "db1", &rotate).unwrap().text, TEXT);
        let first = ServiceKeys { order: Some(Order::First), ..keys(&nodes, None) };
        for other in [keys(&["node3", "node1"], None), keys(&nodes, Some(1)), first] {
            let error = add_service(TEXT, "db1", &other).unwrap_err();
            assert!(error.to_string().contains("`dns-xdp service set db1`"), "{error}");
        }
    }

    #[test]
    fn what_is_set_is_changed_and_comments_stay() {
        let edited = set_service(TEXT, "db1", &keys(&["node2"], None)).unwrap();
        assert_eq!(edited.text, TEXT.replace("[\"node1\", \"node3\"]", "[\"node2\"]"));
        let edited = set_service(TEXT, "db1", &keys(&[], Some(1))).unwrap();
        assert_eq!(edited.text, TEXT.replace("min-healthy = 2", "min-healthy = 1"));
        let error = set_service(TEXT, "db", &keys(&["node2"], None)).unwrap_err();
        assert_eq!(error.to_string(), "there is no service `db`; `dns-xdp service list` shows them");
    }

    #[test]
    fn order_backup_and_the_rule_for_a_service_that_is_down_are_written_and_taken_back() {
        let backup = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect());
        let keys = ServiceKeys {
            order: Some(Order::First),
            backup: backup(&["node2"]),
            all_down: Some(AllDown::Nodata),
            ..ServiceKeys::default()
        };
        let edited = set_service(TEXT, "db1", &keys).unwrap().text;
        let written = "min-healthy = 2\norder = \"first\"\nbackup = [\"node2\"]\nall-down = \"nodata\"\n";
        assert_eq!(edited, TEXT.replace("min-healthy = 2\n", written));
        let none = ServiceKeys { backup: backup(&[]), ..ServiceKeys::default() };
        let edited = set_service(&edited, "db1", &none).unwrap().text;
        assert!(!edited.contains("backup"), "{edited}");
    }

    #[test]
    fn a_removed_service_is_gone_and_one_that_is_not_there_is_told() {
        let edited = remove_service(TEXT, "db1").unwrap();
        assert!(!edited.text.contains("service") && edited.text.contains("[metrics]"), "{}", edited.text);
        assert!(remove_service(TEXT, "cache").unwrap_err().is_unknown());
    }

    #[test]
    fn services_of_another_form_are_refused() {
        let error = remove_service("service = [{ name = \"db1\", nodes = [] }]\n", "db1").unwrap_err();
        assert!(error.to_string().contains("[[service]]"), "{error}");
    }
}
