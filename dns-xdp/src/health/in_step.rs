//! Lets the families of a node fall and rise together, although each is probed by itself. This module is pure.
//!
//! The families are not probed at the same moments. A family that has fallen waits for the other family if the other
//! family is about to fall too. A family that has risen waits likewise. A family that changes alone does not wait.
use std::time::Duration;

use super::{Health, SubjectHealth, Verdict};

/// The most results of the other family that a family waits for.
const MOST_RESULTS: u32 = 2;

/// One family of a subject: its health by its own probes, and their verdicts.
#[derive(Debug)]
pub(crate) struct Alone<'a> {
    pub(crate) subject_health: SubjectHealth,
    pub(crate) verdicts: Vec<&'a Verdict>,
}

impl Alone<'_> {
    fn is_falling(&self) -> bool {
        self.subject_health.health == Health::Suspect
            && self.verdicts.iter().any(|verdict| verdict.is_falling(MOST_RESULTS))
    }

    /// Whether this family may still come back together with the other one, which has succeeded since `since`.
    fn may_rise(&self, since: Duration) -> bool {
        let mut out = self.verdicts.iter().filter(|verdict| verdict.serving() == Some(false)).peekable();
        self.subject_health.serving() == Some(false)
            && out.peek().is_some()
            && out.all(|verdict| verdict.may_rise(MOST_RESULTS, since))
    }
}

/// The health of a family beside the other one; `before`: its earlier health.
pub(crate) fn in_step(before: Option<&SubjectHealth>, own: &Alone<'_>, other: &Alone<'_>) -> SubjectHealth {
    let Some(before) = before else { return own.subject_health.clone() };
    let waits = match (before.serving(), own.subject_health.serving()) {
        (Some(true), Some(false)) => other.is_falling(),
        (Some(false), Some(true)) => before.health == Health::Recovering && other.may_rise(before.since),
        _ => false,
    };
    if !waits {
        return own.subject_health.clone();
    }
    SubjectHealth {
        health: before.health,
        since: before.since,
        time_left: before.time_left.or(other.subject_health.time_left),
        ..own.subject_health.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{FamilyRule, HealthCheck, Require};
    use crate::config::PROBE;
    use crate::health::{Failure, Observation};

    fn check() -> HealthCheck {
        HealthCheck { probes: vec![PROBE], require: Require::All, families: FamilyRule::Each }
    }

    /// Returns a verdict after these results, one every 100 ms.
    fn verdict(results: &str) -> Verdict {
        let mut verdict = Verdict::new(&PROBE);
        for (nth, result) in (1..).zip(results.chars()) {
            let observation = if result == '+' {
                Observation::Success { round_trip: Duration::ZERO }
            } else {
                Observation::Failure(Failure { reason: "timeout".to_owned(), visible: false })
            };
            verdict.observe(Duration::from_millis(100) * nth, &observation);
        }
        verdict
    }

    /// The health of a family with the results `own` beside one with the results `other`; the last result is new.
    fn shown(own: &str, other: &str) -> Health {
        let now = |results: &str| Duration::from_millis(100) * u32::try_from(results.len()).unwrap();
        let subject_health = |verdict: &Verdict, before: Option<&SubjectHealth>, at| {
            SubjectHealth::new(&check(), &[verdict], before, at)
        };
        let mut before: Option<SubjectHealth> = None;
        for end in 1..own.len() {
            before = Some(subject_health(&verdict(&own[..end]), before.as_ref(), now(&own[..end])));
        }
        let [own_verdict, other_verdict] = [own, other].map(verdict);
        let own = Alone {
            subject_health: subject_health(&own_verdict, before.as_ref(), now(own)),
            verdicts: vec![&own_verdict],
        };
        let other = Alone {
            subject_health: subject_health(&other_verdict, None, now(other)),
            verdicts: vec![&other_verdict],
        };
        in_step(before.as_ref(), &own, &other).health
    }

    #[test]
    fn a_family_that_falls_waits_for_the_other_one_if_that_is_falling() {
        use Health::{Down, Suspect};
        for (other, expected) in [
            ("++++", Down),
            ("+++-", Suspect),
            ("++--", Suspect),
            ("+---", Down),
            ("+-+", Down),
            ("+--+", Down),
        ] {
            assert_eq!(shown("+---", other), expected, "{other}");
        }
        assert_eq!(shown("+--", "+--"), Suspect);
    }

    #[test]
    fn a_family_that_rises_waits_for_the_other_one_if_that_may_rise() {
        use Health::{Recovering, Up};
        let own = "-------++";
        for (other, expected) in [
            ("--------+", Recovering),
            ("-------+", Recovering),
            ("+++++++++", Up),
            ("--------", Recovering),
            ("----------------", Up),
        ] {
            assert_eq!(shown(own, other), expected, "{other}");
        }
    }
}
