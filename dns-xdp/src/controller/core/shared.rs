//! This server among the servers of a store: what it takes over from the store, and what it writes there.
use std::sync::Arc;
use std::time::Duration;

use super::changes::{Asker, What};
use super::input::{CallId, Effect};
use super::operator_changes::{OperatorChange, STORE_WRITE_TIMEOUT};
use super::peers::Peers;
use super::shared_view::{SharedView, digest};
use super::{Core, occurrences};
use crate::cluster::Admin;
use crate::control::api::{ClusterStatus, Done, StoreStatus};
use crate::control::{Refusal, RefusalKind};
use crate::event::Occurrence;
use crate::failover::Answers;
use crate::intent::{self, Intents};
use crate::store::client::{Mode, Own, Seen, View};
use crate::store::continuity::Origin;
use crate::store::documents::{Documents, INTENT};
use crate::store::{InputsVersion, Revision, Server};

/// The task of the shell that keeps the session with the store.
pub(in crate::controller) const STORE_SESSION: &str = "store-session";
/// The time after which refused documents are tried again. The cause may be this server's own, such as a failed name
/// look-up.
const JOIN_INTERVAL: Duration = Duration::from_secs(5);

/// This server's place among the servers of a store.
#[derive(Debug)]
pub(super) struct Shared {
    /// The name of this server.
    server: String,
    /// The last view of the store.
    pub(super) seen: Seen,
    /// Changes by operators that are on their way.
    pub(super) changes: Vec<OperatorChange>,
    /// Why the store's documents are not in force.
    pub(super) refused: Option<String>,
    /// The store from which the copy on disk was made; `None`: no copy was written yet.
    copied: Option<Origin>,
    /// The text of the last warning of deleted documents.
    warned: Option<String>,
    /// The documents that were refused last, and when.
    refused_documents: Option<(Arc<Documents>, Duration)>,
    /// The revision of the intents that count here.
    pub(super) intents_at: Revision,
    /// Commands that wait until the store is trusted: each with its time limit and its answer.
    accepting: Vec<(CallId, Duration, Vec<String>)>,
    mode: Mode,
    /// The time of the last change of the mode, since the origin.
    pub(super) mode_since: Duration,
    /// The view of the last decision.
    decided: Option<Arc<View>>,
    peers: Peers,
    own: Own,
    /// The last digest, with its inputs. It is kept because computing it takes time in proportion to the zone.
    digest: Option<(Arc<Answers>, u32, String)>,
}

impl Shared {
    pub(super) fn new((server, seen): (String, Seen)) -> Self {
        Shared {
            server,
            seen,
            changes: Vec::new(),
            refused: None,
            copied: None,
            warned: None,
            refused_documents: None,
            intents_at: 0,
            accepting: Vec::new(),
            mode: Mode::Joined,
            mode_since: Duration::ZERO,
            decided: None,
            peers: Peers::default(),
            own: Own::default(),
            digest: None,
        }
    }

    /// The [`digest`] of these answers.
    fn digest(&mut self, answers: &Arc<Answers>, epoch: u32) -> String {
        match &self.digest {
            Some((known, at, digest)) if Arc::ptr_eq(known, answers) && *at == epoch => digest.clone(),
            _ => {
                let digest = digest(answers, epoch);
                self.digest = Some((Arc::clone(answers), epoch, digest.clone()));
                digest
            }
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        self.seen.mode == Mode::Joined
    }

    /// Whether an operator may accept the store's documents.
    fn is_offered(&self) -> bool {
        self.seen.mode == Mode::Frozen || self.seen.offered.is_some()
    }

    /// Whether this server is the first of the live servers. The first server writes the decisions that all servers
    /// make alike.
    pub(super) fn is_first(&self) -> bool {
        self.seen.view.servers.keys().next() == Some(&self.server)
    }

    fn view(&self) -> SharedView {
        SharedView::new(&self.seen, &self.server)
    }

    pub(super) fn alarms(&self) -> Vec<String> {
        let Seen { mode, trouble, .. } = &self.seen;
        let trouble = trouble.as_ref().filter(|_| *mode != Mode::Joined);
        let alone = trouble.map(|trouble| match mode {
            Mode::Frozen => format!("frozen, the documents stay as they are: {trouble}"),
            Mode::Alone | Mode::Joined => format!("alone, this server judges by itself: {trouble}"),
        });
        let deletion = self.seen.view.documents.deletion();
        alone.into_iter().chain(self.refused.clone()).chain(deletion).collect()
    }

    pub(super) fn status(&self, epoch: u32) -> StoreStatus {
        let Seen { view, mode, trouble, since, .. } = &self.seen;
        StoreStatus {
            kind: "etcd".to_owned(),
            mode: *mode,
            epoch,
            revision: view.revision,
            since: Some(*since),
            trouble: trouble.clone().or_else(|| self.refused.clone()),
        }
    }
}

impl Core {
    /// Takes a new view or a new mode of the store.
    pub(super) fn store_seen(&mut self, seen: Seen) {
        let Some(shared) = &mut self.shared else { return };
        shared.peers.note(&seen, self.now.wall);
        shared.seen = seen;
        if self.is_live() {
            self.take_over_from_store();
        }
    }

