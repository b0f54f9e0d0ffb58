//! The state of `top`, from the daemon's answers and the operator's keys. It needs no terminal and no clock.
use std::collections::{BTreeMap, VecDeque};

use dns_xdp_ebpf::outcome::{Action, Outcome};
use jiff::Timestamp;
use ratatui::crossterm::event::KeyCode;
use tokio::time::Instant;

use crate::control::api::{Names, Stats, Status};
use crate::event::Event;
use crate::responder::is_answer;

/// Seconds that are kept for the sparkline.
const HISTORY: usize = 512;

/// The daemon's answers at one moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) at: Instant,
    pub(super) status: Status,
    pub(super) stats: Stats,
    /// The newest events, in their order.
    pub(super) events: Vec<Event>,
    /// The most asked names; `None`: they were not requested.
    pub(super) names: Option<Names>,
}

/// Everything on the screen.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) latest: Option<Snapshot>,
    /// The rates of the outcomes, in the chosen order.
    pub(super) outcomes: Vec<OutcomeRate>,
    /// Answers per second, the newest last.
    pub(super) history: VecDeque<u64>,
    pub(super) rate: Option<f64>,
    /// The program's share of the answers; `None`: there were no answers.
    pub(super) kernel_share: Option<f64>,
    /// Since when the daemon has not answered, and why.
    pub(super) gone: Option<(Timestamp, String)>,
    pub(super) paused: bool,
    pub(super) sort: Sort,
    /// Number of nodes above the first that is shown.
    pub(super) scrolled: usize,
    names: bool,
}

/// The rate of one outcome, in the program or in the responder.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct OutcomeRate {
    pub(super) text: String,
    pub(super) by: By,
    /// Per second; `None`: there is nothing to compare with yet.
    pub(super) rate: Option<f64>,
    pub(super) total: u64,
}

/// The source of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum By {
    /// The program answered.
    Kernel,
    /// The program passed the query up or dropped it.
    Unanswered,
    /// The responder answered.
    Responder,
}

/// The order of the outcomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Rate,
    Total,
    Name,
}

impl Sort {
    pub(super) fn text(self) -> &'static str {
        match self {
            Sort::Rate => "rate",
            Sort::Total => "total",
            Sort::Name => "name",
        }
    }

    fn next(self) -> Self {
        match self {
            Sort::Rate => Sort::Total,
            Sort::Total => Sort::Name,
            Sort::Name => Sort::Rate,
        }
    }
}

impl Model {
    /// Makes the model before the first answer.
    pub(super) fn new(names: bool) -> Self {
        Model {
            latest: None,
            outcomes: Vec::new(),
            history: VecDeque::new(),
            rate: None,
            kernel_share: None,
            gone: None,
            paused: false,
            sort: Sort::Rate,
            scrolled: 0,
            names,
        }
    }

    /// Whether to sample the names: only while the screen shows them.
    pub(super) fn wants_names(&self) -> bool {
        self.names && !self.paused
    }

    /// Takes an answer in. A paused screen does not change.
    pub(super) fn take(&mut self, snapshot: Snapshot) {
        self.gone = None;
        if self.paused {
            return;
        }
        let seconds = self.latest.as_ref().map(|before| (snapshot.at - before.at).as_secs_f64());
        let before = self.latest.as_ref().map(|before| &before.stats);
        self.outcomes = outcomes(before, &snapshot.stats, seconds.filter(|seconds| *seconds > 0.0));
        let per_second = |by| self.outcomes.iter().filter(move |one| one.by == by).map(|one| one.rate).sum();
        let (kernel, responder): (Option<f64>, Option<f64>) =
            (per_second(By::Kernel), per_second(By::Responder));
        self.rate = kernel.zip(responder).map(|(kernel, responder)| kernel + responder);
        self.kernel_share =
            kernel.zip(self.rate).filter(|(_, all)| *all > 0.0).map(|(kernel, all)| kernel / all);
        if let Some(rate) = self.rate {
            self.history.push_back(rate.round() as u64);
            if self.history.len() > HISTORY {
                self.history.pop_front();
            }
        }
        self.latest = Some(snapshot);
        self.order();
    }

    /// Remembers that there was no answer, and since when.
    pub(super) fn nobody_answers(&mut self, now: Timestamp, why: &str) {
        let since = self.gone.as_ref().map_or(now, |(since, _)| *since);
        self.gone = Some((since, why.to_owned()));
        (self.rate, self.kernel_share) = (None, None);
        self.outcomes.iter_mut().for_each(|outcome| outcome.rate = None);
    }

    /// Handles a key.
    pub(super) fn key(&mut self, key: KeyCode) {
        match key {
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => {
                self.sort = self.sort.next();
                self.order();
            }
            KeyCode::Char('n') => self.names = !self.names,
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scrolled = self.scrolled.saturating_add(1),
            KeyCode::Home => self.scrolled = 0,
            _ => {}
        }
    }

    fn order(&mut self) {
        let sort = self.sort;
        self.outcomes.sort_by(|a, b| {
            let by_name = (a.by, &a.text).cmp(&(b.by, &b.text));
            let by_total = b.total.cmp(&a.total);
            match sort {
                Sort::Rate => {
                    let [a, b] = [a, b].map(|outcome| outcome.rate.unwrap_or(0.0));
                    b.total_cmp(&a).then(by_total).then(by_name)
                }
                Sort::Total => by_total.then(by_name),
                Sort::Name => by_name,
            }
        });
    }
}

