//! Decides whether a node is healthy: probes observe the node, and a pure verdict judges the observations.
//!
//! The [`Prober`] runs the probes and sends a [`Report`] of each. The receiver keeps the [`Verdict`]s and sets the rate
//! that they need with [`Prober::pace`].
mod clock_guard;
mod in_step;
pub(crate) mod probe;
pub(crate) mod schedule;
mod subject_health;
mod targets;
mod verdict;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::Instant;

pub use clock_guard::{CLEAN_ROUNDS, ClockGuard};
pub(crate) use in_step::{Alone, in_step};
pub use probe::{Peer, probe};
pub(crate) use subject_health::best_and_worst;
pub use subject_health::{FamilyHealth, SubjectHealth};
pub use targets::{Target, of_witness, targets};
pub use verdict::{Failure, Health, Observation, Pace, Transition, Verdict};

use self::schedule::Schedule;
use crate::cluster::{Family, Probe};

/// The time that a probe has to end after its timeout.
const PROBE_OVERRUN: Duration = Duration::from_secs(1);

/// A subject of probes: a node, a member of a service or a witness.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A node, by its name.
    Node(String),
    /// A node as a member of a service with its own probes.
    Member {
        /// The service's name.
        service: String,
        /// The node's name.
        node: String,
    },
    /// A witness of the quorum: only its visibility counts.
    Witness(IpAddr),
}

impl Subject {
    /// The name of the node that is probed; `None`: the subject is a witness.
    pub fn node(&self) -> Option<&str> {
        match self {
            Subject::Node(node) | Subject::Member { node, .. } => Some(node),
            Subject::Witness(_) => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Node(name) => f.pad(name),
            Subject::Member { service, node } => write!(f, "{node} for {service}"),
            Subject::Witness(address) => write!(f, "witness {address}"),
        }
    }
}

/// One of the probes of a subject.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId {
    /// The subject that is probed.
    pub subject: Subject,
    /// The number of the probe among the subject's probes, from 0.
    pub index: usize,
    /// The family of the probed address, if the subject is probed at addresses of both; `None`: the probe is about the
    /// whole subject.
    pub family: Option<Family>,
}

impl ProbeId {
    /// The first probe of a subject with one address.
    pub fn first(subject: Subject) -> ProbeId {
        ProbeId { subject, index: 0, family: None }
    }

    /// All probes of a subject, in the order of probe identities.
    pub fn all_of(subject: &Subject) -> RangeInclusive<ProbeId> {
        let first = ProbeId::first(subject.clone());
        let last = ProbeId { index: usize::MAX, family: Some(Family::Ipv6), ..first.clone() };
        first..=last
    }
}

/// The result of one attempt of a probe.
#[derive(Debug, Clone)]
pub struct Report {
    /// The probe that was made.
    pub probe: ProbeId,
    /// The number of the probe's task, which tells whether the report [is current](Prober::is_current).
    start: u64,
    /// The time that the report is about, since the prober's origin.
    pub at: Duration,
    /// The observation.
    pub observation: Observation,
}

/// Probes every node and witness, each in its own task. Dropping the prober ends the probes.
#[derive(Debug)]
pub struct Prober {
    origin: Instant,
    reports: mpsc::Sender<Report>,
    tasks: BTreeMap<ProbeId, Task>,
    starts: u64,
}

impl Prober {
    /// Creates a prober that probes nothing yet. The times in the reports count from `origin`.
    pub fn new(origin: Instant, reports: mpsc::Sender<Report>) -> Self {
        Prober { origin, reports, tasks: BTreeMap::new(), starts: 0 }
    }

