//! The accept loop and the connections. Their number is bounded: a connection of the client prefix with the most
//! connections is closed (RFC 7766, section 6.2.2).
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dns_xdp_ebpf::table::{self, address_words};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::ReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::counters::Transport;
use super::{Exchange, IDLE_TIMEOUT, Received, stopped};

/// The most connections at a time, over all addresses, if there are descriptors for them.
pub(super) const CAPACITY: usize = 1024;

/// Prefix lengths of IPv4 and IPv6. All addresses of such a prefix count as one client.
const PREFIXES: [u8; 2] = [24, 56];

/// The pause after an error of `accept`, so that the loop does not spin without descriptors. Meanwhile the connection
/// that was closed returns its descriptor.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Accepts connections until the stop, then waits for connections that are being answered.
pub(super) async fn serve(
    listener: TcpListener,
    exchange: Arc<Exchange>,
    connections: Arc<Connections>,
    stop: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    let mut is_failing = false;
    let mut stopped_accepting = pin!(stopped(stop.clone()));
    loop {
        let accepted = tokio::select! {
            // Connections that wait in the backlog at the stop are still served.
            biased;
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
            () = &mut stopped_accepting => break,
        };
        match accepted {
            Ok((stream, client)) => {
                is_failing = false;
                let seat = Connections::enter(&connections, client.ip());
                tasks.spawn(converse_seated(stream, Arc::clone(&exchange), seat, stop.clone()));
                // Let the closed connection release its descriptor, and let the new connection be read before others
                // replace it.
                yield_now().await;
            }
            // The client has closed the connection. More connections may wait.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // Log only the first error in a row, because there may be 100 a second.
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "accepting a tcp connection failed: closing a connection of the client with the most");
                }
                connections.make_room();
                sleep(ERROR_PAUSE).await;
            }
        }
    }
    for (stream, client) in backlog(listener) {
        let seat = Connections::enter(&connections, client);
        tasks.spawn(converse_seated(stream, Arc::clone(&exchange), seat, stop.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

/// Returns the connections that wait to be accepted, even if the runtime has not reported them yet. Leaves later
/// connections.
fn backlog(listener: TcpListener) -> Vec<(TcpStream, IpAddr)> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accepted = std::iter::from_fn(|| listener.accept().ok());
    let ready = accepted.filter_map(|(stream, client)| {
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, client.ip()))
    });
    ready.collect()
}

async fn converse_seated(
    stream: TcpStream,
    exchange: Arc<Exchange>,
    mut seat: Seat,
    stop: CancellationToken,
) {
    let closed = seat.closed.clone();
    tokio::select! {
        ended = converse(stream, &exchange, &mut seat, stop) => {
            if let Err(error) = ended {
                tracing::trace!(%error, "a tcp connection ended");
            }
        }
        () = closed.cancelled() => {}
    }
}

/// Answers message after message, in order. Returns when the client has closed, has sent a message that gets no answer,
/// or has exceeded the time. At the stop it returns when no whole message waits.
async fn converse(
    mut stream: TcpStream,
    exchange: &Exchange,
    seat: &mut Seat,
    stop: CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let client = stream.peer_addr()?;
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::new(reader);
    let mut stopped = pin!(stopped(stop));
    loop {
        let message = tokio::select! {
            biased;
            message = timeout(IDLE_TIMEOUT, read_message(&mut reader)) => message??,
            () = &mut stopped => return Ok(()),
        };
        seat.touch();
        let response = match exchange.receive(&message, Transport::Tcp, client) {
            Received::Answer(response) => response,
            Received::Update(pending) => Some(exchange.finish(*pending, Transport::Tcp).await),
        };
        let Some(response) = response else { return Ok(()) };
        let framed = framed(&response);
        // Free the memory, because the client may read slowly and ask more.
        drop((message, response));
        timeout(IDLE_TIMEOUT, writer.write_all(&framed)).await??;
    }
}

async fn read_message(reader: &mut BufReader<ReadHalf<'_>>) -> io::Result<Vec<u8>> {
    let length = reader.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    reader.read_exact(&mut message).await?;
    Ok(message)
}

/// Returns length and message in one piece, so that they leave in one segment (RFC 7766, section 8).
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), message].concat()
}

/// The open connections, over all addresses.
#[derive(Debug)]
pub(super) struct Connections {
    capacity: usize,
    prefixes: table::FloodPolicy,
    open: Mutex<Open>,
}

/// The open connections by turn. A connection takes a new turn at each message, so the lowest turn is idle longest.
#[derive(Debug, Default)]
struct Open {
    next_turn: u64,
    by_turn: BTreeMap<u64, Taken>,
    /// The number of connections of each prefix.
    held: HashMap<u64, usize>,
}

/// An occupied seat.
#[derive(Debug, Clone)]
struct Taken {
    prefix: u64,
    closed: CancellationToken,
}

/// One connection's place among the open connections. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Seat {
    connections: Arc<Connections>,
    turn: u64,
    closed: CancellationToken,
}

