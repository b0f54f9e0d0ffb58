//! The daemon beside the others of a store: what it takes over from there, what it tells them, and how commands of the
//! operator become changes for all.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::admin::judge;
use super::change::Push;
use super::command::failed;
use super::concert::{Concert, digest};
use super::daemon::{Daemon, Reply};
use super::edit::ClusterChange;
use super::roll::Roll;
use super::start::keep_copy;
use super::status::milliseconds;
use super::{event, privileges};
use crate::config::differences;
use crate::control::api::{Done, StoreStatus};
use crate::control::{Command, Refusal, RefusalKind};
use crate::intent::{self, Intents, Wish};
use crate::store::documents::{Documents, INTENT};
use crate::store::mirror::{Mirror, Mode, Own, Request, Seen, View};
use crate::store::{Error, Moment, Revision, Server, Swap};

/// Changes whose outcome waits for the loop.
const OUTCOMES: usize = 16;
/// A change that the store has taken is here within this, or the operator is told that it is not.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a change is tried that others have got in the way of.
const TRIES: u32 = 5;

/// The daemon's place among the servers of a store.
#[derive(Debug)]
pub(super) struct Sharing {
    mirror: Mirror,
    server: String,
    /// Changes that the store has taken and that are not in force here yet.
    waiting: Vec<Waiting>,
    outcomes: mpsc::Receiver<Outcome>,
    outcome: mpsc::Sender<Outcome>,
    /// Why the documents in force are not the store's.
    refused: Option<String>,
    mode: Mode,
    /// The view that was decided on last.
    decided: Option<Arc<View>>,
    /// Who lives.
    roll: Roll,
}

/// A change on its way.
#[derive(Debug)]
struct Change {
    what: What,
    notes: Vec<String>,
    tries: u32,
    reply: Reply,
}

#[derive(Debug)]
enum What {
    Edit { change: ClusterChange, before: BTreeSet<IpAddr> },
    Admin { node: String, wish: Wish, force: bool },
    Reload,
    Expiry,
}

/// What the store has made of a change, and the documents that it was made from.
#[derive(Debug)]
struct Outcome {
    change: Change,
    base: Documents,
    result: Result<Revision, Error>,
}

#[derive(Debug)]
struct Waiting {
    change: Change,
    revision: Revision,
    until: Instant,
}

/// What has come from the store.
#[derive(Debug)]
pub(super) enum News {
    Seen,
    Outcome(Box<OutcomeOf>),
}

/// Only [`Daemon::news`] looks into it.
#[derive(Debug)]
pub(super) struct OutcomeOf(Outcome);

impl Sharing {
    pub(super) fn new(mirror: Mirror, server: String) -> Self {
        let (outcome, outcomes) = mpsc::channel(OUTCOMES);
        Sharing {
            mirror,
            server,
            waiting: Vec::new(),
            outcomes,
            outcome,
            refused: None,
            mode: Mode::Joined,
            decided: None,
            roll: Roll::default(),
        }
    }

    /// For others that look at the store and change documents, and this server's name.
    pub(super) fn ends(&self) -> (watch::Receiver<Seen>, mpsc::Sender<Request>, String) {
        (self.mirror.seen.clone(), self.mirror.swaps.clone(), self.server.clone())
    }

    /// The next news. Cancel safe.
    async fn next(&mut self) -> News {
        tokio::select! {
            Ok(()) = self.mirror.seen.changed() => News::Seen,
            Some(outcome) = self.outcomes.recv() => News::Outcome(Box::new(OutcomeOf(outcome))),
        }
    }

    /// Waits until the mirror is joined, but no longer than this.
    pub(super) async fn settle(&mut self, patience: Duration) {
        let joined = self.mirror.seen.wait_for(|seen| seen.mode == Mode::Joined);
        tokio::time::timeout(patience, joined).await.ok();
        self.mode = self.mirror.seen.borrow().mode;
        self.mirror.decide();
    }

    /// What the servers say together.
    pub(super) fn concert(&mut self) -> Concert {
        Concert::new(&self.mirror.seen.borrow_and_update(), &self.server)
    }

