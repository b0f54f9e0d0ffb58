//! Whether a node is healthy: probes, which are effects, and the verdict, which is pure.
//!
//! The [`Prober`] runs the probes and sends a [`Report`] of each; whoever receives them keeps the
//! [`Verdict`]s and gives the rate that they ask for back with [`Prober::pace`].
mod probe;
mod verdict;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use probe::probe;
pub use verdict::{Failure, Health, Observation, Transition, Verdict};

use crate::cluster::{Node, Probe};

/// Who is probed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A node, by its name.
    Node(String),
    /// A witness of the quorum: only its visibility counts.
    Witness(IpAddr),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Node(name) => f.pad(name),
            Subject::Witness(address) => write!(f, "witness {address}"),
        }
    }
}

/// What one probe found out.
#[derive(Debug, Clone)]
pub struct Report {
    /// Who was probed.
    pub subject: Subject,
    /// Which start of its probes this belongs to: [`Prober::is_current`].
    start: u64,
    /// When the probe ended, since the prober's origin.
    pub at: Duration,
    /// What it found out.
    pub observation: Observation,
}

/// Probes every node and witness, each in a task of its own with never more than one probe under way.
/// Dropping it ends the probes.
#[derive(Debug)]
pub struct Prober {
    origin: Instant,
    reports: mpsc::Sender<Report>,
    tasks: BTreeMap<Subject, Task>,
    starts: u64,
}

/// Where and how a subject is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub address: IpAddr,
    /// How.
    pub probe: Probe,
}

/// Who is to be probed. Witnesses are asked what the first node is asked: one that refuses the connection is
/// as good a witness as one that takes it.
pub fn targets(nodes: &[Node], witnesses: &[IpAddr]) -> BTreeMap<Subject, Target> {
    let target = |address, node: &Node| Target { address, probe: node.probe.clone() };
    let of_node = |node: &Node| (Subject::Node(node.name.clone()), target(node.probe_address(), node));
    let of_witness =
        |&address: &IpAddr| nodes.first().map(|first| (Subject::Witness(address), target(address, first)));
    nodes.iter().map(of_node).chain(witnesses.iter().filter_map(of_witness)).collect()
}

impl Prober {
    /// Probes nothing yet. The times in the reports count from `origin`.
    pub fn new(origin: Instant, reports: mpsc::Sender<Report>) -> Self {
        Prober { origin, reports, tasks: BTreeMap::new(), starts: 0 }
    }

    /// Probes these from now on, and no others. Who has neither address nor probe changed is left alone; who
    /// is new or changed is probed at once.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn reconcile(&mut self, targets: &BTreeMap<Subject, Target>) {
        self.tasks.retain(|subject, task| targets.get(subject) == Some(&task.target));
        for (subject, target) in targets {
            if !self.tasks.contains_key(subject) {
                let task = self.start(subject.clone(), target.clone());
                self.tasks.insert(subject.clone(), task);
            }
        }
    }

    /// Whether a report is about its subject as it is probed now. One that was under way when the subject was
    /// changed or removed is not.
    pub fn is_current(&self, report: &Report) -> bool {
        self.tasks.get(&report.subject).is_some_and(|task| task.start == report.start)
    }

    /// Gives every probe the rate that its verdict asks for; to be called after each observation.
    ///
    /// While any of them is suspect all are probed fast. A server that has lost its network thus sees that it
    /// is alone before it declares the first node down (with `fall` at three or more).
    pub fn pace(&self, verdicts: &BTreeMap<Subject, Verdict>) {
        for (subject, delay) in delays(verdicts) {
            if let Some(task) = self.tasks.get(subject) {
                task.delay.send_if_modified(|current| std::mem::replace(current, delay) != delay);
            }
        }
    }

    fn start(&mut self, subject: Subject, target: Target) -> Task {
        self.starts += 1;
        let start = self.starts;
        let (delay, pace) = watch::channel(target.probe.interval);
        let rounds = Rounds { origin: self.origin, reports: self.reports.clone(), subject, start, pace };
        Task { handle: tokio::spawn(rounds.run(target.clone())), start, delay, target }
    }
}