    /// Probes these targets from now on, and no others. A target with the same address and probe keeps its task. A new
    /// or changed target is probed at once.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn reconcile(&mut self, targets: &BTreeMap<ProbeId, Target>) {
        self.tasks.retain(|probe, task| targets.get(probe) == Some(&task.target));
        for (probe, target) in targets {
            if !self.tasks.contains_key(probe) {
                let schedule = Schedule::new(target.probe.fast_interval, random_share());
                let task = self.start(probe.clone(), target.clone(), schedule);
                self.tasks.insert(probe.clone(), task);
            }
        }
    }

    /// Abandons every attempt under way. Each probe continues within its interval, so that a starved machine does not
    /// get more work at once.
    pub fn restart(&mut self) {
        let now = self.origin.elapsed();
        for (probe, task) in std::mem::take(&mut self.tasks) {
            let schedule = Schedule::resumed(task.target.probe.fast_interval, random_share(), now);
            let task = self.start(probe.clone(), task.target.clone(), schedule);
            self.tasks.insert(probe, task);
        }
    }

    /// The probes that a defect of dns-xdp has ended. They are made again after [`Prober::restart`].
    pub fn ended(&self) -> Vec<ProbeId> {
        let ended = self.tasks.iter().filter(|(_, task)| task.handle.is_finished());
        ended.map(|(probe, _)| probe.clone()).collect()
    }

    /// Whether a report is about the present target of its subject. Returns `false` for a report from before the
    /// subject was changed or removed.
    pub fn is_current(&self, report: &Report) -> bool {
        self.tasks.get(&report.probe).is_some_and(|task| task.start == report.start)
    }

    /// Sets the pace of the next attempts of a probe.
    pub fn pace(&self, probe: &ProbeId, pace: Pace) {
        if let Some(task) = self.tasks.get(probe) {
            task.orders.send_if_modified(|orders| std::mem::replace(&mut orders.pace, pace) != pace);
        }
    }

    /// Lets a probe continue after its report was taken. Call it after [`Prober::pace`], so that the next attempt is
    /// made at the new pace.
    pub fn heard(&self, report: &Report) {
        if let Some(task) = self.tasks.get(&report.probe).filter(|task| task.start == report.start) {
            task.orders.send_modify(|orders| orders.heard += 1);
        }
    }

    fn start(&mut self, probe: ProbeId, target: Target, schedule: Schedule) -> Task {
        self.starts += 1;
        let start = self.starts;
        let Probe { interval: delay, timeout, .. } = target.probe;
        let (sender, orders) = watch::channel(Orders { pace: Pace { delay, timeout }, heard: 0 });
        let rounds = Rounds {
            origin: self.origin,
            reports: self.reports.clone(),
            reported: 0,
            probe,
            start,
            orders,
            schedule,
        };
        Task { handle: tokio::spawn(rounds.run(target.clone())), start, orders: sender, target }
    }
}

#[derive(Debug)]
struct Task {
    target: Target,
    start: u64,
    orders: watch::Sender<Orders>,
    handle: JoinHandle<Result<(), Unheard>>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// The orders to a probe's task.
#[derive(Debug, Clone, Copy)]
struct Orders {
    pace: Pace,
    /// The number of its reports that were taken.
    heard: u64,
}

/// The task of one probe, which makes attempt after attempt.
struct Rounds {
    origin: Instant,
    reports: mpsc::Sender<Report>,
    probe: ProbeId,
    start: u64,
    orders: watch::Receiver<Orders>,
    reported: u64,
    schedule: Schedule,
}

/// The error that the receiver of the reports was dropped.
#[derive(Debug)]
struct Unheard;

impl Rounds {
    async fn run(mut self, target: Target) -> Result<(), Unheard> {
        let Target { address, probe: Probe { kind, .. } } = target;
        // The attempt has its own task, so that a defect in one probe does not end all probes. At most one is under
        // way.
        let mut attempt = JoinSet::new();
        loop {
            // A changed pace counts at once; otherwise the guaranteed detection time would not hold.
            let Orders { pace: Pace { delay, timeout }, heard } = *self.orders.borrow_and_update();
            let due = self.schedule.due(delay).filter(|_| heard == self.reported);
            let overdue = self.schedule.overdue();
            tokio::select! {
                biased;
                Some(ended) = attempt.join_next() => {
                    self.schedule.end();
                    self.report(ended.unwrap_or_else(|error| defect(&error))).await?;
                }
                changed = self.orders.changed() => changed.map_err(|_| Unheard)?,
                () = until(self.origin, overdue) => {
                    self.schedule.doubt();
                    self.report(Observation::Overdue).await?;
                }
                () = until(self.origin, due) => {
                    self.schedule.start(self.origin.elapsed());
                    let (kind, subject) = (kind.clone(), self.probe.subject.clone());
                    attempt.spawn(async move {
                        let peer = Peer { subject: &subject, address };
                        bounded(probe(&kind, peer, timeout), timeout).await
                    });
                }
            }
        }
    }

