//! The limits for clients of the metrics listener.
use std::io;
use std::net::TcpListener;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::connections::{self, Limits, Listener};

/// The limits of a connection. A head may take longer than a page's refresh; Prometheus and browsers open a new
/// connection after one has ended.
const LIMITS: Limits =
    Limits { connections: 64, head: Duration::from_secs(10), lifetime: Duration::from_secs(60) };

struct MetricsListener(tokio::net::TcpListener);

impl Listener for MetricsListener {
    type Stream = TcpStream;
    const NAME: &'static str = "metrics listener";

    async fn accept(&self) -> io::Result<TcpStream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }
}

/// Serves until the future is dropped, which also ends its connections.
pub(super) async fn serve(listener: TcpListener, router: Router) -> io::Result<()> {
    let listener = MetricsListener(tokio::net::TcpListener::from_std(listener)?);
    connections::serve(listener, router, LIMITS, CancellationToken::new()).await;
    Ok(())
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
    async fn silent_clients_delay_no_other_client() {
        let listener = super::super::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, Router::new().route("/", get(|| async { "here" }))));
        let mut silent = Vec::new();
        for _ in 0..LIMITS.connections * 2 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let response = tokio::time::timeout(LIMITS.head / 2, ask(address)).await;
        assert!(response.unwrap().ends_with("here"));
        serving.abort();
    }

    #[tokio::test]
    async fn a_client_that_sends_no_whole_request_is_disconnected() {
        let listener = super::super::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(serve(listener, Router::new()));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        let mut rest = Vec::new();
        let read =
            tokio::time::timeout(LIMITS.head + Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "the connection is still open");
        serving.abort();
    }
}