    /// Notes that there is no session with the store, for this reason. This server then judges alone.
    pub(super) fn store_lost(&mut self, reason: &str) {
        let Some(shared) = &self.shared else { return };
        let (since, trouble) = (self.now.wall, Some(reason.to_owned()));
        let seen = Seen { mode: Mode::Alone, trouble, since, is_up: false, ..shared.seen.clone() };
        self.store_seen(seen);
    }

    /// Uses the servers' shared view for the first answers. Returns `false` if there is no store.
    pub(super) fn join_at_the_start(&mut self) -> bool {
        let Some(shared) = &mut self.shared else { return false };
        shared.mode = shared.seen.mode;
        self.health.set_peer_view(shared.view());
        true
    }

    /// Puts the store's documents and verdicts into force. Changed documents are prepared first; invalid documents are
    /// refused as a whole.
    pub(super) fn take_over_from_store(&mut self) {
        let now = self.now.elapsed;
        let in_force = self.source.documents();
        let Some(shared) = &mut self.shared else { return };
        let Seen { view, mode, trouble, .. } = shared.seen.clone();
        let is_known = shared.decided.as_ref().is_some_and(|decided| decided.decides_as(&view));
        if is_known && shared.mode == mode && shared.refused.is_none() {
            // Only the servers' status entries have changed: no decision depends on them.
            return self.answer_waiting();
        }
        shared.decided = Some(Arc::clone(&view));
        let turned = shared.mode != mode;
        shared.mode = mode;
        if turned {
            shared.mode_since = now;
        }
        let malformed = view.malformed.as_ref().map(|problem| alarm(problem));
        let has_documents = !view.documents.texts.is_empty();
        let is_other =
            has_documents && in_force.is_none_or(|in_force| view.documents.texts != in_force.texts);
        let has_other_intents = has_documents && in_force != Some(&*view.documents);
        let was_refused = shared
            .refused_documents
            .as_ref()
            .is_some_and(|(refused, at)| **refused == *view.documents && now < *at + JOIN_INTERVAL);
        if malformed.is_some() || !is_other {
            let is_new = malformed.is_some() && malformed != shared.refused;
            shared.refused.clone_from(&malformed);
            if let Some(problem) = malformed.filter(|_| is_new) {
                self.effects.push(Effect::Warn(problem));
            }
        }
        let peer_view = shared.view();
        if turned {
            self.emit(match mode {
                Mode::Joined => occurrences::joined(&format!("revision {}", view.revision)),
                Mode::Alone | Mode::Frozen => occurrences::alone(&trouble.unwrap_or_default()),
            });
        }
        if is_other {
            if !was_refused && !self.is_joining(&view.documents) {
                self.forget_waiting_documents();
                self.change(Asker::Store, What::Join(Arc::clone(&view)));
            }
        } else if has_other_intents {
            // Only intents have changed, or the same documents were written again.
            self.source = Arc::new(self.source.with_documents(Documents::clone(&view.documents)));
            self.health.adopt(self.health.config().at_revision(view.documents.epoch()));
            self.take_over_intents(&view.documents);
            self.keep_copy(&view);
        } else if has_documents && self.is_of_another_store(view.origin) {
            self.keep_copy(&view);
        }
        self.warn_of_deletion(&view.documents);
        self.health.set_peer_view(peer_view);
        self.reconcile_probes();
        self.reconcile_local();
        self.decide_and_publish();
        self.share_local();
        self.answer_waiting();
        self.write_own();
    }

    /// Puts the intents of these documents into force.
    fn take_over_intents(&mut self, documents: &Documents) {
        self.count_stored(&documents.intents);
        if let Some(shared) = &mut self.shared {
            shared.intents_at = intents_revision(documents);
        }
    }

    /// The documents with the newest intents: the documents of the last view, or the documents that this server started
    /// from.
    pub(super) fn documents_of_intents(&self) -> Documents {
        let seen = self.shared.as_ref().map(|shared| &*shared.seen.view.documents);
        let seen = seen.filter(|seen| !seen.texts.is_empty()).or(self.source.documents());
        seen.cloned().unwrap_or_default()
    }

