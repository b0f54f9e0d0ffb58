//! Changes to what is in force on this server, one after another: reloads, edits of the file, operators' intents, and
//! documents of the store.
//!
//! A change is prepared outside the loop, then published. Once published, it is in force; then its file is put in
//! place. Probes and failovers continue all the time with the configuration in force.
mod in_force;
mod intents;
mod intents_file;
mod reloads;

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use self::in_force::{InForce, Replaced};
use self::intents_file::BackgroundWrites;
use self::reloads::Unasked;
use super::Core;
use super::answer_diff::Reported;
use super::cluster_change::ClusterChange;
use super::input::{CallId, Effect, Publication, Published, Record, WorkId};
use super::job::{Job, Prepared, Wanted};
use super::publication::Step;
use super::source::{Source, as_note};
use super::state::LostVerdicts;
use super::status::milliseconds;
use crate::control::api::Done;
use crate::control::{Refusal, RefusalKind};
use crate::intent::{self, Holds, IntentRequest, Intents, Local};
use crate::store::Documents;
use crate::store::client::View;

/// The longest time for a change's work outside the core: reading and writing files, looking up names. After this the
/// core gives the work up.
pub(super) const WORK_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest time that a change waits for other changes. After this time the change is refused, before its client
/// gives up.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// The most changes that may wait. Further ones are refused.
const WAITING: usize = 256;

/// The change under way, and the changes that wait for it.
#[derive(Debug, Default)]
pub(super) struct Changes {
    current: Option<Change>,
    /// Each with the time of its request.
    waiting: VecDeque<(Asker, What, Duration)>,
    /// Writes of intents that were given up. Such a write may still end, and then leaves a file that is out of date.
    given_up: BTreeSet<WorkId>,
    /// Writes of intents that no change waits for.
    background: BackgroundWrites,
    /// Reloads that no client waits for.
    unasked: Unasked,
}

/// The receiver of the result of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A command.
    Call(CallId),
    /// No client: a SIGHUP or the watched file asked for the change. A refusal raises an alarm.
    NoClient,
    /// A reload of a server that shares a store, by the number of its work: see [`Shared`](super::shared::Shared).
    Shared(WorkId),
    /// No client: the documents of the store have changed. A refusal raises an alarm.
    Store,
}

/// The change that is asked for.
#[derive(Debug)]
pub(super) enum What {
    /// The whole file, or this text of it. Without `force`, a file is refused if it removes more than half of the nodes
    /// or this server's own node.
    Reload { force: bool, text: Option<String> },
    /// A node or a service.
    Edit { change: ClusterChange, ephemeral: bool },
    /// An operator's intent for a node.
    Intent { node: String, request: IntentRequest, force: bool },
    /// A held node is failed back; `by`: the operator who wants it.
    Failback { node: String, by: Option<String> },
    /// All of the store's documents, as they were at this revision of the store.
    Join(Arc<View>),
}

#[derive(Debug)]
struct Change {
    asker: Asker,
    what: What,
    stage: Stage,
}

/// The stage of a change.
#[derive(Debug)]
enum Stage {
    /// It is being prepared. The work is given up at `until`, as in the other stages.
    Preparing { work: WorkId, until: Duration },
    /// It waits until no other publication is under way.
    Ready(Box<InForce>),
    /// It is being published.
    Publishing(Box<InForce>),
    /// It is in force, and its file is being put in place. If that fails, the previous configuration comes back.
    Committing { work: WorkId, before: Box<InForce>, done: Done, until: Duration },
    /// It is in force, and dropped intents are being removed from disk.
    Forgetting { work: WorkId, done: Done, until: Duration },
    /// A node's intent is being written to disk.
    Saving { work: WorkId, saved: Saved, until: Duration },
    /// A node's intent on this server alone is being written to disk.
    SavingLocal { work: WorkId, local: Box<Local>, until: Duration },
    /// A node's intent counts, and is being published.
    Granting,
    /// The previous configuration is being published again. Then the refusal is sent.
    TakingBack(Refusal),
}

/// Intents on their way to the disk.
#[derive(Debug)]
struct Saved {
    intents: Intents,
    /// The intents that the written intents were made from.
    base: Intents,
    /// The holds that are written with the intents.
    holds: Holds,
}

