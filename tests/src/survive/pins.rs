//! Row 15: pins that are foreign, corrupt or of another layout, found by a daemon that starts.
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use aya::Ebpf;
use aya::maps::{Array, HashMap, MapData};
use aya::programs::Xdp;
use dns_xdp::datapath::TESTBED;
use dns_xdp_ebpf::table::{Entry, Head, LAYOUT, More};
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

use super::stage::on_laid;
use super::{Length, Row};
use crate::cluster::Cluster;
use crate::node::Node;
use crate::plan::{Plan, ZONE};

/// `[xdp] capacity` of the row's plan, and the slots in a half of the table that follow from it.
const CAPACITY: &str = "capacity = 16";
const HALF: u32 = 20;

/// What a daemon finds.
struct Find {
    what: &'static str,
    /// A predecessor was killed, whose program answers; otherwise nothing is there but what is planted.
    after_a_kill: bool,
    plant: fn(&Node) -> Result<()>,
}

const FINDS: [Find; 19] = [
    Find { what: "a file of nobody's", after_a_kill: false, plant: |node| map(&node.pins.join("stray")) },
    Find { what: "a map as the link", after_a_kill: false, plant: |node| map(&link(node)) },
    Find {
        what: "a table of another size",
        after_a_kill: true,
        plant: |node| replace(node, "NAMES", array::<{ size_of::<Entry>() }>),
    },
    Find {
        what: "a map as the link of a program that answers",
        after_a_kill: true,
        plant: |node| {
            fs::remove_file(link(node))?;
            map(&link(node))
        },
    },
    Find { what: "a lease that is no array", after_a_kill: true, plant: |node| replace(node, "LEASE", hash) },
    Find { what: "a head of garbage", after_a_kill: true, plant: garbage_head },
    Find {
        what: "another layout's maps",
        after_a_kill: true,
        plant: |node| {
            let maps = node.pins.join(format!("maps-v{}-{HALF}", LAYOUT + 1));
            fs::create_dir(&maps)?;
            map(&maps.join("ZONE"))
        },
    },
    Find { what: "no zone", after_a_kill: true, plant: |node| Ok(fs::remove_file(maps(node).join("ZONE"))?) },
    Find { what: "a program as the link", after_a_kill: false, plant: |node| program(&link(node)) },
    Find {
        what: "a directory as the link",
        after_a_kill: false,
        plant: |node| Ok(fs::create_dir_all(link(node))?),
    },
    Find {
        what: "a link that leads nowhere",
        after_a_kill: false,
        plant: |node| Ok(symlink("/nonexistent", link(node))?),
    },
    Find {
        what: "a map as the program",
        after_a_kill: true,
        plant: |node| {
            fs::remove_file(node.pins.join("program"))?;
            map(&node.pins.join("program"))
        },
    },
    Find { what: "no link", after_a_kill: true, plant: |node| Ok(fs::remove_file(link(node))?) },
    Find { what: "empty maps", after_a_kill: false, plant: |node| Ok(fs::create_dir_all(maps(node))?) },
    Find { what: "a map as the maps", after_a_kill: false, plant: |node| map(&maps(node)) },
    Find { what: "no maps", after_a_kill: true, plant: |node| Ok(fs::remove_dir_all(maps(node))?) },
    Find {
        what: "names of garbage",
        after_a_kill: true,
        plant: |node| {
            fill::<{ size_of::<Entry>() }>(node, "NAMES")?;
            fill::<{ size_of::<More>() }>(node, "MORE")
        },
    },
    Find {
        what: "a zone that is a table",
        after_a_kill: true,
        plant: |node| replace(node, "ZONE", array::<{ size_of::<Head>() }>),
    },
    Find {
        what: "counters that are no counters",
        after_a_kill: true,
        plant: |node| replace(node, "COUNTERS", hash),
    },
];

/// Plays the row.
///
/// # Errors
/// When a daemon crashes over what it finds, answers wrong, or leaves something behind.
pub fn run(length: Length) -> Result<Row> {
    let plan = Plan::quick(1)
        .line("xdp", "mode = \"native\"")
        .line("xdp", CAPACITY)
        .line("xdp", "stale-after = \"300s\"")
        .line("xdp", "stop-grace = \"300s\"");
    on_laid(&plan, |cluster| {
        cluster.nodes[0].start_database()?;
        let (mut refused, mut rebuilt) = (0, 0);
        for find in &FINDS[..length.pick(6, FINDS.len())] {
            let started = find.play(cluster).with_context(|| find.what)?;
            *(if started { &mut rebuilt } else { &mut refused }) += 1;
        }
        let result =
            format!("{} finds: {rebuilt} rebuilt, {refused} refused by name, 0 crashes", rebuilt + refused);
        Ok(Row::new(15, result, true))
    })
}

impl Find {
    /// Whether a daemon starts over it; otherwise it has refused, and says over what.
    fn play(&self, cluster: &mut Cluster) -> Result<bool> {
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
        let started = match started {
            Ok(()) => true,
            Err(error) if format!("{error:#}").contains("exit status: 1)") => {
                let named = log.contains(&node.pins.display().to_string()) || log.contains("eth0");
                ensure!(named, "the message does not say where: {log}");
                false
            }
            Err(error) => bail!("{error:#}: {log}"),
        };
        if started {
            answers(cluster)?;
            cluster.nodes[0].stop(Signal::SIGKILL)?;
        }
        let node = &cluster.nodes[0];
        node.cli_ok(&["unload", "--config", &node.config.display().to_string()])?;
        let remains = node.remains()?;
        ensure!(remains.is_empty(), "left behind: {remains:?}");
        Ok(started)
    }
}

/// The program answers, and answers what is right.
fn answers(cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes[0];
    let before = node.stats()?.answered_by_xdp();
    let asker = cluster.asker()?;
    let addresses = asker.addresses(node.ipv4(), &format!("node1.{ZONE}."), RecordType::A)?;
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

/// An array of what ours has, and of another number.
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

/// Every octet of every element is set.
fn fill<const LENGTH: usize>(node: &Node, name: &str) -> Result<()> {
    let map = MapData::from_pin(maps(node).join(name))?;
    let mut array: Array<MapData, [u8; LENGTH]> = aya::maps::Map::Array(map).try_into()?;
    (0..array.len()).try_for_each(|index| Ok(array.set(index, [0xff; LENGTH], 0)?))
}

fn garbage_head(node: &Node) -> Result<()> {
    type Heads = Array<MapData, [u8; size_of::<Head>()]>;
    let map = MapData::from_pin(maps(node).join("ZONE"))?;
    let mut zone: aya::maps::ArrayOfMaps<MapData, Heads> = aya::maps::Map::ArrayOfMaps(map).try_into()?;
    let mut head = Heads::create(1, 0)?;
    head.set(0, [0xff; size_of::<Head>()], 0)?;
    Ok(zone.set(0, &head, 0)?)
}
