//! `tcp`: a connection that is established, which the probed service never sees.
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::{Fault, cannot_open, judge, judge_reported, unseen};

pub(super) async fn ask(target: SocketAddr, deadline: Instant) -> Result<(), Fault> {
    let socket = unnoticed_socket(target).map_err(|error| cannot_open(&error))?;
    connect(socket, target, deadline).await.map(drop)
}

pub(super) async fn connect(
    socket: TcpSocket,
    target: SocketAddr,
    deadline: Instant,
) -> Result<TcpStream, Fault> {
    let mut connecting = pin!(socket.connect(target));
    // An error at the first poll comes from this machine: no packet has left it yet.
    match poll_fn(|context| Poll::Ready(connecting.as_mut().poll(context))).await {
        Poll::Ready(connected) => return connected.map_err(|error| judge(&error)),
        Poll::Pending => {}
    }
    match tokio::time::timeout_at(deadline, connecting).await {
        Ok(connected) => connected.map_err(|error| judge_reported(&error)),
        Err(_elapsed) => Err(unseen("timeout")),
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

#[cfg(test)]
mod tests {
    use super::super::wrong;
    use super::*;
    use std::net::{IpAddr, TcpListener};

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
}
