//! Servers that share a store: their events, drawn from a seed, and the clock that drives them.
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use fastrand::Rng;

use super::agreement::{self, Before};
use super::history::admin_command;
use super::member::Member;
use super::store_link::{StoreLink, Way};
use super::store_model::StoreModel;
use super::world::{Loss, Port, World};
use super::{Configured, Failback, is_dual_stack};
use crate::cluster::{Admin, Family};
use crate::control::Command;
use crate::controller::core::Input;
use crate::intent::Intents;
use crate::store::Known;
use crate::store::documents::{Documents, INTENT, split};
use crate::store::identity::Instance;

const NODES: usize = 6;
const CALM: Duration = Duration::from_secs(2);
/// Documents that an operator removes by etcdctl.
const DELETED: [&str; 3] = ["config/nodes", "config/services", INTENT];
const TROUBLE_MS: std::ops::Range<u64> = 2_000..10_000;
/// How often all invariants are checked.
const LOOK: Duration = Duration::from_millis(250);
/// The time between a node's recovery and the operator's failback.
const FAILED_BACK: Duration = Duration::from_secs(3);
/// The time after which servers agree on the holds, and holds that have to end have ended.
const HELD: Duration = Duration::from_secs(25);
/// The store leases to draw from, in seconds.
const LEASES: [u64; 2] = [2, 3];

/// The whole simulation: servers, store and network.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) random: Rng,
    pub(super) world: World,
    pub(super) store: StoreModel,
    pub(super) members: Vec<Member>,
    pub(super) lease: Duration,
    pub(super) probers: usize,
    pub(super) failback: Failback,
    /// The intents that the store has accepted, and since when.
    pub(super) wanted: Intents,
    pub(super) wanted_since: Duration,
    /// Another server with the name of one of the members.
    pub(super) clone: Option<(usize, StoreLink)>,
    /// Whether all faults are over, so that an operator accepts the store's documents.
    accepts: bool,
    to_come: Vec<(Duration, Action)>,
    log: String,
}

/// An action on the cluster. Numbers count nodes and servers from 0.
#[derive(Debug, Clone, Copy)]
enum Action {
    /// The service on a node dies, or comes back.
    Service(usize, bool),
    /// A host dies with everything on it, or comes back.
    Host(usize, bool),
    Loss(usize, usize, f64),
    /// The link between a server and a node is cut, or restored.
    Cut(usize, usize, bool),
    /// Packets of a family no longer reach a node, or reach it again.
    Family(usize, Family, bool),
    /// Packets of a family from one server no longer reach a node, or reach it again.
    CutFamily(usize, usize, Family, bool),
    /// A server loses the store, or finds it again.
    Lose(usize, bool),
    /// Most members of the store die, or come back.
    Majority(bool),
    /// A server's verdicts cannot be written, or can be written again.
    Hang(usize, bool),
    /// A server's watch is late by this many milliseconds.
    Slow(usize, u64),
    /// A server's watch falls silent without an error.
    Silence(usize),
    Pause(usize, u64),
    /// A daemon ends, in order or killed.
    Stop(usize, bool),
    Start(usize),
    Admin(usize, usize, Admin),
    /// A document is removed by another client of the store.
    Delete(&'static str),
    /// A backup of the store is made.
    Save,
    /// The store is restored from the backup.
    Restore,
    /// A clone of a server's machine starts, or ends without a notice.
    Clone(usize, bool),
    /// An intent for a node on one server alone.
    Local(usize, usize, Admin),
    /// An operator fails a node back.
    Failback(usize, usize),
    /// All faults end.
    Mend,
}

/// The configuration of this many nodes. This many servers probe each node. `last_votes`: whether the last node counts
/// for the quorum.
fn config(nodes: usize, probers: usize, failback: Failback, last_votes: bool) -> &'static Configured {
    static CONFIGS: OnceLock<Vec<[[Configured; 3]; 2]>> = OnceLock::new();
    let configs = CONFIGS.get_or_init(|| {
        let all = (0..=NODES).flat_map(|nodes| (1..=5).map(move |probers| (nodes.max(3), probers)));
        let each = |(nodes, probers)| {
            [false, true].map(|last_votes| {
                Failback::ALL.map(|failback| configured(nodes, probers, failback, last_votes))
            })
        };
        all.map(each).collect()
    });
    &configs[nodes * 5 + probers - 1][usize::from(last_votes)][failback as usize]
}

