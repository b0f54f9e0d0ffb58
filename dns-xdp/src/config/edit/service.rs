//! Changes to the services in the text of a configuration, likewise.
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value};

use super::{EditError, Edited, name_of, parse, position, unchanged};
use crate::config::nearest;

/// Appends a service. Adding the same service again changes nothing.
pub fn add_service(
    text: &str,
    name: &str,
    nodes: &[String],
    min_healthy: Option<usize>,
) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let services = services(&mut document)?;
    if let Some(index) = position(services, name) {
        let table = services.get(index).expect("the position was just found");
        if is(table, nodes, min_healthy) {
            return Ok(unchanged(text, format!("service `{name}` is there already")));
        }
        return Err(EditError::Conflict(format!(
            "service `{name}` is there with other nodes or another minimum; use `dns-xdp service set {name}`"
        )));
    }
    let mut table = table_of(name, nodes);
    if let Some(min_healthy) = min_healthy {
        table.insert("min-healthy", toml_edit::value(integer(min_healthy)));
    }
    services.push(table);
    Ok(Edited { text: document.to_string(), notes: Vec::new() })
}

/// Gives a service other nodes, or another minimum; what is not given stays as it is.
pub fn set_service(
    text: &str,
    name: &str,
    nodes: &[String],
    min_healthy: Option<usize>,
) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let services = services(&mut document)?;
    let index = position(services, name).ok_or_else(|| unknown(services, name))?;
    let table = services.get_mut(index).expect("the position was just found");
    if !nodes.is_empty() && !has_members(table, nodes) {
        replace(table, "nodes", Value::from(array(nodes)));
    }
    if let Some(min_healthy) = min_healthy {
        replace(table, "min-healthy", Value::from(integer(min_healthy)));
    }
    Ok(Edited { text: document.to_string(), notes: Vec::new() })
}

/// Removes a service. Removing one that is not there changes nothing.
pub fn remove_service(text: &str, name: &str) -> Result<Edited, EditError> {
    let mut document = parse(text)?;
    let services = services(&mut document)?;
    let Some(index) = position(services, name) else {
        return Ok(unchanged(text, unknown(services, name).to_string()));
    };
    services.remove(index);
    if services.is_empty() {
        document.remove("service");
    }
    Ok(Edited { text: document.to_string(), notes: Vec::new() })
}

/// A service that the text does not have yet.
pub(in crate::config) fn table_of(name: &str, nodes: &[String]) -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    table.insert("name", toml_edit::value(name));
    table.insert("nodes", toml_edit::value(array(nodes)));
    table
}

/// The services of the text; none yet is as good as some.
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

fn is(table: &Table, nodes: &[String], min_healthy: Option<usize>) -> bool {
    let written = table.get("min-healthy").and_then(Item::as_integer);
    has_members(table, nodes) && min_healthy.is_none_or(|wanted| written == Some(integer(wanted)))
}

fn has_members(table: &Table, nodes: &[String]) -> bool {
    let written = table.get("nodes").and_then(Item::as_array).into_iter().flatten();
    let written = written.map(|member| member.as_str().unwrap_or_default().to_ascii_lowercase());
    written.eq(nodes.iter().map(|node| node.to_ascii_lowercase()))
}

fn array(nodes: &[String]) -> Array {
    nodes.iter().map(String::as_str).collect()
}

/// No service has as many members as an `i64` counts.
fn integer(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Comments beside the value stay.
fn replace(table: &mut Table, key: &str, mut new: Value) {
    if let Some(old) = table.get(key).and_then(Item::as_value) {
        *new.decor_mut() = old.decor().clone();
    }
    table.insert(key, Item::Value(new));
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

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn a_service_is_added_after_the_last_and_nothing_else_changes() {
        let edited = add_service(TEXT, "cache", &names(&["node1"]), Some(1)).unwrap();
        let added = "\n[[service]]\nname = \"cache\"\nnodes = [\"node1\"]\nmin-healthy = 1\n";
        let place = TEXT.find("\n[metrics]").unwrap();
        assert_eq!(edited.text, format!("{}{added}{}", &TEXT[..place], &TEXT[place..]));
        let first = add_service("[zone]\nname = \"example.com\"\n", "@", &names(&["node1"]), None).unwrap();
        assert_eq!(
            first.text,
            "[zone]\nname = \"example.com\"\n\n[[service]]\nname = \"@\"\nnodes = [\"node1\"]\n"
        );
    }

    #[test]
    fn the_same_service_again_changes_nothing_and_another_one_of_its_name_is_refused() {
        let nodes = names(&["Node1", "node3"]);
        assert_eq!(add_service(TEXT, "DB1", &nodes, None).unwrap().text, TEXT);
        assert_eq!(add_service(TEXT, "db1", &nodes, Some(2)).unwrap().text, TEXT);
        for (nodes, min_healthy) in [(names(&["node3", "node1"]), None), (nodes, Some(1))] {
            let error = add_service(TEXT, "db1", &nodes, min_healthy).unwrap_err();
            assert!(error.to_string().contains("`dns-xdp service set db1`"), "{error}");
        }
    }

    #[test]
    fn what_is_set_is_changed_and_comments_stay() {
        let edited = set_service(TEXT, "db1", &names(&["node2"]), None).unwrap();
        assert_eq!(edited.text, TEXT.replace("[\"node1\", \"node3\"]", "[\"node2\"]"));
        let edited = set_service(TEXT, "db1", &[], Some(1)).unwrap();
        assert_eq!(edited.text, TEXT.replace("min-healthy = 2", "min-healthy = 1"));
        let error = set_service(TEXT, "db", &names(&["node2"]), None).unwrap_err();
        assert_eq!(error.to_string(), "there is no service `db`; `dns-xdp service list` shows them");
    }

    #[test]
    fn a_removed_service_is_gone_and_one_that_is_not_there_is_told() {
        let edited = remove_service(TEXT, "db1").unwrap();
        assert!(!edited.text.contains("service") && edited.text.contains("[metrics]"), "{}", edited.text);
        let idle = remove_service(TEXT, "cache").unwrap();
        assert_eq!((idle.text.as_str(), idle.notes.len()), (TEXT, 1));
    }

    #[test]
    fn services_of_another_form_are_refused() {
        let error = remove_service("service = [{ name = \"db1\", nodes = [] }]\n", "db1").unwrap_err();
        assert!(error.to_string().contains("[[service]]"), "{error}");
    }
}
