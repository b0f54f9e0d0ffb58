//! Times to repair. The first is from a node's death until a server answers another address for its name. The second is
//! from the node's return until the server answers the node's own address again.
//!
//! All servers are in one cluster and see the same deaths. They are dns-xdp with its defaults, gdnsd with the shortest
//! times that it accepts, and dns-xdp with gdnsd's times. One client asks all servers in turn. Every node dies once, so
//! that no earlier death delays its return.
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use dns_xdp::config::Config;
use dns_xdp_tests::bed::cluster::Cluster;
use dns_xdp_tests::bed::gdnsd::Gdnsd;
use dns_xdp_tests::bed::node::{Node, healths};
use dns_xdp_tests::bed::plan::{DATABASE_PORT, Plan, ZONE};
use dns_xdp_tests::bed::process::exit_code;
use dns_xdp_tests::bed::run::Run;
use dns_xdp_tests::bed::wait;
use dns_xdp_tests::bed::watch::{Change, Pauses, Question, Watch, names};
use dns_xdp_tests::jitter::random_share;
use dns_xdp_tests::load::figures::{Rounds, table};

/// The servers, each on the node of that number (from 0); after them come the nodes that die.
const SERVERS: [&str; 3] = ["dns-xdp", "dns-xdp, gdnsd's times", "gdnsd"];
const DNS_XDP: [usize; 2] = [0, 1];
const GDNSD: usize = 2;

/// The interval for both. gdnsd accepts whole seconds, for its interval at least 2 (its manual says 1, but it refuses
/// that), and a timeout below the interval.
const INTERVAL: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const FALL: u32 = 3;
const RISE: u32 = 2;

/// The longest time until a server changes its answer.
const REPAIR_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest pause between two questions that does not change the printed hundredths.
const ASKED_EVERY: Duration = Duration::from_millis(5);

/// Repair times, compared with gdnsd's
#[derive(Parser)]
#[command(name = "cargo xtask bench failover")]
struct Args {
    /// The number of rounds, of about 20 seconds each: one death of either kind
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u8).range(1..=18))]
    rounds: u8,
}

/// How a node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    Killed,
    Silent,
}

impl Death {
    const ALL: [Death; 2] = [Death::Killed, Death::Silent];

    fn text(self) -> &'static str {
        match self {
            Death::Killed => "service killed",
            Death::Silent => "host silent",
        }
    }

    fn strike(self, node: &mut Node) -> Result<()> {
        match self {
            Death::Killed => node.kill_database(),
            Death::Silent => node.pull_cable(),
        }
    }

    fn undo(self, node: &mut Node) -> Result<()> {
        match self {
            Death::Killed => node.start_database(),
            Death::Silent => node.put_cable_back(),
        }
    }
}

/// The times of each server for one death.
struct Round {
    death: Death,
    repaired: [Duration; SERVERS.len()],
    back: [Duration; SERVERS.len()],
}

fn main() -> ExitCode {
    exit_code(bench(&Args::parse()))
}

fn bench(args: &Args) -> Result<()> {
    let victims = args.rounds * Death::ALL.len() as u8;
    let run = Run::unique()?;
    let directory = run.directory();
    let mut cluster = Cluster::lay(run, &Plan::new(SERVERS.len() as u8 + victims))?;
    let played = start(&mut cluster, &directory).and_then(|_gdnsd| play(&mut cluster));
    if played.is_err() {
        eprint!("{}", cluster.logs());
    }
    let (rounds, pauses) = played?;
    println!("{}", settings(&cluster)?);
    println!(
        "each server was asked every {:.1} ms, with a pause of {:.1} ms at most; each node died once, at a random moment\n",
        1e3 * pauses.sum.as_secs_f64() / f64::from(pauses.count),
        1e3 * pauses.longest.as_secs_f64()
    );
    if pauses.longest > ASKED_EVERY {
        eprintln!(
            "a pause above {ASKED_EVERY:?}: other programs are running, and a time may be that much too long"
        );
    }
    let promises = DNS_XDP.map(|server| cluster.nodes[server].promise());
    let [first, second] = promises;
    print!("{}", report(&rounds, [Some(first?), Some(second?), None]));
    Ok(())
}

