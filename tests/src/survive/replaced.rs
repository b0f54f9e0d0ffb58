//! Planned changes of the daemon: restarted, replaced, and replaced by one with another map layout.
//!
//! There is one binary here. The maps get another layout in two ways. Another `[xdp] capacity` gives maps of another
//! name and size. Renaming the pinned maps plays another version. In either case the next daemon finds no maps of its
//! own kind, fills new ones, and swaps the program.
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::conversation::{Conversation, Exchanges};
use super::inquiry::Inquiry;
use super::load::{Load, Pace, Tally, thousands};
use super::stage::on_cluster;
use super::{Length, Row};
use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::plan::{Plan, ZONE};

/// The type of an SOA record, which the responder answers.
const SOA: u16 = 6;
/// How long a ready daemon runs before it is replaced.
const LIFE: Duration = Duration::from_millis(200);

const CAPACITIES: [&str; 2] = ["capacity = 4096", "capacity = 1024"];

/// How the daemon changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// SIGTERM, `run`.
    Restart,
    /// `run --replace`.
    Replace,
    /// `run --replace` with another capacity.
    OtherCapacity,
    /// SIGTERM, the maps renamed, `run`.
    OtherVersion,
}

const WAYS: [Way; 4] = [Way::Restart, Way::Replace, Way::OtherCapacity, Way::OtherVersion];

/// Plays the row.
///
/// # Errors
/// The row cannot be played.
pub fn run(length: Length) -> Result<Row> {
    let rounds = length.pick(1, 20);
    let plan = Plan::quick(1).line("xdp", CAPACITIES[0]);
    let (kernel, responder, exchanges) = on_cluster(&plan, |cluster| {
        let inquiries =
            Inquiry::of_node(&cluster.client, &cluster.nodes[0].name, cluster.nodes[0].addresses)?;
        let (mut kernel, mut responder) = (Tally::default(), Tally::default());
        let mut exchanges = Exchanges::default();
        for round in 0..rounds {
            for way in WAYS {
                let conversation = Conversation::start(&cluster.client, cluster.nodes[0].ipv4())?;
                let load = Load::start(&cluster.client, inquiries.clone(), Pace::of(20_000))?;
                sleep(LIFE);
                let asked = change(cluster, way, round).with_context(|| format!("{way:?}"))?;
                sleep(LIFE);
                let tally = load.finish()?;
                let talked = conversation.finish()?;
                if !tally.is_clean() || asked.lost > 0 || talked.broken + talked.reset > 0 {
                    eprintln!("{way:?}: {}; responder: {}; {talked:?}", tally.text(), asked.text());
                }
                // After SIGTERM no server listens: a connection that is reset came too late.
                let (broken, refused) = match way {
                    Way::Restart | Way::OtherVersion => (0, talked.reset),
                    Way::Replace | Way::OtherCapacity => (talked.reset, 0),
                };
                exchanges = exchanges.and(Exchanges {
                    broken: talked.broken + broken,
                    refused: talked.refused + refused,
                    ..talked
                });
                kernel = kernel.and(tally);
                responder = responder.and(asked);
            }
        }
        Ok((kernel, responder, exchanges))
    })?;
    let Exchanges { finished, broken, refused, example, .. } = &exchanges;
    let mut result = format!(
        "{rounds} × {} changes: {}; of queries to the responder while it is replaced {}; TCP: {broken} of {} open \
         exchanges broken, {} connections refused or reset while no daemon ran",
        WAYS.len(),
        kernel.text(),
        responder.text(),
        thousands(finished + broken),
        thousands(*refused),
    );
    result.extend(example.iter().map(|example| format!(" ({example})")));
    Ok(Row::new(2, result, kernel.is_clean() && responder.is_clean() && *broken == 0))
}

/// The results of queries for the responder meanwhile. Between SIGTERM and `run` there is no responder.
fn change(cluster: &mut Cluster, way: Way, round: usize) -> Result<Tally> {
    match way {
        Way::Restart | Way::OtherVersion => {
            let node = &mut cluster.nodes[0];
            node.stop(Signal::SIGTERM)?;
            if way == Way::OtherVersion {
                rename_maps(node)?;
            }
            node.start()?;
            Ok(Tally::default())
        }
        Way::Replace | Way::OtherCapacity => {
            if way == Way::OtherCapacity {
                let [from, to] = [round, round + 1].map(|nth| CAPACITIES[nth % 2]);
                cluster.nodes[0].edit_config(from, to)?;
            }
            let node = &cluster.nodes[0];
            let soa = Inquiry::as_now(&cluster.client, node.ipv4(), &format!("{ZONE}."), SOA)?;
            let load = Load::start(&cluster.client, vec![soa], Pace::of(300))?;
            cluster.nodes[0].replace()?;
            sleep(LIFE);
            load.finish()
        }
    }
}

/// The pinned maps get the name that a later version of their layout has.
fn rename_maps(node: &Node) -> Result<()> {
    for entry in fs::read_dir(&node.pins)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(rest) = name.strip_prefix("maps-v") {
            let other = path.with_file_name(format!("maps-v9{rest}"));
            fs::rename(&path, &other).with_context(|| format!("cannot rename {}", path.display()))?;
        }
    }
    Ok(())
}
