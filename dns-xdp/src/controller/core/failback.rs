//! Holds of fallen nodes: how they begin and end.
use super::changes::{Asker, What};
use super::input::Effect;
use super::{Core, occurrences};
use crate::control::api::Done;
use crate::control::{Refusal, RefusalKind};
use crate::failover::Effective;
use crate::intent::{Hold, Holds, NAMELESS};

impl Core {
    /// Holds the nodes that the last decision took out of the answers, if the configuration says so. Returns whether it
    /// holds any.
    pub(super) fn hold_fallen(&mut self) -> bool {
        let fallen = self.health.take_fallen();
        if !self.health.config().failover.holds() {
            return false;
        }
        let is_held = |node: &String| self.health.held().holds().contains_key(node);
        let fallen: Vec<String> = fallen.into_iter().filter(|node| !is_held(node)).collect();
        if fallen.is_empty() {
            return false;
        }
        for node in fallen {
            let hold = self.hold_in_store(&node, Hold::new(self.now.wall));
            self.health.held_mut().hold(&node, hold);
            let told = occurrences::held(&node, &self.health.config().failover);
            self.emit(told);
        }
        self.keep_holds();
        true
    }

    /// Writes the holds to disk, or to the store if there is one.
    fn keep_holds(&mut self) {
        if self.shared.is_some() {
            self.save_local();
            self.share_local();
        } else {
            self.keep_intents();
        }
    }

    /// Ends the holds of nodes that have been healthy for long enough.
    pub(super) fn end_holds(&mut self) {
        self.health.note_held_health(self.now.elapsed);
        let rules = self.health.config().failover.clone();
        let over = self.health.held().over(&rules, self.now.elapsed);
        if over.is_empty() {
            return;
        }
        let reason = format!("it was healthy for {}", humantime::format_duration(rules.hold_down));
        for node in &over {
            self.release_in_store(node);
            self.release(node, &reason);
        }
        self.keep_holds();
        self.decide_and_publish();
    }

    /// Ends the hold of a node on this server.
    pub(super) fn release(&mut self, node: &str, reason: &str) {
        if self.health.held_mut().release(node).is_some() {
            self.emit(occurrences::released(node, reason));
        }
    }

    /// Reports holds that have ended since `before`.
    pub(super) fn tell_released(&mut self, before: &Holds, reason: &str) {
        let now = self.health.held().holds();
        let ended = before.keys().filter(|node| !now.contains_key(*node));
        let told: Vec<_> = ended.map(|node| occurrences::released(node, reason)).collect();
        self.effects.extend(told.into_iter().map(Effect::Emit));
    }

    /// Writes the end of a node's hold to disk.
    pub(super) fn begin_failback(&mut self, asker: Asker, what: What, node: &str) {
        match self.judge_failback(node) {
            Ok(None) => {
                let intents = self.health.intents().clone();
                let mut holds = self.health.held().holds().clone();
                holds.remove(node);
                self.save_for(asker, what, intents, holds);
            }
            Ok(Some(done)) => self.end_change(asker, &what, Ok(done)),
            Err(refusal) => self.end_change(asker, &what, Err(refusal)),
        }
    }

    /// Checks whether a node can be failed back. Returns an answer if there is nothing to do.
    pub(super) fn judge_failback(&self, name: &str) -> Result<Option<Done>, Refusal> {
        let nodes = &self.health.config().cluster.nodes;
        if !nodes.iter().any(|node| node.name == name) {
            return Err(Refusal::unknown_node(name, nodes.iter().map(|node| node.name.as_str())));
        }
        let is_held = self.health.held().holds().contains_key(name);
        let note = || Done { notes: vec![format!("`{name}` is not held")], cached_ms: None };
        Ok((!is_held).then(note))
    }

    /// The answer to a command that has ended the hold of a node.
    pub(super) fn failed_back(&self, name: &str) -> Result<Done, Refusal> {
        if let Some(trouble) = &self.answering.trouble {
            let kept = format!("`{name}` is not held any more, but not in the answers yet: {trouble}");
            return Err(Refusal::new(RefusalKind::Failed, kept));
        }
        let Some(decision) = self.health.decision() else { return Ok(Done::default()) };
        let mut notes = Vec::new();
        if let Some(reason) = &decision.frozen {
            notes.push(format!("the answers are frozen, {reason}: `{name}` comes back when they are not"));
        }
        let place = self.health.config().cluster.nodes.iter().position(|node| node.name == name);
        match place.and_then(|place| decision.effective.get(place)) {
            Some(Effective::Down) => {
                notes.push(format!("`{name}` is not healthy: it comes back by itself when it is"));
            }
            Some(Effective::Drain) => {
                notes.push(format!("`{name}` is drained: dns-xdp node auto {name} brings it back"));
            }
            _ => {}
        }
        Ok(Done { notes, cached_ms: None })
    }
}

/// Why a hold ended: an operator has ended it.
pub(super) fn failed_back(by: Option<&str>) -> String {
    format!("failed back by {}", by.unwrap_or(NAMELESS))
}
