//! This server's own decisions about nodes that the store does not have, and how they reach the store.
//!
//! They override the store until the store has them too, or until an operator has decided otherwise there.
use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Hold, Holds, Intent, Intents, counting, holds, without_holds};
use crate::cluster::Admin;

/// Decisions of this server that the store does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// The intents for nodes on this server, by the nodes' names.
    #[serde(default)]
    pub intents: BTreeMap<String, LocalIntent>,
    /// The nodes that fell.
    #[serde(default)]
    pub holds: BTreeMap<String, LocalHold>,
    /// Holds that have ended on this server, but may still count in the store. The store may also have a hold whose
    /// write got no answer.
    #[serde(default, skip_serializing_if = "Holds::is_empty")]
    pub released: Holds,
}

/// An intent for a node on this server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalIntent {
    /// The intent.
    pub intent: Intent,
    /// The store's intent for the node when this intent was set; `None`: there was none.
    pub base: Option<Intent>,
    /// The intent that this server has tried to write. The store may have this intent even if no answer came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offered: Option<Intent>,
}

impl LocalIntent {
    /// Whether no operator has decided about the node on another server. `stored` is the store's present intent.
    fn stands(&self, stored: Option<&Intent>, now: Timestamp) -> bool {
        let LocalIntent { base, offered, .. } = self;
        is_undecided_since(base.as_ref(), stored, now)
            || offered.is_some() && is_undecided_since(offered.as_ref(), stored, now)
    }
}

/// A node that fell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalHold {
    /// Its hold.
    pub hold: Hold,
    /// The stored hold of the node when it fell. It had ended in the store or on this server alone, or there was none.
    pub base: Option<Hold>,
}

impl LocalHold {
    /// Whether this hold counts beside the stored intent.
    fn stands(&self, stored: Option<&Intent>) -> bool {
        let is_wanted_up = stored.is_some_and(|intent| intent.admin == Admin::Up);
        let stored = stored.and_then(|intent| intent.hold.as_ref());
        !is_wanted_up
            && (stored == self.base.as_ref() || stored.is_some_and(|stored| self.began_after(stored)))
    }

    /// Whether `stored` is the ended base, and this server had ended it before the node fell.
    fn began_after(&self, stored: &Hold) -> bool {
        let is_base = self.base.as_ref().is_some_and(|base| base.counts() && base.since == stored.since);
        // The time is by another server's clock. If an operator ended the hold after the fall, both holds end.
        is_base && stored.released.is_some_and(|released| stored.by.is_none() || released <= self.hold.since)
    }
}

/// How a decision of this server has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reconciled {
    /// The store has it, so it counts on every server.
    Shared(String, Intent),
    /// Another decision about the node was made meanwhile, and counts.
    Overruled(String, Intent),
}

impl Local {
    /// Whether the store has all decisions.
    pub fn is_empty(&self) -> bool {
        self.intents.is_empty() && self.holds.is_empty() && self.released.is_empty()
    }

    /// Returns the intents that count on this server, beside these stored intents.
    pub fn intents_over(&self, stored: &Intents) -> Intents {
        let mut counting = without_holds(stored);
        for (node, LocalIntent { intent, .. }) in &self.intents {
            counting.insert(node.clone(), Intent { hold: None, ..intent.clone() });
        }
        counting
    }

    /// Returns the holds that count on this server. `stored` are the store's intents that have not ended.
    pub fn holds_over(&self, stored: &Intents) -> Holds {
        let mut counting = holds(stored);
        counting.retain(|node, hold| self.released.get(node) != Some(hold));
        let in_force = self.holds.iter().filter(|(node, hold)| hold.stands(stored.get(*node)));
        counting.extend(in_force.map(|(node, LocalHold { hold, .. })| (node.clone(), hold.clone())));
        counting.retain(|node, _| !self.is_wanted_up(node));
        counting
    }

    fn is_wanted_up(&self, node: &str) -> bool {
        self.intents.get(node).is_some_and(|local| local.intent.admin == Admin::Up)
    }

