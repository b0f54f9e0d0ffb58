//! The metrics as text. Their labels have few values, and none comes from a query.
use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode as encode_registry;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::control::api::{Stats, Status};
use crate::health::Health;

const PREFIX: &str = "dns_xdp";
const HEALTHS: [Health; 5] = [Health::Unknown, Health::Up, Health::Suspect, Health::Down, Health::Recovering];

/// OpenMetrics text, ended as it has to be.
pub(super) fn encode(status: Status, stats: Stats) -> String {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape { status, stats }));
    let mut text = String::new();
    encode_registry(&mut text, &registry).expect("a string takes every line");
    text
}

#[derive(Debug)]
struct Scrape {
    status: Status,
    stats: Stats,
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Scrape { status, stats } = self;
        counters(
            &mut encoder,
            "packets",
            "Packets by what the program did with them.",
            "outcome",
            &stats.xdp,
        )?;
        counters(&mut encoder, "responses", "Responses of userspace.", "rcode", &stats.responder)?;
        for (name, count) in &stats.controller {
            let (name, help) = (name.replace('-', "_"), format!("Of the controller: {name}."));
            let counter = ConstCounter::new(*count);
            counter.encode(encoder.encode_descriptor(&name, &help, None, counter.metric_type())?)?;
        }
        let modes = status.interfaces.iter();
        let modes = modes.map(|it| ([("interface", &*it.name), ("mode", &*it.mode)], 1));
        gauges(&mut encoder, "interface_mode", "1 for the mode in force.", modes)?;
        let healths = status.nodes.iter().flat_map(|node| {
            HEALTHS.map(|health| {
                let health = health.text();
                ([("node", &*node.name), ("health", health)], i64::from(node.health == health))
            })
        });
        gauges(&mut encoder, "node_health", "1 for what the probes say.", healths)?;
        let up = status.nodes.iter().map(|node| ([("node", &*node.name)], i64::from(node.effective == "up")));
        gauges(&mut encoder, "node_up", "1 if the node is in the answers.", up)?;
        totals(&mut encoder, status)
    }
}

/// Without labels.
fn totals(encoder: &mut DescriptorEncoder<'_>, status: &Status) -> fmt::Result {
    let quorum = &status.quorum;
    let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let published = status.published.map_or(0, |published| published.as_second());
    let totals = [
        ("quorum_visible", "Nodes and witnesses that answered anything.", whole(quorum.visible)),
        ("quorum_needed", "Nodes and witnesses that have to be visible.", whole(quorum.needed)),
        ("frozen", "1 while the answers stay as they are.", i64::from(status.frozen.is_some())),
        ("fail_open", "1 while dead addresses are answered, for no node is up.", i64::from(status.fail_open)),
        ("epoch", "Of the configuration; servers that agree have the same.", i64::from(status.epoch)),
        ("published_timestamp_seconds", "When the answers changed last.", published),
        ("alarms", "What `dns-xdp status` wants looked at.", whole(status.alarms.len())),
    ];
    for (name, help, value) in totals {
        gauges(encoder, name, help, [([("", ""); 0], value)].into_iter())?;
    }
    Ok(())
}

fn counters(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    counts: &BTreeMap<String, u64>,
) -> fmt::Result {
    let kind = ConstCounter::new(0u64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (text, count) in counts {
        ConstCounter::new(*count).encode(family.encode_family(&[(label, &**text)])?)?;
    }
    Ok(())
}

fn gauges<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl Iterator<Item = ([(&'a str, &'a str); N], i64)>,
) -> fmt::Result {
    let kind = ConstGauge::new(0i64).metric_type();
    let mut family = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, value) in values {
        if N == 0 {
            return ConstGauge::new(value).encode(family);
        }
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::metrics) fn example() -> (Status, Stats) {
        let status = serde_json::json!({
            "zone": "demo.example.com.", "epoch": 7, "version": "0.1.0", "pid": 42, "uptime_seconds": 61,
            "config": "f", "fail_open": false, "frozen": null, "up_to_date": true,
            "interfaces": [{"name": "eth0", "mode": "native", "reason": null}],
            "quorum": {"visible": 1, "needed": 2, "ok": false},
            "promise": {"detect_ms": 2000, "ttl_seconds": 5},
            "lease": {"stale_after_ms": 30000, "left_ms": 29500},
            "alarms": [], "published": "1970-01-01T00:01:00Z",
            "nodes": [{"name": "node2", "ipv4": "192.0.2.12", "ipv6": null, "admin": "auto",
                "health": "down", "effective": "down", "answers": ["192.0.2.11"],
                "since": "2024-05-01T10:00:00Z", "reason": "refused"}],
        });
        let counts = |name: &str, count| BTreeMap::from([(name.to_owned(), count)]);
        let stats = Stats {
            xdp: counts("answered", 12),
            responder: counts("NXDOMAIN", 3),
            controller: counts("publication-failures", 1),
        };
        (serde_json::from_value(status).unwrap(), stats)
    }

    #[test]
    fn every_number_an_alert_needs_is_there() {
        let (status, stats) = example();
        let text = encode(status, stats);
        for line in [
            "dns_xdp_packets_total{outcome=\"answered\"} 12",
            "dns_xdp_responses_total{rcode=\"NXDOMAIN\"} 3",
            "dns_xdp_publication_failures_total 1",
            "dns_xdp_interface_mode{interface=\"eth0\",mode=\"native\"} 1",
            "dns_xdp_node_health{node=\"node2\",health=\"down\"} 1",
            "dns_xdp_node_health{node=\"node2\",health=\"up\"} 0",
            "dns_xdp_node_up{node=\"node2\"} 0",
            "dns_xdp_quorum_visible 1",
            "dns_xdp_fail_open 0",
            "dns_xdp_epoch 7",
            "dns_xdp_published_timestamp_seconds 60",
            "# EOF",
        ] {
            assert!(text.lines().any(|has| has == line), "{line} is not in\n{text}");
        }
    }
}
