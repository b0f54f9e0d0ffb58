//! A long sequence of faults, chosen by a seed, while two servers are asked for every name.
//!
//! The first node's daemon lives through all of it, and its memory is watched. The second node's daemon is killed and
//! replaced repeatedly. The third and fourth nodes die and come back. No fault keeps a query from the 2 servers that
//! are asked. Every query therefore has a right answer. The right answer depends on the nodes that are dead at that
//! time. The test records when each node was dead, and compares every change of the answers with that record.
use std::collections::VecDeque;
use std::env;
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use nix::sys::signal::Signal;

use super::absences::{Absence, Findings, Subject, compare};
use super::inquiry::Inquiry;
use super::link;
use super::load::{Change, Load, Pace, Tally};
use super::resources::Resources;
use super::stage::on_cluster;
use super::{Length, Row};
use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::plan::{Plan, ZONE};
use crate::bed::wait;
use crate::rng::{SEED, seed};

const NODES: usize = 4;
const STEADY: usize = 0;
const RESTLESS: usize = 1;
const VICTIMS: [usize; 2] = [2, 3];
/// The nodes that are asked.
const SERVERS: [usize; 2] = [STEADY, RESTLESS];
const TTLS: [&str; 2] = ["ttl = \"5s\"", "ttl = \"4s\""];
const TTL_MAX: u32 = 5;
/// The environment variable with the minutes of the long form, instead of an hour.
const MINUTES: &str = "DNS_XDP_SOAK_MINUTES";
/// The longest time until a server is no longer cut off by an earlier fault: it has to see nodes again.
const OBEDIENCE: Duration = Duration::from_secs(15);
/// The tolerance on top of the guaranteed time, or of a command's end.
const MARGIN: Duration = Duration::from_millis(50);
/// The most that an answer may be late because the client itself was delayed.
const HELD_UP_MAX: Duration = Duration::from_millis(200);
/// The longest time until a node or daemon is back.
const RETURN_TIMEOUT: Duration = Duration::from_secs(20);
/// The first faults, so that even a short run has deaths that have to be detected.
const FIRST: [Trouble; 2] = [Trouble::ServiceKilled, Trouble::CableOut];
/// The additional time of a run if a server was held up during all its deaths.
const OVERTIME: Duration = Duration::from_secs(60);
/// The limit of a daemon's memory growth after the first 1/10 of the run: a share, and half a MiB for the noise of an
/// allocator.
const GROWTH: f64 = 0.05;
const GROWTH_KIB: u64 = 512;

/// A fault, which is over when it has been played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    ServiceKilled,
    CableOut,
    DaemonKilled,
    DaemonRestarted,
    DaemonReplaced,
    Paused,
    Reloaded,
    Drained,
    Detached,
}

const TROUBLES: [Trouble; 9] = [
    Trouble::ServiceKilled,
    Trouble::CableOut,
    Trouble::DaemonKilled,
    Trouble::DaemonRestarted,
    Trouble::DaemonReplaced,
    Trouble::Paused,
    Trouble::Reloaded,
    Trouble::Drained,
    Trouble::Detached,
];

/// The results.
struct Soaked {
    tally: Tally,
    troubles: usize,
    absences: usize,
    findings: Findings,
    /// The resources of the steady daemon: after the first 1/10 of the time, and at the end.
    before: Resources,
    after: Resources,
    leak: Option<String>,
}

