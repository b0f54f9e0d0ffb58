//! The connections of the metrics listener: so many at a time, each for so long, whatever a client does.
use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// At a time; whoever comes then waits for a place.
const CONNECTIONS: usize = 64;
/// For the head of a request, and between two of them: longer than a page's refresh.
const HEAD: Duration = Duration::from_secs(10);
/// For a connection as a whole; Prometheus and browsers open another.
const LIFETIME: Duration = Duration::from_secs(60);
/// The head of a request is kept in this.
const BUFFER: usize = 16 * 1024;
/// After an error in accepting, say because there are no file descriptors.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves until it is dropped, which ends its connections too.
pub(super) async fn serve(listener: TcpListener, router: Router) -> io::Result<Infallible> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes it");
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(converse(stream, router.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "the metrics listener cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, router: Router, _place: OwnedSemaphorePermit) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // What goes wrong is the client's affair.
    if let Ok(ended) = tokio::time::timeout(LIFETIME, connection).await {
        ended.ok();
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn ask(address: std::net::SocketAddr) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn silent_clients_take_all_places_only_for_a_while() {
        let listener = super::super::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, Router::new().route("/", get(|| async { "here" }))));
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let waits = tokio::time::timeout(Duration::from_millis(300), ask(address)).await;
        assert!(waits.is_err(), "there was a place left: {waits:?}");
        silent.pop();
        let response = tokio::time::timeout(Duration::from_secs(5), ask(address)).await;
        assert!(response.unwrap().ends_with("here"));
        serving.abort();
    }

    #[tokio::test]
    async fn whoever_does_not_say_what_it_wants_is_hung_up_on() {
        let listener = super::super::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, Router::new()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(HEAD + Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "the connection is still open");
        serving.abort();
    }
}
