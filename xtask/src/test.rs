//! `cargo xtask test`: unit, kernel and net, each under its heading; a part that cannot run has failed.
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::ValueEnum;

use crate::cargo::cargo;
use crate::setup;

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Everything that runs without privileges, the packet table on host code among it
    Unit,
    /// The packet table and the laws of the program in the kernel
    Kernel,
    /// The scenes in network namespaces, and the law that takes another name server
    Net,
}

impl Part {
    fn setup(self) -> Result<()> {
        match self {
            Part::Unit => setup::toolchain(),
            Part::Kernel => setup::kernel(),
            Part::Net => setup::network(),
        }
    }

    /// The whole workspace each time, so that every part uses the same build.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Part::Unit => &["test", "--workspace", "--no-fail-fast"],
            Part::Kernel => {
                &["test", "--workspace", "--test", "packets", "--test", "law_kernel_*", "--", "--ignored"]
            }
            Part::Net => &[
                "test",
                "--workspace",
                "--no-fail-fast",
                "--test",
                "scenes_*",
                "--test",
                "law_fallback_*",
                "--",
                "--ignored",
                "--test-threads=1",
            ],
        }
    }
}

/// Runs one part, or all of them.
///
/// # Errors
/// When a part fails; the others are run nevertheless.
pub(crate) fn run(part: Option<Part>) -> Result<()> {
    let parts = part.map_or_else(|| Part::value_variants().to_vec(), |part| vec![part]);
    for part in &parts {
        part.setup()?;
    }
    heading("build");
    cargo(&["build", "--workspace", "--bins", "--tests"])?;
    let mut failed = Vec::new();
    let mut lines = Vec::new();
    for part in parts {
        let name = format!("{part:?}").to_lowercase();
        heading(&name);
        let start = Instant::now();
        let result = cargo(part.arguments());
        let verdict = if result.is_ok() { "passed" } else { "FAILED" };
        lines.push(format!("{name:<8}{verdict}  {}", seconds(start.elapsed())));
        failed.extend(result.is_err().then_some(name));
    }
    heading("summary");
    println!("{}", lines.join("\n"));
    if !failed.is_empty() {
        bail!("failed: {}; run one part alone with `cargo xtask test {}`", failed.join(", "), failed[0]);
    }
    println!("all passed");
    Ok(())
}

fn heading(title: &str) {
    println!("\n=== {title} {}", "=".repeat(70_usize.saturating_sub(title.len())));
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
