//! This server's own decisions beside a store: how they count, are kept on disk, and reach the store.
use std::time::Duration;

use super::input::{Effect, WorkId};
use super::state::in_family;
use super::{Core, occurrences};
use crate::cluster::{Admin, Family};
use crate::control::{Refusal, RefusalKind};
use crate::event::{Kind, Occurrence};
use crate::health::Subject;
use crate::intent::{self, Hold, Holds, Intent, IntentRequest, Intents, Local, LocalHold, LocalIntent};

/// The first server writes the decisions that all servers make alike. The other servers write them after this time, if
/// they are not in the store yet.
const OTHERS_WRITE: Duration = Duration::from_secs(2);
/// The longest time for the other servers to report the same fall. It counts from the time when this server joined or
/// held the node.
const OTHERS_AGREE: Duration = Duration::from_secs(20);

impl Core {
    /// Begins with the intents and holds of the store, and with the local ones that were kept over a restart. Ended
    /// intents and holds do not count.
    pub(super) fn begin_with_local(&mut self) {
        if self.shared.is_none() {
            return;
        }
        let stored = self.documents_of_intents().intents;
        let (_, mut over) = intent::expire(&stored, self.now.wall).unwrap_or_default();
        over.retain(|node, _| !self.local.intents.contains_key(node));
        for (node, over) in &over {
            self.emit(occurrences::expired(node, over));
        }
        let stored = intent::counting(&stored, self.now.wall);
        let mut local = self.local.clone();
        local.expire(self.now.wall);
        self.health.held_mut().set(local.holds_over(&stored));
        self.health.set_intents(local.intents_over(&stored));
    }

    /// Applies the intents and holds of the store. The intents and holds of this server alone override them.
    pub(super) fn count_stored(&mut self, stored: &Intents) {
        // An intent that has ended is over, even if the store still has it.
        let stored = intent::counting(stored, self.now.wall);
        let intents = self.local.intents_over(&stored);
        self.tell_intents(&intents);
        self.take_holds(self.local.holds_over(&stored), &stored);
        self.health.set_intents(intents);
    }

    /// Replaces the holds in force, and reports which holds begin and end. `stored`: the store's intents, which have
    /// the reasons.
    pub(super) fn take_holds(&mut self, holds: Holds, stored: &Intents) {
        let before = self.health.held().holds();
        let rules = &self.health.config().failover;
        let begun = holds.keys().filter(|node| !before.contains_key(*node));
        let begun = begun.map(|node| occurrences::held(node, rules));
        let ended = before.keys().filter(|node| !holds.contains_key(*node));
        let ended = ended.map(|node| occurrences::released(node, &why_released(stored, node)));
        let told: Vec<_> = begun.chain(ended).map(Effect::Emit).collect();
        self.effects.extend(told);
        self.health.held_mut().set(holds);
    }

    /// Drops local decisions that the store has, that an operator has overruled there, or that are about removed nodes.
    /// After the store is back, its documents count even before this server has joined again. Returns whether anything
    /// was dropped.
    pub(super) fn reconcile_local(&mut self) -> bool {
        let is_reached = self.shared.as_ref().is_some_and(|shared| shared.is_joined() || shared.seen.is_up);
        if self.local.is_empty() || !is_reached || self.lags_behind() {
            return false;
        }
        let stored = self.documents_of_intents().intents;
        let (reconciled, is_settled) = self.local.reconcile(&stored, self.now.wall);
        let nodes = &self.health.config().cluster.nodes;
        let is_removed = self.local.drop_removed(|name| nodes.iter().any(|node| node.name == name));
        if !is_settled && !is_removed {
            return false;
        }
        for reconciled in &reconciled {
            self.emit(occurrences::reconciled(reconciled));
        }
        self.save_local();
        self.count_stored(&stored);
        true
    }

    /// Whether the servers agree that a node fell: they find it dead now, or it fell for enough servers. The verdict
    /// that a node is dead needs the same number of servers.
    pub(super) fn has_fallen(&self, node: &str) -> bool {
        let Some(shared) = &self.shared else { return true };
        let (view, observers) = (&shared.seen.view, self.health.config().failover.observers);
        let fallen = view.verdicts.values().filter(|said| said.fallen.contains(node)).count();
        let subject = Subject::Node(node.to_owned());
        let (text, ipv6) = (subject.to_string(), in_family(&subject, Family::Ipv6));
        // If the families of a node are judged separately, the servers' verdict on the node itself is the one over
        // IPv4.
        let is_dead_over_ipv6 = || view.tally.agree_apart(&text, &ipv6, observers).serving == Some(false);
        let is_dead = view.tally.agree(&text, observers).serving == Some(false)
            && (self.health.told_apart(&subject).is_none() || is_dead_over_ipv6());
        is_dead || fallen >= observers.needed(view.verdicts.len())
    }

