//! Simulates many servers and nodes in virtual time: seeded histories of faults, with invariants that are checked after
//! every step.
//!
//! The servers run the daemon's own [`Core`](super::core::Core) and schedules; [`world`] and [`server`] replace the
//! network, the clock and the disk. A seed gives the same history on every machine.
mod agreement;
mod attempt;
mod cut_off;
mod history;
mod invariants;
mod member;
mod scale;
mod server;
mod sharing;
mod step_bound;
mod store_link;
mod store_model;
mod world;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::core::state::State;
use super::core::{Proposal, Source};
use crate::config::Config;
use crate::store::Documents;

/// The number of histories in every run of the tests; `DNS_XDP_HISTORIES=4` runs 4 times as many.
const HISTORIES: u64 = 25_000;
/// The number of histories of servers that share a store.
const SHARED: u64 = 1_600;
/// The most nodes of a simulated cluster.
const NODES: usize = 5;

/// A configuration, and the text that it was read from.
#[derive(Debug)]
struct Configured {
    config: Config,
    source: Source,
    text: String,
}

impl Configured {
    /// Reads a text; `documents`: the shared sections, if a store has them.
    fn new(text: String, documents: Option<Documents>) -> Configured {
        let parsed = super::core::state::tests::config(&text);
        let (path, socket) = (&parsed.path, &parsed.control.socket);
        let (source, config) = Source::new(path, socket, text.clone(), documents).expect("a configuration");
        Configured { config, source, text }
    }

    /// The proposal of a reload of this file for a server without a store. Every call returns the same proposal.
    fn proposal(&self, in_force: &Source) -> Option<Proposal> {
        let (config, source) = (self.config.clone(), self.source.clone());
        in_force.documents().is_none().then(|| Proposal {
            config,
            source,
            write: None,
            notes: Vec::new(),
            warnings: Vec::new(),
            differences: Vec::new(),
        })
    }
}

/// When a fallen node comes back after its recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failback {
    /// It comes back at once.
    AtOnce,
    /// It comes back after [`HOLD_DOWN`].
    Later,
    /// It comes back when an operator says so.
    Manual,
}

/// `[failover] hold-down` with [`Failback::Later`].
const HOLD_DOWN: Duration = Duration::from_secs(1);

impl Failback {
    const ALL: [Failback; 3] = [Failback::AtOnce, Failback::Later, Failback::Manual];

    /// The keys of `[failover]`.
    fn keys(self) -> &'static str {
        match self {
            Failback::AtOnce => "",
            Failback::Later => "hold-down = \"1s\"\n",
            Failback::Manual => "failback = \"manual\"\n",
        }
    }
}

/// Whether the node of this number, from 1, also has an IPv6 address: all but the third do.
fn is_dual_stack(number: usize) -> bool {
    number != 3
}

/// The configuration of a cluster of this many nodes (2 or more), with services of its first two. If `changed`, the
/// last node has a different probe.
fn config(nodes: usize, changed: bool, failback: Failback) -> &'static Configured {
    static CONFIGS: OnceLock<Vec<[[Configured; 2]; 3]>> = OnceLock::new();
    let all = |nodes: usize| {
        Failback::ALL.map(|failback| [false, true].map(|changed| configured(nodes.max(2), changed, failback)))
    };
    let configs = CONFIGS.get_or_init(|| (0..=NODES + 1).map(all).collect());
    &configs[nodes][failback as usize][usize::from(changed)]
}

fn configured(nodes: usize, changed: bool, failback: Failback) -> Configured {
    let mut text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                    [[service]]\nname = \"db\"\nnodes = [\"node1\", \"node2\"]\n\
                    [[service]]\nname = \"cache\"\nnodes = [\"node1\", \"node2\"]\n\
                    [service.health]\nport = 11211\n"
        .to_owned();
    if nodes % 2 == 1 {
        text.push_str("[health]\nrise-max = 2\n");
    }
    text.push_str("[failover]\n");
    text.push_str(failback.keys());
    if nodes == 2 {
        text.push_str("witness = [\"192.0.2.254\"]\n");
    }
    for node in 1..=nodes {
        text.push_str(&format!("[[node]]\nname = \"node{node}\"\nipv4 = \"192.0.2.{node}\"\n"));
        if is_dual_stack(node) {
            text.push_str(&format!("ipv6 = \"2001:db8::{node}\"\n"));
        }
        if node == 3 {
            text.push_str("backup = [\"node2\"]\n");
        }
        text.push_str(&sharing::addresses_in_the_set(node, nodes));
    }
    if changed {
        text.push_str("[node.health]\nport = 6380\n");
    }
    text.push_str(sharing::SUFFIX);
    Configured::new(text, None)
}

/// Runs one history. The error has its events and the invariant that did not hold.
fn run(seed: u64) -> Result<u64, String> {
    let mut history = history::History::new(seed);
    history.run().map_err(|broken| {
        format!(
            "seed {seed:#x}: {broken}\n{}replay it: DNS_XDP_SEED={seed:#x} cargo test -p dns-xdp --lib a_seed",
            history.log()
        )
    })
}

/// Like [`run`], for servers that share a store.
fn run_shared(seed: u64) -> Result<u64, String> {
    let mut cluster = sharing::Cluster::new(seed);
    cluster.run().map_err(|broken| {
        format!(
            "seed {seed:#x}: {broken}\n{}replay it: DNS_XDP_SEED={seed:#x} cargo test -p dns-xdp --lib a_shared_seed",
            cluster.log()
        )
    })
}

/// Runs this many histories. Returns the number of their steps.
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

/// The number of histories, at least one: the usual one, times `DNS_XDP_HISTORIES`, which may be a fraction.
fn histories(usual: u64) -> u64 {
    let times = std::env::var("DNS_XDP_HISTORIES").map_or(Ok(1.0), |times| times.parse::<f64>());
    let times = times.unwrap_or_else(|error| panic!("DNS_XDP_HISTORIES is a number: {error}"));
    ((usual as f64 * times) as u64).max(1)
}

#[test]
fn in_many_thousands_of_histories_nothing_is_answered_that_should_not_be() {
    let histories = histories(HISTORIES);
    println!("{histories} histories, {} steps", run_all(histories, run));
}

#[test]
fn in_thousands_of_histories_servers_that_share_a_store_agree_and_repair() {
    let histories = histories(SHARED);
    println!("{histories} histories, {} steps", run_all(histories, run_shared));
}

/// Replays one history and shows its events. Without a seed in the environment, it takes a random one.
#[test]
fn a_seed_from_the_environment_holds_too() {
    let seed = seed();
    println!("DNS_XDP_SEED={seed:#x}");
    let mut history = history::History::new(seed);
    let result = history.run();
    println!("{}", history.log());
    result.unwrap_or_else(|broken| panic!("{broken}"));
}

/// Replays one history of servers that share a store.
#[test]
fn a_shared_seed_from_the_environment_holds_too() {
    let seed = seed();
    println!("DNS_XDP_SEED={seed:#x}");
    let mut cluster = sharing::Cluster::new(seed);
    let result = cluster.run();
    println!("{}", cluster.log());
    result.unwrap_or_else(|broken| panic!("{broken}"));
}

/// Returns the seed from the environment, or a random one. A failure shows it.
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
