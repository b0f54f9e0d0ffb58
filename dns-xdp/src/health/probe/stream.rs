//! A probe's TCP connection: opening it, limiting its time, and quoting its replies.
use std::net::SocketAddr;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::{Fault, cannot_open, tcp, wrong};

/// The most characters of a reply that a reason shows.
const QUOTED: usize = 100;
/// The number of leading octets of a secret that are hidden anywhere in a reply. At the end of a reply fewer are
/// enough.
const TELLING: usize = 8;
const TELLING_AT_THE_END: usize = 3;
/// The text that replaces a secret.
const HIDDEN: &str = "…";

/// Connects. A host that accepts the connection is visible from then on.
pub(super) async fn connect(target: SocketAddr, deadline: Instant) -> Result<TcpStream, Fault> {
    let socket = if target.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    tcp::connect(socket.map_err(|error| cannot_open(&error))?, target, deadline).await
}

/// Limits the time of an exchange over an established connection. Silence until the deadline is the failure of a
/// visible host.
pub(super) async fn in_time(
    deadline: Instant,
    exchange: impl Future<Output = Result<(), Fault>>,
) -> Result<(), Fault> {
    tokio::time::timeout_at(deadline, exchange).await.unwrap_or_else(|_elapsed| Err(wrong("timeout")))
}

/// Returns the beginning of the first line of a reply, without control characters. Shows each secret as [`HIDDEN`],
/// because a server may repeat what it was sent. Hides secrets first: a cut or a removed octet would leave a part of a
/// secret.
pub(super) fn quote(reply: &[u8], secrets: &[&str]) -> String {
    let mut text = String::from_utf8_lossy(reply).into_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = hide(&text, secret);
    }
    let line = text.trim_start().lines().next().unwrap_or_default();
    line.chars().filter(|letter| !letter.is_control()).take(QUOTED).collect()
}

/// Hides a secret in a text, and also its beginning: servers shorten text that they repeat, and a reply may end
/// anywhere.
fn hide(text: &str, secret: &str) -> String {
    let (mut shown, mut rest) = (String::new(), text);
    while let Some(letter) = rest.chars().next() {
        let pairs = rest.chars().zip(secret.chars());
        let common: usize = pairs.take_while(|(a, b)| a == b).map(|(letter, _)| letter.len_utf8()).sum();
        let is_at_the_end = common == rest.len() && common >= TELLING_AT_THE_END;
        if common == secret.len() || common >= TELLING || is_at_the_end {
            shown.push_str(HIDDEN);
            rest = &rest[common..];
        } else {
            shown.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_is_one_short_line_without_control_characters() {
        assert_eq!(quote(b"\r\n220 \x1b[31mmail\xff ready\r\nsecond", &[]), "220 [31mmail\u{fffd} ready");
        assert_eq!(quote("x".repeat(1000).as_bytes(), &[""]).len(), QUOTED);
        assert_eq!(quote(b"", &[]), "");
    }

    #[test]
    fn a_quote_shows_no_secret_and_no_part_of_one() {
        let secrets = ["hunter2", "probe"];
        assert_eq!(quote(b"unknown command 'hunter2', 'probe'", &secrets), "unknown command '…', '…'");
        let at_the_cut = format!("{}hunter2", "x".repeat(QUOTED - 3));
        assert!(quote(at_the_cut.as_bytes(), &secrets).ends_with("x…"));
        assert_eq!(quote(b" lead\x01ing", &[" lead\x01ing"]), "…");
        assert_eq!(quote("args 'correct horse' …".as_bytes(), &["correct horse battery"]), "args '…' …");
        assert_eq!(quote(b"what is hunt", &secrets), "what is …");
        assert_eq!(quote("größe größer".as_bytes(), &["größe"]), "… …r");
    }
}
