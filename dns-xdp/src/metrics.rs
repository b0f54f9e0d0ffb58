//! The HTTP listener of the daemon: metrics for Prometheus, health checks for load balancers, and a status page for
//! people.
//!
//! ```text
//!   loop ──counters, times──► Recorder ◄──────────────────────────┐
//!    ▲                                                             ├── /metrics  /healthz  /readyz  /
//!    └── Status and Stats, one question at a time ◄── StatusCache ─┘
//! ```
//! The listener only reads. The loop never waits for it. All readers share one answer of the loop; if the loop does not
//! answer, they get its last answer. Connections are bounded in number and time.
mod connections;
#[cfg(test)]
mod dist_files;
mod page;
mod rates;
mod recorder;
mod status_cache;
mod text;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use jiff::Timestamp;

pub use self::recorder::{Recorder, Repair};
use self::status_cache::Life;
pub use self::status_cache::StatusCache;
use crate::control::api::Status;

/// The media type of OpenMetrics 1.0, which the encoder writes.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const STYLE: &str = include_str!("metrics/page.css");
const SCRIPT: &str = include_str!("metrics/page.js");
/// The page's security headers: only its own 2 files, nothing inline, no frames.
const PAGE_HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
];

/// Binds the listener.
///
/// # Errors
/// The address is taken, or does not belong to this machine.
pub fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.with_context(|| format!("cannot bind [metrics] listen = \"{address}\": name another, or \"off\""))
}

/// Serves `/metrics`, `/healthz`, `/readyz` and the status page at `/`. `/healthz` succeeds while the loop runs.
/// `/readyz` succeeds while the loop also has the decided answers published. The listener ends when the future is
/// dropped.
pub async fn serve(listener: TcpListener, status_cache: Arc<StatusCache>) {
    let router = Router::new()
        .route("/", get(page))
        .route("/page.css", get(|| async { asset("text/css; charset=utf-8", STYLE) }))
        .route("/page.js", get(|| async { asset("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(status_cache);
    if let Err(error) = connections::serve(listener, router).await {
        tracing::error!(%error, "the metrics listener failed: restart the daemon to have it again");
    }
}

async fn page(State(status_cache): State<Arc<StatusCache>>) -> Response {
    let view = status_cache.view().await;
    let life = status_cache.life();
    let code = if view.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let html =
        page::page(status_cache.server(), &life, view.as_deref(), &status_cache.events(), Timestamp::now());
    (code, PAGE_HEADERS, Html(html.into_string())).into_response()
}

fn asset(content_type: &'static str, text: &'static str) -> Response {
    (PAGE_HEADERS, [(header::CONTENT_TYPE, content_type)], text).into_response()
}

async fn metrics(State(status_cache): State<Arc<StatusCache>>) -> Response {
    match status_cache.view().await {
        Some(view) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text::encode(&view, status_cache.recorder()))
            .into_response(),
        None => unwell(&status_cache.life()),
    }
}

async fn healthz(State(status_cache): State<Arc<StatusCache>>) -> Response {
    match status_cache.life() {
        Life::Starting | Life::Running => "ok\n".into_response(),
        life @ Life::Hung(_) => unwell(&life),
    }
}

async fn readyz(State(status_cache): State<Arc<StatusCache>>) -> Response {
    let view = status_cache.view().await;
    match (status_cache.life(), view) {
        (Life::Running, Some(view)) if view.status.up_to_date => ready(&view.status).into_response(),
        (Life::Running, Some(view)) => {
            (StatusCode::SERVICE_UNAVAILABLE, view.status.alarms.join("\n") + "\n").into_response()
        }
        (life, _) => unwell(&life),
    }
}

/// The text of `/readyz`. A server that is frozen, blind or fails open answers as well as it can. Taking it out of
/// service would help no client.
fn ready(status: &Status) -> String {
    let mut text = "ready\n".to_owned();
    let mut but =
        |what: &str, why: &str| writeln!(text, "but {what}: {why}").expect("a string takes every line");
    if let Some(reason) = &status.frozen {
        but("frozen", reason);
    }
    if let Some(reason) = &status.blind {
        but("blind", reason);
    }
    if status.fail_open {
        but("fail-open", "no node is up, and dead addresses are answered");
    }
    text
}

fn unwell(life: &Life) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, life.to_string() + "\n").into_response()
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
        let (status_cache, inbox) = status_cache::tests::status_cache();
        let serving = tokio::spawn(serve(listener, status_cache));
        let controller = tokio::spawn(status_cache::tests::answer(inbox));
        let scraped = get(address, "/metrics").await;
        assert!(scraped.contains("\r\ncontent-type: application/openmetrics-text;"), "{scraped}");
        assert!(
            scraped.contains("dns_xdp_packets_total{outcome=\"type\",action=\"passed\"} 5\n"),
            "{scraped}"
        );
        assert!(get(address, "/healthz").await.ends_with("\r\n\r\nok\n"));
        assert!(get(address, "/readyz").await.ends_with("\r\n\r\nready\n"));
        let page = get(address, "/").await;
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("demo.example.com."), "{page}");
        assert!(
            page.contains("\r\ncontent-security-policy: default-src 'none'; style-src 'self';"),
            "{page}"
        );
        assert!(get(address, "/page.js").await.contains("\r\ncontent-type: text/javascript"));
        assert!(get(address, "/nothing").await.starts_with("HTTP/1.1 404 "));
        controller.abort();
        serving.abort();
    }

    #[tokio::test]
    async fn before_the_first_publication_the_server_lives_but_is_not_ready() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, _inbox) = tokio::sync::mpsc::channel(1);
        let journal = Arc::new(crate::event::Journal::new(Timestamp::UNIX_EPOCH));
        let status_cache = StatusCache::new("node1".to_owned(), calls, journal, Recorder::default());
        let serving = tokio::spawn(serve(listener, Arc::new(status_cache)));
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        for path in ["/readyz", "/metrics", "/"] {
            let response = get(address, path).await;
            assert!(response.starts_with("HTTP/1.1 503 "), "{path}: {response}");
            assert!(response.contains("nothing is published yet"), "{path}: {response}");
        }
        serving.abort();
    }

    #[test]
    fn a_server_that_is_frozen_or_fails_open_is_ready_and_says_so() {
        let (mut status, _) = text::tests::example();
        status.frozen = Some("1 of 2 is visible".to_owned());
        status.fail_open = true;
        let expected = "ready\nbut frozen: 1 of 2 is visible\n\
                        but fail-open: no node is up, and dead addresses are answered\n";
        assert_eq!(ready(&status), expected);
    }

    #[test]
    fn an_address_that_is_taken_is_named_with_its_key() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = bind(holder.local_addr().unwrap()).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot bind [metrics] listen = \"127.0.0.1:"), "{error:#}");
    }
}
