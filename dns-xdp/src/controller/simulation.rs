//! Many servers and nodes in virtual time: seeded histories of what goes wrong, and what has to hold after every step.
//!
//! The servers run the daemon's own [`State`], schedules and decisions; what stands in for the network, the clock and
//! the disk is in [`world`]. A seed gives the same history on every machine.
mod history;
mod invariants;
mod server;
mod world;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use super::state::State;
use crate::config::Config;

/// How many histories every run of the tests goes through.
const HISTORIES: u64 = 100_000;
/// Most nodes of a simulated cluster.
const NODES: usize = 5;

/// The configuration of a cluster of that many nodes (from 2), with a service of its first two.
fn config(nodes: usize) -> &'static Config {
    static CONFIGS: OnceLock<Vec<Config>> = OnceLock::new();
    let configs = CONFIGS.get_or_init(|| (0..=NODES + 1).map(|nodes| configured(nodes.max(2))).collect());
    &configs[nodes]
}

fn configured(nodes: usize) -> Config {
    let mut text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                    [[service]]\nname = \"db\"\nnodes = [\"node1\", \"node2\"]\n"
        .to_owned();
    if nodes == 2 {
        text.push_str("[failover]\nwitness = [\"192.0.2.254\"]\n");
    }
    for node in 1..=nodes {
        text.push_str(&format!("[[node]]\nname = \"node{node}\"\nipv4 = \"192.0.2.{node}\"\n"));
        if node == 3 {
            text.push_str("backup = [\"node2\"]\n");
        }
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

#[test]
fn in_a_hundred_thousand_histories_nothing_is_answered_that_should_not_be() {
    let next = AtomicU64::new(0);
    let steps = AtomicU64::new(0);
    let workers = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= HISTORIES {
                        break;
                    }
                    let taken = run(seed).unwrap_or_else(|broken| panic!("{broken}"));
                    steps.fetch_add(taken, Ordering::Relaxed);
                }
            });
        }
    });
    println!("{HISTORIES} histories, {} steps", steps.into_inner());
}

/// Histories that once broke something, and what they showed.
#[test]
fn histories_that_once_broke_something_do_so_no_more() {
    for (seed, what) in [(0x4c, "a paused server cannot know"), (0xb0, "nor one that is cut off meanwhile")] {
        run(seed).unwrap_or_else(|broken| panic!("{what}: {broken}"));
    }
}

/// For replaying one history: shows what happens in it.
#[test]
fn a_seed_from_the_environment_holds_too() {
    let Ok(seed) = std::env::var("DNS_XDP_SEED") else {
        return;
    };
    let digits = seed.strip_prefix("0x").unwrap_or(&seed);
    let seed = u64::from_str_radix(digits, 16).expect("DNS_XDP_SEED is a hexadecimal number");
    let mut history = history::History::new(seed);
    let result = history.run();
    println!("{}", history.log());
    result.unwrap_or_else(|broken| panic!("{broken}"));
}
