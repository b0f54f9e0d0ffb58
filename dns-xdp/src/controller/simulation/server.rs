//! One simulated server: the daemon's core, and a shell of virtual time that performs its effects.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;

use super::State;
use super::attempt::{Attempt, HeldUp, host, observation};
use super::world::{Answer, Outlook, Port, World, no_zone};
use crate::control::Command;
use crate::controller::core::{
    AnswerChanges, Beginning, CallId, Core, Effect, Input, Now, Prepared, Publication, Published, WorkId,
};
use crate::failover::{Answers, Decision, LastAnswers};
use crate::health::schedule::Schedule;
use crate::health::{Observation, Pace, ProbeId, Subject, Target};
use crate::intent::{Intents, Local};
use crate::store::Swap;
use crate::store::client::{Own, Seen};

/// How often the daemon checks its own clock.
const PULSE: Duration = Duration::from_millis(100);
/// The shortest delay that is a slip: the timeout of the probes.
const SLIP: Duration = Duration::from_millis(500);
/// The longest time of an effect of a slow server.
const SLOWEST_MS: u64 = 60;
/// The time between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// The slowest answer. It is below half of `fast-interval`, as the repair bound requires.
pub(super) const ROUND_TRIP: Duration = Duration::from_millis(100);

/// A configuration, and the text that it was read from.
pub(super) type Configured = super::Configured;

/// A server, running or not.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) index: usize,
    pub(super) core: Core,
    /// The configuration in its file.
    file: &'static Configured,
    /// Whether it runs. If not, its program may still give the published answers.
    pub(super) running: bool,
    /// The time until which it stands still.
    pub(super) paused_until: Option<Duration>,
    /// Whether it answers queries.
    pub(super) live: bool,
    /// The answers of its program.
    pub(super) published: Option<Arc<Answers>>,
    /// The intents on its disk.
    pub(super) disk: Intents,
    /// The local decisions on its disk, if there is a store.
    pub(super) local: Local,
    pub(super) last_answers: Option<LastAnswers>,
    /// The nodes that the server found healthy, by the simulation's own count. `fallen` are those nodes among them that
    /// must not come back by themselves.
    pub(super) seen_up: BTreeSet<String>,
    pub(super) fallen: BTreeSet<String>,
    /// Since when it judges without interruption.
    pub(super) judges_since: Option<Duration>,
    /// Since when each node has its present configuration, by its name.
    pub(super) configured_since: BTreeMap<String, Duration>,
    /// Since when each node has its present address, with any probe.
    pub(super) there_since: BTreeMap<(String, IpAddr), Duration>,
    /// The time when it was last given a new configuration.
    pub(super) reloaded: Duration,
    /// Set if the server was held up, by the simulation's own count. The server must not judge by a probe before the
    /// probe has 2 results.
    pub(super) held_up: Option<HeldUp>,
    /// The invariant that it has broken.
    pub(super) broken: Option<String>,
    pub(super) attempts: Vec<Attempt>,
    /// Its pending effects at its store.
    pub(super) at_store: AtStore,
    /// The number of effects that it still performs before it is killed.
    pub(super) fatal_effects: Option<u32>,
    /// Whether its effects take time. Otherwise each is over at once.
    pub(super) is_slow: bool,
    /// The effects under way, and when each is over.
    under_way: Vec<(Duration, UnderWay)>,
    calls: CallId,
    /// Commands that wait for an answer.
    pub(super) unanswered: BTreeSet<CallId>,
    pulsed: Duration,
    ticked: Duration,
}

/// An effect that takes time. It takes effect at its end.
#[derive(Debug)]
enum UnderWay {
    Publish { published: Published, is_first: bool },
    Save(WorkId, Intents),
    SaveLocal(WorkId, Box<Local>),
    Tell(Input),
}

/// The effects at the store that a server has asked for.
#[derive(Debug, Default)]
pub(super) struct AtStore {
    /// Whether it has begun to decide.
    pub(super) decides: bool,
    /// Its entry that has to be written.
    pub(super) own: Option<Own>,
    /// Changes of documents that have to be made.
    pub(super) swaps: Vec<(WorkId, Swap)>,
}

impl Server {
    pub(super) fn new(index: usize, file: &'static Configured) -> Self {
        let (core, _) = core(file, (Intents::new(), Local::default()), None, None, Duration::ZERO);
        Server {
            index,
            core,
            file,
            running: false,
            paused_until: None,
            live: false,
            published: None,
            disk: Intents::new(),
            local: Local::default(),
            last_answers: None,
            seen_up: BTreeSet::new(),
            fallen: BTreeSet::new(),
            judges_since: None,
            configured_since: BTreeMap::new(),
            there_since: BTreeMap::new(),
            reloaded: Duration::ZERO,
            held_up: None,
            broken: None,
            attempts: Vec::new(),
            at_store: AtStore::default(),
            fatal_effects: None,
            is_slow: false,
            under_way: Vec::new(),
            calls: 0,
            unanswered: BTreeSet::new(),
            pulsed: Duration::ZERO,
            ticked: Duration::ZERO,
        }
    }