impl Core {
    /// Queues a change. The change begins when no other change is under way.
    pub(super) fn change(&mut self, asker: Asker, what: What) {
        if self.changes.waiting.len() >= WAITING && matches!(asker, Asker::Call(_) | Asker::Shared(_)) {
            let message =
                format!("nothing was changed: {WAITING} other changes wait already; repeat it later");
            return self.end_change(asker, &what, Err(Refusal::new(RefusalKind::Failed, message)));
        }
        self.changes.waiting.push_back((asker, what, self.now.elapsed));
        self.go_on_with_changes();
    }

    /// Whether these documents are coming into force.
    pub(super) fn is_joining(&self, documents: &Documents) -> bool {
        let joins = |what: &What| matches!(what, What::Join(joined) if *joined.documents == *documents);
        let current = self.changes.current.iter().map(|change| &change.what);
        let mut all = current.chain(self.changes.waiting.iter().map(|(_, what, _)| what));
        all.any(joins)
    }

    /// Continues the change under way as far as possible, and begins the next change.
    pub(super) fn go_on_with_changes(&mut self) {
        loop {
            match self.changes.current.take() {
                None => {
                    let Some((asker, what, at)) = self.changes.waiting.pop_front() else { return };
                    let is_late = self.now.elapsed >= at + LONGEST_WAIT;
                    if is_late && matches!(asker, Asker::Call(_) | Asker::Shared(_)) {
                        let message = format!(
                            "nothing was changed: it has waited {} s for other changes; repeat it",
                            LONGEST_WAIT.as_secs()
                        );
                        self.end_change(asker, &what, Err(Refusal::new(RefusalKind::Failed, message)));
                    } else {
                        self.begin_change(asker, what);
                    }
                }
                Some(Change { stage: Stage::Ready(next), asker, what }) if !self.answering.is_busy() => {
                    self.publish_change(asker, what, next);
                    if self.changes.current.is_some() {
                        return;
                    }
                }
                Some(Change { stage: Stage::Granting, asker, what }) if self.answering.is_settled() => {
                    self.end_intent(asker, &what);
                }
                Some(Change { stage: Stage::TakingBack(mut refusal), asker, what })
                    if self.answering.is_settled() =>
                {
                    if let Some(trouble) = &self.answering.trouble {
                        refusal.message += &format!("; the answers could not be put back yet: {trouble}");
                    }
                    self.end_change(asker, &what, Err(refusal));
                }
                current => {
                    self.changes.current = current;
                    return;
                }
            }
        }
    }

    fn begin_change(&mut self, asker: Asker, what: What) {
        if asker == Asker::NoClient {
            self.changes.unasked.begin(self.now.elapsed);
            self.effects.push(Effect::Reloading(true));
        }
        let wanted = match &what {
            What::Intent { node, request, force } => {
                let (node, request, force) = (node.clone(), request.clone(), *force);
                return self.begin_intent(asker, what, &node, request, force);
            }
            What::Failback { node, .. } => {
                let node = node.clone();
                return self.begin_failback(asker, what, &node);
            }
            What::Reload { text, .. } => Wanted::Reload(text.clone()),
            What::Edit { change, ephemeral } => {
                Wanted::Edit { change: change.clone(), ephemeral: *ephemeral }
            }
            What::Join(view) => Wanted::Join(Arc::clone(&view.documents)),
        };
        let work = self.prepare(wanted);
        let until = self.now.elapsed + WORK_TIMEOUT;
        self.changes.current = Some(Change { asker, what, stage: Stage::Preparing { work, until } });
    }

    /// Asks the shell to prepare a change from the configuration in force.
    pub(super) fn prepare(&mut self, what: Wanted) -> WorkId {
        let work = self.work();
        let (source, in_force) = (Arc::clone(&self.source), Arc::clone(self.health.config()));
        let job = Box::new(Job { source, in_force, what });
        self.effects.push(Effect::Prepare { work, job });
        work
    }

