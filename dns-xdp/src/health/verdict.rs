//! The verdict on one node: a pure state machine over observations and the monotonic time it is given.
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::Probe;

/// What the probes have made of a node.
///
/// ```text
///           success         failure          failures = fall
/// unknown ───────────► up ───────────► suspect ───────────► down ◄─── failure ─── unknown
///                      ▲ ◄──────────────┘                   │  ▲
///                      │   rise in a row           success  ▼  │ failure
///                      └──────────────────────────────── recovering
///                                rise in a row
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No probe has said anything yet.
    Unknown,
    /// In the answers, and nothing speaks against it.
    Up,
    /// Failures are being counted; still in the answers.
    Suspect,
    /// Out of the answers.
    Down,
    /// Succeeds again, but not `rise` times in a row yet; out of the answers.
    Recovering,
}

impl Health {
    /// Whether it means to be in the answers; `None` while nothing is known.
    pub const fn serving(self) -> Option<bool> {
        match self {
            Health::Unknown => None,
            Health::Up | Health::Suspect => Some(true),
            Health::Down | Health::Recovering => Some(false),
        }
    }

    /// As `status`, the log and the metrics show it.
    pub const fn text(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Suspect => "suspect",
            Health::Down => "down",
            Health::Recovering => "recovering",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

/// What one probe found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The node did what the probe asks for.
    Success {
        /// From the first packet to the answer.
        round_trip: Duration,
    },
    /// It did not.
    Failure(Failure),
    /// The probe could not be made for a reason of our own (no file descriptor, no local address). It says
    /// nothing about the node and is never read as down.
    Inconclusive {
        /// What is wrong with us.
        reason: String,
    },
    /// A probe has had no answer for `fast-interval`; its result is to follow. It counts for nothing yet, but
    /// is a reason to look closer.
    Overdue,
}

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Lower case, for `status`.
    pub reason: String,
    /// The host answered something: a refused connection is visible, silence and unreachable are not.
    pub visible: bool,
}

/// A change of health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// What it was.
    pub from: Health,
    /// What it is.
    pub to: Health,
}

/// The state of one node. Times are durations since an origin that the caller chooses.
#[derive(Debug, Clone)]
pub struct Verdict {
    probe: Probe,
    health: Health,
    failures: u32,
    successes: u32,
    visible: bool,
    inconclusive: bool,
    overdue: bool,
    since: Duration,
    /// Since when no attempt has succeeded: from the first report of it.
    failing_since: Option<Duration>,
    reason: Option<String>,
    /// Falls that are not forgotten yet; each but the first doubles `rise`.
    falls: u32,
    /// Since when it is in the answers without a fall.
    serving_since: Duration,
    /// The slowest answer of late.
    round_trip: Duration,
    /// Answers since it was silent.
    answers: u32,
    /// When the last result came.
    heard: Duration,
}

/// How the next attempt is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// From the start of the last one.
    pub delay: Duration,
    /// How long it may take.
    pub timeout: Duration,
}

impl Verdict {
    /// Nothing is known yet; the first observation that says something decides at once.
    pub fn new(probe: &Probe) -> Self {
        Verdict {
            probe: probe.clone(),
            health: Health::Unknown,
            failures: 0,
            successes: 0,
            visible: false,
            inconclusive: false,
            overdue: false,
            since: Duration::ZERO,
            failing_since: None,
            reason: None,
            falls: 0,
            serving_since: Duration::ZERO,
            round_trip: Duration::ZERO,
            answers: 0,
            heard: Duration::ZERO,
        }
    }

    /// Other servers find it up. It then takes `fall` failures to be down, as if it had been probed from here all along. It is
    /// not visible before it has answered.
    pub fn presume_up(&mut self) {
        if self.health == Health::Unknown {
            self.health = Health::Up;
        }
    }

    /// The verdict that a changed probe of the same subject begins with. It keeps the health, and counts failures and
    /// successes anew.
    pub fn changed(self, probe: &Probe) -> Self {
        Verdict {
            health: self.health,
            visible: self.visible,
            since: self.since,
            reason: self.reason,
            falls: self.falls,
            serving_since: self.serving_since,
            round_trip: self.round_trip,
            answers: self.answers,
            heard: self.heard,
            ..Verdict::new(probe)
        }
    }

