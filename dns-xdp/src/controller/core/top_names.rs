//! The most asked names among the names that the program has sampled lately. The memory is bounded, whatever is asked.
use std::collections::HashMap;
use std::time::Duration;

use crate::control::api::{AskedName, Names};
use crate::datapath::SAMPLING_LIFE;

/// The most names counted at a time. If there are more, the least asked names are dropped.
const KEPT: usize = 1024;
/// The most names in an answer.
const TOLD: usize = 100;
/// The time after which a sample counts 1/2.
const HALF_LIFE: Duration = Duration::from_secs(10);
/// A name that counts less than this many samples is dropped.
const FORGOTTEN: f64 = 0.05;
/// The wanted number of samples per second: a little more than 1/3 of the program's ring.
const SAMPLES_PER_SECOND: f64 = 128.0;

/// The number of queries for each name. Older queries count less.
#[derive(Debug, Default)]
pub(super) struct TopNames {
    counts: HashMap<String, f64>,
    /// The count of all names, including dropped names.
    total: f64,
    samples: f64,
    one_of: u64,
    last: Option<Duration>,
}

impl TopNames {
    /// Counts the names that were sampled since the last call, by a program that sampled at the rate of
    /// [`TopNames::one_of`].
    pub(super) fn count(&mut self, names: Vec<String>, now: Duration) {
        match self.last.replace(now) {
            Some(last) if now - last <= SAMPLING_LIFE => self.age(now - last),
            // No operator has looked for a while: the samples in the ring are too old.
            _ => {
                *self = TopNames { last: Some(now), ..TopNames::default() };
                return;
            }
        }
        let weight = self.one_of.max(1) as f64;
        for name in names {
            *self.counts.entry(name).or_default() += weight;
            self.total += weight;
            self.samples += 1.0;
        }
        self.forget(weight);
    }

    /// How many queries one sample stands for from now on: a power of two.
    pub(super) fn one_of(&mut self, queries_per_second: f64) -> u64 {
        let wanted = (queries_per_second / SAMPLES_PER_SECOND).ceil().clamp(1.0, f64::from(1_u32 << 31));
        self.one_of = (wanted as u64).next_power_of_two();
        self.one_of
    }

    /// Drops the counts when no operator looks at them any more.
    pub(super) fn end_unless_looked_at(&mut self, now: Duration) {
        if self.last.is_some_and(|last| now - last > SAMPLING_LIFE) {
            *self = TopNames::default();
        }
    }

    /// Returns the sampled names, the most asked names first.
    pub(super) fn answer(&self, attached: bool) -> Names {
        let mut names: Vec<(&String, &f64)> = self.counts.iter().collect();
        names.sort_by(|a, b| b.1.total_cmp(a.1).then_with(|| a.0.cmp(b.0)));
        let told = names.into_iter().take(TOLD);
        let asked =
            |(name, count): (&String, &f64)| AskedName { name: name.clone(), share: count / self.total };
        Names {
            sampled: attached,
            one_of: self.one_of.max(1),
            samples: self.samples.round() as u64,
            names: told.map(asked).collect(),
        }
    }

    fn age(&mut self, time: Duration) {
        let left = 0.5_f64.powf(time.as_secs_f64() / HALF_LIFE.as_secs_f64());
        self.counts.values_mut().for_each(|count| *count *= left);
        self.total *= left;
        self.samples *= left;
    }

    fn forget(&mut self, weight: f64) {
        self.counts.retain(|_, count| *count >= FORGOTTEN * weight);
        if self.counts.len() > KEPT {
            let mut counts: Vec<f64> = self.counts.values().copied().collect();
            let (_, least, _) = counts.select_nth_unstable_by(KEPT - 1, |a, b| b.total_cmp(a));
            let least = *least;
            self.counts.retain(|_, count| *count > least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(nth: u64) -> Duration {
        Duration::from_secs(nth)
    }

    fn times(name: &str, count: usize) -> Vec<String> {
        vec![name.to_owned(); count]
    }

    #[test]
    fn the_most_asked_name_is_first_with_its_share() {
        let mut asked = TopNames::default();
        asked.count(times("old.", 300), second(0));
        asked.count([times("a.", 1), times("b.", 3)].concat(), second(1));
        let answer = asked.answer(true);
        let shares: Vec<(&str, f64)> = answer.names.iter().map(|asked| (&*asked.name, asked.share)).collect();
        assert_eq!(shares, [("b.", 0.75), ("a.", 0.25)], "what was in the ring before is of another time");
        assert_eq!(answer.samples, 4);
    }

    #[test]
    fn what_was_asked_half_a_minute_ago_counts_an_eighth() {
        let mut asked = TopNames::default();
        asked.count(Vec::new(), second(0));
        asked.count(times("old.", 8), second(0));
        (1..30).for_each(|nth| asked.count(Vec::new(), second(nth)));
        asked.count(times("new.", 1), second(30));
        let names = asked.answer(true).names;
        assert!(names.iter().all(|asked| (asked.share - 0.5).abs() < 0.01), "{names:?}");
    }

    #[test]
    fn one_sample_stands_for_more_queries_where_more_are_asked() {
        let mut asked = TopNames::default();
        let cases = [(0.0, 1), (100.0, 1), (129.0, 2), (4e6, 32_768), (f64::MAX, 1 << 31)];
        for (rate, one_of) in cases {
            assert_eq!(asked.one_of(rate), one_of, "{rate}");
        }
    }

    #[test]
    fn names_that_are_asked_once_take_bounded_room_and_hide_no_other() {
        let mut asked = TopNames::default();
        asked.count(Vec::new(), second(0));
        for round in 1..100 {
            let random = (0..372).map(|nth| format!("{round}-{nth}."));
            asked.count(random.chain(times("real.", 40)).collect(), second(round));
            assert!(asked.counts.len() <= KEPT);
        }
        let answer = asked.answer(true);
        assert_eq!((&*answer.names[0].name, answer.names.len()), ("real.", TOLD));
        assert!((answer.names[0].share - 40.0 / 412.0).abs() < 0.01);
    }

    #[test]
    fn nothing_is_kept_when_no_operator_looks() {
        let mut asked = TopNames::default();
        asked.count(Vec::new(), second(0));
        asked.count(times("a.", 1), second(1));
        asked.end_unless_looked_at(second(4));
        assert_eq!(asked.answer(true).names.len(), 1);
        asked.end_unless_looked_at(second(60));
        assert!(asked.answer(true).names.is_empty());
    }
}
