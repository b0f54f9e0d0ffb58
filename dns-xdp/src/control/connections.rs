//! The listener of the control socket. It serves only root and the daemon's user. Each of these users has its own
//! places.
use std::io;
use std::time::Duration;

use nix::unistd::{Uid, geteuid};
use tokio::net::{UnixListener, UnixStream};

use crate::connections::{Limits, Listener};

/// The limits for each user. A connection may live longer than any client waits.
pub(super) const LIMITS: Limits =
    Limits { connections: 128, head: Duration::from_secs(10), lifetime: Duration::from_secs(60) };

pub(super) struct ControlSocket(pub(super) UnixListener);

impl Listener for ControlSocket {
    type Stream = UnixStream;
    const NAME: &'static str = "control socket";

    async fn accept(&self) -> io::Result<UnixStream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }

    fn admits(&self, stream: &UnixStream) -> bool {
        let peer = peer(stream);
        let admitted = admitted(peer, geteuid());
        if !admitted {
            tracing::warn!("the control socket is for root and the daemon's user alone, not for {peer:?}");
        }
        admitted
    }

    /// Returns the group of the user: root, or the daemon's user if that is not root.
    fn group(&self, stream: &UnixStream) -> usize {
        usize::from(!peer(stream).is_some_and(Uid::is_root))
    }
}

/// Returns the user that made the connection (SO_PEERCRED, unix(7)).
fn peer(stream: &UnixStream) -> Option<Uid> {
    stream.peer_cred().ok().map(|peer| Uid::from_raw(peer.uid()))
}

fn admitted(peer: Option<Uid>, own: Uid) -> bool {
    peer.is_some_and(|uid| uid.is_root() || uid == own)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Instant;

    use axum::Router;
    use axum::body::Bytes;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::sleep;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::connections::serve;

    /// More octets than a socket buffers.
    const LONG: usize = 4 << 20;
    const QUICK: Limits =
        Limits { connections: 3, head: Duration::from_millis(300), lifetime: Duration::from_millis(900) };

    /// Starts a server. The caller keeps its directory.
    fn start() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let router = Router::new()
            .route("/", get(|| async { "here" }))
            .route("/long", get(|| async { vec![b'x'; LONG] }))
            .route("/", post(|_body: Bytes| async { "heard" }));
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(serve(ControlSocket(listener), router, QUICK, CancellationToken::new()));
        (directory, socket)
    }

    async fn said(stream: &mut UnixStream, request: &[u8]) -> String {
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A broken connection counts as ended.
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
    async fn halves_of_requests_keep_nobody_waiting() {
        const HALVES: [&[u8]; 3] =
            [b"", b"GET / HTTP/1.1\r\nx: ", b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"];
        let (_directory, socket) = start();
        let mut silent = Vec::new();
        for half in HALVES.iter().cycle().take(QUICK.connections * 10) {
            let mut stream = UnixStream::connect(&socket).await.unwrap();
            stream.write_all(half).await.unwrap();
            silent.push(stream);
        }
        let start = Instant::now();
        let mut stream = UnixStream::connect(&socket).await.unwrap();
        let answer = said(&mut stream, b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(answer.ends_with("here"), "{answer}");
        assert!(start.elapsed() < QUICK.head / 2, "it has waited for others: {:?}", start.elapsed());
    }
}
