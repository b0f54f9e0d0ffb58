//! A server's session with its store, without input or output: the next calls, and the consequences of the answers.
//! This module is pure.
//!
//! The client performs the calls; the simulation performs them in virtual time. Both drop the calls of a session that
//! has ended, and do not pass on their answers.
//!
//! ```text
//! connect ─► list ─► check its history ─► lease ─► write ours ─► list ─► watch ─► open: renew, write ours, compare
//!             │ older than what was seen before, or another server has this name
//!             └─► wait, and list again
//! ```
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use super::call::{Answer, Call};
use super::membership::{Membership, MembershipState};
use super::watch_lag::{Extent, WatchLag};
use crate::fnv::Fnv1a;
use crate::store::continuity::{self, ACCEPTED, Accepted, Known};
use crate::store::documents::{CONCERNS, INTENT};
use crate::store::identity::{Instance, namesake};
use crate::store::view::View;
use crate::store::votes::Verdicts;
use crate::store::{Batch, Documents, Error, Lease, Listing, Revision, SERVERS, Server, Swap, VERDICTS};

/// The pauses between the end of a session and the next try: the first and the longest. Each failed try doubles the
/// pause.
const RETRY_INTERVALS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(1)];
/// The shortest time between two writes of a server's status, unless its verdicts change.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// The relation of this server to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Its lease is confirmed and its view is up to date: it decides together with the other servers.
    Joined,
    /// It has lost the store, or found it again a moment ago, and judges by itself.
    Alone,
    /// The store is older than the state seen before, and is not trusted until an operator accepts it.
    Frozen,
}

/// The entries that this server writes into the store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Own {
    /// The verdicts of its probes.
    pub verdicts: Verdicts,
    /// Its status.
    pub server: Server,
}

/// The settings of a session.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The name of this server.
    pub server: String,
    /// Which server of this name it is.
    pub instance: Instance,
    /// How long the other servers use the verdicts of this server while it is silent.
    pub lease: Duration,
}

/// Whether the session can make a change to the documents now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Changing {
    /// The store can take the change.
    Possible,
    /// A session is being opened: the change waits.
    Waits,
    /// The change is refused, for this reason.
    Refused(&'static str),
}

/// The session of one server, and its place among the others. Times are durations since an origin that the caller
/// chooses.
#[derive(Debug)]
pub(crate) struct Session {
    settings: Settings,
    membership: Membership,
    own: Own,
    view: Arc<View>,
    /// Whether an operator accepts the store's documents.
    accepts: bool,
    /// Why the store is not trusted.
    frozen: Option<String>,
    /// The documents that an operator may accept, if the store is not trusted or has lost some.
    offered: Option<Arc<Documents>>,
    /// Another server with this server's name, and since when it is known.
    namesake: Option<(Instance, Duration)>,
    /// Why the last session ended, or why there has been none.
    lost: String,
    stage: Stage,
    /// The number of tries that have failed in a row.
    tries: u32,
    /// The calls to make now.
    calls: Vec<Call>,
}

/// The stage of the session.
#[derive(Debug)]
enum Stage {
    /// There is no session; the next one is tried at this time.
    Apart { retry: Duration },
    /// A connection is being made.
    Connecting,
    /// The store is being listed for the first time.
    Looking,
    /// The store's history is being asked for the newest document seen.
    Verifying { listing: Listing, document: (String, Revision) },
    /// The store is not trusted, or another server has this server's name. The store is listed again at this time.
    Doubting { again: Duration, listing: Listing },
    /// An operator's acceptance is being written.
    Accepting,
    /// A lease is being asked for. `found`: the revision of this server's earlier status.
    Leasing { found: Revision },
    /// This server's verdicts are being written, before the view is listed. The view then has the verdicts of all
    /// servers.
    Writing(Grant),
    /// The view is being listed.
    Listing(Grant),
    /// A watch of the changes after the view is being started.
    Watching(Grant, Listing),
    /// The session is open.
    Open(Box<Open>),
}

/// A lease, and the entries that were written under it.
#[derive(Debug)]
struct Grant {
    lease: i64,
    /// When the lease was asked for.
    asked: Duration,
    written: Own,
}