    async fn report(&mut self, observation: Observation) -> Result<(), Unheard> {
        let (probe, at) = (self.probe.clone(), self.origin.elapsed());
        self.reported += 1;
        let report = Report { probe, start: self.start, at, observation };
        self.reports.send(report).await.map_err(|_| Unheard)
    }
}

/// Bounds the time of a probe. A probe that exceeds its timeout is a defect of dns-xdp and tells nothing about the
/// node.
async fn bounded(probe: impl Future<Output = Observation>, timeout: Duration) -> Observation {
    let ended = tokio::time::timeout(timeout + PROBE_OVERRUN, probe).await;
    ended.unwrap_or_else(|_| Observation::Inconclusive { reason: "the probe does not end".to_owned() })
}

fn defect(error: &JoinError) -> Observation {
    Observation::Inconclusive { reason: format!("the probe ended in a defect of dns-xdp: {error}") }
}

async fn until(origin: Instant, moment: Option<Duration>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(origin + moment).await,
        None => std::future::pending().await,
    }
}

/// Returns a random number from 0 to 1, which differs on every server. The hash seeds of the standard library are
/// random.
fn random_share() -> f64 {
    f64::from(RandomState::new().hash_one(0) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Cluster, FamilyRule, HealthCheck, Node, ProbeKind, Require};
    use crate::config::PROBE;
    use std::net::{Ipv4Addr, TcpListener};

    pub(super) const SLOW: Duration = Duration::from_secs(3600);
    const FAST: Duration = Duration::from_millis(20);

    pub(super) fn probe_of(port: u16, interval: Duration) -> Probe {
        Probe { kind: ProbeKind::Tcp { port }, interval, fast_interval: FAST, ..PROBE }
    }

    pub(super) fn node(name: &str, port: u16) -> Node {
        Node {
            name: name.to_owned(),
            ipv4: Some(Ipv4Addr::LOCALHOST),
            ipv6: None,
            ns: Some(format!("ns-{name}")),
            is_voter: true,
            is_in_apex: true,
            backup: Vec::new(),
            weight: 1,
            sets: BTreeMap::new(),
            health: HealthCheck {
                probes: vec![probe_of(port, SLOW)],
                require: Require::All,
                families: FamilyRule::Each,
            },
        }
    }

    pub(super) fn targets_of<const N: usize>(nodes: [Node; N]) -> BTreeMap<ProbeId, Target> {
        targets(&Cluster::new(nodes.into(), Vec::new()), &[])
    }

    fn prober() -> (Prober, mpsc::Receiver<Report>) {
        let (reports, received) = mpsc::channel(16);
        (Prober::new(Instant::now(), reports), received)
    }

    fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// Returns all reports until none has come for a while.
    async fn drain(received: &mut mpsc::Receiver<Report>) -> Vec<Report> {
        let mut reports = Vec::new();
        while let Ok(Some(report)) = tokio::time::timeout(Duration::from_millis(200), received.recv()).await {
            // A machine under load may take longer than the short intervals here.
            if report.observation != Observation::Overdue {
                reports.push(report);
            }
        }
        reports
    }

    #[tokio::test]
    async fn every_node_and_witness_is_probed_at_once() {
        let (_listener, port) = listener();
        let (mut prober, mut received) = prober();
        let nodes = vec![node("node1", port), node("node2", port)];
        let cluster = Cluster::new(nodes, Vec::new());
        prober.reconcile(&targets(&cluster, &[Ipv4Addr::LOCALHOST.into()]));
        let mut subjects: Vec<_> =
            drain(&mut received).await.into_iter().map(|report| report.probe.subject).collect();
        subjects.sort();
        let [node1, node2] = ["node1", "node2"].map(|name| Subject::Node(name.to_owned()));
        assert_eq!(subjects, [node1, node2, Subject::Witness(Ipv4Addr::LOCALHOST.into())]);
    }

    #[tokio::test]
    async fn only_nodes_that_are_new_or_changed_are_probed_anew() {
        let (_listener, port) = listener();
        let (mut prober, mut received) = prober();
        prober.reconcile(&targets_of([node("node1", port), node("node2", port)]));
        let before = drain(&mut received).await;
        let moved = Node { ipv4: Some(Ipv4Addr::new(127, 0, 0, 2)), ..node("node2", port) };
        prober.reconcile(&targets_of([node("node1", port), moved]));
        let reports = drain(&mut received).await;
        let [report] = reports.as_slice() else { panic!("{reports:?}") };
        assert_eq!(report.probe, ProbeId::first(Subject::Node("node2".to_owned())));
        assert!(prober.is_current(report));
        let current = before.iter().filter(|report| prober.is_current(report));
        assert_eq!(current.map(|report| report.probe.subject.to_string()).collect::<Vec<_>>(), ["node1"]);
        prober.reconcile(&targets_of([]));
        assert!(drain(&mut received).await.is_empty() && prober.tasks.is_empty());
    }

    #[tokio::test]
    async fn a_shorter_delay_counts_at_once() {
        let (closed, port) = listener();
        drop(closed);
        let (mut prober, mut received) = prober();
        prober.reconcile(&targets_of([node("node1", port)]));
        let first = received.recv().await.unwrap();
        let mut verdict = Verdict::new(&probe_of(port, SLOW));
        verdict.observe(Duration::ZERO, &Observation::Success { round_trip: Duration::ZERO });
        verdict.observe(first.at, &first.observation);
        assert_eq!(verdict.health(), Health::Suspect);
        prober.pace(&first.probe, verdict.pace(true));
        prober.heard(&first);
        let second = tokio::time::timeout(Duration::from_secs(2), received.recv()).await.unwrap().unwrap();
        assert!(second.at - first.at < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_restart_disowns_what_was_under_way_and_goes_on_within_the_interval() {
        let (_listener, _occupant, port) = full_listener();
        let (mut prober, mut received) = prober();
        prober.reconcile(&targets_of([node("node1", port)]));
        tokio::time::sleep(FAST).await;
        let restarted = prober.origin.elapsed();
        prober.restart();
        tokio::time::sleep(2 * FAST).await;
        while let Ok(report) = received.try_recv() {
            assert!(!prober.is_current(&report), "nothing is probed at once: {report:?}");
        }
        let timeout = probe_of(port, SLOW).timeout;
        prober.pace(&ProbeId::first(Subject::Node("node1".to_owned())), Pace { delay: FAST, timeout });
        let report = loop {
            let report = received.recv().await.unwrap();
            if prober.is_current(&report) && report.observation != Observation::Overdue {
                break report;
            }
            prober.heard(&report);
        };
        assert!(report.at >= restarted + probe_of(port, SLOW).timeout, "{report:?}");
        assert!(prober.ended().is_empty());
    }

    #[tokio::test]
    async fn a_prober_that_is_dropped_probes_no_more() {
        let (_listener, port) = listener();
        let (mut prober, mut received) = prober();
        prober.reconcile(&targets_of([node("node1", port)]));
        drain(&mut received).await;
        drop(prober);
        assert!(received.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_silent_host_is_found_out_in_a_timeout_and_some_fast_intervals() {
        let (_listener, _occupant, port) = full_listener();
        let (mut prober, mut received) = prober();
        prober.reconcile(&targets_of([node("node1", port)]));
        let probe = probe_of(port, SLOW);
        let mut verdict = Verdict::new(&probe);
        verdict.observe(Duration::ZERO, &Observation::Success { round_trip: Duration::ZERO });
        let mut seen = Vec::new();
        while verdict.serving() == Some(true) {
            let report = received.recv().await.unwrap();
            verdict.observe(report.at, &report.observation);
            prober.pace(&report.probe, verdict.pace(verdict.in_doubt()));
            prober.heard(&report);
            seen.push(report.at);
        }
        let took = *seen.last().unwrap();
        let least = probe.timeout + 2 * probe.fast_interval;
        assert!(took >= least && took < 2 * probe.timeout, "{seen:?}");
    }

    /// Opens a port whose accept queue is full, so that it answers nothing.
    fn full_listener() -> (socket2::Socket, std::net::TcpStream, u16) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let target = socket.local_addr().unwrap().as_socket().unwrap();
        let occupant = std::net::TcpStream::connect(target).unwrap();
        (socket, occupant, target.port())
    }
}
