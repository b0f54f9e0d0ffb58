//! One simulated server: the daemon's state and schedules on a simulated host.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::State;
use super::world::{Answer, World};
use crate::config::Config;
use crate::failover::{Answers, Decision};
use crate::health::schedule::Schedule;
use crate::health::{Failure, Observation, Pace, ProbeId, Subject, paces};
use crate::intent::Intents;

/// The daemon looks at its own clock this often.
const PULSE: Duration = Duration::from_millis(100);
/// The slowest answer; below half of `fast-interval`, as the promise has it.
const ROUND_TRIP_MS: u64 = 100;

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
    attempts: Vec<Attempt>,
    pulsed: Duration,
}

#[derive(Debug)]
struct Attempt {
    probe: ProbeId,
    /// The host that is asked; `None`: the witness.
    node: Option<usize>,
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
        self.judges_since = None;
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
        self.reconcile(random);
        self.decide();
    }

    /// What the operator wants is on the disk before it counts.
    pub(super) fn want(&mut self, intents: Intents) {
        self.disk.clone_from(&intents);
        self.state.want(intents);
        self.decide();
    }

    /// When something happens here next.
    pub(super) fn next(&self) -> Option<Duration> {
        let next = |attempt: &Attempt| {
            let ends = attempt.under_way.map(|(end, ..)| end);
            let schedule = &attempt.schedule;
            ends.into_iter().chain(schedule.due(attempt.pace.delay)).chain(schedule.overdue()).min()
        };
        let next = self.attempts.iter().filter_map(next).min().filter(|_| self.running);
        next.map(|next| self.paused_until.map_or(next, |until| next.max(until)))
    }

    /// Does one thing that is due.
    pub(super) fn step(&mut self, world: &World, random: &mut Rng) {
        let now = world.now;
        if self.paused_until.take_if(|until| *until <= now).is_some() {
            self.judges_since = None;
        } else {
            while self.pulsed + PULSE < now {
                self.pulsed += PULSE;
                self.state.blindness().pulse(self.pulsed);
            }
        }
        self.pulsed = now;
        if self.state.blindness().pulse(now) {
            self.judges_since = None;
            self.attempts.clear();
            self.reconcile(random);
            return;
        }
        let due = |attempt: &Attempt| attempt.schedule.due(attempt.pace.delay).is_some_and(|due| due <= now);
        for index in 0..self.attempts.len() {
            let attempt = &mut self.attempts[index];
            if let Some((end, start, answer)) = attempt.under_way.filter(|(end, ..)| *end <= now) {
                // Whoever dies meanwhile does not answer any more.
                let still = world.answer(self.index, attempt.node, 1.0);
                if answer == Answer::Accepted && still == Answer::Silence {
                    attempt.under_way = Some((end.max(start + attempt.pace.timeout), start, Answer::Silence));
                    continue;
                }
                attempt.under_way = None;
                attempt.schedule.end();
                return self.observe(index, now, &observation(answer, end - start));
            }
            if attempt.schedule.overdue().is_some_and(|overdue| overdue <= now) {
                attempt.schedule.doubt();
                return self.observe(index, now, &Observation::Overdue);
            }
            if due(attempt) {
                attempt.schedule.start(now);
                let answer = world.answer(self.index, attempt.node, random.f64());
                let round_trip = Duration::from_millis(random.u64(0..ROUND_TRIP_MS));
                let takes = if answer == Answer::Silence { attempt.pace.timeout } else { round_trip };
                attempt.under_way = Some((now + takes, now, answer));
                return;
            }
        }
    }

    fn observe(&mut self, index: usize, now: Duration, observation: &Observation) {
        let probe = &self.attempts[index].probe;
        let change = self.state.observe(probe, now, observation);
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

/// `node1` lives on the first host.
pub(super) fn host(subject: &Subject) -> Option<usize> {
    let (Subject::Node(name) | Subject::Member { node: name, .. }) = subject else {
        return None;
    };
    let number: usize = name.trim_start_matches("node").parse().expect("a node's name has a number");
    Some(number - 1)
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
