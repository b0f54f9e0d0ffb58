//! The client of the store: a task that performs what the `session` asks for, over one member at a time. The
//! daemon sees the newest view and whether it may be relied on.
//!
//! `session` is pure, as are `membership` (whether this server is one of those that decide together) and `watch_lag`
//! (whether the watch still tells what happens). What is decided from the view is not here.
pub mod membership;
pub(crate) mod session;
pub mod watch_lag;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use self::session::{Answer, Call, Changing, Session};
pub use self::session::{Mode, Own, Settings};
pub use super::view::View;
use super::{Batch, Documents, Error, Revision, Store, Swap, Watch};

/// Changes that wait for the store.
const SWAPS: usize = 16;
/// The most changes that are applied to the view before it is shown.
const AT_ONCE: usize = 256;
/// How long leaving may take.
const LEAVING: Duration = Duration::from_secs(1);

/// What the daemon is told.
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

/// A change to the documents, and where its result goes.
#[derive(Debug)]
pub struct Request {
    /// What is changed.
    pub swap: Swap,
    /// Told the revision of the change.
    pub reply: oneshot::Sender<Result<Revision, Error>>,
}

/// The daemon's end of the client; dropping it ends the client.
#[derive(Debug)]
pub struct Client {
    /// What is seen.
    pub seen: watch::Receiver<Seen>,
    /// What is ours.
    pub own: watch::Sender<Own>,
    /// Changes.
    pub swaps: mpsc::Sender<Request>,
    wishes: mpsc::UnboundedSender<Wish>,
    task: JoinHandle<()>,
}

/// What the daemon wants of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Decide,
    Accept,
    Leave,
}

impl Client {
    /// Keeps a session from now on, from what is known: the documents and how far the store had come. `connect` makes a
    /// connection to some member, counted from 0. Needs a tokio runtime.
    pub fn start<S, F>(
        settings: Settings,
        known: (Documents, Revision),
        connect: impl Fn(usize) -> F + Send + Sync + 'static,
    ) -> Client
    where
        S: Store,
        F: Future<Output = Result<S, Error>> + Send + 'static,
    {
        // Servers of one cluster begin with different members.
        let member = settings.server.bytes().map(usize::from).sum();
        let session = Session::new(settings, known, Duration::ZERO);
        let (mode, trouble) = session.mode(Duration::ZERO);
        let view = Arc::clone(session.view());
        let (seen, seen_by_daemon) =
            watch::channel(Seen { view, mode, trouble, since: Timestamp::now(), is_up: false });
        let (own, own_of_daemon) = watch::channel(Own::default());
        let (swaps, requests) = mpsc::channel(SWAPS);
        let (wishes, wished) = mpsc::unbounded_channel();
        let task = Task {
            session,
            origin: Instant::now(),
            seen,
            own: own_of_daemon,
            requests,
            wished,
            member,
            store: None,
            watch: None,
            calls: JoinSet::new(),
        };
        let task = tokio::spawn(task.run(connect));
        Client { seen: seen_by_daemon, own, swaps, wishes, task }
    }

    /// Something is decided from now on: see [`Membership::decide`](membership::Membership::decide).
    pub fn decide(&self) {
        self.wish(Wish::Decide);
    }

    /// A store that is older than what was seen of it is believed from now on.
    pub fn accept(&self) {
        self.wish(Wish::Accept);
    }

    /// Ends the lease, so that the others need not wait for its end.
    pub async fn leave(mut self) {
        self.wish(Wish::Leave);
        timeout(LEAVING, &mut self.task).await.ok();
    }

