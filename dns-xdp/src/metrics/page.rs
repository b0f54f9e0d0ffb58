//! The status page for people: the contents of `dns-xdp status`, with the rates and the newest events. This module is
//! pure.
use std::time::Duration;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use super::rates::Rates;
use super::status_cache::{Life, View};
use crate::cluster::Admin;
use crate::control::api::{InterfaceStatus, NodeStatus, Status, UNPROBED};
use crate::event::Event;
use crate::intent;

/// The refresh time for browsers that run no script. The script replaces the page without a flicker.
const REFRESH_SECONDS: &str = "3";

/// The whole page. Values from operators, probes or the network appear only as text: the macro escapes every value.
pub(super) fn page(
    server: &str,
    life: &Life,
    view: Option<&View>,
    events: &[Event],
    now: Timestamp,
) -> Markup {
    let zone = view.map_or("dns-xdp", |view| view.status.zone.as_str());
    let (level, verdicts) = verdict(life, view.map(|view| &view.status));
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (level.sign()) " " (server) " · " (zone) }
                noscript { meta http-equiv="refresh" content=(REFRESH_SECONDS); }
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
            }
            body {
                p #silence .verdict .bad hidden role="status" {}
                main {
                    header {
                        h1 { (zone) }
                        p .soft { "as answered by " strong { (server) } ", " (at(view.map_or(now, |view| view.at))) " UTC" }
                    }
                    section .verdict .(level.class()) aria-label="Verdict" {
                        @for verdict in &verdicts { p { (level.sign()) " " (verdict) } }
                    }
                    @if let Some(view) = view { (facts(view, now)) (nodes(&view.status, now)) }
                    (told(events, now))
                    @if let Some(view) = view { (foot(&view.status)) }
                }
            }
        }
    }
}

/// The severity of a state. It is never shown by colour alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Good,
    Doubt,
    Bad,
}

impl Level {
    fn class(self) -> &'static str {
        match self {
            Level::Good => "good",
            Level::Doubt => "doubt",
            Level::Bad => "bad",
        }
    }

    fn sign(self) -> &'static str {
        match self {
            Level::Good => "✓",
            Level::Doubt => "▲",
            Level::Bad => "✗",
        }
    }
}

/// Returns all problems that need attention, or that all is well.
fn verdict(life: &Life, status: Option<&Status>) -> (Level, Vec<String>) {
    let Some(status) = status else {
        return (if *life == Life::Starting { Level::Doubt } else { Level::Bad }, vec![life.to_string()]);
    };
    let mut bad = Vec::new();
    if let Life::Hung(_) = life {
        bad.push(format!("{life}. The page below shows its last answer."));
    }
    bad.extend(
        status.frozen.as_ref().map(|reason| format!("frozen, the answers stay as they are: {reason}")),
    );
    if status.fail_open {
        bad.push("fail-open: no node is up, and dead addresses are answered".to_owned());
    }
    if !status.up_to_date {
        bad.push("the decided answers are not published".to_owned());
    }
    let mut doubts = status.alarms.clone();
    let down: Vec<&str> = nodes_that(status, |node| node.effective == "down").collect();
    if !down.is_empty() {
        doubts.push(format!("down: {}", down.join(", ")));
    }
    let held: Vec<&str> = nodes_that(status, |node| node.effective == "held").collect();
    if !held.is_empty() {
        doubts.push(format!("healthy, and held out of the answers: {}", held.join(", ")));
    }
    let suspect: Vec<&str> = nodes_that(status, |node| node.health == "suspect").collect();
    if !suspect.is_empty() {
        doubts.push(format!("in doubt: {}", suspect.join(", ")));
    }
    match (bad.is_empty(), doubts.is_empty()) {
        (true, true) => (Level::Good, vec!["all is well".to_owned()]),
        (true, false) => (Level::Doubt, doubts),
        (false, _) => (Level::Bad, [bad, doubts].concat()),
    }
}

