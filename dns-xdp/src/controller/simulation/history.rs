//! The events of a simulated cluster, drawn from a seed, and the clock that drives them.
use std::fmt::Write as _;
use std::time::Duration;

use fastrand::Rng;

use super::server::Server;
use super::world::{Loss, Port, World};
use super::{Failback, HOLD_DOWN, NODES, config, invariants, is_dual_stack};
use crate::cluster::{Admin, Family};
use crate::control::Command;

/// The time before the first fault. Every node gets its verdict in this time. A time without faults follows the last
/// fault.
const CALM: Duration = Duration::from_secs(3);
const TROUBLE_MS: std::ops::Range<u64> = 2_000..15_000;
/// The shortest pause that a server has to notice, in milliseconds: the timeout of its probes.
const SLIP_MS: u64 = 500;
/// The time without faults at the end: enough for the longest rise, and for a blind server to see again.
const AFTERMATH: Duration = Duration::from_secs(9);
/// The longest time of a hold: the hold-down, and the tick that ends it.
const HELD: Duration = HOLD_DOWN.saturating_add(Duration::from_secs(1));

/// The time between a node's recovery and the operator's failback.
const FAILED_BACK: Duration = Duration::from_secs(5);

/// One history under way.
#[derive(Debug)]
pub(super) struct History {
    random: Rng,
    world: World,
    servers: Vec<Server>,
    failback: Failback,
    /// The actions to come, in the order of their times.
    to_come: Vec<(Duration, Action)>,
    log: String,
}

/// An action on the cluster. Numbers count nodes and servers from 0.
#[derive(Debug, Clone, Copy)]
enum Action {
    Start(usize),
    /// The service on a port of a node dies, or comes back.
    Service(usize, Port, bool),
    /// A host dies with everything on it, or comes back.
    Host(usize, bool),
    /// Packets of a family no longer reach a node, or reach it again.
    Family(usize, Family, bool),
    /// The loss on the link from a server to a node.
    Loss(usize, usize, Loss),
    /// The link between a server and a node is cut, or restored. The number after the last node is the witness.
    Cut(usize, usize, bool),
    /// A server stands still for this many milliseconds, and may lose commands meanwhile.
    Pause(usize, u64, bool),
    /// A daemon ends.
    Stop(usize),
    /// A daemon is killed after this many further effects.
    Kill(usize, u32),
    /// A server reloads a configuration with this many nodes; the last node may have a different probe.
    Reload(usize, usize, bool),
    Admin(usize, usize, Admin),
    /// An operator fails a node back on a server.
    Failback(usize, usize),
    /// All faults end.
    Mend,
}

