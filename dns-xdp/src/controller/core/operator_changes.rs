//! Changes by operators that go to the store, for all servers: prepared, written by compare-and-swap, and answered when
//! they are in force on this server.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::Core;
use super::admin::judge;
use super::changes::{Asker, WORK_TIMEOUT, What as LocalChange};
use super::cluster_change::ClusterChange;
use super::input::{CallId, Effect, Record, WorkId};
use super::job::{Prepared, Wanted};
use super::source::Push;
use super::status::milliseconds;
use crate::control::api::Done;
use crate::control::{Command, Refusal, RefusalKind};
use crate::intent::{self, IntentRequest, Intents};
use crate::store::documents::{Documents, INTENT};
use crate::store::{Error, Revision, Swap};

/// The longest time for the store's answer to a write, and then again for the write to come into force on this server.
pub(in crate::controller) const STORE_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a change is tried if other servers change the same documents.
const TRIES: u32 = 5;

/// A change by an operator that is under way.
#[derive(Debug)]
pub(super) struct OperatorChange {
    what: What,
    /// The command that waits for the result; `None`: no command asked for the change.
    call: Option<CallId>,
    notes: Vec<String>,
    tries: u32,
    stage: Stage,
    /// For a reload: the text of the file. The server's own part comes into force once the store has the shared part.
    own: Option<String>,
}

#[derive(Debug, Clone)]
enum What {
    Edit {
        change: ClusterChange,
        before: BTreeSet<IpAddr>,
    },
    Admin {
        node: String,
        request: IntentRequest,
        force: bool,
    },
    /// A held node is failed back; `by`: the operator who wants it.
    Failback {
        node: String,
        by: Option<String>,
    },
    Reload {
        force: bool,
    },
    Expiry,
    /// This server's own decisions go to the store.
    Local,
}

impl What {
    /// Whether the change is only about intents.
    fn is_of_intents(&self) -> bool {
        match self {
            What::Admin { .. } | What::Failback { .. } | What::Expiry | What::Local => true,
            What::Edit { .. } | What::Reload { .. } => false,
        }
    }
}

#[derive(Debug)]
enum Stage {
    /// The change waits for newer documents to come into force, and is then made from them.
    WaitingForDocuments { until: Duration },
    /// The writes are being prepared from these documents, until `until` at the latest.
    Preparing { work: WorkId, base: Documents, until: Duration },
    /// The change is being written, on condition that these documents have not changed.
    Swapping { work: WorkId, base: Documents },
    /// Another server has written first. Its change arrives soon.
    WaitingForOther { base: Documents, until: Duration },
    /// The store has the shared sections of a file since this revision (0: it had them before). The server's own part
    /// comes into force.
    ReloadingHere { work: WorkId, revision: Revision },
    /// The store has the change. The change waits until it is in force on this server.
    WaitingForOwn { revision: Revision, until: Duration },
}

impl Core {
    /// Begins the change that a command makes for all servers. Returns the command if it makes no such change, or if
    /// there is no store.
    pub(super) fn share(&mut self, call: CallId, command: Command) -> Option<Command> {
        let is_local = matches!(command, Command::Admin { local: true, .. });
        if let Some(refusal) = self.why_not_local().filter(|_| is_local) {
            self.reply::<Done>(call, Err(refusal));
            return None;
        }
        if self.shared.is_none() || is_local {
            return Some(command);
        }
        let (what, ephemeral) = match command {
            Command::Admin { node, admin, reason, by, for_ms, force, local: _ } => {
                let request = IntentRequest { admin, reason, by, lasting: for_ms.map(Duration::from_millis) };
                (What::Admin { node: node.to_ascii_lowercase(), request, force }, false)
            }
            Command::Failback { node, by } => (What::Failback { node: node.to_ascii_lowercase(), by }, false),
            Command::Reload { force } => (What::Reload { force }, false),
            command => match ClusterChange::asked(command) {
                Ok((change, ephemeral)) => {
                    let before = self.addresses(&change.node().unwrap_or_default()).collect();
                    (What::Edit { change, before }, ephemeral)
                }
                Err(command) => return Some(command),
            },
        };
        if ephemeral {
            let message =
                "--ephemeral is for a server with a file of its own: what the store holds is all servers'";
            self.reply::<Done>(call, Err(Refusal::new(RefusalKind::Invalid, message)));
            return None;
        }
        self.begin_shared(what, Some(call), 0);
        None
    }

