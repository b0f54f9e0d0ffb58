//! Makes the screen of `status` as styled lines. A pure function of the answer, the time and the width.
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use ratatui::style::{Color, Style, Stylize as _};
use ratatui::text::{Line, Span, Text};

use super::super::words::{ago, cut, harmless, number, percent, wrap};
use crate::cluster::Admin;
use crate::control::api::{GuardStatus, NodeStatus, Status, StoreStatus, SuffixStatus, UNPROBED};
use crate::store::client::Mode;
use crate::{intent, repair_bound};

/// The number of columns for a label and the blanks after it.
const LABEL: usize = 9;
/// The indent, in columns, of the text below a node's line.
const INDENT: usize = 4;
const HEAD: [&str; 7] = ["NODE", "ADDRESS", "ADMIN", "HEALTH", "EFFECTIVE", "SERVED AS", "SINCE"];
/// The columns that are dropped when there is no room, the least important first.
const CUT: [usize; 2] = [5, 0];
const NARROWEST_COLUMN: usize = 9;
/// The width of an IPv4 address. A longer address goes to the line below.
const WIDEST_ADDRESS: usize = 15;

/// Returns the screen, alarms first. No line is longer than `width`, if `width` is 80 or more.
pub(super) fn screen(status: &Status, now: Timestamp, width: usize) -> Text<'static> {
    let mut lines = alarms(status, width);
    if !lines.is_empty() {
        lines.push(Line::default());
    }
    for (label, text) in facts(status) {
        let label = cut(&harmless(&label), LABEL - 2);
        lines.extend(labelled(format!("{label:LABEL$}").bold(), &text, width, LABEL));
    }
    lines.push(Line::default());
    lines.extend(nodes(status, now, width));
    Text::from(lines)
}

/// Returns the lines of the alarms.
fn alarms(status: &Status, width: usize) -> Vec<Line<'static>> {
    let mut all = Vec::new();
    if let Some(reason) = &status.frozen {
        all.push(("FROZEN", reason.clone()));
    }
    if status.fail_open {
        let text = "every node is down, the configured addresses are answered";
        all.push(("FAIL OPEN", text.to_owned()));
    }
    all.extend(status.alarms.iter().map(|alarm| ("ALARM", alarm.clone())));
    let line = |(label, text): (&'static str, String)| {
        let label = format!("{label}  ");
        let indent = label.len();
        labelled(label.red().bold(), &text, width, indent)
    };
    all.into_iter().flat_map(line).collect()
}

fn facts(status: &Status) -> Vec<(String, String)> {
    let time = humantime::format_duration;
    let Status { zone, epoch, version, pid, quorum, .. } = status;
    let mut facts = vec![
        ("zone".to_owned(), format!("{zone}, epoch {epoch}, from {}", status.config.display())),
        (
            "daemon".to_owned(),
            format!("dns-xdp {version}, pid {pid}, up {}", time(Duration::from_secs(status.uptime_seconds))),
        ),
    ];
    for (place, SuffixStatus { name, addresses }) in status.suffixes.iter().enumerate() {
        let label = if place == 0 { "suffix" } else { "" };
        let set = addresses.as_ref().map(|set| format!(", with the addresses `{set}`")).unwrap_or_default();
        facts.push((label.to_owned(), format!("{name}{set}")));
    }
    for interface in &status.interfaces {
        let reason = interface.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        facts.push((interface.name.clone(), format!("{}{reason}", interface.mode)));
    }
    let met = if quorum.ok { "met" } else { "NOT MET" };
    let quorum = format!("{met}: {} visible, {} needed", quorum.visible, quorum.needed);
    let mut promised = repair_bound::in_words(&status.promise);
    promised.truncate(promised.trim_end().len());
    facts.extend([
        ("queries".to_owned(), queries(status)),
        ("quorum".to_owned(), quorum),
        ("lease".to_owned(), lease(status)),
    ]);
    facts.extend(store(&status.store).map(|store| ("store".to_owned(), store)));
    facts.extend(floods(&status.guard).map(|floods| ("floods".to_owned(), floods)));
    let promised = promised.lines().enumerate();
    facts.extend(
        promised
            .map(|(nth, line)| (if nth == 0 { "promise" } else { "" }.to_owned(), line.trim().to_owned())),
    );
    facts
}

/// Returns the text about the store; `None` if each server has its file.
fn store(store: &StoreStatus) -> Option<String> {
    let mode = match store.mode {
        Mode::Joined => "joined: decides with the other servers",
        Mode::Alone => "ALONE: judges by itself",
        Mode::Frozen => "FROZEN: older than the store seen before",
    };
    (store.kind != "file").then(|| format!("{}, revision {}, {mode}", store.kind, store.revision))
}

