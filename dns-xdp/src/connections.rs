//! The HTTP connections of a listener: so many at a time, each for so long, whatever a client does.
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// What clients may take up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Connections at a time; whoever comes then waits for a place.
    pub(crate) connections: usize,
    /// For the head of a request, and between two of them.
    pub(crate) head: Duration,
    /// For a connection as a whole.
    pub(crate) lifetime: Duration,
}

/// Where connections come from.
pub(crate) trait Listener: Sync {
    /// One of them.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// What the log calls it.
    const NAME: &'static str;

    /// Waits for the next one.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Whether it is served; otherwise it is closed.
    fn admits(&self, _stream: &Self::Stream) -> bool {
        true
    }
}

/// The head of a request is kept in this.
const BUFFER: usize = 16 * 1024;
/// After an error in accepting, say because there are no file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until `stop` is cancelled and the answers under way are given. Dropped before, it ends its connections too.
pub(crate) async fn serve<L: Listener>(listener: L, router: Router, limits: Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &places)).await {
        match accepted {
            Ok((stream, place)) if listener.admits(&stream) => {
                connections.spawn(converse(stream, router.clone(), place, limits, stop.clone()));
            }
            Ok(_refused) => {}
            Err(error) => {
                tracing::warn!(%error, "the {} cannot accept a connection", L::NAME);
                // Cut short when it is to stop.
                stop.run_until_cancelled(sleep(PAUSE)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A place first: whoever finds none waits in the system's queue, where it holds nothing of ours.
async fn accept<L: Listener>(
    listener: &L,
    places: &Arc<Semaphore>,
) -> io::Result<(L::Stream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.expect("nobody closes it");
    listener.accept().await.map(|stream| (stream, place))
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    _place: OwnedSemaphorePermit,
    limits: Limits,
    stop: CancellationToken,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let conversation = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    // What goes wrong is the client's affair.
    if let Ok(ended) = timeout(limits.lifetime, conversation).await {
        ended.ok();
    }
}
