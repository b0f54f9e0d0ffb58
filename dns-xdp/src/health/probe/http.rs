//! `http` and `https`: a GET request, the code of the response, and what is in its body.
use std::error::Error as _;
use std::io;
use std::net::IpAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::{Fault, cannot_open, tcp, tls, wrong};
use crate::cluster::Http;

/// Octets of the body that the pattern is looked for in; also the most that the header may take.
const PREFIX: usize = 64 * 1024;
const USER_AGENT: &str = concat!("dns-xdp/", env!("CARGO_PKG_VERSION"));
/// RFC 9110, section 4.2.
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

pub(super) async fn ask(http: &Http, address: IpAddr, deadline: Instant) -> Result<(), Fault> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| cannot_open(&error))?;
    let stream = tcp::connect(socket, (address, http.port).into(), deadline).await?;
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
    // From here on the host is visible: it has taken the connection.
    tokio::time::timeout_at(deadline, exchange).await.unwrap_or_else(|_elapsed| Err(wrong("timeout")))
}

fn request(http: &Http, address: IpAddr) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    Request::get(http.path.as_str())
        .header(header::HOST, authority(http, address))
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
}

/// RFC 9110, section 7.2: the port is part of it unless it is the scheme's own.
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
    let (mut sender, connection) =
        builder.handshake(TokioIo::new(stream)).await.map_err(|error| complaint(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| complaint(&error))?;
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
    // Both in this task, so that nothing outlives it.
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        _ended = connection => exchange.await,
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

/// What is wrong, found among the causes of an error.
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
