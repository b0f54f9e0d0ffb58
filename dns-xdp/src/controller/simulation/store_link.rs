//! A server's link to the store, in virtual time: it performs what the daemon's own [`Session`] asks for, with latency
//! and faults.
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;

use super::store_model::StoreModel;
use crate::controller::core::WorkId;
use crate::store::client::session::{Answer, Call, Changing, Session};
use crate::store::client::{Mode, Own, Seen, Settings, View};
use crate::store::identity::Instance;
use crate::store::{Entry, Error, Known, Revision, Swap};

const LATENCY_MS: std::ops::RangeInclusive<u64> = 1..=40;
/// The pause after which a message over a cut link is sent again.
const RESENT: Duration = Duration::from_millis(100);

/// The faults of a server's link to the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    pub(super) cut: bool,
    /// Whether writes under a lease get no answer and have no effect.
    pub(super) puts_hang: bool,
    /// The delay of the watch.
    pub(super) slow: Duration,
}

/// The link of one server.
#[derive(Debug)]
pub(super) struct StoreLink {
    session: Session,
    lease: Duration,
    own: Own,
    pending: Vec<Pending>,
    /// The watch has reported every change up to this revision; `None`: there is no watch.
    watched: Option<Revision>,
    /// Whether the watch no longer reports anything.
    silent: bool,
    /// Swaps that took effect, and whether the core got the answer.
    pub(super) swapped: Vec<(Swap, bool)>,
    /// The results of changes.
    pub(super) results: Vec<(WorkId, Result<Revision, Error>)>,
    /// The messages of the watch, and the changes in them.
    pub(super) messages: u64,
    pub(super) bytes_heard: u64,
}

/// A message to the store, or from it.
#[derive(Debug)]
struct Pending {
    what: What,
    asked: Duration,
    due: Duration,
    /// Whether it gets no answer.
    doomed: bool,
}

#[derive(Debug)]
enum What {
    Call(Call),
    /// A message of the watch.
    Changes,
    Swap(WorkId, Swap),
}

impl StoreLink {
    /// The link of a starting server, with the server's copy of the store.
    pub(super) fn new(
        (server, instance): (String, Instance),
        lease: Duration,
        known: Known,
        now: Duration,
    ) -> Self {
        let settings = Settings { server, instance, lease };
        StoreLink {
            session: Session::new(settings, known, now),
            lease,
            own: Own::default(),
            pending: Vec::new(),
            watched: None,
            silent: false,
            swapped: Vec::new(),
            results: Vec::new(),
            messages: 0,
            bytes_heard: 0,
        }
    }

    pub(super) fn view(&self) -> &Arc<View> {
        self.session.view()
    }

    pub(super) fn mode(&self, now: Duration) -> Mode {
        self.session.mode(now).0
    }

    pub(super) fn seen(&self, now: Duration) -> Seen {
        let ((mode, trouble), view) = (self.session.mode(now), Arc::clone(self.session.view()));
        let (since, offered) = (Timestamp::UNIX_EPOCH, self.session.offered().cloned());
        Seen { view, mode, trouble, since, offered, is_up: self.session.is_open() }
    }

    /// Ends the session from the store's side.
    pub(super) fn lose(&mut self, now: Duration) {
        self.session.lose(now, "the store was restored".to_owned());
        self.forget_if_over();
    }

    /// Accepts the store's documents as an operator; `false`: there is nothing to accept.
    pub(super) fn accept(&mut self) -> bool {
        self.session.accept();
        self.session.offered().is_some()
    }

    pub(super) fn decide(&mut self) {
        self.session.decide();
    }

    /// The server's entry that has to be written.
    pub(super) fn own(&self) -> &Own {
        &self.own
    }

    pub(super) fn set_own(&mut self, own: Own) {
        self.session.set_own(own.clone());
        self.own = own;
    }

