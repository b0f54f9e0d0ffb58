//! Combines the verdicts on a subject's probes. This module is pure.
use std::time::Duration;

use super::verdict::{Health, Verdict};
use crate::cluster::{Family, FamilyRule, HealthCheck};

/// The health of a subject by all its probes. Its times have the same origin as the verdicts' times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectHealth {
    /// The health of the subject. It has the same values as the health by one probe.
    pub health: Health,
    /// Whether the host answered the last attempt of one of its probes, even with an error.
    pub visible: bool,
    /// Since when it has this health.
    pub since: Duration,
    /// The failures, probe by probe, or why it cannot be probed; `None`: it is up without a failure.
    pub reason: Option<String>,
    /// Whether some probe could not be made for this server's own reason.
    pub inconclusive: bool,
    /// While it is suspect: the time until it may be down.
    pub time_left: Option<Duration>,
}

impl SubjectHealth {
    /// Combines the verdicts on the probes of a subject, in their order. `now` is the time of the change if its health
    /// differs from `before`.
    pub fn new(
        check: &HealthCheck,
        verdicts: &[&Verdict],
        before: Option<&SubjectHealth>,
        now: Duration,
    ) -> Self {
        let health = combined(check, verdicts);
        let since = before.filter(|before| before.health == health).map_or(now, |before| before.since);
        SubjectHealth {
            health,
            visible: verdicts.iter().any(|verdict| verdict.visible()),
            since,
            reason: reason(check, verdicts),
            time_left: verdicts
                .iter()
                .filter_map(|verdict| verdict.time_left())
                .min()
                .filter(|_| health == Health::Suspect),
            inconclusive: verdicts.iter().any(|verdict| verdict.inconclusive()),
        }
    }

    /// The health of a subject that this server does not probe.
    pub fn unknown() -> Self {
        SubjectHealth {
            health: Health::Unknown,
            visible: false,
            since: Duration::ZERO,
            reason: None,
            inconclusive: false,
            time_left: None,
        }
    }

    /// [`SubjectHealth::time_left`] in whole seconds, rounded up.
    pub fn seconds_left(&self) -> Option<u32> {
        let left = self.time_left?;
        u32::try_from(left.as_millis().div_ceil(1000)).ok()
    }

    /// Whether the subject belongs in the answers; `None` while that is not known.
    pub fn serving(&self) -> Option<bool> {
        self.health.serving()
    }
}

/// The health in each family of a subject that is probed at an address of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyHealth {
    /// The rule for combining the families.
    pub rule: FamilyRule,
    /// The health over IPv4.
    pub ipv4: SubjectHealth,
    /// The health over IPv6.
    pub ipv6: SubjectHealth,
}

