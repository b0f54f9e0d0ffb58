//! Scenes: a client gets the same answers from a node with XDP as from a node without it.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use dns_xdp::config::Config;
use dns_xdp::failover::healthy_zone;
use dns_xdp::zone::Zone;
use dns_xdp_ebpf::outcome::{Action, Outcome};
use dns_xdp_tests::bed::client::Udp;
use dns_xdp_tests::bed::cluster::stage;
use dns_xdp_tests::bed::node::{DatabaseProgram, Node, Stats};
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::oracle::frames::Checksum::{self, Partial, Whole, Zero};
use dns_xdp_tests::oracle::meaning::Meaning;
use dns_xdp_tests::oracle::queries;
use dns_xdp_tests::oracle::table::zone::{APEX, sized};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption, NSIDPayload};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

/// The address of a node (IPv4 or IPv6), with every checksum that a client may send.
const ROUTES: [(usize, Checksum); 5] = [(0, Partial), (0, Whole), (0, Zero), (1, Partial), (1, Whole)];
/// The number of queries over each; `PROPTEST_CASES` sets another number.
const CASES: usize = 2_000;
/// The number of queries under way at a time.
const WINDOW: usize = 32;
/// Nodes whose addresses are all on the second station, because only probes reach them.
const MORE_NODES: std::ops::RangeInclusive<u8> = 3..=20;
/// The least number of each kind of answer, per 1,000; a run with fewer proves little.
const EXPECTED: [(&str, usize); 8] = [
    ("NoError with answers", 100),
    ("NoError", 70),
    ("NXDomain", 80),
    ("truncated", 8),
    ("Refused", 100),
    ("FormErr", 100),
    ("NotImp", 20),
    ("silence", 12),
];

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_node_with_xdp_answers_every_query_as_one_without_and_once() {
    // A probe that is late on a busy machine changes the zone of one node and not of the other.
    let plan = Plan::quick(2)
        .line("health", "fall = 100")
        .tables(&tables())
        .tables("[fallback]\nqueries-per-second = 0\n");
    stage(&plan, |cluster| {
        cluster.nodes[0].edit_config("[xdp]\n", "[xdp]\nmode = \"native\"\n")?;
        cluster.nodes[1].edit_config("[xdp]\n", "[xdp]\nmode = \"off\"\n")?;
        cluster.nodes[1].namespace.ip(&more_addresses())?;
        // It has to listen on these addresses too.
        cluster.nodes[1].database_program = DatabaseProgram::StandIn;
        cluster.start()?;
        let [with, without] = &cluster.nodes[..] else { unreachable!("there are two nodes") };
        ensure!(with.has_xdp()? && !without.has_xdp()?, "the wrong node has a program");

        let zone = healthy_zone(&Config::load(&with.config)?);
        let before = [with.stats()?, without.stats()?];
        let mut comparison = Comparison::default();
        for (family, checksum) in ROUTES {
            // The rotation depends on the client's port too.
            let connect =
                |node: &Node, port| Udp::connect_by(&cluster.client, node.addresses[family], checksum, port);
            let with = connect(with, 0)?;
            let without = connect(without, with.port()?)?;
            comparison.hold(&zone, &[with, without]).with_context(|| format!("over {checksum:?}"))?;
        }
        comparison.judge()?;
        expect_shares(&before, &[with.stats()?, without.stats()?], &comparison)
    });
}

/// Names as in the packet table: in rotation, with too many addresses, below an empty name, long.
fn tables() -> String {
    let mut toml = String::new();
    for number in MORE_NODES {
        let [ipv4, ipv6] = addresses(number);
        write!(toml, "[[node]]\nname = \"node{number}\"\n").expect("a String takes all");
        // The first has no IPv6 address, the next no IPv4 address.
        let ipv4 = if number == 4 { String::new() } else { format!("ipv4 = \"{ipv4}\"\n") };
        let ipv6 = if number == 3 { String::new() } else { format!("ipv6 = \"{ipv6}\"\n") };
        toml += &(ipv4 + &ipv6);
    }
    let nodes =
        |count: u8| (1..=count).map(|number| format!("\"node{number}\"")).collect::<Vec<_>>().join(", ");
    let long = |octets| sized(octets).trim_end_matches(APEX).trim_end_matches('.').to_owned();
    for (name, count) in [
        ("service".to_owned(), 5),
        ("sixteen".to_owned(), 17),
        ("seventeen".to_owned(), 20),
        ("db.prod".to_owned(), 2),
        (long(100), 2),
        (long(254), 2),
        (long(255), 17),
    ] {
        write!(toml, "[[service]]\nname = \"{name}\"\nnodes = [{}]\nanswers-max = 255\n", nodes(count))
            .expect("a String takes all");
    }
    toml
}

fn addresses(number: u8) -> [IpAddr; 2] {
    [IpAddr::from([192, 0, 2, 30 + number]), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 1, u16::from(number)])]
}