impl Connections {
    /// Makes room for `capacity` connections.
    pub(super) fn new(capacity: usize) -> Connections {
        let mut prefixes = table::FloodPolicy::NONE;
        prefixes.set_prefixes(PREFIXES[0], PREFIXES[1]);
        Connections { capacity, prefixes, open: Mutex::default() }
    }

    /// Takes a seat. When all seats are taken, a connection of the prefix with the most connections is closed. A client
    /// with hundreds of connections therefore loses its own connections first.
    fn enter(connections: &Arc<Connections>, client: IpAddr) -> Seat {
        let mut open = connections.lock();
        if open.by_turn.len() >= connections.capacity {
            open.make_room();
        }
        let closed = CancellationToken::new();
        let prefix = connections.prefixes.prefix(address_words(client));
        let turn = open.take(Taken { prefix, closed: closed.clone() });
        Seat { connections: Arc::clone(connections), turn, closed }
    }

    fn make_room(&self) {
        self.lock().make_room();
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn take(&mut self, seat: Taken) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        *self.held.entry(seat.prefix).or_default() += 1;
        self.by_turn.insert(turn, seat);
        turn
    }

    fn give_back(&mut self, turn: u64) -> Option<Taken> {
        let seat = self.by_turn.remove(&turn)?;
        if let Some(held) = self.held.get_mut(&seat.prefix) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&seat.prefix);
            }
        }
        Some(seat)
    }

    /// Closes a connection of the prefixes with the most connections: the one that is idle longest.
    fn make_room(&mut self) {
        let most = self.held.values().copied().max();
        let mut in_turn = self.by_turn.iter();
        let of_most = in_turn.find(|(_, seat)| self.held.get(&seat.prefix).copied() == most);
        if let Some(seat) = of_most.map(|(turn, _)| *turn).and_then(|turn| self.give_back(turn)) {
            seat.closed.cancel();
        }
    }
}

impl Seat {
    /// Marks that the connection has just been active.
    fn touch(&mut self) {
        let mut open = self.connections.lock();
        if let Some(seat) = open.give_back(self.turn) {
            self.turn = open.take(seat);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.lock().give_back(self.turn);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::super::clients::Clients;
    use super::super::update::Updates;
    use super::super::{Counters, Lease, UpdateChannel};
    use super::*;

    #[tokio::test]
    async fn a_new_connection_is_served_when_all_seats_are_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let (_publisher, zone) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let clients = Clients::default();
        let (lease, updates) = (Lease::default(), Updates::new(UpdateChannel::closed()));
        let exchange = Arc::new(Exchange { zone, lease, identity: Vec::new(), counters, clients, updates });
        let connections = Arc::new(Connections::new(1));
        let serving = tokio::spawn(serve(listener, exchange, connections, CancellationToken::new()));

        let mut idle = TcpStream::connect(server).await.unwrap();
        let mut new = TcpStream::connect(server).await.unwrap();
        // A header alone, with the id 7: FORMERR.
        new.write_all(&framed(&[0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])).await.unwrap();
        let mut answer = [0; 14];
        new.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, [0, 12, 0, 7, 0x80, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
        serving.abort();
    }

    #[tokio::test]
    async fn a_connection_of_which_the_runtime_has_not_heard_is_in_the_backlog() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(backlog(listener).len(), 1);
    }

    /// Takes a seat for a client in 192.0.`network`.0/24.
    fn enter(connections: &Arc<Connections>, network: u8) -> Seat {
        Connections::enter(connections, IpAddr::from([192, 0, network, 1]))
    }

    #[test]
    fn a_full_house_closes_the_connection_that_was_idle_longest() {
        let connections = Arc::new(Connections::new(2));
        let mut first = enter(&connections, 2);
        let second = enter(&connections, 2);
        first.touch();
        let third = enter(&connections, 2);
        assert!(!first.closed.is_cancelled());
        assert!(second.closed.is_cancelled());
        assert!(!third.closed.is_cancelled());
    }

    #[test]
    fn who_has_most_connections_makes_room_for_the_others() {
        let connections = Arc::new(Connections::new(4));
        let modest = enter(&connections, 1);
        let crowd = [2; 3].map(|network| enter(&connections, network));
        let more = enter(&connections, 2);
        let other = enter(&connections, 3);
        assert!([&modest, &more, &other].iter().all(|seat| !seat.closed.is_cancelled()));
        assert_eq!(crowd.map(|seat| seat.closed.is_cancelled()), [true, true, false]);
    }

    #[test]
    fn a_connection_that_ended_leaves_its_seat_to_the_next() {
        let connections = Arc::new(Connections::new(1));
        drop(enter(&connections, 1));
        let seat = enter(&connections, 2);
        assert!(!seat.closed.is_cancelled());
        let open = connections.lock();
        assert_eq!((open.by_turn.len(), open.held.len()), (1, 1));
    }
}
