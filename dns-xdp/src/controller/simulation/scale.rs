//! What a cluster that shares a store costs as it grows, counted in virtual time and printed as a table.
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;

use super::sharing::Member;
use super::store_model::{Counts, StoreModel};
use super::world::World;
use crate::cluster::Service;
use crate::config::Config;
use crate::controller::concert::digest;
use crate::controller::state::State;
use crate::failover::Answers;
use crate::intent::Intents;
use crate::store::Server;

/// As the defaults have it.
const LEASE: Duration = Duration::from_secs(5);
const PROBERS: usize = 5;
/// Everybody has joined by then, whoever found the store late by way of a probation.
const CALM: Duration = Duration::from_secs(8);
const REST: Duration = Duration::from_secs(5);
/// What follows from a death is over by then.
const AFTERMATH: Duration = Duration::from_secs(8);
const NAMES: usize = 65_536;

/// Nodes, of which the first ones are servers too.
fn config(nodes: usize, probers: usize) -> Config {
    let mut text = format!(
        "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n[failover]\nprobers = {probers}\n\
         [cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\n"
    );
    for node in 1..=nodes {
        let (high, low) = (node / 250, node % 250 + 1);
        text.push_str(&format!("[[node]]\nname = \"node{node}\"\nipv4 = \"10.0.{high}.{low}\"\n"));
    }
    crate::controller::state::tests::config(&text)
}

/// A cluster under way.
struct Scale {
    now: Duration,
    world: World,
    store: StoreModel,
    members: Vec<Member>,
    random: Rng,
    /// Of taking in what the store tells and deciding by it, by server.
    decided: Vec<Duration>,
    decisions: u64,
    /// When the answers of each server were changed last.
    moved: Vec<Duration>,
}

/// What there was between two moments.
struct Spent {
    counts: Counts,
    messages: u64,
    bytes: u64,
    probes: u64,
}

impl Scale {
    fn new(nodes: usize, servers: usize, probers: usize) -> Self {
        let config = config(nodes, probers);
        let mut random = Rng::with_seed(1);
        let mut members: Vec<Member> = (0..servers).map(|index| Member::new(index, &config)).collect();
        for member in &mut members {
            member.start(LEASE, Duration::ZERO, &mut random);
        }
        Scale {
            now: Duration::ZERO,
            world: World::new(servers, nodes),
            store: StoreModel::default(),
            members,
            random,
            decided: vec![Duration::ZERO; servers],
            decisions: 0,
            moved: vec![Duration::ZERO; servers],
        }
    }

    fn run(&mut self, until: Duration) {
        let mut due: Vec<Option<Duration>> =
            self.members.iter().map(|member| member.next(&self.store, self.now)).collect();
        loop {
            let next = due.iter().copied().flatten().chain(self.store.next()).min().unwrap_or(until);
            self.now = next.max(self.now);
            if self.now >= until {
                self.now = until;
                return;
            }
            self.world.now = self.now;
            let revision = self.store.revision();
            self.store.expire(self.now);
            for index in 0..self.members.len() {
                if due[index].is_some_and(|due| due <= self.now) {
                    self.step(index);
                    due[index] = self.members[index].next(&self.store, self.now);
                }
            }
            if self.store.revision() != revision {
                due = self.members.iter().map(|member| member.next(&self.store, self.now)).collect();
            }
        }
    }

    fn step(&mut self, index: usize) {
        let (now, random, member) = (self.now, &mut self.random, &mut self.members[index]);
        let before = member.server.published.clone();
        if member.server.next().is_some_and(|due| due <= now) && member.server.step(&self.world, random) {
            member.speak();
        }
        if let Some(desk) = &mut member.desk {
            desk.step(&mut self.store, &member.way, now, random);
        }
        let has_news = member.has_news(now);
        if has_news {
            let began = Instant::now();
            member.hear(now, random);
            self.decided[index] += began.elapsed();
            self.decisions += 1;
            member.speak();
        }
        let by_node =
            |answers: &Option<Arc<Answers>>| answers.as_ref().map(|answers| answers.by_node.clone());
        let after = &member.server.published;
        let same =
            before.as_ref().zip(after.as_ref()).is_some_and(|(before, after)| Arc::ptr_eq(before, after));
        if !same && by_node(&before) != by_node(after) {
            self.moved[index] = now;
        }
        if same && !has_news {
            return;
        }
        let state = &member.server.state;
        if let (Some(desk), Some(decision), Some(moment)) =
            (&mut member.desk, state.decision(), state.moment())
        {
            desk.status = Some(Server {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                revision: moment.revision,
                entries: moment.entries,
                digest: digest(&decision.answers, 0),
                quorum: Some(decision.quorum),
                ..Server::default()
            });
        }
    }

