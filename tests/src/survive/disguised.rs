//! Row 18: queries for the responder from forged addresses, plain and disguised, beside moderate clients.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::load::thousands;
use super::stage::{FLOODER, on_cluster};
use super::{Length, Row};
use crate::bed::client::Udp;
use crate::bed::cluster::Cluster;
use crate::bed::netns::Namespace;
use crate::bed::plan::{Plan, ZONE};
use crate::bed::spoof::{Spoofer, server};
use crate::load::figures::{percent, rate};
use crate::oracle::frames::message::{A, IN, Message, name};
use crate::oracle::frames::{Checksum, Datagram};
use crate::rng::Rng;

/// An exempt client, and a client of the same prefix that is not exempt.
const EXEMPT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 201));
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 202));
/// Queries a second that go up to the responder, and answers a second to one prefix.
const FALLBACK: u32 = 1_000;
const ANSWERS: u32 = 1_000;
/// The time between two queries of the moderate client.
const PACE: Duration = Duration::from_millis(100);
/// The time after which an answer counts as lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The client sends queries for this long before the flood. A prefix becomes known by its queries in two seconds.
const ACQUAINTANCE: Duration = Duration::from_millis(2500);
/// The number of forged prefixes of the returning flood.
const RETURNING: u16 = 3_000;
/// The time between two bursts of the exempt client. Each burst ends with queries for the responder, far fewer than its
/// limit.
const BURST_PACE: Duration = Duration::from_millis(10);
/// The number of queries that the exempt client sends before each query of its neighbour.
const EXEMPT_BURST: u16 = 100;
const NS: u16 = 2;
const ANY: u16 = 255;

/// Plays the row.
///
/// # Errors
/// The cluster does not come up.
pub fn run(length: Length) -> Result<Row> {
    let plan = Plan::quick(2).tables(&format!(
        "[fallback]\nqueries-per-second = {FALLBACK}\n[rate-limit]\nanswers-per-second = {ANSWERS}\n\
         exempt = [\"{EXEMPT}\"]\n"
    ));
    on_cluster(&plan, |cluster| {
        let (flooder, _) = cluster.plug("flooder", &FLOODER)?;
        let (neighbours, _) = cluster.plug("neighbours", &[EXEMPT, NEIGHBOUR])?;
        let time = length.pick(Duration::from_millis(1500), Duration::from_secs(20));
        let client = Udp::connect(&cluster.client, cluster.nodes[0].ipv4(), Checksum::Whole)?;
        ask_moderately(&client, ACQUAINTANCE)?;
        let (mut texts, mut reached) = (Vec::new(), true);
        for disguise in Disguise::ALL {
            let seen = under(cluster, (&flooder, disguise), &client, time)?;
            texts.push(seen.text(disguise));
            reached &= seen.is_well(length);
        }
        let (asked, answered) = beside_the_exempt(cluster, &neighbours, time)?;
        texts.push(format!("beside an exempt neighbour {answered} of {asked} answered"));
        Ok(Row::new(18, texts.join("; "), reached && answered == asked))
    })
}

/// The disguise of a query for the responder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disguise {
    None,
    /// It has more octets than any message that the program reads.
    Trailing,
    /// Its IPv4 header has options.
    Options,
    /// Its prefix has asked before, like a real client's: one of [`RETURNING`] prefixes.
    Returning,
}

impl Disguise {
    const ALL: [Disguise; 4] = [Disguise::None, Disguise::Trailing, Disguise::Options, Disguise::Returning];

    fn text(self) -> &'static str {
        match self {
            Disguise::None => "plain",
            Disguise::Trailing => "with 1,250 octets behind it",
            Disguise::Options => "with IPv4 options",
            Disguise::Returning => "from 3,000 prefixes that come back",
        }
    }

    fn put_on(self, datagram: Datagram) -> Datagram {
        match self {
            Disguise::None | Disguise::Returning => datagram,
            Disguise::Trailing => {
                Datagram { message: [datagram.message, vec![0; 1250]].concat(), ..datagram }
            }
            // The router alert of RFC 2113.
            Disguise::Options => Datagram { ip_options: vec![0x94, 4, 0, 0], ..datagram },
        }
    }
}

/// The results of a flood.
#[derive(Debug)]
struct Seen {
    flood: f64,
    /// The responder's answers in a second, including those to the moderate client.
    passed: f64,
    asked: u32,
    answered: u32,
}

