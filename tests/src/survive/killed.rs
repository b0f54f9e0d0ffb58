//! The daemon is killed and started again: the program that it left continues to answer, and is adopted.
use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use super::inquiry::Inquiry;
use super::load::{Load, Pace, thousands};
use super::stage::on_cluster;
use super::{Length, Row};
use crate::bed::plan::Plan;

/// The time between the end of a daemon and the start of the next.
const ABSENCE: Duration = Duration::from_millis(100);
/// How long a ready daemon runs before it is killed.
const LIFE: Duration = Duration::from_millis(300);

/// Plays the row.
///
/// # Errors
/// The row cannot be played.
pub fn run(length: Length) -> Result<Row> {
    let rounds = length.pick(3, 20);
    let (tally, in_kernel) = on_cluster(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        let inquiries = Inquiry::of_node(&cluster.client, &node.name, node.addresses)?;
        let before = node.stats()?.answered_in_kernel();
        let load = Load::start(&cluster.client, inquiries, Pace::of(30_000))?;
        for _ in 0..rounds {
            sleep(LIFE);
            node.stop(Signal::SIGKILL)?;
            sleep(ABSENCE);
            node.start()?;
        }
        sleep(LIFE);
        let tally = load.finish()?;
        Ok((tally, node.stats()?.answered_in_kernel() - before))
    })?;
    let result =
        format!("{rounds} rounds: {}; {} answered in the kernel", tally.text(), thousands(in_kernel));
    let reached = tally.is_clean() && in_kernel == tally.sent && in_kernel >= length.pick(50_000, 100_000);
    Ok(Row::new(1, result, reached))
}
