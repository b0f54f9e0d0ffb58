//! Holds: nodes that fell and stay out of the answers after their recovery.
//!
//! A hold is kept in the node's intent: in the state file, or in the store.
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Intent, Intents};
use crate::cluster::Admin;

/// The holds that count, by the names of their nodes.
pub type Holds = BTreeMap<String, Hold>;

/// The text for an operator that ended a hold and has no known name.
pub const NAMELESS: &str = "an operator";

/// The hold of a node that fell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// When the node fell.
    pub since: Timestamp,
    /// When the hold ended; `None`: it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Timestamp>,
    /// The operator that ended it; `None`: it ended by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Fields of another version. They are kept, and have no effect here.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

impl Hold {
    /// The hold of a node that falls now.
    pub fn new(now: Timestamp) -> Hold {
        Hold { since: now, released: None, by: None, others: Map::new() }
    }

    /// Returns the same hold, which ends now.
    pub fn released(self, now: Timestamp) -> Hold {
        Hold { released: Some(now), ..self }
    }

    /// Returns the hold, ended now by an operator. A hold that has ended stays as it is.
    pub fn ended_by(self, by: Option<String>, now: Timestamp) -> Hold {
        let by = by.or_else(|| Some(NAMELESS.to_owned()));
        if self.counts() { Hold { by, ..self.released(now) } } else { self }
    }

    /// Whether the hold counts.
    pub fn counts(&self) -> bool {
        self.released.is_none()
    }
}

/// The holds that are kept beside intents and count. The hold of a node with the intent `up` does not count.
pub fn holds(intents: &Intents) -> Holds {
    let held = |(node, intent): (&String, &Intent)| {
        let hold = intent.hold.as_ref().filter(|hold| hold.counts() && intent.admin != Admin::Up)?;
        Some((node.clone(), hold.clone()))
    };
    intents.iter().filter_map(held).collect()
}

/// The intents with exactly these holds.
pub fn with_holds(intents: &Intents, holds: &Holds) -> Intents {
    let mut kept = without_holds(intents);
    for (node, hold) in holds {
        let intent = kept.entry(node.clone()).or_insert_with(|| Intent::new(Admin::Auto, hold.since));
        intent.hold = Some(hold.clone()).filter(|_| intent.admin != Admin::Up);
    }
    kept
}

/// The intents without holds. An entry that has only a hold is left out.
pub fn without_holds(intents: &Intents) -> Intents {
    let wanted = |(node, intent): (&String, &Intent)| {
        let is_for_hold = intent.hold.is_some() && intent.says_nothing();
        (!is_for_hold).then(|| (node.clone(), Intent { hold: None, ..intent.clone() }))
    };
    intents.iter().filter_map(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn intents(all: &[(&str, Admin)]) -> Intents {
        let intent = |(node, admin): &(&str, Admin)| {
            let by = Some("alice".to_owned());
            ((*node).to_owned(), Intent { by, ..Intent::new(*admin, second(1)) })
        };
        all.iter().map(intent).collect()
    }

    fn held(all: &[&str]) -> Holds {
        all.iter().map(|node| ((*node).to_owned(), Hold::new(second(9)))).collect()
    }

    #[test]
    fn holds_are_kept_beside_intents_and_found_there() {
        let wanted = intents(&[("node1", Admin::Drain), ("node2", Admin::Auto)]);
        let kept = with_holds(&wanted, &held(&["node2", "node3"]));
        assert_eq!(holds(&kept), held(&["node2", "node3"]));
        assert_eq!(without_holds(&kept), wanted);
        assert_eq!(with_holds(&kept, &Holds::new()), wanted);
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Intents>(&text).unwrap(), kept);
    }

    #[test]
    fn a_node_that_is_wanted_up_is_not_held() {
        let kept = with_holds(&intents(&[("node1", Admin::Up)]), &held(&["node1"]));
        assert_eq!((holds(&kept), &kept["node1"].hold), (Holds::new(), &None));
    }

    #[test]
    fn a_hold_that_an_operator_without_a_name_ends_has_not_ended_by_itself() {
        let by = |by: Option<&str>| Hold::new(second(9)).ended_by(by.map(str::to_owned), second(10)).by;
        assert_eq!((by(None).as_deref(), by(Some("alice")).as_deref()), (Some("an operator"), Some("alice")));
    }

    #[test]
    fn a_hold_that_has_ended_counts_no_more() {
        let mut kept = with_holds(&Intents::new(), &held(&["node1"]));
        let hold = kept["node1"].hold.clone().map(|hold| hold.released(second(10)));
        kept.get_mut("node1").unwrap().hold = hold;
        assert!(holds(&kept).is_empty() && without_holds(&kept).is_empty());
    }
}
