//! `cargo xtask pictures`: draws the pictures of the README again.
use std::fs;

use anyhow::{Context, Result};

use crate::cargo::{self, root};
use crate::setup;

/// The directory of the pictures.
const PICTURES: &str = "dns-xdp/doc/pictures";
/// The plot that `cargo xtask bench compare` draws.
const PLOT: &str = "target/bench/compare.svg";

/// Sets up, builds, and takes pictures of a cluster. Copies the plot of the last comparison.
///
/// # Errors
/// A program is missing, or a file cannot be written.
pub(crate) fn run() -> Result<()> {
    setup::pictures()?;
    let directory = root().join(PICTURES);
    cargo::run(cargo::built_quickly("pictures")?.arg(&directory))?;
    let plot = root().join(PLOT);
    if plot.exists() {
        fs::copy(&plot, directory.join("compare.svg")).with_context(|| format!("cannot copy {PLOT}"))?;
    } else {
        println!("the plot stays as it is: `cargo xtask bench compare` draws {PLOT}");
    }
    Ok(())
}