    /// Takes in what a probe found out at `now`.
    ///
    /// Failures accumulate: while suspect, only `rise` successes in a row clear the count, so that a link
    /// that loses every other packet is found out. A node that keeps falling has to succeed longer and longer
    /// before it is up again, until it has been up for a while.
    pub fn observe(&mut self, now: Duration, observation: &Observation) -> Option<Transition> {
        self.overdue = *observation == Observation::Overdue;
        match observation {
            Observation::Success { .. } => self.failing_since = None,
            Observation::Failure(_) | Observation::Overdue => {
                self.failing_since.get_or_insert(now);
            }
            Observation::Inconclusive { .. } => {}
        }
        if self.overdue {
            return None;
        }
        self.heard = now;
        self.inconclusive = matches!(observation, Observation::Inconclusive { .. });
        let to = match observation {
            Observation::Success { round_trip } => {
                self.take_time(*round_trip);
                self.succeed()
            }
            Observation::Failure(failure) => self.fail(failure),
            Observation::Inconclusive { reason } => {
                self.reason = Some(reason.clone());
                self.health
            }
            Observation::Overdue => self.health,
        };
        let from = std::mem::replace(&mut self.health, to);
        (from != to).then(|| {
            self.since = now;
            match (from.serving(), to.serving()) {
                (Some(true), Some(false)) => self.fall(now),
                (None | Some(false), Some(true)) => self.serving_since = now,
                _ => {}
            }
            Transition { from, to }
        })
    }

    fn fall(&mut self, now: Duration) {
        let calm = now.saturating_sub(self.serving_since);
        let forgotten = calm.as_nanos() / self.probe.flap_decay.as_nanos().max(1);
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        self.falls = self.falls.saturating_sub(forgotten).saturating_add(1);
    }

    /// Successes in a row after which a node that is out of the answers comes back.
    pub fn rise_needed(&self) -> u32 {
        let doublings = self.falls.saturating_sub(1).min(u32::BITS - 1);
        let needed = u64::from(self.probe.rise) << doublings;
        u32::try_from(needed).unwrap_or(u32::MAX).min(self.probe.rise_max.max(self.probe.rise))
    }

    /// The first answer behind a silence has waited until the way there was found again (RFC 826, RFC 4861), which says
    /// nothing of the next ones.
    fn take_time(&mut self, round_trip: Duration) {
        self.round_trip = match self.answers {
            0 => round_trip,
            1 => self.round_trip.min(round_trip),
            _ => (self.round_trip - self.round_trip / 8).max(round_trip),
        };
        self.answers = self.answers.saturating_add(1);
    }

    fn succeed(&mut self) -> Health {
        self.visible = true;
        self.successes = self.successes.saturating_add(1);
        let to = match self.health {
            Health::Unknown | Health::Up => Health::Up,
            Health::Suspect if self.successes < self.probe.rise => Health::Suspect,
            Health::Suspect => Health::Up,
            _ if self.successes >= self.rise_needed() => Health::Up,
            Health::Down | Health::Recovering => Health::Recovering,
        };
        if to == Health::Up {
            self.failures = 0;
            self.reason = None;
        }
        to
    }

    fn fail(&mut self, failure: &Failure) -> Health {
        self.visible = failure.visible;
        self.reason = Some(failure.reason.clone());
        self.successes = 0;
        self.failures = self.failures.saturating_add(1);
        match self.health {
            Health::Up | Health::Suspect if self.failures < self.probe.fall => Health::Suspect,
            _ => {
                self.answers = 0;
                Health::Down
            }
        }
    }

    /// What the probes have made of the node.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether the node belongs into the answers; `None` while nothing is known of it.
    pub fn serving(&self) -> Option<bool> {
        self.health.serving()
    }

    /// Whether the host answered anything to the last probe that was made.
    pub fn visible(&self) -> bool {
        self.visible
    }

    /// Whether the last probe could not be made, for a reason of our own; [`Verdict::reason`] has it.
    pub fn inconclusive(&self) -> bool {
        self.inconclusive
    }