fn more_addresses() -> String {
    let line = |number| {
        let [ipv4, ipv6] = addresses(number);
        format!("addr add {ipv4}/24 dev eth0\naddr add {ipv6}/64 dev eth0 nodad\n")
    };
    MORE_NODES.map(line).collect()
}

/// The queries and answers.
#[derive(Debug, Default)]
struct Comparison {
    asked: usize,
    seen: BTreeMap<String, usize>,
    /// Messages sent to each node: the queries, and the markers behind them.
    sent: [u64; 2],
}

impl Comparison {
    /// Sends the same messages to both nodes.
    fn hold(&mut self, zone: &Zone, [with, without]: &[Udp; 2]) -> Result<()> {
        let cases =
            std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
        let mut runner = TestRunner::default();
        let strategy = queries::octets(zone);
        let mut message = || strategy.new_tree(&mut runner).expect("messages can be drawn").current();
        let whole = message();
        // Some messages are cut: a message without a whole header gets no answer.
        let cut = (0..whole.len().min(20)).map(|length| whole[..length].to_vec());
        let messages = queries::identified((0..cases).map(|_| message()).chain(cut));
        for window in messages.chunks(WINDOW) {
            let ours = with.exchange(window).context("asking the node with XDP")?;
            let theirs = without.exchange(window).context("asking the node without")?;
            for ((message, ours), theirs) in window.iter().zip(ours).zip(theirs) {
                let kind = compare(ours.as_deref(), theirs.as_deref());
                let kind = kind.with_context(|| format!("asked {message:02x?}"))?;
                *self.seen.entry(kind).or_default() += 1;
            }
        }
        self.asked += messages.len();
        [with, without].into_iter().try_for_each(Udp::expect_quiet)?;
        for (sum, client) in self.sent.iter_mut().zip([with, without]) {
            *sum += client.sent();
        }
        Ok(())
    }

    fn judge(&self) -> Result<()> {
        println!("{:?}", self.seen);
        for (kind, least) in EXPECTED {
            let count = self.seen.get(kind).copied().unwrap_or(0);
            ensure!(count * 1000 >= least * self.asked, "few {kind}: {:?}", self.seen);
        }
        Ok(())
    }
}

fn compare(ours: Option<&[u8]>, theirs: Option<&[u8]>) -> Result<String> {
    let meaning = |answer: Option<&[u8]>, node| answer.map(|answer| anonymous(answer, node)).transpose();
    let (ours, theirs) = (meaning(ours, "node1")?, meaning(theirs, "node2")?);
    ensure!(ours == theirs, "with XDP {ours:?}\nwithout  {theirs:?}");
    Ok(ours.map_or("silence".to_owned(), |answer| answer.kind()))
}

/// The meaning of an answer without the NSID (RFC 5001), which has to be the node's name.
fn anonymous(answer: &[u8], node: &str) -> Result<Meaning> {
    let mut answer = Meaning::of(answer).map_err(anyhow::Error::msg)?;
    if let Some(opt) = &mut answer.edns
        && let Some(EdnsOption::NSID(nsid)) = opt.option(EdnsCode::NSID)
    {
        ensure!(*nsid == NSIDPayload::new(node)?, "{node} calls itself {nsid:?}");
        opt.options_mut().remove(EdnsCode::NSID);
        opt.options_mut().insert(EdnsOption::NSID(NSIDPayload::new("a node")?));
    }
    Ok(answer)
}

/// Checks that the program has answered its share on the one node and nothing on the other, and that every query is
/// counted once.
fn expect_shares(before: &[Stats; 2], after: &[Stats; 2], comparison: &Comparison) -> Result<()> {
    let asked = comparison.asked;
    let by_xdp = |stats: &Stats, action| -> u64 {
        let outcomes = Outcome::ALL.iter().filter(|outcome| outcome.action() == action);
        outcomes.map(|outcome| stats.xdp.get(outcome.text()).copied().unwrap_or(0)).sum()
    };
    let counted =
        |count: &dyn Fn(&Stats) -> u64| [0, 1].map(|node| count(&after[node]) - count(&before[node]));
    let transmitted = counted(&|stats| by_xdp(stats, Action::Transmit));
    let dropped = counted(&|stats| by_xdp(stats, Action::Drop));
    let passed = counted(&Stats::answered_by_responder);
    println!("of {asked} queries to each node XDP answered {transmitted:?} and dropped {dropped:?}");
    ensure!(transmitted[1] + dropped[1] == 0, "XDP has seen queries where it is off");
    ensure!(
        transmitted[0] > asked as u64 * 3 / 10,
        "XDP answered only {} of {asked} queries",
        transmitted[0]
    );
    let all = [0, 1].map(|node| transmitted[node] + dropped[node] + passed[node]);
    let sent = comparison.sent;
    ensure!(all == sent, "the nodes counted {all:?} messages, and they were sent {sent:?}");
    Ok(())
}
