//! Row 13: floods of random subdomains, and of queries that only the responder answers, beside normal clients.
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hickory_proto::rr::RecordType;
use nix::unistd::gettid;

use super::inquiry::Inquiry;
use super::load::{Load, Pace, keep_on};
use super::resources::Process;
use super::stage::{FLOODER, on_cluster};
use super::{Length, Row};
use crate::bed::client::Tcp;
use crate::bed::cluster::Cluster;
use crate::bed::control_socket::Connection;
use crate::bed::netns::Namespace;
use crate::bed::node::healths;
use crate::bed::plan::{Plan, ZONE};
use crate::bed::process::succeed;
use crate::load::figures::{percent, rate};
use crate::oracle::frames::message::{A, IN, Message, Opt, name, option};
use crate::rng::Rng;

/// The core of the flood; the cluster has the others.
const CORE: usize = 0;
/// QTYPE of all types, which only the responder answers.
const ANY: u16 = 255;
/// The option that asks for the server's name, which only the responder answers.
const NSID: u16 = 3;
/// The queries of normal clients a second.
const PACE: u32 = 2_000;
/// The time between two timed questions.
const PAUSE: Duration = Duration::from_millis(1);
/// The limit of the daemon's growth.
const GROWTH: u64 = 32 << 20;

/// Plays the row.
///
/// # Errors
/// The cluster does not come up, or finds a node dead.
pub fn run(length: Length) -> Result<Row> {
    on_cluster(&Plan::quick(2), |cluster| {
        // The flood has its own link. A client that shares the flood's link loses queries before any server sees them.
        let (flooder, _) = cluster.plug("flooder", &FLOODER)?;
        let time = length.pick(Duration::from_millis(700), Duration::from_secs(30));
        // The query is made now, because a flood leaves a full queue at the responder.
        let inquiries = Inquiry::of_node(&cluster.client, "node1", cluster.nodes[0].addresses)?;
        let quiet = measure(cluster, &inquiries, time)?;
        let mut texts = vec![format!("p99 {:.2} ms quiet", ms(quiet.p99))];
        let mut reached = true;
        for kind in [Kind::RandomSubdomains, Kind::Fallback, Kind::Tcp] {
            let flooded = under(cluster, &flooder, kind, &inquiries, time)
                .with_context(|| format!("under {}", kind.text()))?;
            texts.push(flooded.text(kind));
            reached &= flooded.share >= 0.99
                && flooded.growth <= GROWTH
                && flooded.status <= length.pick(Duration::from_secs(2), Duration::from_millis(250))
                && (length == Length::Short || flooded.p99 < 2 * quiet.p99);
        }
        Ok(Row::new(13, texts.join("; "), reached))
    })
}

/// The kind of flood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// New names, which the program answers with NXDOMAIN.
    RandomSubdomains,
    /// Queries with NSID and for ANY.
    Fallback,
    /// One query after another over TCP.
    Tcp,
}

impl Kind {
    fn text(self) -> &'static str {
        match self {
            Kind::RandomSubdomains => "random subdomains",
            Kind::Fallback => "NSID and ANY",
            Kind::Tcp => "TCP",
        }
    }

    fn message(self, rng: &mut Rng) -> Message {
        let plain = || Message::query(&name(&format!("node1.{ZONE}")), A, IN);
        match self {
            Kind::RandomSubdomains => {
                let label = format!("x{:016x}.{ZONE}", rng.next_number());
                Message::query(&name(&label), A, IN)
            }
            Kind::Fallback if rng.below(2) == 0 => Message::query(&name(ZONE), ANY, IN),
            Kind::Fallback => plain().with(Opt { options: option(NSID, &[]), ..Opt::of_size(1232) }),
            Kind::Tcp => plain(),
        }
    }
}

/// The results of normal clients.
#[derive(Debug, Default)]
struct Seen {
    /// Queries of the flood in a second.
    flood: f64,
    /// The share of the normal clients' queries with a right answer.
    share: f64,
    p99: Duration,
    /// The slowest `status`.
    status: Duration,
    growth: u64,
}