    pub(super) fn state(&self) -> &State {
        &self.core.health
    }

    /// Starts the daemon with the files on its disk; `shared`: its name, and its view of the store.
    pub(super) fn start(&mut self, shared: Option<(String, Seen)>, now: Duration, random: &mut Rng) {
        let disk = serde_json::to_vec(&self.disk).expect("intents are JSON");
        let intents = serde_json::from_slice(&disk).expect("what was written is read");
        let local = serde_json::to_vec(&self.local).expect("it is JSON");
        let local = serde_json::from_slice(&local).expect("what was written is read");
        let (core, effects) = core(self.file, (intents, local), shared, self.last_answers.clone(), now);
        self.core = core;
        (self.running, self.live, self.pulsed, self.paused_until) = (true, false, now, None);
        (self.judges_since, self.held_up, self.ticked) = (None, None, now);
        let answered = self.last_answers.iter().flat_map(|last| &last.nodes);
        let itself = answered.filter(|(node, answering)| answering.as_ref() == Some(*node));
        self.seen_up = itself.map(|(node, _)| node.clone()).collect();
        let nodes = &self.core.health.config().cluster.nodes;
        self.configured_since = nodes.iter().map(|node| (node.name.clone(), now)).collect();
        self.there_since.clear();
        self.attempts.clear();
        self.unanswered.clear();
        self.under_way.clear();
        (self.at_store, self.fatal_effects) = (AtStore::default(), None);
        self.perform(effects, now, random);
        self.core.health.clock_guard().pulse(now);
    }

    /// Gives the core an input, and performs the effects.
    pub(super) fn tell(&mut self, input: Input, now: Duration, random: &mut Rng) {
        let effects = self.core.step(at(now), input);
        self.perform(effects, now, random);
    }

    /// Whether all its effects are performed, and it gives the decided answers.
    pub(super) fn is_settled(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Performs effects. Their results are inputs again.
    fn perform(&mut self, effects: Vec<Effect>, now: Duration, random: &mut Rng) {
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Some(left) = &mut self.fatal_effects {
                if *left == 0 {
                    return self.stop(false);
                }
                *left -= 1;
            }
            let result = match effect {
                Effect::Probe(targets) => {
                    self.reconcile(&targets, now, random);
                    None
                }
                Effect::RestartProbes => {
                    for attempt in &mut self.attempts {
                        // The attempts under way no longer count.
                        let fast_interval = attempt.target.probe.fast_interval;
                        attempt.schedule = Schedule::resumed(fast_interval, random.f64(), now);
                        attempt.under_way = None;
                    }
                    None
                }
                Effect::Pace(probe, pace) => {
                    let place = self.attempts.binary_search_by(|attempt| attempt.probe.cmp(&probe));
                    self.attempts[place.expect("a paced probe exists")].pace = pace;
                    None
                }
                Effect::Open(published) => {
                    self.takes_time(UnderWay::Publish { published, is_first: true }, now, random)
                }
                Effect::Publish(published) => {
                    self.takes_time(UnderWay::Publish { published, is_first: false }, now, random)
                }
                Effect::Prepare { work, job } => {
                    let prepared = match self.file.proposal(&job.source()) {
                        Some(proposal) => Ok(Prepared::Proposal(Box::new(proposal))),
                        None => job.run(|_| Ok(self.file.text.clone())),
                    };
                    let result = Input::Prepared { work, result: prepared.map(Box::new) };
                    self.takes_time(UnderWay::Tell(result), now, random)
                }
                Effect::CommitFile { work } => {
                    let result = Input::FileCommitted { work, result: Ok(()) };
                    self.takes_time(UnderWay::Tell(result), now, random)
                }
                Effect::SaveIntents { work, intents, .. } => {
                    self.takes_time(UnderWay::Save(work, intents), now, random)
                }
                Effect::SaveLocal { work, local, .. } => {
                    self.takes_time(UnderWay::SaveLocal(work, local), now, random)
                }
                Effect::KeepAnswers { answers, at, .. } => {
                    self.last_answers = Some(LastAnswers::new(&answers, at));
                    None
                }
                Effect::BeginDeciding => {
                    self.at_store.decides = true;
                    None
                }
                Effect::WriteOwn(own) => {
                    self.at_store.own = Some(*own);
                    None
                }
                Effect::Swap { work, swap } => {
                    self.at_store.swaps.push((work, swap));
                    None
                }
                Effect::Reply { call, .. } | Effect::ReplyListing { call, .. } => {
                    self.unanswered.remove(&call);
                    None
                }
                Effect::RenewLease => Some(Input::LeaseRenewed(Ok(()))),
                Effect::Serve
                | Effect::Alive
                | Effect::Read(_)
                | Effect::Sample(_)
                | Effect::DropFile { .. }
                | Effect::KeepCopy { .. }
                | Effect::RenewSession
                | Effect::AcceptStore
                | Effect::Emit(_)
                | Effect::Warn(_)
                | Effect::Record(_)
                | Effect::ConfigureEvents(_)
                | Effect::ConfigureUpdates(_)
                | Effect::WatchFile(_)
                | Effect::Reloading(_)
                | Effect::Exit(_) => None,
            };
            if let Some(input) = result {
                effects.extend(self.core.step(at(now), input));
            }
        }
        self.live = self.running && self.core.is_live();
    }

