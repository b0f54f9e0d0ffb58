//! The HTTP connections of a listener. Their number and the time of each are limited.
mod places;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::places::{Activity, Arriving, Places};

/// The limits on the connections of one listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The most connections of one [`Listener::group`] at a time. A further connection replaces the connection that has
    /// waited longest for its client.
    pub(crate) connections: usize,
    /// The longest time for the head of a request, and between two requests.
    pub(crate) head: Duration,
    /// The longest time for a whole connection.
    pub(crate) lifetime: Duration,
}

/// A source of connections.
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

    /// Returns the group whose places the connection takes. No group can take the places of another group.
    fn group(&self, _stream: &Self::Stream) -> usize {
        0
    }
}

/// Octets of the buffer for the head of a request.
const BUFFER: usize = 16 * 1024;
/// The pause after `accept` has failed, for example for lack of file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until `stop` is cancelled and the answers under way are sent. If the future is dropped earlier, all
/// connections close.
///
/// A client that sends half a request, or reads half an answer, keeps its place only until another client needs it.
pub(crate) async fn serve<L: Listener>(listener: L, router: Router, limits: Limits, stop: CancellationToken) {
    let mut places = Places::new(limits.connections);
    let mut connections = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok(stream) if listener.admits(&stream) => {
                let activity = places.activity();
                if let Some(place) = places.free(listener.group(&stream)) {
                    let conversation =
                        converse(stream, router.clone(), activity.clone(), limits, stop.clone());
                    place.take(activity, connections.spawn(conversation));
                }
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

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    router: Router,
    activity: Activity,
    limits: Limits,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let (router, activity) = (router.clone(), activity.clone());
        async move {
            let request = request.map(|body| Arriving::new(body, activity.clone()));
            let response = router.call(request).await;
            activity.wait();
            response
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let conversation = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stop.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    // An error on a connection affects only its client.
    if let Ok(ended) = timeout(limits.lifetime, conversation).await {
        ended.ok();
    }
}