/// Plays the row.
///
/// # Errors
/// The row cannot be played.
pub fn run(length: Length) -> Result<Row> {
    let time = length.pick(Duration::from_secs(3), minutes()?);
    let seed = seed()?;
    eprintln!("soak: {SEED}={seed:#x} plays the same troubles again");
    let plan = Plan::quick(NODES as u8)
        .line("zone", TTLS[0])
        .line("health", "rise-max = 2")
        .line("health", "flap-decay = \"1s\"");
    let soaked =
        on_cluster(&plan, |cluster| soak(cluster, time, seed)).with_context(|| format!("seed {seed:#x}"))?;
    let Soaked { tally, troubles, absences, findings, before, after, leak } = soaked;
    let Findings { left, wrong } = findings;
    let result = format!(
        "seed {seed:#x}, {troubles} troubles in {} s: {}; of {absences} absences {left} had to leave a server's \
         answers in time, {} answers without or in spite of one{}; {:.1} → {:.1} MiB, {} → {} descriptors, {} → {} maps; {}",
        time.as_secs(),
        tally.text(),
        wrong.len(),
        shown(&wrong),
        mebibytes(before.memory_kib),
        mebibytes(after.memory_kib),
        before.descriptors,
        after.descriptors,
        before.maps.len(),
        after.maps.len(),
        leak.as_deref().unwrap_or("no leak"),
    );
    let allowed = (before.memory_kib as f64 * (1.0 + GROWTH)) as u64 + GROWTH_KIB;
    // A few seconds are not enough for an allocator to settle.
    let is_flat = after.descriptors <= before.descriptors
        && after.maps.len() == before.maps.len()
        && (length == Length::Short || after.memory_kib <= allowed);
    let is_right = tally.is_clean() && wrong.is_empty() && left > 0;
    Ok(Row::new(16, result, is_right && is_flat && leak.is_none()))
}

/// The first faults, in brackets.
fn shown(wrong: &[String]) -> String {
    /// The most faults that are shown.
    const MOST: usize = 5;
    if wrong.is_empty() { String::new() } else { format!(" ({})", wrong[..wrong.len().min(MOST)].join("; ")) }
}

fn minutes() -> Result<Duration> {
    let minutes: u64 = match env::var(MINUTES) {
        Ok(text) => text.parse().with_context(|| format!("{MINUTES} is no number: {text}"))?,
        Err(_) => 60,
    };
    Ok(Duration::from_secs(60 * minutes))
}

fn soak(cluster: &mut Cluster, time: Duration, seed: u64) -> Result<Soaked> {
    let mut rng = Rng::with_seed(seed);
    let load = Load::start(&cluster.client, inquiries(cluster), Pace::of(5_000))?;
    let mut ledger = Ledger { promise: cluster.nodes[STEADY].promise()?, ..Ledger::default() };
    let start = Instant::now();
    let mut held = vec![Resources::of(cluster.nodes[RESTLESS].daemon()?)?];
    let mut before = None;
    let mut troubles = 0_usize;
    let mut shown = start;
    while start.elapsed() < time || ledger.has_left() == 0 && start.elapsed() < time + OVERTIME {
        let is_first = troubles < FIRST.len();
        let trouble = if is_first { FIRST[troubles] } else { TROUBLES[rng.usize(..TROUBLES.len())] };
        let is_long = is_first || rng.bool();
        let played = play(cluster, trouble, is_long, &mut rng, &load, &mut ledger);
        played.with_context(|| format!("{trouble:?}"))?;
        ledger.changes.extend(load.take_changes());
        troubles += 1;
        held.push(Resources::of(cluster.nodes[RESTLESS].daemon()?)?);
        if before.is_none() && start.elapsed() > time / 10 {
            before = Some(at_rest(&cluster.nodes[STEADY])?);
        }
        if shown.elapsed() > Duration::from_secs(300) {
            shown = Instant::now();
            eprintln!("soak: {} s, {}", start.elapsed().as_secs(), load.so_far().text());
        }
    }
    ledger.settle(&load)?;
    ledger.changes.extend(load.take_changes());
    let findings = compare(&subjects(), &ledger.changes, &ledger.absences, Instant::now());
    let after = at_rest(&cluster.nodes[STEADY])?;
    let restless = Resources::of(cluster.nodes[RESTLESS].daemon()?)?;
    let leak = restless
        .are_all_that_is_left_of(&held, &cluster.nodes[RESTLESS].pins)
        .err()
        .map(|error| format!("{error:#}"));
    let before = before.context("no trouble was over in time")?;
    let absences = ledger.absences.len();
    Ok(Soaked { tally: load.finish()?, troubles, absences, findings, before, after, leak })
}

