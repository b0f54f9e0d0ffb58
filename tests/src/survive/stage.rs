//! The cluster that a row is played on.
use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;

use crate::bed::cluster::Cluster;
use crate::bed::plan::Plan;
use crate::bed::run::Run;

/// The address of a flood, behind a link of its own. On the clients' link it would hold up their queries and answers.
pub const FLOODER: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200))];

/// Builds and starts the cluster of `plan` and plays on it. It is always removed. After a failure the ends of its logs
/// are shown.
///
/// # Errors
/// The cluster does not come up, or `play` fails.
pub fn on_cluster<T>(plan: &Plan, play: impl FnOnce(&mut Cluster) -> Result<T>) -> Result<T> {
    on_laid(plan, |cluster| {
        cluster.start()?;
        play(cluster)
    })
}

/// Like [`on_cluster`], without starting a daemon.
///
/// # Errors
/// The same as for [`on_cluster`].
pub fn on_laid<T>(plan: &Plan, play: impl FnOnce(&mut Cluster) -> Result<T>) -> Result<T> {
    let mut cluster = Cluster::lay(Run::unique()?, plan)?;
    play(&mut cluster).inspect_err(|_| eprint!("{}", cluster.logs()))
}
