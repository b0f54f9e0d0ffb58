//! Asking a node whether it is healthy: the effects behind an [`Observation`].
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpSocket;
use tokio::time::Instant;

use super::verdict::{Failure, Observation};
use crate::cluster::ProbeKind;

/// Makes one probe; it is over after `timeout` at the latest.
pub async fn probe(kind: &ProbeKind, address: IpAddr, timeout: Duration) -> Observation {
    match *kind {
        ProbeKind::Tcp { port } => connect(SocketAddr::new(address, port), timeout).await,
    }
}

async fn connect(target: SocketAddr, timeout: Duration) -> Observation {
    let start = Instant::now();
    let socket = match unnoticed_socket(target) {
        Ok(socket) => socket,
        Err(error) => return Observation::Inconclusive { reason: format!("cannot open a socket: {error}") },
    };
    match tokio::time::timeout(timeout, socket.connect(target)).await {
        Ok(Ok(_established)) => Observation::Success { round_trip: start.elapsed() },
        Ok(Err(error)) => judge(&error),
        Err(_elapsed) => failure("timeout", false),
    }
}

/// A socket whose connection the probed service never sees. The host's SYN-ACK is the proof that it listens;
/// we hold our ACK back (no quick ACK) and reset at once (linger 0), so the half-open connection vanishes
/// before it reaches the accept queue: no connection to accept, nothing in the service's log, no TIME_WAIT
/// with us. A plain close would leave a TIME_WAIT a probe; linger 0 alone would show up as a reset connection
/// at the service.
fn unnoticed_socket(target: SocketAddr) -> io::Result<TcpSocket> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_quickack(false)?;
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(TcpSocket::from_std_stream(socket.into()))
}

fn judge(error: &io::Error) -> Observation {
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ECONNREFUSED => failure("refused", true),
        Errno::ECONNRESET => failure("reset", true),
        Errno::ETIMEDOUT => failure("timeout", false),
        Errno::EMFILE
        | Errno::ENFILE
        | Errno::ENOBUFS
        | Errno::ENOMEM
        | Errno::EAGAIN
        | Errno::EADDRNOTAVAIL
        | Errno::EAFNOSUPPORT
        // A local firewall or a prohibit route forbids us to ask.
        | Errno::EACCES
        | Errno::EPERM => Observation::Inconclusive { reason: format!("cannot probe: {error}") },
        Errno::UnknownErrno => failure(&error.to_string(), false),
        errno => failure(&errno.desc().to_lowercase(), false),
    }
}

fn failure(reason: &str, visible: bool) -> Observation {
    Observation::Failure(Failure { reason: reason.to_owned(), visible })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    const TIMEOUT: Duration = Duration::from_millis(200);

    fn listener(address: &str) -> (TcpListener, u16) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    async fn ask(address: &str, port: u16) -> Observation {
        probe(&ProbeKind::Tcp { port }, address.parse().unwrap(), TIMEOUT).await
    }

    #[tokio::test]
    async fn a_listening_port_is_a_success_over_both_families() {
        for address in ["127.0.0.1", "::1"] {
            let (_listener, port) = listener(address);
            assert!(matches!(ask(address, port).await, Observation::Success { .. }), "{address}");
        }
    }

    #[tokio::test]
    async fn the_probed_service_never_sees_the_connection() {
        let (listener, port) = listener("127.0.0.1");
        listener.set_nonblocking(true).unwrap();
        assert!(matches!(ask("127.0.0.1", port).await, Observation::Success { .. }));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_visible() {
        let (closed, port) = listener("127.0.0.1");
        drop(closed);
        assert_eq!(ask("127.0.0.1", port).await, failure("refused", true));
    }

    #[tokio::test]
    async fn a_full_accept_queue_is_silence() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
        socket.listen(0).unwrap();
        let target = socket.local_addr().unwrap().as_socket().unwrap();
        let _occupant = std::net::TcpStream::connect(target).unwrap();
        assert_eq!(ask("127.0.0.1", target.port()).await, failure("timeout", false));
    }

    #[test]
    fn what_is_wrong_with_us_is_inconclusive() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL, Errno::EPERM] {
            assert!(matches!(judge(&errno.into()), Observation::Inconclusive { .. }), "{errno}");
        }
    }

    #[test]
    fn an_unreachable_host_is_not_visible() {
        assert_eq!(judge(&Errno::EHOSTUNREACH.into()), failure("no route to host", false));
        assert_eq!(judge(&Errno::ENETUNREACH.into()), failure("network is unreachable", false));
    }
}