    /// Ends the hold of a node on this server. `stored` is the store's hold of it, perhaps from another server.
    pub fn release(&mut self, node: &str, stored: Option<&Hold>) {
        let own = self.holds.remove(node).map(|local| local.hold);
        // The store may have this server's own hold although no answer said so.
        let ended = stored.filter(|stored| stored.counts()).cloned().or(own);
        self.released.extend(ended.map(|ended| (node.to_owned(), ended)));
    }

    /// Returns the stored intents with these decisions added. Leaves out decisions that have ended or are overruled.
    /// `has_fallen` tells whether the servers agree that a node fell.
    pub fn into_store(&self, stored: &Intents, now: Timestamp, has_fallen: impl Fn(&str) -> bool) -> Intents {
        let counting = counting(stored, now);
        let mut merged = stored.clone();
        let is_wanted = |(node, local): &(&String, &LocalIntent)| {
            !local.intent.is_over(now) && local.stands(stored.get(*node), now)
        };
        for (node, LocalIntent { intent, .. }) in self.intents.iter().filter(is_wanted) {
            let hold = merged.get(node).and_then(|stored| stored.hold.clone());
            let hold = if intent.admin == Admin::Up {
                hold.map(|hold| hold.ended_by(intent.by.clone(), now))
            } else {
                hold
            };
            merged.insert(node.clone(), Intent { hold, ..intent.clone() });
        }
        for (node, released) in &self.released {
            if stored_hold(&merged, node) == Some(released) {
                hold_of(&mut merged, node, Some(released.clone().released(now)));
            }
        }
        let is_held = |(node, hold): &(&String, &LocalHold)| {
            hold.stands(counting.get(*node)) && !self.is_wanted_up(node) && has_fallen(node)
        };
        for (node, LocalHold { hold, .. }) in self.holds.iter().filter(is_held) {
            hold_of(&mut merged, node, Some(hold.clone()));
        }
        merged
    }

    /// Notes that the intents are on their way to the store.
    pub fn note_offered(&mut self) {
        for local in self.intents.values_mut() {
            local.offered = Some(local.intent.clone());
        }
    }

    /// Drops decisions that the store has, and decisions that an operator has overruled there. The end of a stored
    /// intent overrules nothing. Returns how the intents have ended, and whether anything was dropped.
    pub fn reconcile(&mut self, stored: &Intents, now: Timestamp) -> (Vec<Reconciled>, bool) {
        let stored = &counting(stored, now);
        let before = (self.intents.len(), self.holds.len(), self.released.len());
        let mut reconciled = Vec::new();
        self.intents.retain(|node, local| {
            let intent = &local.intent;
            if wants_as(stored.get(node), Some(intent)) {
                reconciled.push(Reconciled::Shared(node.clone(), intent.clone()));
            } else if !local.stands(stored.get(node), now) {
                reconciled.push(Reconciled::Overruled(node.clone(), intent.clone()));
            }
            !reconciled.iter().any(|reconciled| reconciled.node() == node)
        });
        self.holds.retain(|node, hold| hold.stands(stored.get(node)));
        self.released.retain(|node, released| stored_hold(stored, node) == Some(released));
        let after = (self.intents.len(), self.holds.len(), self.released.len());
        (reconciled, before != after)
    }

    /// Drops the decisions about removed nodes. Returns whether anything was dropped.
    pub fn drop_removed(&mut self, is_known: impl Fn(&str) -> bool) -> bool {
        let Local { intents, holds, released } = self;
        let before = (intents.len(), holds.len(), released.len());
        intents.retain(|node, _| is_known(node));
        holds.retain(|node, _| is_known(node));
        released.retain(|node, _| is_known(node));
        before != (intents.len(), holds.len(), released.len())
    }

    /// Ends the intents whose time is over. Returns them.
    pub fn expire(&mut self, now: Timestamp) -> Intents {
        let over = self.intents.extract_if(.., |_, local| local.intent.is_over(now));
        over.map(|(node, local)| (node, local.intent)).collect()
    }
}

