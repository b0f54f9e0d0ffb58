//! Row 17: the messages that cost most to read or to answer, over TCP and UDP at once, beside the probes.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::unistd::gettid;

use super::load::thousands;
use super::stage::{FLOODER, on_cluster};
use super::{Length, Row};
use crate::bed::client::Udp;
use crate::bed::cluster::Cluster;
use crate::bed::fetch::{LISTEN, metric};
use crate::bed::netns::Namespace;
use crate::bed::node::{Node, healths};
use crate::bed::plan::{Plan, ZONE};
use crate::load::cores;
use crate::oracle::frames::Checksum;
use crate::oracle::frames::message::{IN, Message, Opt, name, option};
use crate::oracle::frames::octets;

const DNS_PORT: u16 = 53;
/// The number of connections, each with one message under way.
const CONNECTIONS: usize = 8;
/// The time between two messages over UDP.
const PAUSE: Duration = Duration::from_micros(200);
/// The interval between the queries of another client, which asks the responder.
const PACE: Duration = Duration::from_millis(20);
/// The limit for the 99th percentile of its answers, in the short form (beside other programs) and in the long one.
const PROMPT: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(20)];
/// The number of times that quiet and flood alternate, so that other programs disturb both equally.
const TURNS: [u32; 2] = [2, 20];
/// The nice value of the floods.
const BEHIND_OTHERS: &str = "19";
/// During a flood, probes may be slower by this factor. In the short form (beside other programs), they may take
/// `SHORT` longer instead.
const TENTH: f64 = 1.1;
const SHORT: Duration = Duration::from_millis(20);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const NS: u16 = 2;
/// The longest message over TCP.
const MESSAGE_MAX: usize = 65_535;

/// Plays the row.
///
/// # Errors
/// The cluster does not come up, a message has no answer, or a node is found dead.
pub fn run(length: Length) -> Result<Row> {
    on_cluster(&Plan::quick(2).line("metrics", LISTEN), |cluster| {
        let (flooder, _) = cluster.plug("flooder", &FLOODER)?;
        let (mut quiet, mut flooded, mut answered) = (Probes::default(), Probes::default(), 0);
        let (mut times, mut lost) = (Vec::new(), 0);
        for _ in 0..length.pick(TURNS[0], TURNS[1]) {
            let time = length.pick(Duration::from_secs(1), Duration::from_secs(3));
            quiet.add(&Probes::during(&cluster.nodes[0], time)?);
            let ((probes, others), count) = flood(cluster, &flooder, || {
                thread::scope(|scope| {
                    let others = scope.spawn(|| ask(cluster, time));
                    let probes = Probes::during(&cluster.nodes[0], time);
                    let others = others.join().expect("the asking thread does not panic")?;
                    Ok((probes?, others))
                })
            })?;
            flooded.add(&probes);
            answered += count;
            lost += others.iter().filter(|time| time.is_none()).count();
            times.extend(others.into_iter().flatten());
        }
        times.sort();
        let p99 = times.get(times.len() * 99 / 100).copied().context("no other client was answered")?;
        let status = cluster.nodes[0].status()?;
        let states = healths(&status)?;
        ensure!(states.iter().all(|state| *state == "up"), "a node is taken for dead: {states:?}");
        let (quiet_mean, flooded_mean) = (quiet.mean()?, flooded.mean()?);
        let most = length.pick(quiet_mean + SHORT, quiet_mean.mul_f64(TENTH));
        let result = format!(
            "{} messages answered; of {} others' queries for the responder {lost} lost, p99 {:.1} ms; {} probes take {:.3} ms, \
             {} quiet ones {:.3} ms",
            thousands(answered),
            thousands((times.len() + lost) as u64),
            p99.as_secs_f64() * 1e3,
            flooded.count,
            flooded_mean.as_secs_f64() * 1e3,
            quiet.count,
            quiet_mean.as_secs_f64() * 1e3,
        );
        let probes_are_well = flooded_mean <= most && flooded.count >= quiet.count * 9 / 10;
        Ok(Row::new(17, result, probes_are_well && lost == 0 && p99 <= length.pick(PROMPT[0], PROMPT[1])))
    })
}

/// The number of probes that succeeded in a period, and their total time.
#[derive(Debug, Clone, Copy, Default)]
struct Probes {
    count: u64,
    seconds: f64,
}

impl Probes {
    /// Returns the probes that a node makes in this time.
    fn during(node: &Node, time: Duration) -> Result<Probes> {
        let before = Probes::of(node)?;
        thread::sleep(time);
        let after = Probes::of(node)?;
        Ok(Probes { count: after.count - before.count, seconds: after.seconds - before.seconds })
    }

    fn of(node: &Node) -> Result<Probes> {
        let value = |what| {
            metric(node, &format!("dns_xdp_probe_duration_seconds_{what}{{node=\"node2\",kind=\"tcp\"}}"))
        };
        Ok(Probes { count: value("count")? as u64, seconds: value("sum")? })
    }

    fn add(&mut self, more: &Probes) {
        self.count += more.count;
        self.seconds += more.seconds;
    }

    fn mean(&self) -> Result<Duration> {
        ensure!(self.count > 0, "there were no probes");
        Ok(Duration::from_secs_f64(self.seconds / self.count as f64))
    }
}

/// Asks like another client. Returns the time of each answer; `None`: it was lost.
fn ask(cluster: &Cluster, time: Duration) -> Result<Vec<Option<Duration>>> {
    let client = Udp::connect(&cluster.client, cluster.nodes[0].ipv4(), Checksum::Whole)?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < time {
        let query = Message { id: times.len() as u16, ..Message::query(&name(ZONE), NS, IN) };
        let asked = Instant::now();
        let answer = client.ask(&query.bytes(), ANSWER_TIMEOUT)?;
        times.push(answer.map(|_| asked.elapsed()));
        thread::sleep(PACE);
    }
    Ok(times)
}