    /// Makes the watch of the present session silent.
    pub(super) fn silence(&mut self) {
        self.silent = self.watched.is_some();
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    pub(super) fn lease(&self) -> Option<i64> {
        self.session.lease()
    }

    fn send(&mut self, what: What, now: Duration, random: &mut Rng) {
        let due = now + Duration::from_millis(random.u64(LATENCY_MS));
        self.pending.push(Pending { what, asked: now, due, doomed: false });
    }

    /// The time of the link's next event.
    pub(super) fn next(&self, store: &StoreModel, now: Duration) -> Option<Duration> {
        let pending = self.pending.iter().map(|pending| pending.due).min();
        let changes = self.has_changes(store).then_some(now);
        pending.into_iter().chain(changes).chain(self.session.next(now)).min()
    }

    /// Whether the watch has unreported changes that are not on their way.
    fn has_changes(&self, store: &StoreModel) -> bool {
        let is_on_its_way = |pending: &Pending| matches!(pending.what, What::Changes);
        let is_behind = self.watched.is_some_and(|watched| store.revision() > watched);
        !self.silent && is_behind && !self.pending.iter().any(is_on_its_way)
    }

    /// Performs the events whose time has come.
    pub(super) fn step(&mut self, store: &mut StoreModel, way: &Way, now: Duration, random: &mut Rng) {
        while let Some(place) = self.pending.iter().position(|pending| pending.due <= now) {
            let pending = self.pending.swap_remove(place);
            self.arrive(pending, store, way, now, random);
            self.forget_if_over();
        }
        for call in self.session.due(now) {
            self.send(What::Call(call), now, random);
        }
        if self.has_changes(store) {
            self.send(What::Changes, now + way.slow, random);
        }
    }

    /// Begins to change documents, if there is a session.
    pub(super) fn swap(&mut self, work: WorkId, swap: Swap, now: Duration, random: &mut Rng) {
        match self.session.changing() {
            Changing::Possible => self.send(What::Swap(work, swap), now, random),
            Changing::Waits | Changing::Refused(_) => self.results.push((work, Err(gone()))),
        }
    }

    /// Delivers a message, if it gets an answer.
    fn arrive(
        &mut self,
        mut pending: Pending,
        store: &mut StoreModel,
        way: &Way,
        now: Duration,
        random: &mut Rng,
    ) {
        let is_put = matches!(pending.what, What::Call(Call::Put { .. }));
        if !pending.doomed && (way.cut || store.lost || is_put && way.puts_hang) {
            if matches!(pending.what, What::Changes) {
                pending.due = now + RESENT;
            } else {
                // The request may have taken effect without an answer.
                if way.cut && !store.lost && !is_put && random.bool() {
                    self.perform_unheard(&pending.what, store, now);
                }
                let patience = match &pending.what {
                    What::Call(call) => self.session.patience(call).unwrap_or(self.lease / 5),
                    _ => self.lease / 5,
                };
                (pending.doomed, pending.due) = (true, (pending.asked + patience).max(now));
            }
            return self.pending.push(pending);
        }
        let Pending { what, asked, doomed, .. } = pending;
        match what {
            What::Swap(work, _) if doomed => {
                self.results.push((work, Err(gone())));
                self.session.lose(now, "no answer".to_owned());
            }
            What::Swap(work, swap) => {
                let result = store.swap(swap.clone());
                if result.is_ok() {
                    self.swapped.push((swap, true));
                }
                self.results.push((work, result));
            }
            What::Changes => self.receive_changes(store, now),
            What::Call(_) if doomed => self.session.answered(asked, now, Err(gone())),
            What::Call(call) => {
                if let Call::Watch { from } = call {
                    (self.watched, self.silent) = (Some(from - 1), false);
                }
                self.session.answered(asked, now, perform(call, store, now));
            }
        }
    }

    /// Delivers the changes of the watch.
    fn receive_changes(&mut self, store: &StoreModel, now: Duration) {
        let Some(watched) = &mut self.watched else { return };
        let batch = store.since(*watched);
        *watched = batch.revision;
        self.messages += 1;
        let length = |(key, entry): &(String, Option<Entry>)| {
            key.len() + entry.as_ref().map_or(0, |entry| entry.value.len())
        };
        self.bytes_heard += batch.changes.iter().map(length).sum::<usize>() as u64;
        self.session.changed(now, Ok(vec![batch]));
    }

    /// Performs a request in the store, but loses the answer.
    fn perform_unheard(&mut self, what: &What, store: &mut StoreModel, now: Duration) {
        match what {
            What::Swap(_, swap) if store.swap(swap.clone()).is_ok() => {
                self.swapped.push((swap.clone(), false));
            }
            What::Call(call) => drop(perform(call.clone(), store, now)),
            _ => {}
        }
    }

    /// Drops the messages of a session that is over.
    fn forget_if_over(&mut self) {
        if !self.session.is_apart() {
            return;
        }
        (self.watched, self.silent) = (None, false);
        for pending in self.pending.drain(..) {
            if let What::Swap(work, _) = pending.what {
                self.results.push((work, Err(gone())));
            }
        }
    }
}

fn perform(call: Call, store: &mut StoreModel, now: Duration) -> Result<Answer, Error> {
    Ok(match call {
        Call::Connect => Answer::Connected,
        Call::List => Answer::Listing(store.listing.clone()),
        Call::Had { key, revision } => Answer::Had(Some(store.had(&key, revision))),
        Call::Lease(time) => Answer::Lease(store.lease(time, now)),
        Call::Put { expected, writes, lease } => {
            store.put(&expected, writes, lease)?;
            Answer::Written
        }
        Call::Accept(swap) => {
            store.swap(swap)?;
            Answer::Accepted
        }
        Call::Watch { .. } => Answer::Watching,
        Call::KeepAlive(lease) => {
            store.keep_alive(lease, now)?;
            Answer::Kept
        }
        Call::Extent => Answer::Extent(store.extent()),
    })
}

/// The error if it is not known whether a change took effect.
fn gone() -> Error {
    Error::Unreachable("the session is over".to_owned())
}
