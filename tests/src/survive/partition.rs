//! Nodes that become silent, die, are not heard by one server, or flap: how long they stay in the answers.
//!
//! Two of three servers are asked for every name, every 2 ms; the third node has the faults. The settings probe 5 times
//! as often as the default, so 50 rounds of each kind take a few minutes.
use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::inquiry::Inquiry;
use super::load::{Load, Pace, Tally, thousands};
use super::stage::{FLOODER, on_cluster};
use super::{Length, Row};
use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::plan::{Plan, ZONE};
use crate::bed::wait;
use crate::jitter::random_share;
use crate::load::figures::Rounds;

const NODES: usize = 3;
/// The nodes that are asked, from 0.
const SERVERS: [usize; 2] = [0, 2];
const VICTIM: usize = 1;
/// Each node's name, and the apex.
const LABELS: usize = NODES + 1;
const TTL: u32 = 5;
/// The tolerance on top of the guaranteed time.
const MARGIN: Duration = Duration::from_millis(50);
/// The most that the short form adds for delays of the client itself.
const HELD_UP_MAX: Duration = Duration::from_millis(200);
/// The longest time until a node is back.
const RETURN_TIMEOUT: Duration = Duration::from_secs(10);
/// The interval of the probes. The faults are spread over it.
const INTERVAL: Duration = Duration::from_millis(200);
const FLAP: Duration = Duration::from_millis(500);

/// The fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    /// The node is cut off.
    Silence,
    /// Its service is killed.
    Death,
    /// Its packets do not reach the first server.
    OneWay,
    /// Every service is killed.
    AllDown,
    /// Its service dies and comes back once a second, and dies for good.
    Flaps(u32),
}

/// How long repairs took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Times {
    sighted: Vec<Duration>,
    /// Rounds with a server that was delayed for long. It judged no node until it could trust its timers again. The
    /// bound does not hold for these rounds.
    blind: Vec<Duration>,
    /// The longest time that the victim still answered while its cable was being pulled. It comes before the other times.
    pulled: Duration,
}

impl Times {
    /// Whether every round that the bound holds for took at most `limit`. Without such rounds the run proves nothing.
    fn are_within(&self, limit: Duration) -> bool {
        !self.sighted.is_empty() && self.sighted.iter().all(|took| *took <= limit)
    }

    fn text(&self) -> String {
        let rounds: Rounds = self.sighted.iter().map(Duration::as_secs_f64).collect();
        let mut text = format!("{:.2} and {:.2} s", rounds.median(), rounds.range().1.max(0.0));
        if let Some(worst) = self.blind.iter().max() {
            text += &format!(" ({} more while blind, up to {:.2} s)", self.blind.len(), worst.as_secs_f64());
        }
        if !self.pulled.is_zero() {
            text +=
                &format!(" (up to {:.2} s before that until the cable is out)", self.pulled.as_secs_f64());
        }
        text
    }
}

/// Plays the row.
///
/// # Errors
/// The row cannot be played.
pub fn run(length: Length) -> Result<Row> {
    let rounds: u32 = length.pick(2, 50);
    let flaps = Blow::Flaps(length.pick(2, 5));
    let plan = Plan::quick(NODES as u8).line("health", "rise-max = 2").line("health", "flap-decay = \"1s\"");
    let played = on_cluster(&plan, |cluster| {
        let promise = cluster.nodes[0].promise()?;
        let load = load(cluster)?;
        let pulse = pulse(cluster)?;
        let clients = Clients { load: &load, pulse: &pulse };
        let mut worst = Vec::new();
        for (blow, name, rounds) in [
            (Blow::Silence, "silent", rounds),
            (Blow::Death, "service dead", rounds),
            (Blow::OneWay, "one way", rounds),
            (Blow::AllDown, "all down", rounds),
            (flaps, "flapping", rounds.div_ceil(10)),
        ] {
            worst.push((name, play(cluster, clients, blow, rounds).context(name)?));
        }
        let quiet = load.finish()?;
        let (flooded, flood) = under_flood(cluster, &pulse, rounds)?;
        worst.push(("silent under flood", flooded));
        Ok((promise, worst, quiet, flood))
    });
    let (promise, worst, quiet, (flooded, rate)) = played?;
    let text = |(name, times): &(&str, Times)| format!("{name} {}", times.text());
    let times: Vec<String> = worst.iter().map(text).collect();
    let result = format!(
        "guaranteed {:.2} s; median and worst of {rounds}: {}; the client itself held up for {:.2} s at most; {}; {} wrong under a \
         flood of {}/s",
        promise.as_secs_f64(),
        times.join(", "),
        quiet.held_up.as_secs_f64(),
        quiet.text(),
        flooded.wrong,
        thousands(rate),
    );
    let held_up = quiet.held_up.max(flooded.held_up).min(HELD_UP_MAX);
    let limit = promise + MARGIN + length.pick(held_up, Duration::ZERO);
    let is_right = quiet.is_clean() && flooded.wrong == 0 && flooded.surplus == 0;
    Ok(Row::new(6, result, is_right && worst.iter().all(|(_, times)| times.are_within(limit))))
}

