//! Row 12: 600 abusive TCP connections, beside new connections with normal queries.
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::socket::{setsockopt, sockopt};

use super::resources::Process;
use super::stage::on_laid;
use super::{Length, Row};
use crate::bed::cluster::Cluster;
use crate::bed::netns::Namespace;
use crate::bed::plan::{Plan, ZONE};
use crate::oracle::frames::message::{A, IN, Message, name};

const DNS_PORT: u16 = 53;
/// Connections of each kind.
const EACH: usize = 120;
/// Queries on a connection whose client reads no answer.
const PIPELINED: usize = 200;
/// The time between two turns of the abusers. An abuser with a closed connection opens another one.
const TURN: Duration = Duration::from_secs(1);
/// The time between two probes.
const PAUSE: Duration = Duration::from_millis(20);
/// The longest time for the answer to a probe. In the long form that holds for every probe. In the short form, beside
/// other programs, one in [`ONE_IN`] may be late, up to [`SLOWEST`].
const PROMPT: Duration = Duration::from_millis(50);
const ONE_IN: usize = 20;
const SLOWEST: Duration = Duration::from_millis(500);
/// The share of a core that the daemon may take. A debug build in its first second, when all abusers come, takes more.
const CPU: [f64; 2] = [0.25, 0.05];
/// Tries of the short form, each of a second.
const SECONDS: u32 = 3;
/// The least number of probes and connections; fewer prove nothing.
const PROBES: usize = 10;
/// The time after which a probe counts as unanswered.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The descriptor limit of the run with few descriptors.
const DESCRIPTORS: usize = 64;

/// Plays the row.
///
/// # Errors
/// The cluster does not come up, or an answer is wrong.
pub fn run(length: Length) -> Result<Row> {
    let plain = judged(length, None)?;
    let few = judged(length, Some(DESCRIPTORS))?;
    let reached = [&plain, &few].into_iter().all(|seen| seen.is_well(length));
    let result = format!("{}; with {DESCRIPTORS} descriptors {}", plain.text(), few.text());
    Ok(Row::new(12, result, reached))
}

/// Other programs may disturb one second on a busy machine, so the short form has several tries. A defect of the daemon
/// shows in each.
fn judged(length: Length, descriptors: Option<usize>) -> Result<Seen> {
    let mut seen = under_abuse(length, descriptors)?;
    for _again in 1..length.pick(SECONDS, 1) {
        if seen.is_well(length) {
            break;
        }
        seen = under_abuse(length, descriptors)?;
    }
    Ok(seen)
}

/// The results of the probes.
#[derive(Debug, Clone, Copy)]
struct Seen {
    probes: usize,
    /// Probes that were not answered within [`PROMPT`].
    late: usize,
    worst: Duration,
    cpu: f64,
    connections: u64,
}

impl Seen {
    fn is_well(&self, length: Length) -> bool {
        let Seen { probes, late, worst, cpu, connections } = *self;
        let is_prompt = length.pick(late <= probes / ONE_IN && worst <= SLOWEST, late == 0);
        let is_abused = probes >= PROBES && connections >= (KINDS.len() * EACH) as u64;
        is_prompt && is_abused && cpu <= length.pick(CPU[0], CPU[1])
    }

    fn text(&self) -> String {
        let Seen { probes, worst, cpu, connections, .. } = self;
        let (milliseconds, percent) = (worst.as_secs_f64() * 1e3, cpu * 100.0);
        format!(
            "{probes} of {probes} probes answered, the slowest after {milliseconds:.1} ms, CPU {percent:.1} %, \
             {connections} connections"
        )
    }
}

fn under_abuse(length: Length, descriptors: Option<usize>) -> Result<Seen> {
    on_laid(&Plan::quick(1), |cluster| {
        if let Some(limit) = descriptors {
            cluster.nodes[0].wrapper = vec!["prlimit".to_owned(), format!("--nofile={limit}:{limit}")];
        }
        cluster.start()?;
        let server = cluster.nodes[0].ipv4();
        let is_over = AtomicBool::new(false);
        let seen = thread::scope(|scope| {
            let abuse = scope.spawn(|| abuse(&cluster.client, server, &is_over));
            let seen = probe(cluster, length);
            is_over.store(true, Ordering::Relaxed);
            let connections = abuse.join().expect("the abusers do not panic")?;
            Ok::<_, anyhow::Error>(Seen { connections, ..seen? })
        })?;
        // Probes and commands have descriptors too.
        let alarms = cluster.nodes[0].status()?["alarms"].to_string();
        ensure!(!alarms.contains("open files"), "the alarms are {alarms}");
        Ok(seen)
    })
}