fn nodes_that(status: &Status, wanted: impl Fn(&NodeStatus) -> bool) -> impl Iterator<Item = &str> {
    status.nodes.iter().filter(move |node| wanted(node)).map(|node| node.name.as_str())
}

fn facts(view: &View, now: Timestamp) -> Markup {
    let status = &view.status;
    let quorum = &status.quorum;
    let promise = &status.promise;
    let repair = Duration::from_millis(promise.detect_ms + promise.publish_ms);
    html! {
        dl {
            (rates(view.rates))
            div {
                dt { "Quorum" }
                dd { (quorum.visible) " visible, " (quorum.needed) " needed "
                    @if quorum.ok { (state(Level::Good, "met")) } @else { (state(Level::Bad, "lost")) } }
            }
            @for interface in &status.interfaces { (interface_fact(interface)) }
            div {
                dt { "A dead node is out" }
                dd { "of the answers in " (span(repair)) ", of caches " (promise.ttl_seconds) " s later" }
            }
            div {
                dt { "Lease" }
                dd { (lease(status)) }
            }
            div {
                dt { "Answers changed" }
                dd { @if let Some(published) = status.published { (ago(now, published)) } @else { "never" } }
            }
            div { dt { "Epoch" } dd { (status.epoch) } }
            div { dt { "Running for" } dd { (span(Duration::from_secs(status.uptime_seconds))) } }
        }
    }
}

fn rates(rates: Option<Rates>) -> Markup {
    let share = rates.and_then(Rates::kernel_share);
    html! {
        div {
            dt { "Queries a second" }
            dd .big { @if let Some(rates) = rates { (count(rates.total())) } @else { "…" } }
        }
        div {
            dt { "Answered in the kernel" }
            dd .big { @if let Some(share) = share { (percent(share)) } @else if rates.is_some() { "–" } @else { "…" } }
        }
    }
}

fn interface_fact(interface: &InterfaceStatus) -> Markup {
    let level = match (&*interface.mode, interface.degraded) {
        (_, true) => Level::Doubt,
        _ => Level::Good,
    };
    html! {
        div {
            dt { "XDP on " (interface.name) }
            dd {
                (state(level, &interface.mode))
                @if let Some(reason) = &interface.reason { br; small { (reason) } }
            }
        }
    }
}

fn lease(status: &Status) -> String {
    match (status.lease.stale_after_ms, status.lease.left_ms) {
        (None, _) => "for ever".to_owned(),
        (Some(given), None) => format!("{} at each renewal", span(Duration::from_millis(given))),
        (Some(given), Some(left)) => {
            format!("{} left of {}", span(Duration::from_millis(left)), span(Duration::from_millis(given)))
        }
    }
}

fn nodes(status: &Status, now: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Nodes" }
            table {
                thead { tr {
                    th { "Node" } th { "Address" } th { "Wanted" } th { "Health" } th { "In the answers" }
                    th { "Its name answers" } th { "Since" } th { "Why" }
                } }
                tbody { @for node in &status.nodes { (node_row(node, now)) } }
            }
        }
    }
}

fn node_row(node: &NodeStatus, now: Timestamp) -> Markup {
    let own: Vec<String> = [node.ipv4.map(|ipv4| ipv4.to_string()), node.ipv6.map(|ipv6| ipv6.to_string())]
        .into_iter()
        .flatten()
        .collect();
    let health = match &*node.health {
        "up" | UNPROBED => Level::Good,
        "down" => Level::Bad,
        _ => Level::Doubt,
    };
    let effective = match &*node.effective {
        "up" => (Level::Good, "yes"),
        "drain" => (Level::Doubt, "no, drained"),
        "held" => (Level::Doubt, "no, held"),
        _ => (Level::Bad, "no"),
    };
    let by = node.by.as_deref().filter(|_| node.admin != Admin::Auto);
    let why = intent::in_words(node.reason.as_deref(), by, node.until);
    let cached =
        node.cached_ms.filter(|ms| *ms > 0).map(|ms| format!("in caches for {} s", ms.div_ceil(1000)));
    let held = node.held.as_ref().map(|held| held.in_words(&node.name));
    let alone = node.local.then(|| intent::LOCAL.to_owned());
    let why: Vec<String> =
        held.into_iter().chain(alone).chain(Some(why).filter(|why| !why.is_empty())).chain(cached).collect();
    html! {
        tr {
            td .node data-label="Node" { (node.name) }
            td data-label="Address" { (own.join(" ")) }
            td data-label="Wanted" { (node.admin) }
            td data-label="Health" { (state(health, &node.health)) }
            td data-label="In the answers" { (state(effective.0, effective.1)) }
            td data-label="Its name answers" { (node.answers.join(" ")) }
            td .time data-label="Since" { (ago(now, node.since)) }
            td .why data-label="Why" { (why.join("; ")) }
        }
    }
}