    fn seen(&self) -> Seen {
        self.mirror.seen.borrow().clone()
    }

    pub(super) fn alarms(&self) -> Vec<String> {
        let seen = self.mirror.seen.borrow();
        let trouble = seen.trouble.as_ref().filter(|_| seen.mode != Mode::Joined);
        let alone = trouble.map(|trouble| match seen.mode {
            Mode::Frozen => format!("frozen, the documents stay as they are: {trouble}"),
            Mode::Alone | Mode::Joined => format!("alone, this server judges by itself: {trouble}"),
        });
        alone.into_iter().chain(self.refused.clone()).collect()
    }

    pub(super) fn status(&self, epoch: u32) -> StoreStatus {
        let Seen { view, mode, trouble, since, is_up: _ } = self.seen();
        let trouble = trouble.or_else(|| self.refused.clone());
        StoreStatus {
            kind: "etcd".to_owned(),
            mode,
            epoch,
            revision: view.revision,
            since: Some(since),
            trouble,
        }
    }

    pub(super) async fn leave(self) {
        self.mirror.leave().await;
    }

    /// Hands a change to the store, and its outcome to the loop.
    fn send(&self, swap: Swap, change: Change, base: Documents) {
        let (swaps, outcome) = (self.mirror.swaps.clone(), self.outcome.clone());
        let mut seen = self.mirror.seen.clone();
        tokio::spawn(async move {
            let (reply, told) = oneshot::channel();
            let result = async {
                let gone = || Error::Unreachable("the mirror has ended".to_owned());
                swaps.send(Request { swap, reply }).await.map_err(|_| gone())?;
                told.await.unwrap_or_else(|_| Err(gone()))
            };
            let result = tokio::time::timeout(PATIENCE, result).await;
            let slow = || Err(Error::Unreachable(format!("no answer within {} s", PATIENCE.as_secs())));
            let result = result.unwrap_or_else(|_| slow());
            if result == Err(Error::Conflict) {
                // What the other has changed is here before long.
                let newer = seen.wait_for(|seen| seen.view.documents.epoch() > base.epoch());
                tokio::time::timeout(PATIENCE, newer).await.ok();
            }
            outcome.send(Outcome { change, base, result }).await.ok();
        });
    }
}

/// The next news, where there is a store. Cancel safe.
pub(super) async fn next(sharing: &mut Option<Sharing>) -> News {
    match sharing {
        Some(sharing) => sharing.next().await,
        None => std::future::pending().await,
    }
}

impl Daemon {
    /// Takes in what has come from the store.
    pub(super) fn news(&mut self, news: News) {
        match news {
            News::Seen => self.take_over_from_store(),
            News::Outcome(outcome) => self.settle_outcome(outcome.0),
        }
    }

    /// Puts into force what the store holds: documents that are wrong leave those before.
    fn take_over_from_store(&mut self) {
        let Some(sharing) = &mut self.sharing else { return };
        let concert = sharing.concert();
        let seen = sharing.seen();
        sharing.roll.note(&seen, Timestamp::now());
        let Seen { view, mode, trouble, .. } = seen;
        let is_known = sharing.decided.as_ref().is_some_and(|decided| decided.decides_as(&view));
        if is_known && sharing.mode == mode && sharing.refused.is_none() {
            // Servers say of themselves how they are again and again: nothing follows from it.
            return self.answer_waiting();
        }
        sharing.decided = Some(Arc::clone(&view));
        if sharing.mode != mode {
            let trouble = trouble.unwrap_or_default();
            match mode {
                Mode::Joined => self.events.tell(event::joined(&format!("revision {}", view.revision))),
                Mode::Alone | Mode::Frozen => self.events.tell(event::alone(&trouble)),
            }
            sharing.mode = mode;
        }
        let mut next = self.watch.state.clone();
        let mut occurrence = None;
        let in_force = self.source.documents().cloned().unwrap_or_default();
        let refused_before = sharing.refused.take();
        sharing.refused = view.malformed.as_ref().map(|problem| alarm(problem));
        if *view.documents != in_force && !view.documents.texts.is_empty() {
            let joined = self.source.join(self.watch.state.config(), Documents::clone(&view.documents));
            let joined = joined.and_then(|proposal| match privileges::beyond(&proposal.config) {
                Some(reason) => Err(Refusal::new(RefusalKind::Conflict, reason)),
                None => Ok(proposal),
            });
            match joined {
                Ok(proposal) => {
                    if view.documents.texts != in_force.texts {
                        occurrence = Some(event::reload(&proposal.notes));
                    }
                    tell_intents(&in_force.intents, &view.documents.intents)
                        .into_iter()
                        .for_each(|told| self.events.tell(told));
                    self.source = proposal.source;
                    if let Some(store) = &proposal.config.store {
                        keep_copy(&store.copy, &view.documents, view.revision);
                    }
                    next.adopt(proposal.config);
                    next.want(view.documents.intents.clone());
                }
                Err(refusal) => {
                    sharing.refused = Some(alarm(&refusal.message));
                }
            }
        }
        if let Some(problem) = sharing.refused.as_ref().filter(|now| refused_before.as_ref() != Some(now)) {
            tracing::error!("{problem}");
        }
        next.hear(concert);
        next.decide();
        if let Some(zone) = next.zone() {
            // The publication tells of its own trouble.
            self.publication.publish(zone).ok();
        }
        self.commit(next, occurrence);
        self.answer_waiting();
    }

