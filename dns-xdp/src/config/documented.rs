//! Tests the manual's page about the configuration against the code: its keys, defaults and ranges.
use std::path::Path;

use super::Config;

const PAGE: &str = include_str!("../../doc/configuration.md");

/// A file with every section once, so that a test can put a key behind its heading.
const FILE: &str = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n[xdp]\n[rate-limit]\n\
    [cookies]\n[fallback]\n[health]\n[failover]\n[cluster]\n[control]\n[events]\n[metrics]\n\
    [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n[node.addresses.internal]\nipv4 = \"10.0.0.11\"\n\
    [[service]]\nname = \"db\"\nnodes = [\"node1\"]\n\
    [[record]]\nname = \"x\"\ntype = \"TXT\"\nvalue = \"a\"\n[[suffix]]\nname = \"internal\"\n[update]\n\
    [[key]]\nname = \"k\"\nsecret = \"AAECAwQFBgcICQoLDA0ODw==\"\n[[key.grant]]\nnames = [\"x\"]\ntypes = [\"TXT\"]\n";

/// A row of the page.
#[derive(Debug)]
struct Row {
    /// The section as in the file: `[zone]`.
    section: &'static str,
    key: &'static str,
    kind: &'static str,
    default: &'static str,
    range: &'static str,
}

fn rows() -> Vec<Row> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in PAGE.lines() {
        if let Some(title) = line.strip_prefix("## `") {
            section = title.trim_end_matches('`');
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", key, kind, default, range, _, ""] = cells[..]
            && let Some(key) = quoted(key)
        {
            rows.push(Row { section, key, kind, default, range });
        }
    }
    rows
}

/// Returns the text between backticks, if the cell has nothing else.
fn quoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.strip_suffix('`').filter(|text| !text.contains('`'))
}

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("/etc/dns-xdp/dns-xdp.toml")).map_err(|error| error.to_string())
}

/// Returns the file with one more line in a section.
fn with(section: &str, line: &str) -> String {
    FILE.replacen(&format!("{section}\n"), &format!("{section}\n{line}\n"), 1)
}

#[test]
fn the_page_has_the_keys_that_the_code_knows() {
    let rows = rows();
    let mut sections: Vec<&str> = rows.iter().map(|row| row.section).collect();
    sections.dedup();
    assert_eq!(sections.len(), 20, "{sections:?}");
    for section in sections {
        // Each kind of probe has keys of its own.
        let kinds: &[&str] = if section == "[health]" { &KINDS } else { &[""] };
        let mut known: Vec<String> = kinds.iter().flat_map(|kind| known(section, kind)).collect();
        // The page describes the list of probes in prose.
        known.retain(|key| key != "probes");
        let mut documented: Vec<&str> =
            rows.iter().filter(|row| row.section == section).map(|row| row.key).collect();
        known.sort_unstable();
        known.dedup();
        documented.sort_unstable();
        assert_eq!(documented, known, "{section}");
    }
}

const KINDS: [&str; 7] = ["tcp", "redis", "http", "https", "icmp", "dns", "exec"];

/// Returns the keys that a section may have, with this kind of probe.
fn known(section: &str, kind: &str) -> Vec<String> {
    let kind = if kind.is_empty() { String::new() } else { format!("probe = \"{kind}\"\n") };
    let error = parse(&with(section, &format!("{kind}no-such-key-at-all = 1"))).unwrap_err();
    let (_, known) = error.split_once("known here: ").unwrap_or_else(|| panic!("{section}: {error}"));
    known.lines().next().unwrap_or_default().split(", ").map(str::to_owned).collect()
}

#[test]
fn the_defaults_of_the_page_are_those_of_the_code() {
    let default = parse(FILE).unwrap();
    let mut seen = 0;
    for row in rows() {
        if let Some(value) = quoted(row.default) {
            let line = format!("{} = {value}", row.key);
            let text = with(row.section, &line);
            assert_eq!(parse(&text).as_ref(), Ok(&default), "{} {line}", row.section);
            seen += 1;
        }
    }
    assert!(seen > 35, "{seen}");
}

#[test]
fn the_ranges_of_numbers_are_those_of_the_code() {
    let mut seen = 0;
    for row in rows().iter().filter(|row| row.kind == "number") {
        let numbers: Vec<i64> =
            row.range.split(" to ").filter_map(|number| number.replace(',', "").parse().ok()).collect();
        let [least, most] = numbers[..] else { continue };
        let accepts = |value: i64| parse(&with(row.section, &format!("{} = {value}", row.key)));
        for value in [least, most] {
            let error = accepts(value).err().unwrap_or_default();
            assert!(!error.contains(&format!("`{}` is {value}", row.key)), "{row:?}: {error}");
        }
        for value in [least - 1, most + 1] {
            assert!(accepts(value).is_err(), "{row:?}: {value}");
        }
        seen += 1;
    }
    assert!(seen > 7, "{seen}");
}
