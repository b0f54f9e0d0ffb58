//! The mirror of the store: a task that lists, watches, keeps the lease and writes what is ours, over one member at a
//! time; the loop sees the newest view and whether it may be relied on.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::agreement::Verdicts;
use super::{Documents, Error, Listing, Revision, SERVERS, Server, Store, Swap, VERDICTS, Watch as _};

/// From one try to reach the store to the next.
const PAUSE: Duration = Duration::from_millis(200);
/// What servers say of themselves is written no more often, unless their verdicts change.
const LEISURE: Duration = Duration::from_millis(500);
/// Changes that wait for the store.
const SWAPS: usize = 16;

/// What the store holds, as this server has seen it last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Nothing after this revision is in here.
    pub revision: Revision,
    /// The last ones that could be read.
    pub documents: Documents,
    /// By server.
    pub verdicts: BTreeMap<String, Verdicts>,
    /// The servers that live.
    pub servers: BTreeMap<String, Server>,
    /// Why newer documents are not in here.
    pub malformed: Option<String>,
    /// When something was changed last that decisions are made from: a document or a verdict.
    pub judged: Revision,
}

impl View {
    /// The view of a listing; a document that cannot be read leaves those `before`.
    pub fn read(listing: &Listing, before: &Documents) -> View {
        let (documents, malformed) = match Documents::read(listing) {
            Ok(documents) => (documents, None),
            Err(problem) => (before.clone(), Some(problem)),
        };
        View {
            revision: listing.revision,
            documents,
            verdicts: below(listing, VERDICTS),
            servers: below(listing, SERVERS),
            malformed,
            judged: judged(listing),
        }
    }
}

fn judged(listing: &Listing) -> Revision {
    let counts = listing.entries.iter().filter(|(key, _)| !key.starts_with(SERVERS));
    counts.map(|(_, entry)| entry.revision).max().unwrap_or(0)
}

/// What cannot be read says nothing.
fn below<T: serde::de::DeserializeOwned>(listing: &Listing, prefix: &str) -> BTreeMap<String, T> {
    let of_server = |(key, entry): (&String, &super::Entry)| {
        let server = key.strip_prefix(prefix)?.to_owned();
        Some((server, serde_json::from_slice(&entry.value).ok()?))
    };
    listing
        .entries
        .range(prefix.to_owned()..)
        .map_while(|found| found.0.starts_with(prefix).then_some(found))
        .filter_map(of_server)
        .collect()
}

/// How this server stands to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Its lease is confirmed, its view is kept up to date: it decides with the others.
    Joined,
    /// It has lost the store, and judges by itself.
    Alone,
    /// The store is older than what was seen of it, and is not believed until an operator accepts it.
    Frozen,
}

/// What the loop is told.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The newest view.
    pub view: Arc<View>,
    /// Whether it may be relied on.
    pub mode: Mode,
    /// Why not.
    pub trouble: Option<String>,
    /// Since when the mode is what it is.
    pub since: Timestamp,
}

/// What this server puts into the store.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Own {
    /// Of the probes that it makes.
    pub verdicts: Verdicts,
    /// How it is.
    pub server: Server,
}

/// A change to the documents, and who waits for it.
#[derive(Debug)]
pub struct Request {
    /// What is changed.
    pub swap: Swap,
    /// Told the revision of the change.
    pub reply: oneshot::Sender<Result<Revision, Error>>,
}

/// How a mirror is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This server.
    pub server: String,
    /// How long the others believe in this server without hearing of it.
    pub lease: Duration,
}