#[derive(Debug)]
struct Open {
    lease: i64,
    listing: Listing,
    written: Own,
    written_at: Duration,
    /// The entries that are being written.
    writing: Option<Own>,
    /// When the lease is next kept alive; `None`: a renewal is under way.
    keep_at: Option<Duration>,
    /// When the view is next compared with the store; `None`: a comparison is under way.
    compare_at: Option<Duration>,
    watch_lag: WatchLag,
}

impl Session {
    /// Creates a session that begins with the known state of the store.
    pub(crate) fn new(settings: Settings, known: Known, now: Duration) -> Self {
        Session {
            membership: Membership::new(settings.lease),
            settings,
            own: Own::default(),
            view: Arc::new(View::known(known)),
            accepts: false,
            frozen: None,
            offered: None,
            namesake: None,
            lost: "the store has not been reached yet".to_owned(),
            stage: Stage::Apart { retry: now },
            tries: 0,
            calls: Vec::new(),
        }
    }

    /// Notes that the server decides from now on: [`Membership::decide`].
    pub(crate) fn decide(&mut self) {
        self.membership.decide();
    }

    /// Accepts the store's documents for an operator. This counts on all servers, because it is written into the store.
    pub(crate) fn accept(&mut self) {
        self.accepts = self.offered.as_ref().is_some_and(|offered| !offered.texts.is_empty());
    }

    /// The documents that an operator may accept.
    pub(crate) fn offered(&self) -> Option<&Arc<Documents>> {
        self.offered.as_ref()
    }

    /// Sets the entries to write, now and in every session until newer ones replace them.
    pub(crate) fn set_own(&mut self, own: Own) {
        self.own = own;
    }

