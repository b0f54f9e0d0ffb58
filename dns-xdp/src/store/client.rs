//! The client of the store: a task that performs the calls of the `session`, to one member at a time. It gives the
//! daemon the newest view, and whether the daemon may rely on it.
//!
//! `session`, `membership` and `watch_lag` are pure. `membership` tells whether this server decides together with the
//! others, and `watch_lag` whether the watch still reports changes. The view's decisions are not made here.
mod call;
pub mod membership;
pub(in crate::store) mod repeated_ends;
pub(crate) mod session;
pub mod watch_lag;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use self::repeated_ends::RepeatedEnds;
use self::session::{Answer, Call, Changing, Session};
pub use self::session::{Mode, Own, Settings};
pub use super::view::View;
use super::{Batch, Documents, Error, Known, Revision, Store, Swap, Watch};

/// The most changes that wait for the store.
const SWAPS: usize = 16;
/// The most changes that are applied to the view before it is shown.
const AT_ONCE: usize = 256;
/// The longest time for ending the lease at a stop.
const LEAVING: Duration = Duration::from_secs(1);

/// The state of the store that the daemon sees.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The newest view.
    pub view: Arc<View>,
    /// Whether the daemon may rely on the other servers' verdicts in the view.
    pub mode: Mode,
    /// Why it may not rely on them.
    pub trouble: Option<String>,
    /// Since when the store has this mode.
    pub since: Timestamp,
    /// The documents that an operator may accept, if the store is not trusted or has lost some.
    pub offered: Option<Arc<Documents>>,
    /// Whether the store takes changes. This can be `true` before this server has joined: a change is made only if no
    /// other client has changed the same documents.
    pub is_up: bool,
}

/// A change to the documents, and the channel for its result.
#[derive(Debug)]
pub struct Request {
    /// The change.
    pub swap: Swap,
    /// The channel that gets the revision of the change.
    pub reply: oneshot::Sender<Result<Revision, Error>>,
}

/// The daemon's end of the client; dropping it ends the client.
#[derive(Debug)]
pub struct Client {
    /// The last state of the store.
    pub seen: watch::Receiver<Seen>,
    /// This server's own entries to write.
    pub own: watch::Sender<Own>,
    /// Changes to the documents.
    pub swaps: mpsc::Sender<Request>,
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

/// An order of the daemon to its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Decide,
    Accept,
    Leave,
}

impl Client {
    /// Starts a client that keeps a session, beginning with the known state of the store. `connect` connects to the
    /// member with this number, counted from 0. Needs a tokio runtime.
    pub fn start<S, F>(
        settings: Settings,
        known: Known,
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
        let (seen, seen_by_daemon) = watch::channel(Seen {
            view,
            mode,
            trouble,
            since: Timestamp::now(),
            offered: None,
            is_up: false,
        });
        let (own, own_of_daemon) = watch::channel(Own::default());
        let (swaps, requests) = mpsc::channel(SWAPS);
        let (orders, ordered) = mpsc::unbounded_channel();
        let task = Task {
            session,
            origin: Instant::now(),
            seen,
            own: own_of_daemon,
            requests,
            ordered,
            member,
            store: None,
            watch: None,
            calls: JoinSet::new(),
            ends: RepeatedEnds::default(),
        };
        let task = tokio::spawn(task.run(connect));
        Client { seen: seen_by_daemon, own, swaps, orders, task }
    }

    /// Notes that the daemon decides from now on: see [`Membership::decide`](membership::Membership::decide).
    pub fn decide(&self) {
        self.order(Order::Decide);
    }

    /// Accepts the store's documents on all servers.
    pub fn accept(&self) {
        self.order(Order::Accept);
    }

    /// Ends the lease, so that the other servers need not wait for its end.
    pub async fn leave(mut self) {
        self.order(Order::Leave);
        timeout(LEAVING, &mut self.task).await.ok();
    }

    fn order(&self, order: Order) {
        // `seen` reports a task that has ended.
        self.orders.send(order).ok();
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
    ordered: mpsc::UnboundedReceiver<Order>,
    /// The number of the member to connect to next.
    member: usize,
    /// The connection.
    store: Option<S>,
    watch: Option<S::Watch>,
    /// The calls under way, and since when.
    calls: JoinSet<(Duration, Result<Outcome<S>, Error>)>,
    /// The ends of open sessions.
    ends: RepeatedEnds,
}

/// The result of a call.
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
                // The daemon's orders come before the store's answers.
                biased;
                order = self.ordered.recv() => match order {
                    Some(Order::Decide) => self.session.decide(),
                    Some(Order::Accept) => self.session.accept(),
                    Some(Order::Leave) | None => return self.leave().await,
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

    /// Begins a call to the store.
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

    /// Drops everything of a session that is over.
    fn forget(&mut self) {
        if self.store.is_some() || !self.calls.is_empty() {
            tracing::debug!("the store: {}", self.session.lost());
        }
        if self.seen.borrow().is_up
            && let Some(ends) = self.ends.count(Instant::now())
        {
            let lost = self.session.lost();
            tracing::warn!(
                "the session with the store has ended {ends} times within a minute, this time because of: {lost}"
            );
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
                    // The caller may have ended.
                    reply.send(store.swap(swap).await).ok();
                });
            }
            (Changing::Refused(reason), _) => refuse(request, reason),
            _ => refuse(request, "no connection at the moment"),
        }
    }

    /// Gives the daemon the last state of the store.
    fn show(&self) {
        let (mode, trouble) = self.session.mode(self.now());
        let (view, is_up) = (self.session.view(), self.session.is_open());
        self.seen.send_if_modified(|seen| {
            let offered = self.session.offered();
            let is_same = Arc::ptr_eq(&seen.view, view)
                && seen.offered.as_ref() == offered
                && (seen.mode, &seen.trouble, seen.is_up) == (mode, &trouble, is_up);
            if is_same {
                return false;
            }
            if seen.mode != mode {
                seen.since = Timestamp::now();
            }
            (seen.view, seen.mode, seen.is_up) = (Arc::clone(view), mode, is_up);
            seen.trouble.clone_from(&trouble);
            seen.offered = offered.cloned();
            true
        });
    }

    async fn leave(self) {
        if let (Some(store), Some(lease)) = (self.store, self.session.lease()) {
            // If this fails, the lease ends by itself.
            store.revoke(lease).await.ok();
        }
    }
}

async fn perform<S: Store>(store: &S, call: Call) -> Result<Outcome<S>, Error> {
    let answer = match call {
        Call::Connect => Answer::Connected,
        Call::List => Answer::Listing(store.list().await?),
        Call::Had { key, revision } => Answer::Had(store.had(&key, revision).await?),
        Call::Lease(time) => {
            let lease = store.lease(time).await?;
            if lease.time != time {
                let [granted, asked] = [lease.time, time].map(|time| time.as_secs());
                tracing::info!("the store grants a lease of {granted} s, and was asked for {asked} s");
            }
            Answer::Lease(lease)
        }
        Call::Put { expected, writes, lease } => {
            store.put(expected, writes, lease).await?;
            Answer::Written
        }
        Call::Accept(swap) => {
            store.swap(swap).await?;
            Answer::Accepted
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

/// Returns the next changes, with all that have already arrived, so that they cause one decision. Without a watch it
/// waits for ever. Cancel safe.
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
mod tests;