impl Reconciled {
    fn node(&self) -> &str {
        match self {
            Reconciled::Shared(node, _) | Reconciled::Overruled(node, _) => node,
        }
    }
}

/// Returns the store's hold of a node.
pub fn stored_hold<'a>(stored: &'a Intents, node: &str) -> Option<&'a Hold> {
    stored.get(node).and_then(|intent| intent.hold.as_ref())
}

/// Sets the hold of a node in intents.
pub fn hold_of(intents: &mut Intents, node: &str, hold: Option<Hold>) {
    match (intents.get_mut(node), hold) {
        (Some(intent), hold) => intent.hold = hold,
        (None, Some(hold)) => {
            let intent = Intent { hold: Some(hold.clone()), ..Intent::new(Admin::Auto, hold.since) };
            intents.insert(node.to_owned(), intent);
        }
        (None, None) => {}
    }
}

/// Whether two intents want the same. A missing intent counts as `auto`.
pub fn wants_as(one: Option<&Intent>, other: Option<&Intent>) -> bool {
    let said = |intent: Option<&Intent>| {
        let intent = intent.filter(|intent| !intent.says_nothing())?;
        let Intent { admin, reason, by, until, .. } = intent.clone();
        Some((admin, reason, by, until))
    };
    said(one) == said(other)
}

