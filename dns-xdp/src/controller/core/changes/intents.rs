//! Operators' intents on this server: how they are kept on disk, come into force, are answered and end.
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::admin::judge;
use super::super::failback::failed_back;
use super::super::input::{Effect, WorkId};
use super::super::status::milliseconds;
use super::super::{Core, occurrences};
use super::{Asker, Change, Saved, Stage, WORK_TIMEOUT, What};
use crate::cluster::Admin;
use crate::control::api::Done;
use crate::control::{Refusal, RefusalKind};
use crate::intent::{self, Holds, IntentRequest, Intents, Local};

impl Core {
    /// Begins to write the intents in force and the holds to disk.
    pub(in crate::controller::core) fn save_intents(&mut self) -> WorkId {
        self.save(intent::with_holds(self.health.intents(), self.health.held().holds()))
    }

    fn save(&mut self, intents: Intents) -> WorkId {
        let work = self.work();
        let path = self.health.config().control.state.clone();
        self.effects.push(Effect::SaveIntents { work, path, intents });
        work
    }

    /// Begins to write intents and holds to disk. They count once they are written.
    pub(in crate::controller::core) fn save_for(
        &mut self,
        asker: Asker,
        what: What,
        intents: Intents,
        holds: Holds,
    ) {
        let base = self.health.intents().clone();
        let work = self.save(intent::with_holds(&intents, &holds));
        let until = self.now.elapsed + WORK_TIMEOUT;
        let stage = Stage::Saving { work, saved: Saved { intents, base, holds }, until };
        self.changes.current = Some(Change { asker, what, stage });
    }

    pub(in crate::controller::core) fn intents_saved(&mut self, work: WorkId, result: Result<(), String>) {
        let is_its = |change: &mut Change| match &change.stage {
            Stage::Saving { work: own, .. }
            | Stage::SavingLocal { work: own, .. }
            | Stage::Forgetting { work: own, .. } => *own == work,
            _ => false,
        };
        let Some(Change { asker, what, stage }) = self.changes.current.take_if(is_its) else {
            if self.changes.given_up.remove(&work) {
                // The write ended after it was given up. The file has to be written again.
                return self.keep_intents();
            }
            return self.kept_intents(work, result);
        };
        if result.is_ok() {
            self.changes.background.succeeded();
        }
        match (stage, result) {
            (Stage::Saving { saved, .. }, Ok(())) => {
                match &what {
                    What::Intent { node, .. } => {
                        let told = saved.intents.get(node).map(|intent| occurrences::admin(node, intent));
                        self.effects.extend(told.map(Effect::Emit));
                    }
                    What::Failback { node, by } => self.release(node, &failed_back(by.as_deref())),
                    _ => {}
                }
                self.count_intent(asker, what, &saved);
            }
            (Stage::SavingLocal { local, .. }, Ok(())) => self.count_local(asker, what, &local),
            (Stage::Saving { .. } | Stage::SavingLocal { .. }, Err(error)) => {
                self.end_change(asker, &what, Err(Refusal::new(RefusalKind::Failed, error)));
            }
            (Stage::Forgetting { mut done, .. }, result) => {
                if let (Err(error), What::Edit { change, .. }) = (result, &what) {
                    let name = change.name();
                    done.notes.push(format!("the old intent of `{name}` is still on disk: {error}"));
                    self.changes.background.failed(error, self.now.elapsed);
                }
                self.end_change(asker, &what, Ok(done));
            }
            _ => {}
        }
        self.go_on_with_changes();
    }

    pub(super) fn begin_intent(
        &mut self,
        asker: Asker,
        what: What,
        node: &str,
        request: IntentRequest,
        force: bool,
    ) {
        if let Err(refusal) = judge(&self.health, node, &request, force) {
            return self.end_change(asker, &what, Err(refusal));
        }
        if self.shared.is_some() {
            let local = Box::new(self.local_with(node, request));
            if *local == self.local {
                return self.count_local(asker, what, &local);
            }
            let (work, until) = (self.write_local(&local), self.now.elapsed + WORK_TIMEOUT);
            self.changes.current =
                Some(Change { asker, what, stage: Stage::SavingLocal { work, local, until } });
            return;
        }
        let base = self.health.intents().clone();
        let intents = intent::set_intent(&base, node, request, self.now.wall);
        let holds = self.health.held().holds().clone();
        if intents == base {
            return self.count_intent(asker, what, &Saved { intents, base, holds });
        }
        self.save_for(asker, what, intents, holds);
    }

