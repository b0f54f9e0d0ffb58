//! Tests the shipped file against the code. A line after # shows the default, a line after ## an example, and no key is
//! missing.
use std::path::Path;

use super::Config;

const SHIPPED: &str = include_str!("../../dist/dns-xdp.toml");
const PATH: &str = "/etc/dns-xdp/dns-xdp.toml";

/// Returns the shipped file, with the values that an operator has to fill in.
fn filled() -> String {
    let fill = [
        ("name = \"\"", "name = \"mycluster.example.com\""),
        ("interfaces = []", "interfaces = [\"eth0\"]"),
        ("name = \"\"", "name = \"node1\""),
        ("ipv4 = \"\"", "ipv4 = \"192.0.2.11\""),
    ];
    fill.iter().fold(SHIPPED.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

fn config(text: &str) -> Config {
    Config::parse(text, Path::new(PATH)).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Whether a line shows a default: a # and a key.
fn is_default(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(|line| line.starts_with(|letter: char| letter.is_ascii_lowercase()))
}

#[test]
fn every_line_that_is_commented_out_is_the_default() {
    let text = filled();
    let default = config(&text);
    let lines: Vec<&str> = text.lines().collect();
    let mut seen = 0;
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| is_default(line)) {
        let mut lines = lines.clone();
        lines[index] = &line[1..];
        assert_eq!(config(&lines.join("\n")), default, "{line}");
        seen += 1;
    }
    assert!(seen > 45, "{seen}");
}

#[test]
fn all_of_them_together_are_the_default_too() {
    let text = filled();
    let uncommented: Vec<&str> =
        text.lines().map(|line| if is_default(line) { &line[1..] } else { line }).collect();
    assert_eq!(config(&uncommented.join("\n")), config(&text));
}

/// Whether a line shows an example: two # and a key.
fn is_example(line: &str) -> bool {
    line.strip_prefix('#').is_some_and(is_default)
}

#[test]
fn examples_take_effect_beside_a_store_and_are_refused_without_one() {
    let text = filled();
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| is_example(line)) {
        let mut lines = lines.clone();
        lines[index] = &line[2..];
        let error = Config::parse(&lines.join("\n"), Path::new(PATH)).expect_err(line).to_string();
        let key = line[2..].split(' ').next().unwrap_or_default();
        assert!(
            error.contains(&format!("`{key}` has no effect without [cluster] store = \"etcd\"")),
            "{error}"
        );
    }
    let with_store = |line: &'static str| match line {
        "#store = \"file\"" => "store = \"etcd\"",
        line if is_example(line) => &line[2..],
        line => line,
    };
    let text: Vec<String> = SHIPPED.lines().map(|line| with_store(line).to_owned()).collect();
    let text = text.join("\n").replacen("name = \"\"", "name = \"mycluster.example.com\"", 1);
    let store = Config::store_of(&text, Path::new(PATH)).unwrap().unwrap();
    assert_eq!(store.endpoints.len(), 3);
    assert_eq!(store.prefix, "/dns-xdp/mycluster.example.com");
    assert!(store.ca.is_some() && store.identity.is_some() && store.user.is_some() && store.server.is_some());
    assert!(store.skydns_follow.is_some() && store.skydns_mirror.is_some());
    // The example for `prefix` is the default.
    let of_default = text.replace("prefix = \"/dns-xdp/mycluster.example.com\"", "");
    assert_eq!(Config::store_of(&of_default, Path::new(PATH)).unwrap().unwrap(), store);
}

#[test]
fn no_key_of_these_sections_is_missing() {
    for section in [
        "zone",
        "listen",
        "xdp",
        "rate-limit",
        "cookies",
        "fallback",
        "failover",
        "control",
        "events",
        "metrics",
        "cluster",
    ] {
        let head = format!("[{section}]\n");
        let with_unknown = filled().replacen(&head, &format!("{head}no-such-key-at-all = 1\n"), 1);
        let error = Config::parse(&with_unknown, Path::new(PATH)).unwrap_err().to_string();
        let (_, keys) = error.split_once("known here: ").unwrap_or_else(|| panic!("{error}"));
        let shown = |key: &str| {
            SHIPPED.lines().any(|line| line.trim_start_matches('#').starts_with(&format!("{key} = ")))
        };
        let missing: Vec<&str> = keys.split(", ").filter(|key| !shown(key)).collect();
        assert!(missing.is_empty(), "[{section}] {missing:?}");
    }
}

#[test]
fn as_it_is_shipped_it_is_refused_with_the_lines_to_fill_in() {
    let error = Config::parse(SHIPPED, Path::new(PATH)).unwrap_err().to_string();
    for key in ["`name`", "`interfaces`", "`ipv4`"] {
        assert!(error.contains(key), "{key}: {error}");
    }
}
