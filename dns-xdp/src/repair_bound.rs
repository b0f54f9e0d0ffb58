//! The guaranteed repair time: how long a dead node can be in the answers and in the caches, part by part.
use std::fmt::Write as _;
use std::time::Duration;

use crate::cluster::{HealthCheck, Probe};
use crate::config::Config;
use crate::control::api::RepairBound;

/// Estimate of the kernel's time to release the old table. It takes 10 ms, or 40 ms on a busy machine.
const PUBLISH_AT_LEAST: Duration = Duration::from_millis(50);
/// Estimate of the time for each changed name: 60,000 names took 190 ms to 470 ms.
const PUBLISH_A_NAME: Duration = Duration::from_micros(10);

/// Returns the bound of a configuration with this many names in its zone. `measured`: how long its publication took.
pub fn repair_bound(config: &Config, names: usize, measured: Option<Duration>) -> RepairBound {
    let nodes = config.cluster.nodes.iter().filter(|node| node.is_probed());
    let nodes = nodes.map(|node| (node.name.clone(), &node.health));
    let services = config.cluster.services.iter();
    let services =
        services.filter_map(|service| Some((format!("service {}", service.name), service.health.as_ref()?)));
    let checks: Vec<(String, &HealthCheck)> = nodes.chain(services).collect();
    let times = || checks.iter().map(|(_, check)| check.time_to_detect());
    let (detect, least) = (times().max().unwrap_or_default(), times().min().unwrap_or_default());
    let slowest = checks.iter().find(|(_, check)| check.time_to_detect() == detect);
    let probe =
        slowest.and_then(|(_, check)| check.probes.iter().find(|probe| probe.time_to_detect() == detect));
    let names = u32::try_from(names).unwrap_or(u32::MAX);
    let publish = measured.unwrap_or_else(|| PUBLISH_AT_LEAST + PUBLISH_A_NAME * names);
    RepairBound {
        detect_ms: milliseconds(detect),
        detect_by: probe.map(sum).unwrap_or_default(),
        slowest: slowest.filter(|_| least < detect).map(|(name, _)| name.clone()),
        publish_ms: milliseconds(publish),
        publish_measured: measured.is_some(),
        ttl_seconds: config.zone.ttl_seconds,
    }
}

/// Returns the summands of [`Probe::time_to_detect`] as text.
fn sum(probe: &Probe) -> String {
    let periods = [probe.interval, probe.fast_interval, probe.timeout].map(humantime::format_duration);
    let [interval, fast_interval, timeout] = periods;
    format!("interval {interval} + {} · fast-interval {fast_interval} + timeout {timeout}", probe.fall - 1)
}

/// Returns the milliseconds, rounded up so that the bound holds.
fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

/// Returns the text for the operator: the sum, and a line for each part.
pub fn in_words(repair_bound: &RepairBound) -> String {
    let RepairBound { detect_ms, detect_by, slowest, publish_ms, publish_measured, ttl_seconds } =
        repair_bound;
    let [detect, publish] = [*detect_ms, *publish_ms].map(Duration::from_millis);
    let ttl = Duration::from_secs((*ttl_seconds).into());
    let time = humantime::format_duration;
    let slowest = slowest.as_ref().map(|name| format!(" ({name}, the slowest)")).unwrap_or_default();
    let publish_by = if *publish_measured { "measured when they changed last" } else { "an estimate" };
    let mut text = format!(
        "a dead node is in no answer after {}, in no cache after {}\n",
        time(detect + publish),
        time(detect + publish + ttl)
    );
    let mut part = |what: &str, within: Duration, by: &str| {
        writeln!(text, "  {what} {}: {by}", time(within)).expect("a string takes every line");
    };
    part("found out within", detect, &format!("{detect_by}{slowest}"));
    part("answers changed within", publish, publish_by);
    part("forgotten by caches after", ttl, "the TTL");
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const TEXT: &str = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                        [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n[[node]]\nname = \"node2\"\nipv4 = \"192.0.2.12\"\n";

    fn told(text: &str, measured: Option<Duration>) -> String {
        in_words(&repair_bound(&Config::parse(text, Path::new("f")).unwrap(), 1000, measured))
    }

    #[test]
    fn the_parts_add_up_to_the_promise() {
        let expected = "\
a dead node is in no answer after 2s 60ms, in no cache after 7s 60ms
  found out within 2s: interval 1s + 2 · fast-interval 250ms + timeout 500ms
  answers changed within 60ms: an estimate
  forgotten by caches after 5s: the TTL
";
        assert_eq!(told(TEXT, None), expected);
        let measured = told(TEXT, Some(Duration::from_micros(2_100)));
        assert!(
            measured.contains("  answers changed within 3ms: measured when they changed last\n"),
            "{measured}"
        );
    }

    #[test]
    fn the_slowest_is_named_when_they_differ() {
        let slow = format!("{TEXT}[node.health]\nfall = 5\n");
        let told_slow = told(&slow, None);
        assert!(
            told_slow.contains(
                "within 2s 500ms: interval 1s + 4 · fast-interval 250ms + timeout 500ms (node2, the slowest)"
            ),
            "{told_slow}"
        );
        let service = "[[service]]\nname = \"db\"\nnodes = [\"node1\"]\n[service.health]\ntimeout = \"3s\"\n";
        let told_service = told(&format!("{TEXT}{service}"), None);
        assert!(told_service.contains("timeout 3s (service db, the slowest)"), "{told_service}");
    }
}
