//! Row 9: no native XDP, no XDP at all, another program, no capability; and the same answers in every mode.
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use dns_xdp::config::Config;
use dns_xdp::failover::healthy_zone;
use hickory_proto::rr::rdata::opt::EdnsCode;
use nix::sys::signal::Signal;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::load::thousands;
use super::stage::on_laid;
use super::{Length, Row, SOON};
use crate::bed::client::Udp;
use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::plan::Plan;
use crate::bed::process::succeed;
use crate::bed::wait;
use crate::oracle::frames::Checksum;
use crate::oracle::meaning::Meaning;
use crate::oracle::queries;
use crate::oracle::table::zone::{APEX, sized};

/// The address and port of the queries in each mode: the rotation depends on them.
const CLIENT_PORT: u16 = 20_961;
/// The number of queries under way at a time.
const WINDOW: usize = 32;
/// The removed capabilities, and the capability that the daemon's message then names.
const CAPABILITIES: [(&str, &str); 3] =
    [("-sys_admin,-bpf", "CAP_BPF"), ("-net_admin", "CAP_NET_ADMIN"), ("-sys_admin,-perfmon", "CAP_PERFMON")];

/// Plays the row.
///
/// # Errors
/// A mode is not reached, or answers differ.
pub fn run(length: Length) -> Result<Row> {
    // A late probe would change the answers between two modes.
    on_laid(&Plan::quick(2).line("health", "fall = 100").tables(&services()), |cluster| {
        cluster.nodes.iter_mut().try_for_each(Node::start_database)?;
        for (lacking, name) in CAPABILITIES {
            refused_without(&mut cluster.nodes[0], lacking, name)?;
        }
        let zone = healthy_zone(&Config::load(&cluster.nodes[0].config)?);
        let mut runner = TestRunner::default();
        let strategy = queries::octets(&zone);
        let mut message = || strategy.new_tree(&mut runner).expect("messages can be drawn").current();
        let messages = queries::identified((0..length.pick(500, 20_000)).map(|_| message()));

        let native = rung(cluster, "native", &messages).context("on the first rung")?;
        cluster.drop_replies(0)?;
        let generic = rung(cluster, "generic", &messages).context("where native answers would be lost")?;
        cluster.let_replies_through(0)?;
        let foreign = cluster.occupy(0)?;
        let off = rung(cluster, "off", &messages).context("beside another program")?;
        ensure!(cluster.nodes[0].has_xdp()?, "the other program is gone");
        drop(foreign);
        let differing = |other: &[Option<Meaning>]| native.iter().zip(other).filter(|(a, b)| a != b).count();
        let (in_generic, in_userspace) = (differing(&generic), differing(&off));
        let result = format!(
            "three rungs, {} queries on each: {in_generic} answered otherwise in generic mode, {in_userspace} in \
             userspace; without {} refused by name",
            thousands(messages.len() as u64),
            CAPABILITIES.map(|(_, name)| name).join(", "),
        );
        Ok(Row::new(9, result, in_generic + in_userspace == 0))
    })
}

/// Names in rotation, the longest among them.
fn services() -> String {
    let longest = sized(255).trim_end_matches(APEX).trim_end_matches('.').to_owned();
    let service = |name: &str| format!("[[service]]\nname = \"{name}\"\nnodes = [\"node1\", \"node2\"]\n");
    ["service", "db.prod", &longest].map(service).concat()
}

/// The answers of a daemon that chooses this mode by itself.
fn rung(cluster: &mut Cluster, mode: &str, messages: &[Vec<u8>]) -> Result<Vec<Option<Meaning>>> {
    cluster.nodes[0].start()?;
    let node = &cluster.nodes[0];
    wait::until("both nodes are up", SOON, || {
        let status = node.status()?;
        let interface = &status["interfaces"][0];
        ensure!(interface["mode"] == mode, "eth0 is {interface}");
        let alarms = status["alarms"].to_string();
        ensure!(alarms.contains("eth0 is ") == (mode != "native"), "the alarms are {alarms}");
        ensure!(crate::bed::node::healths(&status)?.iter().all(|health| *health == "up"), "{status}");
        Ok(())
    })?;
    let server: IpAddr = node.ipv4();
    let before = node.stats()?.answered_by_xdp();
    let socket = Udp::connect_by(&cluster.client, server, Checksum::Whole, CLIENT_PORT)?;
    let mut answers = Vec::new();
    for window in messages.chunks(WINDOW) {
        for answer in socket.exchange(window)? {
            let meaning =
                answer.map(|answer| Meaning::of(&answer).map_err(anyhow::Error::msg)).transpose()?;
            answers.push(meaning.map(without_cookie));
        }
    }
    let by_xdp = cluster.nodes[0].stats()?.answered_by_xdp() > before;
    ensure!(by_xdp == (mode != "off"), "in mode {mode} the program has answered: {by_xdp}");
    cluster.nodes[0].stop(Signal::SIGINT)?;
    let remains = cluster.nodes[0].remains()?;
    // The other program stays.
    ensure!(mode == "off" || remains.is_empty(), "left behind: {remains:?}");
    Ok(answers)
}

/// A cookie depends on the time.
fn without_cookie(mut answer: Meaning) -> Meaning {
    if let Some(opt) = &mut answer.edns {
        opt.options_mut().remove(EdnsCode::Cookie);
    }
    answer
}

/// Without a capability the daemon refuses to start, and names it.
fn refused_without(node: &mut Node, lacking: &str, name: &str) -> Result<()> {
    succeed(Command::new("setpriv").arg("--version"), "")?;
    node.wrapper =
        vec!["setpriv".to_owned(), format!("--bounding-set={lacking}"), format!("--inh-caps={lacking}")];
    let output = node.run_to_the_end(&[])?;
    node.wrapper.clear();
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && stderr.contains(name),
        "without {name}, {}: {stderr}",
        output.status
    );
    let remains = node.remains()?;
    ensure!(remains.is_empty(), "left behind: {remains:?}");
    Ok(())
}
