//! Row 11: responses to a server, and queries that seem to come from one, so that two might answer each other for ever.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dns_xdp::responder::DROPPED;
use dns_xdp_ebpf::outcome::{Action, Outcome};

use super::load::thousands;
use super::stage::on_cluster;
use super::{Length, Row};
use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::plan::{Plan, ZONE};
use crate::bed::spoof::{Spoofer, server};
use crate::oracle::frames::message::{A, IN, Message, name};

const QR: u16 = 0x8000;
/// A reserved opcode. The answer to it is NOTIMP.
const OPCODE: u16 = 0x7000;
/// The time between two packets, so that no queue overflows.
const PAUSE: Duration = Duration::from_micros(100);

/// Plays the row.
///
/// # Errors
/// The cluster does not come up.
pub fn run(length: Length) -> Result<Row> {
    let mut result = Vec::new();
    let mut reached = true;
    for (mode, place) in [("native", "in the kernel"), ("off", "in userspace")] {
        let plan = Plan::quick(2).line("xdp", &format!("mode = \"{mode}\"")).line("health", "fall = 100");
        let (packets, replies, most) = on_cluster(&plan, |cluster| reflect(cluster, length))?;
        reached &= most <= 1.0;
        result.push(format!("{place} {} replies to {} packets", thousands(replies), thousands(packets)));
    }
    Ok(Row::new(11, format!("{}; never more than one to each", result.join(", ")), reached))
}

/// The packets to send, their source, and the expected number of replies.
struct Attack {
    what: &'static str,
    source: SocketAddr,
    message: Vec<u8>,
    expected: u64,
}

/// Packets, replies, and the most replies to one kind of packet.
fn reflect(cluster: &mut Cluster, length: Length) -> Result<(u64, u64, f64)> {
    let each = length.pick(20, 10_000);
    // By then a loop would have made 100 rounds.
    let settled = length.pick(Duration::from_millis(30), Duration::from_millis(500));
    let spoofer = Spoofer::open(&cluster.client)?;
    let (mut packets, mut replies, mut most) = (0, 0, 0.0_f64);
    for family in [0, 1] {
        let [here, there] = [0, 1].map(|node| cluster.nodes[node].addresses[family]);
        for attack in attacks(here, there) {
            let before = answered(cluster)?;
            for _ in 0..each {
                spoofer.send(attack.source, server(here), &attack.message)?;
                thread::sleep(PAUSE);
            }
            thread::sleep(settled);
            let seen = answered(cluster)? - before;
            let Attack { what, source, expected, .. } = attack;
            ensure!(seen <= expected * each, "{what} from {source}: {seen} replies to {each} packets");
            // The answered packets show that packets arrived.
            ensure!(seen == expected * each, "{what} from {source}: only {seen} replies to {each} packets");
            (packets, replies) = (packets + each, replies + seen);
            most = most.max(seen as f64 / each as f64);
        }
    }
    Ok((packets, replies, most))
}

fn attacks(here: IpAddr, there: IpAddr) -> Vec<Attack> {
    let query = Message::query(&name(&format!("node1.{ZONE}")), A, IN);
    let response = Message { flags: QR, ..query.clone() };
    let attack = |what, source, message: &Message, expected| Attack {
        what,
        source,
        message: message.bytes(),
        expected,
    };
    let (loopback, multicast): (IpAddr, IpAddr) = if here.is_ipv4() {
        (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(224, 0, 0, 1).into())
    } else {
        (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into())
    };
    vec![
        attack("a query of the other server's", server(there), &query, 1),
        attack(
            "a query with a reserved opcode",
            server(there),
            &Message { flags: OPCODE, ..query.clone() },
            1,
        ),
        attack("a response of the other server's", server(there), &response, 0),
        attack(
            "a response that cannot be read",
            server(there),
            &Message { counts: Some([9; 4]), ..response },
            0,
        ),
        attack("a query of its own", server(here), &query, 0),
        attack("a query from the loopback", server(loopback), &query, 0),
        attack("a query from a multicast address", server(multicast), &query, 0),
        attack("a query from port 0", SocketAddr::new(there, 0), &query, 0),
    ]
}

/// The number of replies of both servers, from their programs and their responders.
fn answered(cluster: &Cluster) -> Result<u64> {
    let of_node = |node: &Node| {
        let stats = node.stats().with_context(|| node.name.clone())?;
        let transmitting = Outcome::ALL.iter().filter(|outcome| outcome.action() == Action::Transmit);
        let program: u64 =
            transmitting.map(|outcome| stats.xdp.get(outcome.text()).copied().unwrap_or(0)).sum();
        let responder: u64 =
            stats.responder.iter().filter(|(rcode, _)| *rcode != DROPPED).map(|(_, count)| count).sum();
        Ok::<_, anyhow::Error>(program + responder)
    };
    cluster.nodes.iter().map(of_node).sum()
}
