//! Prometheus text over HTTP: what `status` and `stats` say, asked of the controller at each scrape.
mod text;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::control::api::{Stats, Status};
use crate::control::{Call, Command};

/// Prometheus gives a scrape ten seconds; a loop that takes this long is not well.
const PATIENCE: Duration = Duration::from_secs(2);
/// OpenMetrics 1.0, which the encoder writes.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Binds the listener.
///
/// # Errors
/// The address is taken, or none of this machine.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.with_context(|| format!("cannot bind [metrics] listen = \"{address}\": name another, or \"off\""))
}

/// Serves `/metrics`, and `/healthz` and `/readyz`, which are well when the controller's loop answers: before the
/// first publication, and when it hangs, it does not.
pub async fn serve(listener: TcpListener, calls: mpsc::Sender<Call>) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(calls);
    let served = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => axum::serve(listener, router).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::error!(%error, "the metrics listener failed: restart the daemon to have it again");
    }
}

async fn metrics(State(calls): State<mpsc::Sender<Call>>) -> Response {
    let answers = tokio::join!(ask::<Status>(&calls, Command::Status), ask::<Stats>(&calls, Command::Stats));
    match answers {
        (Some(status), Some(stats)) => {
            ([(header::CONTENT_TYPE, CONTENT_TYPE)], text::encode(status, stats)).into_response()
        }
        _ => unwell(),
    }
}

async fn healthz(State(calls): State<mpsc::Sender<Call>>) -> Response {
    ask::<Status>(&calls, Command::Status).await.map_or_else(unwell, |_| "ok\n".into_response())
}

/// Besides, everything that was decided is published.
async fn readyz(State(calls): State<mpsc::Sender<Call>>) -> Response {
    match ask::<Status>(&calls, Command::Status).await {
        Some(status) if status.up_to_date => "ready\n".into_response(),
        Some(status) => (StatusCode::SERVICE_UNAVAILABLE, status.alarms.join("\n") + "\n").into_response(),
        None => unwell(),
    }
}

fn unwell() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "the controller does not answer (yet)\n").into_response()
}

async fn ask<T: DeserializeOwned>(calls: &mpsc::Sender<Call>, command: Command) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    let asked = async {
        calls.send(Call { command, reply }).await.ok()?;
        answer.await.ok()?.ok()
    };
    serde_json::from_value(timeout(PATIENCE, asked).await.ok()??).ok()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).await.unwrap();
        response
    }

    #[tokio::test]
    async fn a_loop_that_answers_is_healthy_and_its_numbers_are_shown() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, mut inbox) = mpsc::channel::<Call>(4);
        let serving = tokio::spawn(serve(listener, calls));
        let controller = tokio::spawn(async move {
            while let Some(Call { command, reply }) = inbox.recv().await {
                let (status, stats) = text::tests::example();
                let answer = match command {
                    Command::Status => serde_json::to_value(status),
                    _ => serde_json::to_value(stats),
                };
                reply.send(Ok(answer.unwrap())).unwrap();
            }
        });
        assert!(get(address, "/metrics").await.contains("dns_xdp_responses_total{rcode=\"NXDOMAIN\"} 3\n"));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));
        controller.abort();
        controller.await.ok();
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 503 "));
        serving.abort();
    }

    #[test]
    fn an_address_that_is_taken_is_named_with_its_key() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind(holder.local_addr().unwrap()).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot bind [metrics] listen = \"127.0.0.1:"), "{error:#}");
    }
}