fn told(events: &[Event], now: Timestamp) -> Markup {
    html! {
        section {
            h2 { "Newest events" }
            table {
                thead { tr { th { "When" } th { "What" } th { "Who" } th { "Why, and what changed" } } }
                tbody {
                    @for event in events {
                        @let kind = event.what.kind.text();
                        tr {
                            td .time data-label="When" { (ago(now, event.at)) }
                            td .kind data-label="What" {
                                @if event.grave { (state(Level::Bad, kind)) } @else { (kind) }
                            }
                            td data-label="Who" { (event.what.subject.as_deref().unwrap_or_default()) }
                            td .why data-label="Why" { (event.what.detail()) }
                        }
                    }
                }
            }
            @if events.is_empty() { p .soft { "none yet" } }
        }
    }
}

fn foot(status: &Status) -> Markup {
    html! {
        footer .soft {
            "dns-xdp " (status.version) ", pid " (status.pid) ", from " (status.config.display())
            " · this page only reads · " a href="/metrics" { "metrics" }
        }
    }
}

fn state(level: Level, text: &str) -> Markup {
    html! { span .state .(level.class()) { (level.sign()) " " (text) } }
}

fn at(time: Timestamp) -> Markup {
    html! { time datetime=(time) { (time.strftime("%Y-%m-%d %H:%M:%S")) } }
}

/// Returns a time as a clock time and as an age.
fn ago(now: Timestamp, time: Timestamp) -> Markup {
    let age = Duration::try_from(now.duration_since(time)).unwrap_or_default();
    html! { time datetime=(time) title=(time) { (span(age)) " ago" } }
}

/// Returns a time in at most 2 units.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..10 if time.subsec_millis() > 0 => format!("{:.1} s", time.as_secs_f64()),
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

fn count(rate: f64) -> String {
    match rate {
        0.0 => "0".to_owned(),
        ..10.0 => format!("{rate:.1}"),
        ..10_000.0 => format!("{rate:.0}"),
        ..1_000_000.0 => format!("{:.1} k", rate / 1_000.0),
        _ => format!("{:.2} M", rate / 1_000_000.0),
    }
}