/// Plays this many rounds without a blind server, or at most twice as many in all.
fn play(cluster: &mut Cluster, clients: Clients<'_>, blow: Blow, rounds: u32) -> Result<Times> {
    let mut times = Times::default();
    for _ in 0..2 * rounds {
        for server in SERVERS {
            let node = &cluster.nodes[server];
            wait::until("the server trusts its timers", RETURN_TIMEOUT, || {
                let status = node.status()?;
                ensure!(status["blind"].is_null(), "{}", status["blind"]);
                Ok(())
            })?;
        }
        sleep(INTERVAL.mul_f64(random_share()));
        let before = blindness(cluster)?;
        let [took, pulled] = strike(cluster, clients, blow)?;
        times.pulled = pulled.max(times.pulled);
        if blindness(cluster)? == before { &mut times.sighted } else { &mut times.blind }.push(took);
        if times.sighted.len() == rounds as usize {
            break;
        }
    }
    Ok(times)
}

/// How often the servers have found that they were held up.
fn blindness(cluster: &Cluster) -> Result<usize> {
    let mut count = 0;
    for server in SERVERS {
        count += fs::read_to_string(&cluster.nodes[server].log)?.matches("this server was held up").count();
    }
    Ok(count)
}

/// The same while one core sends as much as it can to a server; returns the repair times, and the flood's rate.
///
/// The flood has a link of its own. On the clients' link its answers would come before theirs, and a client would see a
/// repair up to 0.1 s late.
fn under_flood(cluster: &mut Cluster, pulse: &Load, rounds: u32) -> Result<(Times, (Tally, u64))> {
    let (flooder, _) = cluster.plug("flooder", &FLOODER)?;
    let server = &cluster.nodes[0];
    let own = Inquiry::addresses(server.ipv4(), &qname(0), vec![vec![server.ipv4()]], TTL);
    let flood = Load::start(&flooder, vec![own], Pace { per_second: None, core: Some(0) })?;
    let start = Instant::now();
    let load = load(cluster)?;
    let clients = Clients { load: &load, pulse };
    let times = play(cluster, clients, Blow::Silence, rounds).context("under flood")?;
    let tally = load.finish()?;
    let rate = (flood.right() as f64 / start.elapsed().as_secs_f64()) as u64;
    let flood = flood.finish()?;
    Ok((times, (tally.and(flood), rate)))
}

/// The clients: one asks the servers, the other asks the victim, so that it knows when the victim fell silent.
#[derive(Debug, Clone, Copy)]
struct Clients<'a> {
    load: &'a Load,
    pulse: &'a Load,
}

/// Causes one fault, and waits until it is over. Returns how long the slowest server answered a dead address. If the fault
/// is a pulled cable, the victim is dead from its last answer. The second time is how long it answered until then: another
/// program pulls the cable, and the flood takes that program's core.
fn strike(cluster: &mut Cluster, Clients { load, pulse }: Clients<'_>, blow: Blow) -> Result<[Duration; 2]> {
    await_health(load)?;
    if let Blow::Flaps(flaps) = blow {
        for _ in 0..flaps {
            cluster.nodes[VICTIM].kill_database()?;
            sleep(FLAP);
            cluster.nodes[VICTIM].start_database()?;
            sleep(FLAP);
        }
    }
    let (struck, mut pulled) = (Instant::now(), Duration::ZERO);
    let victim = &mut cluster.nodes[VICTIM];
    let took = match blow {
        Blow::Silence => {
            victim.pull_cable()?;
            let took = repaired(load, struck, &SERVERS)?;
            let last = pulse.so_far().last_right.get(&victim.ipv4()).copied();
            let last = last.context("the victim never answered")?;
            pulled = last.saturating_duration_since(struck);
            victim.put_cable_back()?;
            took.saturating_sub(pulled)
        }
        Blow::Death | Blow::Flaps(_) => {
            victim.kill_database()?;
            let took = repaired(load, struck, &SERVERS)?;
            victim.start_database()?;
            took
        }
        Blow::OneWay => {
            let [deaf, other] = SERVERS;
            turn_away(cluster, "add")?;
            let took = repaired(load, struck, &[deaf])?;
            sleep(MARGIN);
            let answer = load.so_far().now[inquiry(other, VICTIM)];
            ensure!(answer == Some(VICTIM), "a server that hears the node answers {answer:?}");
            turn_away(cluster, "del")?;
            took
        }
        Blow::AllDown => {
            cluster.nodes.iter_mut().try_for_each(Node::kill_database)?;
            sleep(cluster.nodes[0].promise()? + 4 * MARGIN);
            let changes = load.so_far().changes;
            let last = changes.iter().map(|change| change.at).max().context("nothing was ever answered")?;
            ensure_configured(load)?;
            cluster.nodes.iter_mut().try_for_each(Node::start_database)?;
            last.saturating_duration_since(struck)
        }
    };
    await_health(load)?;
    Ok([took, pulled])
}