/// When each node was out, and every change of the answers.
#[derive(Debug, Default)]
struct Ledger {
    promise: Duration,
    absences: Vec<Absence>,
    changes: VecDeque<Change>,
}

impl Ledger {
    /// The number of absences that had to be detected in time.
    fn has_left(&self) -> usize {
        self.absences.iter().filter(|absence| absence.gone_by.is_some_and(|by| by < absence.to)).count()
    }

    /// Waits until everything is answered as configured: no node is out any more.
    ///
    /// An absence ends later than the node's return. A probe that began before the return may still fail. Its failure may
    /// be the one that completes a fall.
    fn settle(&mut self, load: &Load) -> Result<()> {
        let open = self.absences.iter().filter(|absence| absence.back.is_none());
        if let Some(last) = open.map(|absence| absence.to).max() {
            sleep((last + self.promise).saturating_duration_since(Instant::now()));
        }
        let now = Instant::now();
        for (nth, Subject { own, answers, .. }) in subjects().iter().enumerate() {
            load.becomes(nth, now, RETURN_TIMEOUT, |answer| answers[answer] == *own).context("not back")?;
        }
        let now = Instant::now();
        self.absences.iter_mut().for_each(|absence| absence.back = absence.back.or(Some(now)));
        Ok(())
    }

    /// `kill` kills a node, and later `revive` brings it back. The bound does not hold for a server that was held up
    /// meanwhile.
    fn death(
        &mut self,
        cluster: &mut Cluster,
        load: &Load,
        (node, lying): (usize, Duration),
        kill: fn(&mut Node) -> Result<()>,
        revive: fn(&mut Node) -> Result<()>,
    ) -> Result<()> {
        self.settle(load)?;
        for server in SERVERS {
            let server = &cluster.nodes[server];
            wait::until("the server trusts its timers", RETURN_TIMEOUT, || {
                let status = server.status()?;
                ensure!(status["blind"].is_null(), "{}", status["blind"]);
                Ok(())
            })?;
        }
        let before = blindness(cluster)?;
        let from = Instant::now();
        kill(&mut cluster.nodes[node])?;
        let dead = Instant::now();
        sleep(lying);
        let to = Instant::now();
        revive(&mut cluster.nodes[node])?;
        let by = dead + self.promise + MARGIN + load.so_far().held_up.min(HELD_UP_MAX);
        let after = blindness(cluster)?;
        self.absences.extend((0..SERVERS.len()).map(|server| {
            let gone_by = (before[server] == after[server]).then_some(by);
            Absence { server, node, from, gone_by, to, back: None }
        }));
        Ok(())
    }
}

/// How often each server has found that it was held up.
fn blindness(cluster: &Cluster) -> Result<[usize; 2]> {
    let mut counts = [0; 2];
    for (count, server) in counts.iter_mut().zip(SERVERS) {
        let log = fs::read_to_string(&cluster.nodes[server].log)?;
        *count = log.matches("this server was held up").count();
    }
    Ok(counts)
}

/// The resources of an idle daemon: the minimum of several looks, because each probe has a descriptor.
fn at_rest(node: &Node) -> Result<Resources> {
    let mut least = Resources::of(node.daemon()?)?;
    for _ in 0..50 {
        sleep(Duration::from_millis(10));
        let now = Resources::of(node.daemon()?)?;
        if now.descriptors < least.descriptors {
            least = now;
        }
    }
    Ok(least)
}

