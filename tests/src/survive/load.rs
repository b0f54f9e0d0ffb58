//! The load: queries at a steady pace, each checked by its answer's octets, and each accounted for.
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::mem::{swap, take};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{setsockopt, sockopt};
use nix::unistd::Pid;

use super::inquiry::Inquiry;
pub use super::tally::{Change, Silence, Tally, thousands};
use crate::bed::netns::Namespace;

const DNS_PORT: u16 = 53;
/// Sockets for each family. A message id is used again after 65,536 queries of its socket. A query without an answer by
/// then, or [`LINGER`] after the last query, is lost.
const SOCKETS: usize = 8;
const IDS: usize = 1 << 16;
/// The time to wait for answers after the last query.
const LINGER: Duration = Duration::from_secs(2);
/// The time between two turns of the loop.
const TICK: Duration = Duration::from_micros(500);
/// The most queries of one turn. A client that has slept too long does not flood the ring of a veth; it sends fewer
/// queries in all.
const BURST: u64 = 64;
/// The shortest recorded time without a right answer of a server.
const SILENCE: Duration = Duration::from_millis(50);
/// The most changes that are kept.
const CHANGES: usize = 1024;
/// Octets of a socket's buffer: a client that has to wait for its core loses nothing.
const BUFFER: usize = 32 << 20;

/// The running client. A drop ends the client.
#[derive(Debug)]
pub struct Load {
    tally: Arc<Mutex<Tally>>,
    is_over: Arc<AtomicBool>,
    client: Option<JoinHandle<()>>,
}

/// The rate and the core of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Queries per second; `None`: as many as one core can.
    pub per_second: Option<u32>,
    /// The core that it is kept on.
    pub core: Option<usize>,
}

impl Pace {
    /// This many queries per second, from any core.
    pub fn of(per_second: u32) -> Pace {
        Pace { per_second: Some(per_second), core: None }
    }
}

impl Load {
    /// Starts a load that asks all these in turn.
    ///
    /// # Errors
    /// The sockets cannot be opened.
    pub fn start(from: &Namespace, inquiries: Vec<Inquiry>, pace: Pace) -> Result<Load> {
        Load::over(SOCKETS, from, inquiries, pace)
    }

    /// Like [`Load::start`], over one socket for each family. Answers are read in the order of sending.
    ///
    /// # Errors
    /// The same as for [`Load::start`].
    pub fn start_in_order(from: &Namespace, inquiries: Vec<Inquiry>, pace: Pace) -> Result<Load> {
        Load::over(1, from, inquiries, pace)
    }

    fn over(used: usize, from: &Namespace, inquiries: Vec<Inquiry>, pace: Pace) -> Result<Load> {
        ensure!(!inquiries.is_empty(), "there is nothing to ask");
        let sockets = from.enter(|| (0..2 * SOCKETS).map(open).collect::<Result<Vec<UdpSocket>>>())?;
        let tally = Arc::new(Mutex::new(Tally::default()));
        let is_over = Arc::new(AtomicBool::new(false));
        let mut client = Client::new(sockets, used, inquiries);
        lock(&tally).now.clone_from(&client.tally.now);
        let thread = thread::spawn({
            let (tally, is_over) = (Arc::clone(&tally), Arc::clone(&is_over));
            move || client.run(pace, &tally, &is_over)
        });
        Ok(Load { tally, is_over, client: Some(thread) })
    }

    /// The results so far; queries under way are only in the count of sent ones.
    pub fn so_far(&self) -> Tally {
        lock(&self.tally).clone()
    }

    /// The changes of answers since the last call, as long as these are not too many to be kept.
    pub fn take_changes(&self) -> VecDeque<Change> {
        take(&mut lock(&self.tally).changes)
    }

    /// Right answers so far.
    pub fn right(&self) -> u64 {
        lock(&self.tally).right
    }

