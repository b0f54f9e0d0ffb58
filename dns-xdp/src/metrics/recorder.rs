//! Records the loop's counters and times for the metrics. The loop never waits for a reader.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

use crate::cluster;
use crate::health::{Health, Observation, ProbeId, Subject, Target};

/// The buckets for successful probes, in seconds: from a neighbouring machine to the slowest useful timeout.
const PROBE_SECONDS: [f64; 13] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// The buckets for the time from a verdict to the kernel's table, in seconds: some milliseconds, more for a large zone.
const PUBLISH_SECONDS: [f64; 11] = [0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
/// The buckets for one turn of the loop, in seconds: microseconds for a probe, milliseconds for a decision over many
/// names. Other inputs wait meanwhile.
const LOOP_TURN_SECONDS: [f64; 10] = [0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 1.0];
/// The buckets for the time from a first failed probe to the kernel's table, in seconds. They lie around the repair
/// bound of the defaults, 2 s.
const FAILOVER_SECONDS: [f64; 12] = [0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0];

const RESULTS: [&str; 3] = ["success", "failure", "inconclusive"];
pub(super) const HEALTHS: [Health; 5] =
    [Health::Unknown, Health::Up, Health::Suspect, Health::Down, Health::Recovering];

type Labels = Vec<(&'static str, String)>;

/// Counters and times of the loop; clones share them. The labels come from the configuration.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Inner>);

/// How long a name answered a node that had failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repair {
    /// The time from the first failed probe to the answers without the node.
    pub whole: Duration,
    /// The time from the verdict that the node is down.
    pub publishing: Duration,
}

/// The probes and families of a subject.
#[derive(Debug, Default)]
struct Attended {
    kinds: BTreeSet<&'static str>,
    families: BTreeSet<cluster::Family>,
}

impl Attended {
    /// The subject as a whole, then each family of its addresses if both are probed.
    fn parts(&self) -> impl Iterator<Item = Option<cluster::Family>> {
        std::iter::once(None).chain(self.families.iter().copied().map(Some))
    }
}

#[derive(Debug)]
struct Inner {
    /// The wall clock's time at the origin.
    started: Timestamp,
    origin: Instant,
    /// The last heartbeat, in milliseconds since the origin.
    heartbeat: AtomicU64,
    live: AtomicBool,
    lease_end: Mutex<Option<Instant>>,
    attended: Mutex<BTreeMap<Subject, Attended>>,
    probes: Family<Labels, Counter>,
    probe_duration: Family<Labels, Histogram, fn() -> Histogram>,
    transitions: Family<Labels, Counter>,
    family_transitions: Family<Labels, Counter>,
    reloads: Family<Labels, Counter>,
    failover: Histogram,
    failover_publish: Histogram,
    last_publication: Gauge<f64, AtomicU64>,
    loop_turn: Histogram,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder::since(Instant::now())
    }
}

impl Recorder {
    /// Creates a recorder whose heartbeat counts from `origin`.
    pub(super) fn since(origin: Instant) -> Self {
        let reloads: Family<Labels, Counter> = Family::default();
        for result in ["ok", "refused"] {
            drop(reloads.get_or_create(&vec![("result", result.to_owned())]));
        }
        Recorder(Arc::new(Inner {
            started: Timestamp::now(),
            origin,
            heartbeat: AtomicU64::new(0),
            live: AtomicBool::new(false),
            lease_end: Mutex::default(),
            attended: Mutex::default(),
            probes: Family::default(),
            probe_duration: Family::new_with_constructor(|| Histogram::new(PROBE_SECONDS)),
            transitions: Family::default(),
            family_transitions: Family::default(),
            reloads,
            failover: Histogram::new(FAILOVER_SECONDS),
            failover_publish: Histogram::new(PUBLISH_SECONDS),
            last_publication: Gauge::default(),
            loop_turn: Histogram::new(LOOP_TURN_SECONDS),
        }))
    }

    pub(super) fn started(&self) -> Timestamp {
        self.0.started
    }

