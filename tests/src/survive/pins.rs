//! Row 15: pins that are foreign, corrupt or of another layout, found by a daemon that starts.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use aya::programs::Xdp;
use dns_xdp_ebpf::table::{LAYOUT, NameEntry, NameOverflow, ZoneHeader};
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

use super::stage::on_laid;
use super::{Length, Row};
use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::plan::{Plan, ZONE};
use crate::bed::programs::TESTBED;

/// `[xdp] capacity` of the row's plan, and the slots in a bank of the table that follow from it.
const CAPACITY: &str = "capacity = 16";
const HALF: u32 = 20;

/// A pin that is not the daemon's.
const STRAY: &str = "stray";

/// The daemon's reaction to a find.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It starts and answers.
    Rebuilt,
    /// It ends, and names the reason.
    Refused,
}

/// The pins that a daemon finds.
struct Find {
    what: &'static str,
    expected: Outcome,
    /// A predecessor was killed, and its program answers. Otherwise only the planted pins exist.
    after_a_kill: bool,
    plant: fn(&Node) -> Result<()>,
}

const FINDS: [Find; 19] = [
    Find {
        what: "an entry of another's",
        expected: Outcome::Refused,
        after_a_kill: false,
        plant: |node| map(&node.pins.join(STRAY)),
    },
    Find {
        what: "a map as the link",
        expected: Outcome::Rebuilt,
        after_a_kill: false,
        plant: |node| map(&link(node)),
    },
    Find {
        what: "a table of another size",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| replace(node, "NAMES", array::<{ size_of::<NameEntry>() }>),
    },
    Find {
        what: "a map as the link of a program that answers",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| {
            fs::remove_file(link(node))?;
            map(&link(node))
        },
    },
    Find {
        what: "a lease that is no array",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| replace(node, "LEASE", hash),
    },
    Find { what: "a head of garbage", expected: Outcome::Rebuilt, after_a_kill: true, plant: garbage_head },
    Find {
        what: "another layout's maps",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| {
            let maps = node.pins.join(format!("maps-v{}-{HALF}", LAYOUT + 1));
            fs::create_dir(&maps)?;
            map(&maps.join("ZONE"))
        },
    },
    Find {
        what: "no zone",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| Ok(fs::remove_file(maps(node).join("ZONE"))?),
    },
    Find {
        what: "a program as the link",
        expected: Outcome::Rebuilt,
        after_a_kill: false,
        plant: |node| program(&link(node)),
    },
    Find {
        what: "a directory as the link",
        expected: Outcome::Rebuilt,
        after_a_kill: false,
        plant: |node| Ok(fs::create_dir_all(link(node))?),
    },
    Find {
        what: "a link that leads nowhere",
        expected: Outcome::Rebuilt,
        after_a_kill: false,
        plant: |node| Ok(symlink("/nonexistent", link(node))?),
    },
    Find {
        what: "a map as the program",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| {
            fs::remove_file(node.pins.join("program"))?;
            map(&node.pins.join("program"))
        },
    },
    Find {
        what: "no link",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| Ok(fs::remove_file(link(node))?),
    },
    Find {
        what: "empty maps",
        expected: Outcome::Rebuilt,
        after_a_kill: false,
        plant: |node| Ok(fs::create_dir_all(maps(node))?),
    },
    Find {
        what: "a map as the maps",
        expected: Outcome::Rebuilt,
        after_a_kill: false,
        plant: |node| map(&maps(node)),
    },
    Find {
        what: "no maps",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| Ok(fs::remove_dir_all(maps(node))?),
    },
    Find {
        what: "names of garbage",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| {
            fill::<{ size_of::<NameEntry>() }>(node, "NAMES")?;
            fill::<{ size_of::<NameOverflow>() }>(node, "NAME_OVERFLOW")
        },
    },
    Find {
        what: "a zone that is a table",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| replace(node, "ZONE", array::<{ size_of::<ZoneHeader>() }>),
    },
    Find {
        what: "counters that are no counters",
        expected: Outcome::Rebuilt,
        after_a_kill: true,
        plant: |node| replace(node, "COUNTERS", hash),
    },
];

/// Plays the row.
///
/// # Errors
/// A daemon crashes because of the pins, gives wrong answers, or leaves something behind.
pub fn run(length: Length) -> Result<Row> {
    let plan = Plan::quick(1)
        .line("xdp", "mode = \"native\"")
        .line("xdp", CAPACITY)
        .line("xdp", "stale-after = \"300s\"")
        .line("xdp", "stop-grace = \"300s\"");
    on_laid(&plan, |cluster| {
        cluster.nodes[0].start_database()?;
        let finds = &FINDS[..length.pick(6, FINDS.len())];
        for find in finds {
            find.play(cluster).with_context(|| find.what)?;
        }
        let refused = finds.iter().filter(|find| find.expected == Outcome::Refused).count();
        let rebuilt = finds.len() - refused;
        let result =
            format!("{} finds: {rebuilt} rebuilt, {refused} refused by name, 0 crashes", finds.len());
        Ok(Row::new(15, result, true))
    })
}