    pub(super) fn prepared(&mut self, work: WorkId, result: Result<Box<Prepared>, Refusal>) {
        let change = self
            .changes
            .current
            .take_if(|change| matches!(change.stage, Stage::Preparing { work: own, .. } if own == work));
        let Some(Change { asker, what, .. }) = change else {
            if let Ok(Prepared::Proposal(_)) = result.as_deref() {
                // The change was given up meanwhile.
                self.effects.push(Effect::DropFile { work });
            }
            return self.shared_prepared(work, result.map(|prepared| *prepared));
        };
        match result.map(|prepared| *prepared) {
            Ok(Prepared::Proposal(proposal)) => {
                if let What::Reload { force: false, .. } = what
                    && let Some(refusal) = self.held_back(&self.source.removed(&proposal.source))
                {
                    self.hold_back(asker, &refusal);
                    self.end_change(asker, &what, Err(refusal));
                } else {
                    let mut next = Box::new(self.proposed(&what, *proposal, work));
                    if asker == Asker::NoClient && next.config == *self.health.config() {
                        // A change without an effect that no client asked for gives no event.
                        next.event = None;
                    }
                    self.changes.current = Some(Change { asker, what, stage: Stage::Ready(next) });
                }
            }
            Ok(Prepared::Push(_) | Prepared::Reload { .. }) => {
                let refusal = Refusal::new(RefusalKind::Failed, "a defect of dns-xdp: this is no change");
                self.end_change(asker, &what, Err(refusal));
            }
            Err(refusal) => self.end_change(asker, &what, Err(refusal)),
        }
        self.go_on_with_changes();
    }

    /// Ends a change whose work takes too long: a hanging file must not hold up all other changes.
    pub(super) fn give_up_work(&mut self) {
        let now = self.now.elapsed;
        let is_over = |change: &mut Change| match &change.stage {
            Stage::Preparing { until, .. }
            | Stage::Committing { until, .. }
            | Stage::Forgetting { until, .. }
            | Stage::Saving { until, .. }
            | Stage::SavingLocal { until, .. } => now >= *until,
            _ => false,
        };
        let Some(Change { asker, what, stage }) = self.changes.current.take_if(is_over) else { return };
        let (file, seconds) = (self.source.path().display(), WORK_TIMEOUT.as_secs());
        let control = &self.health.config().control;
        let state = match &stage {
            Stage::SavingLocal { .. } => control.local(),
            _ => control.state.clone(),
        };
        let state = state.display();
        let failed = |message: String| Err(Refusal::new(RefusalKind::Failed, message));
        let result = match stage {
            Stage::Committing { .. } => failed(format!(
                "it is in force, but {file} may not have it: the file could not be written within {seconds} s"
            )),
            Stage::Forgetting { work, mut done, .. } => {
                self.changes.given_up.insert(work);
                done.notes.push(format!(
                    "its old intent is still on disk: {state} could not be written within {seconds} s"
                ));
                Ok(done)
            }
            Stage::Saving { work, .. } | Stage::SavingLocal { work, .. } => {
                self.changes.given_up.insert(work);
                failed(format!("nothing was changed: {state} could not be written within {seconds} s"))
            }
            _ => Err(self.unprepared()),
        };
        self.end_change(asker, &what, result);
        self.go_on_with_changes();
    }

    /// The refusal of a change whose preparation took too long.
    pub(super) fn unprepared(&self) -> Refusal {
        let message = format!(
            "nothing was changed: the change could not be prepared within {} s; check that {} can be read and that its names \
             are resolved",
            WORK_TIMEOUT.as_secs(),
            self.source.path().display()
        );
        Refusal::new(RefusalKind::Failed, message)
    }

    fn publish_change(&mut self, asker: Asker, what: What, mut next: Box<InForce>) {
        if let What::Join(view) = &what
            && self.has_newer(&view.documents)
        {
            return self.take_over_from_store_if_other(&view.documents);
        }
        self.rebase(&what, &mut next);
        let mut candidate = self.health.clone();
        candidate.adopt(Arc::clone(&next.config));
        if let Some(holds) = &next.holds {
            candidate.held_mut().set(holds.clone());
        }
        if let Some(node) = next.forgotten(&what) {
            candidate.held_mut().release(&node);
        }
        candidate.set_intents(next.intents.clone());
        candidate.decide();
        self.changes.current = Some(Change { asker, what, stage: Stage::Publishing(next) });
        let Some(published) = Published::of(&candidate) else { return };
        if self.answering.begin(published.clone(), true) == Step::Publish {
            self.effects.push(Effect::Publish(published));
        }
    }