    /// Tries refused documents again, after [`JOIN_INTERVAL`].
    pub(super) fn try_refused_documents_again(&mut self) {
        let refused = self.shared.as_ref().and_then(|shared| shared.refused_documents.as_ref());
        if refused.is_some_and(|(_, at)| self.now.elapsed >= *at + JOIN_INTERVAL) {
            self.take_over_from_store();
        }
    }

    /// Takes the result of bringing the store's documents into force.
    pub(super) fn joined(&mut self, view: &Arc<View>, result: Result<Done, Refusal>) {
        let (now, documents) = (self.now.elapsed, &view.documents);
        let Some(shared) = &mut self.shared else { return };
        match result {
            Ok(_) => {
                (shared.refused, shared.refused_documents) = (None, None);
                shared.intents_at = intents_revision(documents);
                self.reconcile_local();
                self.keep_copy(view);
            }
            Err(refusal) => {
                let problem = alarm(&refusal.message);
                let is_new = shared.refused.as_ref() != Some(&problem);
                shared.refused_documents = Some((Arc::clone(documents), now));
                shared.refused = Some(problem.clone());
                if is_new {
                    self.effects.push(Effect::Warn(problem));
                }
                // Intents are not part of the configuration, so they count even if the configuration is refused.
                self.take_over_intents(documents);
                self.decide_and_publish();
            }
        }
        // The store may have newer documents by now.
        self.take_over_from_store_if_other(documents);
        self.answer_waiting();
    }

    pub(super) fn take_over_from_store_if_other(&mut self, documents: &Documents) {
        let Some(shared) = &mut self.shared else { return };
        if *shared.seen.view.documents != *documents {
            shared.decided = None;
            self.take_over_from_store();
        }
    }

    /// Whether documents newer than these are in force, and the store no longer holds these.
    pub(super) fn has_newer(&self, documents: &Documents) -> bool {
        let seen = self.shared.as_ref().map(|shared| &*shared.seen.view.documents);
        let in_force = self.source.documents().map_or(0, Documents::epoch);
        seen.is_some_and(|seen| seen != documents) && documents.epoch() < in_force
    }

    /// Writes a copy of the documents that are in force to disk.
    fn keep_copy(&mut self, view: &View) {
        if let Some(store) = &self.health.config().store {
            let (path, prefix) = (store.copy.clone(), store.prefix.clone());
            let known = Box::new(view.as_known());
            self.effects.push(Effect::KeepCopy { path, prefix, known });
        }
        if let Some(shared) = &mut self.shared {
            shared.copied = Some(view.origin);
        }
    }