/// Returns a share in percent. 100 means all: 99.97 is shown as less.
fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent > 99.9 && share < 1.0 { "> 99.9 %".to_owned() } else { format!("{percent:.1} %") }
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::example;
    use super::*;
    use crate::event::{Kind, Occurrence};

    const HOSTILE: &str = "<script>alert(1)</script>\"'&";

    fn shown(life: &Life, change: impl FnOnce(&mut Status), events: &[Event]) -> String {
        let (mut status, stats) = example();
        change(&mut status);
        let rates = Some(Rates { kernel: 75.0, responder: 25.0 });
        let view = View { status, stats, rates, at: Timestamp::UNIX_EPOCH };
        let now = "2024-05-01T10:03:00Z".parse().unwrap();
        page("node1", life, Some(&view), events, now).into_string()
    }

    fn event(kind: Kind, reason: &str) -> Event {
        let what = Occurrence::new(kind).about(HOSTILE).because(reason);
        Event { seq: 1, at: "2024-05-01T10:00:00Z".parse().unwrap(), what, grave: kind.is_grave() }
    }

    #[test]
    fn whatever_others_have_written_is_text_and_never_markup() {
        let hostile = |status: &mut Status| {
            HOSTILE.clone_into(&mut status.zone);
            HOSTILE.clone_into(&mut status.interfaces[0].name);
            status.interfaces[0].reason = Some(HOSTILE.to_owned());
            status.frozen = Some(HOSTILE.to_owned());
            status.alarms = vec![HOSTILE.to_owned()];
            status.config = HOSTILE.into();
            let node = &mut status.nodes[0];
            HOSTILE.clone_into(&mut node.name);
            node.reason = Some(HOSTILE.to_owned());
            node.by = Some(HOSTILE.to_owned());
            node.admin = Admin::Drain;
            node.answers = vec![HOSTILE.to_owned()];
            HOSTILE.clone_into(&mut node.health);
        };
        let html = shown(&Life::Running, hostile, &[event(Kind::Down, HOSTILE)]);
        assert_eq!(html.matches("<script").count(), 1, "{html}");
        assert!(!html.contains("alert(1)</script>") && !html.contains(HOSTILE), "{html}");
        assert!(html.matches("&lt;script&gt;alert(1)&lt;/script&gt;&quot;").count() >= 10, "{html}");
    }

    #[test]
    fn the_page_loads_nothing_from_elsewhere_and_has_nothing_inline() {
        let html = shown(&Life::Running, |_| {}, &[event(Kind::Down, "refused")]);
        for outside in ["http://", "https://", "style=", "<style", "onload", "onclick", "javascript:"] {
            assert!(!html.contains(outside), "{outside} in {html}");
        }
        assert!(html.contains("<noscript><meta http-equiv=\"refresh\" content=\"3\"></noscript>"), "{html}");
        assert!(!super::super::STYLE.contains("url(") && !super::super::STYLE.contains("@import"));
    }

    #[test]
    fn a_dead_node_is_shown_with_its_substitute_in_words() {
        let html = shown(&Life::Running, |status| status.quorum.ok = true, &[]);
        for part in [
            "✗ down</span>",
            "✗ no</span>",
            ">192.0.2.11</td>",
            ">3 min ago</time>",
            ">refused</td>",
            "▲ down: node2",
            "75.0 %",
        ] {
            assert!(html.contains(part), "{part} is not in {html}");
        }
    }

    #[test]
    fn the_gravest_comes_first_and_a_healthy_server_says_so() {
        let calm = |status: &mut Status| status.nodes.clear();
        let html = shown(&Life::Running, calm, &[]);
        assert!(html.contains("<p>✓ all is well</p>") && html.contains("<title>✓ node1"), "{html}");
        let grave = |status: &mut Status| {
            status.fail_open = true;
            status.alarms.push("eth0 is generic".to_owned());
        };
        let html = shown(&Life::Hung(Duration::from_secs(9)), grave, &[]);
        let [hung, open, alarm] =
            ["has not run for 9 s", "fail-open", "eth0 is generic"].map(|text| html.find(text).unwrap());
        assert!(hung < open && open < alarm, "{html}");
    }

    #[test]
    fn before_anything_is_known_the_page_says_what_is_under_way() {
        let html = page("node1", &Life::Starting, None, &[], Timestamp::UNIX_EPOCH).into_string();
        assert!(html.contains("▲ nothing is published yet"), "{html}");
    }

    #[test]
    fn numbers_are_short() {
        let spans = [
            (1_500, "1.5 s"),
            (30_000, "30 s"),
            (600_000, "10 min"),
            (10_920_000, "3 h 2 min"),
            (400_000_000, "4 d 15 h"),
        ];
        for (millis, text) in spans {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
        for (rate, text) in
            [(0.0, "0"), (3.25, "3.2"), (731.4, "731"), (12_345.0, "12.3 k"), (3_950_000.0, "3.95 M")]
        {
            assert_eq!(count(rate), text);
        }
        assert_eq!((percent(0.9997).as_str(), percent(1.0).as_str()), ("> 99.9 %", "100.0 %"));
    }
}