/// Asks over one new connection after another. Every query has to be answered.
fn probe(cluster: &Cluster, length: Length) -> Result<Seen> {
    let node = &cluster.nodes[0];
    let (server, address) = (node.ipv4(), node.ipv4());
    let daemon = Process(u32::try_from(node.status()?["pid"].as_u64().context("a daemon has a number")?)?);
    // By then all abusers are active.
    thread::sleep(TURN);
    let (start, before) = (Instant::now(), daemon.cpu_time()?);
    let mut seen = Seen { probes: 0, late: 0, worst: Duration::ZERO, cpu: 0.0, connections: 0 };
    cluster.client.enter(|| {
        while start.elapsed() < length.pick(Duration::from_secs(1), Duration::from_secs(60)) {
            let asked = Instant::now();
            let answer = ask(server).with_context(|| format!("probe {}", seen.probes))?;
            ensure!(answer.ends_with(&octets(address)), "a wrong answer: {answer:02x?}");
            let took = asked.elapsed();
            seen.worst = seen.worst.max(took);
            seen.late += usize::from(took > PROMPT);
            seen.probes += 1;
            thread::sleep(PAUSE);
        }
        Ok(())
    })?;
    seen.cpu = (daemon.cpu_time()? - before).as_secs_f64() / start.elapsed().as_secs_f64();
    Ok(seen)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ipv4) => ipv4.octets().to_vec(),
        IpAddr::V6(ipv6) => ipv6.octets().to_vec(),
    }
}

fn ask(server: IpAddr) -> Result<Vec<u8>> {
    let mut stream = connect(server)?;
    stream.write_all(&query())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length).context("no answer")?;
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).context("half an answer")?;
    Ok(answer)
}

fn connect(server: IpAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::new(server, DNS_PORT), ANSWER_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    Ok(stream)
}

fn query() -> Vec<u8> {
    let message = Message::query(&name(&format!("node1.{ZONE}")), A, IN).bytes();
    [&(message.len() as u16).to_be_bytes(), &message[..]].concat()
}

/// The kind of abuse of a connection.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Idle,
    AnOctetASecond,
    HalfALength,
    NeverRead,
    Reset,
}

const KINDS: [Kind; 5] = [Kind::Idle, Kind::AnOctetASecond, Kind::HalfALength, Kind::NeverRead, Kind::Reset];

#[derive(Debug)]
struct Abuser {
    kind: Kind,
    stream: Option<TcpStream>,
    sent: usize,
}

/// Abuses the server until the end. Returns the number of connections used.
fn abuse(from: &Namespace, server: IpAddr, is_over: &AtomicBool) -> Result<u64> {
    let kinds = KINDS.iter().cycle().take(KINDS.len() * EACH);
    let mut abusers: Vec<Abuser> = kinds.map(|kind| Abuser { kind: *kind, stream: None, sent: 0 }).collect();
    let mut connections = 0;
    from.enter(|| {
        while !is_over.load(Ordering::Relaxed) {
            let turn = Instant::now();
            for abuser in &mut abusers {
                // A client that is refused or cut off connects again.
                connections += u64::from(abuser.turn(server).unwrap_or(true));
            }
            thread::sleep(TURN.saturating_sub(turn.elapsed()));
        }
        Ok(connections)
    })
}

impl Abuser {
    /// `true`: it used a new connection.
    fn turn(&mut self, server: IpAddr) -> Result<bool> {
        let fresh = self.stream.as_mut().is_none_or(|stream| is_closed(stream));
        if fresh {
            self.sent = 0;
            let stream = connect(server)?;
            stream.set_nonblocking(true)?;
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { return Ok(fresh) };
        match self.kind {
            Kind::Idle => {}
            Kind::HalfALength if fresh => stream.write_all(&[0])?,
            Kind::HalfALength => {}
            Kind::AnOctetASecond => {
                let query = query();
                stream.write_all(&query[self.sent % query.len()..][..1])?;
                self.sent += 1;
            }
            Kind::NeverRead if fresh => stream.write_all(&query().repeat(PIPELINED))?,
            Kind::NeverRead => {}
            Kind::Reset => {
                let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&*stream, sockopt::Linger, &at_once)?;
                self.stream = None;
            }
        }
        Ok(fresh)
    }
}

/// Whether the other side has closed the connection; its data stays unread.
fn is_closed(stream: &TcpStream) -> bool {
    match stream.peek(&mut [0]) {
        Ok(octets) => octets == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_that_are_late_a_busy_daemon_and_no_abuse_are_not_well() {
        let well = Seen { probes: 45, late: 0, worst: PROMPT, cpu: 0.05, connections: 600 };
        assert!([Length::Short, Length::Long].into_iter().all(|length| well.is_well(length)));
        let late = Seen { late: 2, worst: SLOWEST, ..well };
        assert!(late.is_well(Length::Short) && !late.is_well(Length::Long));
        for bad in [
            Seen { late: 3, worst: SLOWEST, ..well },
            Seen { late: 1, worst: SLOWEST + PROMPT, ..well },
            Seen { cpu: 0.3, ..well },
            Seen { probes: 9, ..well },
            Seen { connections: 599, ..well },
        ] {
            assert!(!bad.is_well(Length::Short) && !bad.is_well(Length::Long), "{bad:?}");
        }
    }
}
