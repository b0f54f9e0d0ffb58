//! Changes the static records in the text of a configuration, and leaves everything else in it as it is.
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use hickory_proto::rr::{Name, RecordType};
use serde::{Deserialize, Serialize};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value};

use super::{EditError, Edited, name_of, name_server, nodes_of, parse, spec, tables_of, unchanged};
use crate::records::{canonical, data, full_name, presentation, record_type, relative, type_text};
use crate::update::SetChange;

/// The records of a name with one type, as a command gives them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordKeys {
    /// The name, relative to the zone or fully qualified.
    pub name: String,
    /// The type's mnemonic, or `TYPE1234`.
    pub r#type: String,
    /// The data of the records in presentation form; empty: not given.
    #[serde(default)]
    pub values: Vec<String>,
    /// `ttl` in seconds; `None`: not given.
    #[serde(default)]
    pub ttl_seconds: Option<u32>,
}

/// What to do with an RRset that is there with other data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Add the missing records to it.
    Extend,
    /// Refuse the change.
    Refuse,
}

/// A name and a type, as far as they can be read.
type Key = (Result<Name, String>, Result<u16, String>);

/// A text that is being changed.
struct Records {
    document: DocumentMut,
    apex: Name,
    /// The zone's `ttl`. Sections without a `ttl` have it.
    ttl_seconds: u32,
    /// The names of nodes, name servers and services.
    dynamic: HashSet<Name>,
    /// The addresses of the nodes.
    addresses: HashSet<IpAddr>,
    /// The position of each RRset. A file may have thousands.
    positions: HashMap<Key, usize>,
}

/// Adds records. Adding the same records again changes nothing.
pub fn add_records(text: &str, wanted: &[RecordKeys], existing: Existing) -> Result<Edited, EditError> {
    let mut records = Records::of(text)?;
    let (mut notes, mut is_changed) = (Vec::new(), false);
    let wanted = records.imported(wanted, existing, &mut notes);
    for keys in &wanted {
        match records.add(keys, existing)? {
            Some(note) => notes.push(note),
            None => is_changed = true,
        }
    }
    let text = if is_changed { records.document.to_string() } else { text.to_owned() };
    Ok(Edited { text, notes })
}

/// Returns the text with the imported records. Also returns the sections of the records that are new in the text.
pub fn import_records(text: &str, wanted: &[RecordKeys]) -> Result<(Edited, String), EditError> {
    let records = Records::of(text)?;
    let mut new = records.imported(wanted, Existing::Refuse, &mut Vec::new());
    new.retain(|keys| records.position(keys).is_none());
    let sections = if new.is_empty() { String::new() } else { record_sections(&new, &records.apex) };
    Ok((add_records(text, wanted, Existing::Refuse)?, sections))
}

/// Changes the data or the TTL of an RRset. What is not given stays as it is.
pub fn set_record(text: &str, keys: &RecordKeys) -> Result<Edited, EditError> {
    let mut records = Records::of(text)?;
    let index = records.position(keys).ok_or_else(|| unknown(keys))?;
    let (apex, table) = records.table(index)?;
    if !keys.values.is_empty() && !same_values(&apex, keys, &values(table)) {
        write_values(table, &keys.values);
    }
    write_ttl(table, keys.ttl_seconds);
    let mut notes = Vec::new();
    // The program has one TTL for the addresses of a name.
    if keys.ttl_seconds.is_some()
        && is_address(keys)
        && let Some(other) = records.position(&other_family(keys))
    {
        let (_, table) = records.table(other)?;
        write_ttl(table, keys.ttl_seconds);
        notes.push(format!("{} gets the same TTL", titled(&other_family(keys))));
    }
    Ok(Edited { text: records.document.to_string(), notes })
}