    /// Starts an effect. Returns the result if it is over at once; `None`: the result comes later.
    fn takes_time(&mut self, effect: UnderWay, now: Duration, random: &mut Rng) -> Option<Input> {
        if self.is_slow {
            let due = now + Duration::from_millis(random.u64(0..=SLOWEST_MS));
            // Effects end in their order, because one thread performs them.
            let last = self.under_way.iter().map(|(due, _)| *due).max().unwrap_or_default();
            self.under_way.push((due.max(last), effect));
            return None;
        }
        Some(self.is_over(effect))
    }

    /// Ends an effect. Returns its result.
    fn is_over(&mut self, effect: UnderWay) -> Input {
        match effect {
            UnderWay::Publish { published, is_first } => {
                let publication = Box::new(self.publish(published));
                if is_first { Input::Opened(publication) } else { Input::Published(Ok(publication)) }
            }
            UnderWay::Save(work, intents) => {
                self.disk = intents;
                Input::IntentsSaved { work, result: Ok(()) }
            }
            UnderWay::SaveLocal(work, local) => {
                self.local = *local;
                Input::IntentsSaved { work, result: Ok(()) }
            }
            UnderWay::Tell(input) => input,
        }
    }

    fn publish(&mut self, Published { answers, .. }: Published) -> Publication {
        let took = (self.published.as_ref() != Some(&answers)).then_some(Duration::ZERO);
        if took.is_some() {
            self.published = Some(answers);
        }
        let zone = Arc::clone(no_zone());
        Publication {
            zone,
            changes: AnswerChanges::default(),
            left: BTreeMap::new(),
            answered: BTreeSet::new(),
            took,
        }
    }

    /// Ends the daemon. If its host dies too, its program ends as well.
    pub(super) fn stop(&mut self, host_too: bool) {
        (self.running, self.live, self.judges_since) = (false, false, None);
        self.under_way.clear();
        if host_too {
            self.published = None;
        }
    }

    /// Makes the server stand still for this long. If it is `deaf`, it loses commands meanwhile.
    pub(super) fn pause(&mut self, now: Duration, lasting: Duration, deaf: bool) {
        if !self.running {
            return;
        }
        self.tick(now);
        self.paused_until = self.paused_until.max(Some(now + lasting));
        for attempt in self.attempts.iter_mut().filter(|_| deaf) {
            if let Some((end, start, answer)) = &mut attempt.under_way {
                (*end, *answer) = (*start + attempt.pace.timeout, Answer::Silence);
            }
        }
    }

    /// Gives the core the pulses of an undisturbed daemon until now.
    fn tick(&mut self, now: Duration) {
        while self.paused_until.is_none() && self.pulsed + PULSE < now {
            self.pulsed += PULSE;
            self.core.health.clock_guard().pulse(self.pulsed);
        }
    }

    /// Whether the server takes commands.
    pub(super) fn listens(&self) -> bool {
        self.running && self.paused_until.is_none()
    }

    /// Reads a new file. Attempts of unchanged probes continue.
    pub(super) fn reload(&mut self, file: &'static Configured, now: Duration, random: &mut Rng) {
        self.file = file;
        self.ask(Command::Reload { force: false }, now, random);
    }

    /// Gives the server a command.
    pub(super) fn ask(&mut self, command: Command, now: Duration, random: &mut Rng) {
        self.calls += 1;
        self.unanswered.insert(self.calls);
        self.tell(Input::Asked { call: self.calls, command }, now, random);
    }