impl FamilyHealth {
    /// The health in one family.
    pub fn of(&self, family: Family) -> &SubjectHealth {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// The health of the subject as a whole. It is the better family's health, because the host answers names while one
    /// family is up.
    pub fn whole(&self, before: Option<&SubjectHealth>, now: Duration) -> SubjectHealth {
        let both = [&self.ipv4, &self.ipv6];
        let health = best_and_worst([self.ipv4.health, self.ipv6.health])[0];
        let since = before.filter(|before| before.health == health).map_or(now, |before| before.since);
        SubjectHealth {
            health,
            visible: both.iter().any(|one| one.visible),
            since,
            reason: self.reason(),
            inconclusive: both.iter().any(|one| one.inconclusive),
            time_left: (both.iter().filter_map(|one| one.time_left).min())
                .filter(|_| self.rule == FamilyRule::Each || health == Health::Suspect),
        }
    }

    /// The reason, unless it is up without a failure: once if both families have the same reason, otherwise with the
    /// name of each.
    fn reason(&self) -> Option<String> {
        if self.ipv4.reason == self.ipv6.reason {
            return self.ipv4.reason.clone();
        }
        let told = Family::ALL
            .into_iter()
            .filter_map(|family| Some(format!("{family}: {}", self.of(family).reason.as_ref()?)));
        Some(told.collect::<Vec<String>>().join("; "))
    }
}

/// The better health of two, then the worse.
pub(crate) fn best_and_worst(mut both: [Health; 2]) -> [Health; 2] {
    const BEST_FIRST: [Health; 5] =
        [Health::Up, Health::Suspect, Health::Unknown, Health::Recovering, Health::Down];
    both.sort_by_key(|health| BEST_FIRST.iter().position(|one| one == health));
    both
}

/// The best health that at least the required number of probes has.
fn combined(check: &HealthCheck, verdicts: &[&Verdict]) -> Health {
    const BEST_FIRST: [Health; 4] = [Health::Up, Health::Suspect, Health::Unknown, Health::Recovering];
    let needed = check.require.needed(check.probes.len());
    let reached = |best: usize| {
        let as_good = |verdict: &&&Verdict| BEST_FIRST[..=best].contains(&verdict.health());
        verdicts.iter().filter(as_good).count() >= needed
    };
    (0..BEST_FIRST.len()).find(|&best| reached(best)).map_or(Health::Down, |best| BEST_FIRST[best])
}

fn reason(check: &HealthCheck, verdicts: &[&Verdict]) -> Option<String> {
    let told = check.probes.iter().zip(verdicts).filter_map(|(probe, verdict)| {
        let reason = verdict.reason()?;
        Some(if check.probes.len() == 1 {
            reason.to_owned()
        } else {
            format!("{}: {reason}", probe.kind.text())
        })
    });
    let told: Vec<String> = told.collect();
    (!told.is_empty()).then(|| told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Require;
    use crate::config::PROBE;
    use crate::health::{Failure, Observation};

    fn verdict(results: &str) -> Verdict {
        let mut verdict = Verdict::new(&PROBE);
        for result in results.chars() {
            let observation = if result == '+' {
                Observation::Success { round_trip: Duration::ZERO }
            } else {
                Observation::Failure(Failure { reason: "refused".to_owned(), visible: true })
            };
            verdict.observe(Duration::ZERO, &observation);
        }
        verdict
    }

    #[test]
    fn a_host_is_visible_if_one_probe_sees_it() {
        let mut silent = verdict("+");
        let unseen = Failure { reason: "timeout".to_owned(), visible: false };
        silent.observe(Duration::ZERO, &Observation::Failure(unseen));
        let check = HealthCheck { probes: vec![PROBE; 2], require: Require::All, families: FamilyRule::Each };
        let seen = SubjectHealth::new(&check, &[&silent, &verdict("-")], None, Duration::ZERO);
        assert!(seen.visible && !silent.visible());
    }

    fn health(require: Require, results: &[&str]) -> Health {
        let check = HealthCheck { probes: vec![PROBE; results.len()], require, families: FamilyRule::Each };
        let verdicts: Vec<Verdict> = results.iter().map(|results| verdict(results)).collect();
        let verdicts: Vec<&Verdict> = verdicts.iter().collect();
        SubjectHealth::new(&check, &verdicts, None, Duration::ZERO).health
    }

    #[test]
    fn as_many_probes_decide_as_have_to_succeed() {
        use Health::{Down, Recovering, Suspect, Unknown, Up};
        for (results, all, any, two) in [
            (["+", "+", "+"], Up, Up, Up),
            (["+", "+", "-"], Down, Up, Up),
            (["+", "-", "-"], Down, Up, Down),
            (["-", "-", "-"], Down, Down, Down),
            (["+", "+-", "+"], Suspect, Up, Up),
            (["+", "+-", "-"], Down, Up, Suspect),
            (["+", "", "-"], Down, Up, Unknown),
            (["-+", "+", "-"], Down, Up, Recovering),
            (["", "", ""], Unknown, Unknown, Unknown),
        ] {
            let got =
                [Require::All, Require::Any, Require::Count(2)].map(|require| health(require, &results));
            assert_eq!(got, [all, any, two], "{results:?}");
        }
    }

    #[test]
    fn a_subject_is_as_good_as_its_better_family_and_says_what_is_wrong_with_the_other() {
        let check = HealthCheck { probes: vec![PROBE], require: Require::All, families: FamilyRule::Each };
        let one = |results: &str| SubjectHealth::new(&check, &[&verdict(results)], None, Duration::ZERO);
        let whole = |ipv4: &str, ipv6: &str| {
            let both = FamilyHealth { rule: FamilyRule::Each, ipv4: one(ipv4), ipv6: one(ipv6) };
            let whole = both.whole(None, Duration::ZERO);
            (whole.health, best_and_worst([both.ipv4.health, both.ipv6.health])[1], whole.reason)
        };
        use Health::{Down, Recovering, Suspect, Unknown, Up};
        assert_eq!(whole("+", "+"), (Up, Up, None));
        assert_eq!(whole("+", "-"), (Up, Down, Some("ipv6: refused".to_owned())));
        assert_eq!(whole("+-", "+"), (Up, Suspect, Some("ipv4: refused".to_owned())));
        assert_eq!(whole("-+", "-"), (Recovering, Down, Some("refused".to_owned())));
        assert_eq!(whole("", "-"), (Unknown, Down, Some("ipv6: refused".to_owned())));
        assert_eq!(whole("-", "-"), (Down, Down, Some("refused".to_owned())));
    }

    #[test]
    fn with_any_a_subject_has_a_time_left_only_while_its_better_family_is_suspect() {
        let check = HealthCheck { probes: vec![PROBE], require: Require::All, families: FamilyRule::Each };
        let one = |results: &str| SubjectHealth::new(&check, &[&verdict(results)], None, Duration::ZERO);
        let left = |rule, ipv4: &str, ipv6: &str| {
            FamilyHealth { rule, ipv4: one(ipv4), ipv6: one(ipv6) }.whole(None, Duration::ZERO).time_left
        };
        assert_eq!(left(FamilyRule::Any, "+", "+-"), None);
        assert_eq!(left(FamilyRule::Any, "+-", "+-"), one("+-").time_left);
        assert_eq!(left(FamilyRule::Each, "+", "+-"), one("+-").time_left);
        assert!(one("+-").time_left.is_some());
    }

    #[test]
    fn since_is_kept_while_the_health_is_the_same() {
        let check = HealthCheck { probes: vec![PROBE; 2], require: Require::Any, families: FamilyRule::Each };
        let [up, down] = ["+", "-"].map(verdict);
        let [first, later, last] = [1, 2, 3].map(Duration::from_secs);
        let subject_health = SubjectHealth::new(&check, &[&up, &up], None, first);
        let same = SubjectHealth::new(&check, &[&up, &down], Some(&subject_health), later);
        assert_eq!(
            (same.health, same.since, same.reason.as_deref()),
            (Health::Up, first, Some("tcp: refused"))
        );
        let other = SubjectHealth::new(&check, &[&down, &down], Some(&same), last);
        assert_eq!((other.health, other.since), (Health::Down, last));
    }
}
