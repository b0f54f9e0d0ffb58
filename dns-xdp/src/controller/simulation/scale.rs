//! The cost of a growing cluster that shares a store, counted in virtual time and printed as a table.
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use jiff::Timestamp;

use super::member::Member;
use super::store_model::{Counts, StoreModel};
use super::world::World;
use super::{Configured, sharing};
use crate::cluster::{Cluster, Family, Order, Service};
use crate::config::Config;
use crate::controller::core::{Beginning, Core, Effect, Input, Now, Publication};
use crate::failover::Answers;
use crate::health::{Failure, Observation, ProbeId};
use crate::intent::{Intents, Local};
use crate::zone::Zone;

/// The default lease of the store.
const LEASE: Duration = Duration::from_secs(5);
const PROBERS: usize = 5;
/// The time until every server has joined, even a server that found the store late and had a probation.
const CALM: Duration = Duration::from_secs(8);
const REST: Duration = Duration::from_secs(5);
/// The time until all consequences of a death are over.
const AFTERMATH: Duration = Duration::from_secs(8);
/// The most names that the program's table holds.
pub(super) const NAMES: usize = 65_536;

/// A configuration with this many nodes. The first ones are servers too.
fn config(nodes: usize, probers: usize) -> &'static Configured {
    let mut text = format!(
        "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n[failover]\nprobers = {probers}\n\
         [cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\n"
    );
    for node in 1..=nodes {
        let (high, low) = (node / 250, node % 250 + 1);
        text.push_str(&format!("[[node]]\nname = \"node{node}\"\nipv4 = \"10.0.{high}.{low}\"\n"));
    }
    Box::leak(Box::new(sharing::shared(text)))
}

/// A cluster under way.
struct Scale {
    now: Duration,
    world: World,
    store: StoreModel,
    members: Vec<Member>,
    random: Rng,
    /// The time that each server took to take in a view of the store and decide.
    decided: Vec<Duration>,
    decisions: u64,
    /// The time of the last change of each server's answers.
    moved: Vec<Duration>,
}

