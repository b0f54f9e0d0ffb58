//! The intents of operators: how each node has to be treated, why, by whose order and until when.
//!
//! An intent has the node's name and no address: addresses are only in the configuration.
mod file;
mod hold;
mod local;
mod request;

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use file::{Error, load, load_local, store, store_local};
pub use hold::{Hold, Holds, NAMELESS, holds, with_holds, without_holds};
pub use local::{
    Local, LocalHold, LocalIntent, Reconciled, hold_of, is_undecided_since, stored_hold, wants_as,
};
pub use request::{IntentRequest, LONGEST_TEXT, lasting, text};

use crate::cluster::Admin;

/// The text in `status` for an intent that counts on one server alone.
pub const LOCAL: &str = "on this server alone";

/// The intent of each node, by its name; a node without an intent is [`Admin::Auto`].
pub type Intents = BTreeMap<String, Intent>;

/// The intent for one node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// How the node has to be treated.
    pub admin: Admin,
    /// The reason, in the operator's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The operator that set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The time when it came into force.
    pub since: Timestamp,
    /// When the intent ends and the probes decide again; `None`: it does not end. The time is the wall clock's, because
    /// that clock outlasts a restart. Setting the clock therefore moves the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The hold of a node that fell: the node stays out of the answers after its recovery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Fields of another version. They are kept, and have no effect here.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

impl Intent {
    /// Creates an intent without a reason, an end or an operator.
    pub fn new(admin: Admin, since: Timestamp) -> Self {
        Intent { admin, reason: None, by: None, since, until: None, hold: None, others: Map::new() }
    }

    /// Whether the intent has no effect: the probes decide, as without an intent.
    pub fn says_nothing(&self) -> bool {
        let Intent { admin, reason, by, until, others, since: _, hold: _ } = self;
        *admin == Admin::Auto && reason.is_none() && by.is_none() && until.is_none() && others.is_empty()
    }

    /// Whether the intent's time is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Intent { admin, reason, by, until, .. } = self;
        let circumstances = in_words(None, by.as_deref(), *until);
        let space = if circumstances.is_empty() { "" } else { " " };
        write!(f, "{admin}{space}{circumstances}")?;
        reason.as_ref().map_or(Ok(()), |reason| write!(f, ": {reason}"))
    }
}

/// Returns the operator, the end and the reason in words, as far as they are known.
pub fn in_words(reason: Option<&str>, by: Option<&str>, until: Option<Timestamp>) -> String {
    let by = by.map(|by| format!("by {by}"));
    let until = until.map(|until| format!("until {until:.0}"));
    let circumstances: Vec<String> = by.into_iter().chain(until).collect();
    let circumstances = Some(circumstances.join(" ")).filter(|text| !text.is_empty());
    circumstances.into_iter().chain(reason.map(str::to_owned)).collect::<Vec<_>>().join(": ")
}

/// Returns the intents after a request. If the node already has this intent and the intent has not ended, it keeps its
/// time and the fields that the request leaves out. A node's hold stays unless `up` ends it.
pub fn set_intent(intents: &Intents, node: &str, request: IntentRequest, now: Timestamp) -> Intents {
    let mut intents = intents.clone();
    let IntentRequest { admin, reason, by, lasting } = request;
    // A time beyond the range of `Timestamp` is for ever.
    let until = lasting.and_then(|lasting| now.checked_add(SignedDuration::try_from(lasting).ok()?).ok());
    match intents.get_mut(node) {
        Some(intent) if intent.admin == admin && !intent.is_over(now) => {
            if reason.is_some() || until.is_some() {
                intent.by = by;
            }
            intent.reason = reason.or(intent.reason.take());
            intent.until = until.or(intent.until);
        }
        None if admin == Admin::Auto => {}
        before => {
            let hold = before.and_then(|before| before.hold.take());
            let new = Intent { reason, by, until, hold, ..Intent::new(admin, now) };
            intents.insert(node.to_owned(), new);
        }
    }
    if let Some(Intent { admin: Admin::Up, hold, by, .. }) = intents.get_mut(node) {
        *hold = hold.take().map(|hold| hold.ended_by(by.clone(), now));
    }
    intents
}

/// Splits off the intents whose time is over. Returns the remaining and the ended ones; `None`: none has ended.
pub fn expire(intents: &Intents, now: Timestamp) -> Option<(Intents, Intents)> {
    let (over, mut left): (Intents, Intents) =
        intents.clone().into_iter().partition(|(_, intent)| intent.is_over(now));
    for (node, intent) in &over {
        let since = intent.until.unwrap_or(now);
        left.insert(node.clone(), Intent { hold: intent.hold.clone(), ..Intent::new(Admin::Auto, since) });
    }
    (!over.is_empty()).then_some((left, over))
}

