//! The events of the log, of `dns-xdp events` and of the on-event command.
//!
//! An [`Occurrence`] is something that happened. The [`Journal`] numbers it, which makes it an [`Event`], and keeps the
//! newest events.
mod journal;
mod kind;

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use journal::{EVENTS, Journal, Page};
pub use kind::Kind;

/// The longest reason in characters. A command's output and an operator's reason are cut to this length.
const LONGEST_REASON: usize = 512;
/// The most names and addresses in the answers of one event. Further changes are only counted.
const WORDS: usize = 4_096;
/// The most names in one line, and the most addresses of each.
const NAMES_SHOWN: usize = 4;
const ADDRESSES_SHOWN: usize = 8;

/// An [`Occurrence`] with its number and time. Its JSON form is stable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The number of the event: counted from 1 at the daemon's start, without gaps.
    pub seq: u64,
    /// The time when this server noticed it.
    pub at: Timestamp,
    /// The occurrence.
    #[serde(flatten)]
    pub what: Occurrence,
    /// Whether the event needs an operator at once: [`Kind::is_grave`].
    pub grave: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Occurrence {
    /// The kind.
    pub kind: Kind,
    /// The subject, as in `status`: `node2`, `witness 192.0.2.1`. `None`: the server as a whole, or several nodes that
    /// the reason names.
    pub subject: Option<String>,
    /// The reason, in one line.
    pub reason: Option<String>,
    /// The changed answers.
    pub answers: Vec<AnswerChange>,
    /// How many more names have changed answers.
    pub answers_omitted: usize,
}

/// The old and the new answer of one name. A name that does not exist answers `NXDOMAIN`, and a refused name `REFUSED`.
/// The list of a name without addresses is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerChange {
    /// The name, fully qualified.
    pub name: String,
    /// Addresses, IPv4 first.
    pub old: Vec<String>,
    /// See `old`.
    pub new: Vec<String>,
}

impl Occurrence {
    /// Makes an occurrence without a subject.
    pub fn new(kind: Kind) -> Self {
        Occurrence { kind, subject: None, reason: None, answers: Vec::new(), answers_omitted: 0 }
    }

    /// Sets its subject.
    pub fn about(self, subject: impl fmt::Display) -> Self {
        Occurrence { subject: Some(subject.to_string()), ..self }
    }

    /// Sets its reason. Removes line breaks, and cuts a text that is too long.
    pub fn because(self, reason: impl AsRef<str>) -> Self {
        let reason = one_line(reason.as_ref());
        Occurrence { reason: Some(reason).filter(|reason| !reason.is_empty()), ..self }
    }

    /// Adds the changed answers.
    pub fn with(self, answers: AnswerChanges) -> Self {
        Occurrence { answers: answers.changes, answers_omitted: answers.omitted, ..self }
    }

    /// Returns its reason and its answers, in one line of bounded length.
    pub fn detail(&self) -> String {
        let answers = self.answers.iter().take(NAMES_SHOWN).map(ToString::to_string);
        let mut answers: Vec<String> = answers.collect();
        let more = self.answers.len().saturating_sub(NAMES_SHOWN) + self.answers_omitted;
        if more > 0 {
            answers.push(format!("and {more} more"));
        }
        let parts = [self.reason.clone().unwrap_or_default(), answers.join(", ")];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
    }

    fn words(&self) -> usize {
        self.answers.iter().map(AnswerChange::words).sum()
    }
}

/// The changed answers of an event, up to its limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AnswerChanges {
    changes: Vec<AnswerChange>,
    words: usize,
    omitted: usize,
}

impl AnswerChanges {
    /// Whether no answer has changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.omitted == 0
    }

    /// Returns how many are listed.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether further changes are only counted.
    pub fn is_full(&self) -> bool {
        self.omitted > 0
    }

    /// Adds a change; `None`: only counts it.
    pub fn push(&mut self, change: Option<AnswerChange>) {
        let room = if self.is_full() { 0 } else { WORDS - self.words };
        match change.filter(|change| change.words() <= room) {
            Some(change) => {
                self.words += change.words();
                self.changes.push(change);
            }
            None => self.omitted += 1,
        }
    }
}

