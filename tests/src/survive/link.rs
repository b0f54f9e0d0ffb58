//! The interface disappears and returns, under another name or as another one, and another process detaches the
//! program.
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::inquiry::Inquiry;
use super::load::{Load, Pace};
use super::resources::Resources;
use super::stage::on_cluster;
use super::{Length, Row};
use crate::bed::cluster::Cluster;
use crate::bed::network::INTERFACE;
use crate::bed::node::Node;
use crate::bed::plan::Plan;
use crate::bed::wait;

/// How long a removed interface is missing.
const ABSENCE: Duration = Duration::from_millis(200);
/// How long a flapping carrier stays on, and off.
const FLAP: Duration = Duration::from_millis(5);
const OTHER_NAME: &str = "other0";
/// The longest time from the fault until the program answers again; meanwhile the responder answers. The kernel
/// detaches a program some time after its link has gone.
const REPAIR: Duration = Duration::from_secs(15);

/// The fault of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    DownAndUp,
    Renamed,
    MadeAnew,
    Mtu,
    Flaps,
    Detached,
}

const BLOWS: [(Blow, &str); 6] = [
    (Blow::DownAndUp, "down and up"),
    (Blow::Renamed, "renamed"),
    (Blow::MadeAnew, "made anew"),
    (Blow::Mtu, "MTU"),
    (Blow::Flaps, "flaps"),
    (Blow::Detached, "detached"),
];

/// The times of the return after a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Return {
    /// From the end of the fault to the first right answer, of program or responder.
    answered: Duration,
    /// From the first right answer until only the program answers. The check takes 0.1 s.
    in_kernel: Duration,
}

/// Plays the row.
///
/// # Errors
/// The row cannot be played.
pub fn run(length: Length) -> Result<Row> {
    let (flaps, rounds) = length.pick((20, 1), (100, 5));
    let (times, wrong, leaks) = on_cluster(&Plan::quick(1), |cluster| {
        let inquiries =
            Inquiry::of_node(&cluster.client, &cluster.nodes[0].name, cluster.nodes[0].addresses)?;
        let ipv4 = inquiries.into_iter().filter(|inquiry| inquiry.server.is_ipv4()).collect();
        let load = Load::start(&cluster.client, ipv4, Pace::of(5_000))?;
        let before = Resources::of(cluster.nodes[0].daemon()?)?;
        let mut held = vec![before.clone()];
        let mut times = Vec::new();
        for _ in 0..rounds {
            for (blow, name) in BLOWS {
                let time = strike(cluster, &load, blow, flaps).with_context(|| name)?;
                times.push((name, time));
                held.push(Resources::of(cluster.nodes[0].daemon()?)?);
            }
        }
        let after = Resources::of(cluster.nodes[0].daemon()?)?;
        let leaks = leaks(&before, &after, &held, &cluster.nodes[0].pins);
        let tally = load.finish()?;
        Ok((times, tally.wrong + tally.surplus, leaks))
    })?;
    let worst = |name: &str, of: fn(&Return) -> Duration| {
        let times = times.iter().filter(|(blow, _)| *blow == name).map(|(_, time)| of(time));
        times.max().unwrap_or_default()
    };
    let mut result = String::from("answers after, and in the kernel after:");
    for (_, name) in BLOWS {
        let answered = worst(name, |it| it.answered).as_millis();
        let in_kernel = worst(name, |it| it.in_kernel).as_secs_f64();
        write!(result, " {name} {answered} ms, {in_kernel:.1} s;")?;
    }
    write!(result, " {wrong} wrong; {}", leaks.as_deref().unwrap_or("no leak"))?;
    let limit = Duration::from_millis(length.pick(2500, 1200));
    let reached = wrong == 0 && leaks.is_none() && times.iter().all(|(_, time)| time.answered <= limit);
    Ok(Row::new(7, result, reached))
}