    /// Begins an update of records for all servers.
    pub(super) fn share_change(&mut self, call: CallId, change: ClusterChange) {
        self.begin_shared(What::Edit { change, before: BTreeSet::new() }, Some(call), 0);
    }

    /// Ends intents in the store whose time is over.
    pub(super) fn expire_for_all(&mut self) {
        if self.shared.is_none() {
            return;
        }
        let over = intent::expire(&self.documents_of_intents().intents, self.now.wall).is_some();
        let is_under_way = |change: &OperatorChange| matches!(change.what, What::Expiry);
        let under_way = self.shared.iter().any(|shared| shared.changes.iter().any(is_under_way));
        if over && !under_way && self.health.is_joined() {
            self.begin_shared(What::Expiry, None, 0);
        }
    }

    /// Begins to prepare the writes of a change.
    fn begin_shared(&mut self, what: What, call: Option<CallId>, tries: u32) {
        let until = self.now.elapsed + STORE_WRITE_TIMEOUT;
        let stage = Stage::WaitingForDocuments { until };
        let mut change = OperatorChange { what, call, notes: Vec::new(), tries: tries + 1, stage, own: None };
        if self.lags_behind() {
            return self.go_on_later(change);
        }
        let documents = self.source.documents().cloned().unwrap_or_default();
        // The store's intents count, even if this server refuses its other documents.
        let intents_from = self.documents_of_intents();
        let writes = match &change.what {
            What::Edit { .. } | What::Reload { .. } => {
                let wanted = match &change.what {
                    What::Edit { change: edit, .. } => Wanted::Share(edit.clone()),
                    _ => Wanted::ReloadShared,
                };
                let work = self.prepare(wanted);
                let until = self.now.elapsed + WORK_TIMEOUT;
                change.stage = Stage::Preparing { work, base: documents, until };
                return self.go_on_later(change);
            }
            What::Admin { node, request, force } => {
                judge(&self.health, node, request, *force).and_then(|()| {
                    let intents =
                        intent::set_intent(&intents_from.intents, node, request.clone(), self.now.wall);
                    // An operator's decision also rewrites the documents that the store has lost.
                    let is_lost = intents_from.deleted.contains(INTENT);
                    if is_lost { written(&intents) } else { intent_writes(&intents_from.intents, &intents) }
                })
            }
            What::Failback { node, by } => match self.judge_failback(node) {
                Ok(None) => {
                    let mut intents = intents_from.intents.clone();
                    let hold = self.health.held().holds().get(node).cloned();
                    let ended = hold.map(|hold| hold.ended_by(by.clone(), self.now.wall));
                    intent::hold_of(&mut intents, node, ended);
                    intent_writes(&intents_from.intents, &intents)
                }
                Ok(Some(done)) => return self.answer_shared(&change, Ok(done)),
                Err(refusal) => Err(refusal),
            },
            What::Expiry => match intent::expire(&intents_from.intents, self.now.wall) {
                Some((left, _)) => intent_writes(&intents_from.intents, &left),
                None => Ok(BTreeMap::new()),
            },
            What::Local => {
                let has_fallen = |node: &str| self.has_fallen(node);
                let intents = self.local.into_store(&intents_from.intents, self.now.wall, has_fallen);
                self.local.note_offered();
                intent_writes(&intents_from.intents, &intents)
            }
        };
        match writes {
            Ok(writes) => self.write_to_store(change, writes, intents_from),
            Err(refusal) => self.refuse_shared(&change, refusal),
        }
    }

    /// Whether this server's own decisions are on their way to the store.
    pub(super) fn shares_local(&self) -> bool {
        let is_local = |change: &OperatorChange| matches!(change.what, What::Local);
        self.shared.iter().any(|shared| shared.changes.iter().any(is_local))
    }

    /// Begins to write this server's own decisions to the store.
    pub(super) fn begin_sharing_local(&mut self) {
        self.begin_shared(What::Local, None, 0);
    }

    /// Whether the store has newer documents that are being prepared and not in force yet.
    pub(super) fn lags_behind(&self) -> bool {
        let in_force = self.source.documents().map_or(0, Documents::epoch);
        let seen = self.shared.as_ref().map(|shared| &shared.seen.view.documents);
        seen.is_some_and(|seen| seen.epoch() > in_force && self.is_joining(seen))
    }

    fn go_on_later(&mut self, change: OperatorChange) {
        if let Some(shared) = &mut self.shared {
            shared.changes.push(change);
        }
    }

    fn take_shared(&mut self, is_it: impl Fn(&Stage) -> bool) -> Option<OperatorChange> {
        let changes = &mut self.shared.as_mut()?.changes;
        let place = changes.iter().position(|change| is_it(&change.stage))?;
        Some(changes.remove(place))
    }