/// Starts every database and the servers, and waits until all servers see every node up.
fn start(cluster: &mut Cluster, directory: &Path) -> Result<Gdnsd> {
    for node in &mut cluster.nodes {
        node.start_database()?;
    }
    let times = format!(
        "[health]\ninterval = \"{interval}s\"\nfast-interval = \"{interval}s\"\ntimeout = \"{}s\"\n\
         fall = {FALL}\nrise = {RISE}\n",
        TIMEOUT.as_secs(),
        interval = INTERVAL.as_secs(),
    );
    cluster.nodes[DNS_XDP[1]].edit_config("[health]\n", &times)?;
    for server in DNS_XDP {
        let server = &mut cluster.nodes[server];
        server.start()?;
        let status = server.status()?;
        ensure!(healths(&status)?.iter().all(|health| *health == "up"), "{status:#}");
    }
    let server = &cluster.nodes[GDNSD];
    let (zone, stanzas) = gdnsd_files(&cluster.nodes)?;
    let gdnsd = Gdnsd::start(&server.namespace, directory, &[server.ipv4()], ZONE, &zone, &stanzas)?;
    let dns = cluster.dns_client()?;
    wait::until("gdnsd answers the nodes' own addresses", REPAIR_TIMEOUT, || {
        for node in &cluster.nodes[SERVERS.len()..] {
            let qname = format!("{}.{ZONE}.", node.name);
            let addresses = dns.addresses(server.ipv4(), &qname, hickory_proto::rr::RecordType::A)?;
            ensure!(addresses == [node.ipv4()], "{qname} is {addresses:?}");
        }
        Ok(())
    })?;
    Ok(gdnsd)
}

/// The files of gdnsd, with a resource for each node that dies: its own address, and as substitute the first node's.
fn gdnsd_files(nodes: &[Node]) -> Result<(String, String)> {
    let substitute = nodes[0].ipv4();
    let mut zone =
        format!("@ SOA ns1 hostmaster 1 14400 3600 604800 300\n@ NS ns1\nns1 A {}\n", nodes[GDNSD].ipv4());
    let mut resources = String::new();
    for node in &nodes[SERVERS.len()..] {
        let name = &node.name;
        writeln!(zone, "{name} 5 DYNA simplefo!{name}")?;
        writeln!(resources, "    {name} => {{ primary => {}, secondary => {substitute} }},", node.ipv4())?;
    }
    let stanzas = format!(
        "service_types => {{\n  database => {{ {} }}\n}}\n\
         plugins => {{\n  simplefo => {{\n    service_types => [ database ],\n{resources}  }}\n}}\n",
        gdnsd_service()
    );
    Ok((zone, stanzas))
}

fn gdnsd_service() -> String {
    format!(
        "plugin => tcp_connect, port => {DATABASE_PORT}, interval => {}, timeout => {}, \
         down_thresh => {FALL}, up_thresh => {RISE}, ok_thresh => {RISE}",
        INTERVAL.as_secs(),
        TIMEOUT.as_secs(),
    )
}

/// Runs all rounds. Also returns how often the servers were asked.
fn play(cluster: &mut Cluster) -> Result<(Vec<Round>, Pauses)> {
    let mut rounds = Vec::new();
    let mut pauses = Pauses::default();
    let deaths = Death::ALL.into_iter().cycle();
    for (victim, death) in (SERVERS.len()..cluster.nodes.len()).zip(deaths) {
        let (round, of_round) = one(cluster, victim, death)
            .with_context(|| format!("{}, {}", cluster.nodes[victim].name, death.text()))?;
        let seconds = round.repaired.map(|time| format!("{:.2}", time.as_secs_f64()));
        eprintln!(
            "{:<8}{:<16}repaired after {} s",
            cluster.nodes[victim].name,
            death.text(),
            seconds.join(", ")
        );
        rounds.push(round);
        pauses = pauses.and(of_round);
    }
    Ok((rounds, pauses))
}