    /// Notes that core and publisher run.
    pub fn beat(&self) {
        let now = u64::try_from(self.0.origin.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.heartbeat.store(now, Ordering::Relaxed);
    }

    /// The time since the last [`Recorder::beat`].
    pub(super) fn heartbeat_age(&self) -> Duration {
        let beat = Duration::from_millis(self.0.heartbeat.load(Ordering::Relaxed));
        self.0.origin.elapsed().saturating_sub(beat)
    }

    /// Notes that the first zone is published: the loop takes commands from now on.
    pub fn go_live(&self) {
        self.0.live.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_live(&self) -> bool {
        self.0.live.load(Ordering::Relaxed)
    }

    /// Notes that the lease was renewed until `end`; `None`: it does not end.
    pub fn leased(&self, end: Option<Instant>) {
        *self.0.lease_end.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }

    /// The rest of the lease now, even if it is no longer renewed; `None`: it does not end.
    pub(super) fn lease_left(&self) -> Option<Duration> {
        let end = *self.0.lease_end.lock().unwrap_or_else(PoisonError::into_inner);
        Some(end?.saturating_duration_since(Instant::now()))
    }

    /// Sets the targets that are probed from now on. Their counters begin at zero, so that the first failure is an
    /// increase. Counters of other targets are removed.
    pub fn attend(&self, targets: &BTreeMap<ProbeId, Target>) {
        let mut wanted: BTreeMap<Subject, Attended> = BTreeMap::new();
        for (probe, target) in targets {
            let attended = wanted.entry(probe.subject.clone()).or_default();
            attended.kinds.insert(target.probe.kind.text());
            attended.families.extend(probe.family);
        }
        let mut attended = self.0.attended.lock().unwrap_or_else(PoisonError::into_inner);
        for (subject, before) in attended.iter() {
            let kept = wanted.get(subject);
            for kind in
                before.kinds.iter().filter(|kind| !kept.is_some_and(|kept| kept.kinds.contains(*kind)))
            {
                for result in RESULTS {
                    self.0.probes.remove(&probe_labels(subject, kind, Some(result)));
                }
                self.0.probe_duration.remove(&probe_labels(subject, kind, None));
            }
            let is_kept = |family: &Option<cluster::Family>| {
                kept.is_some_and(|kept| kept.parts().any(|known| known == *family))
            };
            for family in before.parts().filter(|family| !is_kept(family)) {
                for health in HEALTHS {
                    self.transitions(family).remove(&transition_labels(subject, family, health));
                }
            }
        }
        for (subject, attended) in &wanted {
            for kind in &attended.kinds {
                for result in RESULTS {
                    drop(self.0.probes.get_or_create(&probe_labels(subject, kind, Some(result))));
                }
                drop(self.0.probe_duration.get_or_create(&probe_labels(subject, kind, None)));
            }
            for family in attended.parts() {
                for health in HEALTHS {
                    drop(self.transitions(family).get_or_create(&transition_labels(subject, family, health)));
                }
            }
        }
        *attended = wanted;
    }

    /// Counts the result of one probe.
    pub fn probed(&self, subject: &Subject, kind: &'static str, observation: &Observation) {
        let result = match observation {
            Observation::Success { round_trip } => {
                let durations = self.0.probe_duration.get_or_create(&probe_labels(subject, kind, None));
                durations.observe(round_trip.as_secs_f64());
                "success"
            }
            Observation::Failure(_) => "failure",
            Observation::Inconclusive { .. } => "inconclusive",
            Observation::Overdue => return,
        };
        self.0.probes.get_or_create(&probe_labels(subject, kind, Some(result))).inc();
    }

    /// Counts a change of a subject's health, as a whole or in one address family.
    pub fn turned(&self, subject: &Subject, family: Option<cluster::Family>, to: Health) {
        self.transitions(family).get_or_create(&transition_labels(subject, family, to)).inc();
    }

    fn transitions(&self, family: Option<cluster::Family>) -> &Family<Labels, Counter> {
        if family.is_some() { &self.0.family_transitions } else { &self.0.transitions }
    }

    /// Records that a failed node is no longer in any answer.
    pub fn repaired(&self, repair: Repair) {
        self.0.failover.observe(repair.whole.as_secs_f64());
        self.0.failover_publish.observe(repair.publishing.as_secs_f64());
    }

    /// Records the time of a publication.
    pub fn published(&self, took: Duration) {
        self.0.last_publication.set(took.as_secs_f64());
    }

    /// Records the time of one turn of the loop.
    pub fn loop_turned(&self, took: Duration) {
        self.0.loop_turn.observe(took.as_secs_f64());
    }

    /// Counts a reload that is in force or was refused.
    pub fn reloaded(&self, ok: bool) {
        let result = if ok { "ok" } else { "refused" };
        self.0.reloads.get_or_create(&vec![("result", result.to_owned())]).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let Inner { probes, probe_duration, transitions, family_transitions, reloads, .. } = &*self.0;
        registry.register(
            "probes",
            "Probes of a node by kind and result; a failure is the node's, inconclusive is this server's trouble",
            probes.clone(),
        );
        registry.register_with_unit(
            "probe_duration",
            "How long successful probes took",
            Unit::Seconds,
            probe_duration.clone(),
        );
        registry.register("transitions", "How often a node's health became this", transitions.clone());
        registry.register(
            "family_transitions",
            "How often the health in one address family became this, for nodes that are probed at addresses of both families",
            family_transitions.clone(),
        );
        registry.register(
            "reloads",
            "Reloads of the configuration, by command, SIGHUP or because the file changed",
            reloads.clone(),
        );
        registry.register_with_unit(
            "failover",
            "From the first failed probe of a node until no answer has its address; the TTL that caches hold comes on top",
            Unit::Seconds,
            self.0.failover.clone(),
        );
        registry.register_with_unit(
            "failover_publish",
            "The part of dns_xdp_failover_seconds after the verdict: deciding, and writing the kernel's table",
            Unit::Seconds,
            self.0.failover_publish.clone(),
        );
        registry.register_with_unit(
            "last_publication_duration",
            "How long publishing changed answers took",
            Unit::Seconds,
            self.0.last_publication.clone(),
        );
        registry.register_with_unit(
            "loop_turn",
            "How long one turn of the controller's loop took; probes, commands and decisions wait meanwhile",
            Unit::Seconds,
            self.0.loop_turn.clone(),
        );
    }
}

fn probe_labels(subject: &Subject, kind: &str, result: Option<&str>) -> Labels {
    let mut labels = subject_labels(subject);
    labels.push(("kind", kind.to_owned()));
    labels.extend(result.map(|result| ("result", result.to_owned())));
    labels
}

fn transition_labels(subject: &Subject, family: Option<cluster::Family>, to: Health) -> Labels {
    let mut labels = subject_labels(subject);
    labels.extend(family.map(|family| ("family", family.text().to_owned())));
    labels.push(("health", to.text().to_owned()));
    labels
}

/// The labels of a subject. A witness is not a node, and has its address as label.
fn subject_labels(subject: &Subject) -> Labels {
    match subject {
        Subject::Node(node) => vec![("node", node.clone())],
        Subject::Member { service, node } => vec![("node", node.clone()), ("service", service.clone())],
        Subject::Witness(address) => vec![("witness", address.to_string())],
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::config::PROBE;

    fn text(recorder: &Recorder) -> String {
        let mut registry = Registry::with_prefix("dns_xdp");
        recorder.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        text
    }

    fn targets(nodes: &[&str]) -> BTreeMap<ProbeId, Target> {
        let target = |node: &&str| {
            let probe = ProbeId::first(Subject::Node((*node).to_owned()));
            (probe, Target { address: [192, 0, 2, 1].into(), probe: PROBE })
        };
        nodes.iter().map(target).collect()
    }

    #[test]
    fn a_probed_subject_begins_at_zero_and_is_removed_with_its_probes() {
        let recorder = Recorder::default();
        recorder.attend(&targets(&["node1", "node2"]));
        let both = text(&recorder);
        assert!(
            both.contains("dns_xdp_probes_total{node=\"node2\",kind=\"tcp\",result=\"failure\"} 0\n"),
            "{both}"
        );
        assert!(both.contains("dns_xdp_transitions_total{node=\"node2\",health=\"down\"} 0\n"), "{both}");
        recorder.attend(&targets(&["node1"]));
        let one = text(&recorder);
        assert!(!one.contains("node2") && one.contains("node1"), "{one}");
    }

    #[test]
    fn a_probe_is_counted_by_its_result_and_only_a_success_has_a_duration() {
        let (recorder, node) = (Recorder::default(), Subject::Node("node1".to_owned()));
        recorder.attend(&targets(&["node1"]));
        recorder.probed(&node, "tcp", &Observation::Success { round_trip: Duration::from_millis(3) });
        recorder.probed(&node, "tcp", &Observation::Inconclusive { reason: "no descriptors".to_owned() });
        recorder.probed(&node, "tcp", &Observation::Overdue);
        let text = text(&recorder);
        for line in [
            "dns_xdp_probes_total{node=\"node1\",kind=\"tcp\",result=\"success\"} 1",
            "dns_xdp_probes_total{node=\"node1\",kind=\"tcp\",result=\"inconclusive\"} 1",
            "dns_xdp_probe_duration_seconds_count{node=\"node1\",kind=\"tcp\"} 1",
            "dns_xdp_probe_duration_seconds_bucket{le=\"0.0025\",node=\"node1\",kind=\"tcp\"} 0",
            "dns_xdp_probe_duration_seconds_bucket{le=\"0.005\",node=\"node1\",kind=\"tcp\"} 1",
        ] {
            assert!(text.lines().any(|has| has == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_turn_of_the_loop_is_counted_by_how_long_it_took() {
        let recorder = Recorder::default();
        recorder.loop_turned(Duration::from_micros(200));
        recorder.loop_turned(Duration::from_millis(30));
        let text = text(&recorder);
        for line in [
            "dns_xdp_loop_turn_seconds_count 2",
            "dns_xdp_loop_turn_seconds_bucket{le=\"0.02\"} 1",
            "dns_xdp_loop_turn_seconds_bucket{le=\"0.05\"} 2",
        ] {
            assert!(text.lines().any(|has| has == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn heartbeat_and_lease_age_without_the_loop() {
        let recorder = Recorder::since(Instant::now() - Duration::from_secs(100));
        assert!(recorder.heartbeat_age() >= Duration::from_secs(100));
        recorder.beat();
        assert!(recorder.heartbeat_age() < Duration::from_secs(50));
        assert_eq!(recorder.lease_left(), None);
        recorder.leased(Some(Instant::now() + Duration::from_secs(30)));
        assert!(recorder.lease_left().unwrap() <= Duration::from_secs(30));
        recorder.leased(Some(Instant::now() - Duration::from_secs(1)));
        assert_eq!(recorder.lease_left(), Some(Duration::ZERO));
    }
}
