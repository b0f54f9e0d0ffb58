//! Many servers and nodes in virtual time: seeded histories of what goes wrong, and what has to hold after every step.
//!
//! The servers run the daemon's own [`State`], schedules and decisions; what stands in for the network, the clock and
//! the disk is in [`world`]. A seed gives the same history on every machine.
mod concord;
mod desk;
mod history;
mod invariants;
mod scale;
mod server;
mod sharing;
mod store_model;
mod world;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::state::State;
use crate::config::Config;

/// How many histories every run of the tests goes through.
const HISTORIES: u64 = 100_000;
/// The same, of servers that share a store.
const SHARED: u64 = 6_500;
/// Most nodes of a simulated cluster.
const NODES: usize = 5;

/// The configuration of a cluster of that many nodes (from 2), with services of its first two; the last node is probed
/// in another way if it is `changed`.
fn config(nodes: usize, changed: bool) -> &'static Config {
    static CONFIGS: OnceLock<Vec<[Config; 2]>> = OnceLock::new();
    let both = |nodes: usize| [false, true].map(|changed| configured(nodes.max(2), changed));
    let configs = CONFIGS.get_or_init(|| (0..=NODES + 1).map(both).collect());
    &configs[nodes][usize::from(changed)]
}

fn configured(nodes: usize, changed: bool) -> Config {
    let mut text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                    [[service]]\nname = \"db\"\nnodes = [\"node1\", \"node2\"]\n\
                    [[service]]\nname = \"cache\"\nnodes = [\"node1\", \"node2\"]\n\
                    [service.health]\nport = 11211\n"
        .to_owned();
    if nodes % 2 == 1 {
        text.push_str("[health]\nrise-max = 2\n");
    }
    if nodes == 2 {
        text.push_str("[failover]\nwitness = [\"192.0.2.254\"]\n");
    }
    for node in 1..=nodes {
        text.push_str(&format!("[[node]]\nname = \"node{node}\"\nipv4 = \"192.0.2.{node}\"\n"));
        if node == 3 {
            text.push_str("backup = [\"node2\"]\n");
        }
    }
    if changed {
        text.push_str("[node.health]\nport = 6380\n");
    }
    super::state::tests::config(&text)
}

/// Runs one history; the error has what happened in it and what did not hold.
fn run(seed: u64) -> Result<u64, String> {
    let mut history = history::History::new(seed);
    history.run().map_err(|broken| {
        format!(
            "seed {seed:#x}: {broken}\n{}replay it: DNS_XDP_SEED={seed:#x} cargo test -p dns-xdp --lib a_seed",
            history.log()
        )
    })
}

/// As [`run`], of servers that share a store.
fn run_shared(seed: u64) -> Result<u64, String> {
    let mut cluster = sharing::Cluster::new(seed);
    cluster.run().map_err(|broken| {
        format!(
            "seed {seed:#x}: {broken}\n{}replay it: DNS_XDP_SEED={seed:#x} cargo test -p dns-xdp --lib a_shared_seed",
            cluster.log()
        )
    })
}

/// Runs so many histories; how many steps they took.
fn run_all(histories: u64, run: fn(u64) -> Result<u64, String>) -> u64 {
    let next = AtomicU64::new(0);
    let steps = AtomicU64::new(0);
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= histories {
                        break;
                    }
                    let taken = run(seed).unwrap_or_else(|broken| panic!("{broken}"));
                    steps.fetch_add(taken, Ordering::Relaxed);
                }
            });
        }
    });
    steps.into_inner()
}

#[test]
fn in_a_hundred_thousand_histories_nothing_is_answered_that_should_not_be() {
    println!("{HISTORIES} histories, {} steps", run_all(HISTORIES, run));
}

#[test]
fn in_thousands_of_histories_servers_that_share_a_store_agree_and_repair() {
    println!("{SHARED} histories, {} steps", run_all(SHARED, run_shared));
}

/// Histories that once broke something, or break what is guarded by the rule that they are named by.
#[test]
fn histories_that_once_broke_something_do_so_no_more() {
    for (seed, what) in [
        (0x188, "a probe that a reload had removed counted for a clean round of the blind"),
        (0x22d, "with every node down, caches kept a suspect member of a service for the full ttl"),
        (0x5, "a server that stood still judges before two clean rounds"),
        (0x88, "a node that a reload added answers for another before it was probed"),
        (0x23, "a node that fell again and again is kept out beyond rise-max"),
        (0x2a, "a link that loses every other probe is taken for a good one"),
    ] {
        run(seed).unwrap_or_else(|broken| panic!("{what}: {broken}"));
    }
}

/// The same of servers that share a store; the names are those of mutations that the seed finds.
#[test]
fn shared_histories_that_break_what_is_guarded_by_a_rule_hold() {
    for (seed, what) in [
        (0x20, "a server joins at once and goes by the few verdicts that are back already"),
        (0x79, "a gap between two confirmations does not begin the probation anew"),
        (0xa, "a server is joined when its lease has run out"),
        (0x1824, "a confirmation counts from when it was answered"),
        (0x116c, "nodes that several servers find silent are needed for the quorum"),
        (0x14, "half of the servers that judge a node take it out"),
        (0x35, "a node is probed by one server"),
        (0x88, "verdicts of servers that are gone count"),
        (0x1, "verdicts that were replaced count"),
        (0x73, "verdicts that are gone do not make another moment"),
        (0x7, "a watch that is silent is not found out"),
        (0x68, "a server that is alone probes its share only"),
        (0x1d, "a frozen server answers what is configured"),
    ] {
        run_shared(seed).unwrap_or_else(|broken| panic!("{what}: {broken}"));
    }
}

/// For replaying one history: shows what happens in it. Without a seed in the environment it is one that no run had.
#[test]
fn a_seed_from_the_environment_holds_too() {
    let seed = seed();
    println!("DNS_XDP_SEED={seed:#x}");
    let mut history = history::History::new(seed);
    let result = history.run();
    println!("{}", history.log());
    result.unwrap_or_else(|broken| panic!("{broken}"));
}

/// The same for servers that share a store.
#[test]
fn a_shared_seed_from_the_environment_holds_too() {
    let seed = seed();
    println!("DNS_XDP_SEED={seed:#x}");
    let mut cluster = sharing::Cluster::new(seed);
    let result = cluster.run();
    println!("{}", cluster.log());
    result.unwrap_or_else(|broken| panic!("{broken}"));
}

/// That of the environment, else a random one; what fails shows it.
fn seed() -> u64 {
    match std::env::var("DNS_XDP_SEED") {
        Ok(text) => hexadecimal(&text),
        Err(_) => RandomState::new().hash_one(0),
    }
}

fn hexadecimal(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).expect("DNS_XDP_SEED is a hexadecimal number")
}

#[test]
fn a_seed_is_read_as_it_is_shown() {
    for seed in [0, 0x1824, u64::MAX] {
        assert_eq!(hexadecimal(&format!("{seed:#x}")), seed);
        assert_eq!(hexadecimal(&format!("{seed:x}")), seed);
    }
}
