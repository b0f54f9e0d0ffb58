//! `cargo xtask demo`: shows a cluster that fails over, on a fresh machine with one command.
use anyhow::Result;

use crate::{cargo, setup};

/// Sets up, builds, and shows the main job; `etcd`: servers that share one view.
///
/// # Errors
/// A step fails.
pub(crate) fn run(etcd: bool) -> Result<()> {
    setup::demo(etcd)?;
    cargo::run(&mut cargo::built_quickly(if etcd { "demo-etcd" } else { "demo" })?)
}