/// Causes one fault. Returns the time from its end to the first right answer.
fn strike(cluster: &mut Cluster, load: &Load, blow: Blow, flaps: u32) -> Result<Return> {
    let server = cluster.nodes[0].ipv4();
    match blow {
        Blow::DownAndUp => {
            down(&cluster.nodes[0], INTERFACE)?;
            sleep(ABSENCE);
            up(&cluster.nodes[0], INTERFACE)?;
        }
        Blow::Renamed => {
            rename(&cluster.nodes[0], INTERFACE, OTHER_NAME)?;
            let renamed = Instant::now();
            let answered = load.answered_after(server, renamed, Duration::from_secs(10))?;
            sleep(Duration::from_millis(1200));
            rename(&cluster.nodes[0], OTHER_NAME, INTERFACE)?;
            let back = Instant::now();
            let again = load.answered_after(server, back, Duration::from_secs(10))?;
            let answered = (answered - renamed).max(again - back);
            return Ok(Return { answered, in_kernel: in_kernel(&cluster.nodes[0])? });
        }
        Blow::MadeAnew => {
            cluster.remove_interface(0)?;
            sleep(ABSENCE);
            cluster.make_interface(0)?;
            // This test is not about the neighbours' caches of the old MAC address.
            cluster.client.ip(&format!("neigh flush dev {INTERFACE}\n"))?;
        }
        Blow::Mtu => {
            for mtu in [1280, 1500] {
                cluster.nodes[0].namespace.ip(&format!("link set {INTERFACE} mtu {mtu}\n"))?;
            }
        }
        Blow::Flaps => {
            for _ in 0..flaps {
                cluster.nodes[0].pull_cable()?;
                sleep(FLAP);
                cluster.nodes[0].put_cable_back()?;
                sleep(FLAP);
            }
        }
        Blow::Detached => {
            detach(&cluster.nodes[0])?;
        }
    }
    let over = Instant::now();
    let answered = load.answered_after(server, over, Duration::from_secs(10))?;
    Ok(Return { answered: answered - over, in_kernel: in_kernel(&cluster.nodes[0])? })
}

/// Detaches the program without the daemon.
///
/// # Errors
/// The program is not attached.
pub fn detach(node: &Node) -> Result<()> {
    let pin = link_pin(node);
    fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))
}

fn link_pin(node: &Node) -> PathBuf {
    node.pins.join(format!("link-{INTERFACE}"))
}

/// Waits until the program answers natively, and the responder no longer answers.
///
/// # Errors
/// The program does not answer within `REPAIR`.
pub fn in_kernel(node: &Node) -> Result<Duration> {
    let (_, took) = wait::until("the program answers again", REPAIR, || {
        // If the link is gone, the kernel may detach the program late, and the daemon may notice late.
        let pin = link_pin(node);
        ensure!(pin.exists(), "there is no {}", pin.display());
        let status = node.status()?;
        ensure!(status["interfaces"][0]["mode"] == "native", "{}", status["interfaces"]);
        let before = node.stats()?;
        sleep(Duration::from_millis(100));
        let after = node.stats()?;
        ensure!(after.answered_in_kernel() > before.answered_in_kernel(), "the program does not answer");
        ensure!(after.answered_by_responder() == before.answered_by_responder(), "the responder answers too");
        Ok(())
    })?;
    Ok(took)
}

fn leaks(before: &Resources, after: &Resources, held: &[Resources], pins: &Path) -> Option<String> {
    if after.descriptors > before.descriptors {
        return Some(format!("{} descriptors instead of {}", after.descriptors, before.descriptors));
    }
    after.are_all_that_is_left_of(held, pins).err().map(|error| format!("{error:#}"))
}

fn down(node: &Node, interface: &str) -> Result<()> {
    node.namespace.ip(&format!("link set {interface} down\n"))
}

/// Sets the interface up, with the IPv6 address that the kernel removes when an interface goes down.
fn up(node: &Node, interface: &str) -> Result<()> {
    let ipv6 = node.addresses.iter().find(|address| IpAddr::is_ipv6(address)).context("a node has IPv6")?;
    node.namespace.ip(&format!("link set {interface} up\naddr add {ipv6}/64 dev {interface} nodad\n"))
}

fn rename(node: &Node, from: &str, to: &str) -> Result<()> {
    down(node, from)?;
    node.namespace.ip(&format!("link set {from} name {to}\n"))?;
    up(node, to)
}