/// The loop's end of a mirror; dropping it ends the mirror.
#[derive(Debug)]
pub struct Mirror {
    /// What is seen.
    pub seen: watch::Receiver<Seen>,
    /// What is ours.
    pub own: watch::Sender<Own>,
    /// Changes.
    pub swaps: mpsc::Sender<Request>,
    accepted: watch::Sender<u64>,
    leaving: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Mirror {
    /// Keeps a mirror from now on, from what is known: the documents and how far the store had come. `connect` makes a
    /// connection to some member, counted from 0. Needs a tokio runtime.
    pub fn start<S, F>(
        settings: Settings,
        known: (Documents, Revision),
        connect: impl Fn(usize) -> F + Send + Sync + 'static,
    ) -> Mirror
    where
        S: Store,
        F: Future<Output = Result<S, Error>> + Send + 'static,
    {
        let (documents, revision) = known;
        let epoch = documents.epoch();
        let view = Arc::new(View { revision, documents, ..View::default() });
        let trouble = Some("the store has not been reached yet".to_owned());
        let seen = Seen { view, mode: Mode::Alone, trouble, since: Timestamp::now() };
        let (seen, seen_by_loop) = watch::channel(seen);
        let (own, own_of_loop) = watch::channel(Own::default());
        let (swaps, requests) = mpsc::channel(SWAPS);
        let (accepted, accepts) = watch::channel(0);
        let (leaving, leaves) = watch::channel(false);
        let keeper = Keeper { settings, seen, own: own_of_loop, accepts, leaves, epoch, accepted: 0 };
        let task = tokio::spawn(keeper.run(requests, connect));
        Mirror { seen: seen_by_loop, own, swaps, accepted, leaving, task }
    }

    /// A store that is older than what was seen of it is believed from now on.
    pub fn accept(&self) {
        self.accepted.send_modify(|count| *count += 1);
    }

    /// Ends the lease, so that the others need not wait for its end.
    pub async fn leave(mut self) {
        self.leaving.send_replace(true);
        tokio::time::timeout(Duration::from_secs(1), &mut self.task).await.ok();
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How a session ends.
enum End {
    /// It has to be begun anew, for this reason.
    Lost(String),
    /// The server stops.
    Left,
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        End::Lost(error.to_string())
    }
}

struct Keeper {
    settings: Settings,
    seen: watch::Sender<Seen>,
    own: watch::Receiver<Own>,
    accepts: watch::Receiver<u64>,
    leaves: watch::Receiver<bool>,
    /// Of the newest documents that were seen.
    epoch: Revision,
    /// Of the times that an operator accepted an older store.
    accepted: u64,
}

impl Keeper {
    async fn run<S, F>(mut self, mut requests: mpsc::Receiver<Request>, connect: impl Fn(usize) -> F)
    where
        S: Store,
        F: Future<Output = Result<S, Error>> + Send,
    {
        let (confirmed, watched) = watch::channel(Instant::now());
        let patience = self.settings.lease * 3 / 5;
        let seen = self.seen.clone();
        // Servers of one cluster begin with different members.
        let first = self.settings.server.bytes().map(usize::from).sum::<usize>();
        for number in first.. {
            let session = async {
                let store = connect(number).await?;
                self.session(store, &mut requests, &confirmed).await
            };
            let end = {
                tokio::pin!(session);
                loop {
                    let lost = *watched.borrow() + patience;
                    let is_joined = seen.borrow().mode == Mode::Joined;
                    tokio::select! {
                        end = &mut session => break end,
                        () = sleep_until(lost), if is_joined => {
                            if watched.borrow().elapsed() >= patience {
                                turn(&seen, Mode::Alone, Some("the store has not confirmed the lease in time".to_owned()));
                            }
                        }
                    }
                }
            };
            match end {
                Ok(()) | Err(End::Left) => return,
                Err(End::Lost(reason)) => {
                    tracing::debug!("the store: {reason}");
                    let is_old =
                        seen.borrow().mode == Mode::Joined && confirmed.borrow().elapsed() < patience;
                    if !is_old {
                        let mode =
                            if seen.borrow().mode == Mode::Frozen { Mode::Frozen } else { Mode::Alone };
                        if mode == Mode::Alone {
                            turn(&seen, mode, Some(reason.clone()));
                        }
                    }
                    refuse_waiting(&mut requests, &reason);
                }
            }
            let pause = sleep(PAUSE);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    Some(request) = requests.recv() => refuse(request, "no connection at the moment"),
                    _ = self.leaves.changed() => return,
                }
            }
        }
    }

    /// What can be done with one connection, until it ends.
    async fn session<S: Store>(
        &mut self,
        store: S,
        requests: &mut mpsc::Receiver<Request>,
        confirmed: &watch::Sender<Instant>,
    ) -> Result<(), End> {
        let mut listing = store.list().await?;
        while let Some(reason) = self.is_older(&listing) {
            turn(&self.seen, Mode::Frozen, Some(reason));
            tokio::select! {
                _ = self.accepts.changed() => {}
                () = sleep(self.settings.lease / 5) => {}
                Some(request) = requests.recv() => refuse(request, "the store is older than what was seen of it"),
                _ = self.leaves.changed() => return Err(End::Left),
            }
            listing = store.list().await?;
        }
        let asked = Instant::now();
        let lease = store.lease(self.settings.lease).await?;
        // Before the view is taken: with it the others' verdicts and ours count at once.
        let own = self.own.borrow_and_update().clone();
        store.put(self.writes(&own), lease).await?;
        let mut listing = store.list().await?;
        self.accepted = *self.accepts.borrow();
        let mut watch = store.watch(listing.revision + 1).await?;
        confirmed.send_replace(asked);
        self.show(&listing);
        let seen = self.seen.clone();
        let keeping = keep(&store, lease, self.settings.lease, confirmed, &seen);
        let server = self.settings.server.clone();
        let writing = write(&store, lease, self.own.clone(), own, &server);
        tokio::pin!(keeping, writing);
        let mut leaves = self.leaves.clone();
        loop {
            tokio::select! {
                error = &mut keeping => return Err(error.into()),
                error = &mut writing => return Err(error.into()),
                batch = watch.next() => {
                    listing.apply(batch?);
                    self.show(&listing);
                }
                Some(request) = requests.recv() => {
                    let store = store.clone();
                    tokio::spawn(async move {
                        let Request { swap, reply } = request;
                        // Whoever asked may have gone.
                        reply.send(store.swap(swap).await).ok();
                    });
                }
                _ = leaves.changed() => {
                    store.revoke(lease).await.ok();
                    return Err(End::Left);
                }
            }
        }
    }

