//! `tcp`: establishes a connection that the probed service does not see, or waits for a reply that contains the
//! expected text.
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::icmp_errors::IcmpErrors;
use super::{Fault, cannot_open, stream, tls, wrong};
use crate::cluster::{Expect, TcpDialogue};

/// The most octets of a reply that are searched for the expected text.
const LONGEST_REPLY: usize = 16 * 1024;
/// The shortest word of `send` that is treated as a secret.
const SHORTEST_SECRET: usize = 4;

pub(super) async fn ask(target: SocketAddr, deadline: Instant) -> Result<(), Fault> {
    let socket = unnoticed_socket(target).map_err(|error| cannot_open(&error))?;
    connect(socket, target, deadline).await.map(drop)
}

/// Sends the text of `send`, and reads until the expected text is there.
pub(super) async fn talk(dialogue: &TcpDialogue, address: IpAddr, deadline: Instant) -> Result<(), Fault> {
    let mut stream = stream::connect((address, dialogue.port).into(), deadline).await?;
    let mut reply = Vec::new();
    let exchange = async {
        if let Some(send) = &dialogue.send {
            stream.write_all(send.as_bytes()).await.map_err(|error| tls::complaint(&error))?;
        }
        read_until(&mut stream, &dialogue.expect, &mut reply).await
    };
    let talked = stream::in_time(deadline, exchange).await;
    // The reply explains more than the end of the connection.
    let is_telling = |fault: &Fault| matches!(fault, Fault::Theirs(_)) && !reply.is_empty();
    match talked {
        Err(fault) if is_telling(&fault) => {
            let secrets = dialogue.send.as_deref().map(secrets).unwrap_or_default();
            Err(wrong(format!("reply does not match: {}", stream::quote(&reply, &secrets))))
        }
        talked => talked,
    }
}

/// Returns the words of `send` that a quoted reply must not show, because a word may be a password. The first word of a
/// line is the command, which is not a secret.
fn secrets(send: &str) -> Vec<&str> {
    let words = send.lines().flat_map(|line| line.split_whitespace().skip(1));
    let words = words.map(|word| word.trim_matches(['\'', '"']));
    let mut words: Vec<&str> = words.filter(|word| word.len() >= SHORTEST_SECRET).collect();
    // The longest first, because one word may be part of another.
    words.sort_unstable_by_key(|word| std::cmp::Reverse(word.len()));
    words
}

async fn read_until(stream: &mut TcpStream, expect: &Expect, reply: &mut Vec<u8>) -> Result<(), Fault> {
    while reply.len() < LONGEST_REPLY {
        let mut rest = (&mut *stream).take((LONGEST_REPLY - reply.len()) as u64);
        let count = rest.read_buf(reply).await.map_err(|error| tls::complaint(&error))?;
        if expect.is_in(reply) {
            return Ok(());
        }
        if count == 0 {
            return Err(wrong("closed"));
        }
    }
    Err(wrong("reply too long"))
}

pub(super) async fn connect(
    socket: TcpSocket,
    target: SocketAddr,
    deadline: Instant,
) -> Result<TcpStream, Fault> {
    let errors = IcmpErrors::of(&socket, target.ip()).map_err(|error| cannot_open(&error))?;
    let mut connecting = pin!(socket.connect(target));
    // An error at the first poll comes from this machine: no packet has left it yet.
    match poll_fn(|context| Poll::Ready(connecting.as_mut().poll(context))).await {
        Poll::Ready(Err(error)) => return Err(errors.judge_at_once(&error)),
        Poll::Ready(Ok(stream)) => {
            errors.end();
            return Ok(stream);
        }
        Poll::Pending => {}
    }
    match tokio::time::timeout_at(deadline, connecting).await {
        Ok(Ok(stream)) => {
            errors.end();
            Ok(stream)
        }
        Ok(Err(error)) => Err(errors.judge(&error)),
        Err(_elapsed) => Err(errors.judge_silence()),
    }
}

/// Returns a socket whose connection the probed service never sees. The host's SYN-ACK proves that it listens. This
/// side holds its ACK back (no quick ACK) and resets at once (linger 0). The half-open connection therefore vanishes
/// before it reaches the accept queue. The service has no connection to accept and nothing to log, and this machine has
/// no TIME_WAIT. A plain close would leave one TIME_WAIT for each probe. Linger 0 alone would show the service a reset
/// connection.
fn unnoticed_socket(target: SocketAddr) -> io::Result<TcpSocket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_quickack(false)?;
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