fn is_address(keys: &RecordKeys) -> bool {
    matches!(record_type(&keys.r#type), Some(RecordType::A | RecordType::AAAA))
}

/// Returns the keys of the AAAA records at the name of A records, and the reverse.
fn other_family(keys: &RecordKeys) -> RecordKeys {
    let rtype = if record_type(&keys.r#type) == Some(RecordType::A) { "AAAA" } else { "A" };
    RecordKeys { name: keys.name.clone(), r#type: rtype.to_owned(), ..RecordKeys::default() }
}

/// Removes the given records of an RRset, or all of them.
pub fn remove_record(text: &str, keys: &RecordKeys) -> Result<Edited, EditError> {
    let mut records = Records::of(text)?;
    let index = records.position(keys).ok_or_else(|| unknown(keys))?;
    let (apex, table) = records.table(index)?;
    let written = values(table);
    let is_wanted = |value: &&String| {
        !keys.values.is_empty() && !keys.values.iter().any(|gone| is_same(&apex, keys, gone, value))
    };
    let left: Vec<String> = written.iter().filter(is_wanted).cloned().collect();
    if left.len() == written.len() {
        return Err(EditError::UnknownData { name: keys.name.clone(), rtype: keys.r#type.clone() });
    }
    if left.is_empty() {
        let tables = tables(&mut records.document)?;
        tables.remove(index);
        if tables.is_empty() {
            records.document.remove("record");
        }
    } else {
        write_values(table, &left);
    }
    Ok(Edited { text: records.document.to_string(), notes: Vec::new() })
}

/// Gives RRsets their new content, or removes them, as an update asks for. Everything else stays as it is.
pub fn replace_records(text: &str, changes: &[SetChange]) -> Result<Edited, EditError> {
    if changes.is_empty() {
        return Ok(unchanged(text, "nothing has changed".to_owned()));
    }
    let mut records = Records::of(text)?;
    let mut gone = Vec::new();
    for change in changes {
        let keys = RecordKeys {
            name: relative(&change.owner, &records.apex),
            r#type: type_text(change.rtype),
            values: change.set.iter().flat_map(|set| set.data.iter().map(presentation)).collect(),
            ttl_seconds: change.set.as_ref().map(|set| set.ttl_seconds),
        };
        let zone_ttl = records.ttl_seconds;
        match records.position(&keys) {
            Some(index) if change.set.is_none() => gone.push(index),
            Some(index) => {
                let (apex, table) = records.table(index)?;
                let written = values(table);
                if !same_values(&apex, &keys, &written) {
                    // Values that stay keep their spelling.
                    let spelt = |value: &String| {
                        written
                            .iter()
                            .find(|known| is_same(&apex, &keys, known, value))
                            .unwrap_or(value)
                            .clone()
                    };
                    write_values(table, &keys.values.iter().map(spelt).collect::<Vec<_>>());
                }
                write_ttl(table, keys.ttl_seconds.filter(|ttl| ttl_of(table).unwrap_or(zone_ttl) != *ttl));
            }
            None if change.set.is_some() => drop(records.add(&keys, Existing::Refuse)?),
            None => {}
        }
    }
    gone.sort_unstable();
    let tables = tables(&mut records.document)?;
    gone.iter().rev().for_each(|index| drop(tables.remove(*index)));
    if tables.is_empty() {
        records.document.remove("record");
    }
    Ok(Edited { text: records.document.to_string(), notes: Vec::new() })
}

impl Records {
    fn of(text: &str) -> Result<Self, EditError> {
        let document = parse(text)?;
        let zone = document.get("zone").and_then(Item::as_table_like).and_then(|zone| zone.get("name"));
        let apex = zone.and_then(Item::as_str).and_then(|name| full_name(name, &Name::root()).ok());
        let apex = apex.unwrap_or_default().to_lowercase();
        if document.get("record").is_some_and(|records| !records.is_array_of_tables()) {
            let text = "the records are not written as [[record]]; rewrite them so";
            return Err(EditError::Conflict(text.to_owned()));
        }
        let rtype = |table: &Table| table.get("type").and_then(Item::as_str).unwrap_or_default().to_owned();
        let key = |table: &Table| key(name_of(table), &rtype(table), &apex);
        let positions = tables_of(&document, "record").map(key).zip(0..).collect();
        let zone = document.get("zone").and_then(Item::as_table);
        let ttl_seconds = zone.and_then(ttl_of).unwrap_or(spec::TTL_SECONDS);
        let servers = (1..).zip(nodes_of(&document)).filter_map(|(nth, table)| name_server(table, nth));
        let named = nodes_of(&document).chain(tables_of(&document, "service")).map(name_of);
        let dynamic = named.map(str::to_owned).chain(servers);
        let dynamic = dynamic.filter_map(|name| full_name(&name, &apex).ok()).chain([apex.clone()]);
        let dynamic = dynamic.map(|name| name.to_lowercase()).collect();
        let address = |key| {
            let written = nodes_of(&document).filter_map(move |table| table.get(key).and_then(Item::as_str));
            written.filter_map(|address| address.parse().ok())
        };
        let addresses = address("ipv4").chain(address("ipv6")).collect();
        Ok(Records { document, apex, ttl_seconds, dynamic, addresses, positions })
    }

    /// Returns the records to add. An import leaves out the addresses that the zone makes itself. The A and AAAA records
    /// of a name get the smaller of their TTLs, because the program has one TTL for both.
    fn imported(
        &self,
        wanted: &[RecordKeys],
        existing: Existing,
        notes: &mut Vec<String>,
    ) -> Vec<RecordKeys> {
        if existing == Existing::Extend {
            return wanted.to_vec();
        }
        let (own, mut wanted): (Vec<_>, Vec<_>) =
            wanted.iter().cloned().partition(|keys| self.is_made_by_the_zone(keys));
        for keys in own {
            notes.push(format!(
                "{} is left out: the zone makes the addresses of the name itself",
                titled(&keys)
            ));
        }
        let ttl = |keys: &RecordKeys| keys.ttl_seconds.unwrap_or(self.ttl_seconds);
        let owner = |keys: &RecordKeys| key(&keys.name, "A", &self.apex);
        let mut smallest: HashMap<Key, u32> = HashMap::new();
        for keys in wanted.iter().filter(|keys| is_address(keys)) {
            let smallest = smallest.entry(owner(keys)).or_insert(ttl(keys));
            *smallest = ttl(keys).min(*smallest);
        }
        for keys in wanted.iter_mut().filter(|keys| is_address(keys)) {
            let smallest = smallest.get(&owner(keys)).copied().filter(|smallest| *smallest != ttl(keys));
            if let Some(smallest) = smallest {
                notes.push(format!(
                    "{} gets the TTL {smallest}s: the A and AAAA records of a name have one TTL",
                    titled(keys)
                ));
                keys.ttl_seconds = Some(smallest);
            }
        }
        wanted
    }

    /// Whether the zone makes the addresses of this name itself, and these are addresses of nodes.
    fn is_made_by_the_zone(&self, keys: &RecordKeys) -> bool {
        let is_of_a_node =
            |value: &String| value.parse().is_ok_and(|address: IpAddr| self.addresses.contains(&address));
        let owner = full_name(&keys.name, &self.apex).map(|name| name.to_lowercase());
        is_address(keys)
            && owner.is_ok_and(|owner| self.dynamic.contains(&owner))
            && keys.values.iter().all(is_of_a_node)
    }

    /// Adds records; returns a note if there is nothing to do.
    fn add(&mut self, keys: &RecordKeys, existing: Existing) -> Result<Option<String>, EditError> {
        let Some(index) = self.position(keys) else {
            let table = table_of(keys, &self.apex);
            let tables = tables(&mut self.document)?;
            self.positions.insert(key(&keys.name, &keys.r#type, &self.apex), tables.len());
            tables.push(table);
            return Ok(None);
        };
        let zone_ttl = self.ttl_seconds;
        let (apex, table) = self.table(index)?;
        let written = values(table);
        let has_ttl = keys.ttl_seconds.is_none_or(|ttl| ttl_of(table).unwrap_or(zone_ttl) == ttl);
        let is_missing = |value: &&String| !written.iter().any(|known| is_same(&apex, keys, known, value));
        let missing: Vec<String> = keys.values.iter().filter(is_missing).cloned().collect();
        if missing.is_empty() && has_ttl {
            return Ok(Some(format!("{} is there already", titled(keys))));
        }
        if existing == Existing::Refuse || !has_ttl {
            return Err(EditError::Conflict(format!(
                "{} is there with other values or another TTL; use `dns-xdp record set {} {}`",
                titled(keys),
                keys.name,
                keys.r#type
            )));
        }
        write_values(table, &[written, missing].concat());
        Ok(None)
    }

    /// Returns the position of an RRset, whatever the form of its name and type.
    fn position(&self, keys: &RecordKeys) -> Option<usize> {
        self.positions.get(&key(&keys.name, &keys.r#type, &self.apex)).copied()
    }

    fn table(&mut self, index: usize) -> Result<(Name, &mut Table), EditError> {
        let apex = self.apex.clone();
        Ok((apex, tables(&mut self.document)?.get_mut(index).expect("the position was just found")))
    }
}

/// Returns the records of the text. Adds an empty list if there are none.
fn tables(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, EditError> {
    let records = document.entry("record").or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
    records.as_array_of_tables_mut().ok_or_else(|| {
        EditError::Conflict("the records are not written as [[record]]; rewrite them so".to_owned())
    })
}

fn key(name: &str, rtype: &str, apex: &Name) -> Key {
    let owner = full_name(name, apex).map(|name| name.to_lowercase()).map_err(|_| name.to_owned());
    (owner, record_type(rtype).map(u16::from).ok_or_else(|| rtype.to_owned()))
}

fn unknown(keys: &RecordKeys) -> EditError {
    EditError::UnknownRecord { name: keys.name.clone(), rtype: keys.r#type.clone() }
}

fn titled(keys: &RecordKeys) -> String {
    format!("record `{} {}`", keys.name, keys.r#type)
}

fn values(table: &Table) -> Vec<String> {
    let one = table.get("value").and_then(Item::as_str);
    let several =
        table.get("values").and_then(Item::as_array).into_iter().flatten().filter_map(Value::as_str);
    one.into_iter().chain(several).map(str::to_owned).collect()
}

fn ttl_of(table: &Table) -> Option<u32> {
    let written = humantime::parse_duration(table.get("ttl").and_then(Item::as_str)?).ok()?;
    u32::try_from(written.as_secs()).ok()
}

/// Whether two values are the same data.
fn is_same(apex: &Name, keys: &RecordKeys, one: &str, other: &str) -> bool {
    let Some(rtype) = record_type(&keys.r#type) else { return one == other };
    let canonical = |text: &str| data(rtype, text, apex).map(|data| canonical(&data));
    match (canonical(one), canonical(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

fn same_values(apex: &Name, keys: &RecordKeys, written: &[String]) -> bool {
    let pairs = keys.values.iter().zip(written);
    keys.values.len() == written.len()
        && pairs.into_iter().all(|(one, other)| is_same(apex, keys, one, other))
}

fn table_of(keys: &RecordKeys, apex: &Name) -> Table {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    let name = full_name(&keys.name, apex).map(|name| relative(&name.to_lowercase(), apex));
    table.insert("name", toml_edit::value(name.unwrap_or_else(|_| keys.name.clone())));
    let rtype = record_type(&keys.r#type).map(type_text);
    table.insert("type", toml_edit::value(rtype.unwrap_or_else(|| keys.r#type.clone())));
    write_values(&mut table, &keys.values);
    write_ttl(&mut table, keys.ttl_seconds);
    table
}

/// Returns the sections of these records as text.
pub fn record_sections(records: &[RecordKeys], apex: &Name) -> String {
    let mut document = DocumentMut::new();
    let mut tables = ArrayOfTables::new();
    for keys in records {
        tables.push(table_of(keys, apex));
    }
    document.insert("record", Item::ArrayOfTables(tables));
    document.to_string().trim_start().to_owned()
}

/// Writes one value as `value` and several as `values`. Keeps the comment beside a value that is replaced.
fn write_values(table: &mut Table, values: &[String]) {
    let (key, other, mut new) = match values {
        [value] => ("value", "values", Value::from(value.as_str())),
        several => ("values", "value", Value::from(several.iter().map(String::as_str).collect::<Array>())),
    };
    let old = table.get(key).or_else(|| table.get(other)).and_then(Item::as_value);
    if let Some(old) = old {
        *new.decor_mut() = old.decor().clone();
    }
    if table.contains_key(key) || !table.contains_key(other) {
        table.insert(key, Item::Value(new));
        return;
    }
    // The key that replaces another one has its place, before the TTL.
    let ttl = table.remove("ttl");
    table.remove(other);
    table.insert(key, Item::Value(new));
    if let Some(ttl) = ttl {
        table.insert("ttl", ttl);
    }
}

fn write_ttl(table: &mut Table, ttl_seconds: Option<u32>) {
    let Some(ttl_seconds) = ttl_seconds.filter(|ttl| ttl_of(table) != Some(*ttl)) else { return };
    let mut new = Value::from(format!("{ttl_seconds}s"));
    if let Some(old) = table.get("ttl").and_then(Item::as_value) {
        *new.decor_mut() = old.decor().clone();
    }
    table.insert("ttl", Item::Value(new));
}

#[cfg(test)]
mod tests {
    use crate::records::RecordSet;

    use super::*;

    const TEXT: &str = "\
[zone]
name = \"demo.example.com\"

# for the certificate
[[record]]
name = \"_acme-challenge\"
type = \"TXT\"
value = \"one\" # from the CA
ttl = \"1m\"

[metrics]
listen = \"off\"
";

    fn keys(name: &str, rtype: &str, values: &[&str]) -> RecordKeys {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        RecordKeys { name: name.to_owned(), r#type: rtype.to_owned(), values, ttl_seconds: None }
    }

    fn add(text: &str, keys: RecordKeys) -> Result<Edited, EditError> {
        add_records(text, &[keys], Existing::Extend)
    }

    #[test]
    fn a_record_is_added_after_the_last_and_nothing_else_changes() {
        let edited = add(TEXT, keys("WWW.demo.example.com.", "mx", &["10 mail", "20 node1"])).unwrap();
        let added = "\n[[record]]\nname = \"www\"\ntype = \"MX\"\nvalues = [\"10 mail\", \"20 node1\"]\n";
        let place = TEXT.find("\n[metrics]").unwrap();
        assert_eq!(edited.text, format!("{}{added}{}", &TEXT[..place], &TEXT[place..]));
        let first = add("[zone]\nname = \"example.com\"\n", keys("@", "TXT", &["x"])).unwrap();
        assert_eq!(
            first.text,
            "[zone]\nname = \"example.com\"\n\n[[record]]\nname = \"@\"\ntype = \"TXT\"\nvalue = \"x\"\n"
        );
    }

    #[test]
    fn another_value_joins_the_records_of_its_name_and_type() {
        let edited = add(TEXT, keys("_ACME-challenge.demo.example.com.", "type16", &["two"])).unwrap();
        assert_eq!(edited.text, TEXT.replace("value = \"one\" #", "values = [\"one\", \"two\"] #"));
        let again = add(&edited.text, keys("_acme-challenge", "TXT", &["two"])).unwrap();
        assert_eq!((again.text, again.notes.len()), (edited.text.clone(), 1));
        let same = add(TEXT, keys("_acme-challenge", "TXT", &["\"one\""])).unwrap();
        assert_eq!(same.text, TEXT, "another way to write the same data");
        let refused =
            add_records(TEXT, &[keys("_acme-challenge", "TXT", &["two"])], Existing::Refuse).unwrap_err();
        assert!(refused.to_string().contains("`dns-xdp record set _acme-challenge TXT`"), "{refused}");
        let other_ttl = RecordKeys { ttl_seconds: Some(5), ..keys("_acme-challenge", "TXT", &["one"]) };
        assert!(add(TEXT, other_ttl).is_err());
        let same_ttl = RecordKeys { ttl_seconds: Some(60), ..keys("_acme-challenge", "TXT", &["one"]) };
        assert_eq!(add(TEXT, same_ttl).unwrap().text, TEXT);
    }

    #[test]
    fn what_is_set_is_changed_and_comments_stay() {
        let edited = set_record(TEXT, &keys("_acme-challenge", "TXT", &["three"])).unwrap();
        assert_eq!(edited.text, TEXT.replace("\"one\"", "\"three\""));
        let ttl = RecordKeys { ttl_seconds: Some(5), ..keys("_acme-challenge", "TXT", &[]) };
        assert_eq!(set_record(TEXT, &ttl).unwrap().text, TEXT.replace("\"1m\"", "\"5s\""));
        let error = set_record(TEXT, &keys("www", "A", &["192.0.2.1"])).unwrap_err();
        assert_eq!(error.to_string(), "there is no record `www A`; `dns-xdp record list` shows them");
    }

    #[test]
    fn one_value_or_all_of_them_are_removed() {
        let both = add(TEXT, keys("_acme-challenge", "TXT", &["two"])).unwrap().text;
        let one = remove_record(&both, &keys("_acme-challenge", "TXT", &["two"])).unwrap();
        assert_eq!(one.text, TEXT);
        for values in [&[][..], &["one", "two"]] {
            let all = remove_record(&both, &keys("_acme-challenge", "txt", values)).unwrap().text;
            assert!(!all.contains("record") && all.contains("[metrics]"), "{all}");
        }
        for idle in [keys("_acme-challenge", "MX", &[]), keys("_acme-challenge", "TXT", &["nine"])] {
            assert!(remove_record(TEXT, &idle).unwrap_err().is_unknown(), "{idle:?}");
        }
        let none = remove_record("[zone]\nname = \"example.com\"\n", &keys("x", "TXT", &[]));
        assert!(none.unwrap_err().is_unknown());
    }

    #[test]
    fn an_import_of_what_is_in_force_changes_nothing() {
        let text = "[zone]\nname = \"demo.example.com\"\nttl = \"7s\"\n\n[[node]]\nname = \"node1\"\nipv4 = \"192.0.2.1\"\n\n\
                    [[record]]\nname = \"x\"\ntype = \"TXT\"\nvalue = \"a\"\n";
        let with_ttl = |ttl, keys| RecordKeys { ttl_seconds: Some(ttl), ..keys };
        let all = [
            with_ttl(7, keys("x", "TXT", &["a"])),
            with_ttl(7, keys("@", "A", &["192.0.2.1"])),
            with_ttl(7, keys("node1", "A", &["192.0.2.1"])),
            with_ttl(7, keys("ns1", "A", &["192.0.2.1"])),
        ];
        let edited = add_records(text, &all, Existing::Refuse).unwrap();
        assert_eq!((edited.text.as_str(), edited.notes.len()), (text, 4), "{:?}", edited.notes);
        let new = [keys("y", "TXT", &["b"])];
        let (_, sections) = import_records(text, &[&all[..], &new].concat()).unwrap();
        assert_eq!(sections, "[[record]]\nname = \"y\"\ntype = \"TXT\"\nvalue = \"b\"\n");
        let other = add_records(text, &[keys("node1", "A", &["192.0.2.9"])], Existing::Refuse).unwrap();
        assert!(other.text.contains("192.0.2.9"), "the check of the file refuses it");
    }

    #[test]
    fn both_families_of_a_name_have_one_ttl() {
        let with_ttl = |ttl, keys| RecordKeys { ttl_seconds: Some(ttl), ..keys };
        let families =
            [with_ttl(60, keys("x", "A", &["192.0.2.8"])), with_ttl(30, keys("x", "AAAA", &["2001:db8::8"]))];
        let imported = add_records(TEXT, &families, Existing::Refuse).unwrap();
        assert_eq!(imported.text.matches("ttl = \"30s\"").count(), 2, "{}", imported.text);
        assert!(imported.notes[0].contains("`x A` gets the TTL 30s"), "{:?}", imported.notes);
        let set = set_record(&imported.text, &with_ttl(9, keys("x", "A", &[]))).unwrap();
        assert_eq!(set.text.matches("ttl = \"9s\"").count(), 2, "{}", set.text);
        assert_eq!(set.notes, ["record `x AAAA` gets the same TTL"]);
    }

    #[test]
    fn the_rrsets_of_an_update_are_replaced_and_nothing_else_changes() {
        let apex = full_name("demo.example.com.", &Name::root()).unwrap();
        let change = |name: &str, values: &[&str], ttl_seconds| {
            let (owner, rtype) = (full_name(name, &apex).unwrap(), RecordType::TXT);
            let data: Vec<_> = values.iter().map(|text| data(rtype, text, &apex).unwrap()).collect();
            let set = RecordSet { owner: owner.clone(), rtype, ttl_seconds, data };
            SetChange { owner, rtype, set: (!values.is_empty()).then_some(set) }
        };
        let edited = replace_records(TEXT, &[change("_acme-challenge", &["one", "two"], 60)]).unwrap();
        assert_eq!(edited.text, TEXT.replace("value = \"one\" #", "values = [\"one\", '\"two\"'] #"));
        let both = [change("_acme-challenge.db1", &["x"], 9), change("_acme-challenge", &[], 0)];
        let edited = replace_records(TEXT, &both).unwrap().text;
        let added =
            "[[record]]\nname = \"_acme-challenge.db1\"\ntype = \"TXT\"\nvalue = '\"x\"'\nttl = \"9s\"\n";
        assert!(edited.contains(added) && !edited.contains("from the CA"), "{edited}");
        let back = replace_records(&edited, &[change("_acme-challenge.db1", &[], 0)]).unwrap().text;
        assert!(!back.contains("record") && back.contains("[metrics]"), "{back}");
        assert_eq!(replace_records(TEXT, &[change("nothing", &[], 0)]).unwrap().text, TEXT);
        assert_eq!(replace_records(TEXT, &[change("_acme-challenge", &["one"], 60)]).unwrap().text, TEXT);
    }

    #[test]
    fn names_within_the_data_have_no_case() {
        let text = add(TEXT, keys("mixed", "MX", &["10 MAIL", "20 b"])).unwrap().text;
        assert_eq!(add(&text, keys("mixed", "MX", &["10 mail"])).unwrap().text, text);
        let left = remove_record(&text, &keys("mixed", "MX", &["10 mail"])).unwrap().text;
        assert!(left.contains("value = \"20 b\"") && !left.contains("MAIL"), "{left}");
    }

    #[test]
    fn several_records_are_added_together_or_not_at_all() {
        let wanted = [keys("a", "TXT", &["1"]), keys("_acme-challenge", "TXT", &["two"])];
        assert!(add_records(TEXT, &wanted, Existing::Refuse).is_err());
        let edited = add_records(TEXT, &wanted[..1], Existing::Refuse).unwrap();
        assert!(edited.text.contains("name = \"a\""), "{}", edited.text);
        let apex = full_name("demo.example.com.", &Name::root()).unwrap();
        let sections = record_sections(&wanted, &apex);
        assert!(sections.starts_with("[[record]]\nname = \"a\"\n"), "{sections}");
        assert!(sections.contains("\n\n[[record]]\nname = \"_acme-challenge\"\n"), "{sections}");
    }
}