    /// Returns all calls to make now.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Call> {
        let mut calls = std::mem::take(&mut self.calls);
        match &mut self.stage {
            Stage::Apart { retry } if *retry <= now => {
                self.stage = Stage::Connecting;
                calls.push(Call::Connect);
            }
            Stage::Doubting { listing, .. } if self.accepts => {
                let accepted = Accepted::next(self.view.origin, listing, &self.settings.server);
                calls.push(Call::Accept(acceptance(&accepted, listing)));
                (self.accepts, self.stage) = (false, Stage::Accepting);
            }
            Stage::Doubting { again, .. } if *again <= now => {
                self.stage = Stage::Looking;
                calls.push(Call::List);
            }
            Stage::Open(open) => {
                if std::mem::take(&mut self.accepts) {
                    let accepted = Accepted::next(self.view.origin, &open.listing, &self.settings.server);
                    calls.push(Call::Accept(acceptance(&accepted, &open.listing)));
                }
                if open.write_at(&self.own, now).is_some_and(|at| at <= now) {
                    let mut changed = writes(&self.own, &self.settings);
                    if self.own.verdicts == open.written.verdicts {
                        changed.remove(&format!("{VERDICTS}{}", self.settings.server));
                    }
                    open.writing = Some(self.own.clone());
                    let expected = BTreeMap::new();
                    calls.push(Call::Put { expected, writes: changed, lease: open.lease });
                }
                if open.keep_at.take_if(|at| *at <= now).is_some() {
                    calls.push(Call::KeepAlive(open.lease));
                }
                if open.compare_at.take_if(|at| *at <= now).is_some() {
                    calls.push(Call::Extent);
                }
            }
            _ => {}
        }
        calls
    }

    /// The time when a call is [due](Session::due) next or [`Session::mode`] changes, if nothing else happens.
    pub(crate) fn next(&self, now: Duration) -> Option<Duration> {
        let own = match &self.stage {
            _ if !self.calls.is_empty() => Some(now),
            Stage::Apart { retry } => Some(*retry),
            Stage::Doubting { again, .. } => Some(if self.accepts { now } else { *again }),
            Stage::Open(_) if self.accepts => Some(now),
            Stage::Open(open) => {
                let write_at = open.write_at(&self.own, now);
                [write_at, open.keep_at, open.compare_at].into_iter().flatten().min()
            }
            _ => None,
        };
        let mut turns = self.membership.turns(now);
        if let MembershipState::Probation(left) = self.membership.state(now) {
            // The mode's text names the seconds that are left.
            let second = Duration::from_nanos(u64::from(left.subsec_nanos()));
            let second = if second.is_zero() { Duration::from_secs(1) } else { second };
            turns = turns.map(|turns| turns.min(now + second));
        }
        let known = self.namesake.as_ref().map(|(_, since)| *since + self.namesake_patience());
        own.into_iter().chain(turns).chain(known.filter(|known| *known > now)).min()
    }

    /// Takes the answer to a call; `asked`: when the call began.
    pub(crate) fn answered(&mut self, asked: Duration, now: Duration, answer: Result<Answer, Error>) {
        match answer {
            Ok(answer) => self.go_on(asked, now, answer),
            // This server's earlier status was removed, or another server of this name has written first.
            Err(Error::Conflict) if matches!(self.stage, Stage::Writing(_)) => {
                self.stage = Stage::Looking;
                self.calls.push(Call::List);
            }
            // The store has changed meanwhile; perhaps an operator has accepted it on another server.
            Err(Error::Conflict) if matches!(self.stage, Stage::Accepting) => {
                (self.accepts, self.stage) = (true, Stage::Looking);
                self.calls.push(Call::List);
            }
            Err(Error::Conflict) if self.is_open() => {}
            Err(error) => self.lose(now, error.to_string()),
        }
    }

    /// Takes changes of the open session's watch, or its end.
    pub(crate) fn changed(&mut self, now: Duration, batches: Result<Vec<Batch>, Error>) {
        let (Stage::Open(open), Ok(batches)) = (&mut self.stage, &batches) else {
            if let Err(error) = batches {
                self.lose(now, error.to_string());
            }
            return;
        };
        batches.iter().cloned().for_each(|batch| open.listing.apply(batch));
        let view = View::read(&open.listing, &self.view);
        let says = view.servers.get(&self.settings.server).map(|said| said.instance.as_str());
        let is_taken = says.is_some_and(|says| !says.is_empty() && says != self.settings.instance.id);
        self.offered = offered(&view, &open.listing);
        self.show(view);
        if is_taken {
            self.lose(now, "another server has this one's name".to_owned());
        }
    }

    /// Ends the session, for this reason.
    pub(crate) fn lose(&mut self, now: Duration, reason: String) {
        self.lost = reason;
        self.stage = Stage::Apart { retry: now + self.pause() };
        // The documents that an operator has seen may have changed.
        self.accepts = false;
        self.tries = self.tries.saturating_add(1);
        self.calls.clear();
    }

    /// The pause before the next try. It differs from server to server, so that they do not all come back at once.
    fn pause(&self) -> Duration {
        let [first, longest] = RETRY_INTERVALS;
        let pause = (first * 2_u32.saturating_pow(self.tries)).min(longest);
        let mut hash = Fnv1a::new();
        hash.add(self.settings.server.bytes().chain(self.tries.to_be_bytes()));
        // Between 3/4 and 5/4 of the pause.
        let share = u32::try_from(hash.finish() % 512).unwrap_or(0);
        pause * 3 / 4 + pause * share / 1024
    }

    fn go_on(&mut self, asked: Duration, now: Duration, answer: Answer) {
        let (stage, call) = match (std::mem::replace(&mut self.stage, Stage::Looking), answer) {
            (Stage::Connecting, Answer::Connected) => (Stage::Looking, Some(Call::List)),
            (Stage::Looking, Answer::Listing(listing)) => self.look(now, listing),
            (Stage::Verifying { listing, document: (key, revision) }, Answer::Had(had)) => {
                if had == Some(false) {
                    self.distrust(now, continuity::never_had(&key, revision, &listing), listing)
                } else {
                    self.look_for_namesake(now, listing)
                }
            }
            (Stage::Accepting, Answer::Accepted) => (Stage::Looking, Some(Call::List)),
            (Stage::Leasing { found }, Answer::Lease(Lease { id: lease, time })) => {
                self.membership.grant(time);
                let written = self.own.clone();
                let writes = writes(&written, &self.settings);
                let expected = [(key_of(&self.settings.server), found)].into();
                let put = Call::Put { expected, writes, lease };
                (Stage::Writing(Grant { lease, asked, written }), Some(put))
            }
            (Stage::Writing(grant), Answer::Written) => (Stage::Listing(grant), Some(Call::List)),
            (Stage::Listing(grant), Answer::Listing(listing)) => {
                if namesake(&listing, &self.settings.server, &self.settings.instance).is_some() {
                    return self.lose(now, "another server has this one's name".to_owned());
                }
                let from = listing.revision + 1;
                (Stage::Watching(grant, listing), Some(Call::Watch { from }))
            }
            (Stage::Watching(grant, listing), Answer::Watching) => {
                (Stage::Open(Box::new(self.open(grant, listing, now))), None)
            }
            (Stage::Open(mut open), answer) => {
                match answer {
                    Answer::Written => {
                        if let Some(written) = open.writing.take() {
                            (open.written, open.written_at) = (written, now);
                        }
                    }
                    Answer::Kept => {
                        self.membership.confirm(asked, now);
                        open.keep_at = Some(now + self.membership.rhythm());
                    }
                    Answer::Extent(extent) => {
                        if open.watch_lag.is_behind(extent, Extent::of(&open.listing)) {
                            let newest = extent.newest;
                            let reason = format!(
                                "the watch is silent, and the store has changed at revision {newest}"
                            );
                            return self.lose(now, reason);
                        }
                        open.compare_at = Some(now + self.membership.comparison());
                    }
                    _ => {}
                }
                (Stage::Open(open), None)
            }
            (_, answer) => return self.lose(now, format!("an answer to no call: {answer:?}")),
        };
        self.stage = stage;
        self.calls.extend(call);
    }

    /// Decides whether the store can be trusted, before anything is written there.
    fn look(&mut self, now: Duration, listing: Listing) -> (Stage, Option<Call>) {
        let known = self.view.as_known();
        if let Some(reason) = continuity::doubt(&known, &listing) {
            return self.distrust(now, reason, listing);
        }
        if let Some(document) = continuity::replaced(&known, &listing) {
            let (key, revision) = document.clone();
            return (Stage::Verifying { listing, document }, Some(Call::Had { key, revision }));
        }
        self.look_for_namesake(now, listing)
    }

    /// Freezes the session: the store's documents do not count until an operator accepts them.
    fn distrust(&mut self, now: Duration, reason: String, listing: Listing) -> (Stage, Option<Call>) {
        self.frozen = Some(reason);
        self.offered = Documents::read(&listing).ok().map(Arc::new);
        (Stage::Doubting { again: self.again(now), listing }, None)
    }

    /// The time of the next listing of a store that must not be written yet.
    fn again(&self, now: Duration) -> Duration {
        now + self.settings.lease / 5
    }

    fn look_for_namesake(&mut self, now: Duration, listing: Listing) -> (Stage, Option<Call>) {
        let Settings { server, instance, lease } = &self.settings;
        if let Some(other) = namesake(&listing, server, instance) {
            let since = self.namesake.as_ref().filter(|(known, _)| *known == other);
            let since = since.map_or(now, |(_, since)| *since);
            (self.frozen, self.namesake) = (None, Some((other, since)));
            // Documents count nevertheless.
            let view = View::read(&listing, &self.view);
            self.show(view);
            return (Stage::Doubting { again: self.again(now), listing }, None);
        }
        let found = listing.entries.get(&key_of(server)).map_or(0, |entry| entry.revision);
        (Stage::Leasing { found }, Some(Call::Lease(*lease)))
    }

    /// How long the lease of an ended server of the same name may still last.
    fn namesake_patience(&self) -> Duration {
        self.settings.lease * 2
    }

    fn open(&mut self, grant: Grant, listing: Listing, now: Duration) -> Open {
        let Grant { lease, asked, written } = grant;
        self.membership.confirm(asked, now);
        (self.frozen, self.namesake, self.accepts, self.tries) = (None, None, false, 0);
        let view = View::anew(&listing, &self.view);
        self.offered = offered(&view, &listing);
        self.show(view);
        Open {
            lease,
            listing,
            written,
            written_at: now,
            writing: None,
            keep_at: Some(now + self.membership.rhythm()),
            compare_at: Some(now + self.membership.comparison()),
            watch_lag: WatchLag::default(),
        }
    }

    fn show(&mut self, view: View) {
        self.view = Arc::new(view);
    }

    /// The newest view.
    pub(crate) fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Whether the session is open.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open(_))
    }

    /// Whether there is no session and none is being opened.
    pub(crate) fn is_apart(&self) -> bool {
        matches!(self.stage, Stage::Apart { .. })
    }

    /// Why the last session ended.
    pub(crate) fn lost(&self) -> &str {
        &self.lost
    }

    /// The lease of the open session.
    pub(crate) fn lease(&self) -> Option<i64> {
        match &self.stage {
            Stage::Open(open) => Some(open.lease),
            _ => None,
        }
    }

    /// Whether the store takes a change to the documents.
    pub(crate) fn changing(&self) -> Changing {
        match &self.stage {
            Stage::Open(_) => Changing::Possible,
            Stage::Apart { .. } => Changing::Refused("no connection at the moment"),
            Stage::Doubting { .. } if self.namesake.is_some() => {
                Changing::Refused("another server has this one's name")
            }
            Stage::Doubting { .. } => Changing::Refused("the store is not trusted"),
            _ => Changing::Waits,
        }
    }

    /// The longest time for a call that the store itself does not limit. Without a limit, a session whose writes hang
    /// would keep its lease, and its outdated verdicts would count.
    pub(crate) fn patience(&self, call: &Call) -> Option<Duration> {
        matches!(call, Call::Put { .. }).then(|| self.membership.patience())
    }

    /// The server's relation to the store, and why it has not joined.
    pub(crate) fn mode(&self, now: Duration) -> (Mode, Option<String>) {
        if let Some(reason) = &self.frozen {
            return (Mode::Frozen, Some(reason.clone()));
        }
        if let Some((other, since)) = &self.namesake {
            let Settings { server, instance, .. } = &self.settings;
            let trouble = if now < *since + self.namesake_patience() {
                format!("an earlier server has the name {server}, {other}: waiting for the end of its lease")
            } else {
                format!(
                    "two servers call themselves {server}: this one is {instance}, the other one {other}; give one of them \
                     another name with [cluster] server, and restart it"
                )
            };
            return (Mode::Alone, Some(trouble));
        }
        match self.membership.state(now) {
            MembershipState::Joined => (Mode::Joined, None),
            MembershipState::Probation(left) if self.is_open() => {
                let seconds = left.as_millis().div_ceil(1000);
                (Mode::Alone, Some(format!("the store is back; joining in {seconds} s")))
            }
            MembershipState::Alone if self.is_open() => {
                (Mode::Alone, Some("the store has not confirmed the lease in time".to_owned()))
            }
            MembershipState::Probation(_) | MembershipState::Alone => (Mode::Alone, Some(self.lost.clone())),
        }
    }
}

