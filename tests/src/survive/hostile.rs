//! Row 10: millions of hostile packets through the program, and many over the wire to the program and to the responder.
use std::net::IpAddr;
use std::thread;

use anyhow::{Context, Result, ensure};
use dns_xdp::datapath::{Unattached, Variant};

use super::known_bad;
use super::load::thousands;
use super::stage::on_laid;
use super::{Length, Row};
use crate::bed::client::{Tcp, Udp};
use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::plan::{Plan, ZONE};
use crate::oracle::frame_oracle::Expected;
use crate::oracle::frames::Checksum;
use crate::oracle::frames::message::{A, IN, Message, name};
use crate::oracle::kernel;
use crate::oracle::meaning::Meaning;
use crate::oracle::mutation::mutated;
use crate::oracle::queries;
use crate::oracle::table::zone::{CAPACITY, PORT, ask, over_ipv4, over_ipv6, places, zone};
use crate::rng::Rng;

/// BPF_PROG_TEST_RUN refuses a frame that is shorter than an Ethernet header.
const FRAME_MIN: usize = 14;
/// The longest answers over UDP, with an OPT record and without.
const ANSWER_MAX: [usize; 2] = [1232, 512];
/// The number of messages under way at a time.
const WINDOW: usize = 32;
/// Frames that have to go through the program, and messages that have to go over the wire: the short form, the long one.
const FRAMES: [u64; 2] = [10_000, 10_000_000];
const MESSAGES: [u64; 2] = [1_500, 1_000_000];
/// The seed, which gives the same frames each time.
const SEED: u64 = 10;

/// Plays the row.
///
/// # Errors
/// A frame is not treated as expected.
pub fn run(length: Length) -> Result<Row> {
    let threads = thread::available_parallelism()?.get().min(4) as u64;
    // Some are too short for the kernel, and do not count.
    let each = length.pick(8_000, 10_200_000 / threads);
    let in_kernel = thread::scope(|scope| {
        let hold = |nth| scope.spawn(move || in_kernel(SEED + nth, each, length.pick(16, 1)));
        let threads: Vec<_> = (0..length.pick(1, threads)).map(hold).collect();
        threads.into_iter().map(|thread| thread.join().expect("no check panics")).sum::<Result<u64>>()
    })?;
    let plan = Plan::quick(2).tables("[fallback]\nqueries-per-second = 0\n").line("health", "fall = 100");
    let on_wire = on_laid(&plan, |cluster| {
        cluster.nodes[0].edit_config("[xdp]\n", "[xdp]\nmode = \"native\"\n")?;
        cluster.nodes[1].edit_config("[xdp]\n", "[xdp]\nmode = \"off\"\n")?;
        cluster.start()?;
        on_wire(cluster, length)
    })?;
    let result = format!(
        "{} frames through the program, {} messages on the wire to the program and to the responder: 0 wrong, \
         oversized, looped or second answers, 0 aborted",
        thousands(in_kernel),
        thousands(on_wire)
    );
    let [frames, messages] = [FRAMES, MESSAGES].map(|[short, long]| length.pick(short, long));
    Ok(Row::new(10, result, in_kernel >= frames && on_wire >= messages))
}

/// Runs frames through a separate program, and checks the expected result of each. Types are asked at steps of
/// `types_apart`.
fn in_kernel(seed: u64, count: u64, types_apart: usize) -> Result<u64> {
    let zone = zone();
    let mut program = Unattached::load(Variant::ALL[1], &places(), PORT, CAPACITY)?;
    program.publish(&zone)?;
    let mut held = 0;
    let mut hold = |frame: &[u8]| {
        let expected = Expected::to(&zone, frame);
        // Any other action than XDP_TX, XDP_PASS and XDP_DROP is an error, for example XDP_ABORTED.
        let (action, after) = kernel::run(&program, frame).map_err(anyhow::Error::msg)?;
        let checked = expected.check(frame, action, &after).map_err(anyhow::Error::msg);
        held += 1;
        checked.map(|_| ()).with_context(|| format!("{frame:02x?}"))
    };
    for (what, message) in known_bad::messages() {
        for datagram in [over_ipv4(&ask("@", A)), over_ipv6(&ask("@", A))] {
            // The frame has to fit the page that BPF_PROG_TEST_RUN gives it.
            let message = message[..message.len().min(1400)].to_vec();
            hold(&crate::oracle::frames::Datagram { message, ..datagram }.frame()).context(what.clone())?;
        }
    }
    for qtype in (0..=u16::MAX).step_by(types_apart).filter(|_| seed == SEED) {
        hold(&over_ipv4(&ask("node3", qtype)).frame()).with_context(|| format!("type {qtype}"))?;
    }
    let mut rng = Rng(seed);
    let mut frame = over_ipv4(&ask("node3", A)).frame();
    for nth in 0..count {
        // Each mutated query is the base of the next one. Every second query is also damaged before it is sent.
        frame = if nth % 64 == 0 { Vec::new() } else { frame };
        frame = mutated(&frame, rng.next_number() as u32);
        let mut aside = frame.clone();
        if nth % 2 == 1 {
            rng.disturb(&mut aside);
        }
        if aside.len() >= FRAME_MIN {
            hold(&aside)?;
        }
    }
    Ok(held)
}