impl Seen {
    fn is_well(&self, length: Length) -> bool {
        // A burst may come on top in a short time.
        let (allowed, excess) = (f64::from(FALLBACK), length.pick(1.5, 1.1));
        // The short form allows two lost queries: one to a full receive ring, one when the table of prefixes first fills up.
        let lost_max = length.pick(2, self.asked / 100);
        let is_flooded = self.flood > 2.0 * allowed;
        is_flooded && self.passed <= excess * allowed && self.answered + lost_max >= self.asked
    }

    fn text(&self, disguise: Disguise) -> String {
        format!(
            "ANY {} ({}/s): {}/s passed up, {} of the moderate client's {} answered",
            disguise.text(),
            rate(self.flood),
            rate(self.passed),
            percent(f64::from(self.answered) / f64::from(self.asked.max(1))),
            thousands(self.asked.into()),
        )
    }
}

fn under(
    cluster: &Cluster,
    (flooder, disguise): (&Namespace, Disguise),
    client: &Udp,
    time: Duration,
) -> Result<Seen> {
    let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let node = &cluster.nodes[0];
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(flooder, node.ipv4(), disguise, &is_over, &sent));
        let (start, sent_before) = (Instant::now(), sent.load(Ordering::Relaxed));
        let before = node.stats()?.answered_by_responder();
        let moderate = ask_moderately(client, time);
        let passed = node.stats()?.answered_by_responder() - before;
        let seconds = start.elapsed().as_secs_f64();
        let flood = (sent.load(Ordering::Relaxed) - sent_before) as f64 / seconds;
        is_over.store(true, Ordering::Relaxed);
        flooding.join().expect("a flood does not panic")?;
        let (asked, answered) = moderate?;
        Ok(Seen { flood, passed: passed as f64 / seconds, asked, answered })
    })
}

/// Floods as fast as possible, from another address each time. As returning clients, it uses [`RETURNING`] prefixes.
fn flood(
    from: &Namespace,
    to: IpAddr,
    disguise: Disguise,
    is_over: &AtomicBool,
    sent: &AtomicU64,
) -> Result<()> {
    let (spoofer, mut rng) = (Spoofer::open(from)?, Rng(18));
    let message = Message::query(&name(ZONE), ANY, IN).bytes();
    while !is_over.load(Ordering::Relaxed) {
        let [a, b, c, d, ..] = rng.next_number().to_be_bytes();
        let address = match disguise {
            Disguise::Returning => {
                let [high, low] = (rng.number() % RETURNING).to_be_bytes();
                [11, high, low, d]
            }
            _ => [11 + a % 100, b, c, d],
        };
        let source = SocketAddr::new(address.into(), 1024 + rng.number() / 2);
        let datagram = disguise.put_on(Spoofer::datagram(source, server(to), &message));
        // A query that the full ring refuses is not counted.
        if spoofer.send_datagram(&datagram).is_ok() {
            sent.fetch_add(1, Ordering::Relaxed);
        }
    }
    Ok(())
}

/// Sends 10 queries a second that only the responder answers. Returns the numbers of queries and of answers.
fn ask_moderately(client: &Udp, time: Duration) -> Result<(u32, u32)> {
    let (start, mut asked, mut answered) = (Instant::now(), 0, 0);
    while start.elapsed() < time {
        let next = Instant::now() + PACE;
        let query = Message { id: asked as u16, ..Message::query(&name(ZONE), NS, IN) };
        answered += u32::from(client.ask(&query.bytes(), ANSWER_TIMEOUT)?.is_some());
        asked += 1;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok((asked, answered))
}

/// One exempt client asks more than its prefix may. Another client of the prefix has to keep its answers.
fn beside_the_exempt(cluster: &Cluster, neighbours: &Namespace, time: Duration) -> Result<(u32, u32)> {
    let to = cluster.nodes[0].ipv4();
    let connect = |client| Udp::connect_as(neighbours, SocketAddr::new(client, 0), to, Checksum::Whole);
    let (exempt, neighbour) = (connect(EXEMPT)?, connect(NEIGHBOUR)?);
    let query = |id| Message { id, ..Message::query(&name(&format!("node1.{ZONE}")), A, IN) }.bytes();
    let burst: Vec<Vec<u8>> = (0..EXEMPT_BURST).map(query).collect();
    let (start, mut asked, mut answered) = (Instant::now(), 0, 0);
    while start.elapsed() < time {
        let exempted = exempt.exchange(&burst)?;
        ensure!(exempted.iter().all(Option::is_some), "an exempt client is held back");
        let answer = neighbour.exchange(&[query(asked as u16)])?;
        answered += u32::from(answer[0].as_ref().is_some_and(|answer| answer[2] & 2 == 0));
        asked += 1;
        thread::sleep(BURST_PACE);
    }
    Ok((asked, answered))
}