    /// Drops holds of nodes that fell only for this server, while it was alone.
    fn give_up_holds(&mut self) {
        let Some(shared) = self.shared.as_ref().filter(|_| self.health.is_joined()) else { return };
        let since = self.local_changed.max(shared.mode_since);
        if self.local.holds.is_empty() || self.now.elapsed < since + OTHERS_AGREE || self.shares_local() {
            return;
        }
        let mut alone: Vec<String> = self.local.holds.keys().cloned().collect();
        alone.retain(|node| !self.has_fallen(node));
        for node in &alone {
            let given_up = self.local.holds.remove(node);
            if let Some(ended) = given_up.and_then(|local| local.base).filter(Hold::counts) {
                // The former hold had ended here, and the store does not have that end yet.
                self.local.released.insert(node.clone(), ended);
            }
        }
        let holds = self.local.holds_over(&self.counting_in_the_store());
        for node in alone.iter().filter(|node| !holds.contains_key(*node)) {
            self.release(node, "it fell for this server alone");
        }
        if !alone.is_empty() {
            self.save_local();
            self.decide_and_publish();
        }
    }

    /// Writes this server's own decisions to the store, if the store can be written.
    pub(super) fn share_local(&mut self) {
        // The store may have changed while a decision was written to disk.
        if self.reconcile_local() {
            self.decide_and_publish();
        }
        self.give_up_holds();
        let Some(shared) = &self.shared else { return };
        let is_possible = shared.is_joined() && shared.seen.is_up && self.health.is_joined();
        if self.local.is_empty() || !is_possible || self.shares_local() {
            return;
        }
        let is_late = self.now.elapsed >= self.local_changed.max(shared.mode_since) + OTHERS_WRITE;
        let Local { intents, holds, released } = &self.local;
        let is_agreed = !released.is_empty() || holds.keys().any(|node| self.has_fallen(node));
        if !intents.is_empty() || is_agreed && (shared.is_first() || is_late) {
            self.begin_sharing_local();
        }
    }

    /// Whether this server's answers may differ from the answers of a server that decides only from the store.
    pub(super) fn decides_beside_store(&self) -> bool {
        let Local { intents, holds, released } = &self.local;
        if holds.is_empty() {
            return !intents.is_empty() || !released.is_empty();
        }
        // The hold of a node that is down changes no answer.
        let (nodes, view) = (&self.health.config().cluster.nodes, self.health.view());
        let is_out = |name: &String| {
            nodes
                .iter()
                .zip(&view.nodes)
                .any(|(node, state)| node.name == *name && state.serving == Some(false))
        };
        !intents.is_empty() || !released.is_empty() || !holds.keys().all(is_out)
    }

    /// Writes this server's own decisions to disk.
    pub(super) fn save_local(&mut self) {
        self.local_changed = self.now.elapsed;
        self.keep_intents();
    }

    pub(super) fn write_local(&mut self, local: &Local) -> WorkId {
        let work = self.work();
        let path = self.health.config().control.local();
        self.effects.push(Effect::SaveLocal { work, path, local: Box::new(local.clone()) });
        work
    }

    /// Why an intent cannot be set on this server alone; `None`: it can.
    pub(super) fn why_not_local(&self) -> Option<Refusal> {
        match &self.shared {
            None => Some(Refusal::new(RefusalKind::Invalid, "there is no store: leave --local out")),
            Some(shared) if shared.seen.is_up => {
                let message = "the store is reached: leave --local out, then it counts on every server";
                Some(Refusal::new(RefusalKind::Conflict, message))
            }
            Some(_) => None,
        }
    }

    /// Returns this server's own decisions, with an operator's new intent for a node.
    pub(super) fn local_with(&self, node: &str, request: IntentRequest) -> Local {
        let intents = intent::set_intent(self.health.intents(), node, request, self.now.wall);
        let stored = self.counting_in_the_store().get(node).cloned();
        let mut local = self.local.clone();
        let before = local.intents.remove(node);
        let admin = |intent: Option<&Intent>| intent.map_or(Admin::Auto, |intent| intent.admin);
        let is_same = |wanted: &Intent| {
            // `auto` for a node that is auto in the store removes the local intent.
            wanted.admin == Admin::Auto && admin(stored.as_ref()) == Admin::Auto
                || intent::wants_as(stored.as_ref(), Some(wanted))
        };
        // The store may already have an intent that was offered to it. Its removal then has to be written too.
        let offered = before.as_ref().and_then(|before| before.offered.clone());
        let wanted = intents.get(node).filter(|wanted| offered.is_some() || !is_same(wanted));
        if let Some(wanted) = wanted {
            if wanted.admin == Admin::Up {
                // The hold stays ended after the intent `up` has ended.
                local.release(node, stored.as_ref().and_then(|stored| stored.hold.as_ref()));
            }
            let base = before.map_or(stored, |before| before.base);
            local.intents.insert(node.to_owned(), LocalIntent { intent: wanted.clone(), base, offered });
        }
        local
    }