fn queries(status: &Status) -> String {
    let Some(rate) = status.rate else { return "not counted yet: ask again in a second".to_owned() };
    let share = rate.kernel_share.map(|share| format!(", {} in the kernel", percent(share)));
    format!(
        "{}/s answered{} (mean of {} s)",
        number(rate.queries_per_second),
        share.unwrap_or_default(),
        number(rate.seconds.round())
    )
}

/// Returns the number of answers and queries that were held back, if it is not 0 or a limit is on.
fn floods(flood_limits: &GuardStatus) -> Option<String> {
    let count = |count: u64| number(count as f64);
    let mut said = Vec::new();
    if flood_limits.answers_per_second != 0 || flood_limits.rate_limited + flood_limits.slipped != 0 {
        let limit = number(flood_limits.answers_per_second.into());
        let (held_back, slipped) = (count(flood_limits.rate_limited), count(flood_limits.slipped));
        said.push(format!("{limit} answers/s a prefix: {held_back} held back, {slipped} slipped"));
    }
    if flood_limits.fallback_limited != 0 {
        said.push(format!("{} kept from the responder", count(flood_limits.fallback_limited)));
    }
    if flood_limits.cookies {
        said.push("cookies".to_owned());
    }
    (!said.is_empty()).then(|| said.join("; "))
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

/// Returns a label, followed by the text in as many lines as it needs.
fn labelled(label: Span<'static>, text: &str, width: usize, indent: usize) -> Vec<Line<'static>> {
    let mut label = Some(label);
    let lines = wrap(&harmless(text), width.saturating_sub(indent));
    let line = |text: String| match label.take() {
        Some(label) => Line::from(vec![label, text.into()]),
        None => Line::from(format!("{:indent$}{text}", "")),
    };
    lines.into_iter().map(line).collect()
}

fn nodes(status: &Status, now: Timestamp, width: usize) -> Vec<Line<'static>> {
    let rows: Vec<[String; 7]> = status.nodes.iter().map(|node| row(node, &status.nodes, now)).collect();
    let widths = widths(&rows, width);
    let line = |words: &[String; 7], styles: [Style; 7]| {
        let words = words.iter().zip(widths).zip(styles);
        let span = |((word, width), style): ((&String, usize), Style)| {
            Span::styled(format!("{:width$}  ", cut(word, width)), style)
        };
        let mut spans: Vec<Span<'static>> = words.map(span).collect();
        if let Some(last) = spans.last_mut() {
            last.content = last.content.trim_end().to_owned().into();
        }
        Line::from(spans)
    };
    let mut lines = vec![line(&HEAD.map(str::to_owned), [Style::new().bold(); 7])];
    for (node, row) in status.nodes.iter().zip(&rows) {
        lines.push(line(row, styles(node)));
        let why = wrap(&harmless(&why(node)), width - INDENT);
        lines.extend(why.into_iter().map(|line| Line::from(format!("{:INDENT$}{line}", ""))));
    }
    lines
}

fn row(node: &NodeStatus, nodes: &[NodeStatus], now: Timestamp) -> [String; 7] {
    [
        node.name.clone(),
        in_column(node).unwrap_or_else(|| "below".to_owned()),
        node.admin.to_string(),
        node.health.clone(),
        node.effective.clone(),
        served_as(node, nodes),
        ago(node.since, now),
    ]
}

fn styles(node: &NodeStatus) -> [Style; 7] {
    let mut styles = [Style::new(); 7];
    styles[0] = Style::new().bold();
    styles[3] = colour_of(&node.health).into();
    styles[4] = colour_of(&node.effective).into();
    styles
}

/// Returns the colour for the word of a state.
pub(in crate::cli) fn colour_of(state: &str) -> Color {
    match state {
        "up" | UNPROBED => Color::Green,
        "down" => Color::Red,
        _ => Color::Yellow,
    }
}

fn widths(rows: &[[String; 7]], width: usize) -> [usize; 7] {
    let mut widths = HEAD.map(str::len);
    for row in rows {
        for (width, word) in widths.iter_mut().zip(row) {
            *width = word.chars().count().max(*width);
        }
    }
    for column in CUT {
        let all = widths.iter().sum::<usize>() + 2 * (widths.len() - 1);
        let spare = all.saturating_sub(width);
        widths[column] = (widths[column].saturating_sub(spare)).max(NARROWEST_COLUMN.min(widths[column]));
    }
    widths
}

fn addresses(node: &NodeStatus) -> Vec<IpAddr> {
    node.ipv4.map(IpAddr::V4).into_iter().chain(node.ipv6.map(IpAddr::V6)).collect()
}

/// Returns the node whose addresses a node's name answers. If no node has all these addresses, returns the addresses.
pub(in crate::cli) fn served_as(node: &NodeStatus, nodes: &[NodeStatus]) -> String {
    let own =
        |node: &NodeStatus| -> Vec<String> { addresses(node).iter().map(ToString::to_string).collect() };
    match &node.answers[..] {
        [] => "nothing".to_owned(),
        answers => {
            let has_all = |node: &&NodeStatus| {
                let own = own(node);
                answers.iter().all(|address| own.contains(address))
            };
            if has_all(&node) {
                return "itself".to_owned();
            }
            nodes.iter().find(has_all).map_or_else(|| answers.join(" "), |other| other.name.clone())
        }
    }
}

/// Returns the node's address that fits the column, if there is one.
fn in_column(node: &NodeStatus) -> Option<String> {
    let mut addresses = addresses(node).into_iter().map(|address| address.to_string());
    addresses.find(|address| address.len() <= WIDEST_ADDRESS)
}

/// Returns the text about a node: first the address that fits no column, then the reasons.
fn why(node: &NodeStatus) -> String {
    let shown = in_column(node);
    let mut others = addresses(node).into_iter().map(|address| address.to_string());
    let also = others.find(|address| Some(address) != shown.as_ref()).map(|address| format!("at {address}"));
    let by = node.by.as_deref().filter(|_| node.admin != Admin::Auto);
    let why = intent::in_words(node.reason.as_deref(), by, node.until);
    // Seconds are rounded up.
    let cached =
        node.cached_ms.filter(|ms| *ms > 0).map(|ms| format!("in caches for {}s", ms.div_ceil(1000)));
    let held = node.held.as_ref().map(|held| held.in_words(&node.name));
    let alone = node.local.then(|| intent::LOCAL.to_owned());
    let remarks = also
        .into_iter()
        .chain(held)
        .chain(alone)
        .chain(Some(why).filter(|why| !why.is_empty()))
        .chain(cached);
    remarks.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use super::*;
    use crate::control::api::HeldStatus;

    /// Returns a status with a node that is down and one that is drained.
    pub(in crate::cli) fn status() -> Status {
        let json = serde_json::json!({
            "zone": "demo.example.com.", "epoch": 7, "version": "0.1.0", "pid": 42, "uptime_seconds": 61,
            "config": "/etc/dns-xdp/dns-xdp.toml", "fail_open": false, "frozen": "1 of 2 visible",
            "interfaces": [{"name": "eth0", "mode": "generic", "reason": "no driver support"}],
            "quorum": {"visible": 1, "needed": 2, "ok": false},
            "promise": {"detect_ms": 2000, "detect_by": "interval 1s + the rest", "publish_ms": 3,
                "publish_measured": true, "ttl_seconds": 5},
            "lease": {"stale_after_ms": 30000, "left_ms": 29500},
            "rate": {"queries_per_second": 1234.4, "kernel_share": 0.998, "seconds": 10.02},
            "guard": {"cookies": true, "answers_per_second": 100, "fallback_per_second": 20000,
                "rate_limited": 1234, "slipped": 617, "fallback_limited": 3},
            "alarms": ["answered by userspace only"],
            "nodes": [{"name": "node2", "ipv4": "192.0.2.12", "ipv6": "2001:db8::12", "admin": "auto",
                "health": "down", "effective": "down", "answers": ["192.0.2.11"],
                "since": "2024-05-01T10:00:00Z", "reason": "refused", "by": "alice", "cached_ms": 2100},
                {"name": "node1", "ipv4": "192.0.2.11", "ipv6": null, "admin": "drain",
                "health": "up", "effective": "drain", "answers": ["192.0.2.11"],
                "since": "2024-05-01T10:02:40Z", "reason": "disk", "by": "alice", "until": "2024-05-01T11:00:00Z",
                "cached_ms": 0}],
        });
        serde_json::from_value(json).unwrap()
    }

    fn now() -> Timestamp {
        "2024-05-01T10:03:00Z".parse().unwrap()
    }

    fn lines(status: &Status, width: usize) -> Vec<String> {
        screen(status, now(), width).lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_screen_shows_what_an_operator_looks_for_and_alarms_first() {
        let expected = "\
FROZEN  1 of 2 visible
ALARM  answered by userspace only

zone     demo.example.com., epoch 7, from /etc/dns-xdp/dns-xdp.toml
daemon   dns-xdp 0.1.0, pid 42, up 1m 1s
eth0     generic: no driver support
queries  1,234/s answered, 99.8 % in the kernel (mean of 10 s)
quorum   NOT MET: 1 visible, 2 needed
lease    29s 500ms left of 30s
floods   100 answers/s a prefix: 1,234 held back, 617 slipped; 3 kept from the
         responder; cookies
promise  a dead node is in no answer after 2s 3ms, in no cache after 7s 3ms
         found out within 2s: interval 1s + the rest
         answers changed within 3ms: measured when they changed last
         forgotten by caches after 5s: the TTL

NODE   ADDRESS     ADMIN  HEALTH  EFFECTIVE  SERVED AS  SINCE
node2  192.0.2.12  auto   down    down       node1      3m ago
    at 2001:db8::12; refused; in caches for 3s
node1  192.0.2.11  drain  up      drain      itself     20s ago
    by alice until 2024-05-01T11:00:00Z: disk";
        assert_eq!(lines(&status(), 80).join("\n"), expected);
    }

    #[test]
    fn a_held_node_is_shown_with_the_command_that_brings_it_back() {
        let mut status = status();
        status.nodes.truncate(1);
        let node = &mut status.nodes[0];
        (node.health, node.effective, node.reason, node.ipv6) =
            ("up".to_owned(), "held".to_owned(), None, None);
        let since = "2024-05-01T10:00:00Z".parse().unwrap();
        node.held = Some(HeldStatus { since, until: None });
        (node.by, node.cached_ms) = (None, None);
        let shown = lines(&status, 80).join("\n");
        assert!(
            shown.ends_with("    held since 2024-05-01T10:00:00Z, dns-xdp node failback node2"),
            "{shown}"
        );
        status.nodes[0].held = Some(HeldStatus { since, until: Some(now()) });
        let shown = lines(&status, 100).join("\n");
        assert!(shown.contains("10:00:00Z until 2024-05-01T10:03:00Z, dns-xdp"), "{shown}");
    }

    #[test]
    fn nothing_is_wider_than_eighty_columns_whatever_is_in_it() {
        let mut status = status();
        status.zone = format!("{}.", "z".repeat(200));
        status.alarms = vec!["why ".repeat(100), "x".repeat(300)];
        status.interfaces[0].name = "enp0s31f6np1d1v100".to_owned();
        let node = &mut status.nodes[0];
        node.name = "n".repeat(63);
        node.ipv4 = None;
        node.ipv6 = Some("2001:db8:1234:5678:9abc:def0:1234:5678".parse().unwrap());
        node.health = "recovering".to_owned();
        node.answers = (1..=20).map(|last| format!("192.0.2.{last}")).collect();
        node.reason = Some("no answer of the host, ".repeat(20));
        for line in lines(&status, 80) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }

    #[test]
    fn a_reason_cannot_move_the_cursor() {
        let mut status = status();
        status.nodes[0].reason = Some("\x1b[2J\rup\nfine".to_owned());
        status.alarms = vec!["\x1b]0;title\x07".to_owned()];
        assert!(lines(&status, 80).iter().all(|line| !line.chars().any(char::is_control)));
    }

    #[test]
    fn a_name_is_served_as_the_node_that_has_its_answers() {
        let Status { mut nodes, .. } = status();
        assert_eq!(served_as(&nodes[0], &nodes), "node1");
        nodes[0].answers = vec!["192.0.2.12".to_owned(), "2001:db8::12".to_owned()];
        assert_eq!(served_as(&nodes[0], &nodes), "itself");
        nodes[0].answers = vec!["192.0.2.11".to_owned(), "192.0.2.12".to_owned()];
        assert_eq!(served_as(&nodes[0], &nodes), "192.0.2.11 192.0.2.12");
        nodes[0].answers = Vec::new();
        assert_eq!(served_as(&nodes[0], &nodes), "nothing");
    }

    #[test]
    fn what_the_colours_say_is_also_said_in_words() {
        let screen = screen(&status(), now(), 80);
        let coloured =
            screen.lines.iter().flat_map(|line| &line.spans).filter(|span| span.style.fg.is_some());
        let words: Vec<&str> = coloured.map(|span| span.content.trim()).collect();
        assert_eq!(words, ["FROZEN", "ALARM", "down", "down", "up", "drain"]);
    }
}
