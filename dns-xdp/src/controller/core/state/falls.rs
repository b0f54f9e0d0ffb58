//! The falls of subjects. A subject has fallen if it was up and is out by its probes. Its fall waits until a quorum is
//! heard ([`Confirmation`](super::Confirmation)).
use std::collections::BTreeSet;
use std::time::Duration;

use super::State;
use crate::cluster::Family;
use crate::health::Subject;

impl State {
    /// Notes whether a subject is out by its probes. Its fall waits until a quorum is heard.
    pub(super) fn note_fall(
        &mut self,
        (subject, family): (&Subject, Option<Family>),
        was: Option<bool>,
        is: Option<bool>,
        at: Duration,
    ) {
        match (was, is) {
            (Some(true), Some(false)) => {
                let failing_since = self.failing_since(subject, family).unwrap_or(at);
                self.confirmation.fell(subject, family, failing_since);
            }
            (_, Some(false)) => {}
            _ => self.confirmation.rose(subject, family),
        }
    }

    /// The subjects whose fall counts, with the families in which they are out.
    pub(super) fn fallen(&self) -> BTreeSet<(Subject, Family)> {
        let fallen = self.out().filter(|(subject, family)| !self.confirmation.holds(subject, *family));
        fallen.flat_map(|(subject, family)| families(subject, family)).collect()
    }

    /// Notes falls that have no new result as their cause, such as those of another rule for the families. They wait like
    /// others. The falls of `before` counted already.
    pub(super) fn note_falls_since(&mut self, before: &BTreeSet<(Subject, Family)>) {
        let is_new = |(subject, family): &(&Subject, Option<Family>)| {
            families(subject, *family).any(|key| !before.contains(&key))
        };
        let new: Vec<_> =
            self.out().filter(is_new).map(|(subject, family)| (subject.clone(), family)).collect();
        for (subject, family) in new {
            if let Some(failing_since) = self.failing_since(&subject, family) {
                self.confirmation.fell(&subject, family, failing_since);
            }
        }
    }

    /// The subjects that are out by their probes, with the families in which they are out.
    fn out(&self) -> impl Iterator<Item = (&Subject, Option<Family>)> {
        let all = self.health_by_subject.keys().flat_map(|subject| {
            let families: &[Option<Family>] = match self.told_apart(subject) {
                Some(_) => &[Some(Family::Ipv4), Some(Family::Ipv6)],
                None => &[None],
            };
            families.iter().map(move |family| (subject, *family))
        });
        all.filter(|(subject, family)| self.serving_in(subject, *family) == Some(false))
    }

    /// Whether a subject belongs in the answers by its probes. The family is `None` if both families fall together.
    fn serving_in(&self, subject: &Subject, family: Option<Family>) -> Option<bool> {
        match (self.told_apart(subject), family) {
            (Some(both), Some(family)) => both.of(family).serving(),
            _ => self.health_by_subject.get(subject)?.serving(),
        }
    }
}

/// The subject with each family that `family` stands for: `None` stands for both.
fn families(subject: &Subject, family: Option<Family>) -> impl Iterator<Item = (Subject, Family)> {
    let stands_for = Family::ALL.into_iter().filter(move |one| family.is_none_or(|family| family == *one));
    stands_for.map(|family| (subject.clone(), family))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{TEXT, config, decided, dual, healthy, probe, tell, well};
    use super::*;
    use crate::failover::Effective;
    use crate::health::ProbeId;
    use crate::intent::Intents;

    fn with_health(text: &str, health: &str) -> String {
        format!("{text}[health]\n{health}\n")
    }

    #[test]
    fn a_fall_that_waits_over_a_reload_is_confirmed_after_it() {
        let mut state = healthy(TEXT);
        (0..3).for_each(|_| tell(&mut state, &probe("node1"), 60, false));
        state.adopt(config(&with_health(TEXT, "interval = \"2s\"")));
        assert_eq!(decided(&mut state, 0), Effective::Up);
        tell(&mut state, &probe("node2"), 61, true);
        assert_eq!(decided(&mut state, 0), Effective::Up, "one is no quorum of three");
        tell(&mut state, &probe("node3"), 61, true);
        assert_eq!(decided(&mut state, 0), Effective::Down);
    }

    #[test]
    fn a_reload_of_the_rule_for_families_lets_a_fall_wait_for_its_quorum() {
        let (each, any) =
            (with_health(&dual(), "families = \"each\""), with_health(&dual(), "families = \"any\""));
        // The IPv6 probes alone fail: with `any` that is no fall before the reload. All fail: the fall waits before it.
        for (before, after, failing) in
            [(&any, &each, &[Family::Ipv6][..]), (&any, &each, &Family::ALL), (&each, &any, &Family::ALL)]
        {
            let mut state = well(before);
            let of = |node: &str, family| ProbeId { family: Some(family), ..probe(node) };
            for &family in failing {
                (0..3).for_each(|_| tell(&mut state, &of("node2", family), 60, false));
            }
            let waits =
                |state: &State| state.fall_waits(&Subject::Node("node2".to_owned())) && state.falls_wait();
            assert_eq!(waits(&state), failing.len() == 2);
            state.adopt(config(after));
            assert!(waits(&state), "{failing:?}");
            for node in ["node1", "node3"] {
                tell(&mut state, &of(node, Family::Ipv4), 61, true);
            }
            assert!(!state.falls_wait());
            // A fall that counted does not wait again.
            state.adopt(config(before));
            state.adopt(config(after));
            assert!(!state.falls_wait(), "{failing:?}");
        }
    }

    #[test]
    fn a_fall_that_another_rule_for_the_probes_makes_waits_for_its_quorum() {
        let with = |require: &str| {
            let probes = "[[health.probes]]\nport = 1\n[[health.probes]]\nport = 2";
            config(&with_health(TEXT, &format!("require = \"{require}\"\n{probes}")))
        };
        let of = |node: &str, index: usize| ProbeId { index, ..probe(node) };
        let mut state = State::new(with("any"), &Intents::new());
        for (node, index) in ["node1", "node2", "node3"].into_iter().flat_map(|node| [(node, 0), (node, 1)]) {
            tell(&mut state, &of(node, index), 1, true);
        }
        (0..3).for_each(|_| tell(&mut state, &of("node2", 0), 60, false));
        assert_eq!(decided(&mut state, 1), Effective::Up, "the other probe passes");
        state.adopt(with("all"));
        assert_eq!(decided(&mut state, 1), Effective::Up, "no quorum was heard since");
        for node in ["node1", "node3"] {
            tell(&mut state, &of(node, 0), 61, true);
        }
        assert_eq!(decided(&mut state, 1), Effective::Down);
    }
}