/// Returns the intents that count at this time, without those whose time is over.
pub fn counting(intents: &Intents, now: Timestamp) -> Intents {
    expire(intents, now).map_or_else(|| intents.clone(), |(left, _)| left)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn request(admin: Admin, reason: Option<&str>, lasting: Option<Duration>) -> IntentRequest {
        IntentRequest { admin, reason: reason.map(str::to_owned), by: Some("alice".to_owned()), lasting }
    }

    #[test]
    fn the_same_request_again_keeps_what_it_does_not_say_itself() {
        let down =
            set_intent(&Intents::new(), "node1", request(Admin::Down, Some("disk"), Some(HOUR)), second(0));
        let intent = &down["node1"];
        assert_eq!((intent.since, intent.until), (second(0), Some(second(3600))));
        let bob = |request| IntentRequest { by: Some("bob".to_owned()), ..request };
        assert_eq!(set_intent(&down, "node1", bob(request(Admin::Down, None, None)), second(60)), down);

        let fan = set_intent(&down, "node1", bob(request(Admin::Down, Some("fan"), None)), second(60));
        let expected =
            Intent { reason: Some("fan".to_owned()), by: Some("bob".to_owned()), ..down["node1"].clone() };
        assert_eq!(fan["node1"], expected);
        let longer = set_intent(&down, "node1", bob(request(Admin::Down, None, Some(HOUR))), second(60));
        assert_eq!(longer["node1"].until, Some(second(3660)));
        assert_eq!(longer["node1"].reason.as_deref(), Some("disk"));
    }

    #[test]
    fn another_request_begins_anew_and_auto_for_a_node_that_is_auto_is_no_intent() {
        let down =
            set_intent(&Intents::new(), "node1", request(Admin::Down, Some("disk"), Some(HOUR)), second(0));
        let auto = set_intent(&down, "node1", request(Admin::Auto, None, None), second(60));
        let expected = Intent { by: Some("alice".to_owned()), ..Intent::new(Admin::Auto, second(60)) };
        assert_eq!(auto["node1"], expected);
        assert!(set_intent(&Intents::new(), "node1", request(Admin::Auto, None, None), second(0)).is_empty());
    }

    #[test]
    fn the_same_request_again_begins_anew_when_the_time_of_the_first_is_over() {
        let drained =
            set_intent(&Intents::new(), "node1", request(Admin::Drain, Some("disk"), Some(HOUR)), second(0));
        let again = set_intent(&drained, "node1", request(Admin::Drain, None, None), second(3600));
        let expected = Intent { by: Some("alice".to_owned()), ..Intent::new(Admin::Drain, second(3600)) };
        assert_eq!(again["node1"], expected);
    }

    #[test]
    fn an_intent_ends_at_its_time_and_no_other_does() {
        let drained =
            set_intent(&Intents::new(), "node1", request(Admin::Drain, None, Some(HOUR)), second(0));
        let both = set_intent(&drained, "node2", request(Admin::Down, None, None), second(0));
        assert_eq!(expire(&both, second(3599)), None);
        let (left, over) = expire(&both, second(7200)).unwrap();
        assert_eq!(over, drained);
        assert_eq!(left["node1"], Intent::new(Admin::Auto, second(3600)));
        assert_eq!(left["node2"], both["node2"]);
        assert_eq!(expire(&left, second(9000)), None);
    }

    #[test]
    fn an_intent_in_words_says_what_is_known_of_it() {
        let (reason, by, until) = (Some("new disk"), Some("alice"), Some(second(0)));
        assert_eq!(in_words(None, None, None), "");
        assert_eq!(in_words(reason, None, None), "new disk");
        assert_eq!(in_words(None, by, None), "by alice");
        assert_eq!(in_words(reason, by, until), "by alice until 1970-01-01T00:00:00Z: new disk");
        let bare = Intent::new(Admin::Drain, second(0));
        assert_eq!(bare.to_string(), "drain");
        let said = Intent { reason: reason.map(str::to_owned), ..bare };
        assert_eq!(said.to_string(), "drain: new disk");
        assert_eq!(
            Intent { by: by.map(str::to_owned), until, ..said }.to_string(),
            "drain by alice until 1970-01-01T00:00:00Z: new disk"
        );
    }

    #[test]
    fn a_hold_outlives_what_is_wanted_and_its_end_unless_the_node_is_wanted_up() {
        let held = Intent { hold: Some(Hold::new(second(5))), ..Intent::new(Admin::Auto, second(5)) };
        let held = Intents::from([("node1".to_owned(), held)]);
        let drained = set_intent(&held, "node1", request(Admin::Drain, None, Some(HOUR)), second(60));
        assert_eq!(drained["node1"].hold, Some(Hold::new(second(5))));
        let (left, _) = expire(&drained, second(7200)).unwrap();
        assert_eq!(left["node1"].hold, Some(Hold::new(second(5))));
        let up = set_intent(&left, "node1", request(Admin::Up, None, None), second(8000));
        let ended = Hold { by: Some("alice".to_owned()), ..Hold::new(second(5)).released(second(8000)) };
        assert_eq!(up["node1"].hold, Some(ended));
    }

    #[test]
    fn a_clock_that_is_set_moves_the_end() {
        let drained =
            set_intent(&Intents::new(), "node1", request(Admin::Drain, None, Some(HOUR)), second(7200));
        assert_eq!(expire(&drained, second(0)), None);
        assert!(expire(&drained, second(1_000_000)).is_some());
    }
}
