//! One simulated server: the daemon's state and schedules on a simulated host.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::State;
use super::world::{Answer, Outlook, Port, World};
use crate::config::Config;
use crate::controller::concert::Concert;
use crate::failover::{Answers, Decision};
use crate::health::schedule::Schedule;
use crate::health::{CLEAN_ROUNDS, Failure, Health, Observation, Pace, ProbeId, Subject, paces};
use crate::intent::Intents;

/// The daemon looks at its own clock this often.
const PULSE: Duration = Duration::from_millis(100);
/// Being held up for this long is a slip: the timeout of the probes.
const SLIP: Duration = Duration::from_millis(500);
/// The slowest answer; below half of `fast-interval`, as the promise has it.
pub(super) const ROUND_TRIP: Duration = Duration::from_millis(100);

/// A server, running or not.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) index: usize,
    pub(super) state: State,
    /// It runs; else its program may go on answering what was published.
    pub(super) running: bool,
    /// It stands still until then.
    pub(super) paused_until: Option<Duration>,
    /// Its first round of probes is over.
    pub(super) live: bool,
    /// What its program answers.
    pub(super) published: Option<Arc<Answers>>,
    /// What was on its disk.
    pub(super) disk: Intents,
    /// Since when it judges without interruption.
    pub(super) judges_since: Option<Duration>,
    /// Since when each node is configured as it is, by its name.
    pub(super) configured_since: BTreeMap<String, Duration>,
    /// When it last was given another configuration.
    pub(super) reloaded: Duration,
    /// By our own count: it was held up, and is not to judge before that many rounds of results.
    pub(super) held_up: Option<HeldUp>,
    /// What it did that it must never do.
    pub(super) broken: Option<String>,
    pub(super) attempts: Vec<Attempt>,
    pulsed: Duration,
}

/// What is to pass before a server judges again.
#[derive(Debug)]
pub(super) struct HeldUp {
    rounds_left: u32,
    heard: BTreeSet<ProbeId>,
}

/// A probe, and what has come of it.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) probe: ProbeId,
    /// The host that is asked; `None`: the witness.
    pub(super) node: Option<usize>,
    pub(super) port: Port,
    /// Failures that counted since the verdict was plainly up.
    pub(super) failures: u32,
    /// How many attempts have been made.
    pub(super) made: u64,
    schedule: Schedule,
    pace: Pace,
    /// When the one under way ends, when it began, and what comes of it.
    under_way: Option<(Duration, Duration, Answer)>,
}

impl Server {
    pub(super) fn new(index: usize, config: &Config) -> Self {
        Server {
            index,
            state: State::new(config.clone(), Intents::new()),
            running: false,
            paused_until: None,
            live: false,
            published: None,
            disk: Intents::new(),
            judges_since: None,
            configured_since: BTreeMap::new(),
            reloaded: Duration::ZERO,
            held_up: None,
            broken: None,
            attempts: Vec::new(),
            pulsed: Duration::ZERO,
        }
    }

    /// Starts the daemon with what is on the disk.
    pub(super) fn start(&mut self, now: Duration, random: &mut Rng) {
        let disk = serde_json::to_vec(&self.disk).expect("intents are JSON");
        let intents = serde_json::from_slice(&disk).expect("what was written is read");
        self.state = State::new(self.state.config().clone(), intents);
        (self.running, self.live, self.pulsed, self.paused_until) = (true, false, now, None);
        (self.judges_since, self.held_up) = (None, None);
        let nodes = &self.state.config().cluster.nodes;
        self.configured_since = nodes.iter().map(|node| (node.name.clone(), now)).collect();
        self.attempts.clear();
        self.reconcile(random);
        self.state.blindness().pulse(now);
    }

    /// The daemon ends. A host that dies takes its program with it.
    pub(super) fn stop(&mut self, host_too: bool) {
        (self.running, self.live, self.judges_since) = (false, false, None);
        if host_too {
            self.published = None;
        }
    }

    /// It stands still for that long; what is said to it meanwhile is lost if it is `deaf`.
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

    /// The rhythm of an undisturbed daemon until now.
    fn tick(&mut self, now: Duration) {
        while self.paused_until.is_none() && self.pulsed + PULSE < now {
            self.pulsed += PULSE;
            self.state.blindness().pulse(self.pulsed);
        }
    }

    /// Whether it takes commands.
    pub(super) fn listens(&self) -> bool {
        self.running && self.paused_until.is_none()
    }