/// The counts between two moments.
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
        let mut members: Vec<Member> = (0..servers).map(|index| Member::new(index, config)).collect();
        let store = StoreModel::of(config.source.documents().expect("the shared sections"));
        for member in &mut members {
            member.tells = true;
            member.start(LEASE, Duration::ZERO, &mut random);
        }
        Scale {
            now: Duration::ZERO,
            world: World::new(servers, nodes),
            store,
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
        if member.server.next().is_some_and(|due| due <= now) {
            member.server.step(&self.world, random);
        }
        if let Some(link) = &mut member.link {
            link.step(&mut self.store, &member.way, now, random);
        }
        member.obey(now, random);
        let has_news = member.has_news(now);
        if has_news {
            let began = Instant::now();
            member.receive_view(now, random);
            self.decided[index] += began.elapsed();
            self.decisions += 1;
            member.obey(now, random);
        }
        let by_node =
            |answers: &Option<Arc<Answers>>| answers.as_ref().map(|answers| answers.by_node.clone());
        let after = &member.server.published;
        let same =
            before.as_ref().zip(after.as_ref()).is_some_and(|(before, after)| Arc::ptr_eq(before, after));
        if !same && by_node(&before) != by_node(after) {
            self.moved[index] = now;
        }
    }

    fn spent(&self) -> Spent {
        let links = || self.members.iter().filter_map(|member| member.link.as_ref());
        Spent {
            counts: self.store.counts,
            messages: links().map(|link| link.messages).sum(),
            bytes: links().map(|link| link.bytes_heard).sum(),
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

/// Measures one line of the table: a cluster at rest, and then the death of its last nodes.
fn line(nodes: usize, servers: usize, die: usize) -> String {
    let mut scale = Scale::new(nodes, servers, PROBERS);
    scale.run(CALM);
    let begin = scale.spent();
    scale.run(CALM + REST);
    let rest = scale.spent();
    let everyone = Scale::new(nodes, servers, servers.max(PROBERS));
    let all: usize = everyone.members.iter().map(|member| member.server.state().targets().len()).sum();
    drop(everyone);
    scale.decided.fill(Duration::ZERO);
    scale.decisions = 0;
    let death = scale.now;
    for node in nodes - die..nodes {
        scale.world.nodes[node].host = false;
    }
    scale.world.now = death;
    scale.world.note_links();
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

/// A core whose steps are timed.
struct Timed {
    core: Core,
    now: Duration,
    longest: Duration,
    /// The last zone and the zone before it, as the publisher keeps them, and the time to make a zone.
    zone: Option<Arc<Zone>>,
    retired: Option<Arc<Zone>>,
    making: Duration,
}

impl Timed {
    /// Makes a step, and the steps that follow from its publications.
    fn step(&mut self, input: Input) {
        self.now += Duration::from_millis(1);
        let now = Now { elapsed: self.now, wall: Timestamp::UNIX_EPOCH };
        let began = Instant::now();
        let effects = self.core.step(now, input);
        self.longest = self.longest.max(began.elapsed());
        for effect in effects {
            let (published, is_first) = match effect {
                Effect::Open(published) => (published, true),
                Effect::Publish(published) => (published, false),
                _ => continue,
            };
            let began = Instant::now();
            let zone = Arc::new(published.zone());
            self.making = self.making.max(began.elapsed());
            let took = Some(Duration::ZERO);
            let publication = Publication::new(&published, self.zone.as_deref(), Arc::clone(&zone), took);
            self.retired = self.zone.replace(zone);
            let publication = Box::new(publication);
            self.step(if is_first { Input::Opened(publication) } else { Input::Published(Ok(publication)) });
        }
    }
}

/// A configuration with enough services for this many names. Each service has 3 of the nodes; each node has addresses
/// of both families.
pub(super) fn config_of_names(nodes: usize, names: usize) -> Config {
    let mut config = config(nodes, PROBERS).config.clone();
    for (node, last) in config.cluster.nodes.iter_mut().zip(1..) {
        node.ipv6 = Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last));
    }
    let service = |number: usize| Service {
        name: format!("service{number}"),
        nodes: (0..3).map(|step| format!("node{}", (number + step) % nodes + 1)).collect(),
        order: Order::Rotate,
        backup: Vec::new(),
        min_healthy: 0,
        all_down: None,
        answers_max: None,
        health: None,
    };
    // The nodes, their name servers, and the apex.
    let services = (0..names - 2 * nodes - 1).map(service);
    config.cluster = Cluster::new(config.cluster.nodes.clone(), services.collect());
    config
}

/// A configuration with as many names as the program's table holds.
pub(super) fn config_of_all_names(nodes: usize) -> Config {
    config_of_names(nodes, NAMES)
}

/// Measures the longest step of the core with as many names as the program's table holds. The steps are a start, a
/// node's death over one family and over both, its return and a tick.
#[test]
#[ignore = "a measurement: cargo xtask bench core"]
fn scale_of_a_step_over_all_names() {
    println!("| nodes | names | longest step, ms | make the zone, ms |\n|---|---|---|---|");
    for nodes in [10, 100, 1000] {
        let configured = config(nodes, PROBERS);
        let config = config_of_all_names(nodes);
        let now = Now { elapsed: Duration::ZERO, wall: Timestamp::UNIX_EPOCH };
        let beginning = Beginning {
            config,
            source: configured.source.clone(),
            intents: Intents::new(),
            shared: None,
            local: Local::default(),
            identity: String::new(),
            last_answers: None,
        };
        let (core, _) = Core::new(beginning, now);
        let zero = Duration::ZERO;
        let mut timed = Timed { core, now: zero, longest: zero, zone: None, retired: None, making: zero };
        let probes: Vec<ProbeId> = timed.core.health.targets().keys().cloned().collect();
        let of_the_first: Vec<ProbeId> =
            probes.iter().filter(|probe| probe.subject == probes[0].subject).cloned().collect();
        assert_eq!(of_the_first.len(), 2, "one of each family");
        let success = Observation::Success { round_trip: Duration::from_millis(1) };
        let failure = Observation::Failure(Failure { reason: "refused".to_owned(), visible: true });
        let all_well = probes.iter().map(|probe| (probe.clone(), success.clone()));
        // A node falls when a quorum was heard after the node began to fail.
        let others: Vec<_> =
            all_well.clone().filter(|(probe, _)| probe.subject != probes[0].subject).collect();
        let thrice = |probe: &ProbeId, observation: &Observation| {
            std::iter::repeat_n((probe.clone(), observation.clone()), 3).collect::<Vec<_>>()
        };
        let [ipv4, ipv6] = [0, 1].map(|index| &of_the_first[index]);
        let answering = |timed: &Timed| {
            let answers = &timed.core.health.decision().unwrap().answers;
            Family::ALL.map(|family| answers.node_in(family, 0) == Some(0))
        };
        for (observations, expected) in [
            (all_well.clone().collect(), [true, true]),
            ([thrice(ipv6, &failure), others.clone()].concat(), [true, false]),
            ([thrice(ipv4, &failure), others.clone()].concat(), [false, false]),
            ([thrice(ipv6, &success), thrice(ipv4, &success)].concat(), [true, true]),
        ] {
            for (probe, observation) in observations {
                let at = timed.now;
                timed.step(Input::Probed { probe, at, observation });
            }
            assert_eq!(answering(&timed), expected);
        }
        timed.step(Input::Tick);
        println!(
            "| {nodes} | {} | {:.1} | {:.0} |",
            timed.zone.as_ref().map_or(0, |zone| zone.names().len()),
            timed.longest.as_secs_f64() * 1e3,
            timed.making.as_secs_f64() * 1e3
        );
    }
}