    /// Tells the others what this server finds, and how it is.
    pub(super) fn speak(&self) {
        let Some(sharing) = &self.sharing else { return };
        let state = &self.watch.state;
        let Some(decision) = state.decision() else { return };
        let Moment { revision, entries } = state.moment().unwrap_or_default();
        let own = Own {
            verdicts: state.own_verdicts(),
            server: Server {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                epoch: self.source.documents().map_or(0, Documents::epoch),
                revision,
                entries,
                digest: digest(&decision.answers, state.config().epoch()),
                quorum: Some(decision.quorum),
                trouble: decision.frozen.clone().or_else(|| state.blind().map(str::to_owned)),
            },
        };
        sharing.mirror.own.send_if_modified(|before| {
            let changed = *before != own;
            *before = own;
            changed
        });
    }

    /// Has an operator's command changed for all. `Some`: it is none of those, or nobody shares anything.
    pub(super) fn share(&mut self, command: Command, reply: Reply) -> Option<(Command, Reply)> {
        if self.sharing.is_none() {
            return Some((command, reply));
        }
        let (what, ephemeral) = match command {
            Command::Admin { node, admin, reason, by, for_ms, force } => {
                let wish = Wish { admin, reason, by, lasting: for_ms.map(Duration::from_millis) };
                (What::Admin { node: node.to_ascii_lowercase(), wish, force }, false)
            }
            Command::Reload => (What::Reload, false),
            command => match ClusterChange::asked(command) {
                Ok((change, ephemeral)) => {
                    let before = self.addresses(&change.node().unwrap_or_default()).collect();
                    (What::Edit { change, before }, ephemeral)
                }
                Err(command) => return Some((command, reply)),
            },
        };
        if ephemeral {
            let message =
                "--ephemeral is for a server with a file of its own: what the store holds is all servers'";
            reply.send(Err(Refusal::new(RefusalKind::Invalid, message))).ok();
            return None;
        }
        self.begin(Change { what, notes: Vec::new(), tries: 0, reply });
        None
    }

    /// Works out what a change writes, and hands it to the store.
    fn begin(&mut self, mut change: Change) {
        change.tries += 1;
        match self.prepared(&mut change) {
            Ok(None) => self.finish(change),
            Ok(Some(swap)) => {
                let base = self.source.documents().cloned().unwrap_or_default();
                if let Some(sharing) = &self.sharing {
                    sharing.send(swap, change, base);
                }
            }
            Err(refusal) => {
                change.reply.send(Err(refusal)).ok();
            }
        }
    }

