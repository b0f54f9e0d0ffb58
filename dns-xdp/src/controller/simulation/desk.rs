//! A server's place at the store, in virtual time: it opens sessions, keeps its lease, writes its verdicts and takes in what
//! it is told, in the rhythm and with the patience of the daemon's own [`Footing`].
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use jiff::Timestamp;

use super::store_model::StoreModel;
use crate::intent::Intent;
use crate::store::abreast::{Abreast, Extent};
use crate::store::agreement::Verdicts;
use crate::store::documents::INTENT;
use crate::store::footing::{Footing, Stand};
use crate::store::mirror::{Mode, Seen, View};
use crate::store::{Entry, Error, Listing, SERVERS, Server, Swap, VERDICTS};

/// From one try to the next.
const PAUSE: Duration = Duration::from_millis(200);
/// What a server says of itself is written no more often: as the mirror has it.
const LEISURE: Duration = Duration::from_millis(500);
const LATENCY_MS: std::ops::RangeInclusive<u64> = 1..=40;
/// What is on its way over a link that is cut is sent again after this.
const RESENT: Duration = Duration::from_millis(100);

/// What is the matter with a server's way to the store.
#[derive(Debug, Clone, Default)]
pub(super) struct Way {
    pub(super) cut: bool,
    /// Writes under a lease get no answer, nor take place.
    pub(super) puts_hang: bool,
    /// The watch tells everything so much later.
    pub(super) slow: Duration,
}

/// An operator's wish on its way.
#[derive(Debug, Clone)]
pub(super) struct Wished {
    pub(super) node: String,
    pub(super) intent: Intent,
}

#[derive(Debug)]
pub(super) struct Desk {
    name: String,
    lease: Duration,
    pub(super) footing: Footing,
    pub(super) view: Arc<View>,
    /// What the server finds.
    pub(super) said: Verdicts,
    /// What it says of itself, where that is counted.
    pub(super) status: Option<Server>,
    listing: Listing,
    session: Option<Session>,
    calls: Vec<Call>,
    retry: Duration,
    /// Swaps that took place, and whether the operator was told so.
    pub(super) swapped: Vec<(Wished, bool)>,
    /// Messages of the watch, and their changes.
    pub(super) messages: u64,
    pub(super) bytes_heard: u64,
}

#[derive(Debug)]
struct Session {
    lease: i64,
    written: Verdicts,
    told: Option<Server>,
    told_at: Duration,
    silent: bool,
    keep_at: Duration,
    compare_at: Duration,
    abreast: Abreast,
}

#[derive(Debug)]
struct Call {
    what: What,
    asked: Duration,
    due: Duration,
    /// It gets no answer.
    doomed: bool,
}

#[derive(Debug)]
enum What {
    Lease,
    First(i64, Verdicts, Duration),
    List(i64, Verdicts, Duration),
    Keep,
    Put(Verdicts),
    Tell(Server),
    Compare,
    Watch,
    Swap(Swap, Wished),
}

impl Desk {
    /// Of a server that starts, from the documents that it has a copy of.
    pub(super) fn new(name: String, lease: Duration, view: View, now: Duration) -> Self {
        Desk {
            name,
            lease,
            footing: Footing::new(lease),
            view: Arc::new(view),
            said: Verdicts::default(),
            status: None,
            listing: Listing::default(),
            session: None,
            calls: Vec::new(),
            retry: now,
            swapped: Vec::new(),
            messages: 0,
            bytes_heard: 0,
        }
    }

    pub(super) fn mode(&self, now: Duration) -> Mode {
        match self.footing.stand(now) {
            Stand::Joined => Mode::Joined,
            Stand::Probation(_) | Stand::Alone => Mode::Alone,
        }
    }

    pub(super) fn seen(&self, now: Duration) -> Seen {
        let (view, mode) = (Arc::clone(&self.view), self.mode(now));
        Seen { view, mode, trouble: None, since: Timestamp::UNIX_EPOCH, is_up: self.session.is_some() }
    }

    /// The watch of the session under way tells nothing any more.
    pub(super) fn silence(&mut self) {
        if let Some(session) = &mut self.session {
            session.silent = true;
        }
    }

