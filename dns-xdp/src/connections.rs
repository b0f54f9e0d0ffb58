//! The HTTP connections of a listener. Their number and the time of each are limited, whatever a client does.
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

/// The limits on the connections of one listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most connections at a time. Further clients wait in the kernel's queue.
    pub(crate) connections: usize,
    /// The longest time for the head of a request, and between two requests.
    pub(crate) head: Duration,
    /// The longest time for a whole connection.
    pub(crate) lifetime: Duration,
}

/// Where connections come from.
pub(crate) trait Listener: Sync {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;
    /// The name of the listener in the log.
    const NAME: &'static str;

    /// Waits for the next connection.
    fn accept(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Returns whether the connection is served. Otherwise it is closed.
    fn admits(&self, _stream: &Self::Stream) -> bool {
        true
    }
}

/// Octets of the buffer for the head of a request.
const BUFFER: usize = 16 * 1024;
/// The pause after `accept` has failed, for example for lack of file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until `stop` is cancelled and the answers under way are sent. If the future is dropped before, it closes all
/// connections.
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
                // The stop ends the pause early.
                stop.run_until_cancelled(sleep(PAUSE)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Waits for a free place before it accepts. A client that waits stays in the kernel's queue and uses no descriptor here.
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
    // Errors of a connection concern its client alone.
    if let Ok(ended) = timeout(limits.lifetime, conversation).await {
        ended.ok();
    }
}