impl Find {
    /// Starts a daemon, which has to start or refuse, as expected.
    fn play(&self, cluster: &mut Cluster) -> Result<()> {
        let node = &mut cluster.nodes[0];
        if self.after_a_kill {
            node.start()?;
            node.stop(Signal::SIGKILL)?;
        } else {
            fs::create_dir_all(&node.pins)?;
        }
        (self.plant)(node).context("cannot plant it")?;
        fs::write(&node.log, "")?;
        let started = node.start();
        let log = fs::read_to_string(&node.log)?;
        ensure!(!log.contains("panicked"), "{log}");
        let outcome = match started {
            Ok(()) => Outcome::Rebuilt,
            Err(error) if format!("{error:#}").contains("exit status: 2)") => {
                ensure!(
                    log.contains(&node.pins.display().to_string()),
                    "the message does not say where: {log}"
                );
                Outcome::Refused
            }
            Err(error) => bail!("{error:#}: {log}"),
        };
        ensure!(outcome == self.expected, "{outcome:?}, not {:?}: {log}", self.expected);
        if outcome == Outcome::Rebuilt {
            answers(cluster)?;
            cluster.nodes[0].stop(Signal::SIGKILL)?;
        }
        let node = &cluster.nodes[0];
        let unload = ["unload", "--config", &node.config.display().to_string()];
        node.cli_ok(&unload)?;
        let stray = node.pins.join(STRAY);
        ensure!(
            stray.exists() == (outcome == Outcome::Refused),
            "an entry of another's is gone, or left behind"
        );
        if stray.exists() {
            fs::remove_file(&stray)?;
            node.cli_ok(&unload)?;
        }
        let remains = node.remains()?;
        ensure!(remains.is_empty(), "left behind: {remains:?}");
        Ok(())
    }
}

/// Checks that the program gives the right answers.
fn answers(cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes[0];
    let before = node.stats()?.answered_by_xdp();
    let dns = cluster.dns_client()?;
    let addresses = dns.addresses(node.ipv4(), &format!("node1.{ZONE}."), RecordType::A)?;
    ensure!(addresses == [node.ipv4()], "node1 is {addresses:?}");
    ensure!(node.stats()?.answered_by_xdp() > before, "the program has not answered");
    Ok(())
}

fn link(node: &Node) -> PathBuf {
    node.pins.join("link-eth0")
}

fn maps(node: &Node) -> PathBuf {
    node.pins.join(format!("maps-v{LAYOUT}-{HALF}"))
}

type Foreign = Array<MapData, [u8; 8]>;

fn map(path: &PathBuf) -> Result<()> {
    Ok(Foreign::create(3, 0)?.pin(path)?)
}

fn hash(path: &PathBuf) -> Result<()> {
    Ok(HashMap::<MapData, [u8; 4], [u8; 8]>::create(1, 0)?.pin(path)?)
}

/// An array with the elements of dns-xdp's map, but another number of them.
fn array<const LENGTH: usize>(path: &PathBuf) -> Result<()> {
    Ok(Array::<MapData, [u8; LENGTH]>::create(HALF + 1, 0)?.pin(path)?)
}

fn program(path: &PathBuf) -> Result<()> {
    let mut object = Ebpf::load(TESTBED)?;
    let pass: &mut Xdp =
        object.program_mut("pass").context("the test bed's object has no program `pass`")?.try_into()?;
    pass.load()?;
    Ok(pass.pin(path)?)
}

fn replace(node: &Node, name: &str, with: fn(&PathBuf) -> Result<()>) -> Result<()> {
    let path = maps(node).join(name);
    fs::remove_file(&path)?;
    with(&path)
}

/// Sets every octet of every element.
fn fill<const LENGTH: usize>(node: &Node, name: &str) -> Result<()> {
    let map = MapData::from_pin(maps(node).join(name))?;
    let mut array: Array<MapData, [u8; LENGTH]> = aya::maps::Map::Array(map).try_into()?;
    (0..array.len()).try_for_each(|index| Ok(array.set(index, [0xff; LENGTH], 0)?))
}

fn garbage_head(node: &Node) -> Result<()> {
    type ZoneHeaders = Array<MapData, [u8; size_of::<ZoneHeader>()]>;
    let map = MapData::from_pin(maps(node).join("ZONE"))?;
    let mut zone: aya::maps::ArrayOfMaps<MapData, ZoneHeaders> =
        aya::maps::Map::ArrayOfMaps(map).try_into()?;
    let mut head = ZoneHeaders::create(1, 0)?;
    head.set(0, [0xff; size_of::<ZoneHeader>()], 0)?;
    Ok(zone.set(0, &head, 0)?)
}
