//! A name's addresses change repeatedly while two cores ask for them: every answer is exactly one of the sets.
//!
//! The zone changes as a whole too: its names change all at once. The answers to one client therefore change to the
//! next set at most once with each change, for all names together.
//!
//! Three sets take turns, not two: a zone is written into the bank of the table that is not in use. With two sets, each
//! bank would always have the same set, and nothing would be written while packets are answered.
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::Result;
use dns_xdp::control::{Client, Command};
use tokio::runtime::Builder;

use super::inquiry::Inquiry;
use super::load::{Load, Pace, Tally, thousands};
use super::stage::on_laid;
use super::{Length, Row};
use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::plan::{Plan, ZONE, addresses};

/// The number of nodes. The first one serves; the others are only addresses, which are rarely probed.
const SETS: usize = 3;
const SET: usize = 5;
const NODES: u8 = (SETS * SET) as u8;
/// The clients, each on its own core.
const CLIENTS: usize = 2;
/// The number of names that change together.
const SERVICES: usize = 8;
const TTL: u32 = 5;

/// The results.
struct Flipped {
    tally: Tally,
    flips: u64,
    took: Duration,
}

/// Plays the row.
///
/// # Errors
/// The row cannot be played.
pub fn run(length: Length) -> Result<Row> {
    let (answers, limit) =
        length.pick((200_000, Duration::from_secs(5)), (10_000_000, Duration::from_secs(600)));
    // No node answers probes: all are in the answers by an operator's intent.
    let plan = Plan::new(NODES).line("health", "interval = \"1h\"").tables(&services(0));
    let flipped = on_laid(&plan, |cluster| {
        let node = &mut cluster.nodes[0];
        node.start()?;
        for number in 1..=NODES {
            node.cli_ok(&["node", "up", &format!("node{number}")])?;
        }
        flip(cluster, answers, limit)
    })?;
    let Flipped { tally, flips, took } = flipped;
    let result = format!(
        "{} of {} answers torn or mixed, {} lost; {} flips in {:.0} s, seen by {CLIENTS} clients as {} turns of all names",
        thousands(tally.wrong),
        thousands(tally.right + tally.wrong),
        thousands(tally.lost),
        thousands(flips),
        took.as_secs_f64(),
        thousands(tally.alternations),
    );
    let result = tally.example.as_ref().map_or(result.clone(), |example| format!("{result} ({example})"));
    let is_seen = tally.turns >= flips;
    let is_whole = tally.alternations <= CLIENTS as u64 * flips;
    let is_right = tally.wrong == 0 && tally.surplus == 0 && tally.right >= length.pick(50_000, answers);
    let reached = is_right && is_seen && is_whole;
    Ok(Row::new(5, result, reached))
}

fn flip(cluster: &Cluster, answers: u64, limit: Duration) -> Result<Flipped> {
    let node = &cluster.nodes[0];
    let clients: [Result<Load>; CLIENTS] = std::array::from_fn(|core| {
        let pace = Pace { per_second: None, core: Some(core) };
        Load::start_in_order(&cluster.client, inquiries(node), pace)
    });
    let [first, second] = clients;
    let (first, second) = (first?, second?);
    let texts = texts(node)?;
    let start = Instant::now();
    let client = Client::new(&node.socket);
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut flips = 0;
    let answered = || first.right() + second.right();
    while answered() < answers && start.elapsed() < limit {
        let next = node.config.with_extension("next");
        fs::write(&next, &texts[(flips as usize + 1) % SETS])?;
        fs::rename(&next, &node.config)?;
        runtime.block_on(client.call(&Command::Reload { force: false }))?;
        flips += 1;
    }
    let took = start.elapsed();
    let tally = first.finish()?.and(second.finish()?);
    Ok(Flipped { tally, flips, took })
}

/// The configuration with each of the sets.
fn texts(node: &Node) -> Result<Vec<String>> {
    let text = node.config_text()?;
    Ok((0..SETS).map(|set| text.replace(&services(0), &services(set))).collect())
}

fn services(set: usize) -> String {
    let nodes: Vec<String> = numbers(set).map(|number| format!("\"node{number}\"")).collect();
    let mut toml = String::new();
    for service in 0..SERVICES {
        write!(toml, "[[service]]\nname = \"s{service}\"\nnodes = [{}]\n", nodes.join(", "))
            .expect("a String takes all");
    }
    toml
}

fn inquiries(node: &Node) -> Vec<Inquiry> {
    let of_family = |family: usize| {
        let set = move |set| numbers(set).map(|number| addresses(number)[family]).collect::<Vec<IpAddr>>();
        (0..SERVICES).map(move |service| {
            let sets = (0..SETS).map(set).collect();
            Inquiry::addresses(node.ipv4(), &format!("s{service}.{ZONE}."), sets, TTL)
        })
    };
    of_family(0).chain(of_family(1)).collect()
}

fn numbers(set: usize) -> impl Iterator<Item = u8> {
    (1..=NODES).skip(set * SET).take(SET)
}
