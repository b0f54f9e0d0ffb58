//! A long time of one trouble after another, chosen by a seed, while two servers are asked for every name.
//!
//! The first node's daemon lives through all of it, which is what its memory is watched for; the second's is killed and
//! replaced over and over; the third and fourth die and come back. Nothing keeps a query from the two that are asked, so
//! that each has a right answer due.
use std::env;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use nix::sys::signal::Signal;

use super::holdings::Holdings;
use super::inquiry::Inquiry;
use super::link;
use super::load::{Load, Pace, Tally};
use super::stage::on_cluster;
use super::{Length, Row};
use crate::cluster::Cluster;
use crate::node::Node;
use crate::plan::{Plan, ZONE};
use crate::wait;

const NODES: usize = 4;
const STEADY: usize = 0;
const RESTLESS: usize = 1;
const VICTIMS: [usize; 2] = [2, 3];
const TTLS: [&str; 2] = ["ttl = \"5s\"", "ttl = \"4s\""];
const TTL_MAX: u32 = 5;
/// The seed of a run that is to be played again.
const SEED: &str = "DNS_XDP_SEED";
/// Minutes instead of an hour, in the long form.
const MINUTES: &str = "DNS_XDP_SOAK_MINUTES";
/// A trouble before may have cut the server off, which lasts until nodes have been seen again.
const OBEDIENCE: Duration = Duration::from_secs(15);
/// What a daemon's memory may grow by after the first tenth, of which half a MiB is the noise of an allocator.
const GROWTH: f64 = 0.05;
const GROWTH_KIB: u64 = 512;

/// A trouble, which is over when it has been played.
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

/// What was seen.
struct Soaked {
    tally: Tally,
    troubles: u32,
    /// Of the steady daemon: after the first tenth of the time, and at the end.
    before: Holdings,
    after: Holdings,
    leak: Option<String>,
}

/// Plays it.
///
/// # Errors
/// When it cannot be played.
pub fn run(length: Length) -> Result<Row> {
    let time = length.pick(Duration::from_secs(3), minutes()?);
    let seed = match env::var(SEED) {
        Ok(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16)
            .with_context(|| format!("{SEED} is no hexadecimal number: {text}"))?,
        Err(_) => fastrand::u64(..),
    };
    eprintln!("soak: {SEED}={seed:#x} plays the same troubles again");
    let plan = Plan::quick(NODES as u8)
        .line("zone", TTLS[0])
        .line("health", "rise-max = 2")
        .line("health", "flap-decay = \"1s\"");
    let soaked =
        on_cluster(&plan, |cluster| soak(cluster, time, seed)).with_context(|| format!("seed {seed:#x}"))?;
    let Soaked { tally, troubles, before, after, leak } = soaked;
    let result = format!(
        "seed {seed:#x}, {troubles} troubles in {} s: {}; {:.1} → {:.1} MiB, {} → {} descriptors, {} → {} maps; {}",
        time.as_secs(),
        tally.text(),
        mebibytes(before.memory_kib),
        mebibytes(after.memory_kib),
        before.descriptors,
        after.descriptors,
        before.maps.len(),
        after.maps.len(),
        leak.as_deref().unwrap_or("no leak"),
    );
    let allowed = (before.memory_kib as f64 * (1.0 + GROWTH)) as u64 + GROWTH_KIB;
    // Some seconds are not enough for an allocator to come to rest.
    let is_flat = after.descriptors <= before.descriptors
        && after.maps.len() == before.maps.len()
        && (length == Length::Short || after.memory_kib <= allowed);
    Ok(Row::new(16, result, tally.is_clean() && is_flat && leak.is_none()))
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
    let start = Instant::now();
    let mut held = vec![Holdings::of(cluster.nodes[RESTLESS].daemon()?)?];
    let mut before = None;
    let mut troubles = 0;
    let mut shown = start;
    while start.elapsed() < time {
        let trouble = TROUBLES[rng.usize(..TROUBLES.len())];
        play(cluster, trouble, &mut rng).with_context(|| format!("{trouble:?}"))?;
        troubles += 1;
        held.push(Holdings::of(cluster.nodes[RESTLESS].daemon()?)?);
        if before.is_none() && start.elapsed() > time / 10 {
            before = Some(at_rest(&cluster.nodes[STEADY])?);
        }
        if shown.elapsed() > Duration::from_secs(300) {
            shown = Instant::now();
            eprintln!("soak: {} s, {}", start.elapsed().as_secs(), load.so_far().text());
        }
    }
    let after = at_rest(&cluster.nodes[STEADY])?;
    let restless = Holdings::of(cluster.nodes[RESTLESS].daemon()?)?;
    let leak = restless
        .are_all_that_is_left_of(&held, &cluster.nodes[RESTLESS].pins)
        .err()
        .map(|error| format!("{error:#}"));
    let before = before.context("no trouble was over in time")?;
    Ok(Soaked { tally: load.finish()?, troubles, before, after, leak })
}

/// What a daemon holds while nothing is asked of it: the fewest descriptors of some looks, for each probe has one.
fn at_rest(node: &Node) -> Result<Holdings> {
    let mut least = Holdings::of(node.daemon()?)?;
    for _ in 0..50 {
        sleep(Duration::from_millis(10));
        let now = Holdings::of(node.daemon()?)?;
        if now.descriptors < least.descriptors {
            least = now;
        }
    }
    Ok(least)
}

fn play(cluster: &mut Cluster, trouble: Trouble, rng: &mut Rng) -> Result<()> {
    let a_while = Duration::from_millis(rng.u64(100..1000));
    let victim = VICTIMS[rng.usize(..VICTIMS.len())];
    match trouble {
        Trouble::ServiceKilled => {
            cluster.nodes[victim].kill_database()?;
            sleep(a_while);
            cluster.nodes[victim].start_database()?;
        }
        Trouble::CableOut => {
            cluster.nodes[victim].pull_cable()?;
            sleep(a_while);
            cluster.nodes[victim].put_cable_back()?;
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
            obeyed(&cluster.nodes[STEADY], &["node", "drain", &name, "--force"])?;
            sleep(a_while);
            obeyed(&cluster.nodes[STEADY], &["node", "auto", &name])?;
        }
        Trouble::Detached => {
            link::detach(&cluster.nodes[STEADY])?;
            link::in_kernel(&cluster.nodes[STEADY])?;
        }
    }
    Ok(())
}

/// Gives a command, again and again where it has to wait until the answers are not frozen any more.
fn obeyed(node: &Node, command: &[&str]) -> Result<()> {
    wait::until("the command is obeyed", OBEDIENCE, || node.cli_ok(command))?;
    Ok(())
}

/// Either server for every node's name, which is any node's address, and for the apex, which is those of some.
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
    [STEADY, RESTLESS].into_iter().flat_map(of_server).collect()
}

fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}
