//! `node show`: shows everything about one node.
use std::fmt::Write as _;

use anyhow::bail;
use jiff::Timestamp;
use serde_json::Value;

use super::super::words::ago;
use super::super::{Format, print, print_json};
use super::kept;
use crate::config::edit::unknown_node;
use crate::config::nearest;
use crate::control::api::{NodeEntry, NodeStatus, SetStatus, Status};
use crate::control::{Client, Command};

/// Asks the daemon for the node, and prints it.
pub(super) async fn show(client: &Client, name: &str, format: &Format) -> anyhow::Result<()> {
    let name = name.to_ascii_lowercase();
    let nodes: Vec<NodeEntry> = client.ask(&Command::NodeList).await?;
    let status: Status = client.ask(&Command::Status).await?;
    let known = || nodes.iter().map(|node| node.name.as_str());
    let found = nodes.iter().find(|node| node.name == name);
    // A reload between the two questions may have removed the node.
    let Some((entry, state)) = found.zip(status.nodes.iter().find(|node| node.name == name)) else {
        bail!(unknown_node(&name, nearest(&name, known())));
    };
    if format.json {
        return print_json(&merged(entry, state)?);
    }
    print(&text(entry, state, Timestamp::now()))
}

/// Returns the fields of both answers in one object.
fn merged(entry: &NodeEntry, state: &NodeStatus) -> anyhow::Result<Value> {
    let mut merged = serde_json::to_value(entry)?;
    if let (Value::Object(merged), Value::Object(state)) = (&mut merged, serde_json::to_value(state)?) {
        merged.extend(state);
    }
    Ok(merged)
}

fn text(entry: &NodeEntry, state: &NodeStatus, now: Timestamp) -> String {
    let mut text = format!("{}\n", entry.name);
    let mut line = |title: &str, value: &str| {
        if !value.is_empty() {
            writeln!(text, "  {title:<12}{value}").expect("a string takes every line");
        }
    };
    let addresses = entry.ipv4.map(|ipv4| ipv4.to_string()).into_iter();
    let addresses: Vec<String> = addresses.chain(entry.ipv6.map(|ipv6| ipv6.to_string())).collect();
    line("addresses", &addresses.join(", "));
    line("name server", entry.ns.as_deref().unwrap_or("no"));
    line("quorum", if entry.quorum { "counts" } else { "does not count" });
    line("apex", if entry.apex { "belongs to it" } else { "does not belong to it" });
    line("backup", &entry.backup.join(", "));
    line(
        "kept in",
        match kept(entry.ephemeral, entry.shared) {
            "no" => "nothing: until the next reload or start",
            "store" => "the store",
            kept => kept,
        },
    );
    line("health", &format!("{}, since {}", state.health, ago(state.since, now)));
    for (family, health) in &state.families {
        line("", &format!("{family} {}, since {}", health.health, ago(health.since, now)));
    }
    line("intent", &intent(entry));
    line("treated as", &state.effective);
    if let Some(held) = &state.held {
        let until = held.until.map_or_else(
            || "until it is healthy again or `dns-xdp node failback`".to_owned(),
            |until| format!("until {until}"),
        );
        line("held", &format!("since {}, {until}", held.since));
    }
    line("reason", state.reason.as_deref().unwrap_or_default());
    line("answers", &state.answers.join(", "));
    for (set, SetStatus { ipv4, ipv6, answers }) in &state.sets {
        let own = ipv4.map(|ipv4| ipv4.to_string()).into_iter().chain(ipv6.map(|ipv6| ipv6.to_string()));
        let own: Vec<String> = own.collect();
        let own = if own.is_empty() { "no address".to_owned() } else { own.join(", ") };
        line(
            set,
            &format!(
                "{own}, answers {}",
                if answers.is_empty() { "nothing".to_owned() } else { answers.join(", ") }
            ),
        );
    }
    if let Some(cached_ms) = state.cached_ms {
        let left = humantime::format_duration(std::time::Duration::from_secs(cached_ms.div_ceil(1000)));
        line("caches", &format!("may hold its addresses for {left}"));
    }
    text
}

/// Returns the operator's intent, with its user and its end.
fn intent(entry: &NodeEntry) -> String {
    let mut text = entry.admin.to_string();
    if let Some(by) = &entry.by {
        write!(text, ", by {by}").expect("a string takes every text");
    }
    if let Some(until) = entry.until {
        write!(text, ", until {until}").expect("a string takes every text");
    }
    if entry.local {
        text += ", on this server alone";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Admin;

    fn drained() -> (NodeEntry, NodeStatus) {
        let entry = NodeEntry { shared: true, ..super::super::tests::drained() };
        let status = NodeStatus {
            name: "node1".to_owned(),
            ipv4: entry.ipv4,
            ipv6: None,
            admin: Admin::Drain,
            health: "up".to_owned(),
            effective: "drain".to_owned(),
            answers: vec!["192.0.2.12".to_owned()],
            since: "2026-03-01T10:00:00Z".parse().unwrap(),
            reason: Some("kernel update".to_owned()),
            by: Some("alice".to_owned()),
            until: entry.until,
            cached_ms: Some(3_200),
            families: std::collections::BTreeMap::new(),
            sets: std::collections::BTreeMap::new(),
            local: false,
            held: None,
        };
        (entry, status)
    }

    #[test]
    fn a_node_is_shown_with_its_roles_its_health_and_its_answers() {
        let (entry, status) = drained();
        let expected = "\
node1
  addresses   192.0.2.11
  name server ns1
  quorum      counts
  apex        belongs to it
  backup      node2, node3
  kept in     the store
  health      up, since 1h ago
  intent      drain, by alice, until 2026-03-01T12:00:00Z
  treated as  drain
  reason      kernel update
  answers     192.0.2.12
  caches      may hold its addresses for 4s
";
        assert_eq!(text(&entry, &status, "2026-03-01T11:00:00Z".parse().unwrap()), expected);
        let lb = NodeEntry { ns: None, quorum: false, shared: false, ephemeral: true, ..entry };
        let shown = text(&lb, &status, "2026-03-01T11:00:00Z".parse().unwrap());
        assert!(shown.contains("name server no\n  quorum      does not count\n"), "{shown}");
    }

    #[test]
    fn the_object_has_the_fields_of_both_answers() {
        let (entry, status) = drained();
        let merged = merged(&entry, &status).unwrap();
        for key in ["name", "ns", "quorum", "backup", "shared", "health", "effective", "answers", "cached_ms"]
        {
            assert!(merged.get(key).is_some(), "{key}: {merged}");
        }
    }
}
