//! Compares two configuration files key by key, to show the effect of a reload.
//!
//! The documents are compared as TOML, so this code need not know the keys. The tables of a list are matched by their
//! names if they have names. A key that a table leaves out has the value of the tables around it.
use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::spec::default_ns;

/// The most lines; further differences are only counted.
const MOST: usize = 60;
/// The most characters of one value.
const LONGEST: usize = 100;

/// The key with the name of a table.
const NAME: &str = "name";
/// The list whose tables are shown by their names alone.
const NODE: &str = "node";
/// In this list, name and type together identify a table.
const RECORD: &str = "record";
const TYPE: &str = "type";
/// A key whose default follows from the node's position.
const NS: &str = "ns";
/// Keys whose values are not shown.
const SECRETS: [&str; 2] = ["secret", "secrets"];

/// Returns one line for each key that differs, in the order of the new file.
pub fn differences(old: &str, new: &str) -> Vec<String> {
    let [Ok(old), Ok(new)] = [old, new].map(str::parse::<DocumentMut>) else {
        return vec!["the file was changed, and cannot be compared".to_owned()];
    };
    let [old, new] = [old, new].map(|document| table(document.as_table()));
    let mut differences = Differences::default();
    differences.tables(&Place::default(), &Side::whole(&old), &Side::whole(&new));
    let mut lines = differences.0;
    if lines.len() > MOST {
        let more = lines.len() - MOST;
        lines.truncate(MOST);
        lines.push(format!("and {more} more"));
    }
    lines
}

/// A part of a document, without comments and layout.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Leaf(String),
    Table(Table),
    List(Vec<Table>),
}

type Table = Vec<(String, Tree)>;

static EMPTY: Table = Vec::new();

fn table(written: &dyn TableLike) -> Table {
    written.iter().filter_map(|(key, item)| Some((key.to_owned(), tree(item)?))).collect()
}

fn tree(item: &Item) -> Option<Tree> {
    if let Some(written) = item.as_table_like() {
        return Some(Tree::Table(table(written)));
    }
    let list: Option<Vec<Table>> = match item {
        Item::ArrayOfTables(tables) => Some(tables.iter().map(|written| table(written)).collect()),
        Item::Value(Value::Array(array)) if !array.is_empty() => {
            array.iter().map(|value| Some(table(value.as_inline_table()?))).collect()
        }
        _ => None,
    };
    list.map(Tree::List).or_else(|| item.as_value().map(|value| Tree::Leaf(text(value))))
}

fn text(value: &Value) -> String {
    let join = |parts: Vec<String>| parts.join(", ");
    match value {
        Value::String(string) => format!("{:?}", string.value()),
        Value::Integer(integer) => integer.value().to_string(),
        Value::Float(float) => float.value().to_string(),
        Value::Boolean(boolean) => boolean.value().to_string(),
        Value::Datetime(datetime) => datetime.value().to_string(),
        Value::Array(array) => format!("[{}]", join(array.iter().map(text).collect())),
        Value::InlineTable(table) => {
            let pairs = table.iter().map(|(key, value)| format!("{key} = {}", text(value)));
            format!("{{{}}}", join(pairs.collect()))
        }
    }
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Tree> {
    table.iter().find(|(known, _)| known == key).map(|(_, tree)| tree)
}

fn name(table: &Table) -> Option<String> {
    match find(table, NAME)? {
        Tree::Leaf(name) => Some(name.trim_matches('"').to_ascii_lowercase()),
        _ => None,
    }
}

/// A table of one of the documents, and the tables around it with its defaults, the nearest first.
struct Side<'a> {
    table: &'a Table,
    around: Vec<&'a Table>,
}

impl<'a> Side<'a> {
    fn whole(document: &'a Table) -> Self {
        Side { table: document, around: Vec::new() }
    }

    /// Returns the side for `element`, which is in a list of this table.
    fn element(&self, element: &'a Table) -> Self {
        Side { table: element, around: std::iter::once(self.table).chain(self.around.clone()).collect() }
    }

