//! Measures how long names answer a failed node: from its first failed probe, and from the verdict. This module is
//! pure.
use std::collections::BTreeMap;
use std::time::Duration;

use crate::cluster::Family;
use crate::health::{Health, Subject, Transition};
use crate::metrics::Repair;

/// A subject, or one of its families if they are judged separately.
type Party = (Subject, Option<Family>);

/// The parties in doubt, and the parties that are down and may still be answered. Times count from the reports' origin.
#[derive(Debug, Default)]
pub(super) struct Falls {
    doubted: BTreeMap<Party, Duration>,
    fallen: BTreeMap<Party, Fall>,
    /// Whether names have moved away from a party since the answers last agreed with the verdicts.
    has_moved: bool,
}

#[derive(Debug, Clone, Copy)]
struct Fall {
    first_failure: Duration,
    verdict: Duration,
}

impl Falls {
    /// Takes a change of health that was found at `at`.
    pub(super) fn turned(
        &mut self,
        (subject, family): (&Subject, Option<Family>),
        Transition { from, to }: Transition,
        at: Duration,
    ) {
        let party = (subject.clone(), family);
        match to {
            Health::Suspect => {
                self.fallen.remove(&party);
                self.doubted.insert(party, at);
            }
            Health::Down | Health::Recovering if from.serving() != Some(false) => {
                let first_failure = self.doubted.remove(&party).unwrap_or(at);
                self.fallen.insert(party, Fall { first_failure, verdict: at });
            }
            Health::Down | Health::Recovering => {}
            Health::Up | Health::Unknown => {
                self.doubted.remove(&party);
                self.fallen.remove(&party);
            }
        }
    }

    /// Notes that names have moved away from a party.
    pub(super) fn moved(&mut self) {
        self.has_moved = true;
    }

    /// Returns how long each repair took, now that the answers agree with the verdicts. If no name has moved, nothing
    /// was repaired.
    pub(super) fn answered(&mut self, now: Duration) -> Vec<Repair> {
        let fallen = std::mem::take(&mut self.fallen);
        let has_moved = std::mem::take(&mut self.has_moved);
        // If both families of a subject fell, they are one repair, from the first failure of either family.
        let mut repaired: BTreeMap<Subject, Fall> = BTreeMap::new();
        for ((subject, _), fall) in fallen.into_iter().filter(|_| has_moved) {
            let first = repaired.entry(subject).or_insert(fall);
            first.first_failure = first.first_failure.min(fall.first_failure);
            first.verdict = first.verdict.min(fall.verdict);
        }
        let repair = |fall: Fall| Repair {
            whole: now.saturating_sub(fall.first_failure),
            publishing: now.saturating_sub(fall.verdict),
        };
        repaired.into_values().map(repair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Returns the falls after these changes of node2's health, each `(from, to, at)`.
    fn falls(changes: &[(Health, Health, u64)]) -> Falls {
        let mut falls = Falls::default();
        for (from, to, at) in changes {
            falls.turned(
                (&Subject::Node("node2".to_owned()), None),
                Transition { from: *from, to: *to },
                ms(*at),
            );
        }
        falls.moved();
        falls
    }

    #[test]
    fn a_repair_counts_from_the_first_failed_probe_and_from_the_verdict() {
        let changes = [(Health::Up, Health::Suspect, 1_000), (Health::Suspect, Health::Down, 1_500)];
        let mut falls = falls(&changes);
        assert_eq!(falls.answered(ms(1_520)), [Repair { whole: ms(520), publishing: ms(20) }]);
        assert_eq!(falls.answered(ms(1_600)), [], "once");
    }

    #[test]
    fn both_families_of_a_node_are_one_repair() {
        let node = Subject::Node("node2".to_owned());
        let mut falls = Falls::default();
        for (family, doubt, verdict) in [(Family::Ipv4, 1_000, 1_600), (Family::Ipv6, 900, 1_600)] {
            let part = (&node, Some(family));
            falls.turned(part, Transition { from: Health::Up, to: Health::Suspect }, ms(doubt));
            falls.turned(part, Transition { from: Health::Suspect, to: Health::Down }, ms(verdict));
        }
        falls.moved();
        assert_eq!(falls.answered(ms(1_620)), [Repair { whole: ms(720), publishing: ms(20) }]);
    }

    #[test]
    fn where_no_name_moved_nothing_was_repaired() {
        let mut falls = falls(&[(Health::Up, Health::Down, 700)]);
        assert_eq!(falls.answered(ms(705)).len(), 1);
        falls.turned(
            (&Subject::Node("node3".to_owned()), None),
            Transition { from: Health::Up, to: Health::Down },
            ms(800),
        );
        assert_eq!(falls.answered(ms(805)), []);
    }

    #[test]
    fn a_verdict_without_doubt_before_it_counts_from_itself() {
        let mut falls = falls(&[(Health::Up, Health::Down, 700)]);
        assert_eq!(falls.answered(ms(705)), [Repair { whole: ms(5), publishing: ms(5) }]);
    }

    #[test]
    fn a_node_that_is_up_before_the_answers_changed_was_never_repaired() {
        let (up, suspect, down, recovering) = (Health::Up, Health::Suspect, Health::Down, Health::Recovering);
        let frozen = [(up, suspect, 10), (suspect, down, 20), (down, recovering, 30), (recovering, up, 40)];
        assert_eq!(falls(&frozen).answered(ms(50)), []);
        assert_eq!(falls(&[(up, suspect, 10), (suspect, up, 20)]).answered(ms(50)), []);
    }

    #[test]
    fn a_node_that_wavers_while_it_is_down_counts_from_its_fall() {
        let (down, recovering) = (Health::Down, Health::Recovering);
        let wavers = [(Health::Up, down, 10), (down, recovering, 30), (recovering, down, 40)];
        assert_eq!(falls(&wavers).answered(ms(110)), [Repair { whole: ms(100), publishing: ms(100) }]);
    }
}