    /// When the health became what it is; zero while unknown.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// Why the node is not plainly up: the last failure, or what keeps us from probing.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The node is in the answers, and a probe has failed or waits for its answer longer than it should.
    pub fn in_doubt(&self) -> bool {
        self.health == Health::Suspect || self.health == Health::Up && self.overdue
    }

    /// A suspect that fails each time, and has at most so many failures to go.
    pub(super) fn is_falling(&self, to_go: u32) -> bool {
        let left = self.probe.fall.saturating_sub(self.failures);
        self.health == Health::Suspect && self.successes == 0 && left <= to_go
    }

    /// Out of the answers, and either it succeeds each time and has at most so many successes to go, or no attempt that was
    /// begun since then has had its time.
    pub(super) fn may_rise(&self, to_go: u32, since: Duration) -> bool {
        let left = self.rise_needed().saturating_sub(self.successes);
        let is_rising = self.successes > 0 && left <= to_go;
        self.serving() == Some(false) && (is_rising || self.heard < since + self.probe.timeout)
    }

    /// Since when no attempt has succeeded; `None`: the last one has, or there was none.
    pub fn failing_since(&self) -> Option<Duration> {
        self.failing_since
    }

    /// Of a node in the answers that may be about to fall: how many failures it takes until then. `None`: there is none,
    /// but for an answer that is as slow as usual.
    pub fn failures_left(&self) -> Option<u32> {
        let is_late = self.overdue && self.round_trip < self.probe.fast_interval;
        let may_fall = self.health == Health::Suspect || self.health == Health::Up && is_late;
        may_fall.then(|| self.probe.fall.saturating_sub(self.failures))
    }

    /// While suspect: how long it can take at most until the node is down.
    pub fn time_left(&self) -> Option<Duration> {
        let left = self.probe.fall.saturating_sub(self.failures);
        (self.health == Health::Suspect)
            .then(|| self.pace(false).timeout.max(self.probe.fast_interval) * left)
    }

    /// How an attempt is made while nothing is urgent.
    pub fn unhurried(&self) -> Pace {
        Pace { delay: self.probe.interval, timeout: self.probe.timeout }
    }