impl Seen {
    fn text(&self, kind: Kind) -> String {
        let Seen { flood, share, p99, status, growth } = self;
        format!(
            "{} ({}/s): {} of the others answered right, p99 {:.2} ms, `status` within {:.0} ms, {} KiB more memory",
            kind.text(),
            rate(*flood),
            percent(*share),
            ms(*p99),
            ms(*status),
            growth >> 10
        )
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn under(
    cluster: &Cluster,
    flooder: &Namespace,
    kind: Kind,
    inquiries: &[Inquiry],
    time: Duration,
) -> Result<Seen> {
    let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let server = cluster.nodes[0].ipv4();
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(flooder, server, kind, &is_over, &sent));
        let before = (Instant::now(), sent.load(Ordering::Relaxed));
        let seen = measure(cluster, inquiries, time);
        let flood = (sent.load(Ordering::Relaxed) - before.1) as f64 / before.0.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Relaxed);
        flooding.join().expect("a flood does not panic")?;
        ensure!(flood > 100.0, "the flood trickles: {flood:.0}/s");
        Ok(Seen { flood, ..seen? })
    })
}

/// Floods as fast as one core can, until `is_over`.
fn flood(from: &Namespace, server: IpAddr, kind: Kind, is_over: &AtomicBool, sent: &AtomicU64) -> Result<()> {
    let mut rng = Rng(13);
    let mut connection = Tcp::new(from, server);
    let socket = from.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((server, 53))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })?;
    keep_on(CORE)?;
    while !is_over.load(Ordering::Relaxed) {
        let message = kind.message(&mut rng).bytes();
        if kind == Kind::Tcp {
            // A client that is cut off connects again.
            connection.exchange(&message).ok();
        } else if socket.send(&message).is_err() {
            continue;
        }
        sent.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Asks like a normal client, and checks the daemon.
fn measure(cluster: &Cluster, inquiries: &[Inquiry], time: Duration) -> Result<Seen> {
    let node = &cluster.nodes[0];
    let status = node.status()?;
    let daemon = Process(u32::try_from(status["pid"].as_u64().context("a daemon has a number")?)?);
    let before = daemon.resident()?;
    let load = Load::start(&cluster.client, inquiries.to_vec(), Pace { per_second: Some(PACE), core: None })?;
    let dns = cluster.dns_client()?;
    let _first = Precedence::take()?;
    let (start, mut times, mut slowest) = (Instant::now(), Vec::new(), Duration::ZERO);
    let mut looked = start;
    while start.elapsed() < time {
        let asked = Instant::now();
        // The load counts lost queries.
        dns.addresses(node.ipv4(), &format!("node1.{ZONE}."), RecordType::A).ok();
        times.push(asked.elapsed());
        if looked.elapsed() > Duration::from_millis(300) {
            looked = Instant::now();
            // The daemon is asked from this thread, because a new process would also wait for a core.
            let (_, status) = Connection::open(&node.socket)?.ask(r#"{"verb":"status"}"#)?;
            slowest = slowest.max(looked.elapsed());
            ensure!(
                healths(&status)?.iter().all(|health| *health == "up"),
                "a node is taken for dead: {status}"
            );
        }
        thread::sleep(PAUSE);
    }
    let tally = load.finish()?;
    ensure!(tally.wrong == 0, "{}", tally.text());
    times.sort();
    Ok(Seen {
        flood: 0.0,
        share: tally.right as f64 / tally.sent.max(1) as f64,
        p99: times[times.len() * 99 / 100],
        status: slowest,
        growth: daemon.resident()?.saturating_sub(before),
    })
}

/// Gives this thread precedence over the cluster and the flood until it is dropped. Otherwise an answer's time would
/// include the client's wait for a core.
struct Precedence;

impl Precedence {
    fn take() -> Result<Self> {
        schedule("--fifo", 1)?;
        Ok(Precedence)
    }
}

impl Drop for Precedence {
    fn drop(&mut self) {
        schedule("--other", 0).ok();
    }
}

/// Programs that are started from here, such as `dns-xdp status`, do not inherit it.
fn schedule(policy: &str, priority: u8) -> Result<()> {
    let thread = gettid().to_string();
    succeed(
        Command::new("chrt").args(["--reset-on-fork", policy, "--pid", &priority.to_string(), &thread]),
        "",
    )?;
    Ok(())
}
