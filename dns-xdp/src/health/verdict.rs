//! The verdict on one node: a pure state machine over observations and their monotonic times.
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cluster::Probe;

/// The health of a node by its probes.
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
    /// No probe has a result yet.
    Unknown,
    /// In the answers, without a failure.
    Up,
    /// Failures are being counted; still in the answers.
    Suspect,
    /// Out of the answers.
    Down,
    /// Out of the answers: it succeeds again, but not `rise` times in a row yet.
    Recovering,
}

impl Health {
    /// Whether a node of this health belongs in the answers; `None`: nothing is known.
    pub const fn serving(self) -> Option<bool> {
        match self {
            Health::Unknown => None,
            Health::Up | Health::Suspect => Some(true),
            Health::Down | Health::Recovering => Some(false),
        }
    }

    /// The text in `status`, the log and the metrics.
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

/// The result of one attempt of a probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The node passed the probe.
    Success {
        /// The time from the first packet to the answer.
        round_trip: Duration,
    },
    /// The node failed the probe.
    Failure(Failure),
    /// This server could not make the probe (no file descriptor, no local address). This tells nothing about the node
    /// and never counts as a failure.
    Inconclusive {
        /// Why this server could not make the probe.
        reason: String,
    },
    /// A probe has had no answer for `fast-interval`; its result follows. This is not a failure yet, but puts the node
    /// in doubt.
    Overdue,
}

/// Why a probe failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason in lower case, for `status`.
    pub reason: String,
    /// Whether the host answered, even with an error. A host that refuses the connection is visible; a silent or
    /// unreachable host is not.
    pub visible: bool,
}

/// A change of health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transition {
    /// The previous health.
    pub from: Health,
    /// The new health.
    pub to: Health,
}

/// The verdict on one node. Times are durations since an origin that the caller chooses.
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
    /// Since when no attempt has succeeded: the time of the first such report.
    failing_since: Option<Duration>,
    reason: Option<String>,
    /// The falls that still count; each but the first doubles `rise`.
    falls: u32,
    /// Since when the node has been in the answers without a fall.
    serving_since: Duration,
    /// The slowest recent answer, which decays.
    round_trip: Duration,
    /// The number of answers since the last silence.
    answers: u32,
    /// When the last result came.
    heard: Duration,
}

/// The pace of the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The time from the start of the last attempt to the start of the next.
    pub delay: Duration,
    /// How long the attempt may take.
    pub timeout: Duration,
}

impl Verdict {
    /// Creates a verdict without a result. The first conclusive observation decides at once.
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

    /// Counts the node as up, because other servers find it up. It then takes `fall` failures to be down, as if this
    /// server had always probed it. It is not visible before it has answered.
    pub fn presume_up(&mut self) {
        if self.health == Health::Unknown {
            self.health = Health::Up;
        }
    }

    /// The verdict that a changed probe of the same subject begins with. It keeps the health, and restarts the counts
    /// of failures and successes.
    pub fn changed(self, probe: &Probe) -> Self {
        Verdict {
            health: self.health,
            visible: self.visible,
            since: self.since,
            reason: self.reason,
            falls: self.falls,
            serving_since: self.serving_since,
            failing_since: self.failing_since,
            round_trip: self.round_trip,
            answers: self.answers,
            heard: self.heard,
            ..Verdict::new(probe)
        }
    }

    /// Takes the result of a probe at `now`.
    ///
    /// Failures accumulate: while suspect, only `rise` successes in a row reset the count. A link that loses every
    /// second packet is therefore detected. A node that keeps falling needs more and more successes to come back, until
    /// it has been up for a while.
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

    /// The number of successes in a row after which a node that is out of the answers comes back.
    pub fn rise_needed(&self) -> u32 {
        let doublings = self.falls.saturating_sub(1).min(u32::BITS - 1);
        let needed = u64::from(self.probe.rise) << doublings;
        u32::try_from(needed).unwrap_or(u32::MAX).min(self.probe.rise_max.max(self.probe.rise))
    }

    /// Takes the time of an answer. The first answer after a silence also took the time of address resolution (RFC 826,
    /// RFC 4861). That time says nothing about later answers.
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

    /// The health of the node.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether the node belongs in the answers; `None`: nothing is known of it.
    pub fn serving(&self) -> Option<bool> {
        self.health.serving()
    }

    /// Whether the host answered the last attempt that was made, even with an error.
    pub fn visible(&self) -> bool {
        self.visible
    }

    /// Whether the last attempt could not be made for this server's own reason, which [`Verdict::reason`] returns.
    pub fn inconclusive(&self) -> bool {
        self.inconclusive
    }

    /// Since when the node has this health; zero while unknown.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// The last failure, or why the node cannot be probed; `None`: the node is up without a failure.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Whether the node is in the answers, and an attempt has failed or is overdue.
    pub fn in_doubt(&self) -> bool {
        self.health == Health::Suspect || self.health == Health::Up && self.overdue
    }

    /// Whether the node is a suspect that fails each time, and at most `to_go` more failures make it down.
    pub(super) fn is_falling(&self, to_go: u32) -> bool {
        let left = self.probe.fall.saturating_sub(self.failures);
        self.health == Health::Suspect && self.successes == 0 && left <= to_go
    }

    /// Whether the node is out of the answers and may come back. Either its attempts succeed and it needs at most
    /// `to_go` more successes, or no attempt begun after `since` has reached its timeout.
    pub(super) fn may_rise(&self, to_go: u32, since: Duration) -> bool {
        let left = self.rise_needed().saturating_sub(self.successes);
        let is_rising = self.successes > 0 && left <= to_go;
        self.serving() == Some(false) && (is_rising || self.heard < since + self.probe.timeout)
    }

    /// Since when no attempt has succeeded; `None`: the last attempt has succeeded, or there was none.
    pub fn failing_since(&self) -> Option<Duration> {
        self.failing_since
    }

    /// How many more failures take the node out of the answers. `None`: no failure counts, and no answer is later than
    /// usual.
    pub fn failures_left(&self) -> Option<u32> {
        let is_late = self.overdue && self.round_trip < self.probe.fast_interval;
        let may_fall = self.health == Health::Suspect || self.health == Health::Up && is_late;
        may_fall.then(|| self.probe.fall.saturating_sub(self.failures))
    }

    /// The longest time until a suspect node is down; `None`: the node is not suspect.
    pub fn time_left(&self) -> Option<Duration> {
        let left = self.probe.fall.saturating_sub(self.failures);
        (self.health == Health::Suspect)
            .then(|| self.pace(false).timeout.max(self.probe.fast_interval) * left)
    }

    /// The pace of an attempt while nothing is urgent.
    pub fn unhurried(&self) -> Pace {
        Pace { delay: self.probe.interval, timeout: self.probe.timeout }
    }

    /// The pace of the next attempt: fast while this probe is in doubt or, with `doubt`, another probe of its node is.
    ///
    /// A suspect has `fast-interval` to answer, or twice its recent time. An attempt at a silent node therefore does
    /// not delay the next one for a whole `timeout`. [`Probe::time_to_detect`] relies on this.
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
mod tests;
