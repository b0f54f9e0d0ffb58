//! The connections of the control socket: of root and the daemon's own user alone, so many at a time, each for so long,
//! whatever a client does.
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::unistd::{Uid, geteuid};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// What clients may take up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at a time; whoever comes then waits for a place.
    connections: usize,
    /// For the head of a request, and between two of them.
    head: Duration,
    /// For a connection as a whole.
    lifetime: Duration,
}

/// A connection lives longer than the patience of any client.
pub(super) const LIMITS: Limits =
    Limits { connections: 256, head: Duration::from_secs(10), lifetime: Duration::from_secs(60) };

/// The head of a request is kept in this.
const BUFFER: usize = 16 * 1024;
/// After an error in accepting, say because there are no file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until `stop` is cancelled and the answers under way are given.
pub(super) async fn serve(listener: UnixListener, router: Router, limits: Limits, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &places)).await {
        match accepted {
            Ok((stream, place)) if admitted(peer(&stream), geteuid()) => {
                connections.spawn(converse(stream, router.clone(), place, limits, stop.clone()));
            }
            Ok((stream, _)) => {
                tracing::warn!(
                    "the control socket is for root and the daemon's user alone, not for {:?}",
                    peer(&stream)
                );
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept a connection");
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
async fn accept(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.expect("nobody closes it");
    listener.accept().await.map(|(stream, _)| (stream, place))
}

/// The user at the other end when it connected (SO_PEERCRED, unix(7)).
fn peer(stream: &UnixStream) -> Option<Uid> {
    stream.peer_cred().ok().map(|peer| Uid::from_raw(peer.uid()))
}

fn admitted(peer: Option<Uid>, own: Uid) -> bool {
    peer.is_some_and(|uid| uid.is_root() || uid == own)
}

async fn converse(
    stream: UnixStream,
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Instant;

    use axum::body::Bytes;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// More than a socket holds.
    const LONG: usize = 4 << 20;
    const QUICK: Limits =
        Limits { connections: 3, head: Duration::from_millis(300), lifetime: Duration::from_millis(900) };

    /// A server that lasts as long as the directory.
    fn start() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/long", get(|| async { vec![b'x'; LONG] }))
            .route("/", post(|_body: Bytes| async { "heard" }));
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(serve(listener, router, QUICK, CancellationToken::new()));
        (directory, socket)
    }

    async fn said(stream: &mut UnixStream, request: &[u8]) -> String {
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // Cut off is as good as ended.
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn root_and_the_daemons_own_user_are_admitted() {
        let [root, own, other] = [0, 999, 1000].map(Uid::from_raw);
        assert!(admitted(Some(root), own) && admitted(Some(own), own) && admitted(Some(root), root));
        assert!(!admitted(Some(other), own) && !admitted(Some(own), root) && !admitted(None, own));
    }

    #[tokio::test]
    async fn whoever_does_not_say_all_that_it_wants_is_hung_up_on() {
        let (_directory, socket) = start();
        let cases: [(&[u8], Duration); 3] = [
            (b"", QUICK.head),
            (b"GET / HTTP/1.1\r\nx: ", QUICK.head),
            (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{", QUICK.lifetime),
        ];
        for (begun, limit) in cases {
            let start = Instant::now();
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            said(&mut stream, begun).await;
            assert!((limit..limit * 20).contains(&start.elapsed()), "{begun:?}: {:?}", start.elapsed());
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_not_read_is_given_up() {
        let (_directory, socket) = start();
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        stream.write_all(b"GET /long HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        sleep(QUICK.lifetime * 3).await;
        let read = said(&mut stream, b"").await.len();
        assert!(read > 0 && read < LONG, "{read} octets were read");
    }

    #[tokio::test]
    async fn clients_that_take_all_places_are_outlived() {
        let (_directory, socket) = start();
        let mut silent = Vec::new();
        for _ in 0..QUICK.connections {
            silent.push(UnixStream::connect(&socket).await.unwrap());
        }
        let start = Instant::now();
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let answer = said(&mut stream, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.ends_with("here"), "{answer}");
        assert!(start.elapsed() >= QUICK.head / 2, "there was a place left: {:?}", start.elapsed());
    }
}