    /// Returns since when the answer to an inquiry is one of the expected ones, but not a time before `moment`.
    ///
    /// # Errors
    /// The answer did not become one of these within `limit` after `moment`.
    pub fn becomes(
        &self,
        inquiry: usize,
        moment: Instant,
        limit: Duration,
        is_such: impl Fn(usize) -> bool,
    ) -> Result<Instant> {
        loop {
            {
                let tally = lock(&self.tally);
                let now = tally.now.get(inquiry).copied().flatten();
                if now.is_some_and(&is_such) {
                    let mut changes = tally.changes.iter().rev().filter(|change| change.inquiry == inquiry);
                    // The answer may have changed to another expected one since.
                    let such = changes.by_ref().take_while(|change| is_such(change.answer)).last();
                    return Ok(such.map_or(moment, |change| change.at.max(moment)));
                }
                ensure!(
                    moment.elapsed() <= limit,
                    "inquiry {inquiry} is answered with {now:?} after {limit:?}"
                );
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns when a server first gave a right answer, at `moment` or later.
    ///
    /// # Errors
    /// The server gave no right answer within `limit` after `moment`.
    pub fn answered_after(&self, server: IpAddr, moment: Instant, limit: Duration) -> Result<Instant> {
        loop {
            {
                let tally = lock(&self.tally);
                if tally.last_right.get(&server).is_some_and(|last| *last >= moment) {
                    let ended = |silence: &&Silence| silence.server == server && silence.to >= moment;
                    let first = tally.silences.iter().find(ended);
                    return Ok(first.filter(|it| it.from < moment).map_or(moment, |silence| silence.to));
                }
            }
            ensure!(moment.elapsed() <= limit, "{server} gives no right answer within {limit:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops sending, waits for the queries under way, and counts.
    ///
    /// # Errors
    /// The client has panicked, or its counts are inconsistent.
    pub fn finish(mut self) -> Result<Tally> {
        self.is_over.store(true, Ordering::Relaxed);
        let client = self.client.take().context("it is finished once")?;
        client.join().map_err(|_| anyhow!("the client of the load has panicked"))?;
        let tally = self.so_far();
        tally.check()?;
        Ok(tally)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// The first half of the sockets is for IPv4.
fn open(nth: usize) -> Result<UdpSocket> {
    let address: IpAddr =
        if nth < SOCKETS { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((address, 0)).context("cannot open a socket")?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).context("cannot have a large buffer")?;
    Ok(socket)
}

/// The state of the query that last used this socket and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unused,
    Open(u16),
    Answered,
}

struct Client {
    sockets: Vec<UdpSocket>,
    /// How many sockets of a family are used.
    used: usize,
    inquiries: Vec<Inquiry>,
    fates: Vec<Fate>,
    /// Queries sent over each family.
    counts: [usize; 2],
    open: u64,
    /// The number of the permitted answer in the last response, to any inquiry.
    last: Option<usize>,
    /// The shared tally during a turn of the loop; between turns an empty one.
    tally: Tally,
}

impl Client {
    fn new(sockets: Vec<UdpSocket>, used: usize, inquiries: Vec<Inquiry>) -> Client {
        let tally = Tally { now: vec![None; inquiries.len()], ..Tally::default() };
        let fates = vec![Fate::Unused; sockets.len() * IDS];
        Client { sockets, used, inquiries, fates, counts: [0; 2], open: 0, last: None, tally }
    }

    fn run(&mut self, pace: Pace, shared: &Mutex<Tally>, is_over: &AtomicBool) {
        if let Some(core) = pace.core {
            // If it cannot be pinned, the figures are of another core.
            keep_on(core).ok();
        }
        let mut due_from = Instant::now();
        let mut sent = 0;
        let mut turned = Instant::now();
        while !is_over.load(Ordering::Relaxed) {
            let burst = match pace.per_second {
                Some(rate) => {
                    let due = (due_from.elapsed().as_secs_f64() * f64::from(rate)) as u64;
                    if due > sent + 4 * BURST {
                        // Missed queries are not sent later.
                        (due_from, sent) = (Instant::now(), 0);
                    }
                    due.saturating_sub(sent).min(BURST)
                }
                None => BURST,
            };
            let pause = turned.elapsed();
            turned = Instant::now();
            self.turn(shared, |client| {
                client.tally.held_up = client.tally.held_up.max(pause);
                (0..burst).for_each(|_| client.send());
                client.receive();
            });
            sent += burst;
            if pace.per_second.is_some() {
                thread::sleep(TICK);
            } else {
                // Other threads have to get the tally's lock too.
                thread::yield_now();
            }
        }
        let end = Instant::now();
        while self.open > 0 && end.elapsed() < LINGER {
            self.turn(shared, Client::receive);
            thread::sleep(TICK);
        }
        self.turn(shared, |client| client.tally.lost += client.open);
    }

    /// Works on the shared tally.
    fn turn(&mut self, shared: &Mutex<Tally>, work: impl FnOnce(&mut Client)) {
        let mut shared = lock(shared);
        swap(&mut self.tally, &mut shared);
        work(self);
        swap(&mut self.tally, &mut shared);
    }

    fn send(&mut self) {
        let which = usize::try_from(self.tally.sent).unwrap_or_default() % self.inquiries.len();
        let inquiry = &mut self.inquiries[which];
        let family = usize::from(inquiry.server.is_ipv6());
        let count = self.counts[family];
        self.counts[family] += 1;
        let socket = family * SOCKETS + count % self.used;
        let id = (count / self.used) % IDS;
        inquiry.message[..2].copy_from_slice(&(id as u16).to_be_bytes());
        self.tally.sent += 1;
        let fate = &mut self.fates[socket * IDS + id];
        if matches!(fate, Fate::Open(_)) {
            self.tally.lost += 1;
            self.open -= 1;
        }
        let address = SocketAddr::new(inquiry.server, DNS_PORT);
        // If a server cannot be reached, the query counts as lost.
        self.sockets[socket].send_to(&inquiry.message, address).ok();
        *fate = Fate::Open(which as u16);
        self.open += 1;
    }

    fn receive(&mut self) {
        let mut buffer = [0; 2048];
        for socket in 0..self.sockets.len() {
            loop {
                match self.sockets[socket].recv_from(&mut buffer) {
                    Ok((length, from)) => self.take(socket, &buffer[..length], from),
                    // There is nothing to read, or an ICMP error about a query.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(_) => {}
                }
            }
        }
    }

    fn take(&mut self, socket: usize, answer: &[u8], from: SocketAddr) {
        let Some(id) = answer.first_chunk().map(|octets| usize::from(u16::from_be_bytes(*octets))) else {
            self.tally.surplus += 1;
            return;
        };
        let fate = &mut self.fates[socket * IDS + id];
        let Fate::Open(which) = *fate else {
            self.tally.surplus += 1;
            return;
        };
        *fate = Fate::Answered;
        self.open -= 1;
        let which = usize::from(which);
        let inquiry = &self.inquiries[which];
        let judged = if from == SocketAddr::new(inquiry.server, DNS_PORT) {
            inquiry.judge(answer)
        } else {
            Err(format!("{from} answers what {} was asked", inquiry.server))
        };
        match judged {
            Ok(permitted) => {
                self.tally.right += 1;
                self.heard(from.ip());
                self.note(which, permitted);
            }
            Err(what) => {
                self.tally.wrong += 1;
                self.tally.example.get_or_insert(what);
            }
        }
    }

    fn note(&mut self, inquiry: usize, answer: usize) {
        let before = self.last.replace(answer);
        self.tally.alternations += u64::from(before.is_some_and(|before| before != answer));
        let last = self.tally.now[inquiry].replace(answer);
        if last == Some(answer) {
            return;
        }
        self.tally.turns += u64::from(last.is_some());
        if self.tally.changes.len() == CHANGES {
            self.tally.changes.pop_front();
        }
        self.tally.changes.push_back(Change { at: Instant::now(), inquiry, answer });
    }

    fn heard(&mut self, server: IpAddr) {
        let now = Instant::now();
        let last = self.tally.last_right.insert(server, now);
        if let Some(from) = last.filter(|last| now - *last > SILENCE) {
            self.tally.silences.push(Silence { server, from, to: now });
        }
    }
}

pub(super) fn keep_on(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    // Zero is the calling thread.
    Ok(sched_setaffinity(Pid::from_raw(0), &cores)?)
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> (Client, Vec<u8>) {
        let address = IpAddr::from([192, 0, 2, 1]);
        let inquiry = Inquiry::addresses(address, "a.example.", vec![vec![address]], 5);
        let mut answer = inquiry.message.clone();
        answer[2] = 0x84;
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 192, 0, 2, 1]);
        (Client::new((0..2 * SOCKETS).map(open_small).collect(), SOCKETS, vec![inquiry]), answer)
    }

    /// Sets a buffer's size as far as the privileges allow.
    fn open_small(_nth: usize) -> UdpSocket {
        UdpSocket::bind("127.0.0.1:0").unwrap()
    }

    fn server() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], DNS_PORT))
    }

    #[test]
    fn every_query_is_right_wrong_or_lost() {
        let (mut client, answer) = client();
        let wrong = [&answer[..], &[0]].concat();
        // Creates a client without a network.
        for socket in 0..4 {
            client.fates[socket * IDS] = Fate::Open(0);
        }
        (client.open, client.tally.sent) = (4, 4);
        client.take(0, &answer, server());
        client.take(0, &answer, server());
        client.take(1, &wrong, server());
        client.take(2, &answer, SocketAddr::from(([192, 0, 2, 2], DNS_PORT)));
        client.tally.lost += client.open;
        let tally = client.tally;
        assert_eq!((tally.right, tally.wrong, tally.lost, tally.surplus), (1, 2, 1, 1));
        tally.check().unwrap();
        assert!(!tally.is_clean());
    }
}