    /// Gives the server the command to fail a node back.
    pub(super) fn fail_back(&mut self, node: &str, now: Duration, random: &mut Rng) {
        self.fallen.remove(node);
        self.ask(Command::Failback { node: node.to_owned(), by: None }, now, random);
    }

    /// The time of this server's next event.
    pub(super) fn next(&self) -> Option<Duration> {
        let next = |attempt: &Attempt| {
            let ends = attempt.under_way.map(|(end, ..)| end);
            let schedule = &attempt.schedule;
            ends.into_iter().chain(schedule.due(attempt.pace.delay)).chain(schedule.overdue()).min()
        };
        let next = || self.attempts.iter().filter_map(next).min();
        let ticks = self.has_ticks().then_some(self.ticked + TICK);
        let over = self.under_way.iter().map(|(due, _)| *due).min();
        let next = || next().into_iter().chain(ticks).chain(over).min();
        self.paused_until.or_else(next).filter(|_| self.running)
    }

    /// Whether ticks matter: with a store, or while the start waits for something.
    fn has_ticks(&self) -> bool {
        self.core.shares() || !self.live || !self.state().config().failover.hold_down.is_zero()
    }

    /// Performs one due event. Returns whether it was a probe's result.
    pub(super) fn step(&mut self, world: &World, random: &mut Rng) -> bool {
        let now = world.now;
        self.tick(now);
        if self.paused_until.take().is_some() {
            self.judges_since = None;
            if now - self.pulsed >= SLIP {
                self.held_up = Some(HeldUp::default());
            }
        }
        self.pulsed = now;
        if self.pulse(now, random) {
            return true;
        }
        if let Some(place) = self.under_way.iter().position(|(due, _)| *due <= now) {
            let (_, effect) = self.under_way.remove(place);
            let input = self.is_over(effect);
            self.tell(input, now, random);
            return true;
        }
        if self.has_ticks() && self.ticked + TICK <= now {
            self.ticked = now;
            self.tell(Input::Tick, now, random);
            return true;
        }
        let due = |attempt: &Attempt| attempt.schedule.due(attempt.pace.delay).is_some_and(|due| due <= now);
        for index in 0..self.attempts.len() {
            let attempt = &mut self.attempts[index];
            if let Some((end, start, answer)) = attempt.under_way.filter(|(end, ..)| *end <= now) {
                // A node that dies meanwhile does not answer any more.
                let still = world.answer(self.index, attempt.node, attempt.family(), attempt.port);
                if answer == Answer::Accepted && still == Answer::Silence {
                    attempt.under_way = Some((end.max(start + attempt.pace.timeout), start, Answer::Silence));
                    continue;
                }
                attempt.under_way = None;
                attempt.schedule.end();
                self.observe(index, world, &observation(answer, end - start), random);
                return true;
            }
            if attempt.schedule.overdue().is_some_and(|overdue| overdue <= now) {
                attempt.schedule.doubt();
                self.observe(index, world, &Observation::Overdue, random);
                return true;
            }
            if due(attempt) {
                attempt.schedule.start(now);
                let lost = world.link(self.index, attempt.node).loses(attempt.made, random.f64());
                let answer = world.answer(self.index, attempt.node, attempt.family(), attempt.port);
                let answer = if lost { Answer::Silence } else { answer };
                attempt.made += 1;
                let round_trip = ROUND_TRIP.mul_f64(random.f64());
                let takes = if answer == Answer::Silence { attempt.pace.timeout } else { round_trip };
                attempt.under_way = Some((now + takes, now, answer));
                return false;
            }
        }
        false
    }

    /// Makes the core check its clock. Returns `true` if the core was held up and every probe begins again.
    fn pulse(&mut self, now: Duration, random: &mut Rng) -> bool {
        let effects = self.core.step(at(now), Input::Pulse { ended: Vec::new() });
        let restarts = effects.iter().any(|effect| matches!(effect, Effect::RestartProbes));
        self.perform(effects, now, random);
        restarts
    }