    /// Puts an operator's intent for a node into force on this server alone. `saved`: the decisions on disk.
    pub(super) fn count_local_intent(&mut self, node: &str, saved: &Local) {
        let wanted = saved.intents.get(node).cloned();
        match wanted.clone() {
            Some(wanted) => drop(self.local.intents.insert(node.to_owned(), wanted)),
            None => drop(self.local.intents.remove(node)),
        }
        if wanted.as_ref().is_some_and(|wanted| wanted.intent.admin == Admin::Up) {
            self.release_in_store(node);
            self.release(node, "an operator wants it up");
        }
        if self.local != *saved {
            // The decisions have changed during the write, because nodes fell.
            self.save_local();
        }
        let stored = self.counting_in_the_store();
        let intents = self.local.intents_over(&stored);
        let told = match (wanted, intents.get(node)) {
            (Some(wanted), _) => format!("{}; on this server alone", wanted.intent),
            (None, Some(intent)) => format!("{intent}; as on every server"),
            (None, None) => format!("{}; as on every server", Admin::Auto),
        };
        self.emit(Occurrence::new(Kind::Admin).about(node).because(told));
        self.take_holds(self.local.holds_over(&stored), &stored);
        self.health.set_intents(intents);
    }

    /// The note to an operator about an intent that counts on this server alone.
    pub(super) fn local_note(&self, node: &str) -> Option<String> {
        self.local.intents.get(node).map(|local| {
            format!(
                "`{node}` is {} on this server alone: it is written to the store when the store is back, unless the store has another decision by then",
                local.intent.admin
            )
        })
    }

    /// One alarm for each intent that counts on this server alone.
    pub(super) fn local_alarms(&self) -> impl Iterator<Item = String> {
        self.local.intents.iter().map(|(node, local)| {
            format!(
                "{node} is {} on this server alone, set while the store was away: it is written to the store when the store is back",
                local.intent.admin
            )
        })
    }

    /// Notes that the store has to get the hold of a node. Returns the hold that counts; without a store, this is the
    /// given one.
    pub(super) fn hold_in_store(&mut self, node: &str, hold: Hold) -> Hold {
        if self.shared.is_none() {
            return hold;
        }
        let base = intent::stored_hold(&self.documents_of_intents().intents, node).cloned();
        let ended_here = self.local.released.remove(node);
        match base {
            // If that hold had ended here, this fall begins a new one.
            Some(stored) if stored.counts() && ended_here.as_ref() != Some(&stored) => stored,
            base => {
                self.local.holds.insert(node.to_owned(), LocalHold { hold: hold.clone(), base });
                hold
            }
        }
    }

    /// Notes that the hold of a node has to end in the store.
    pub(super) fn release_in_store(&mut self, node: &str) {
        if self.shared.is_none() {
            return;
        }
        let stored = self.documents_of_intents().intents;
        self.local.release(node, intent::stored_hold(&stored, node));
    }

    /// Returns the stored intents that have not ended.
    fn counting_in_the_store(&self) -> Intents {
        intent::counting(&self.documents_of_intents().intents, self.now.wall)
    }

    /// Ends intents of this server alone whose time is over.
    pub(super) fn expire_local(&mut self) {
        let over = self.local.expire(self.now.wall);
        if over.is_empty() {
            return;
        }
        for (node, intent) in &over {
            self.emit(occurrences::expired(node, intent));
        }
        self.save_local();
        let stored = self.documents_of_intents().intents;
        self.count_stored(&stored);
        self.decide_and_publish();
    }
}

/// Why a hold ended, according to the store.
fn why_released(stored: &Intents, node: &str) -> String {
    match stored.get(node).and_then(|intent| intent.hold.as_ref()) {
        Some(Hold { by: Some(by), .. }) => format!("failed back by {by}"),
        Some(_) => "failed back, or healthy for the hold-down".to_owned(),
        None => "the store has no hold of it".to_owned(),
    }
}
