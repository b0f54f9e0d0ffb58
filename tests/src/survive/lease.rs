//! The controller dies, hangs, or its wall clock changes: the program answers until its lease ends.
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::inquiry::Inquiry;
use super::load::{Load, Pace, Tally, thousands};
use super::stage::on_laid;
use super::{Length, Row};
use crate::bed::cluster::Cluster;
use crate::bed::fake_clock::FakeClock;
use crate::bed::node::Node;
use crate::bed::plan::Plan;

const STEP_SECONDS: i64 = 3600;
/// When a daemon ends, its last renewal is at most 1/4 of the lease ago.
const BEATS: u32 = 4;

/// How the controller falls silent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fall {
    Killed,
    Stopped,
}

/// The times of one outage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outage {
    /// From the daemon's end or stop to the last answer.
    answered_for: Duration,
    /// From the daemon's return to the first answer.
    back_after: Duration,
}

/// Plays the row.
///
/// # Errors
/// The row cannot be played.
pub fn run(length: Length) -> Result<Row> {
    let (lease, rounds) = length.pick((Duration::from_secs(1), 1), (Duration::from_secs(4), 5));
    let plan = Plan::quick(1).line("xdp", &format!("stale-after = \"{}s\"", lease.as_secs()));
    let (outages, fallen, stepped) = on_laid(&plan, |cluster| {
        let directory = cluster.nodes[0].config.parent().context("a configuration is in a directory")?;
        let clock = FakeClock::new(directory)?;
        cluster.nodes[0].environment = clock.environment();
        cluster.start()?;
        let stepped = step(cluster, &clock, lease)?;
        let mut outages = Vec::new();
        let load = load(cluster)?;
        for fall in [Fall::Killed, Fall::Stopped].repeat(rounds) {
            outages.push(outage(&mut cluster.nodes[0], &load, fall, lease)?);
        }
        Ok((outages, load.finish()?, stepped))
    })?;
    let slack = Duration::from_millis(length.pick(300, 100));
    let back_slack = Duration::from_secs(length.pick(3, 1));
    let fell = outages.iter().map(|outage| outage.answered_for);
    let (shortest, longest) = (fell.clone().min().unwrap_or_default(), fell.max().unwrap_or_default());
    let back = outages.iter().map(|outage| outage.back_after).max().unwrap_or_default();
    let wrong = fallen.wrong + fallen.surplus;
    let reached = longest <= lease + slack
        && shortest >= lease - lease / BEATS - slack
        && back <= back_slack
        && wrong == 0
        && stepped.is_clean();
    let result = format!(
        "stale-after {lease:?}: silent {:.2} to {:.2} s after the fall, answers {:.2} s after the return at most, \
         {wrong} wrong of {}; steps of an hour: {}",
        shortest.as_secs_f64(),
        longest.as_secs_f64(),
        back.as_secs_f64(),
        thousands(fallen.right + wrong),
        stepped.text()
    );
    Ok(Row::new(4, result, reached))
}

/// Sets the wall clock an hour ahead, then an hour behind, each for a whole lease. The clock is right again at the end.
fn step(cluster: &Cluster, clock: &FakeClock, lease: Duration) -> Result<Tally> {
    let load = load(cluster)?;
    for seconds in [STEP_SECONDS, -STEP_SECONDS] {
        clock.set(seconds)?;
        sleep(lease + Duration::from_millis(300));
    }
    clock.set(0)?;
    load.finish()
}

fn outage(node: &mut Node, load: &Load, fall: Fall, lease: Duration) -> Result<Outage> {
    let server = node.ipv4();
    sleep(Duration::from_millis(200));
    let fallen = Instant::now();
    match fall {
        Fall::Killed => drop(node.stop(Signal::SIGKILL)?),
        Fall::Stopped => node.signal(Signal::SIGSTOP)?,
    }
    sleep(lease + Duration::from_millis(700));
    let last = load.so_far().last_right.get(&server).copied().context("it has never answered")?;
    let returned = Instant::now();
    match fall {
        Fall::Killed => node.spawn(&[])?,
        Fall::Stopped => node.signal(Signal::SIGCONT)?,
    }
    let back = load.answered_after(server, returned, Duration::from_secs(10))?;
    node.wait_until_ready()?;
    Ok(Outage { answered_for: last - fallen, back_after: back - returned })
}

/// The query for the node's own IPv4 address, whose answers are timed.
fn load(cluster: &Cluster) -> Result<Load> {
    let node = &cluster.nodes[0];
    let inquiries = Inquiry::of_node(&cluster.client, &node.name, node.addresses)?;
    let ipv4 = inquiries.into_iter().filter(|inquiry| IpAddr::is_ipv4(&inquiry.server)).collect();
    Load::start(&cluster.client, ipv4, Pace::of(10_000))
}