    fn observe(&mut self, index: usize, world: &World, observation: &Observation, random: &mut Rng) {
        let now = world.now;
        let probe = self.attempts[index].probe.clone();
        let health = |state: &State| state.verdicts()[&probe].health();
        let before = health(&self.core.health);
        let input = Input::Probed { probe: probe.clone(), at: now, observation: observation.clone() };
        self.tell(input, now, random);
        let place = self.attempts.binary_search_by(|attempt| attempt.probe.cmp(&probe));
        // The server may have been killed, or may have joined servers that probe the node for it.
        let Some(index) = place.ok().filter(|_| self.running) else { return };
        let after = health(&self.core.health);
        let attempt = &mut self.attempts[index];
        let is_held_up = self.held_up.as_ref().is_some_and(|held_up| held_up.discards(&probe));
        attempt.note(observation, after, is_held_up);
        let fell = before.serving() == Some(true) && after.serving() == Some(false);
        if fell && attempt.failures < attempt.target.probe.fall {
            self.broken = Some(format!("{:?} fell for {} failures", attempt.probe, attempt.failures));
        }
        let Outlook { perfect_since, .. } =
            world.link(self.index, attempt.node).outlook_in(attempt.family(), attempt.port);
        // A pause shorter than a slip makes results late.
        let answers = |since| now - since > attempt.pace.timeout + SLIP;
        if fell && perfect_since.is_some_and(answers) {
            self.broken = Some(format!("{:?} fell, and answers since {perfect_since:?}", attempt.probe));
        }
        if before != after && is_held_up {
            self.broken = Some(format!("{:?} was judged by a blind server: {before} {after}", attempt.probe));
        }
        if let Some(held_up) = &mut self.held_up
            && *observation != Observation::Overdue
        {
            held_up.note_result(&probe);
            if held_up.is_over(self.attempts.len()) {
                self.held_up = None;
            }
        }
        if self.state().blind().is_none() && self.state().round_complete() {
            self.judges_since.get_or_insert(now);
        }
    }

    /// Whether the server judges by no probe.
    pub(super) fn is_all_blind(&self) -> bool {
        let is_held_up = |held_up: &HeldUp| self.attempts.iter().all(|one| held_up.discards(&one.probe));
        self.held_up.as_ref().is_some_and(is_held_up)
    }

    pub(super) fn decision(&self) -> Option<&Decision> {
        self.state().decision().filter(|_| self.live)
    }

    /// Starts the missing probes at once, and drops the others.
    fn reconcile(&mut self, targets: &BTreeMap<ProbeId, Target>, now: Duration, random: &mut Rng) {
        let same = |attempt: &Attempt| targets.get(&attempt.probe) == Some(&attempt.target);
        let known: BTreeSet<ProbeId> = self
            .attempts
            .iter()
            .filter(|attempt| same(attempt))
            .map(|attempt| attempt.probe.clone())
            .collect();
        self.attempts.retain(same);
        if let Some(held_up) = &mut self.held_up {
            held_up.retain(&known);
            if held_up.is_over(targets.len()) {
                self.held_up = None;
            }
        }
        for (probe, target) in targets.iter().filter(|(probe, _)| !known.contains(probe)) {
            let probing = &target.probe;
            self.attempts.push(Attempt {
                probe: probe.clone(),
                node: host(&probe.subject),
                port: match probe.subject {
                    Subject::Member { .. } => Port::Member,
                    _ => Port::Node,
                },
                failures: 0,
                made: 0,
                schedule: Schedule::new(probing.fast_interval, random.f64()),
                pace: Pace { delay: probing.interval, timeout: probing.timeout },
                target: target.clone(),
                under_way: None,
            });
        }
        self.attempts.sort_by(|one, other| one.probe.cmp(&other.probe));
        let since = |name: &String| {
            let probes = ProbeId::all_of(&Subject::Node(name.clone()));
            let is_known = known.range(probes).next().is_some();
            self.configured_since.get(name).copied().filter(|_| is_known).unwrap_or(now)
        };
        let nodes = self.core.health.config().cluster.nodes.iter();
        self.configured_since = nodes.map(|node| (node.name.clone(), since(&node.name))).collect();
        let nodes = self.core.health.config().cluster.nodes.iter();
        let places = nodes.map(|node| (node.name.clone(), node.probe_address()));
        let there_since = std::mem::take(&mut self.there_since);
        let since =
            |place: (String, IpAddr)| (place.clone(), there_since.get(&place).copied().unwrap_or(now));
        self.there_since = places.map(since).collect();
        self.reloaded = now;
    }
}

/// The core of a server with this file.
fn core(
    file: &Configured,
    (intents, local): (Intents, Local),
    shared: Option<(String, Seen)>,
    last_answers: Option<LastAnswers>,
    now: Duration,
) -> (Core, Vec<Effect>) {
    let (config, source) = (file.config.clone(), file.source.clone());
    let identity = String::new();
    Core::new(Beginning { config, source, intents, shared, local, identity, last_answers }, at(now))
}

/// A reading of the clocks in virtual time.
fn at(elapsed: Duration) -> Now {
    let milliseconds = i64::try_from(elapsed.as_millis()).unwrap_or(0);
    Now { elapsed, wall: Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH) }
}
