//! The metrics as text. Their labels have few values, and none comes from a query.
use std::fmt;
use std::time::Duration;

use dns_xdp_ebpf::outcome::{Action, Outcome};
use jiff::{SignedDuration, Timestamp};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode as encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::recorder::{HEALTHS, Recorder};
use super::status_cache::View;
use crate::cluster::Admin;
use crate::control::api::{Stats, Status, UNPROBED};
use crate::health::Health;
use crate::responder::is_answer;

const PREFIX: &str = "dns_xdp";
const ADMINS: [Admin; 4] = [Admin::Auto, Admin::Up, Admin::Down, Admin::Drain];
const MODES: [&str; 3] = ["native", "generic", "off"];
/// The controller's counters that `dns-xdp stats` shows. The other counters of `stats` have labels here.
const CONTROLLER: [(&str, &str, &str); 5] = [
    (
        "publications",
        "publications",
        "Changes of the answers that were published to the kernel and the responder",
    ),
    (
        "publication-failures",
        "publication_failures",
        "Changes of the answers that could not be published; the daemon tries again with each heartbeat",
    ),
    ("events", "events", "Events reported since the daemon started"),
    ("on-event-failures", "on_event_failures", "Runs of the on-event command that failed or took too long"),
    (
        "on-event-overflows",
        "on_event_overflows",
        "Events that the on-event command missed because it is behind",
    ),
];

/// The numbers of queries that the program and the responder have answered.
pub(super) fn answered_by(stats: &Stats) -> [u64; 2] {
    let kernel = outcomes(stats).filter(|(outcome, _)| outcome.action() == Action::Transmit);
    let responder = stats.responder.iter().filter(|(text, _)| is_answer(text));
    [kernel.map(|(_, count)| count).sum(), responder.map(|(_, count)| count).sum()]
}

/// Returns the OpenMetrics text, with its end mark.
pub(super) fn encode(view: &View, recorder: &Recorder) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    let View { status, stats, .. } = view;
    let silence = recorder.heartbeat_age();
    let scrape = Scrape {
        status: status.clone(),
        stats: stats.clone(),
        started: recorder.started(),
        heartbeat: before(Timestamp::now(), silence),
        lease_left: recorder.lease_left(),
    };
    registry.register_collector(Box::new(scrape));
    recorder.register(&mut registry);
    let mut text = String::new();
    encode_registry(&mut text, &registry).expect("a string takes every line");
    text
}

#[derive(Debug)]
struct Scrape {
    status: Status,
    stats: Stats,
    started: Timestamp,
    heartbeat: Timestamp,
    lease_left: Option<Duration>,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Scrape { status, stats, .. } = self;
        build(&mut encoder, status)?;
        queries(&mut encoder, stats)?;
        transmit_errors(&mut encoder, stats)?;
        for (key, name, help) in CONTROLLER {
            let counter = ConstCounter::new(stats.controller.get(key).copied().unwrap_or_default());
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        interfaces(&mut encoder, status)?;
        nodes(&mut encoder, status)?;
        services(&mut encoder, status)?;
        self.server(&mut encoder)
    }
}