    /// Begins to bring this server's own part of a file into force. `revision`: since when the store has the shared
    /// part (0: it already had it).
    fn reload_here(&mut self, mut change: OperatorChange, revision: Revision) {
        let (work, text) = (self.work(), change.own.take());
        change.stage = Stage::ReloadingHere { work, revision };
        self.go_on_later(change);
        // The check for a held-back file was made before anything was changed.
        self.change(Asker::Shared(work), LocalChange::Reload { force: true, text });
    }

    /// Takes the result of reloading the server's own part of the file.
    pub(super) fn reloaded_here(&mut self, number: WorkId, result: Result<Done, Refusal>) {
        let is_it = |stage: &Stage| matches!(stage, Stage::ReloadingHere { work, .. } if *work == number);
        let Some(mut change) = self.take_shared(is_it) else { return };
        let Stage::ReloadingHere { revision, .. } = change.stage else { return };
        match result {
            Ok(_) if revision == 0 => self.finish_shared(change),
            Ok(_) => {
                let until = self.now.elapsed + STORE_WRITE_TIMEOUT;
                change.stage = Stage::WaitingForOwn { revision, until };
                self.go_on_later(change);
                self.answer_waiting();
            }
            Err(refusal) if revision == 0 => self.refuse_shared(&change, refusal),
            Err(refusal) => {
                let message = format!(
                    "the store has the shared sections of {} (revision {revision}), but what is this server's own is not in \
                     force: {refusal}; repeat the reload",
                    self.source.path().display()
                );
                self.refuse_shared(&change, Refusal::new(RefusalKind::Failed, message));
            }
        }
    }

    /// Takes the prepared writes of a change.
    pub(super) fn shared_prepared(&mut self, work: WorkId, result: Result<Prepared, Refusal>) {
        let is_it = |stage: &Stage| matches!(stage, Stage::Preparing { work: own, .. } if *own == work);
        let Some(mut change) = self.take_shared(is_it) else { return };
        let until = self.now.elapsed;
        let Stage::Preparing { base, .. } =
            std::mem::replace(&mut change.stage, Stage::WaitingForDocuments { until })
        else {
            return;
        };
        let result = result.map(|prepared| match prepared {
            Prepared::Reload { push, own, text } => {
                (change.own, change.notes) = (Some(text), own.notes);
                Prepared::Push(push)
            }
            other => other,
        });
        match result {
            Ok(Prepared::Push(Push { mut writes, notes, removed })) => {
                if let What::Reload { force: false } = change.what
                    && let Some(refusal) = self.held_back(&removed)
                {
                    return self.refuse_shared(&change, refusal);
                }
                if let Some(intents) = self.forgetting(&change.what, &base) {
                    match intent_writes(&base.intents, &intents) {
                        Ok(forgets) => writes.extend(forgets),
                        Err(refusal) => return self.refuse_shared(&change, refusal),
                    }
                }
                if !writes.is_empty() {
                    change.notes.retain(|note| note != "nothing has changed");
                }
                change.notes.extend(notes);
                // If newer documents have come into force meanwhile, the store refuses the write.
                self.write_to_store(change, writes, base);
            }
            Ok(Prepared::Proposal(_) | Prepared::Reload { .. }) => {
                let refusal =
                    Refusal::new(RefusalKind::Failed, "a defect of dns-xdp: this is nothing for the store");
                self.refuse_shared(&change, refusal);
            }
            Err(refusal) => self.refuse_shared(&change, refusal),
        }
    }

    /// The intents without the intent of a removed or added node; `None`: the node has no intent.
    fn forgetting(&self, what: &What, base: &Documents) -> Option<Intents> {
        let What::Edit { change, .. } = what else { return None };
        let mut intents = base.intents.clone();
        let is_forgotten = self.is_forgotten(change, false);
        (is_forgotten && intents.remove(&change.name()).is_some()).then_some(intents)
    }

