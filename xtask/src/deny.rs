//! `cargo xtask deny`: checks the linked crates by licence, source and feature, against `.cargo/deny.toml`.
use anyhow::{Context as _, Result};

use crate::cargo::cargo;
use crate::setup;

/// Checks all crates of the lock file.
///
/// # Errors
/// A linked crate is not permitted.
pub(crate) fn run() -> Result<()> {
    setup::denying()?;
    cargo(&["deny", "--log-level", "error", "check", "bans", "licenses", "sources"])
        .context("what is named above may not be linked: do without it, or give a reason in .cargo/deny.toml")
}