impl Scrape {
    /// Encodes the metrics without labels.
    fn server(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Status { quorum, promise, frozen, blind, .. } = &self.status;
        let published = self.status.published.map_or(0.0, seconds_of);
        let attached = self.status.interfaces.iter().any(|interface| interface.mode != "off");
        let promised = Duration::from_millis(promise.detect_ms + promise.publish_ms);
        let flag = |set: bool| f64::from(u8::from(set));
        for (name, help, value) in [
            (
                "quorum_visible",
                "Nodes and witnesses that have recently answered anything",
                quorum.visible as f64,
            ),
            (
                "quorum_needed",
                "Nodes and witnesses that have to be visible; with fewer, the answers freeze",
                quorum.needed as f64,
            ),
            (
                "frozen",
                "1 while too few are visible: the answers stay as they are, whatever the probes find",
                flag(frozen.is_some()),
            ),
            (
                "fail_open",
                "1 while no node is up, and dead addresses are answered",
                flag(self.status.fail_open),
            ),
            (
                "blind",
                "1 while this server does not trust its own probes, and judges no node",
                flag(blind.is_some()),
            ),
            (
                "up_to_date",
                "1 if the decided answers are published; 0: publishing fails",
                flag(self.status.up_to_date),
            ),
            ("alarms", "The number of alarms in dns-xdp status", self.status.alarms.len() as f64),
            (
                "epoch",
                "The number of the configuration, which is the SOA's serial; servers with the same configuration have the same number",
                f64::from(self.status.epoch),
            ),
            (
                "promised_failover_seconds",
                "The guaranteed time until a dead node is in no answer, by the configuration and the last publication",
                promised.as_secs_f64(),
            ),
            ("published_timestamp_seconds", "When the answers last changed", published),
            ("start_timestamp_seconds", "When the daemon started", seconds_of(self.started)),
            (
                "heartbeat_timestamp_seconds",
                "When the controller's loop last ran: at least once a second, unless it hangs",
                seconds_of(self.heartbeat),
            ),
        ] {
            gauges(encoder, name, help, [([("", ""); 0], value)].into_iter())?;
        }
        match self.lease_left.filter(|_| attached) {
            None => Ok(()),
            Some(left) => {
                let help = "How long the program answers if the daemon does not renew its lease; absent: for ever, or no program";
                gauges(encoder, "lease_left_seconds", help, [([("", ""); 0], left.as_secs_f64())].into_iter())
            }
        }
    }
}

fn build(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let info = Info::new([("version", status.version.clone()), ("zone", status.zone.clone())]);
    let help = "The running version, and the served zone";
    info.encode(encoder.encode_descriptor("build", help, None, info.metric_type())?)
}

fn queries(encoder: &mut DescriptorEncoder<'_>, stats: &Stats) -> fmt::Result {
    let kernel = outcomes(stats).filter(|(outcome, _)| outcome.action() == Action::Transmit);
    let kernel = kernel.map(|(outcome, count)| {
        ([("path", "xdp"), ("outcome", outcome.text()), ("rcode", rcode(outcome))], count)
    });
    let responder = stats.responder.iter().map(|(text, count)| {
        let (outcome, rcode) =
            if is_answer(text) { ("answered", text.as_str()) } else { (text.as_str(), "") };
        ([("path", "responder"), ("outcome", outcome), ("rcode", rcode)], *count)
    });
    let help = "Queries, each counted once: by the program if it answered, otherwise by the responder";
    counters(encoder, "queries", help, kernel.chain(responder))?;
    let packets = outcomes(stats).map(|(outcome, count)| {
        let action = match outcome.action() {
            Action::Transmit => "answered",
            Action::Pass => "passed",
            Action::Drop => "dropped",
        };
        ([("outcome", outcome.text()), ("action", action)], count)
    });
    let help = "Packets to the served port by what the program did with them and why; passed packets go to the responder";
    counters(encoder, "packets", help, packets)
}

fn transmit_errors(encoder: &mut DescriptorEncoder<'_>, stats: &Stats) -> fmt::Result {
    let errors =
        stats.transmit_errors.iter().map(|(interface, count)| ([("interface", &**interface)], *count));
    let help = "Answers of the program that the driver failed to send; only for drivers that count them";
    counters(encoder, "transmit_errors", help, errors)
}

fn interfaces(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let modes = status.interfaces.iter().flat_map(|interface| {
        MODES.map(|mode| ([("interface", &*interface.name), ("mode", mode)], flag(interface.mode == mode)))
    });
    gauges(encoder, "interface_mode", "1 for the XDP mode that is in force on the interface", modes)?;
    let degraded = status.interfaces.iter().map(|it| ([("interface", &*it.name)], flag(it.degraded)));
    let help = "1 if the interface is not in the wanted mode: dns-xdp status says why";
    gauges(encoder, "interface_degraded", help, degraded)
}

