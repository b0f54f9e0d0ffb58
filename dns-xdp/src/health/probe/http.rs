//! `http` and `https`: a GET request. The probe checks the code of the response, and its body against a pattern.
use std::error::Error as _;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::{Fault, stream, tls, wrong};
use crate::cluster::Http;

/// The number of octets of the body that are searched for the pattern. It is also the limit of all heads of a response
/// together.
const PREFIX: usize = 64 * 1024;
const USER_AGENT: &str = concat!("dns-xdp/", env!("CARGO_PKG_VERSION"));
/// RFC 9110, section 4.2.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

pub(super) async fn ask(http: &Http, address: IpAddr, deadline: Instant) -> Result<(), Fault> {
    let stream = stream::connect((address, http.port).into(), deadline).await?;
    let request =
        request(http, address).map_err(|error| Fault::Ours(format!("cannot write the request: {error}")))?;
    let exchange = async {
        match &http.tls {
            None => exchange(stream, request, http).await,
            Some(trust) => {
                let name = http.host.clone().unwrap_or_else(|| address.to_string());
                exchange(tls::handshake(stream, trust, &name).await?, request, http).await
            }
        }
    };
    stream::in_time(deadline, exchange).await
}

fn request(http: &Http, address: IpAddr) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    Request::get(http.path.as_str())
        .header(header::HOST, authority(http, address))
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
}

/// The `Host` of the request. The header has the port unless the port is the scheme's default (RFC 9110, section 7.2).
fn authority(http: &Http, address: IpAddr) -> String {
    let host = match (&http.host, address) {
        (Some(host), _) => host.clone(),
        (None, IpAddr::V4(ipv4)) => ipv4.to_string(),
        (None, IpAddr::V6(ipv6)) => format!("[{ipv6}]"),
    };
    let usual = if http.tls.is_some() { HTTPS_PORT } else { HTTP_PORT };
    if http.port == usual { host } else { format!("{host}:{}", http.port) }
}

async fn exchange<S>(stream: S, request: Request<Empty<Bytes>>, http: &Http) -> Result<(), Fault>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(PREFIX);
    let limit = Arc::new(HeadLimit::default());
    let stream = HeadLimited { stream, read: 0, limit: Arc::clone(&limit) };
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| complaint(&error))?;
    let exchange = async {
        let mut response = pin!(sender.send_request(request));
        let response = poll_fn(|context| match response.as_mut().poll(context) {
            Poll::Ready(response) => Poll::Ready(response.map_err(|error| complaint(&error))),
            Poll::Pending if limit.reached.load(Ordering::Relaxed) => {
                Poll::Ready(Err(wrong("head too long")))
            }
            Poll::Pending => Poll::Pending,
        });
        let response = response.await?;
        limit.lifted.store(true, Ordering::Relaxed);
        let code = response.status().as_u16();
        if !http.codes.iter().any(|codes| codes.contains(&code)) {
            return Err(wrong(format!("http {code}")));
        }
        let Some(pattern) = &http.body else {
            return Ok(());
        };
        let prefix = prefix(response.into_body()).await.map_err(|error| complaint(&error))?;
        if pattern.0.is_match(&prefix) { Ok(()) } else { Err(wrong("body does not match")) }
    };
    // Both run in this task, so that nothing outlives it.
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        _ended = connection => exchange.await,
    }
}

/// The limit of a response's heads.
#[derive(Debug, Default)]
struct HeadLimit {
    /// Whether [`PREFIX`] octets have been read, and the reader wants more.
    reached: AtomicBool,
    /// Whether the head of the response is complete, so that its body follows.
    lifted: AtomicBool,
}

/// A stream that gives [`PREFIX`] octets, and further ones only after the limit is lifted.
///
/// A server may send any number of interim responses (RFC 9110, section 15.2). The HTTP library limits each head by
/// itself; here they count together.
struct HeadLimited<S> {
    stream: S,
    read: usize,
    limit: Arc<HeadLimit>,
}

impl<S: AsyncRead + Unpin> AsyncRead for HeadLimited<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.limit.lifted.load(Ordering::Relaxed) {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let left = PREFIX.saturating_sub(self.read);
        if left == 0 {
            // The exchange is in the same task. It either has the response already, or it gives up.
            self.limit.reached.store(true, Ordering::Relaxed);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut part = vec![0; left.min(buffer.remaining())];
        let mut part = ReadBuf::new(&mut part);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut part))?;
        buffer.put_slice(part.filled());
        self.read += part.filled().len();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for HeadLimited<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

async fn prefix(mut body: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut prefix = Vec::new();
    while prefix.len() < PREFIX
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            prefix.extend_from_slice(&data);
        }
    }
    prefix.truncate(PREFIX);
    Ok(prefix)
}

/// Finds the fault among the causes of an error.
fn complaint(error: &hyper::Error) -> Fault {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return tls::complaint(error);
        }
        cause = error.source();
    }
    if error.is_parse() {
        return wrong("not http");
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return wrong("closed");
    }
    wrong(format!("http: {error}"))
}

#[cfg(test)]
mod tests;