fn delays(verdicts: &BTreeMap<Subject, Verdict>) -> impl Iterator<Item = (&Subject, Duration)> {
    let suspicion = verdicts.values().any(|verdict| verdict.health() == Health::Suspect);
    let delay = move |verdict: &Verdict| if suspicion { verdict.fast_delay() } else { verdict.next_delay() };
    verdicts.iter().map(move |(subject, verdict)| (subject, delay(verdict)))
}

#[derive(Debug)]
struct Task {
    target: Target,
    start: u64,
    delay: watch::Sender<Duration>,
    handle: JoinHandle<()>,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// The probes of one subject, one after the other.
struct Rounds {
    origin: Instant,
    reports: mpsc::Sender<Report>,
    subject: Subject,
    start: u64,
    pace: watch::Receiver<Duration>,
}

impl Rounds {
    async fn run(mut self, target: Target) {
        // The first probe is made at once; a first pause of random length then keeps the nodes' probes apart.
        let mut share = random_share();
        loop {
            let start = Instant::now();
            let observation = probe(&target.probe, target.address).await;
            let at = self.origin.elapsed();
            let report = Report { subject: self.subject.clone(), start: self.start, at, observation };
            if self.reports.send(report).await.is_err() || self.rest(start, share).await.is_err() {
                return;
            }
            share = 1.0;
        }
    }

