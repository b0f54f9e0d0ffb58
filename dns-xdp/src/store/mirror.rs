//! The mirror of the store: a task that lists, watches, keeps the lease and writes what is ours, over one member at a
//! time; the loop sees the newest view and whether it may be relied on.
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::abreast::{Abreast, Extent};
use super::agreement::Verdicts;
pub use super::mode::Mode;
use super::mode::{Ground, mind};
use super::upkeep::{compare, keep, put, write, writes};
pub use super::view::View;
use super::{Documents, Error, Listing, Revision, Server, Store, Swap, Watch};

/// From one try to reach the store to the next.
const PAUSE: Duration = Duration::from_millis(200);
/// Changes that wait for the store.
const SWAPS: usize = 16;
/// So many changes that come at once are taken in before any of them is shown.
const AT_ONCE: usize = 256;

/// What the loop is told.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The newest view.
    pub view: Arc<View>,
    /// Whether the others' verdicts in it may be relied on.
    pub mode: Mode,
    /// Why not.
    pub trouble: Option<String>,
    /// Since when the mode is what it is.
    pub since: Timestamp,
    /// The store takes changes: joined or not, for a change takes place only where nobody else has changed anything.
    pub is_up: bool,
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
    ground: watch::Sender<Ground>,
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
        let view = View { revision, documents: Arc::new(documents), ..View::default() };
        let ground = Ground::new(settings.lease);
        let since = Timestamp::now();
        let mut seen = Seen { view: Arc::new(view), mode: Mode::Alone, trouble: None, since, is_up: false };
        ground.turn(&mut seen);
        let (seen, seen_by_loop) = watch::channel(seen);
        let (own, own_of_loop) = watch::channel(Own::default());
        let (swaps, requests) = mpsc::channel(SWAPS);
        let (accepted, accepts) = watch::channel(0);
        let (leaving, leaves) = watch::channel(false);
        let ground = watch::Sender::new(ground);
        let keeper = Keeper {
            settings,
            seen: seen.clone(),
            own: own_of_loop,
            accepts,
            leaves,
            ground: ground.clone(),
            epoch,
            accepted: 0,
        };
        let minding = mind(ground.subscribe(), seen);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = minding => {}
                () = keeper.run(requests, connect) => {}
            }
        });
        Mirror { seen: seen_by_loop, own, swaps, ground, accepted, leaving, task }
    }

    /// Something is decided from now on: see [`Footing::decide`](super::footing::Footing::decide).
    pub fn decide(&self) {
        self.ground.send_modify(|ground| ground.footing.decide());
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
    ground: watch::Sender<Ground>,
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
        // Servers of one cluster begin with different members.
        let first = self.settings.server.bytes().map(usize::from).sum::<usize>();
        for number in first.. {
            let end = match connect(number).await {
                Ok(store) => self.session(store, &mut requests).await,
                Err(error) => Err(error.into()),
            };
            match end {
                Ok(()) | Err(End::Left) => return,
                Err(End::Lost(reason)) => {
                    tracing::debug!("the store: {reason}");
                    refuse_waiting(&mut requests, &reason);
                    self.ground.send_modify(|ground| (ground.lost, ground.is_up) = (reason, false));
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
    ) -> Result<(), End> {
        let mut listing = store.list().await?;
        while let Some(reason) = self.is_older(&listing) {
            self.ground.send_modify(|ground| ground.frozen = Some(reason));
            tokio::select! {
                _ = self.accepts.changed() => {}
                () = sleep(self.settings.lease / 5) => {}
                Some(request) = requests.recv() => refuse(request, "the store is older than what was seen of it"),
                _ = self.leaves.changed() => return Err(End::Left),
            }
            listing = store.list().await?;
        }
        let patience = self.ground.borrow().footing.patience();
        let asked = Instant::now();
        let lease = store.lease(self.settings.lease).await?;
        // Before the view is taken: with it the others' verdicts and ours count at once.
        let own = self.own.borrow_and_update().clone();
        let server = self.settings.server.clone();
        put(&store, writes(&own, &server), lease, patience).await?;
        let mut listing = store.list().await?;
        self.accepted = *self.accepts.borrow();
        let mut watch = store.watch(listing.revision + 1).await?;
        let ground = self.ground.clone();
        ground.send_modify(|ground| {
            ground.confirm(asked);
            (ground.frozen, ground.is_up) = (None, true);
        });
        let view = View::anew(&listing, &self.seen.borrow().view.documents);
        self.show(view);
        let comparison = ground.borrow().footing.comparison();
        let mut abreast = Abreast::default();
        let (found, mut founds) = mpsc::channel(1);
        let keeping = keep(&store, lease, &ground);
        let writing = write(&store, lease, self.own.clone(), own, &server, patience);
        let comparing = compare(&store, comparison, found);
        tokio::pin!(keeping, writing, comparing);
        let mut leaves = self.leaves.clone();
        loop {
            tokio::select! {
                error = &mut keeping => return Err(error.into()),
                error = &mut writing => return Err(error.into()),
                error = &mut comparing => return Err(error.into()),
                Some(extent) = founds.recv() => if abreast.is_behind(extent, Extent::of(&listing)) {
                    let reason = format!("the watch is silent, and the store has changed at revision {}", extent.newest);
                    return Err(End::Lost(reason));
                },
                batch = watch.next() => {
                    listing.apply(batch?);
                    take_in_what_is_there(&mut listing, &mut watch).await?;
                    let view = View::read(&listing, &self.seen.borrow().view);
                    self.show(view);
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

    /// Shows the loop what is in the store.
    fn show(&mut self, view: View) {
        self.epoch = view.documents.epoch();
        let ground = self.ground.borrow();
        self.seen.send_modify(|seen| {
            seen.view = Arc::new(view);
            ground.turn(seen);
        });
    }
}

/// What has come meanwhile, so that it is decided on once.
async fn take_in_what_is_there(listing: &mut Listing, watch: &mut impl Watch) -> Result<(), Error> {
    for _ in 0..AT_ONCE {
        tokio::select! {
            biased;
            batch = watch.next() => listing.apply(batch?),
            () = std::future::ready(()) => break,
        }
    }
    Ok(())
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
        let back = Instant::now();
        store.cut_off(false);
        let zone = store.write("config/nodes", "[[node]]\n");
        let seen = until(&mut mirror, |seen| seen.is_up).await;
        assert_eq!((seen.mode, seen.view.documents.epoch()), (Mode::Alone, zone), "documents count at once");
        assert_eq!(seen.trouble.as_deref(), Some("the store is back; joining in 3 s"));
        let (reply, told) = oneshot::channel();
        mirror.swaps.send(Request { swap: Swap::default(), reply }).await.unwrap();
        assert!(told.await.unwrap().is_ok(), "and so does the word of an operator");
        until(&mut mirror, |seen| seen.trouble.as_deref() == Some("the store is back; joining in 1 s")).await;
        until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
        assert!(back.elapsed() >= Duration::from_millis(2400), "{:?}", back.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_decided_before_it_reached_the_store_joins_after_a_probation() {
        let store = stored();
        store.cut_off(true);
        let mut mirror = start(&store, "node1");
        sleep(Duration::from_millis(500)).await;
        mirror.decide();
        store.cut_off(false);
        let seen = until(&mut mirror, |seen| seen.is_up).await;
        assert_eq!(seen.mode, Mode::Alone, "{:?}", seen.trouble);
        until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_not_kept_alive_for_verdicts_that_cannot_be_written() {
        let store = stored();
        let mut mirror = start(&store, "node1");
        until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
        let hung = Instant::now();
        store.hang_puts(true);
        mirror.own.send_replace(own("node7"));
        until(&mut mirror, |seen| !seen.is_up).await;
        let kept = store.kept();
        assert!(hung.elapsed() <= Duration::from_millis(1201), "{:?}", hung.elapsed());
        until(&mut mirror, |seen| seen.mode == Mode::Alone).await;
        sleep(Duration::from_secs(10)).await;
        assert_eq!(store.kept(), kept);
        store.hang_puts(false);
        until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
        assert_eq!(store.value("verdicts/node1").as_deref(), Some(r#"{"up":["node7"]}"#));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_has_fallen_silent_is_begun_anew() {
        let store = stored();
        let mut mirror = start(&store, "node1");
        until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
        store.silence_watches();
        let silenced = Instant::now();
        let epoch = store.write("config/nodes", "[[node]]\n");
        let seen = until(&mut mirror, |seen| seen.view.documents.epoch() == epoch).await;
        assert!(silenced.elapsed() < Duration::from_secs(2), "{:?}", silenced.elapsed());
        assert_eq!(seen.mode, Mode::Joined, "the lease was confirmed all the while");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_are_there_are_shown_once() {
        let store = stored();
        let mut mirror = start(&store, "node1");
        until(&mut mirror, |seen| seen.mode == Mode::Joined).await;
        mirror.seen.borrow_and_update();
        let mut last = 0;
        for number in 0..100 {
            last = store.write("intent", &format!("{{}}{}", " ".repeat(number)));
        }
        let mut shown = Vec::new();
        while shown.last() != Some(&last) {
            mirror.seen.changed().await.unwrap();
            shown.push(mirror.seen.borrow_and_update().view.revision);
        }
        assert!(shown.len() <= 2, "{shown:?}");
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
        let known = (Documents::clone(&seen.view.documents), seen.view.revision);
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