impl FromIterator<AnswerChange> for AnswerChanges {
    fn from_iter<I: IntoIterator<Item = AnswerChange>>(changes: I) -> Self {
        let mut all = AnswerChanges::default();
        changes.into_iter().for_each(|change| all.push(Some(change)));
        all
    }
}

impl AnswerChange {
    fn words(&self) -> usize {
        1 + self.old.len() + self.new.len()
    }
}

/// Writes the occurrence as in the log: `+down node2: refused`.
impl fmt::Display for Occurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(subject) = &self.subject {
            write!(f, " {subject}")?;
        }
        let detail = self.detail();
        if detail.is_empty() { Ok(()) } else { write!(f, ": {detail}") }
    }
}

impl fmt::Display for AnswerChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.name, shown(&self.old), shown(&self.new))
    }
}

fn shown(addresses: &[String]) -> String {
    match addresses.len() {
        0 => "nothing".to_owned(),
        count if count > ADDRESSES_SHOWN => {
            format!("{} (and {} more)", addresses[..ADDRESSES_SHOWN].join(" "), count - ADDRESSES_SHOWN)
        }
        _ => addresses.join(" "),
    }
}

fn one_line(text: &str) -> String {
    let printable = text.chars().map(|char| if char.is_control() { ' ' } else { char });
    let mut line: String = printable.take(LONGEST_REASON).collect();
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns a change of one name from one address to another.
    pub(crate) fn moved(name: &str, old: &str, new: &str) -> AnswerChange {
        let list = |address: &str| vec![address.to_owned()];
        AnswerChange { name: name.to_owned(), old: list(old), new: list(new) }
    }

    fn failover(names: usize) -> Occurrence {
        let names = (1..=names).map(|number| moved(&format!("name{number}."), "192.0.2.12", "192.0.2.13"));
        Occurrence::new(Kind::Failover).about("node2").because("node2 is down").with(names.collect())
    }

    #[test]
    fn the_json_form_has_the_fields_that_outsiders_rely_on() {
        let event = Event { seq: 7, at: Timestamp::UNIX_EPOCH, what: failover(1), grave: false };
        let expected = serde_json::json!({
            "seq": 7, "at": "1970-01-01T00:00:00Z", "kind": "+failover", "subject": "node2",
            "reason": "node2 is down", "grave": false, "answers_omitted": 0,
            "answers": [{"name": "name1.", "old": ["192.0.2.12"], "new": ["192.0.2.13"]}],
        });
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
        assert_eq!(serde_json::from_value::<Event>(expected).unwrap(), event);
    }

    #[test]
    fn a_line_names_the_first_names_and_counts_the_others() {
        let expected = "+failover node2: node2 is down; name1. 192.0.2.12 -> 192.0.2.13, \
                        name2. 192.0.2.12 -> 192.0.2.13";
        assert_eq!(failover(2).to_string(), expected);
        let long = failover(70_000).to_string();
        assert!(long.ends_with("name4. 192.0.2.12 -> 192.0.2.13, and 69996 more"), "{long}");
        assert_eq!(Occurrence::new(Kind::Thawed).to_string(), "-freeze");
    }

    #[test]
    fn an_event_keeps_only_so_many_answers() {
        let kept = failover(70_000);
        assert_eq!(kept.answers.len(), WORDS / 3);
        assert_eq!(kept.answers.len() + kept.answers_omitted, 70_000);
    }

    #[test]
    fn a_long_list_of_addresses_is_cut_in_a_line_and_whole_in_the_event() {
        let new: Vec<String> = (1..=20).map(|last| format!("192.0.2.{last}")).collect();
        let change = AnswerChange { name: "x.".to_owned(), old: Vec::new(), new };
        assert!(change.to_string().starts_with("x. nothing -> 192.0.2.1 "), "{change}");
        assert!(change.to_string().ends_with("192.0.2.8 (and 12 more)"), "{change}");
    }

    #[test]
    fn a_reason_is_one_line_of_bounded_length() {
        let said = Occurrence::new(Kind::Down).because("exit 1:\nfake +down node1\0 \n");
        assert_eq!(said.to_string(), "+down: exit 1: fake +down node1");
        let long = Occurrence::new(Kind::Down).because("ä".repeat(10_000));
        assert_eq!(long.reason.unwrap().chars().count(), LONGEST_REASON);
        assert_eq!(Occurrence::new(Kind::Down).because("\n").reason, None);
    }
}