    pub(super) fn is_silent(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.silent)
    }

    pub(super) fn lease(&self) -> Option<i64> {
        self.session.as_ref().map(|session| session.lease)
    }

    fn call(&mut self, what: What, now: Duration, random: &mut Rng) {
        let due = now + Duration::from_millis(random.u64(LATENCY_MS));
        self.calls.push(Call { what, asked: now, due, doomed: false });
    }

    fn calls(&self, wanted: fn(&What) -> bool) -> bool {
        self.calls.iter().any(|call| wanted(&call.what))
    }

    /// When something is to be done here next.
    pub(super) fn next(&self, store: &StoreModel, now: Duration) -> Option<Duration> {
        let calls = self.calls.iter().map(|call| call.due).min();
        let own = match &self.session {
            None => Some(self.retry).filter(|_| self.calls.is_empty()),
            Some(session) => {
                let keep = Some(session.keep_at).filter(|_| !self.calls(|what| matches!(what, What::Keep)));
                let compare =
                    Some(session.compare_at).filter(|_| !self.calls(|what| matches!(what, What::Compare)));
                let tell = Some(session.told_at + LEISURE).filter(|_| self.has_to_tell(session));
                let at_once = self.has_to_put(session) || self.has_to_watch(session, store);
                keep.into_iter().chain(compare).chain(tell).chain(at_once.then_some(now)).min()
            }
        };
        calls.into_iter().chain(own).chain(self.footing.turns(now)).min()
    }

    fn has_to_put(&self, session: &Session) -> bool {
        session.written != self.said && !self.calls(|what| matches!(what, What::Put(_)))
    }

    fn has_to_tell(&self, session: &Session) -> bool {
        session.told != self.status && !self.calls(|what| matches!(what, What::Tell(_)))
    }

    fn has_to_watch(&self, session: &Session, store: &StoreModel) -> bool {
        !session.silent
            && store.revision() > self.listing.revision
            && !self.calls(|what| matches!(what, What::Watch))
    }

    /// Does what is due.
    pub(super) fn step(&mut self, store: &mut StoreModel, way: &Way, now: Duration, random: &mut Rng) {
        while let Some(place) = self.calls.iter().position(|call| call.due <= now) {
            let call = self.calls.swap_remove(place);
            self.end(call, store, way, now, random);
        }
        let Some(session) = &self.session else {
            if self.calls.is_empty() && self.retry <= now {
                self.call(What::Lease, now, random);
            }
            return;
        };
        let (put, watch) = (self.has_to_put(session), self.has_to_watch(session, store));
        let (keep, compare) = (session.keep_at <= now, session.compare_at <= now);
        let tell = session.told_at + LEISURE <= now && self.has_to_tell(session);
        if let Some(status) = self.status.clone().filter(|_| tell) {
            self.call(What::Tell(status), now, random);
        }
        if put {
            self.call(What::Put(self.said.clone()), now, random);
        }
        if watch {
            self.call(What::Watch, now, random);
            if let Some(call) = self.calls.last_mut() {
                call.due += way.slow;
            }
        }
        if keep && !self.calls(|what| matches!(what, What::Keep)) {
            self.call(What::Keep, now, random);
        }
        if compare && !self.calls(|what| matches!(what, What::Compare)) {
            self.call(What::Compare, now, random);
        }
    }

    /// Has an operator's wish changed for all, if there is a session; whether it was tried.
    pub(super) fn wish(&mut self, wished: Wished, now: Duration, random: &mut Rng) -> bool {
        if self.session.is_none() {
            return false;
        }
        let documents = &self.view.documents;
        let mut intents = documents.intents.clone();
        intents.insert(wished.node.clone(), wished.intent.clone());
        let text = serde_json::to_vec(&intents).expect("intents are JSON");
        let revision = documents.revisions.get(INTENT).copied().unwrap_or(0);
        let swap = Swap {
            expected: [(INTENT.to_owned(), revision)].into(),
            writes: [(INTENT.to_owned(), text)].into(),
        };
        self.call(What::Swap(swap, wished), now, random);
        true
    }

    /// A call has come to its end, if it gets an answer.
    fn end(&mut self, mut call: Call, store: &mut StoreModel, way: &Way, now: Duration, random: &mut Rng) {
        if call.doomed {
            return self.close(now);
        }
        let is_put = matches!(call.what, What::Put(_) | What::First(..));
        if way.cut || store.lost || is_put && way.puts_hang {
            if matches!(call.what, What::Watch) {
                call.due = now + RESENT;
            } else {
                // What was asked for may have been done all the same.
                if way.cut && !store.lost && !is_put && random.bool() {
                    self.done(&call, store, now, false).ok();
                }
                let patience = if way.puts_hang && is_put { self.footing.patience() } else { self.lease / 5 };
                (call.doomed, call.due) = (true, call.asked.max(now.saturating_sub(patience)) + patience);
            }
            self.calls.push(call);
            return;
        }
        if self.done(&call, store, now, true).is_err() {
            return self.close(now);
        }
        match call.what {
            What::Lease => {
                let lease = store.lease(self.lease, now);
                self.call(What::First(lease, self.said.clone(), call.asked), now, random);
            }
            What::First(lease, said, asked) => self.call(What::List(lease, said, asked), now, random),
            _ => {}
        }
    }

    /// What a call does in the store, and, if it is `heard`, here.
    fn done(&mut self, call: &Call, store: &mut StoreModel, now: Duration, heard: bool) -> Result<(), Error> {
        match &call.what {
            What::Compare | What::Watch | What::List(..) if !heard => {}
            What::Lease => {}
            What::Compare => {
                let Some(session) = &mut self.session else { return Ok(()) };
                session.compare_at = now + self.footing.comparison();
                if session.abreast.is_behind(store.extent(), Extent::of(&self.listing)) {
                    return Err(Error::Unreachable("the watch is silent".to_owned()));
                }
            }
            What::First(lease, said, _) => {
                let mut writes = verdicts(&self.name, said);
                let server = serde_json::to_vec(&Server::default()).expect("a server is JSON");
                writes.insert(format!("{SERVERS}{}", self.name), server);
                store.put(writes, *lease)?;
            }
            What::List(lease, said, asked) => {
                self.listing = store.listing.clone();
                self.view = Arc::new(View::anew(&self.listing, &self.view.documents));
                self.footing.confirm(*asked, now);
                self.session = Some(Session {
                    lease: *lease,
                    written: said.clone(),
                    told: None,
                    told_at: now,
                    silent: false,
                    keep_at: now + self.footing.rhythm(),
                    compare_at: now + self.footing.comparison(),
                    abreast: Abreast::default(),
                });
            }
            What::Watch => {
                let batch = store.since(self.listing.revision);
                self.messages += 1;
                let length = |(key, entry): &(String, Option<Entry>)| {
                    key.len() + entry.as_ref().map_or(0, |entry| entry.value.len())
                };
                self.bytes_heard += batch.changes.iter().map(length).sum::<usize>() as u64;
                self.listing.apply(batch);
                self.view = Arc::new(View::read(&self.listing, &self.view));
            }
            What::Swap(swap, wished) => {
                if store.swap(swap.clone()).is_ok() {
                    self.swapped.push((wished.clone(), heard));
                }
            }
            What::Tell(status) => {
                let Some(session) = &mut self.session else { return Ok(()) };
                let text = serde_json::to_vec(status).expect("a server is JSON");
                store.put([(format!("{SERVERS}{}", self.name), text)].into(), session.lease)?;
                (session.told, session.told_at) = (Some(status.clone()), now);
            }
            What::Keep | What::Put(_) => {
                let Some(session) = &mut self.session else { return Ok(()) };
                if let What::Put(said) = &call.what {
                    store.put(verdicts(&self.name, said), session.lease)?;
                    session.written = said.clone();
                } else {
                    store.keep_alive(session.lease, now)?;
                    if heard {
                        self.footing.confirm(call.asked, now);
                        session.keep_at = now + self.footing.rhythm();
                    }
                }
            }
        }
        Ok(())
    }

    /// The session is over, and what was asked for in it.
    fn close(&mut self, now: Duration) {
        self.session = None;
        self.calls.clear();
        self.retry = now + PAUSE;
    }
}

fn verdicts(server: &str, said: &Verdicts) -> BTreeMap<String, Vec<u8>> {
    let text = serde_json::to_vec(said).expect("verdicts are JSON");
    [(format!("{VERDICTS}{server}"), text)].into()
}