/// Whether no operator has decided about a node since the stored intent was `before`. The end of an intent is not a
/// decision, even if a server with a fast clock has written it.
pub fn is_undecided_since(before: Option<&Intent>, stored: Option<&Intent>, now: Timestamp) -> bool {
    let ends = before.and_then(|before| before.until);
    let has_ended = |stored: &Intent| stored.says_nothing() && Some(stored.since) == ends;
    let [before, counting] = [before, stored].map(|intent| intent.filter(|intent| !intent.is_over(now)));
    wants_as(before, counting) || stored.is_some_and(has_ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn drain(by: &str) -> Intent {
        Intent { by: Some(by.to_owned()), ..Intent::new(Admin::Drain, second(1)) }
    }

    fn only<T>(value: T) -> BTreeMap<String, T> {
        [("node2".to_owned(), value)].into()
    }

    fn local_drain(base: Option<Intent>) -> Local {
        Local {
            intents: only(LocalIntent { intent: drain("alice"), base, offered: None }),
            ..Local::default()
        }
    }

    #[test]
    fn a_local_intent_counts_above_the_stores_and_is_written_if_nothing_has_changed_there() {
        let stored = only(Intent::new(Admin::Up, second(0)));
        let mut local = local_drain(stored.get("node2").cloned());
        assert_eq!(local.intents_over(&stored), only(drain("alice")));
        assert_eq!(local.reconcile(&stored, second(5)), (vec![], false));
        let written = local.into_store(&stored, second(5), |_| true);
        assert_eq!(written, only(drain("alice")));
        let shared = Reconciled::Shared("node2".to_owned(), drain("alice"));
        assert_eq!(local.reconcile(&written, second(5)), (vec![shared], true));
        assert!(local.is_empty());
    }

    #[test]
    fn another_decision_meanwhile_overrules_a_local_intent() {
        let mut local = local_drain(None);
        let overruled = Reconciled::Overruled("node2".to_owned(), drain("alice"));
        assert_eq!(local.reconcile(&only(drain("bob")), second(5)), (vec![overruled], true));
        assert!(local.is_empty());
    }

    #[test]
    fn the_end_of_a_stored_intent_overrules_no_local_one() {
        let bobs = Intent { until: Some(second(4)), ..drain("bob") };
        let mut local = local_drain(Some(bobs.clone()));
        // Either no end is written, or this server or one with a fast clock has written it.
        let ended = Intent::new(Admin::Auto, second(4));
        for (stored, now) in [(bobs.clone(), second(4)), (ended.clone(), second(4)), (ended, second(2))] {
            assert_eq!(local.reconcile(&only(stored.clone()), now), (vec![], false));
            assert_eq!(local.into_store(&only(stored), now, |_| true), only(drain("alice")));
        }
        let auto = Intent::new(Admin::Auto, second(3));
        assert_eq!(local.into_store(&only(auto.clone()), second(3), |_| true), only(auto.clone()));
        assert!(local.reconcile(&only(auto), second(3)).1, "an operator has set auto before its end");
    }

    #[test]
    fn what_has_ended_or_is_overruled_is_not_written_to_the_store() {
        let bobs = only(drain("bob"));
        let mut local = local_drain(bobs.get("node2").cloned());
        local.intents.get_mut("node2").unwrap().intent.until = Some(second(5));
        assert_ne!(local.into_store(&bobs, second(4), |_| true), bobs);
        assert_eq!(local.into_store(&bobs, second(5), |_| true), bobs);
        let carols = only(drain("carol"));
        assert_eq!(local.into_store(&carols, second(4), |_| true), carols);
    }

    #[test]
    fn what_is_decided_about_a_node_ends_with_the_node() {
        let mut local = local_drain(None);
        local.holds = only(LocalHold { hold: Hold::new(second(3)), base: None });
        local.released = only(Hold::new(second(3)));
        assert!(!local.drop_removed(|node| node == "node2"));
        assert!(local.drop_removed(|node| node == "node1") && local.is_empty());
    }

    #[test]
    fn a_hold_that_the_store_gets_meanwhile_does_not_overrule_a_local_intent() {
        let mut local = local_drain(None);
        let held = Intent { hold: Some(Hold::new(second(3))), ..Intent::new(Admin::Auto, second(3)) };
        assert_eq!(local.reconcile(&only(held.clone()), second(5)), (vec![], false));
        let written = local.into_store(&only(held), second(5), |_| true);
        assert_eq!(written["node2"].hold, Some(Hold::new(second(3))));
    }

    #[test]
    fn a_local_hold_comes_to_the_store_unless_the_node_was_failed_back_there() {
        let fell = LocalHold { hold: Hold::new(second(3)), base: None };
        let local = Local { holds: only(fell), ..Local::default() };
        assert_eq!(local.holds_over(&Intents::new()), only(Hold::new(second(3))));
        let written = local.into_store(&Intents::new(), second(5), |_| true);
        let mut reconciled = local.clone();
        assert!(reconciled.reconcile(&written, second(5)).1 && reconciled.is_empty());

        let mut failed_back = Intents::new();
        hold_of(&mut failed_back, "node2", Some(Hold::new(second(2)).released(second(4))));
        let mut reconciled = local.clone();
        assert!(reconciled.reconcile(&failed_back, second(5)).1 && reconciled.is_empty());
        assert!(reconciled.holds_over(&failed_back).is_empty());
    }

    #[test]
    fn the_hold_of_a_node_that_fell_for_this_server_alone_is_not_written_to_the_store() {
        let fell = LocalHold { hold: Hold::new(second(3)), base: None };
        let local = Local { holds: only(fell), ..Local::default() };
        assert!(local.into_store(&Intents::new(), second(5), |_| false).is_empty());
    }

    #[test]
    fn the_end_of_a_nodes_hold_on_this_server_ends_the_stored_hold_too() {
        let mut stored = Intents::new();
        hold_of(&mut stored, "node2", Some(Hold::new(second(3))));
        let again = LocalHold { hold: Hold::new(second(9)), base: Some(Hold::new(second(3))) };
        let mut local = Local { holds: only(again), ..Local::default() };
        local.release("node2", stored_hold(&stored, "node2"));
        assert!(local.holds_over(&stored).is_empty());
        assert!(holds(&local.into_store(&stored, second(10), |_| true)).is_empty());
    }

    #[test]
    fn a_hold_that_has_ended_here_ends_in_the_store() {
        let mut stored = Intents::new();
        hold_of(&mut stored, "node2", Some(Hold::new(second(3))));
        let mut local = Local { released: only(Hold::new(second(3))), ..Local::default() };
        assert!(local.holds_over(&stored).is_empty());
        assert!(!local.reconcile(&stored, second(5)).1);
        let written = local.into_store(&stored, second(9), |_| true);
        assert_eq!(stored_hold(&written, "node2"), Some(&Hold::new(second(3)).released(second(9))));
        assert!(local.reconcile(&written, second(5)).1 && local.is_empty());
        // The node falls again: another hold counts.
        hold_of(&mut stored, "node2", Some(Hold::new(second(30))));
        let local = Local { released: only(Hold::new(second(3))), ..Local::default() };
        assert_eq!(local.holds_over(&stored).len(), 1);
    }

    #[test]
    fn a_fall_after_a_hold_has_ended_here_is_held_though_the_store_gets_that_end_later() {
        let hold =
            |base| Local { holds: only(LocalHold { hold: Hold::new(second(9)), base }), ..Local::default() };
        let stored = |hold: &Hold| {
            let mut stored = Intents::new();
            hold_of(&mut stored, "node2", Some(hold.clone()));
            stored
        };
        let first = Hold::new(second(3));
        let by = |hold| Hold { by: Some("alice".to_owned()), ..hold };
        let [before, ahead] = [second(8), second(12)].map(|at| first.clone().released(at));
        for (now, is_kept) in [
            (first.clone(), true),
            (before.clone(), true),
            (ahead.clone(), true),
            (by(before.clone()), true),
            (by(ahead), false),
            (Hold::new(second(5)).released(second(8)), false),
            (Hold::new(second(9)), false),
        ] {
            let mut local = hold(Some(first.clone()));
            let counts = local.holds_over(&stored(&now)).get("node2") == Some(&Hold::new(second(9)));
            assert_eq!(counts, is_kept || now.since == second(9), "{now:?}");
            let written = local.into_store(&stored(&now), second(20), |_| true);
            assert_eq!(stored_hold(&written, "node2") == Some(&Hold::new(second(9))), counts, "{now:?}");
            assert_eq!(local.reconcile(&stored(&now), second(20)).1, !is_kept, "{now:?}");
        }
        assert!(hold(None).reconcile(&stored(&before), second(20)).1, "it did not end here");
    }

    #[test]
    fn a_node_that_is_wanted_up_in_the_store_is_not_held() {
        let fell = LocalHold { hold: Hold::new(second(3)), base: None };
        let mut local = Local { holds: only(fell), ..Local::default() };
        let up = |until| only(Intent { until, ..Intent::new(Admin::Up, second(2)) });
        let over = up(Some(second(4)));
        assert_eq!(local.holds_over(&counting(&over, second(4))).len(), 1);
        assert!(!local.reconcile(&over, second(4)).1);
        assert!(local.holds_over(&up(None)).is_empty());
        assert_eq!(local.into_store(&up(None), second(4), |_| true), up(None));
        assert!(local.reconcile(&up(None), second(4)).1 && local.is_empty());
    }

    #[test]
    fn a_local_up_ends_the_hold_of_the_node() {
        let mut stored = Intents::new();
        hold_of(&mut stored, "node2", Some(Hold::new(second(3))));
        let up = LocalIntent { intent: Intent::new(Admin::Up, second(4)), base: None, offered: None };
        let local = Local { intents: only(up), ..Local::default() };
        assert!(local.holds_over(&stored).is_empty());
        assert!(holds(&local.into_store(&stored, second(5), |_| true)).is_empty());
    }

    #[test]
    fn a_local_intent_ends_at_its_time() {
        let mut local = local_drain(None);
        local.intents.get_mut("node2").unwrap().intent.until = Some(second(10));
        assert!(local.expire(second(9)).is_empty());
        assert_eq!(local.expire(second(10)).len(), 1);
        assert!(local.is_empty());
    }
}