fn on_wire(cluster: &Cluster, length: Length) -> Result<u64> {
    let mut rng = Rng(SEED);
    let bad: Vec<Vec<u8>> = known_bad::messages().into_iter().map(|(_, message)| message).collect();
    let types = (0..=u16::MAX).step_by(length.pick(256, 1));
    let typed = types.map(|qtype| Message::query(&name(&format!("node1.{ZONE}")), qtype, IN).bytes());
    let typed = queries::identified(typed);
    let disturbed = (0..length.pick(300, 450_000)).map(|_| {
        let mut message = bad[rng.below(bad.len())].clone();
        rng.disturb(&mut message);
        message
    });
    let messages = queries::identified(bad.iter().cloned().chain(disturbed));
    let mut sent = 0;
    for node in &cluster.nodes {
        for (family, address) in node.addresses.iter().enumerate() {
            // 1 in 1,000 of them goes over IPv6 too.
            let share = if family == 0 { &messages[..] } else { &messages[..bad.len()] };
            over_udp(cluster, *address, share).with_context(|| format!("{} over udp", node.name))?;
            sent += share.len();
        }
        // These queries are valid, but few clients ask for such types.
        let answered = over_udp(cluster, node.ipv4(), &typed).context("types")?;
        ensure!(answered == typed.len(), "{} answers {answered} of {} types", node.name, typed.len());
        sent += typed.len() + bad.len();
        over_tcp(cluster, node.ipv4(), &bad).with_context(|| format!("{} over tcp", node.name))?;
        unharmed(cluster, node)?;
    }
    Ok(sent as u64)
}

/// Returns how many of the messages were answered, each with a permitted answer.
fn over_udp(cluster: &Cluster, server: IpAddr, messages: &[Vec<u8>]) -> Result<usize> {
    let mut answered = 0;
    let socket = Udp::connect(&cluster.client, server, Checksum::Whole)?;
    for window in messages.chunks(WINDOW) {
        for (message, answer) in window.iter().zip(socket.exchange(window)?) {
            let Some(answer) = answer else { continue };
            judge(message, &answer).with_context(|| format!("{message:02x?}: {answer:02x?}"))?;
            answered += 1;
        }
    }
    socket.expect_quiet()?;
    Ok(answered)
}

/// Checks the rules for every answer.
fn judge(message: &[u8], answer: &[u8]) -> Result<()> {
    let meaning = Meaning::of(answer).map_err(anyhow::Error::msg)?;
    ensure!(message[2] & 0x80 == 0, "a response was answered");
    ensure!(answer[..2] == message[..2] && answer[2] & 0x80 != 0, "no response to this");
    ensure!(answer.len() <= ANSWER_MAX[usize::from(meaning.edns.is_none())], "{} octets", answer.len());
    Ok(())
}

/// Sends messages one after another. The server has to answer each, or close the connection.
fn over_tcp(cluster: &Cluster, server: IpAddr, messages: &[Vec<u8>]) -> Result<()> {
    let mut client = Tcp::new(&cluster.client, server);
    for message in messages {
        let answer = client.exchange(message).with_context(|| format!("{message:02x?}"))?;
        if let Some(answer) = answer {
            ensure!(
                answer.get(..2) == message.get(..2) && answer[2] & 0x80 != 0,
                "{message:02x?}: {answer:02x?}"
            );
        }
    }
    Ok(())
}

/// Checks that the server still answers, and has reported no trouble.
fn unharmed(cluster: &Cluster, node: &Node) -> Result<()> {
    let addresses = cluster.dns_client()?.addresses(
        node.ipv4(),
        &format!("node1.{ZONE}."),
        hickory_proto::rr::RecordType::A,
    )?;
    ensure!(addresses == [cluster.nodes[0].ipv4()], "node1 is {addresses:?}");
    let log = std::fs::read_to_string(&node.log)?;
    ensure!(!log.contains("panicked"), "{log}");
    Ok(())
}