/// Routes on the victim that drop its packets to the first server.
fn turn_away(cluster: &Cluster, verb: &str) -> Result<()> {
    let [ipv4, ipv6] = cluster.nodes[SERVERS[0]].addresses;
    let victim = &cluster.nodes[VICTIM].namespace;
    victim.ip(&format!("route {verb} blackhole {ipv4}/32\nroute {verb} blackhole {ipv6}/128\n"))
}

fn repaired(load: &Load, struck: Instant, servers: &[usize]) -> Result<Duration> {
    let mut worst = Duration::ZERO;
    for server in servers {
        let which = inquiry(*server, VICTIM);
        let at = load.becomes(which, struck, RETURN_TIMEOUT, |answer| answer != VICTIM)?;
        worst = worst.max(at - struck);
    }
    Ok(worst)
}

/// Every node's name answers the node's own address, and the apex all.
fn await_health(load: &Load) -> Result<()> {
    let now = Instant::now();
    for server in SERVERS {
        for label in 0..LABELS {
            let own = if label == NODES { all_nodes() } else { label };
            load.becomes(inquiry(server, label), now, RETURN_TIMEOUT, |answer| answer == own)
                .context("not back")?;
        }
    }
    Ok(())
}

/// Like [`await_health`], but checks once and does not wait.
fn ensure_configured(load: &Load) -> Result<()> {
    let now = load.so_far().now;
    for server in SERVERS {
        for label in 0..NODES {
            let answer = now[inquiry(server, label)];
            ensure!(answer == Some(label), "all are down and {} is answered with {answer:?}", qname(label));
        }
    }
    Ok(())
}

/// The number of the inquiry for a server and a label.
fn inquiry(server: usize, label: usize) -> usize {
    let nth = SERVERS.iter().position(|known| *known == server).unwrap_or_default();
    nth * LABELS + label
}

fn load(cluster: &Cluster) -> Result<Load> {
    let addresses: Vec<_> = cluster.nodes.iter().map(Node::ipv4).collect();
    let alone = addresses.iter().map(|address| vec![*address]).collect::<Vec<_>>();
    // Every set of nodes but the empty one, by the bits of its number.
    let sets = (1..1 << NODES).map(|bits: usize| {
        let members = addresses.iter().enumerate().filter(|(node, _)| bits & (1 << node) != 0);
        members.map(|(_, address)| *address).collect()
    });
    let sets: Vec<Vec<_>> = sets.collect();
    let all = SERVERS.iter().flat_map(|server| {
        let server = addresses[*server];
        let names = (0..NODES).map(|label| Inquiry::addresses(server, &qname(label), alone.clone(), TTL));
        let apex = Inquiry::addresses(server, &format!("{ZONE}."), sets.clone(), TTL);
        names.chain([apex]).collect::<Vec<_>>()
    });
    Load::start(&cluster.client, all.collect(), Pace::of(4_000))
}

/// Starts a client that asks the victim for its own name every millisecond.
fn pulse(cluster: &Cluster) -> Result<Load> {
    let victim = cluster.nodes[VICTIM].ipv4();
    let own = Inquiry::addresses(victim, &qname(VICTIM), vec![vec![victim]], TTL);
    Load::start(&cluster.client, vec![own], Pace::of(1_000))
}

/// The number of the set of all nodes, among the sets of the apex.
fn all_nodes() -> usize {
    (1 << NODES) - 2
}

fn qname(label: usize) -> String {
    format!("node{}.{ZONE}.", label + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_repair_and_no_round_at_all_are_not_within_the_bound() {
        let limit = Duration::from_millis(750);
        let late = limit + Duration::from_millis(1);
        let times = |sighted: &[Duration], blind: &[Duration]| Times {
            sighted: sighted.to_vec(),
            blind: blind.to_vec(),
            pulled: Duration::ZERO,
        };
        assert!(times(&[limit, limit], &[late]).are_within(limit));
        assert!(!times(&[limit, late], &[]).are_within(limit));
        assert!(!times(&[], &[limit]).are_within(limit), "the promise is for none of these rounds");
        assert!(!Times::default().are_within(limit));
    }
}
