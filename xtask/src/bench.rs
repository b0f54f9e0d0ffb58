//! `cargo xtask bench`: sets up, builds with optimisations, and hands over to the measurement.
use anyhow::Result;
use clap::ValueEnum;

use crate::{cargo, setup};

/// What is measured.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum What {
    /// ns per answered query, by BPF_PROG_TEST_RUN
    Program,
}

/// Measures one thing.
///
/// # Errors
/// When the kernel does not run the program.
pub(crate) fn run(what: What) -> Result<()> {
    setup::kernel()?;
    cargo::run(&mut match what {
        What::Program => cargo::built("bench-program")?,
    })
}