impl History {
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let nodes = random.usize(2..=NODES);
        let count = random.usize(1..=nodes.min(3));
        let failback = Failback::ALL[random.usize(0..3)];
        let file = config(nodes, false, failback);
        let mut servers: Vec<Server> = (0..count).map(|index| Server::new(index, file)).collect();
        let is_slow = random.u8(0..4) == 0;
        for server in &mut servers {
            server.is_slow = is_slow;
            server.start(None, Duration::ZERO, &mut random);
        }
        let mut history = History {
            world: World::new(count, nodes + 1),
            servers,
            failback,
            to_come: Vec::new(),
            log: format!(
                "{count} servers, {nodes} nodes, failback {failback:?}{}\n",
                if is_slow { ", effects take time" } else { "" }
            ),
            random,
        };
        history.draw(nodes);
        history
    }

    /// Draws the actions, and the actions that undo them at the end.
    fn draw(&mut self, nodes: usize) {
        let (random, servers) = (&mut self.random, self.servers.len());
        let end = CALM + Duration::from_millis(random.u64(TROUBLE_MS));
        for _ in 0..random.usize(1..=7) {
            let at = CALM + (end - CALM).mul_f64(random.f64());
            let later = at + Duration::from_millis(random.u64(50..6_000));
            let (server, node) = (random.usize(0..servers), random.usize(0..nodes));
            let mut both = |first, second| self.to_come.extend([(at, first), (later.min(end), second)]);
            let port = [Port::Node, Port::Member][usize::from(random.u8(0..4) == 0)];
            match random.u8(0..28) {
                0..=3 => both(Action::Service(node, port, false), Action::Service(node, port, true)),
                4..=6 => both(Action::Host(node, false), Action::Host(node, true)),
                7 | 8 => {
                    let losses = [Loss::Share(0.1), Loss::Share(0.5), Loss::Share(0.9), Loss::EveryOther];
                    let loss = losses[random.usize(0..losses.len())];
                    both(Action::Loss(server, node, loss), Action::Loss(server, node, Loss::Share(0.0)));
                }
                // One link, or all links of a server.
                9 => both(Action::Cut(server, node, true), Action::Cut(server, node, false)),
                10 | 11 => {
                    for node in (0..=nodes + 1).filter(|&node| node != server) {
                        self.to_come.extend([
                            (at, Action::Cut(server, node, true)),
                            (later.min(end), Action::Cut(server, node, false)),
                        ]);
                    }
                }
                12 => {
                    let period = Duration::from_millis(random.u64(100..2_000));
                    let flips = random.u32(2..12);
                    for flip in 0..flips {
                        self.to_come.push((at + period * flip, Action::Service(node, port, flip % 2 == 1)));
                    }
                }
                13 | 14 => {
                    let milliseconds = random.u64(50..5_000);
                    let deaf = milliseconds >= SLIP_MS && random.bool();
                    self.to_come.push((at, Action::Pause(server, milliseconds, deaf)));
                }
                15 | 16 => both(Action::Stop(server), Action::Start(server)),
                22 | 23 => both(Action::Kill(server, random.u32(0..40)), Action::Start(server)),
                17 => {
                    let other = if nodes > 2 && random.bool() { nodes - 1 } else { nodes + 1 };
                    both(Action::Reload(server, other, false), Action::Reload(server, nodes, false));
                }
                18 => both(Action::Reload(server, nodes, true), Action::Reload(server, nodes, false)),
                // The scheduler delays the server again and again.
                19 => {
                    let mut at = at;
                    for _ in 0..random.u32(2..6) {
                        self.to_come.push((at, Action::Pause(server, random.u64(SLIP_MS..900), true)));
                        at += Duration::from_millis(random.u64(700..2_000));
                    }
                }
                20 if self.failback != Failback::AtOnce => {
                    both(Action::Service(node, Port::Node, false), Action::Service(node, Port::Node, true));
                    self.to_come.push((later + FAILED_BACK, Action::Failback(server, node)));
                }
                24..=27 if is_dual_stack(node + 1) => {
                    let family = Family::ALL[usize::from(random.u8(0..4) != 0)];
                    both(Action::Family(node, family, false), Action::Family(node, family, true));
                }
                _ => {
                    let admin = [Admin::Up, Admin::Down, Admin::Drain][random.usize(0..3)];
                    both(Action::Admin(server, node, admin), Action::Admin(server, node, Admin::Auto));
                }
            }
        }
        let last = self.to_come.iter().map(|(at, _)| *at).max().unwrap_or_default().max(end);
        self.to_come.push((last, Action::Mend));
        self.to_come.sort_by_key(|(at, _)| *at);
    }

    /// Runs the history to its end. Returns the number of steps, or the invariant that did not hold.
    pub(super) fn run(&mut self) -> Result<u64, String> {
        let actions = std::mem::take(&mut self.to_come);
        let end = actions.last().map_or(Duration::ZERO, |(at, _)| *at) + AFTERMATH + HELD;
        let mut actions = actions.into_iter().peekable();
        let mut steps = 0;
        let mut due: Vec<_> = self.servers.iter().map(Server::next).collect();
        loop {
            let action = actions.peek().map(|(at, _)| *at);
            let servers = due.iter().enumerate().filter_map(|(index, due)| Some(((*due)?, index)));
            let server = servers.min().filter(|(at, _)| action.is_none_or(|action| *at < action));
            let now = server.map(|(at, _)| at).or(action).filter(|now| *now < end);
            let Some(now) = now.map(|now| now.max(self.world.now)) else {
                break;
            };
            self.world.now = now;
            steps += 1;
            if let Some((_, index)) = server {
                let server = &mut self.servers[index];
                let before = invariants::Before::of(server);
                if server.step(&self.world, &mut self.random) {
                    self.check(index, &before, false)?;
                }
                due[index] = self.servers[index].next();
            } else if let Some((_, action)) = actions.next() {
                self.act(action)?;
                due = self.servers.iter().map(Server::next).collect();
            }
        }
        self.world.now = end;
        invariants::at_the_end(&self.servers).map_err(|broken| format!("at the end: {broken}"))?;
        Ok(steps)
    }

    fn act(&mut self, action: Action) -> Result<(), String> {
        let now = self.world.now;
        let befores: Vec<_> = self.servers.iter().map(invariants::Before::of).collect();
        let touched = self.enact(action);
        writeln!(self.log, "{now:>12.3?} {action:?}").expect("a string takes every line");
        self.world.note_links();
        for (index, before) in befores.iter().enumerate() {
            self.check(index, before, touched == Some(index))?;
        }
        Ok(())
    }

    /// Performs an action. Returns the server that it affects, if there is one.
    fn enact(&mut self, action: Action) -> Option<usize> {
        let now = self.world.now;
        let random = &mut self.random;
        match action {
            Action::Start(server) => {
                let server = &mut self.servers[server];
                if !server.running && self.world.nodes[server.index].host {
                    server.start(None, now, random);
                }
            }
            Action::Service(node, port, alive) => self.world.nodes[node].services[port as usize] = alive,
            Action::Host(node, alive) => {
                self.world.nodes[node].host = alive;
                match self.servers.get_mut(node) {
                    Some(server) if alive && !server.running => server.start(None, now, random),
                    Some(server) if !alive => server.stop(true),
                    _ => {}
                }
            }
            Action::Family(node, family, reached) => {
                self.world.nodes[node].families[family as usize] = reached;
            }
            Action::Loss(server, node, loss) => self.world.links[server][node].loss = loss,
            Action::Cut(server, node, cut) => self.world.links[server][node].cut = cut,
            Action::Pause(server, milliseconds, deaf) => {
                self.servers[server].pause(now, Duration::from_millis(milliseconds), deaf);
            }
            Action::Stop(server) => self.servers[server].stop(false),
            Action::Kill(server, effects) => self.servers[server].fatal_effects = Some(effects),
            Action::Reload(server, nodes, changed) => {
                let server = self.servers.get_mut(server).filter(|server| server.listens())?;
                server.reload(config(nodes, changed, self.failback), now, random);
                return Some(server.index);
            }
            Action::Admin(server, node, admin) => {
                let server = self.servers.get_mut(server).filter(|server| server.listens())?;
                server.ask(admin_command(node, admin, format!("at {now:?}")), now, random);
                return Some(server.index);
            }
            Action::Failback(server, node) => {
                let server = self.servers.get_mut(server).filter(|server| server.listens())?;
                server.fail_back(&format!("node{}", node + 1), now, random);
                return Some(server.index);
            }
            Action::Mend => {
                self.world.mend();
                self.servers.iter_mut().for_each(|server| server.fatal_effects = None);
                let stopped = self.servers.iter_mut().filter(|server| !server.running);
                stopped.for_each(|server| server.start(None, now, random));
            }
        }
        None
    }

    fn check(&mut self, server: usize, before: &invariants::Before, told: bool) -> Result<(), String> {
        let held = invariants::check(&self.world, &mut self.servers, server, before, told);
        held.map_err(|broken| format!("after {:.3?}, server {server}: {broken}", self.world.now))
    }

    /// The log of all actions so far.
    pub(super) fn log(&self) -> &str {
        &self.log
    }
}

/// Returns the command for an intent, with `force`, so that no quorum is needed.
pub(super) fn admin_command(node: usize, admin: Admin, reason: String) -> Command {
    let node = format!("node{}", node + 1);
    let force = admin == Admin::Drain;
    Command::Admin { node, admin, reason: Some(reason), by: None, for_ms: None, force, local: false }
}