    /// Takes another configuration, and keeps the attempts at those that are probed as before.
    pub(super) fn reload(&mut self, config: &Config, now: Duration, random: &mut Rng) {
        let before = self.state.targets().clone();
        self.state.adopt(config.clone());
        let known = &self.configured_since;
        let same = |probe: &ProbeId| before.get(probe) == self.state.targets().get(probe);
        let since = |name: &String| {
            let probe = ProbeId { subject: Subject::Node(name.clone()), index: 0 };
            known.get(name).copied().filter(|_| same(&probe)).unwrap_or(now)
        };
        let nodes = self.state.config().cluster.nodes.iter();
        self.configured_since = nodes.map(|node| (node.name.clone(), since(&node.name))).collect();
        self.attempts.retain(|attempt| same(&attempt.probe));
        if let Some(HeldUp { heard, .. }) = &mut self.held_up {
            heard.retain(same);
        }
        self.reloaded = now;
        self.reconcile(random);
        self.decide();
    }

    /// What the operator wants is on the disk before it counts.
    pub(super) fn want(&mut self, intents: Intents) {
        self.disk.clone_from(&intents);
        self.state.want(intents);
        self.decide();
    }

    /// Takes what the servers of a store say together, and what operators want of all.
    pub(super) fn hear(&mut self, concert: Concert, intents: &Intents, now: Duration, random: &mut Rng) {
        let before = self.state.targets().clone();
        self.state.hear(concert);
        self.disk.clone_from(intents);
        self.state.want(intents.clone());
        let targets = self.state.targets();
        if *targets != before {
            let same = |probe: &ProbeId| before.get(probe) == targets.get(probe);
            self.attempts.retain(|attempt| same(&attempt.probe));
            if let Some(HeldUp { heard, .. }) = &mut self.held_up {
                heard.retain(same);
            }
            self.reloaded = now;
            self.reconcile(random);
        }
        self.decide();
    }

    /// When something happens here next.
    pub(super) fn next(&self) -> Option<Duration> {
        let next = |attempt: &Attempt| {
            let ends = attempt.under_way.map(|(end, ..)| end);
            let schedule = &attempt.schedule;
            ends.into_iter().chain(schedule.due(attempt.pace.delay)).chain(schedule.overdue()).min()
        };
        let next = || self.attempts.iter().filter_map(next).min();
        self.paused_until.or_else(next).filter(|_| self.running)
    }

