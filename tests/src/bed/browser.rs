//! Chromium without a window, in the namespace of a node.
use std::process::Command;

use anyhow::{Result, ensure};

use crate::bed::node::Node;

/// Opens a page and returns the standard output; `arguments` are Chromium's: `--dump-dom`, or `--screenshot=FILE`.
///
/// # Errors
/// Chromium is missing, fails, or takes longer than a minute.
pub fn browse(node: &Node, url: &str, arguments: &[&str]) -> Result<String> {
    let profile = node.config.with_extension("browser");
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", "60", "chromium", "--headless", "--no-sandbox", "--disable-gpu"])
        .args(["--no-first-run", "--hide-scrollbars", &format!("--user-data-dir={}", profile.display())])
        .args(arguments)
        .arg(url)
        .env("HOME", &profile);
    let output = node.namespace.output(&mut command)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "chromium does not run (Debian: apt-get install chromium): {}",
        stderr.trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