fn nodes(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let healths = status.nodes.iter().flat_map(|node| {
        let known = HEALTHS.map(Health::text).into_iter();
        let unprobed = (node.health == UNPROBED).then_some(UNPROBED);
        known
            .chain(unprobed)
            .map(|health| ([("node", &*node.name), ("health", health)], flag(node.health == health)))
    });
    gauges(encoder, "node_health", "1 for the health that the probes of the node find", healths)?;
    let families = status.nodes.iter().flat_map(|node| {
        node.families.iter().flat_map(|(family, found)| {
            HEALTHS.map(|health| {
                let labels = [("node", &*node.name), ("family", family.text()), ("health", health.text())];
                (labels, flag(found.health == health.text()))
            })
        })
    });
    let help = "1 for the health in each address family, for nodes that are probed at addresses of both";
    if status.nodes.iter().any(|node| !node.families.is_empty()) {
        gauges(encoder, "node_family_health", help, families)?;
    }
    let texts = ADMINS.map(|admin| (admin, admin.to_string()));
    let admins = status.nodes.iter().flat_map(|node| {
        texts.iter().map(|(admin, text)| {
            ([("node", &*node.name), ("admin", text.as_str())], flag(node.admin == *admin))
        })
    });
    gauges(encoder, "node_admin", "1 for the operator's intent; auto: the probes decide", admins)?;
    let up = status.nodes.iter().map(|node| ([("node", &*node.name)], flag(node.effective == "up")));
    gauges(encoder, "node_up", "1 if the node is in the answers, by its probes and intent", up)?;
    let held = status.nodes.iter().map(|node| ([("node", &*node.name)], flag(node.held.is_some())));
    gauges(encoder, "node_held", "1 if the node fell and stays out of the answers after its recovery", held)
}

/// Encodes the services. Their number is bounded: see [`Status::services`].
fn services(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let up = status.services.iter().map(|service| ([("service", &*service.name)], flag(!service.down)));
    let help = "1 if a member or a backup of the service is healthy; of more than 1,000 services only those that are down";
    gauges(encoder, "service_up", help, up)
}

fn flag(set: bool) -> i64 {
    i64::from(set)
}

/// The counters of the outcomes.
fn outcomes(stats: &Stats) -> impl Iterator<Item = (Outcome, u64)> {
    Outcome::ALL.iter().filter_map(|outcome| Some((*outcome, *stats.xdp.get(outcome.text())?)))
}

/// The response code of an answer.
fn rcode(outcome: Outcome) -> &'static str {
    if outcome == Outcome::NxDomain { "NXDOMAIN" } else { "NOERROR" }
}

fn before(now: Timestamp, ago: Duration) -> Timestamp {
    SignedDuration::try_from(ago).ok().and_then(|ago| now.checked_sub(ago).ok()).unwrap_or(now)
}