    /// Hands the writes to the store's session, if there are any.
    fn write_to_store(
        &mut self,
        mut change: OperatorChange,
        writes: BTreeMap<String, Vec<u8>>,
        base: Documents,
    ) {
        if writes.is_empty() && change.own.is_some() {
            return self.reload_here(change, 0);
        }
        if writes.is_empty() {
            return self.finish_shared(change);
        }
        let Some(shared) = &self.shared else { return };
        if !shared.seen.is_up {
            let trouble = shared.seen.trouble.clone();
            let trouble = trouble.unwrap_or_else(|| "the store is not reached at the moment".to_owned());
            let or_here = match &change.what {
                What::Admin { .. } => ", or with --local for this server alone".to_owned(),
                What::Failback { node, .. } => {
                    format!(
                        ", or let the node come back for this server alone: dns-xdp node up {node} --local"
                    )
                }
                What::Reload { .. } => {
                    ", or send SIGHUP, which reloads this server's own part of the file alone".to_owned()
                }
                _ => String::new(),
            };
            let message = format!(
                "nothing was changed for the cluster: {trouble}; repeat it on a server that `dns-xdp status` shows joined, or \
                 when the store is back{or_here}"
            );
            return self.refuse_shared(&change, Refusal::new(RefusalKind::Failed, message));
        }
        let is_of_configuration = writes.keys().any(|key| key != INTENT);
        let mut expected = if is_of_configuration { base.expected() } else { BTreeMap::new() };
        if writes.contains_key(INTENT) {
            expected.insert(INTENT.to_owned(), base.stored(INTENT));
        }
        let work = self.work();
        change.stage = Stage::Swapping { work, base };
        self.effects.push(Effect::Swap { work, swap: Swap { expected, writes } });
        self.go_on_later(change);
    }

    /// Takes the store's answer to a write.
    pub(super) fn swapped(&mut self, work: WorkId, result: Result<Revision, Error>) {
        let is_it = |stage: &Stage| matches!(stage, Stage::Swapping { work: own, .. } if *own == work);
        let Some(mut change) = self.take_shared(is_it) else { return };
        let until = self.now.elapsed + STORE_WRITE_TIMEOUT;
        change.stage = match (result, change.stage) {
            (Ok(revision), stage) if change.own.is_some() => {
                return self.reload_here(OperatorChange { stage, ..change }, revision);
            }
            (Ok(revision), _) => Stage::WaitingForOwn { revision, until },
            (Err(Error::Conflict), Stage::Swapping { base, .. }) => Stage::WaitingForOther { base, until },
            (Err(error), stage) => {
                let own = match change.what {
                    What::Reload { .. } => "; this server's own part of the file was not reloaded",
                    _ => "",
                };
                if matches!(change.what, What::Local) {
                    // Keep on disk that the decisions were offered to the store.
                    self.keep_intents();
                }
                let message = format!(
                    "{error}; the cluster may or may not have changed: look with `dns-xdp cluster show`{own}"
                );
                return self.refuse_shared(
                    &OperatorChange { stage, ..change },
                    Refusal::new(RefusalKind::Failed, message),
                );
            }
        };
        self.go_on_later(change);
        self.answer_waiting();
    }

    /// Continues changes that wait for the store. Answers changes that are in force, and changes whose time is over.
    pub(super) fn answer_waiting(&mut self) {
        let lags_behind = self.lags_behind();
        self.answer_accepting();
        let Some(shared) = &mut self.shared else { return };
        let in_force = self.source.documents().map_or(0, Documents::epoch);
        let wanted = shared.intents_at.max(in_force);
        let is_answered = self.answering.is_settled();
        let (now, seen) = (self.now.elapsed, shared.seen.view.documents.epoch());
        let is_here = |what: &What, revision: Revision| {
            revision <= if what.is_of_intents() { wanted } else { in_force }
        };
        let is_due = |change: &mut OperatorChange| match &change.stage {
            Stage::WaitingForDocuments { until } => !lags_behind || now >= *until,
            Stage::Preparing { until, .. } => now >= *until,
            // The change is in the answers, or its publication failed.
            Stage::WaitingForOwn { revision, until } => {
                is_here(&change.what, *revision) && is_answered || now >= *until
            }
            // The other server's documents have to be in force here first.
            Stage::WaitingForOther { base, until } => {
                let here = if change.what.is_of_intents() { seen } else { in_force };
                seen.min(here) > base.epoch() || now >= *until
            }
            _ => false,
        };
        let due: Vec<OperatorChange> = shared.changes.extract_if(.., is_due).collect();
        for change in due {
            match change.stage {
                Stage::WaitingForDocuments { .. } if lags_behind => {
                    let message =
                        "nothing was changed: newer documents of the store are not in force here yet";
                    self.refuse_shared(&change, Refusal::new(RefusalKind::Failed, message));
                }
                Stage::Preparing { .. } => {
                    let refusal = self.unprepared();
                    self.refuse_shared(&change, refusal);
                }
                Stage::WaitingForDocuments { .. } => {
                    self.begin_shared(change.what, change.call, change.tries - 1);
                }
                Stage::WaitingForOwn { revision, .. }
                    if is_here(&change.what, revision) && is_answered && !self.answering.is_pending() =>
                {
                    self.finish_shared(change);
                }
                Stage::WaitingForOwn { revision, .. } => {
                    let refused = self.shared.as_ref().and_then(|shared| shared.refused.clone());
                    let why = refused.or_else(|| self.answering.trouble.clone());
                    let why = why
                        .unwrap_or_else(|| "this takes longer than usual; see `dns-xdp status`".to_owned());
                    let message = format!(
                        "the store has it (revision {revision}), but it is not in force here yet: {why}"
                    );
                    self.refuse_shared(&change, Refusal::new(RefusalKind::Failed, message));
                }
                Stage::WaitingForOther { ref base, .. } => {
                    let base = base.clone();
                    self.try_again(change, &base);
                }
                _ => {}
            }
        }
    }

