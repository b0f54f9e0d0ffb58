//! One HTTP request to a node's metrics listener, made inside the node's namespace.
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::bed::node::Node;

/// The address of the metrics on every node of a plan with [`LISTEN`].
pub const ADDRESS: &str = "127.0.0.1:9153";
/// The line of `[metrics]` for [`ADDRESS`].
pub const LISTEN: &str = "listen = \"127.0.0.1:9153\"";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The HTTP status.
    pub code: u16,
    /// Everything after the head.
    pub body: String,
}

/// Sends a GET request for a path.
///
/// # Errors
/// No server listens, or no whole response comes within 5 s.
pub fn fetch(node: &Node, path: &str) -> Result<Fetched> {
    let text = node.namespace.enter(|| {
        let mut stream =
            TcpStream::connect(ADDRESS).with_context(|| format!("no daemon listens on {ADDRESS}"))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {ADDRESS}\r\nconnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).with_context(|| format!("{path}: no whole response"))?;
        Ok(text)
    })?;
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("{path}: no head in {text:?}"))?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Fetched { code: code.with_context(|| format!("{path}: no code in {head:?}"))?, body: body.to_owned() })
}

/// Returns the value of one line of `/metrics`; `name` includes the labels as written there.
///
/// # Errors
/// There is no such line.
pub fn metric(node: &Node, name: &str) -> Result<f64> {
    let text = fetch(node, "/metrics")?.body;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.with_context(|| format!("{} has no metric {name}:\n{text}", node.name))
}