    /// How the next attempt is to be made: fast while this probe is in doubt or, with `doubt`, another one of its node.
    ///
    /// A suspect has `fast-interval` to answer, or twice what it took of late, so that the attempts of a silent one do
    /// not hold each other up for a whole `timeout` each: [`Probe::time_to_detect`] relies on it.
    pub fn pace(&self, doubt: bool) -> Pace {
        let Probe { interval, fast_interval, timeout, .. } = self.probe;
        let is_presumed = self.health == Health::Up && !self.visible;
        let is_open = matches!(self.health, Health::Unknown | Health::Recovering) || is_presumed;
        let fast = doubt || self.in_doubt() || is_open;
        let hasty = fast_interval.max(self.round_trip * 2).min(timeout);
        Pace {
            delay: if fast { fast_interval } else { interval },
            timeout: if self.health == Health::Suspect { hasty } else { timeout },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PROBE;

    fn probe(fall: u32, rise: u32) -> Probe {
        Probe { fall, rise, ..PROBE }
    }

    fn success() -> Observation {
        Observation::Success { round_trip: Duration::from_millis(1) }
    }

    fn failure(visible: bool) -> Observation {
        Observation::Failure(Failure { reason: "timeout".to_owned(), visible })
    }

    /// The health after each of the probes in `results`: `+` a success, `-` a failure, `?` inconclusive.
    fn course(verdict: &mut Verdict, results: &str) -> Vec<Health> {
        let step = |(second, result)| {
            let observation = match result {
                '+' => success(),
                '-' => failure(false),
                _ => Observation::Inconclusive { reason: "too many open files".to_owned() },
            };
            let before = verdict.health();
            let transition = verdict.observe(Duration::from_secs(second), &observation);
            let after = verdict.health();
            assert_eq!(transition, (before != after).then_some(Transition { from: before, to: after }));
            after
        };
        (1..).zip(results.chars()).map(step).collect()
    }

    use Health::{Down, Recovering, Suspect, Unknown, Up};

    #[test]
    fn the_first_result_decides_at_once() {
        assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "+"), [Up]);
        assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "-"), [Down]);
        assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "?-"), [Unknown, Down]);
    }

    #[test]
    fn as_many_failures_as_fall_put_a_node_down() {
        assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "+---"), [Up, Suspect, Suspect, Down]);
        assert_eq!(course(&mut Verdict::new(&probe(1, 2)), "+-"), [Up, Down]);
    }

    #[test]
    fn a_link_that_loses_every_other_probe_is_found_out() {
        let expected = [Up, Suspect, Suspect, Suspect, Suspect, Down];
        assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "+-+-+-"), expected);
    }

    #[test]
    fn rise_successes_in_a_row_clear_a_suspicion() {
        let expected = [Up, Suspect, Suspect, Up, Suspect, Suspect, Down];
        assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "+-++---"), expected);
    }

    #[test]
    fn a_node_that_is_down_has_to_succeed_rise_times_in_a_row() {
        let expected = [Down, Recovering, Down, Recovering, Recovering, Up];
        assert_eq!(course(&mut Verdict::new(&probe(3, 3)), "-+-+++"), expected);
        assert_eq!(course(&mut Verdict::new(&probe(3, 1)), "-+"), [Down, Up]);
    }

    #[test]
    fn our_own_sickness_is_never_read_as_down() {
        let mut verdict = Verdict::new(&probe(1, 1));
        assert_eq!(course(&mut verdict, "+????"), [Up; 5]);
        assert!(verdict.visible() && verdict.inconclusive());
        assert_eq!(verdict.reason(), Some("too many open files"));
        assert_eq!(course(&mut verdict, "+"), [Up]);
        assert_eq!(verdict.reason(), None);
    }

    #[test]
    fn a_refused_connection_is_visible_and_silence_is_not() {
        let mut verdict = Verdict::new(&probe(3, 2));
        assert!(!verdict.visible());
        verdict.observe(Duration::ZERO, &failure(true));
        assert!(verdict.visible());
        verdict.observe(Duration::ZERO, &failure(false));
        assert!(!verdict.visible());
    }

    #[test]
    fn since_is_the_time_of_the_last_change() {
        let mut verdict = Verdict::new(&probe(3, 2));
        course(&mut verdict, "+++-+");
        assert_eq!((verdict.health(), verdict.since()), (Suspect, Duration::from_secs(4)));
    }

    #[test]
    fn a_verdict_in_doubt_is_probed_fast() {
        let mut verdict = Verdict::new(&probe(3, 2));
        let mut delays = vec![verdict.pace(false).delay.as_millis()];
        for result in ["+", "-", "-", "-", "+", "+"] {
            course(&mut verdict, result);
            delays.push(verdict.pace(false).delay.as_millis());
        }
        assert_eq!(delays, [250, 1000, 250, 250, 1000, 250, 1000]);
    }

    #[test]
    fn a_probe_that_is_overdue_counts_for_nothing_but_a_closer_look() {
        let mut verdict = Verdict::new(&probe(3, 2));
        course(&mut verdict, "+");
        assert_eq!(verdict.observe(Duration::from_secs(9), &Observation::Overdue), None);
        assert_eq!((verdict.health(), verdict.since().as_secs()), (Up, 1));
        assert!(verdict.visible() && verdict.in_doubt());
        assert_eq!(verdict.pace(false), verdict.pace(true));
        course(&mut verdict, "+");
        assert!(!verdict.in_doubt());
    }

    #[test]
    fn a_node_that_is_down_is_not_looked_at_closer_for_its_silence() {
        let mut verdict = Verdict::new(&probe(3, 2));
        course(&mut verdict, "-");
        verdict.observe(Duration::ZERO, &Observation::Overdue);
        assert_eq!(verdict.pace(false).delay, Duration::from_secs(1));
    }

    #[test]
    fn a_suspect_has_the_fast_interval_to_answer_or_twice_what_it_took() {
        let timeouts = |round_trip| {
            let mut verdict = Verdict::new(&PROBE);
            verdict.observe(Duration::ZERO, &Observation::Success { round_trip });
            let up = verdict.pace(true).timeout;
            verdict.observe(Duration::ZERO, &failure(false));
            (up, verdict.pace(false).timeout)
        };
        let [fast, timeout] = [PROBE.fast_interval, PROBE.timeout];
        assert_eq!(timeouts(Duration::from_millis(1)), (timeout, fast));
        assert_eq!(timeouts(Duration::from_millis(200)), (timeout, Duration::from_millis(400)));
        assert_eq!(timeouts(Duration::from_millis(450)), (timeout, timeout));
    }

    #[test]
    fn each_fall_in_a_short_time_doubles_the_rise_up_to_its_cap() {
        let mut verdict = Verdict::new(&Probe { rise_max: 6, ..probe(1, 2) });
        course(&mut verdict, "+");
        let mut needed = Vec::new();
        for _ in 0..4 {
            course(&mut verdict, "-");
            needed.push(verdict.rise_needed());
            let almost = "+".repeat(verdict.rise_needed() as usize - 1);
            course(&mut verdict, &almost);
            assert_eq!(verdict.health(), Recovering);
            course(&mut verdict, "+");
            assert_eq!(verdict.health(), Up);
        }
        assert_eq!(needed, [2, 4, 6, 6]);
    }

    #[test]
    fn a_time_without_a_fall_forgets_one() {
        let mut verdict = Verdict::new(&Probe { flap_decay: Duration::from_secs(10), ..probe(1, 1) });
        let mut at = |second, observation: &Observation| {
            verdict.observe(Duration::from_secs(second), observation);
            verdict.rise_needed()
        };
        at(0, &success());
        assert_eq!(at(1, &failure(true)), 1);
        at(2, &success());
        assert_eq!(at(3, &failure(true)), 2);
        at(4, &success());
        at(5, &success());
        assert_eq!(at(13, &failure(true)), 4, "nine seconds are not enough");
        at(14, &success());
        at(15, &success());
        at(16, &success());
        at(17, &success());
        assert_eq!(at(47, &failure(true)), 1, "three are forgotten");
    }

    #[test]
    fn a_suspect_has_as_long_as_its_attempts_can_take() {
        let mut verdict = Verdict::new(&probe(3, 2));
        course(&mut verdict, "+");
        assert_eq!(verdict.time_left(), None);
        course(&mut verdict, "-");
        assert_eq!(verdict.time_left(), Some(2 * PROBE.fast_interval));
        course(&mut verdict, "-");
        assert_eq!(verdict.time_left(), Some(PROBE.fast_interval));
        course(&mut verdict, "-");
        assert_eq!(verdict.time_left(), None);
    }

    /// How long a suspect has to answer whose successes took so many milliseconds; `-1`: a failure.
    fn haste(took: &[i64]) -> u128 {
        let mut verdict = Verdict::new(&probe(3, 2));
        for took in took {
            let observation = match u64::try_from(*took) {
                Ok(took) => Observation::Success { round_trip: Duration::from_millis(took) },
                Err(_) => failure(false),
            };
            verdict.observe(Duration::ZERO, &observation);
        }
        verdict.observe(Duration::ZERO, &failure(false));
        assert_eq!(verdict.health(), Suspect);
        verdict.pace(false).timeout.as_millis()
    }

    #[test]
    fn a_suspect_has_twice_its_slowest_answer_of_late_and_the_first_behind_a_silence_is_none() {
        assert_eq!(haste(&[1, 1]), 250, "fast-interval");
        assert_eq!(haste(&[200, 200]), 400);
        assert_eq!(haste(&[1, 1, 200, 1]), 350, "an eighth is forgotten with each answer");
        assert_eq!(haste(&[900, 900]), 500, "no longer than timeout");
        assert_eq!(haste(&[200, 1]), 250);
        assert_eq!(haste(&[1, -1, -1, -1, 200, 1]), 250);
        assert_eq!(haste(&[1, -1, -1, -1, 200, -1, 200, 1]), 250);
        assert_eq!(haste(&[1, -1, -1, -1, 200, 200]), 400, "it is slow indeed");
        assert_eq!(haste(&[1, 200, 200, -1, 1]), 350, "a lost probe is no silence");
    }
}