    /// Whether the copy on disk is from another store, or is older than the last acceptance.
    fn is_of_another_store(&self, origin: Origin) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_joined() && shared.copied != Some(origin))
    }

    fn warn_of_deletion(&mut self, documents: &Documents) {
        let Some(shared) = &mut self.shared else { return };
        let deletion = documents.deletion();
        if shared.warned != deletion {
            shared.warned.clone_from(&deletion);
            self.effects.extend(deletion.map(Effect::Warn));
        }
    }

    /// Emits an event for each intent that differs from the intent in force.
    pub(super) fn tell_intents(&mut self, after: &Intents) {
        let before = self.health.intents();
        let changed = after.iter().filter(|(node, intent)| before.get(*node) != Some(intent));
        let told: Vec<Occurrence> = changed.map(|(node, intent)| occurrences::admin(node, intent)).collect();
        self.effects.extend(told.into_iter().map(Effect::Emit));
    }

    /// Writes this server's verdicts and its status into the store, if they have changed.
    pub(super) fn write_own(&mut self) {
        let is_live = self.is_live();
        let is_alike = self.shared.is_some() && !self.decides_beside_store();
        let (Some(shared), Some(decision), true) = (&mut self.shared, self.health.decision(), is_live) else {
            return;
        };
        let epoch = self.source.documents().map_or(0, Documents::epoch);
        // Until the view's documents are in force, the answers do not belong to its inputs.
        let is_current = epoch == shared.seen.view.documents.epoch();
        let moment = self.health.moment().filter(|_| is_current && is_alike);
        let InputsVersion { revision, entries } = moment.unwrap_or_default();
        let mut verdicts = self.health.own_verdicts();
        if self.health.blind().is_none() {
            verdicts.fallen.extend(self.local.holds.keys().cloned());
        }
        let own = Own {
            verdicts,
            server: Server {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                epoch,
                revision,
                entries,
                digest: shared.digest(&decision.answers, self.health.config().epoch()),
                quorum: Some(decision.quorum),
                trouble: decision.frozen.clone().or_else(|| self.health.blind().map(str::to_owned)),
                // The session fills in `instance` and `place`.
                ..Server::default()
            },
        };
        if own != shared.own {
            shared.own = own.clone();
            self.effects.push(Effect::WriteOwn(Box::new(own)));
        }
    }

    /// Returns the answer to `status --cluster`.
    pub(super) fn cluster_status(&self) -> Result<ClusterStatus, Refusal> {
        let Some(shared) = &self.shared else {
            let message = "this server shares no store: see [cluster] in `man 5 dns-xdp.toml`";
            return Err(Refusal::new(RefusalKind::Conflict, message));
        };
        let own = (&*shared.server, shared.own.server.clone());
        let nodes = self.health.config().cluster.nodes.iter();
        let nodes = nodes.filter(|node| node.is_server()).map(|node| node.name.as_str());
        Ok(shared.peers.call(&shared.seen, own, nodes, self.now.wall))
    }

    /// Asks the store's session to accept the store's documents on all servers. With `is_dry`, only reports the changes
    /// that this would make. The command is answered when the store's documents are in force on this server.
    pub(super) fn accept_store(&mut self, call: CallId, is_dry: bool) {
        let until = self.now.elapsed + STORE_WRITE_TIMEOUT;
        let notes = self.acceptance();
        match &mut self.shared {
            None => {
                let refusal = Refusal::new(RefusalKind::Conflict, "this server shares no store");
                self.reply::<Done>(call, Err(refusal));
            }
            Some(shared) if !is_dry && shared.is_offered() => {
                shared.accepting.push((call, until, notes));
                self.effects.push(Effect::AcceptStore);
            }
            Some(_) => self.reply(call, Ok(Done { notes, cached_ms: None })),
        }
    }

    /// The changes that accepting the store's documents would make, one line for each key and each node's intent.
    fn acceptance(&self) -> Vec<String> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let Some(offered) = &shared.seen.offered else {
            let text = match shared.seen.mode {
                Mode::Frozen => "the contents of the store are not known at the moment",
                Mode::Joined | Mode::Alone => "the store is trusted already",
            };
            return vec![text.to_owned()];
        };
        let in_force = self.source.documents().cloned().unwrap_or_default();
        let mut lines = in_force.differences(offered);
        let intents = self.health.intents();
        let after = intent::counting(&offered.intents, self.now.wall);
        for node in intents.keys().chain(after.keys().filter(|node| !intents.contains_key(*node))) {
            let [was, is] = [intents, &after].map(|intents| {
                intents.get(node).map_or_else(|| Admin::Auto.to_string(), ToString::to_string)
            });
            if was != is {
                lines.push(format!("{node} is to be {is}, was to be {was}"));
            }
        }
        if lines.is_empty() { vec!["no difference to what is in force".to_owned()] } else { lines }
    }

    /// Answers commands that wait until an older store is trusted.
    pub(super) fn answer_accepting(&mut self) {
        let now = self.now.elapsed;
        let is_settled = self.answering.is_settled();
        let Some(shared) = self.shared.as_mut().filter(|shared| !shared.accepting.is_empty()) else { return };
        let is_believed = !shared.is_offered();
        let texts = &shared.seen.view.documents.texts;
        let is_in_force = is_believed
            && is_settled
            && self.source.documents().map_or(texts.is_empty(), |in_force| in_force.texts == *texts);
        let is_due = |(_, until, _): &mut (CallId, Duration, Vec<String>)| is_in_force || now >= *until;
        let due: Vec<(CallId, Duration, Vec<String>)> = shared.accepting.extract_if(.., is_due).collect();
        let why = shared.refused.clone().or_else(|| shared.seen.trouble.clone()).unwrap_or_default();
        for (call, _, notes) in due {
            let refusal = |what: &str| Refusal::new(RefusalKind::Failed, format!("{what}: {why}"));
            let answer = match (is_in_force, is_believed) {
                (true, _) => Ok(Done { notes, cached_ms: None }),
                (false, true) => {
                    Err(refusal("the store is trusted, but its documents are not in force here yet"))
                }
                (false, false) => Err(refusal("the store is not trusted yet")),
            };
            self.reply(call, answer);
        }
    }
}

fn intents_revision(documents: &Documents) -> Revision {
    documents.revisions.get(INTENT).copied().unwrap_or(0)
}

fn alarm(problem: &str) -> String {
    format!("the store's documents are refused, those before stay in force: {}", problem.replace('\n', "; "))
}