fn play(
    cluster: &mut Cluster,
    trouble: Trouble,
    is_long: bool,
    rng: &mut Rng,
    load: &Load,
    ledger: &mut Ledger,
) -> Result<()> {
    let a_while = Duration::from_millis(rng.u64(100..1000));
    let victim = VICTIMS[rng.usize(..VICTIMS.len())];
    // The node may be dead long enough to be detected, or not.
    let lying = if is_long { ledger.promise + HELD_UP_MAX + MARGIN + a_while } else { a_while };
    match trouble {
        Trouble::ServiceKilled => {
            let victim = (victim, lying);
            ledger.death(cluster, load, victim, Node::kill_database, Node::start_database)?;
        }
        Trouble::CableOut => {
            let pull = |node: &mut Node| node.pull_cable();
            let put_back = |node: &mut Node| node.put_cable_back();
            ledger.death(cluster, load, (victim, lying), pull, put_back)?;
        }
        Trouble::DaemonKilled => {
            cluster.nodes[RESTLESS].stop(Signal::SIGKILL)?;
            sleep(a_while);
            cluster.nodes[RESTLESS].start()?;
        }
        Trouble::DaemonRestarted => {
            cluster.nodes[RESTLESS].stop(Signal::SIGTERM)?;
            cluster.nodes[RESTLESS].start()?;
        }
        Trouble::DaemonReplaced => cluster.nodes[RESTLESS].replace()?,
        Trouble::Paused => {
            cluster.nodes[STEADY].signal(Signal::SIGSTOP)?;
            sleep(a_while);
            cluster.nodes[STEADY].signal(Signal::SIGCONT)?;
        }
        Trouble::Reloaded => {
            let node = &cluster.nodes[STEADY];
            let [from, to] = if node.config_text()?.contains(TTLS[0]) { TTLS } else { [TTLS[1], TTLS[0]] };
            node.edit_config(from, to)?;
            node.cli_ok(&["reload"])?;
        }
        Trouble::Drained => {
            let name = cluster.nodes[victim].name.clone();
            ledger.settle(load)?;
            let from = Instant::now();
            obeyed(&cluster.nodes[STEADY], &["node", "drain", &name, "--force"])?;
            // No other server has the intent.
            let (server, node, gone_by) = (0, victim, Some(Instant::now() + MARGIN));
            sleep(a_while);
            let to = Instant::now();
            obeyed(&cluster.nodes[STEADY], &["node", "auto", &name])?;
            ledger.absences.push(Absence { server, node, from, gone_by, to, back: None });
        }
        Trouble::Detached => {
            link::detach(&cluster.nodes[STEADY])?;
            link::in_kernel(&cluster.nodes[STEADY])?;
        }
    }
    Ok(())
}

/// Gives a command, repeatedly while the answers are frozen.
fn obeyed(node: &Node, command: &[&str]) -> Result<()> {
    wait::until("the command is obeyed", OBEDIENCE, || node.cli_ok(command))?;
    Ok(())
}

/// The subjects of the inquiries, in order.
fn subjects() -> Vec<Subject> {
    let all = (1 << NODES) - 1;
    let of_server = |server| {
        let alone: Vec<usize> = (0..NODES).map(|node| 1 << node).collect();
        let name = move |node: usize| Subject { server, own: 1_usize << node, answers: alone.clone() };
        (0..NODES).map(name).chain([Subject { server, own: all, answers: (1..=all).collect() }])
    };
    (0..SERVERS.len()).flat_map(of_server).collect()
}

/// Queries to either server for every node's name and for the apex. A node's name has any node's address. The apex has
/// the addresses of some nodes. The right answer depends on the nodes that are dead.
fn inquiries(cluster: &Cluster) -> Vec<Inquiry> {
    let addresses: Vec<_> = cluster.nodes.iter().map(Node::ipv4).collect();
    let alone: Vec<_> = addresses.iter().map(|address| vec![*address]).collect();
    let sets = (1..1 << NODES).map(|bits: usize| {
        let members = addresses.iter().enumerate().filter(|(node, _)| bits & (1 << node) != 0);
        members.map(|(_, address)| *address).collect()
    });
    let sets: Vec<Vec<_>> = sets.collect();
    let of_server = |server: usize| {
        let server = addresses[server];
        let name = |node: &Node| {
            Inquiry::addresses(server, &format!("{}.{ZONE}.", node.name), alone.clone(), TTL_MAX)
        };
        let apex = Inquiry::addresses(server, &format!("{ZONE}."), sets.clone(), TTL_MAX);
        cluster.nodes.iter().map(name).chain([apex]).collect::<Vec<_>>()
    };
    SERVERS.into_iter().flat_map(of_server).collect()
}

fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