    /// `None`: there is nothing to write.
    fn prepared(&mut self, change: &mut Change) -> Result<Option<Swap>, Refusal> {
        let local = match &change.what {
            // What is this server's own takes effect whether the store is there or not.
            What::Reload => {
                let text = self.read_file()?;
                let done = self.reload(Ok(text.clone()))?;
                change.notes = done.notes;
                Some(text)
            }
            _ => None,
        };
        let (documents, sharing) = match (self.source.documents(), &self.sharing) {
            (Some(documents), Some(sharing)) => (documents.clone(), sharing),
            _ => return Ok(None),
        };
        let seen = sharing.seen();
        let writes = match &change.what {
            What::Edit { change: edit, .. } => {
                let Push { writes, notes } = self.source.share(edit)?;
                change.notes = notes;
                writes
            }
            What::Reload => {
                let Push { writes, notes } = self.source.push(local.as_deref().unwrap_or_default())?;
                if !writes.is_empty() {
                    change.notes.retain(|note| note != "nothing has changed");
                }
                change.notes.extend(notes);
                writes
            }
            What::Admin { node, wish, force } => {
                judge(&self.watch.state, node, wish, *force)?;
                let intents = intent::want(&documents.intents, node, wish.clone(), Timestamp::now());
                intent_writes(&documents.intents, &intents)?
            }
            What::Expiry => match intent::expire(&documents.intents, Timestamp::now()) {
                Some((left, _)) => intent_writes(&documents.intents, &left)?,
                None => BTreeMap::new(),
            },
        };
        if writes.is_empty() {
            return Ok(None);
        }
        if !seen.is_up {
            let trouble = seen.trouble.unwrap_or_else(|| "the store is not reached at the moment".to_owned());
            let message = format!(
                "nothing was changed for the cluster: {trouble}; repeat it on a server that `dns-xdp status` shows joined, or when the store is back"
            );
            return Err(Refusal::new(RefusalKind::Failed, message));
        }
        let mut expected = documents.expected();
        if writes.contains_key(INTENT) {
            expected = [(INTENT.to_owned(), documents.revisions.get(INTENT).copied().unwrap_or(0))].into();
        }
        Ok(Some(Swap { expected, writes }))
    }

    fn settle_outcome(&mut self, outcome: Outcome) {
        let Outcome { mut change, base, result } = outcome;
        match result {
            Ok(revision) => {
                let until = Instant::now() + PATIENCE;
                if let Some(sharing) = &mut self.sharing {
                    sharing.waiting.push(Waiting { change, revision, until });
                }
                self.answer_waiting();
            }
            Err(Error::Conflict) => {
                let now = self
                    .sharing
                    .as_ref()
                    .map(|sharing| Documents::clone(&sharing.seen().view.documents))
                    .unwrap_or_default();
                let told = what_changed(&base, &now);
                let same = match &change.what {
                    What::Admin { node, .. } => base.intents.get(node) == now.intents.get(node),
                    What::Expiry => true,
                    What::Edit { .. } | What::Reload => false,
                };
                if same && change.tries < TRIES {
                    // Somebody else has changed something else.
                    self.take_over_from_store();
                    return self.begin(change);
                }
                let message = format!(
                    "nothing was changed, for somebody else changed the cluster at the same time ({}): look at it, and repeat",
                    if told.is_empty() { "what is not known yet".to_owned() } else { told.join(", ") }
                );
                change.notes.clear();
                change.reply.send(Err(Refusal::new(RefusalKind::Conflict, message))).ok();
            }
            Err(error) => {
                let message =
                    format!("{error}; whether it was changed is not known: look with `dns-xdp cluster show`");
                change.reply.send(Err(Refusal::new(RefusalKind::Failed, message))).ok();
            }
        }
    }

    /// Answers those whose change is in force, or is not although it has had its time.
    pub(super) fn answer_waiting(&mut self) {
        let Some(sharing) = &mut self.sharing else { return };
        let epoch = self.source.documents().map_or(0, Documents::epoch);
        let now = Instant::now();
        let (ready, waiting): (Vec<Waiting>, Vec<Waiting>) = std::mem::take(&mut sharing.waiting)
            .into_iter()
            .partition(|waiting| epoch >= waiting.revision || now >= waiting.until);
        sharing.waiting = waiting;
        for Waiting { change, revision, .. } in ready {
            if epoch >= revision {
                self.finish(change);
                continue;
            }
            let why = self.sharing.as_ref().and_then(|sharing| sharing.refused.clone()).unwrap_or_default();
            let message =
                format!("the store has it (revision {revision}), but it is not in force here yet: {why}");
            change.reply.send(Err(Refusal::new(RefusalKind::Failed, message))).ok();
        }
    }