    /// Takes the result of the publication of a change.
    pub(super) fn change_published(&mut self, result: Result<&Publication, &str>, reported: Arc<Reported>) {
        let Some(Change { asker, what, stage: Stage::Publishing(next) }) = self.changes.current.take() else {
            return;
        };
        let publication = match result {
            Ok(publication) => publication,
            Err(error) => {
                if let Some(work) = next.staged {
                    self.effects.push(Effect::DropFile { work });
                }
                return self.end_change(asker, &what, Err(Refusal::new(RefusalKind::Failed, error)));
            }
        };
        if let What::Join(view) = &what
            && self.has_newer(&view.documents)
        {
            // Newer intents have come into force meanwhile. Their answers are published again.
            self.decide_and_publish();
            return self.take_over_from_store_if_other(&view.documents);
        }
        let addresses = self.addresses_of(&what);
        if let What::Join(view) = &what {
            let stored = intent::counting(&view.documents.intents, self.now.wall);
            let intents = self.local.intents_over(&stored);
            self.tell_intents(&intents);
        }
        let before = self.put_into_force(&what, *next, reported, Some(publication));
        let InForce { staged, forgets, ref notes, ref warnings, .. } = before.next;
        let notes = notes.iter().cloned().chain(warnings.iter().map(|warning| as_note(warning)));
        let mut done = Done { notes: notes.collect(), cached_ms: None };
        self.effects.extend(warnings.iter().cloned().map(Effect::Warn));
        let left: Vec<IpAddr> = addresses.difference(&self.addresses_of(&what)).copied().collect();
        if !left.is_empty() {
            done.cached_ms = Some(milliseconds(self.answering.caches.left(left, self.now.elapsed)));
        }
        let stage = if let Some(work) = staged {
            self.effects.push(Effect::CommitFile { work });
            let until = self.now.elapsed + WORK_TIMEOUT;
            Stage::Committing { work, before: Box::new(before.before), done, until }
        } else if forgets {
            let until = self.now.elapsed + WORK_TIMEOUT;
            Stage::Forgetting { work: self.save_intents(), done, until }
        } else {
            return self.end_change(asker, &what, Ok(done));
        };
        self.changes.current = Some(Change { asker, what, stage });
    }

    /// Puts a published change into force.
    fn put_into_force(
        &mut self,
        what: &What,
        mut next: InForce,
        reported: Arc<Reported>,
        publication: Option<&Publication>,
    ) -> Replaced {
        self.rebase(what, &mut next);
        let dropped = next.forgotten(what).and_then(|node| {
            let hold = self.health.held_mut().release(&node)?;
            Some(Holds::from([(node, hold)]))
        });
        let mut before = InForce {
            config: Arc::clone(self.health.config()),
            source: Arc::clone(&self.source),
            intents: self.health.intents().clone(),
            holds: dropped,
            lost: LostVerdicts::new(),
            forgets: next.forgets,
            event: None,
            notes: Vec::new(),
            warnings: Vec::new(),
            staged: None,
        };
        self.source = Arc::clone(&next.source);
        before.lost = self.health.adopt(Arc::clone(&next.config));
        if let (Some(holds), What::Join(view)) = (&next.holds, what) {
            self.take_holds(holds.clone(), &view.documents.intents);
        }
        self.health.set_intents(next.intents.clone());
        self.tell(reported, publication, next.event.clone());
        self.configure_shell();
        self.reconcile_probes();
        // Probes may have reported results meanwhile.
        self.decide_and_publish();
        Replaced { before, next }
    }