    /// Why the store is not believed: its documents are those of a time that is over. The servers write there too, so that
    /// its revision alone says little; `None`: it is believed.
    fn is_older(&self, listing: &Listing) -> Option<String> {
        let epoch = Documents::read(listing).map_or(Revision::MAX, |documents| documents.epoch());
        let accepted = *self.accepts.borrow() != self.accepted;
        (epoch < self.epoch && !accepted).then(|| {
            format!(
                "the store is at epoch {epoch}, and {} was seen of it: it was restored from an older copy; \
                 `dns-xdp cluster accept` believes it",
                self.epoch
            )
        })
    }

    fn writes(&self, own: &Own) -> BTreeMap<String, Vec<u8>> {
        writes(own, &self.settings.server)
    }

    /// Shows the loop what is in the store.
    fn show(&mut self, listing: &Listing) {
        let before = Arc::clone(&self.seen.borrow().view);
        let view = View::read(listing, &before.documents);
        self.epoch = view.documents.epoch();
        self.seen.send_modify(|seen| {
            if seen.mode != Mode::Joined {
                seen.since = Timestamp::now();
            }
            *seen = Seen { view: Arc::new(view), mode: Mode::Joined, trouble: None, since: seen.since };
        });
    }
}

fn turn(seen: &watch::Sender<Seen>, mode: Mode, trouble: Option<String>) {
    seen.send_if_modified(|seen| {
        if seen.mode == mode && seen.trouble == trouble {
            return false;
        }
        if seen.mode != mode {
            seen.since = Timestamp::now();
        }
        (seen.mode, seen.trouble) = (mode, trouble);
        true
    });
}

fn writes(own: &Own, server: &str) -> BTreeMap<String, Vec<u8>> {
    let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
    BTreeMap::from([
        (format!("{VERDICTS}{server}"), json(serde_json::to_vec(&own.verdicts))),
        (format!("{SERVERS}{server}"), json(serde_json::to_vec(&own.server))),
    ])
}

/// Keeps the lease alive; returns when that is over. A server that was alone for a moment has joined again then.
async fn keep<S: Store>(
    store: &S,
    lease: i64,
    time: Duration,
    confirmed: &watch::Sender<Instant>,
    seen: &watch::Sender<Seen>,
) -> Error {
    loop {
        sleep(time / 5).await;
        let asked = Instant::now();
        if let Err(error) = store.keep_alive(lease).await {
            return error;
        }
        confirmed.send_replace(asked);
        turn(seen, Mode::Joined, None);
    }
}

/// Writes what is ours whenever it has changed; returns when it cannot.
async fn write<S: Store>(
    store: &S,
    lease: i64,
    mut own: watch::Receiver<Own>,
    mut written: Own,
    server: &str,
) -> Error {
    let mut at = Instant::now();
    loop {
        let now = own.borrow_and_update().clone();
        if now == written {
            if own.changed().await.is_err() {
                // The loop is gone, and the mirror with it before long.
                std::future::pending::<()>().await;
            }
            continue;
        }
        if now.verdicts == written.verdicts && at.elapsed() < LEISURE {
            tokio::select! {
                () = sleep_until(at + LEISURE) => {}
                _ = own.changed() => continue,
            }
        }
        let mut changed = writes(&now, server);
        if now.verdicts == written.verdicts {
            changed.remove(&format!("{VERDICTS}{server}"));
        }
        if let Err(error) = store.put(changed, lease).await {
            return error;
        }
        (written, at) = (now, Instant::now());
    }
}

