//! A TCP connection that a kind of probe talks over: opened, held to the time limit, and quoted.
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::{Fault, cannot_open, tcp, wrong};

/// Characters of a reply that are shown in a reason.
const QUOTED: usize = 100;

/// Connects. A host that takes the connection is visible from then on.
pub(super) async fn connect(target: SocketAddr, deadline: Instant) -> Result<TcpStream, Fault> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    tcp::connect(socket.map_err(|error| cannot_open(&error))?, target, deadline).await
}

/// What is said over an established connection: silence until the deadline is the failure of a visible host.
pub(super) async fn in_time(
    deadline: Instant,
    exchange: impl Future<Output = Result<(), Fault>>,
) -> Result<(), Fault> {
    tokio::time::timeout_at(deadline, exchange).await.unwrap_or_else(|_elapsed| Err(wrong("timeout")))
}

/// The beginning of the first line of a reply, as far as a person can read it.
pub(super) fn quote(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply);
    let line = text.trim_start().lines().next().unwrap_or_default();
    line.chars().filter(|letter| !letter.is_control()).take(QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_one_short_line_without_control_characters() {
        assert_eq!(quote(b"\r\n220 \x1b[31mmail\xff ready\r\nsecond"), "220 [31mmail\u{fffd} ready");
        assert_eq!(quote("x".repeat(1000).as_bytes()).len(), QUOTED);
        assert_eq!(quote(b""), "");
    }
}
