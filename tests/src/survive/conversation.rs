//! TCP clients that are always in the middle of an exchange: they send the first part of a query, and later the second.
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::bed::client::Tcp;
use crate::bed::netns::Namespace;
use crate::bed::plan::ZONE;
use crate::oracle::frames::message::{A, IN, Message, name};

const DNS_PORT: u16 = 53;
const CLIENTS: usize = 8;
/// The time between the two parts.
const HESITATION: Duration = Duration::from_millis(20);
/// The longest time for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before the next try while no server listens.
const PAUSE: Duration = Duration::from_millis(5);

/// The running clients. A drop ends the clients.
#[derive(Debug)]
pub struct Conversation {
    is_over: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<Exchanges>>>,
}

/// The results of the exchanges, each on its own connection.
#[derive(Debug, Clone, Default)]
pub struct Exchanges {
    /// Begun and answered as expected.
    pub finished: u64,
    /// Begun, and not answered as expected.
    pub broken: u64,
    /// Reset before the answer: the listener was closed before it accepted the connection.
    pub reset: u64,
    /// Not begun: no server listened.
    pub refused: u64,
    /// The fault of the first broken exchange.
    pub example: Option<String>,
}

impl Exchanges {
    /// Adds the exchanges of another client.
    #[must_use]
    pub fn and(self, other: Exchanges) -> Exchanges {
        Exchanges {
            finished: self.finished + other.finished,
            broken: self.broken + other.broken,
            reset: self.reset + other.reset,
            refused: self.refused + other.refused,
            example: self.example.or(other.example),
        }
    }
}

impl Conversation {
    /// Starts the clients, which ask for the server's name.
    ///
    /// # Errors
    /// The server does not answer over TCP.
    pub fn start(from: &Namespace, server: IpAddr) -> Result<Conversation> {
        let query = Message { id: 0, ..Message::query(&name(&format!("node1.{ZONE}.")), A, IN) }.bytes();
        let answer = Tcp::new(from, server).exchange(&query)?;
        let answer = answer.with_context(|| format!("{server} does not answer over tcp"))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS).map(|_| {
            let (is_over, query, answer) = (Arc::clone(&is_over), framed(&query), framed(&answer));
            let from = from.clone();
            thread::spawn(move || from.enter(|| Ok(talk(server, &query, &answer, &is_over))))
        });
        Ok(Conversation { clients: clients.collect(), is_over })
    }

    /// Ends the clients when their exchanges are over.
    ///
    /// # Errors
    /// A client has panicked, or no client has had an answer.
    pub fn finish(mut self) -> Result<Exchanges> {
        self.is_over.store(true, Ordering::Relaxed);
        let mut all = Exchanges::default();
        for client in self.clients.drain(..) {
            all = all.and(client.join().map_err(|_| anyhow!("a client over tcp has panicked"))??);
        }
        ensure!(all.finished > 0, "nothing was answered over tcp: {all:?}");
        Ok(all)
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn talk(server: IpAddr, query: &[u8], answer: &[u8], is_over: &AtomicBool) -> Exchanges {
    let mut exchanges = Exchanges::default();
    while !is_over.load(Ordering::Relaxed) {
        let stream = match TcpStream::connect((server, DNS_PORT)) {
            Ok(stream) => stream,
            Err(_) => {
                exchanges.refused += 1;
                sleep(PAUSE);
                continue;
            }
        };
        match exchange(stream, query, answer.len()) {
            Ok(heard) if heard == answer => exchanges.finished += 1,
            Ok(heard) => exchanges.break_off(format!("another answer: {heard:02x?}")),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => exchanges.reset += 1,
            Err(error) => exchanges.break_off(error.to_string()),
        }
    }
    exchanges
}

impl Exchanges {
    fn break_off(&mut self, what: String) {
        self.broken += 1;
        self.example.get_or_insert(what);
    }
}

fn exchange(mut stream: TcpStream, query: &[u8], length: usize) -> std::io::Result<Vec<u8>> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    let (first, second) = query.split_at(query.len() / 2);
    stream.write_all(first)?;
    sleep(HESITATION);
    stream.write_all(second)?;
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => std::io::Error::other("closed in the middle of an exchange"),
        _ => error,
    })?;
    Ok(answer)
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a message has less than 64 KiB");
    [&length.to_be_bytes(), message].concat()
}
