//! `cargo xtask demo`: a fresh machine to a cluster that fails over, in one command.
use anyhow::Result;

use crate::{cargo, setup};

/// Sets up, builds, and shows the main job.
///
/// # Errors
/// When a step fails.
pub(crate) fn run() -> Result<()> {
    setup::network()?;
    cargo::run(&mut cargo::built("demo")?)
}