    /// Answers whoever waits for a change that is in force, or for one that changes nothing.
    fn finish(&mut self, change: Change) {
        let Change { what, notes, reply, .. } = change;
        let answer = match what {
            What::Admin { node, wish, .. } => self.granted(&node, wish.admin),
            What::Edit { change, before } => {
                let node = change.node().unwrap_or_default();
                let after: BTreeSet<IpAddr> = self.addresses(&node).collect();
                let left: Vec<IpAddr> = before.difference(&after).copied().collect();
                let cached = |left| milliseconds(self.publication.caches.left(left, Instant::now()));
                Ok(Done { notes, cached_ms: (!left.is_empty()).then(|| cached(left)) })
            }
            What::Reload | What::Expiry => Ok(Done { notes, cached_ms: None }),
        };
        let answer = answer.and_then(|done| serde_json::to_value(done).map_err(|error| failed(error.into())));
        reply.send(answer).ok();
    }

    /// Ends what is wanted of nodes for all, when its time is over.
    pub(super) fn expire_for_all(&mut self) {
        let over = self
            .source
            .documents()
            .is_some_and(|documents| intent::expire(&documents.intents, Timestamp::now()).is_some());
        if over && self.watch.state.is_joined() {
            let (reply, _nobody) = oneshot::channel();
            self.begin(Change { what: What::Expiry, notes: Vec::new(), tries: 0, reply });
        }
    }

    /// `status --cluster`
    pub(super) fn cluster_status(&self) -> Result<Value, Refusal> {
        let Some(sharing) = &self.sharing else {
            let message = "this server shares no store: see [cluster] in the README";
            return Err(Refusal::new(RefusalKind::Conflict, message));
        };
        let own = sharing.mirror.own.borrow().server.clone();
        let nodes = self.watch.state.config().cluster.nodes.iter().map(|node| node.name.as_str());
        let roll = sharing.roll.call(&sharing.seen(), (&sharing.server, own), nodes, Timestamp::now());
        Ok(json!(roll))
    }

    /// An older store is believed from now on.
    pub(super) fn accept_store(&self) -> Result<Value, Refusal> {
        match &self.sharing {
            Some(sharing) if sharing.seen().mode == Mode::Frozen => {
                sharing.mirror.accept();
                Ok(json!(Done::default()))
            }
            Some(_) => {
                let notes = vec!["the store is believed already".to_owned()];
                Ok(json!(Done { notes, cached_ms: None }))
            }
            None => Err(Refusal::new(RefusalKind::Conflict, "this server shares no store")),
        }
    }
}

fn intent_writes(before: &Intents, after: &Intents) -> Result<BTreeMap<String, Vec<u8>>, Refusal> {
    if before == after {
        return Ok(BTreeMap::new());
    }
    let text = serde_json::to_vec_pretty(after).map_err(|error| failed(error.into()))?;
    Ok([(INTENT.to_owned(), text)].into())
}

fn tell_intents(before: &Intents, after: &Intents) -> Vec<crate::event::Occurrence> {
    let changed = after.iter().filter(|(node, intent)| before.get(*node) != Some(intent));
    changed.map(|(node, intent)| event::admin(node, intent)).collect()
}

/// What another has changed, for whoever was refused because of it.
fn what_changed(before: &Documents, after: &Documents) -> Vec<String> {
    let mut told = differences(&before.text(), &after.text());
    for (node, intent) in &after.intents {
        if before.intents.get(node) != Some(intent) {
            told.push(format!("{node} is to be {intent}"));
        }
    }
    told
}

fn alarm(problem: &str) -> String {
    format!("the store's documents are refused, those before stay in force: {}", problem.replace('\n', "; "))
}