    fn wish(&self, wish: Wish) {
        // A task that has ended is told by `seen`.
        self.wishes.send(wish).ok();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task<S: Store> {
    session: Session,
    origin: Instant,
    seen: watch::Sender<Seen>,
    own: watch::Receiver<Own>,
    requests: mpsc::Receiver<Request>,
    wished: mpsc::UnboundedReceiver<Wish>,
    /// The member that is connected to next.
    member: usize,
    /// The connection.
    store: Option<S>,
    watch: Option<S::Watch>,
    /// What is asked of the store, and since when.
    calls: JoinSet<(Duration, Result<Outcome<S>, Error>)>,
}

/// What a call brings.
enum Outcome<S: Store> {
    Store(S),
    Watch(S::Watch),
    Answer(Answer),
}

impl<S: Store> Task<S> {
    async fn run<F>(mut self, connect: impl Fn(usize) -> F)
    where
        F: Future<Output = Result<S, Error>> + Send + 'static,
    {
        loop {
            if self.own.has_changed().unwrap_or(false) {
                let own = self.own.borrow_and_update().clone();
                self.session.set_own(own);
            }
            for call in self.session.due(self.now()) {
                self.begin(call, &connect);
            }
            self.show();
            let next = self.session.next(self.now()).map(|next| self.origin + next);
            let swaps = self.session.changing();
            tokio::select! {
                // What the daemon wants counts before what the store says.
                biased;
                wish = self.wished.recv() => match wish {
                    Some(Wish::Decide) => self.session.decide(),
                    Some(Wish::Accept) => self.session.accept(),
                    Some(Wish::Leave) | None => return self.leave().await,
                },
                Ok(()) = self.own.changed() => {
                    let own = self.own.borrow_and_update().clone();
                    self.session.set_own(own);
                }
                Some(request) = self.requests.recv(), if swaps != Changing::Waits => self.change(request, &swaps),
                Some(ended) = self.calls.join_next() => self.answered(ended),
                batches = next_batches(&mut self.watch) => {
                    let now = self.now();
                    self.session.changed(now, batches);
                }
                () = wait(next) => {}
            }
            if self.session.is_apart() {
                self.forget();
            }
        }
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Asks the store for something.
    fn begin<F>(&mut self, call: Call, connect: &impl Fn(usize) -> F)
    where
        F: Future<Output = Result<S, Error>> + Send + 'static,
    {
        let asked = self.now();
        let patience = self.session.patience(&call);
        if call == Call::Connect {
            let connection = connect(self.member);
            self.member += 1;
            self.calls.spawn(async move { (asked, connection.await.map(Outcome::Store)) });
        } else if let Some(store) = self.store.clone() {
            self.calls.spawn(async move {
                let answer = match patience {
                    Some(patience) => timeout(patience, perform(&store, call)).await.unwrap_or_else(|_| {
                        let text = format!("nothing could be written for {} ms", patience.as_millis());
                        Err(Error::Unreachable(text))
                    }),
                    None => perform(&store, call).await,
                };
                (asked, answer)
            });
        }
    }

    fn answered(&mut self, ended: Result<(Duration, Result<Outcome<S>, Error>), tokio::task::JoinError>) {
        let now = self.now();
        let (asked, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) => return self.session.lose(now, format!("a defect of dns-xdp: {error}")),
        };
        let answer = outcome.map(|outcome| match outcome {
            Outcome::Store(store) => {
                self.store = Some(store);
                Answer::Connected
            }
            Outcome::Watch(watch) => {
                self.watch = Some(watch);
                Answer::Watching
            }
            Outcome::Answer(answer) => answer,
        });
        self.session.answered(asked, now, answer);
    }

    /// Forgets what belongs to a session that is over.
    fn forget(&mut self) {
        if self.store.is_some() || !self.calls.is_empty() {
            tracing::debug!("the store: {}", self.session.lost());
        }
        (self.store, self.watch, self.calls) = (None, None, JoinSet::new());
        while let Ok(request) = self.requests.try_recv() {
            refuse(request, self.session.lost());
        }
    }

    fn change(&self, request: Request, swaps: &Changing) {
        match (swaps, self.store.clone()) {
            (Changing::Possible, Some(store)) => {
                tokio::spawn(async move {
                    let Request { swap, reply } = request;
                    // The caller may have gone.
                    reply.send(store.swap(swap).await).ok();
                });
            }
            (Changing::Refused(reason), _) => refuse(request, reason),
            _ => refuse(request, "no connection at the moment"),
        }
    }

    /// Shows the daemon what is seen.
    fn show(&self) {
        let (mode, trouble) = self.session.mode(self.now());
        let (view, is_up) = (self.session.view(), self.session.is_open());
        self.seen.send_if_modified(|seen| {
            let is_same = Arc::ptr_eq(&seen.view, view)
                && (seen.mode, &seen.trouble, seen.is_up) == (mode, &trouble, is_up);
            if is_same {
                return false;
            }
            if seen.mode != mode {
                seen.since = Timestamp::now();
            }
            (seen.view, seen.mode, seen.is_up) = (Arc::clone(view), mode, is_up);
            seen.trouble.clone_from(&trouble);
            true
        });
    }

    async fn leave(self) {
        if let (Some(store), Some(lease)) = (self.store, self.session.lease()) {
            // It runs out by itself where this fails.
            store.revoke(lease).await.ok();
        }
    }
}

async fn perform<S: Store>(store: &S, call: Call) -> Result<Outcome<S>, Error> {
    let answer = match call {
        Call::Connect => Answer::Connected,
        Call::List => Answer::Listing(store.list().await?),
        Call::Lease(time) => Answer::Lease(store.lease(time).await?),
        Call::Put { writes, lease } => {
            store.put(writes, lease).await?;
            Answer::Written
        }
        Call::Watch { from } => return Ok(Outcome::Watch(store.watch(from).await?)),
        Call::KeepAlive(lease) => {
            store.keep_alive(lease).await?;
            Answer::Kept
        }
        Call::Extent => Answer::Extent(store.extent().await?),
    };
    Ok(Outcome::Answer(answer))
}

/// The next changes, with those that are there already, so that they are decided on once. Waits for ever where nothing is
/// watched. Cancel safe.
async fn next_batches<W: Watch>(watch: &mut Option<W>) -> Result<Vec<Batch>, Error> {
    let Some(watch) = watch else { return std::future::pending().await };
    let mut batches = vec![watch.next().await?];
    while batches.len() < AT_ONCE {
        tokio::select! {
            biased;
            batch = watch.next() => batches.push(batch?),
            () = std::future::ready(()) => break,
        }
    }
    Ok(batches)
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn refuse(request: Request, reason: &str) {
    request.reply.send(Err(Error::Unreachable(reason.to_owned()))).ok();
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::super::votes::Verdicts;
    use super::*;
    use tokio::time::sleep;

    const ZONE: &str = "[zone]\nname = \"demo.example.com\"\n";

    fn stored() -> Memory {
        let store = Memory::new();
        store.write("config/zone", ZONE);
        store
    }

    fn start(store: &Memory, server: &str) -> Client {
        start_from(store, server, (Documents::default(), 0))
    }

    fn start_from(store: &Memory, server: &str, known: (Documents, Revision)) -> Client {
        let settings = Settings { server: server.to_owned(), lease: Duration::from_secs(2) };
        let store = store.clone();
        Client::start(settings, known, move |_| std::future::ready(Ok(store.clone())))
    }

    async fn until(client: &mut Client, holds: impl FnMut(&Seen) -> bool) -> Seen {
        let seen = timeout(Duration::from_secs(60), client.seen.wait_for(holds)).await;
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
        let mut client = start(&store, "node1");
        until(&mut client, |seen| seen.mode == Mode::Joined).await;
        let cut = Instant::now();
        store.cut_off(true);
        let seen = until(&mut client, |seen| seen.mode == Mode::Alone).await;
        assert!(cut.elapsed() < Duration::from_millis(1300), "{:?}", cut.elapsed());
        assert!(seen.trouble.is_some() && seen.view.documents.texts.len() == 1, "{seen:?}");
        let (reply, told) = oneshot::channel();
        client.swaps.send(Request { swap: Swap::default(), reply }).await.unwrap();
        assert!(matches!(told.await.unwrap(), Err(Error::Unreachable(_))));
        let back = Instant::now();
        store.cut_off(false);
        let zone = store.write("config/nodes", "[[node]]\n");
        let seen = until(&mut client, |seen| seen.is_up).await;
        assert_eq!((seen.mode, seen.view.documents.epoch()), (Mode::Alone, zone), "documents count at once");
        assert_eq!(seen.trouble.as_deref(), Some("the store is back; joining in 3 s"));
        let (reply, told) = oneshot::channel();
        client.swaps.send(Request { swap: Swap::default(), reply }).await.unwrap();
        assert!(told.await.unwrap().is_ok(), "and so does the word of an operator");
        until(&mut client, |seen| seen.trouble.as_deref() == Some("the store is back; joining in 1 s")).await;
        until(&mut client, |seen| seen.mode == Mode::Joined).await;
        assert!(back.elapsed() >= Duration::from_millis(2400), "{:?}", back.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_decided_before_it_reached_the_store_joins_after_a_probation() {
        let store = stored();
        store.cut_off(true);
        let mut client = start(&store, "node1");
        sleep(Duration::from_millis(500)).await;
        client.decide();
        store.cut_off(false);
        let seen = until(&mut client, |seen| seen.is_up).await;
        assert_eq!(seen.mode, Mode::Alone, "{:?}", seen.trouble);
        until(&mut client, |seen| seen.mode == Mode::Joined).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_not_kept_alive_for_verdicts_that_cannot_be_written() {
        let store = stored();
        let mut client = start(&store, "node1");
        until(&mut client, |seen| seen.mode == Mode::Joined).await;
        let hung = Instant::now();
        store.hang_puts(true);
        client.own.send_replace(own("node7"));
        until(&mut client, |seen| !seen.is_up).await;
        let kept = store.kept();
        assert!(hung.elapsed() <= Duration::from_millis(1201), "{:?}", hung.elapsed());
        until(&mut client, |seen| seen.mode == Mode::Alone).await;
        sleep(Duration::from_secs(10)).await;
        assert_eq!(store.kept(), kept);
        store.hang_puts(false);
        until(&mut client, |seen| seen.mode == Mode::Joined).await;
        assert_eq!(store.value("verdicts/node1").as_deref(), Some(r#"{"up":["node7"]}"#));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_has_fallen_silent_is_begun_anew() {
        let store = stored();
        let mut client = start(&store, "node1");
        until(&mut client, |seen| seen.mode == Mode::Joined).await;
        store.silence_watches();
        let silenced = Instant::now();
        let epoch = store.write("config/nodes", "[[node]]\n");
        let seen = until(&mut client, |seen| seen.view.documents.epoch() == epoch).await;
        assert!(silenced.elapsed() < Duration::from_secs(2), "{:?}", silenced.elapsed());
        assert_eq!(seen.mode, Mode::Joined, "the lease was confirmed all the while");
    }

    #[tokio::test(start_paused = true)]
    async fn changes_that_are_there_are_shown_once() {
        let store = stored();
        let mut client = start(&store, "node1");
        until(&mut client, |seen| seen.mode == Mode::Joined).await;
        client.seen.borrow_and_update();
        let mut last = 0;
        for number in 0..100 {
            last = store.write("intent", &format!("{{}}{}", " ".repeat(number)));
        }
        let mut shown = Vec::new();
        while shown.last() != Some(&last) {
            client.seen.changed().await.unwrap();
            shown.push(client.seen.borrow_and_update().view.revision);
        }
        assert!(shown.len() <= 2, "{shown:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_takes_its_verdicts_along_at_once() {
        let store = stored();
        let mut client = start(&store, "node1");
        until(&mut client, |seen| seen.mode == Mode::Joined).await;
        assert!(store.value("servers/node1").is_some());
        client.leave().await;
        assert_eq!((store.value("servers/node1"), store.value("verdicts/node1")), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_store_is_not_believed_until_it_is_accepted() {
        let store = stored();
        let older = store.copy();
        store.write("config/nodes", "[[node]]\n");
        let mut client = start(&store, "node1");
        let joined = |seen: &Seen| seen.mode == Mode::Joined && seen.view.documents.texts.len() == 2;
        let seen = until(&mut client, joined).await;
        drop(client);
        store.restore(&older);
        // From the copy on its disk, as after a restart.
        let known = (Documents::clone(&seen.view.documents), seen.view.revision);
        let mut client = start_from(&store, "node1", known);
        let seen = until(&mut client, |seen| seen.mode == Mode::Frozen).await;
        assert_eq!(seen.view.documents.texts.len(), 2, "those before stay");
        assert!(seen.trouble.unwrap().contains("cluster accept"));
        client.accept();
        let seen = until(&mut client, |seen| seen.mode == Mode::Joined).await;
        assert_eq!(seen.view.documents.texts.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_document_that_cannot_be_read_leaves_those_before() {
        let store = stored();
        store.write("intent", "{}");
        let mut client = start(&store, "node1");
        until(&mut client, |seen| seen.mode == Mode::Joined).await;
        store.write("intent", "{");
        let seen = until(&mut client, |seen| seen.view.malformed.is_some()).await;
        assert_eq!(&*seen.view.documents.texts["config/zone"], ZONE);
        store.write("intent", "{}");
        until(&mut client, |seen| seen.view.malformed.is_none()).await;
    }
}