    /// Waits until `share` of the delay has passed since `start`. The promise of a detection time holds
    /// because delays run from start to start, and because a delay that is changed meanwhile counts at once.
    async fn rest(&mut self, start: Instant, share: f64) -> Result<(), watch::error::RecvError> {
        loop {
            let due = start + self.pace.borrow_and_update().mul_f64(share);
            tokio::select! {
                () = tokio::time::sleep_until(due) => return Ok(()),
                changed = self.pace.changed() => changed?,
            }
        }
    }
}

/// A number from 0 to 1, other on every server: the standard library's hash seeds are random.
fn random_share() -> f64 {
    f64::from(RandomState::new().hash_one(0) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ProbeKind;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, TcpListener};

    const SLOW: Duration = Duration::from_secs(3600);
    const FAST: Duration = Duration::from_millis(20);

    fn probe_of(port: u16, interval: Duration) -> Probe {
        let timeout = Duration::from_millis(500);
        Probe { kind: ProbeKind::Tcp, port, interval, fast_interval: FAST, timeout, fall: 3, rise: 2 }
    }

    fn node(name: &str, port: u16) -> Node {
        Node {
            name: name.to_owned(),
            ipv4: Some(Ipv4Addr::LOCALHOST),
            ipv6: None,
            ns: format!("ns-{name}"),
            backup: Vec::new(),
            probe: probe_of(port, SLOW),
        }
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

    /// Everything that is reported until nothing has been for a while.
    async fn drain(received: &mut mpsc::Receiver<Report>) -> Vec<Report> {
        let mut reports = Vec::new();
        while let Ok(Some(report)) = tokio::time::timeout(Duration::from_millis(200), received.recv()).await {
            reports.push(report);
        }
        reports
    }

    #[tokio::test]
    async fn every_node_and_witness_is_probed_at_once() {
        let (_listener, port) = listener();
        let (mut prober, mut received) = prober();
        prober
            .reconcile(&targets(&[node("node1", port), node("node2", port)], &[Ipv4Addr::LOCALHOST.into()]));
        let mut subjects: Vec<_> =
            drain(&mut received).await.into_iter().map(|report| report.subject).collect();
        subjects.sort();
        let [node1, node2] = ["node1", "node2"].map(|name| Subject::Node(name.to_owned()));
        assert_eq!(subjects, [node1, node2, Subject::Witness(Ipv4Addr::LOCALHOST.into())]);
    }

    #[tokio::test]
    async fn only_nodes_that_are_new_or_changed_are_probed_anew() {
        let (_listener, port) = listener();
        let (mut prober, mut received) = prober();
        prober.reconcile(&targets(&[node("node1", port), node("node2", port)], &[]));
        let before = drain(&mut received).await;
        let moved = Node { ipv4: Some(Ipv4Addr::new(127, 0, 0, 2)), ..node("node2", port) };
        prober.reconcile(&targets(&[node("node1", port), moved], &[]));
        let reports = drain(&mut received).await;
        let [report] = reports.as_slice() else { panic!("{reports:?}") };
        assert_eq!(report.subject, Subject::Node("node2".to_owned()));
        assert!(prober.is_current(report));
        let current = before.iter().filter(|report| prober.is_current(report));
        assert_eq!(current.map(|report| report.subject.to_string()).collect::<Vec<_>>(), ["node1"]);
        prober.reconcile(&targets(&[], &[]));
        assert!(drain(&mut received).await.is_empty() && prober.tasks.is_empty());
    }

    #[tokio::test]
    async fn a_shorter_delay_counts_at_once() {
        let (closed, port) = listener();
        drop(closed);
        let (mut prober, mut received) = prober();
        prober.reconcile(&targets(&[node("node1", port)], &[]));
        let first = received.recv().await.unwrap();
        let mut verdict = Verdict::new(&node("node1", port).probe);
        verdict.observe(Duration::ZERO, &Observation::Success { round_trip: Duration::ZERO });
        verdict.observe(first.at, &first.observation);
        assert_eq!(verdict.health(), Health::Suspect);
        prober.pace(&BTreeMap::from([(first.subject, verdict)]));
        let second = tokio::time::timeout(Duration::from_secs(2), received.recv()).await.unwrap().unwrap();
        assert!(second.at - first.at < Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_prober_that_is_dropped_probes_no_more() {
        let (_listener, port) = listener();
        let (mut prober, mut received) = prober();
        prober.reconcile(&targets(&[node("node1", port)], &[]));
        drain(&mut received).await;
        drop(prober);
        assert!(received.recv().await.is_none());
    }

    /// Cuts a server off from nodes whose last successful probes started `ages` before, and tells how many
    /// nodes it still sees when it declares the first one down.
    fn still_visible_at_first_down(probe: &Probe, ages: &[u64]) -> usize {
        const TICK: Duration = Duration::from_millis(1);
        let silence = Observation::Failure(Failure { reason: "timeout".to_owned(), visible: false });
        let mut verdict = Verdict::new(probe);
        verdict.observe(Duration::ZERO, &Observation::Success { round_trip: Duration::ZERO });
        let subjects = (0..ages.len()).map(|index| Subject::Node(index.to_string()));
        let mut verdicts: BTreeMap<_, _> = subjects.map(|subject| (subject, verdict.clone())).collect();
        let mut starts: Vec<_> = ages.iter().map(|&age| SLOW - Duration::from_millis(age)).collect();
        let mut under_way = vec![false; ages.len()];
        let mut now = SLOW;
        loop {
            for (index, verdict) in verdicts.values_mut().enumerate() {
                if under_way[index] && now >= starts[index] + probe.timeout {
                    under_way[index] = false;
                    verdict.observe(now, &silence);
                }
            }
            if verdicts.values().any(|verdict| verdict.health() == Health::Down) {
                return verdicts.values().filter(|verdict| verdict.visible()).count();
            }
            for (index, (_, delay)) in delays(&verdicts).enumerate() {
                if !under_way[index] && now >= starts[index] + delay {
                    under_way[index] = true;
                    starts[index] = now;
                }
            }
            now += TICK;
        }
    }

    proptest! {
        #[test]
        fn a_server_that_is_cut_off_sees_nobody_when_it_declares_the_first_node_down(
            ages in proptest::collection::vec(0u64..1000, 2..8),
            fast in 1u64..=1000, timeout in 1u64..1000, fall in 3u32..6,
        ) {
            let [fast_interval, timeout] = [fast, timeout].map(Duration::from_millis);
            let probe = Probe { fast_interval, timeout, fall, ..probe_of(6379, Duration::from_secs(1)) };
            prop_assert_eq!(still_visible_at_first_down(&probe, &ages), 0);
        }
    }
}
