//! The loop over the datagrams of one socket.
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::counters::Transport;
use super::update::{Pending, is_update};
use super::{Exchange, Received, stopped};

/// The most datagrams answered at the end, more than wait in a socket. The limit lets the daemon end during a flood.
const REST_MAX: usize = 8192;

/// The pause after an error of receiving, so that a persistent error does not make the loop spin.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// Answers datagrams until the stop.
pub(super) async fn serve(socket: UdpSocket, exchange: Arc<Exchange>, stop: CancellationToken) {
    let mut buffer = vec![0; usize::from(u16::MAX)];
    let mut stopped = pin!(stopped(stop));
    // Updates, whose number the exchange bounds. Queries do not wait for them.
    let mut updates: JoinSet<(Vec<u8>, SocketAddr)> = JoinSet::new();
    loop {
        let received = tokio::select! {
            // Datagrams that wait in the socket at the stop are still answered.
            biased;
            Some(done) = updates.join_next() => {
                if let Ok((response, peer)) = done {
                    send(&socket, &response, peer).await;
                }
                continue;
            }
            received = socket.recv_from(&mut buffer) => received,
            () = &mut stopped => break,
        };
        match received {
            Ok((length, peer)) => {
                if let Some(pending) = answer(&socket, &exchange, &buffer[..length], peer).await {
                    let exchange = Arc::clone(&exchange);
                    updates.spawn(async move { (exchange.finish(*pending, Transport::Udp).await, peer) });
                }
            }
            Err(error) => {
                tracing::warn!(%error, "receiving over udp failed");
                sleep(ERROR_PAUSE).await;
            }
        }
    }
    answer_the_rest(socket, &exchange, &mut buffer);
}

/// Answers the messages that wait in the socket, even if the runtime has not reported them yet. Leaves later messages.
fn answer_the_rest(socket: UdpSocket, exchange: &Exchange, buffer: &mut [u8]) {
    let Ok(socket) = socket.into_std() else { return };
    for _ in 0..REST_MAX {
        let Ok((length, peer)) = socket.recv_from(buffer) else { return };
        // There is no time for an update: its client asks again.
        if answerable(peer, socket.local_addr())
            && !is_update(&buffer[..length])
            && let Received::Answer(Some(response)) =
                exchange.receive(&buffer[..length], Transport::Udp, peer)
        {
            // Do not wait for a client that cannot be reached now.
            socket.send_to(&response, peer).ok();
        }
    }
}

/// Answers a message. Returns an update whose answer follows.
async fn answer(
    socket: &UdpSocket,
    exchange: &Exchange,
    message: &[u8],
    peer: SocketAddr,
) -> Option<Box<Pending>> {
    if !answerable(peer, socket.local_addr()) {
        exchange.counters.count_dropped(Transport::Udp);
        return None;
    }
    match exchange.receive(message, Transport::Udp, peer) {
        Received::Answer(Some(response)) => send(socket, &response, peer).await,
        Received::Answer(None) => {}
        Received::Update(pending) => return Some(pending),
    }
    None
}

async fn send(socket: &UdpSocket, response: &[u8], peer: SocketAddr) {
    if let Err(error) = socket.send_to(response, peer).await {
        tracing::trace!(%peer, %error, "sending over udp failed");
    }
}

/// Whether an answer to `peer` goes to a single other host, and not back to this socket.
fn answerable(peer: SocketAddr, local: io::Result<SocketAddr>) -> bool {
    let one_host = match peer.ip() {
        IpAddr::V4(address) => {
            !(address.is_unspecified() || address.is_multicast() || address.is_broadcast())
        }
        IpAddr::V6(address) => !(address.is_unspecified() || address.is_multicast()),
    };
    one_host && peer.port() != 0 && local.is_ok_and(|local| local != peer)
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::super::clients::Clients;
    use super::super::update::Updates;
    use super::super::{Lease, UpdateChannel};
    use super::*;

    #[tokio::test]
    async fn what_the_runtime_has_not_told_of_is_answered_before_the_end() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        // A header alone, with the id 7: FORMERR.
        let query = [0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        client.send_to(&query, socket.local_addr().unwrap()).unwrap();
        let (_publisher, zone) = watch::channel(None);
        let (counters, clients) = (Arc::default(), Clients::default());
        let (lease, updates) = (Lease::default(), Updates::new(UpdateChannel::closed()));
        let exchange = Exchange { zone, lease, identity: Vec::new(), counters, clients, updates };
        answer_the_rest(socket, &exchange, &mut [0; 512]);
        client.set_nonblocking(true).unwrap();
        let mut answer = [0; 512];
        assert_eq!(client.recv(&mut answer).unwrap(), 12);
        assert_eq!(answer[..4], [0, 7, 0x80, 1]);
    }

    #[test]
    fn a_source_that_no_answer_reaches_is_not_answered() {
        let local = "192.0.2.11:53".parse().unwrap();
        let expected = [
            ("192.0.2.100:4096", true),
            ("192.0.2.11:4096", true),
            ("192.0.2.11:53", false),
            ("192.0.2.100:0", false),
            ("0.0.0.0:4096", false),
            ("224.0.0.1:4096", false),
            ("255.255.255.255:4096", false),
            ("[::]:4096", false),
            ("[ff02::1]:4096", false),
            ("[2001:db8::100]:4096", true),
        ];
        for (peer, answered) in expected {
            assert_eq!(answerable(peer.parse().unwrap(), Ok(local)), answered, "{peer}");
        }
    }
}