/// Returns the rates of all outcomes that have happened at least once.
fn outcomes(before: Option<&Stats>, now: &Stats, seconds: Option<f64>) -> Vec<OutcomeRate> {
    let rates = |by: fn(&str) -> By, part: fn(&Stats) -> &BTreeMap<String, u64>| {
        let happened = part(now).iter().filter(|(_, total)| **total > 0);
        let rate = move |(text, total): (&String, &u64)| {
            // A restarted daemon counts from zero.
            let before = before.map(|before| part(before).get(text).copied().unwrap_or(0));
            let more = before.map(|before| total.checked_sub(before).unwrap_or(*total));
            let rate = more.zip(seconds).map(|(more, seconds)| more as f64 / seconds);
            OutcomeRate { text: text.clone(), by: by(text), rate, total: *total }
        };
        happened.map(rate).collect::<Vec<_>>()
    };
    let mut all = rates(by_program, |stats| &stats.xdp);
    all.extend(rates(by_responder, |stats| &stats.responder));
    all
}

fn by_program(text: &str) -> By {
    let outcome = Outcome::ALL.iter().find(|outcome| outcome.text() == text);
    match outcome.map(|outcome| outcome.action()) {
        Some(Action::Transmit) => By::Kernel,
        Some(Action::Pass | Action::Drop) | None => By::Unanswered,
    }
}

fn by_responder(text: &str) -> By {
    if is_answer(text) { By::Responder } else { By::Unanswered }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::status::sample;

    /// Returns the counters at a second.
    pub(in crate::cli) fn snapshot(second: u64, answered: u64, refused: u64) -> Snapshot {
        thread_local!(static START: Instant = Instant::now());
        let stats = serde_json::json!({
            "xdp": {"answered": answered, "type": refused, "nodata": 0},
            "responder": {"REFUSED": refused, "NOERROR": 0, "dropped": 2},
        });
        Snapshot {
            at: START.with(|start| *start) + Duration::from_secs(second),
            status: sample(),
            stats: serde_json::from_value(stats).unwrap(),
            events: Vec::new(),
            names: None,
        }
    }

    fn rates(model: &Model) -> Vec<(&str, Option<f64>)> {
        model.outcomes.iter().map(|outcome| (&*outcome.text, outcome.rate)).collect()
    }

    #[test]
    fn rates_come_of_two_answers_and_count_each_query_once() {
        let mut model = Model::new(true);
        model.take(snapshot(0, 1_000, 10));
        assert_eq!((model.rate, rates(&model)[0]), (None, ("answered", None)));
        model.take(snapshot(2, 1_600, 210));
        let expected = [
            ("answered", Some(300.0)),
            ("type", Some(100.0)),
            ("REFUSED", Some(100.0)),
            ("dropped", Some(0.0)),
        ];
        assert_eq!(rates(&model), expected);
        assert_eq!((model.rate, model.kernel_share), (Some(400.0), Some(0.75)));
        assert_eq!(model.history, [400]);
    }

    #[test]
    fn counters_that_begin_anew_are_no_negative_rate() {
        let mut model = Model::new(true);
        model.take(snapshot(0, 1_000, 0));
        model.take(snapshot(1, 5, 0));
        assert_eq!(rates(&model)[0], ("answered", Some(5.0)));
    }

    #[test]
    fn s_goes_through_the_orders() {
        let mut model = Model::new(true);
        model.take(snapshot(0, 1_000, 10));
        model.take(snapshot(1, 1_001, 20));
        let first = |model: &Model| model.outcomes[0].text.clone();
        assert_eq!((model.sort.text(), first(&model)), ("rate", "type".to_owned()));
        model.key(KeyCode::Char('s'));
        assert_eq!((model.sort.text(), first(&model)), ("total", "answered".to_owned()));
        model.key(KeyCode::Char('s'));
        assert_eq!((model.sort.text(), first(&model)), ("name", "answered".to_owned()));
        model.key(KeyCode::Char('s'));
        assert_eq!(model.sort, Sort::Rate);
    }

    #[test]
    fn a_pause_keeps_the_screen_and_lets_the_program_alone() {
        let mut model = Model::new(true);
        model.take(snapshot(0, 1_000, 0));
        model.key(KeyCode::Char('p'));
        assert!(!model.wants_names());
        model.take(snapshot(1, 2_000, 0));
        assert_eq!(model.outcomes[0].total, 1_000);
        model.key(KeyCode::Char('p'));
        model.take(snapshot(2, 3_000, 0));
        assert_eq!((model.outcomes[0].rate, model.wants_names()), (Some(1_000.0), true));
        model.key(KeyCode::Char('n'));
        assert!(!model.wants_names());
    }

    #[test]
    fn without_an_answer_there_are_no_rates_and_the_rest_stays() {
        let mut model = Model::new(true);
        model.take(snapshot(0, 1_000, 0));
        model.take(snapshot(1, 2_000, 0));
        model.nobody_answers(Timestamp::UNIX_EPOCH, "gone");
        model.nobody_answers(Timestamp::UNIX_EPOCH + Duration::from_secs(3), "still gone");
        assert_eq!(model.gone, Some((Timestamp::UNIX_EPOCH, "still gone".to_owned())));
        assert_eq!((model.rate, model.outcomes[0].rate, model.outcomes[0].total), (None, None, 2_000));
        model.take(snapshot(9, 2_800, 0));
        assert_eq!((model.rate, model.gone), (Some(100.0), None));
    }
}