fn configured(nodes: usize, probers: usize, failback: Failback, last_votes: bool) -> Configured {
    let failback = failback.keys();
    let mut text = format!(
        "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
         [failover]\nprobers = {probers}\n{failback}\
         [cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\n[health]\nrise-max = 2\n\
         [[service]]\nname = \"db\"\nnodes = [\"node1\", \"node2\"]\n"
    );
    for node in 1..=nodes {
        text.push_str(&format!("[[node]]\nname = \"node{node}\"\nipv4 = \"192.0.2.{node}\"\n"));
        if is_dual_stack(node) {
            text.push_str(&format!("ipv6 = \"2001:db8::{node}\"\n"));
        }
        if node == nodes && !last_votes {
            text.push_str("quorum = false\n");
        }
        text.push_str(&addresses_in_the_set(node, nodes));
    }
    text.push_str(SUFFIX);
    shared(text)
}

/// A suffix with an address set. All nodes but the last have the set.
pub(super) const SUFFIX: &str = "[[suffix]]\nname = \"internal\"\naddresses = \"internal\"\n";

/// Returns the addresses of a node in the set of [`SUFFIX`], as the file has them.
pub(super) fn addresses_in_the_set(node: usize, nodes: usize) -> String {
    if node == nodes {
        return String::new();
    }
    let ipv6 = if is_dual_stack(node) { format!("ipv6 = \"2001:db8:1::{node}\"\n") } else { String::new() };
    format!("[node.addresses.internal]\nipv4 = \"10.0.0.{node}\"\n{ipv6}")
}

/// Returns the configuration of a text whose shared sections are in the store.
pub(super) fn shared(text: String) -> Configured {
    let (_, texts) = split(&text).expect("sections");
    let revisions = texts.keys().map(|key| (key.clone(), 1)).collect();
    let documents = Documents { texts, revisions, ..Documents::default() };
    Configured::new(text, Some(documents))
}

impl Cluster {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let servers = random.usize(3..=5);
        let nodes = random.usize(servers..=NODES);
        let probers = [2, 3, 5, 5][random.usize(0..4)];
        let lease = Duration::from_secs(LEASES[random.usize(0..LEASES.len())]);
        let failback = Failback::ALL[random.usize(0..3)];
        // Servers are the first nodes. A further node may be without a vote.
        let last_votes = nodes == servers || !seed.is_multiple_of(3);
        let file = config(nodes, probers, failback, last_votes);
        let mut members: Vec<Member> = (0..servers).map(|index| Member::new(index, file)).collect();
        let store = StoreModel::of(&members[0].documents);
        for member in &mut members {
            member.start(lease, Duration::ZERO, &mut random);
        }
        let mut cluster = Cluster {
            world: World::new(servers, nodes),
            store,
            members,
            lease,
            probers,
            failback,
            wanted: Intents::new(),
            wanted_since: Duration::ZERO,
            clone: None,
            accepts: false,
            to_come: Vec::new(),
            log: format!(
                "{servers} servers, {nodes} nodes, {probers} probers, a lease of {lease:?}, failback {failback:?}\n"
            ),
            random,
        };
        cluster.draw(nodes);
        cluster
    }

    fn draw(&mut self, nodes: usize) {
        let (random, servers) = (&mut self.random, self.members.len());
        let end = CALM + Duration::from_millis(random.u64(TROUBLE_MS));
        for _ in 0..random.usize(1..=6) {
            let at = CALM + (end - CALM).mul_f64(random.f64());
            let later = (at + Duration::from_millis(random.u64(50..8_000))).min(end);
            let (server, node) = (random.usize(0..servers), random.usize(0..nodes));
            let mut both = |first, second| self.to_come.extend([(at, first), (later, second)]);
            match random.u8(0..39) {
                0..=2 => both(Action::Service(node, false), Action::Service(node, true)),
                3..=5 => both(Action::Host(node, false), Action::Host(node, true)),
                // A rack fails.
                6 => {
                    for node in 0..random.usize(2..=nodes.max(2)) {
                        self.to_come
                            .extend([(at, Action::Host(node, false)), (later, Action::Host(node, true))]);
                    }
                }
                7 => both(Action::Loss(server, node, 0.5), Action::Loss(server, node, 0.0)),
                8..=10 => both(Action::Cut(server, node, true), Action::Cut(server, node, false)),
                // A server is cut off from all other hosts, and perhaps from the store.
                11..=13 => {
                    let store = random.bool();
                    for node in (0..nodes).filter(|&node| node != server) {
                        self.to_come.extend([
                            (at, Action::Cut(server, node, true)),
                            (later, Action::Cut(server, node, false)),
                        ]);
                    }
                    if store {
                        self.to_come
                            .extend([(at, Action::Lose(server, true)), (later, Action::Lose(server, false))]);
                    }
                }
                14..=16 => both(Action::Lose(server, true), Action::Lose(server, false)),
                // All servers.
                17 => {
                    for server in 0..servers {
                        let back = later + Duration::from_millis(random.u64(0..400));
                        self.to_come
                            .extend([(at, Action::Lose(server, true)), (back, Action::Lose(server, false))]);
                    }
                }
                18 => both(Action::Majority(false), Action::Majority(true)),
                19 => both(Action::Hang(server, true), Action::Hang(server, false)),
                20 => both(Action::Slow(server, random.u64(50..1_000)), Action::Slow(server, 0)),
                21 => self.to_come.push((at, Action::Silence(server))),
                22 => self.to_come.push((at, Action::Pause(server, random.u64(50..5_000)))),
                30 | 31 => {
                    both(Action::Lose(server, true), Action::Lose(server, false));
                    let admin = [Admin::Up, Admin::Down, Admin::Drain][random.usize(0..3)];
                    let lost = at + self.lease;
                    self.to_come.push((lost, Action::Local(server, node, admin)));
                    if random.bool() {
                        let taken_back = lost + Duration::from_millis(random.u64(50..3_000));
                        self.to_come.push((taken_back, Action::Local(server, node, Admin::Auto)));
                    }
                    if random.bool() {
                        self.to_come.push((lost, Action::Admin((server + 1) % servers, node, Admin::Drain)));
                    }
                }
                32 if self.failback != Failback::AtOnce => {
                    both(Action::Service(node, false), Action::Service(node, true));
                    self.to_come.push((later + FAILED_BACK, Action::Failback(server, node)));
                }
                33..=35 if is_dual_stack(node + 1) => {
                    let family = Family::ALL[usize::from(random.u8(0..4) != 0)];
                    both(Action::Family(node, family, false), Action::Family(node, family, true));
                }
                36 if is_dual_stack(node + 1) => {
                    let family = Family::ALL[random.usize(0..2)];
                    both(
                        Action::CutFamily(server, node, family, true),
                        Action::CutFamily(server, node, family, false),
                    );
                }
                // A network without IPv6.
                37 => {
                    for node in (0..nodes).filter(|&node| is_dual_stack(node + 1)) {
                        let [dies, lives] =
                            [false, true].map(|alive| Action::Family(node, Family::Ipv6, alive));
                        self.to_come.extend([(at, dies), (later, lives)]);
                    }
                }
                // A host whose parts die one after another.
                38 if is_dual_stack(node + 1) => {
                    both(Action::Family(node, Family::Ipv6, false), Action::Family(node, Family::Ipv6, true));
                    both(Action::Service(node, false), Action::Service(node, true));
                    let between = at + (later - at).mul_f64(random.f64());
                    self.to_come.push((between, Action::Host(node, false)));
                    self.to_come.push((later, Action::Host(node, true)));
                }
                23 => both(Action::Stop(server, random.bool()), Action::Start(server)),
                24 => self.to_come.push((at, Action::Delete(DELETED[random.usize(0..DELETED.len())]))),
                25 => both(Action::Clone(server, true), Action::Clone(server, false)),
                26 => {
                    let part = |share: f64| at + (later - at).mul_f64(share);
                    both(Action::Save, Action::Restore);
                    self.to_come.push((part(0.3), Action::Admin(server, node, Admin::Drain)));
                    let restarted = if random.bool() { 0..servers } else { server..server + 1 };
                    for server in restarted {
                        let back = later + Duration::from_millis(random.u64(1..500));
                        self.to_come.extend([
                            (part(0.7), Action::Stop(server, random.bool())),
                            (back, Action::Start(server)),
                        ]);
                    }
                }
                _ => {
                    let admin = [Admin::Up, Admin::Down, Admin::Drain][random.usize(0..3)];
                    let (other, word) = (random.usize(0..servers), random.usize(0..nodes));
                    self.to_come.extend([
                        (at, Action::Admin(server, node, admin)),
                        (at, Action::Admin(other, word, Admin::Drain)),
                        (later, Action::Admin(server, node, Admin::Auto)),
                    ]);
                }
            }
        }
        let last = self.to_come.iter().map(|(at, _)| *at).max().unwrap_or_default().max(end);
        self.to_come.push((last, Action::Mend));
        self.to_come.sort_by_key(|(at, _)| *at);
    }

    /// Runs the simulation to its end. Returns the number of steps, or the invariant that did not hold.
    pub(super) fn run(&mut self) -> Result<u64, String> {
        let actions = std::mem::take(&mut self.to_come);
        let last = actions.last().map_or(Duration::ZERO, |(at, _)| *at);
        let held = if self.failback == Failback::AtOnce { Duration::ZERO } else { HELD };
        let end = last + self.lease * 2 + Duration::from_secs(5) + held;
        let mut actions = actions.into_iter().peekable();
        let (mut look, mut steps) = (LOOK, 0);
        let mut due = vec![Some(Duration::ZERO); self.members.len()];
        loop {
            let action = actions.peek().map(|(at, _)| *at);
            let clone = self.clone.as_ref().and_then(|(_, link)| link.next(&self.store, self.world.now));
            let next =
                due.iter().copied().flatten().chain(action).chain(self.store.next()).chain(clone).min();
            let now = next.map_or(look, |next| next.min(look)).max(self.world.now);
            if now >= end {
                break;
            }
            self.world.now = now;
            steps += 1;
            let revision = self.store.revision();
            self.store.expire(now);
            let acts = action.is_some_and(|at| at <= now);
            if let Some((_, action)) = actions.next_if(|(at, _)| *at <= now) {
                writeln!(self.log, "{now:>12.3?} {action:?}").expect("a string takes every line");
                self.act(action);
                self.world.note_links();
            }
            for index in 0..self.members.len() {
                if due[index].is_some_and(|due| due <= now) {
                    self.step(index)?;
                    due[index] = self.members[index].next(&self.store, now);
                }
            }
            if let Some((_, link)) = &mut self.clone {
                link.step(&mut self.store, &Way::default(), now, &mut self.random);
            }
            if acts || self.store.revision() != revision {
                due = self.members.iter().map(|member| member.next(&self.store, now)).collect();
            }
            if look <= now {
                look = now + LOOK;
                self.look()?;
            }
        }
        self.world.now = end;
        agreement::at_the_end(self).map_err(|broken| format!("at the end: {broken}"))?;
        Ok(steps)
    }

    fn step(&mut self, index: usize) -> Result<(), String> {
        let now = self.world.now;
        let paused = self.members[index].server.paused_until.is_some_and(|until| until > now);
        if paused {
            return Ok(());
        }
        self.sync(index)?;
        let (random, member) = (&mut self.random, &mut self.members[index]);
        if member.server.next().is_some_and(|due| due <= now) {
            let before = member.server.published.clone().filter(|_| member.server.live);
            let intents = member.server.state().intents().clone();
            if member.server.step(&self.world, random) {
                member.obey(now, random);
                agreement::judged(member, before.as_ref(), &intents)
                    .map_err(|broken| format!("{} at {now:.3?}: {broken}", member.name))?;
            }
        }
        if let Some(link) = &mut member.link {
            link.step(&mut self.store, &member.way, now, random);
            for (swap, told) in std::mem::take(&mut link.swapped) {
                let told = if told { "" } else { ", without an answer" };
                let written = swap.writes.get(INTENT).expect("intents are what operators change here");
                self.wanted = serde_json::from_slice(written).expect("intents are JSON");
                writeln!(self.log, "{now:>12.3?} {:?}{told}", self.wanted)
                    .expect("a string takes every line");
                self.wanted_since = now;
                agreement::nothing_is_lost(&self.store, &self.wanted)?;
            }
            for (work, result) in std::mem::take(&mut link.results) {
                member.server.tell(Input::Swapped { work, result }, now, random);
            }
        }
        self.members[index].obey(now, &mut self.random);
        self.sync(index)
    }

    fn sync(&mut self, index: usize) -> Result<(), String> {
        let now = self.world.now;
        let member = &mut self.members[index];
        if !member.has_news(now) {
            return Ok(());
        }
        let before = Before::of(member);
        member.receive_view(now, &mut self.random);
        member.obey(now, &mut self.random);
        let at = |broken: String| format!("node{} at {now:.3?}: {broken}", index + 1);
        member.goes_on().map_err(at)?;
        agreement::heard(&self.members[index], &before).map_err(at)?;
        agreement::check(self, index).map_err(at)
    }

    fn look(&mut self) -> Result<(), String> {
        let now = self.world.now;
        if self.accepts {
            // The operator accepts on one server at a time, until there is nothing left to accept.
            let mut links = self.members.iter_mut().filter_map(|member| member.link.as_mut());
            links.any(StoreLink::accept);
        }
        if let Some((of, link)) = &self.clone {
            agreement::one_of_two_has_the_name(self, &self.members[*of], link)?;
            self.members[*of].shaken = now;
        }
        for member in &mut self.members {
            if member.acts() && member.server.state().blind().is_some() {
                member.shaken = member.shaken.max(now);
            }
        }
        for index in 0..self.members.len() {
            agreement::check(self, index)
                .map_err(|broken| format!("node{} at {now:.3?}: {broken}", index + 1))?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) {
        let now = self.world.now;
        let (random, members) = (&mut self.random, &mut self.members);
        match action {
            Action::Service(node, alive) => self.world.nodes[node].services[Port::Node as usize] = alive,
            Action::Host(node, alive) => {
                self.world.nodes[node].host = alive;
                if let Some(member) = members.get_mut(node) {
                    if alive && !member.server.running {
                        member.start(self.lease, now, random);
                    } else if !alive {
                        member.server.stop(true);
                        member.link = None;
                        member.shaken = now;
                    }
                }
            }
            Action::Loss(server, node, share) => self.world.links[server][node].loss = Loss::Share(share),
            Action::Cut(server, node, cut) => self.world.links[server][node].cut = cut,
            Action::Family(node, family, reached) => {
                self.world.nodes[node].families[family as usize] = reached;
            }
            Action::CutFamily(server, node, family, cut) => {
                self.world.links[server][node].cut_families[family as usize] = cut;
            }
            Action::Lose(server, cut) => (members[server].way.cut, members[server].shaken) = (cut, now),
            Action::Majority(there) => {
                if there {
                    self.store.find_majority(now);
                } else {
                    self.store.lost = true;
                }
                members.iter_mut().for_each(|member| member.shaken = member.shaken.max(now));
            }
            Action::Hang(server, hang) => {
                (members[server].way.puts_hang, members[server].shaken) = (hang, now);
            }
            Action::Slow(server, late) => {
                members[server].way.slow = Duration::from_millis(late);
                members[server].shaken = now;
            }
            Action::Silence(server) => {
                if let Some(link) = &mut members[server].link {
                    link.silence();
                    members[server].shaken = now;
                }
            }
            Action::Pause(server, milliseconds) => {
                let lasting = Duration::from_millis(milliseconds);
                members[server].server.pause(now, lasting, false);
                members[server].shaken = now + lasting;
            }
            Action::Stop(server, orderly) => {
                let member = &mut members[server];
                member.server.stop(false);
                let lease = member.link.take().and_then(|link| link.lease());
                if let Some(lease) = lease.filter(|_| orderly && !member.way.cut && !self.store.lost) {
                    self.store.revoke(lease);
                }
                member.shaken = now;
            }
            Action::Start(server) => {
                if !members[server].server.running && self.world.nodes[server].host {
                    members[server].start(self.lease, now, random);
                }
            }
            Action::Admin(server, node, admin) => {
                if members[server].acts() && members[server].server.live {
                    let reason = format!("by node{} at {now:?}", server + 1);
                    let member = &mut members[server];
                    member.server.ask(admin_command(node, admin, reason), now, random);
                    member.obey(now, random);
                }
            }
            Action::Delete(key) => self.store.delete(key),
            Action::Save => self.store.save(),
            Action::Restore => {
                if self.store.restore(now) {
                    for member in members {
                        member.link.iter_mut().for_each(|link| link.lose(now));
                        member.shaken = member.shaken.max(now);
                    }
                    self.clone.iter_mut().for_each(|(_, link)| link.lose(now));
                }
            }
            Action::Clone(of, true) => {
                let instance = Instance { id: "clone".to_owned(), place: String::new() };
                let name = (members[of].name.clone(), instance);
                let known = Known { documents: members[of].documents.clone(), ..Known::default() };
                self.clone = Some((of, StoreLink::new(name, self.lease, known, now)));
            }
            Action::Clone(_, false) => self.clone = None,
            Action::Local(server, node, admin) => {
                let member = &mut members[server];
                if member.acts() && member.server.live {
                    let command = admin_command(node, admin, format!("by {} alone at {now:?}", member.name));
                    member.server.ask(for_one_server(command), now, random);
                    member.obey(now, random);
                }
            }
            Action::Failback(server, node) => {
                let member = &mut members[server];
                if member.acts() && member.server.live {
                    let node = format!("node{}", node + 1);
                    member.server.ask(Command::Failback { node, by: None }, now, random);
                    member.obey(now, random);
                }
            }
            Action::Mend => {
                self.world.mend();
                self.store.find_majority(now);
                let all = Documents { intents: self.wanted.clone(), ..members[0].documents.clone() };
                self.store.write_missing(&all);
                (self.clone, self.accepts) = (None, true);
                for member in members {
                    (member.way, member.shaken) = (Way::default(), member.shaken.max(now));
                    if !member.server.running {
                        member.start(self.lease, now, random);
                    }
                }
            }
        }
    }

    /// The log of all actions so far.
    pub(super) fn log(&self) -> &str {
        &self.log
    }
}

/// Returns the same command for one server alone.
fn for_one_server(command: Command) -> Command {
    match command {
        Command::Admin { node, admin, reason, by, for_ms, force, .. } => {
            Command::Admin { node, admin, reason, by, for_ms, force, local: true }
        }
        other => other,
    }
}