fn refuse(request: Request, reason: &str) {
    request.reply.send(Err(Error::Unreachable(reason.to_owned()))).ok();
}

fn refuse_waiting(requests: &mut mpsc::Receiver<Request>, reason: &str) {
    while let Ok(request) = requests.try_recv() {
        refuse(request, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    const ZONE: &str = "[zone]\nname = \"demo.example.com\"\n";

    fn stored() -> Memory {
        let store = Memory::new();
        store.write("config/zone", ZONE);
        store
    }

    fn start(store: &Memory, server: &str) -> Mirror {
        start_from(store, server, (Documents::default(), 0))
    }

    fn start_from(store: &Memory, server: &str, known: (Documents, Revision)) -> Mirror {
        let settings = Settings { server: server.to_owned(), lease: Duration::from_secs(2) };
        let store = store.clone();
        Mirror::start(settings, known, move |_| std::future::ready(Ok(store.clone())))
    }

    async fn until(mirror: &mut Mirror, holds: impl FnMut(&Seen) -> bool) -> Seen {
        let seen = tokio::time::timeout(Duration::from_secs(60), mirror.seen.wait_for(holds)).await;
        seen.expect("it comes about").unwrap().clone()
    }

    fn own(up: &str) -> Own {
        let verdicts = Verdicts { up: [up.to_owned()].into(), ..Verdicts::default() };
        Own { verdicts, ..Own::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn servers_see_documents_and_each_others_verdicts() {
        let store = stored();
        let mut first = start(&store, "node1");
        let mut second = start(&store, "node2");
        second.own.send_replace(own("node7"));
        let seen =
            until(&mut first, |seen| seen.view.verdicts.get("node2").is_some_and(|said| !said.up.is_empty()))
                .await;
        assert_eq!((seen.mode, &*seen.view.documents.texts["config/zone"]), (Mode::Joined, ZONE));
        let epoch = store.write("config/nodes", "[[node]]\n");
        let seen = until(&mut second, |seen| seen.view.documents.texts.len() == 2).await;
        assert_eq!(seen.view.documents.epoch(), epoch);
    }

    #[tokio::test(start_paused = true)]
    async fn who_loses_the_store_is_alone_before_its_lease_ends_and_joins_again() {
        let store = stored();
        let mut mirror = start(&store, "node1");
        until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
        let cut = Instant::now();
        store.cut_off(true);
        let seen = until(&mut mirror, |seen| seen.mode == Mode::Alone).await;
        assert!(cut.elapsed() < Duration::from_millis(1300), "{:?}", cut.elapsed());
        assert!(seen.trouble.is_some() && seen.view.documents.texts.len() == 1, "{seen:?}");
        let (reply, told) = oneshot::channel();
        mirror.swaps.send(Request { swap: Swap::default(), reply }).await.unwrap();
        assert!(matches!(told.await.unwrap(), Err(Error::Unreachable(_))));
        store.cut_off(false);
        until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_takes_its_verdicts_along_at_once() {
        let store = stored();
        let mut mirror = start(&store, "node1");
        until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
        assert!(store.value("servers/node1").is_some());
        mirror.leave().await;
        assert_eq!((store.value("servers/node1"), store.value("verdicts/node1")), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_store_is_not_believed_until_it_is_accepted() {
        let store = stored();
        let older = store.copy();
        store.write("config/nodes", "[[node]]\n");
        let mut mirror = start(&store, "node1");
        let joined = |seen: &Seen| seen.mode == Mode::Joined && seen.view.documents.texts.len() == 2;
        let seen = until(&mut mirror, joined).await;
        drop(mirror);
        store.restore(&older);
        // From the copy on its disk, as after a restart.
        let known = (seen.view.documents.clone(), seen.view.revision);
        let mut mirror = start_from(&store, "node1", known);
        let seen = until(&mut mirror, |seen| seen.mode == Mode::Frozen).await;
        assert_eq!(seen.view.documents.texts.len(), 2, "those before stay");
        assert!(seen.trouble.unwrap().contains("cluster accept"));
        mirror.accept();
        let seen = until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
        assert_eq!(seen.view.documents.texts.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_that_cannot_be_read_leaves_those_before() {
        let store = stored();
        store.write("intent", "{}");
        let mut mirror = start(&store, "node1");
        until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
        store.write("intent", "{");
        let seen = until(&mut mirror, |seen| seen.view.malformed.is_some()).await;
        assert_eq!(&*seen.view.documents.texts["config/zone"], ZONE);
        store.write("intent", "{}");
        until(&mut mirror, |seen| seen.view.malformed.is_none()).await;
    }
}