#[cfg(test)]
mod tests {
    use super::super::unseen;
    use super::*;
    use crate::cluster::Pattern;
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    fn listener(address: &str) -> (TcpListener, u16) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    async fn try_port(address: &str, port: u16) -> Result<(), Fault> {
        let address: IpAddr = address.parse().unwrap();
        ask((address, port).into(), Instant::now() + Duration::from_millis(200)).await
    }

    #[tokio::test]
    async fn a_listening_port_is_a_success_over_both_families() {
        for address in ["127.0.0.1", "::1"] {
            let (_listener, port) = listener(address);
            assert_eq!(try_port(address, port).await, Ok(()), "{address}");
        }
    }

    #[tokio::test]
    async fn the_probed_service_never_sees_the_connection() {
        let (listener, port) = listener("127.0.0.1");
        listener.set_nonblocking(true).unwrap();
        assert_eq!(try_port("127.0.0.1", port).await, Ok(()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_visible() {
        let (closed, port) = listener("127.0.0.1");
        drop(closed);
        assert_eq!(try_port("127.0.0.1", port).await, Err(wrong("refused")));
    }

    #[tokio::test]
    async fn a_full_accept_queue_is_silence() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let target = socket.local_addr().unwrap().as_socket().unwrap();
        let _occupant = std::net::TcpStream::connect(target).unwrap();
        assert_eq!(try_port("127.0.0.1", target.port()).await, Err(unseen("timeout")));
    }

    /// Starts a server that reads `octets`, answers in these parts, and holds the connection for `hold`.
    fn server(octets: usize, parts: &'static [&'static str], hold: Duration) -> u16 {
        let (listener, port) = listener("127.0.0.1");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut vec![0; octets]).unwrap();
            for part in parts {
                // A client closes the connection when it has read enough.
                stream.write_all(part.as_bytes()).ok();
                thread::sleep(Duration::from_millis(20));
            }
            thread::sleep(hold);
        });
        port
    }

    async fn said(port: u16, send: Option<&str>, expect: Expect) -> Result<(), Fault> {
        let dialogue = TcpDialogue { port, send: send.map(str::to_owned), expect };
        talk(&dialogue, Ipv4Addr::LOCALHOST.into(), Instant::now() + Duration::from_millis(500)).await
    }

    fn text(text: &str) -> Expect {
        Expect::Text(text.to_owned())
    }

    fn pattern(pattern: &str) -> Expect {
        Expect::Pattern(Pattern(regex::bytes::Regex::new(pattern).unwrap()))
    }

    const LONG: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_reply_that_has_the_expected_in_it_is_a_success_without_waiting_for_more() {
        let ping = Some("PING\r\n");
        assert_eq!(said(server(6, &["+PO", "NG\r\n"], LONG), ping, text("+PONG")).await, Ok(()));
        let greeting = server(0, &["220 mail.example.com\r\n"], LONG);
        assert_eq!(said(greeting, None, pattern("^220[ -]")).await, Ok(()));
        let last = server(6, &["x", "+PONG"], Duration::ZERO);
        assert_eq!(said(last, ping, text("PONG")).await, Ok(()), "also when the server closes behind it");
    }

    #[tokio::test]
    async fn another_reply_is_quoted_whether_the_server_closes_or_waits() {
        let expected = Err(wrong("reply does not match: -LOADING data"));
        for hold in [Duration::ZERO, LONG] {
            let port = server(6, &["-LOADING data\r\n", "more\r\n"], hold);
            assert_eq!(said(port, Some("PING\r\n"), text("PONG")).await, expected);
        }
    }

    #[tokio::test]
    async fn silence_and_an_early_end_are_failures_of_a_visible_host() {
        assert_eq!(said(server(0, &[], LONG), None, text("x")).await, Err(wrong("timeout")));
        assert_eq!(said(server(0, &[], Duration::ZERO), None, text("x")).await, Err(wrong("closed")));
        let (closed, port) = listener("127.0.0.1");
        drop(closed);
        assert_eq!(said(port, None, text("x")).await, Err(wrong("refused")));
    }

    #[tokio::test]
    async fn a_reply_is_read_to_a_limit() {
        let (listener, port) = listener("127.0.0.1");
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let expected = Err(wrong(format!("reply does not match: {}", "x".repeat(100))));
        assert_eq!(said(port, None, text("y")).await, expected);
        serving.join().unwrap();
    }
}