impl Open {
    /// When to write this server's entries; `None`: they are written, or are being written.
    fn write_at(&self, own: &Own, now: Duration) -> Option<Duration> {
        if self.writing.is_some() || *own == self.written {
            return None;
        }
        Some(if own.verdicts == self.written.verdicts { self.written_at + STATUS_INTERVAL } else { now })
    }
}

/// The entries that a server writes, by their keys.
fn writes(own: &Own, settings: &Settings) -> BTreeMap<String, Vec<u8>> {
    let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
    let Settings { server: name, instance: Instance { id, place }, .. } = settings;
    let server = Server { instance: id.clone(), place: place.clone(), ..own.server.clone() };
    BTreeMap::from([
        (format!("{VERDICTS}{name}"), json(serde_json::to_vec(&own.verdicts))),
        (key_of(name), json(serde_json::to_vec(&server))),
    ])
}

/// The key of a server's status.
fn key_of(server: &str) -> String {
    format!("{SERVERS}{server}")
}

/// The write that accepts the documents of this listing, if none of them has changed since.
fn acceptance(accepted: &Accepted, listing: &Listing) -> Swap {
    let keys = CONCERNS.iter().map(|(key, _)| *key).chain([INTENT, ACCEPTED]);
    let found = |key: &str| listing.entries.get(key).map_or(0, |entry| entry.revision);
    let expected = keys.map(|key| (key.to_owned(), found(key))).collect();
    let text = serde_json::to_vec(accepted).unwrap_or_default();
    Swap { expected, writes: [(ACCEPTED.to_owned(), text)].into() }
}

/// The store's documents, if some documents in force are no longer in the store.
fn offered(view: &View, listing: &Listing) -> Option<Arc<Documents>> {
    (!view.documents.deleted.is_empty()).then(|| Documents::read(listing).unwrap_or_default().into())
}