    fn within(&self, key: &str) -> Self {
        let inner = |table: &&'a Table| match find(table, key) {
            Some(Tree::Table(inner)) => Some(inner),
            _ => None,
        };
        let table = inner(&self.table).unwrap_or(&EMPTY);
        Side { table, around: self.around.iter().filter_map(inner).collect() }
    }

    fn list(&self, key: &str) -> &'a [Table] {
        match find(self.table, key) {
            Some(Tree::List(list)) => list,
            _ => &[],
        }
    }

    fn text(&self, key: &str) -> String {
        let leaf = |table: &&'a Table| match find(table, key)? {
            Tree::Leaf(text) => Some(text.as_str()),
            Tree::Table(_) | Tree::List(_) => Some("a table"),
        };
        let found = std::iter::once(&self.table).chain(&self.around).find_map(leaf);
        found.unwrap_or("default").to_owned()
    }
}

/// The place of a key, as shown to an operator: `node2 [health]`.
#[derive(Debug, Clone, Default)]
struct Place {
    element: String,
    path: Vec<String>,
}

impl Place {
    fn within(&self, key: &str) -> Self {
        let path = self.path.iter().cloned().chain([key.to_owned()]).collect();
        Place { element: self.element.clone(), path }
    }

    fn element(&self, key: &str, name: &str) -> Self {
        let bare = key == NODE && self.element.is_empty() && self.path.is_empty();
        let element = if bare { name.to_owned() } else { self.text(&format!("{key} {name}")) };
        Place { element, path: Vec::new() }
    }