    fn spent(&self) -> Spent {
        let desks = || self.members.iter().filter_map(|member| member.desk.as_ref());
        Spent {
            counts: self.store.counts,
            messages: desks().map(|desk| desk.messages).sum(),
            bytes: desks().map(|desk| desk.bytes_heard).sum(),
            probes: self
                .members
                .iter()
                .flat_map(|member| &member.server.attempts)
                .map(|attempt| attempt.made)
                .sum(),
        }
    }
}

fn per_second(before: u64, after: u64, time: Duration) -> f64 {
    (after - before) as f64 / time.as_secs_f64()
}

/// One line of the table: a cluster at rest, and the death of its last nodes.
fn line(nodes: usize, servers: usize, die: usize) -> String {
    let mut scale = Scale::new(nodes, servers, PROBERS);
    scale.run(CALM);
    let begin = scale.spent();
    scale.run(CALM + REST);
    let rest = scale.spent();
    let everyone = Scale::new(nodes, servers, servers.max(PROBERS));
    let all: usize = everyone.members.iter().map(|member| member.server.state.targets().len()).sum();
    drop(everyone);
    scale.decided.fill(Duration::ZERO);
    scale.decisions = 0;
    let death = scale.now;
    for node in nodes - die..nodes {
        scale.world.nodes[node].host = false;
    }
    scale.world.now = death;
    scale.world.settle();
    scale.run(death + AFTERMATH);
    let end = scale.spent();
    let out = |member: &Member| {
        let answers = member.server.published.as_ref().unwrap();
        (nodes - die..nodes).all(|node| !answers.by_node.contains(&Some(node)))
    };
    assert!(scale.members.iter().all(out), "the dead are answered");
    let repaired = scale.moved.iter().max().unwrap().saturating_sub(death);
    let worst = scale.decided.iter().max().unwrap();
    format!(
        "| {nodes} | {servers} | {die} | {:.0} | {all} | {:.1} | {:.1} | {} | {} | {} | {:.0} | {:.1} | {:.2} s |",
        per_second(begin.probes, rest.probes, REST),
        per_second(begin.counts.writes, rest.counts.writes, REST),
        per_second(begin.counts.kept, rest.counts.kept, REST),
        end.counts.writes - rest.counts.writes,
        end.messages - rest.messages,
        (end.bytes - rest.bytes) / 1024,
        scale.decisions as f64 / servers as f64,
        worst.as_secs_f64() * 1e3,
        repaired.as_secs_f64(),
    )
}

#[test]
#[ignore = "takes minutes: cargo test -p dns-xdp --lib -- --ignored --nocapture scale"]
fn scale_of_a_cluster_that_shares_a_store() {
    println!(
        "| nodes | servers | die | probes/s | if all probe all | writes/s at rest | keepalives/s | writes | watch messages | KiB heard \
         | decisions a server | of the slowest, ms | last server repaired after |"
    );
    println!("|{}", "---|".repeat(13));
    for (nodes, servers, die) in [
        (10, 3, 1),
        (100, 5, 1),
        (1000, 5, 1),
        (1000, 20, 1),
        (1000, 100, 1),
        (1000, 20, 50),
        (1000, 100, 50),
    ] {
        println!("{}", line(nodes, servers, die));
    }
}

/// What one decision takes where there are as many names as the program has room for.
#[test]
#[ignore = "takes minutes: cargo test -p dns-xdp --lib -- --ignored --nocapture scale"]
fn scale_of_a_decision_over_all_names() {
    println!("| nodes | names | decide, ms | make the zone, ms |\n|---|---|---|---|");
    for nodes in [10, 100, 1000] {
        let mut config = config(nodes, PROBERS);
        for number in 0..NAMES - 2 * nodes - 1 {
            let members = (0..3).map(|step| format!("node{}", (number + step) % nodes + 1)).collect();
            let name = format!("service{number}");
            config.cluster.services.push(Service {
                name,
                nodes: members,
                min_healthy: 0,
                answers_max: None,
                health: None,
            });
        }
        let mut state = State::new(config, Intents::new());
        let began = Instant::now();
        state.decide();
        let decided = began.elapsed();
        let zone = state.zone().unwrap();
        let made = began.elapsed() - decided;
        println!(
            "| {nodes} | {} | {:.0} | {:.0} |",
            zone.names().count(),
            decided.as_secs_f64() * 1e3,
            made.as_secs_f64() * 1e3
        );
    }
}