fn seconds_of(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

fn counters<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: impl Iterator<Item = ([(&'a str, &'a str); N], u64)>,
) -> fmt::Result {
    let kind = ConstCounter::new(0u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, count) in counts {
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauges<'a, const N: usize, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = ([(&'a str, &'a str); N], V)>,
) -> fmt::Result {
    let kind = ConstGauge::new(0i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        if N == 0 {
            return family.encode_gauge(&value);
        }
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::config::PROBE;
    use crate::health::{ProbeId, Subject, Target};

    pub(in crate::metrics) fn example() -> (Status, Stats) {
        let status = serde_json::json!({
            "zone": "demo.example.com.", "epoch": 7, "version": "0.1.0", "pid": 42, "uptime_seconds": 61,
            "config": "f", "fail_open": false, "frozen": null, "up_to_date": true,
            "interfaces": [{"name": "eth0", "mode": "native", "reason": null}],
            "quorum": {"visible": 1, "needed": 2, "ok": false},
            "promise": {"detect_ms": 2000, "publish_ms": 50, "ttl_seconds": 5},
            "lease": {"stale_after_ms": 30000, "left_ms": 29500},
            "alarms": [], "published": "1970-01-01T00:01:00Z",
            "nodes": [{"name": "node2", "ipv4": "192.0.2.12", "ipv6": null, "admin": "auto",
                "health": "down", "effective": "down", "answers": ["192.0.2.11"],
                "since": "2024-05-01T10:00:00Z", "reason": "refused"}],
            "services": [{"name": "db1", "order": "first", "backup": [], "down": true, "answers": []}],
        });
        let counts = |counts: &[(&str, u64)]| {
            counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
        };
        let stats = Stats {
            xdp: counts(&[("answered", 12), ("nxdomain", 4), ("type", 5), ("response", 1)]),
            responder: counts(&[("NXDOMAIN", 3), ("NOERROR", 2), ("dropped", 1)]),
            controller: counts(&[("publication-failures", 1)]),
            transmit_errors: counts(&[("eth0", 2)]),
        };
        (serde_json::from_value(status).unwrap(), stats)
    }

    /// The text of a scrape of the example.
    pub(in crate::metrics) fn exposition() -> String {
        let (status, stats) = example();
        let recorder = Recorder::default();
        let probe = ProbeId::first(Subject::Node("node2".to_owned()));
        let target = Target { address: [192, 0, 2, 12].into(), probe: PROBE };
        recorder.attend(&BTreeMap::from([(probe, target)]));
        recorder.leased(Some(tokio::time::Instant::now() + Duration::from_secs(30)));
        encode(&View { status, stats, rates: None, at: Timestamp::UNIX_EPOCH }, &recorder)
    }

    #[test]
    fn every_number_an_alert_needs_is_there() {
        let text = exposition();
        for line in [
            "dns_xdp_build_info{version=\"0.1.0\",zone=\"demo.example.com.\"} 1",
            "dns_xdp_queries_total{path=\"xdp\",outcome=\"answered\",rcode=\"NOERROR\"} 12",
            "dns_xdp_queries_total{path=\"xdp\",outcome=\"nxdomain\",rcode=\"NXDOMAIN\"} 4",
            "dns_xdp_queries_total{path=\"responder\",outcome=\"answered\",rcode=\"NXDOMAIN\"} 3",
            "dns_xdp_queries_total{path=\"responder\",outcome=\"dropped\",rcode=\"\"} 1",
            "dns_xdp_packets_total{outcome=\"type\",action=\"passed\"} 5",
            "dns_xdp_publication_failures_total 1",
            "dns_xdp_events_total 0",
            "dns_xdp_interface_mode{interface=\"eth0\",mode=\"native\"} 1",
            "dns_xdp_interface_mode{interface=\"eth0\",mode=\"off\"} 0",
            "dns_xdp_interface_degraded{interface=\"eth0\"} 0",
            "dns_xdp_node_health{node=\"node2\",health=\"down\"} 1",
            "dns_xdp_node_health{node=\"node2\",health=\"up\"} 0",
            "dns_xdp_node_admin{node=\"node2\",admin=\"auto\"} 1",
            "dns_xdp_node_up{node=\"node2\"} 0",
            "dns_xdp_service_up{service=\"db1\"} 0",
            "dns_xdp_quorum_visible 1.0",
            "dns_xdp_fail_open 0.0",
            "dns_xdp_epoch 7.0",
            "dns_xdp_promised_failover_seconds 2.05",
            "dns_xdp_published_timestamp_seconds 60.0",
            "dns_xdp_reloads_total{result=\"refused\"} 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|has| has == line), "{line} is not in\n{text}");
        }
        assert!(text.contains("\ndns_xdp_lease_left_seconds 29.9"), "{text}");
    }

    #[test]
    fn a_query_is_counted_once_on_either_path() {
        assert_eq!(answered_by(&example().1), [16, 5]);
    }

    #[test]
    fn every_metric_has_one_help_that_says_something_and_no_name_is_used_twice() {
        let text = exposition();
        let mut named = BTreeSet::new();
        for line in text.lines().filter_map(|line| line.strip_prefix("# HELP ")) {
            let (name, help) = line.split_once(' ').unwrap();
            assert!(named.insert(name.to_owned()), "{name} is there twice");
            assert!(name.starts_with("dns_xdp_") && help.split(' ').count() >= 3, "{line}");
        }
        assert!(named.len() > 25, "{named:?}");
    }
}