    /// Does one thing that is due; whether something was found out.
    pub(super) fn step(&mut self, world: &World, random: &mut Rng) -> bool {
        let now = world.now;
        self.tick(now);
        if self.paused_until.take().is_some() {
            self.judges_since = None;
            if now - self.pulsed >= SLIP {
                self.held_up = Some(HeldUp { rounds_left: CLEAN_ROUNDS, heard: BTreeSet::new() });
            }
        }
        self.pulsed = now;
        if self.state.blindness().pulse(now) {
            for attempt in &mut self.attempts {
                let fast_interval = self.state.targets()[&attempt.probe].probe.fast_interval;
                // What was under way is worthless.
                attempt.schedule = Schedule::new(fast_interval, random.f64());
                attempt.under_way = None;
            }
            self.pace();
            return true;
        }
        let due = |attempt: &Attempt| attempt.schedule.due(attempt.pace.delay).is_some_and(|due| due <= now);
        for index in 0..self.attempts.len() {
            let attempt = &mut self.attempts[index];
            if let Some((end, start, answer)) = attempt.under_way.filter(|(end, ..)| *end <= now) {
                // Whoever dies meanwhile does not answer any more.
                let still = world.answer(self.index, attempt.node, attempt.port);
                if answer == Answer::Accepted && still == Answer::Silence {
                    attempt.under_way = Some((end.max(start + attempt.pace.timeout), start, Answer::Silence));
                    continue;
                }
                attempt.under_way = None;
                attempt.schedule.end();
                self.observe(index, world, &observation(answer, end - start));
                return true;
            }
            if attempt.schedule.overdue().is_some_and(|overdue| overdue <= now) {
                attempt.schedule.doubt();
                self.observe(index, world, &Observation::Overdue);
                return true;
            }
            if due(attempt) {
                attempt.schedule.start(now);
                let lost = world.link(self.index, attempt.node).loses(attempt.made, random.f64());
                let answer = world.answer(self.index, attempt.node, attempt.port);
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

    fn observe(&mut self, index: usize, world: &World, observation: &Observation) {
        let now = world.now;
        let attempt = &mut self.attempts[index];
        let health = |state: &State| state.verdicts()[&attempt.probe].health();
        let before = health(&self.state);
        let change = self.state.observe(&attempt.probe, now, observation);
        let after = health(&self.state);
        attempt.note(observation, after, self.held_up.is_some());
        let fell = before.serving() == Some(true) && after.serving() == Some(false);
        if fell && attempt.failures < self.state.targets()[&attempt.probe].probe.fall {
            self.broken = Some(format!("{:?} fell for {} failures", attempt.probe, attempt.failures));
        }
        let Outlook { perfect_since, .. } =
            world.link(self.index, attempt.node).outlook[attempt.port as usize];
        // Standing still for less than a slip makes results late.
        let answers = |since| now - since > attempt.pace.timeout + SLIP;
        if fell && perfect_since.is_some_and(answers) {
            self.broken = Some(format!("{:?} fell, and answers since {perfect_since:?}", attempt.probe));
        }
        if before != after && self.held_up.is_some() {
            self.broken = Some(format!("{:?} was judged by the blind: {before} {after}", attempt.probe));
        }
        if let Some(held_up) = &mut self.held_up
            && *observation != Observation::Overdue
            && held_up.is_over(&self.attempts[index].probe, self.attempts.len())
        {
            self.held_up = None;
        }
        if self.state.blind().is_none() && self.state.round_complete() {
            self.judges_since.get_or_insert(now);
        }
        self.pace();
        if self.live && change.is_some_and(|change| change.decisive) {
            self.decide();
        }
        if !self.live && self.state.round_complete() {
            self.live = true;
            self.decide();
        }
    }

    fn decide(&mut self) {
        if self.live {
            self.state.decide();
            let answers = self.decision().map(|decision| &decision.answers);
            if answers != self.published.as_deref() {
                self.published = answers.cloned().map(Arc::new);
            }
        }
    }

    pub(super) fn decision(&self) -> Option<&Decision> {
        self.state.decision().filter(|_| self.live)
    }

    /// Probes everyone who is to be probed and is not, at once.
    fn reconcile(&mut self, random: &mut Rng) {
        for (probe, target) in self.state.targets() {
            if self.attempts.iter().any(|attempt| attempt.probe == *probe) {
                continue;
            }
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
                under_way: None,
            });
        }
        self.attempts.sort_by(|one, other| one.probe.cmp(&other.probe));
        self.pace();
    }

    fn pace(&mut self) {
        let blind = self.state.blind().is_some();
        for (attempt, (probe, pace)) in self.attempts.iter_mut().zip(paces(self.state.verdicts(), blind)) {
            debug_assert_eq!(attempt.probe, *probe);
            attempt.pace = pace;
        }
    }
}

impl HeldUp {
    /// A probe has a result: whether this was the last of the rounds.
    fn is_over(&mut self, probe: &ProbeId, all: usize) -> bool {
        self.heard.insert(probe.clone());
        if self.heard.len() == all {
            self.heard.clear();
            self.rounds_left -= 1;
        }
        self.rounds_left == 0
    }
}

impl Attempt {
    /// Counts its failures, as far as they count.
    fn note(&mut self, observation: &Observation, health: Health, held_up: bool) {
        if matches!(observation, Observation::Failure(_)) && !held_up {
            self.failures += 1;
        }
        if health == Health::Up {
            self.failures = 0;
        }
    }
}

/// The host of a subject; `None`: it is the witness.
fn host(subject: &Subject) -> Option<usize> {
    match subject {
        Subject::Node(name) | Subject::Member { node: name, .. } => Some(number(name)),
        Subject::Witness(_) => None,
    }
}

/// `node1` lives on the first host.
pub(super) fn number(node: &str) -> usize {
    let number: usize = node["node".len()..].parse().expect("a node's name has a number");
    number - 1
}

fn observation(answer: Answer, round_trip: Duration) -> Observation {
    let failure =
        |reason: &str, visible| Observation::Failure(Failure { reason: reason.to_owned(), visible });
    match answer {
        Answer::Accepted => Observation::Success { round_trip },
        Answer::Refused => failure("refused", true),
        Answer::Silence => failure("timeout", false),
    }
}
