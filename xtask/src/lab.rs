//! `cargo xtask lab`: the demo's cluster, left running for experiments.
use anyhow::Result;
use clap::Subcommand;

use crate::{cargo, setup};

/// The command for the lab.
#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Start it
    Up,
    /// Stop it and remove everything
    Down,
    /// Open a shell in the network of one of its stations
    Enter {
        /// node1, node2, node3, client or parent
        #[arg(default_value = "client")]
        station: String,
    },
}

/// Sets up, builds, and starts the lab program.
///
/// # Errors
/// A step of the setup, the build or the lab program fails.
pub(crate) fn run(verb: &Verb) -> Result<()> {
    setup::lab()?;
    let mut lab = cargo::built_quickly("lab")?;
    cargo::run(match verb {
        Verb::Up => lab.arg("up"),
        Verb::Down => lab.arg("down"),
        Verb::Enter { station } => lab.args(["enter", station]),
    })
}
