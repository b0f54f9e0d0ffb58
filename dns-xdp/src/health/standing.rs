//! What the verdicts on a subject's probes make together: pure.
use std::time::Duration;

use super::verdict::{Health, Verdict};
use crate::cluster::HealthCheck;

/// The health of a subject by all its probes. Times are those of the verdicts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// As for one probe.
    pub health: Health,
    /// The host answered something to the last of one of its probes.
    pub visible: bool,
    /// When the health became what it is.
    pub since: Duration,
    /// Why it is not plainly up, probe by probe, or what keeps us from probing.
    pub reason: Option<String>,
    /// Some probe could not be made, for a reason of our own.
    pub inconclusive: bool,
    /// While suspect: how soon it may be down.
    pub time_left: Option<Duration>,
}

impl Standing {
    /// Combines the verdicts on the probes of a subject, in their order; `now` counts where its health is not what it
    /// was `before`.
    pub fn new(check: &HealthCheck, verdicts: &[&Verdict], before: Option<&Standing>, now: Duration) -> Self {
        let health = combined(check, verdicts);
        let since = before.filter(|before| before.health == health).map_or(now, |before| before.since);
        Standing {
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

    /// Of somebody that is not probed from here.
    pub fn unknown() -> Self {
        Standing {
            health: Health::Unknown,
            visible: false,
            since: Duration::ZERO,
            reason: None,
            inconclusive: false,
            time_left: None,
        }
    }

    /// [`Standing::time_left`] in whole seconds, rounded up.
    pub fn seconds_left(&self) -> Option<u32> {
        let left = self.time_left?;
        u32::try_from(left.as_millis().div_ceil(1000)).ok()
    }

    /// Whether the subject belongs into the answers; `None` while that is not known.
    pub fn serving(&self) -> Option<bool> {
        self.health.serving()
    }
}

/// The best health that as many probes reach as have to succeed.
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

    fn health(require: Require, results: &[&str]) -> Health {
        let check = HealthCheck { probes: vec![PROBE; results.len()], require };
        let verdicts: Vec<Verdict> = results.iter().map(|results| verdict(results)).collect();
        let verdicts: Vec<&Verdict> = verdicts.iter().collect();
        Standing::new(&check, &verdicts, None, Duration::ZERO).health
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
    fn since_is_kept_while_the_health_is_the_same() {
        let check = HealthCheck { probes: vec![PROBE; 2], require: Require::Any };
        let [up, down] = ["+", "-"].map(verdict);
        let [first, later, last] = [1, 2, 3].map(Duration::from_secs);
        let standing = Standing::new(&check, &[&up, &up], None, first);
        let same = Standing::new(&check, &[&up, &down], Some(&standing), later);
        assert_eq!(
            (same.health, same.since, same.reason.as_deref()),
            (Health::Up, first, Some("tcp: refused"))
        );
        let other = Standing::new(&check, &[&down, &down], Some(&same), last);
        assert_eq!((other.health, other.since), (Health::Down, last));
    }
}