    fn text(&self, last: &str) -> String {
        let path = (!self.path.is_empty()).then(|| format!("[{}]", self.path.join(".")));
        let element = Some(self.element.clone()).filter(|element| !element.is_empty());
        let last = Some(last.to_owned()).filter(|last| !last.is_empty());
        [element, path, last].into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

#[derive(Debug, Default)]
struct Differences(Vec<String>);

impl Differences {
    fn tables(&mut self, place: &Place, old: &Side<'_>, new: &Side<'_>) {
        let gone = old.table.iter().filter(|(key, _)| find(new.table, key).is_none());
        for (key, _) in new.table.iter().chain(gone) {
            let [before, now] = [old, new].map(|side| find(side.table, key));
            match (before, now) {
                _ if before == now => {}
                (Some(Tree::Table(_)) | None, Some(Tree::Table(_)) | None) => {
                    self.tables(&place.within(key), &old.within(key), &new.within(key));
                }
                (Some(Tree::List(_)) | None, Some(Tree::List(_)) | None) => self.lists(place, key, old, new),
                _ => self.values(place, key, old, new),
            }
        }
    }

    fn values(&mut self, place: &Place, key: &str, old: &Side<'_>, new: &Side<'_>) {
        let [before, now] = [old, new].map(|side| side.text(key));
        if before != now && SECRETS.contains(&key) {
            self.0.push(format!("{}: changed", place.text(key)));
        } else if before != now {
            self.0.push(format!("{}: {} -> {}", place.text(key), short(&before), short(&now)));
        }
    }

    fn lists(&mut self, place: &Place, key: &str, old: &Side<'_>, new: &Side<'_>) {
        let [before, now] = [old, new].map(|side| with_names(key, side.list(key)));
        let find = |name: &str| before.iter().find(|(known, _)| known == name);
        for (name, table) in &now {
            let place = place.element(key, name);
            match find(name) {
                Some((_, known)) => self.tables(&place, &old.element(known), &new.element(table)),
                None => self.0.push(format!("{} added: {}", place.text(""), short(&summary(table)))),
            }
        }
        let is_in = |list: &[(String, Table)], name: &str| list.iter().any(|(known, _)| known == name);
        for (name, _) in before.iter().filter(|(name, _)| !is_in(&now, name)) {
            self.0.push(format!("{} removed", place.element(key, name).text("")));
        }
        let order = |list: &[(String, Table)], other: &[(String, Table)]| {
            let common = list.iter().filter(|(name, _)| is_in(other, name));
            common.map(|(name, _)| name.clone()).collect::<Vec<_>>().join(" ")
        };
        let [before, now] = [order(&before, &now), order(&now, &before)];
        if before != now {
            let place = place.text(&format!("[[{key}]] order"));
            self.0.push(format!("{place}: {} -> {}", short(&before), short(&now)));
        }
    }
}

/// Returns the tables of a list with their names, or else with their numbers.
fn with_names(key: &str, list: &[Table]) -> Vec<(String, Table)> {
    let named = |(position, table): (usize, &Table)| {
        let mut name = name(table).unwrap_or_else(|| position.to_string());
        let mut table: Table = table.iter().filter(|(key, _)| key != NAME).cloned().collect();
        if key == RECORD
            && let Some(Tree::Leaf(rtype)) = find(&table, TYPE)
        {
            name = format!("{name} {}", rtype.trim_matches('"').to_ascii_uppercase());
            table.retain(|(key, _)| key != TYPE);
        }
        if key == NODE && find(&table, NS).is_none() {
            table.push((NS.to_owned(), Tree::Leaf(format!("{:?}", default_ns(position)))));
        }
        (name, table)
    };
    (1..).zip(list).map(named).collect()
}

/// Returns a table on one line: first the addresses without their keys, then everything else.
fn summary(table: &Table) -> String {
    let mut addresses = Vec::new();
    let mut rest = Vec::new();
    leaves(table, "", &mut |key, value| match key {
        "ipv4" | "ipv6" => addresses.push(value.trim_matches('"').to_owned()),
        _ => rest.push(format!("{key} = {value}")),
    });
    let addresses = Some(addresses.join(" ")).filter(|addresses| !addresses.is_empty());
    addresses.into_iter().chain(rest).collect::<Vec<_>>().join(", ")
}

fn leaves(table: &Table, path: &str, take: &mut impl FnMut(&str, &str)) {
    for (name, tree) in table {
        let key = format!("{path}{name}");
        match tree {
            Tree::Leaf(_) if SECRETS.contains(&name.as_str()) => take(&key, "not shown"),
            Tree::Leaf(value) => take(&key, value),
            Tree::Table(inner) => leaves(inner, &format!("{key}."), take),
            Tree::List(list) => {
                for (position, inner) in (1..).zip(list) {
                    leaves(inner, &format!("{key} {position}."), take);
                }
            }
        }
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# our cluster
[zone]
name = "demo.example.com"
ttl = "5s" # short

[health]
port = 6379
[[health.probes]]
probe = "tcp"
[[health.probes]]
probe = "dns"

[[node]]
name = "node1"
ipv4 = "192.0.2.11"
[[node]]
name = "Node2"
ipv4 = "192.0.2.12"
backup = ["node1", "node3"]
  [node.health]
  fall = 4
[[node]]
name = "node3"
ipv4 = "192.0.2.13"

[[service]]
name = "db"
nodes = ["node1", "node2"]
"#;

    /// Returns the differences that the changes make to a file.
    fn told(changes: &[(&str, &str)]) -> Vec<String> {
        let mut new = TEXT.to_owned();
        for (from, to) in changes {
            assert_eq!(new.matches(from).count(), 1, "{from}");
            new = new.replace(from, to);
        }
        differences(TEXT, &new)
    }

    #[test]
    fn a_changed_key_is_told_with_its_old_and_its_new_value() {
        assert_eq!(told(&[("ttl = \"5s\"", "ttl = \"9s\"")]), ["[zone] ttl: \"5s\" -> \"9s\""]);
        assert_eq!(told(&[("ttl = \"5s\"", "")]), ["[zone] ttl: \"5s\" -> default"]);
        assert_eq!(
            told(&[("[health]", "[failover]\nwitness = [\n  \"192.0.2.1\", # the gateway\n]\n[health]")]),
            ["[failover] witness: default -> [\"192.0.2.1\"]"]
        );
    }

    #[test]
    fn what_a_node_leaves_out_is_what_the_section_says() {
        assert_eq!(
            told(&[("  fall = 4", "  fall = 4\n  port = 7000")]),
            ["node2 [health] port: 6379 -> 7000"]
        );
        assert_eq!(told(&[("  fall = 4", "  fall = 4\n  port = 6379")]), [""; 0]);
        assert_eq!(told(&[("  [node.health]\n  fall = 4", "")]), ["node2 [health] fall: 4 -> default"]);
        assert_eq!(
            told(&[("probe = \"tcp\"", "probe = \"tcp\"\nport = 6380")]),
            ["[health] probes 1 port: 6379 -> 6380"]
        );
        assert_eq!(told(&[("port = 6379", "port = 6380")]), ["[health] port: 6379 -> 6380"]);
    }

    #[test]
    fn nodes_and_services_go_by_their_names_whatever_their_case() {
        let changes = [
            ("\"Node2\"", "\"node2\""),
            ("192.0.2.12", "192.0.2.22"),
            ("[\"node1\", \"node3\"]", "[\"node3\"]"),
            ("nodes = [\"node1\", \"node2\"]", "nodes = [\"node1\"]"),
        ];
        let expected = [
            "node2 ipv4: \"192.0.2.12\" -> \"192.0.2.22\"",
            "node2 backup: [\"node1\", \"node3\"] -> [\"node3\"]",
            "service db nodes: [\"node1\", \"node2\"] -> [\"node1\"]",
        ];
        assert_eq!(told(&changes), expected);
    }

    #[test]
    fn what_comes_and_goes_is_told_with_the_name_servers_that_move() {
        let changes = [
            ("[[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n", ""),
            (
                "[[service]]\nname = \"db\"",
                "[[node]]\nname = \"node4\"\nipv4 = \"192.0.2.14\"\nipv6 = \"2001:db8::14\"\nhealth.port = 7000\n\
                 [[service]]\nname = \"cache\"",
            ),
        ];
        let expected = [
            "node2 ns: \"ns2\" -> \"ns1\"",
            "node3 ns: \"ns3\" -> \"ns2\"",
            "node4 added: 192.0.2.14 2001:db8::14, health.port = 7000, ns = \"ns3\"",
            "node1 removed",
            "service cache added: nodes = [\"node1\", \"node2\"]",
            "service db removed",
        ];
        assert_eq!(told(&changes), expected);
    }

    #[test]
    fn records_go_by_their_names_and_types() {
        let record = |name: &str, rtype: &str, value: &str| {
            format!("[[record]]\nname = {name:?}\ntype = {rtype:?}\nvalue = {value:?}\n")
        };
        let before = record("_X", "txt", "a") + &record("_x", "MX", "10 a") + &record("y", "A", "192.0.2.1");
        let after = record("_x", "TXT", "b") + &record("_x", "MX", "10 a") + &record("z", "CNAME", "y");
        let expected = [
            "record _x TXT value: \"a\" -> \"b\"",
            "record z CNAME added: value = \"y\"",
            "record y A removed",
        ];
        assert_eq!(differences(&before, &after), expected);
    }

    #[test]
    fn an_order_that_changes_is_told() {
        let changes =
            [("\"node1\"\nipv4 = \"192.0.2.11\"", "\"node3\"\nipv4 = \"192.0.2.13\"\nns = \"ns3\"")];
        let new = TEXT
            .replace("\"node3\"\nipv4 = \"192.0.2.13\"", "\"node1\"\nipv4 = \"192.0.2.11\"\nns = \"ns1\"");
        let new = new.replacen(changes[0].0, changes[0].1, 1);
        assert_eq!(differences(TEXT, &new), ["[[node]] order: node1 node2 node3 -> node3 node2 node1"]);
    }

    #[test]
    fn comments_and_layout_are_no_difference() {
        assert_eq!(told(&[("# our cluster", ""), ("ttl = \"5s\" # short", "ttl='5s'")]), [""; 0]);
        assert_eq!(told(&[("[\"node1\", \"node3\"]", "[\n\"node1\",\n\"node3\",\n]")]), [""; 0]);
        assert_eq!(told(&[("  [node.health]\n  fall = 4", "health = { fall = 4 }")]), [""; 0]);
    }

    #[test]
    fn what_is_told_is_bounded() {
        let many = (0..100).map(|number| format!("[[node]]\nname = \"other{number}\"\n")).collect::<String>();
        let lines = differences(TEXT, &format!("{TEXT}{many}"));
        assert_eq!((lines.len(), lines[60].as_str()), (61, "and 40 more"));
        let long = told(&[("# short", ""), ("ttl = \"5s\"", &format!("ttl = \"{}\"", "ä".repeat(500)))]);
        assert!(long[0].chars().count() < 150, "{long:?}");
        let control = told(&[("\"5s\"", r#""5s\u001b[2J\n""#)]);
        assert!(!control[0].chars().any(char::is_control), "{control:?}");
    }
}