    /// Puts this server's own intents, which are on disk, into force.
    fn count_local(&mut self, asker: Asker, what: What, saved: &Local) {
        if let What::Intent { node, .. } = &what {
            self.count_local_intent(node, saved);
        }
        self.changes.current = Some(Change { asker, what, stage: Stage::Granting });
        self.decide_and_publish();
    }

    /// Puts intents, which are on disk, into force.
    fn count_intent(&mut self, asker: Asker, what: What, saved: &Saved) {
        let Saved { intents, base, holds } = saved;
        // An intent that ended during the write stays ended.
        let counting = intent::counting(intents, self.now.wall);
        let is_other =
            counting != *intents || self.health.intents() != base || self.health.held().holds() != holds;
        let before = self.health.held().holds().clone();
        self.health.set_intents(counting);
        self.tell_released(&before, "an operator wants it up");
        if is_other {
            // The write is out of date, or a later one has replaced it.
            self.keep_intents();
        }
        self.changes.current = Some(Change { asker, what, stage: Stage::Granting });
        self.decide_and_publish();
    }

    pub(super) fn end_intent(&mut self, asker: Asker, what: &What) {
        let (node, admin) = match what {
            What::Intent { node, request: IntentRequest { admin, .. }, .. } => (node, admin),
            What::Failback { node, .. } => {
                let done = self.failed_back(node);
                return self.end_change(asker, what, done);
            }
            _ => return,
        };
        let granted = match &self.answering.trouble {
            Some(trouble) => {
                let kept = format!(
                    "the intent {admin} for `{node}` is kept, but is not in the answers yet: {trouble}"
                );
                Err(Refusal::new(RefusalKind::Failed, kept))
            }
            None => self.granted(node, *admin),
        };
        let granted = granted.map(|mut done| {
            done.notes.extend(self.local_note(node));
            done
        });
        self.end_change(asker, what, granted);
    }

    /// The answer to a command that has set a node's intent.
    pub(in crate::controller::core) fn granted(&self, name: &str, admin: Admin) -> Result<Done, Refusal> {
        let decision = self.health.decision();
        let mut notes = Vec::new();
        if let Some(reason) = decision.and_then(|decision| decision.frozen.as_ref()) {
            let text = format!("the answers are frozen, {reason}");
            if admin == Admin::Auto {
                let kept = format!("the intent auto for `{name}` is kept, but no probe decides yet: {text}");
                return Err(Refusal::new(RefusalKind::Conflict, kept));
            }
            notes.push(format!("{text}; `{name}` is {admin} nevertheless"));
        }
        if decision.is_some_and(|decision| decision.fail_open) {
            notes.push("no node is up: the answers are those of `[failover] all-down`".to_owned());
        }
        if let Some(until) = self.health.intents().get(name).and_then(|intent| intent.until) {
            notes.push(if self.local.intents.contains_key(name) {
                format!("at {until:.0} the store's intent counts again")
            } else {
                format!("`{name}` goes back to auto at {until:.0}")
            });
        }
        let addresses: BTreeSet<IpAddr> = self.addresses(name).collect();
        let out = addresses.is_disjoint(&self.answering.answered);
        let is_fail_open = decision.is_some_and(|decision| decision.fail_open);
        if matches!(admin, Admin::Down | Admin::Drain) && !out && !is_fail_open {
            notes.push(format!(
                "`{name}` is still answered: no other node is up, or another node has its address"
            ));
        }
        let cached = || milliseconds(self.answering.caches.left(addresses, self.now.elapsed));
        Ok(Done { notes, cached_ms: out.then(cached) })
    }

    /// Ends intents whose time is over, even if the disk or the store cannot be written.
    pub(in crate::controller::core) fn expire(&mut self) {
        self.expire_for_all();
        self.expire_local();
        let Some((left, over)) = intent::expire(self.health.intents(), self.now.wall) else { return };
        for (node, intent) in &over {
            self.emit(occurrences::expired(node, intent));
        }
        self.health.set_intents(left);
        if self.shared.is_none() {
            self.keep_intents();
        }
        self.decide_and_publish();
    }
}