    /// Takes the store's refusal because another server has written first. If that server changed something else, the
    /// change is tried again.
    fn try_again(&mut self, change: OperatorChange, base: &Documents) {
        let Some(shared) = &self.shared else { return };
        let now = &shared.seen.view.documents;
        let is_other = match &change.what {
            What::Admin { node, .. } => {
                let [before, now] = [base, now].map(|documents| documents.intents.get(node));
                intent::is_undecided_since(before, now, self.now.wall)
            }
            What::Failback { .. } | What::Expiry | What::Local => true,
            // An update says itself, in its prerequisites, on what it depends.
            What::Edit { change, .. } => change.is_update(),
            What::Reload { .. } => false,
        };
        if is_other && change.tries < TRIES {
            return self.begin_shared(change.what, change.call, change.tries);
        }
        let told = what_changed(base, now);
        let message = format!(
            "nothing was changed, because another command changed the cluster at the same time ({}): look with `dns-xdp cluster show`, then repeat",
            if told.is_empty() { "the other change is not known yet".to_owned() } else { told.join(", ") }
        );
        self.refuse_shared(&change, Refusal::new(RefusalKind::Conflict, message));
    }

    fn refuse_shared(&mut self, change: &OperatorChange, refusal: Refusal) {
        let tried_here = matches!(change.stage, Stage::ReloadingHere { .. } | Stage::WaitingForOwn { .. });
        if matches!(change.what, What::Reload { .. }) && !tried_here {
            self.effects.push(Effect::Record(Record::Reloaded { ok: false }));
        }
        self.answer_shared(change, Err(refusal));
    }

    fn answer_shared(&mut self, change: &OperatorChange, answer: Result<Done, Refusal>) {
        if let Some(call) = change.call {
            self.reply(call, answer);
        }
    }

    /// Answers the command of a change that is in force, or that changes nothing.
    fn finish_shared(&mut self, change: OperatorChange) {
        let OperatorChange { what, notes, call: Some(call), .. } = change else { return };
        let done = match what {
            What::Admin { node, request, .. } => self.granted(&node, request.admin),
            What::Edit { change, before } => {
                let after: BTreeSet<IpAddr> = self.addresses(&change.node().unwrap_or_default()).collect();
                let left: Vec<IpAddr> = before.difference(&after).copied().collect();
                let cached = |left| milliseconds(self.answering.caches.left(left, self.now.elapsed));
                Ok(Done { notes, cached_ms: (!left.is_empty()).then(|| cached(left)) })
            }
            What::Failback { node, .. } => self.failed_back(&node),
            What::Reload { .. } | What::Expiry | What::Local => Ok(Done { notes, cached_ms: None }),
        };
        self.reply(call, done);
    }
}

fn intent_writes(before: &Intents, after: &Intents) -> Result<BTreeMap<String, Vec<u8>>, Refusal> {
    if before == after { Ok(BTreeMap::new()) } else { written(after) }
}

fn written(after: &Intents) -> Result<BTreeMap<String, Vec<u8>>, Refusal> {
    let text = serde_json::to_vec_pretty(after)
        .map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string()))?;
    Ok([(INTENT.to_owned(), text)].into())
}

/// The changes of another server, for the refusal of this server's change.
fn what_changed(before: &Documents, after: &Documents) -> Vec<String> {
    let mut told = before.differences(after);
    for (node, intent) in &after.intents {
        if !intent::wants_as(before.intents.get(node), Some(intent)) {
            told.push(format!("{node} is to be {intent}"));
        }
    }
    told
}