/// Floods while `meanwhile` runs. Also returns the number of answered messages.
fn flood<T>(
    cluster: &Cluster,
    flooder: &Namespace,
    meanwhile: impl FnOnce() -> Result<T>,
) -> Result<(T, u64)> {
    let (is_over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let server = SocketAddr::new(cluster.nodes[0].ipv4(), DNS_PORT);
    let (is_over, answered) = (&is_over, &answered);
    thread::scope(|scope| {
        let messages = costly();
        let over_tcp = (0..CONNECTIONS).map(|nth| {
            let message = messages[nth % messages.len()].clone();
            scope.spawn(move || {
                flooder.enter(|| behind_others(|| over_tcp(server, &message, is_over, answered)))
            })
        });
        let mut floods: Vec<_> = over_tcp.collect();
        floods.push(
            scope.spawn(move || flooder.enter(|| behind_others(|| over_udp(server, is_over, answered)))),
        );
        let seen = meanwhile();
        is_over.store(true, Ordering::Relaxed);
        for flood in floods {
            flood.join().expect("a flood does not panic")?;
        }
        let answered = answered.load(Ordering::Relaxed);
        ensure!(answered >= CONNECTIONS as u64, "only {answered} messages were answered");
        Ok((seen?, answered))
    })
}

/// Floods with the lowest priority: real attackers have their own machines, and take no time from probes and servers.
fn behind_others(flood: impl FnOnce() -> Result<()>) -> Result<()> {
    cores::rank(gettid(), BEHIND_OTHERS)?;
    flood()
}

fn over_tcp(server: SocketAddr, message: &[u8], is_over: &AtomicBool, answered: &AtomicU64) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&server, ANSWER_TIMEOUT)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    let framed = [&octets(&[u16::try_from(message.len())?]), message].concat();
    while !is_over.load(Ordering::Relaxed) {
        stream.write_all(&framed).context("a costly message cannot be sent")?;
        let mut length = [0; 2];
        stream.read_exact(&mut length).context("a costly message has no answer")?;
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).context("half an answer to a costly message")?;
        answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Sends one query after another with the longest answers, without waiting for the answers.
fn over_udp(server: SocketAddr, is_over: &AtomicBool, answered: &AtomicU64) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    let query =
        Message::query(&name(ZONE), NS, IN).with(Opt { options: option(3, &[]), ..Opt::of_size(1232) });
    let (query, mut answer) = (query.bytes(), [0; 2048]);
    while !is_over.load(Ordering::Relaxed) {
        socket.send(&query).ok();
        while socket.recv(&mut answer).is_ok() {
            answered.fetch_add(1, Ordering::Relaxed);
        }
        let pause = Instant::now();
        while pause.elapsed() < PAUSE {
            thread::yield_now();
        }
    }
    Ok(())
}

/// Returns messages of nearly 64 KiB. Some have chains of compression pointers in RDATA and owners, with an allowed and
/// an excessive number of records. The others have names of 127 labels, or empty options.
fn costly() -> Vec<Vec<u8>> {
    let question = Message::query(&name(&format!("node1.{ZONE}")), NS, IN);
    let start = question.bytes().len();
    let chain = |from: usize, octets: usize| -> Vec<u8> {
        let pointers = (0..octets / 2).map(|nth| if nth == 0 { 12 } else { from + 2 * (nth - 1) });
        pointers.take_while(|to| *to < 0x4000).flat_map(|to| (0xc000 | to as u16).to_be_bytes()).collect()
    };
    let record = |owner: &[u8], rdata: &[u8]| {
        let length = u16::try_from(rdata.len()).expect("RDATA has less than 64 KiB");
        [owner, &octets(&[1, IN, 0, 0, length]), rdata].concat()
    };
    let with = |counts, records: Vec<u8>| {
        let mut message = Message { counts: Some(counts), trailing: records, ..question.clone() }.bytes();
        message.truncate(MESSAGE_MAX);
        message
    };
    let in_rdata = record(&[0], &chain(start + 11, 16_000));
    let end = (0xc000 | (start + 11 + 15_998).min(0x3fff) as u16).to_be_bytes();
    let few = [in_rdata.clone(), record(&end, &[]).repeat(7)].concat();
    let many = [in_rdata, record(&end, &[]).repeat(4096)].concat();
    let labels = [[1, b'a'].repeat(126), vec![0]].concat();
    let long = record(&labels, &[]).repeat(240);
    let options = option(9, &[]).repeat(16_000);
    vec![
        with([1, 8, 0, 0], few),
        with([1, 4097, 0, 0], many),
        with([1, 0, 240, 0], long.clone()),
        with([1, 0, 8, 0], long),
        question.clone().with(Opt { options, ..Opt::of_size(1232) }).bytes(),
    ]
}

#[cfg(test)]
mod tests {
    use dns_xdp::responder::{Arrival, Transport, respond};

    use super::*;
    use crate::oracle::table::zone::zone;

    #[test]
    fn every_costly_message_is_long_and_has_an_answer() {
        for message in costly() {
            let arrival = Arrival { transport: Transport::Tcp, client: FLOODER[0], port: 4096, seconds: 0 };
            assert!(message.len() > 16_000, "{} octets", message.len());
            assert!(respond(&message, arrival, Some(&zone()), b"node1").is_some());
        }
    }
}