    pub(super) fn file_committed(&mut self, work: WorkId, result: Result<(), String>) {
        let change = self
            .changes
            .current
            .take_if(|change| matches!(change.stage, Stage::Committing { work: own, .. } if own == work));
        let Some(Change { asker, what, stage: Stage::Committing { before, done, .. } }) = change else {
            return;
        };
        match result {
            Ok(()) if before.forgets => {
                let (work, until) = (self.save_intents(), self.now.elapsed + WORK_TIMEOUT);
                let stage = Stage::Forgetting { work, done, until };
                self.changes.current = Some(Change { asker, what, stage });
            }
            Ok(()) => self.end_change(asker, &what, Ok(done)),
            Err(error) => {
                self.source = Arc::clone(&before.source);
                self.health.take_back(Arc::clone(&before.config), before.lost);
                // An intent that has ended meanwhile stays ended, and the state file has to agree.
                let intents = intent::counting(&before.intents, self.now.wall);
                let is_other = intents != before.intents || *self.health.intents() != before.intents;
                for (node, hold) in before.holds.into_iter().flatten() {
                    self.health.held_mut().hold(&node, hold);
                }
                self.health.set_intents(intents);
                if is_other && self.shared.is_none() {
                    self.keep_intents();
                }
                self.configure_shell();
                self.reconcile_probes();
                let refusal = unwritten(&self.source, &error);
                self.changes.current = Some(Change { asker, what, stage: Stage::TakingBack(refusal) });
                self.decide_and_publish();
            }
        }
        self.go_on_with_changes();
    }

    /// The addresses of a node in all its sets. There are none if the node does not exist.
    pub(super) fn addresses(&self, name: &str) -> impl Iterator<Item = IpAddr> + use<> {
        let mut nodes = self.health.config().cluster.nodes.iter();
        let node = nodes.find(|node| node.name == name).cloned();
        node.into_iter().flat_map(|node| node.all_addresses().collect::<Vec<_>>())
    }

    fn addresses_of(&self, what: &What) -> BTreeSet<IpAddr> {
        match what {
            What::Edit { change, .. } => self.addresses(&change.node().unwrap_or_default()).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Drops waiting documents, because newer ones have arrived.
    pub(super) fn forget_waiting_documents(&mut self) {
        self.changes.waiting.retain(|(asker, ..)| *asker != Asker::Store);
    }

    /// Sends the result of a change to its [`Asker`].
    pub(super) fn end_change(&mut self, asker: Asker, what: &What, result: Result<Done, Refusal>) {
        if let What::Reload { .. } = what {
            self.effects.push(Effect::Record(Record::Reloaded { ok: result.is_ok() }));
            if result.is_ok() {
                self.nothing_is_refused();
            }
        }
        match (asker, what) {
            (Asker::Call(call), _) => self.reply(call, result),
            (Asker::Shared(number), _) => self.reloaded_here(number, result),
            (Asker::NoClient, _) => {
                if let Err(refusal) = result {
                    self.effects.push(Effect::Warn(format!("nothing was reloaded: {refusal}")));
                    self.refused = Some(alarm(&refusal));
                }
                self.effects.push(Effect::Reloading(false));
            }
            (Asker::Store, What::Join(view)) => self.joined(view, result),
            (Asker::Store, _) => {}
        }
    }
}

/// The refusal of a change whose file cannot be written; `error` says why.
pub(in crate::controller) fn unwritten(source: &Source, error: &str) -> Refusal {
    let message = format!(
        "cannot write {}: {error}; nothing was changed: make it writable, or use --ephemeral",
        source.path().display()
    );
    Refusal::new(RefusalKind::Failed, message)
}

/// The alarm for a refusal, in one line.
fn alarm(refusal: &Refusal) -> String {
    const MOST: usize = 3;
    let mut problems: Vec<&str> = refusal.message.lines().collect();
    let more = problems.len().saturating_sub(MOST);
    problems.truncate(MOST);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!("the last reload was refused, what was in force stays: {}{more}", problems.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_is_an_alarm_of_one_line() {
        let refused = |message: &str| alarm(&Refusal::new(RefusalKind::Invalid, message));
        assert_eq!(refused("f:1: a"), "the last reload was refused, what was in force stays: f:1: a");
        let many = refused("f:1: a\nf:2: b\nf:3: c\nf:4: d\nf:5: e");
        assert!(many.ends_with("stays: f:1: a; f:2: b; f:3: c; and 2 more"), "{many}");
    }
}
