//! `status`: one screen about the daemon and its nodes.
use std::fmt::Write as _;
use std::time::Duration;

use super::columns::columns;
use super::{Format, print, print_json};
use crate::cluster::Admin;
use crate::control::api::{NodeStatus, Status};
use crate::control::{Client, Command};
use crate::{intent, promise};

pub(super) const EXAMPLE: &str = "Example: dns-xdp status --json";

pub(super) async fn status(client: &Client, format: &Format) -> anyhow::Result<()> {
    if format.json {
        return print_json(&client.call(&Command::Status).await?);
    }
    print(&screen(&client.ask(&Command::Status).await?))
}

fn screen(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes every line");
    let Status { zone, epoch, version, pid, .. } = status;
    let uptime = humantime::format_duration(Duration::from_secs(status.uptime_seconds));
    line(format!("zone {zone}, epoch {epoch}, from {}", status.config.display()));
    line(format!("dns-xdp {version}, pid {pid}, up {uptime}"));
    for interface in &status.interfaces {
        let reason = interface.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        line(format!("interface {}: {}{reason}", interface.name, interface.mode));
    }
    let quorum = &status.quorum;
    let verdict = if quorum.ok { "ok" } else { "not met" };
    line(format!("quorum: {} visible, {} needed: {verdict}", quorum.visible, quorum.needed));
    line(format!("lease: {}", lease(status)));
    line(format!("promise: {}", promise::in_words(&status.promise).trim_end()));
    if let Some(reason) = &status.frozen {
        line(format!("FROZEN: {reason}"));
    }
    if status.fail_open {
        line("FAIL OPEN: every node is down, the configured addresses are answered".to_owned());
    }
    for alarm in &status.alarms {
        line(format!("ALARM: {alarm}"));
    }
    text.push('\n');
    text.push_str(&nodes(&status.nodes));
    text
}

fn lease(status: &Status) -> String {
    let lease = &status.lease;
    let period = |ms| humantime::format_duration(Duration::from_millis(ms));
    match (lease.stale_after_ms, lease.left_ms) {
        (None, _) => "for ever".to_owned(),
        (Some(given), None) => format!("{} at each renewal", period(given)),
        (Some(given), Some(left)) => format!("{} left of {}", period(left), period(given)),
    }
}

fn nodes(nodes: &[NodeStatus]) -> String {
    let head =
        ["NODE", "ADDRESS", "ADMIN", "HEALTH", "EFFECTIVE", "ANSWERS", "SINCE", "REASON"].map(str::to_owned);
    let row = |node: &NodeStatus| {
        let ipv4 = node.ipv4.map(|ipv4| ipv4.to_string());
        let ipv6 = node.ipv6.map(|ipv6| ipv6.to_string());
        let own: Vec<String> = ipv4.into_iter().chain(ipv6).collect();
        [
            node.name.clone(),
            own.join(","),
            node.admin.to_string(),
            node.health.clone(),
            node.effective.clone(),
            node.answers.join(","),
            format!("{:.0}", node.since),
            remarks(node),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(nodes.iter().map(row)).collect();
    columns(&rows)
}

fn remarks(node: &NodeStatus) -> String {
    let by = node.by.as_deref().filter(|_| node.admin != Admin::Auto);
    let why = intent::in_words(node.reason.as_deref(), by, node.until);
    // Whole seconds, the last one too: this is for people.
    let cached =
        node.cached_ms.filter(|ms| *ms > 0).map(|ms| format!("in caches for {}s", ms.div_ceil(1000)));
    let remarks: Vec<String> = Some(why).filter(|why| !why.is_empty()).into_iter().chain(cached).collect();
    remarks.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_shows_what_an_operator_looks_for() {
        let json = serde_json::json!({
            "zone": "demo.example.com.", "epoch": 7, "version": "0.1.0", "pid": 42, "uptime_seconds": 61,
            "config": "/etc/dns-xdp/dns-xdp.toml", "fail_open": false, "frozen": "1 of 2 visible",
            "interfaces": [{"name": "eth0", "mode": "generic", "reason": "no driver support"}],
            "quorum": {"visible": 1, "needed": 2, "ok": false},
            "promise": {"detect_ms": 2000, "detect_by": "interval 1s + the rest", "publish_ms": 3,
                "publish_measured": true, "ttl_seconds": 5},
            "lease": {"stale_after_ms": 30000, "left_ms": 29500},
            "alarms": ["answered by userspace only"],
            "nodes": [{"name": "node2", "ipv4": "192.0.2.12", "ipv6": "2001:db8::12", "admin": "auto",
                "health": "down", "effective": "down", "answers": ["192.0.2.11"],
                "since": "2024-05-01T10:00:00Z", "reason": "refused", "by": "alice", "cached_ms": 2100},
                {"name": "node3", "ipv4": "192.0.2.13", "ipv6": null, "admin": "drain",
                "health": "up", "effective": "drain", "answers": ["192.0.2.11"],
                "since": "2024-05-01T10:00:00Z", "reason": "disk", "by": "alice", "until": "2024-05-01T11:00:00Z",
                "cached_ms": 0}],
        });
        let expected = "\
zone demo.example.com., epoch 7, from /etc/dns-xdp/dns-xdp.toml
dns-xdp 0.1.0, pid 42, up 1m 1s
interface eth0: generic (no driver support)
quorum: 1 visible, 2 needed: not met
lease: 29s 500ms left of 30s
promise: a dead node is in no answer after 2s 3ms, in no cache after 7s 3ms
  found out within 2s: interval 1s + the rest
  answers changed within 3ms: measured when they changed last
  forgotten by caches after 5s: the TTL
FROZEN: 1 of 2 visible
ALARM: answered by userspace only

NODE   ADDRESS                  ADMIN  HEALTH  EFFECTIVE  ANSWERS     SINCE                 REASON
node2  192.0.2.12,2001:db8::12  auto   down    down       192.0.2.11  2024-05-01T10:00:00Z  refused; in caches for 3s
node3  192.0.2.13               drain  up      drain      192.0.2.11  2024-05-01T10:00:00Z  by alice until 2024-05-01T11:00:00Z: disk
";
        assert_eq!(screen(&serde_json::from_value(json).unwrap()), expected);
    }
}
