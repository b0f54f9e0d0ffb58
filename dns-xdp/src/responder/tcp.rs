//! The accept loop and the connections: a bounded number, the one idle longest makes room (RFC 7766).
use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::ReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::counters::Transport;
use super::{Exchange, stopped};

/// Connections at a time, over all addresses, where there are descriptors for them.
pub(super) const CAPACITY: usize = 1024;

/// A connection is closed that has not brought the next whole message, or not taken the answer, after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// After an error in accepting, so that the want of descriptors does not make the loop spin. By then the connection that
/// was closed for it has given its descriptor back; who waits to be accepted waits no longer than need be.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Accepts connections until the stop, and then waits for those that are answering.
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
            // What waits in the backlog at the stop is still served.
            biased;
            Some(_) = tasks.join_next() => continue,
            accepted = listener.accept() => accepted,
            () = &mut stopped_accepting => break,
        };
        match accepted {
            Ok((stream, _)) => {
                is_failing = false;
                let seat = Connections::enter(&connections);
                tasks.spawn(converse_seated(stream, Arc::clone(&exchange), seat, stop.clone()));
            }
            // The client went away again; there may be more behind it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                // The first of a row is told, and not each of a hundred a second.
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%error, "accepting a tcp connection failed: closing the one idle longest");
                }
                connections.close_oldest();
                sleep(ERROR_PAUSE).await;
            }
        }
    }
    for stream in backlog(listener) {
        let seat = Connections::enter(&connections);
        tasks.spawn(converse_seated(stream, Arc::clone(&exchange), seat, stop.clone()));
    }
    while tasks.join_next().await.is_some() {}
}

/// The connections that wait to be accepted, and no more behind them: those too that the runtime has not told of yet.
fn backlog(listener: TcpListener) -> Vec<TcpStream> {
    let Ok(listener) = listener.into_std() else { return Vec::new() };
    let accepted = std::iter::from_fn(|| listener.accept().ok());
    let ready = accepted.filter_map(|(stream, _)| {
        stream.set_nonblocking(true).ok()?;
        TcpStream::from_std(stream).ok()
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

/// Answers message after message, in order. Returns when the client has closed, sent something that is not
/// to be answered, or let the time pass; at the stop, when no whole message waits to be answered.
async fn converse(
    mut stream: TcpStream,
    exchange: &Exchange,
    seat: &mut Seat,
    stop: CancellationToken,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let client = stream.peer_addr()?.ip();
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
        let Some(response) = exchange.answer(&message, Transport::Tcp, client) else { return Ok(()) };
        timeout(IDLE_TIMEOUT, writer.write_all(&framed(&response))).await??;
    }
}

async fn read_message(reader: &mut BufReader<ReadHalf<'_>>) -> io::Result<Vec<u8>> {
    let length = reader.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    reader.read_exact(&mut message).await?;
    Ok(message)
}

/// Length and message in one piece, so that they leave in one segment (RFC 7766, section 8).
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), message].concat()
}

/// The open connections, the one idle longest first.
#[derive(Debug)]
pub(super) struct Connections {
    capacity: usize,
    open: Mutex<Open>,
}

/// Every connection has a turn, and takes a new one at each message.
#[derive(Debug, Default)]
struct Open {
    next_turn: u64,
    by_turn: BTreeMap<u64, CancellationToken>,
}

/// One connection's place among the open ones; it is given up when dropped.
#[derive(Debug)]
pub(super) struct Seat {
    connections: Arc<Connections>,
    turn: u64,
    closed: CancellationToken,
}

impl Connections {
    /// Room for `capacity` connections.
    pub(super) fn new(capacity: usize) -> Connections {
        Connections { capacity, open: Mutex::default() }
    }

    /// Takes a seat; when all are taken, the connection that has been idle longest is closed for it.
    fn enter(connections: &Arc<Connections>) -> Seat {
        let mut open = connections.lock();
        if open.by_turn.len() >= connections.capacity {
            open.close_oldest();
        }
        let closed = CancellationToken::new();
        let turn = open.take_turn(closed.clone());
        Seat { connections: Arc::clone(connections), turn, closed }
    }

    fn close_oldest(&self) {
        self.lock().close_oldest();
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn take_turn(&mut self, closed: CancellationToken) -> u64 {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.by_turn.insert(turn, closed);
        turn
    }

    fn close_oldest(&mut self) {
        if let Some((_, closed)) = self.by_turn.pop_first() {
            closed.cancel();
        }
    }
}

impl Seat {
    /// The connection was not idle just now.
    fn touch(&mut self) {
        let mut open = self.connections.lock();
        if let Some(closed) = open.by_turn.remove(&self.turn) {
            self.turn = open.take_turn(closed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.lock().by_turn.remove(&self.turn);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::super::Counters;
    use super::super::clients::Clients;
    use super::*;

    #[tokio::test]
    async fn a_new_connection_is_served_when_all_seats_are_taken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let (_publisher, zone) = watch::channel(None);
        let counters = Arc::new(Counters::default());
        let clients = Clients::default();
        let exchange = Arc::new(Exchange { zone, identity: Vec::new(), counters, clients });
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

    #[test]
    fn a_full_house_closes_the_connection_that_was_idle_longest() {
        let connections = Arc::new(Connections::new(2));
        let mut first = Connections::enter(&connections);
        let second = Connections::enter(&connections);
        first.touch();
        let third = Connections::enter(&connections);
        assert!(!first.closed.is_cancelled());
        assert!(second.closed.is_cancelled());
        assert!(!third.closed.is_cancelled());
    }

    #[test]
    fn a_connection_that_ended_leaves_its_seat_to_the_next() {
        let connections = Arc::new(Connections::new(1));
        drop(Connections::enter(&connections));
        let seat = Connections::enter(&connections);
        assert!(!seat.closed.is_cancelled());
        assert_eq!(connections.lock().by_turn.len(), 1);
    }
}