fn one(cluster: &mut Cluster, victim: usize, death: Death) -> Result<(Round, Pauses)> {
    let servers: [IpAddr; SERVERS.len()] = std::array::from_fn(|server| cluster.nodes[server].ipv4());
    let node = &mut cluster.nodes[victim];
    let own = node.ipv4();
    let watch = Watch::start(&cluster.client, Question::all(&servers, &[&node.name]))?;
    let is_own = |change: &Change| names(change, own);
    await_all(&watch, &servers, is_own).context("before its death")?;
    sleep(INTERVAL.mul_f64(random_share()));
    let struck = Instant::now();
    death.strike(node)?;
    let repaired = await_all(&watch, &servers, |change| !is_own(change)).context("after its death")?;
    sleep(INTERVAL.mul_f64(random_share()));
    let returned = Instant::now();
    death.undo(node)?;
    let back = await_all(&watch, &servers, is_own).context("after its return")?;
    let (_, pauses) = watch.finish()?;
    let round = Round {
        death,
        repaired: repaired.map(|at| at - struck),
        back: back.map(|at| at.saturating_duration_since(returned)),
    };
    Ok((round, pauses))
}

/// When each server first gave such an answer.
fn await_all(
    watch: &Watch,
    servers: &[IpAddr; SERVERS.len()],
    is_it: impl Fn(&Change) -> bool,
) -> Result<[Instant; SERVERS.len()]> {
    let mut seen = [None; SERVERS.len()];
    while seen.contains(&None) {
        let change = watch.wait_for(REPAIR_TIMEOUT, &is_it);
        let Ok(change) = change else {
            let late = SERVERS.iter().zip(seen).filter(|(_, at)| at.is_none()).map(|(server, _)| *server);
            bail!("{}: {:#}", late.collect::<Vec<_>>().join(", "), change.expect_err("it is none"));
        };
        let server = servers.iter().position(|server| *server == change.question.server);
        let server = server.context("an answer of an unknown server")?;
        seen[server].get_or_insert(change.at);
    }
    Ok(seen.map(|at| at.expect("none is left")))
}

fn settings(cluster: &Cluster) -> Result<String> {
    let mut text = String::new();
    for server in DNS_XDP {
        let node = &cluster.nodes[server];
        let config = Config::parse(&node.config_text()?, &node.config)?;
        let check = &config.cluster.nodes[server].health;
        let probe = check.probes.first().context("a node is probed")?;
        writeln!(
            text,
            "{}: tcp, interval {:?}, fast-interval {:?}, timeout {:?}, fall {}, rise {}",
            SERVERS[server], probe.interval, probe.fast_interval, probe.timeout, probe.fall, probe.rise
        )?;
    }
    write!(
        text,
        "{}: simplefo; {}; it takes whole seconds only, an interval of at least 2 and a timeout below it",
        SERVERS[GDNSD],
        gdnsd_service()
    )?;
    Ok(text)
}

fn report(rounds: &[Round], promises: [Option<Duration>; SERVERS.len()]) -> String {
    let headings = ["seconds", "guaranteed", "repair, min", "median", "max", "back, min", "median", "max"];
    let mut rows = Vec::new();
    for death in Death::ALL {
        for (server, title) in SERVERS.iter().enumerate() {
            let of = |times: fn(&Round) -> &[Duration; SERVERS.len()]| {
                let rounds = rounds.iter().filter(|round| round.death == death);
                spread(&rounds.map(|round| times(round)[server].as_secs_f64()).collect())
            };
            let promise = promises[server].map_or_else(|| "–".to_owned(), |it| seconds(it.as_secs_f64()));
            let row = [
                vec![format!("{title}: {}", death.text()), promise],
                of(|it| &it.repaired),
                of(|it| &it.back),
            ];
            rows.push(row.concat());
        }
    }
    table(&headings, &rows)
}

fn spread(times: &Rounds) -> Vec<String> {
    let (least, greatest) = times.range();
    [least, times.median(), greatest].map(seconds).to_vec()
}

fn seconds(time: f64) -> String {
    format!("{time:.2}")
}
