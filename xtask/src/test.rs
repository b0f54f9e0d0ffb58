//! `cargo xtask test`: unit, kernel, net and survive, each under its heading; a part that cannot run has failed.
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::ValueEnum;

use crate::cargo::{built, cargo, command, run as run_command};
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
    /// A steady load while things go wrong: the table of what the program survives
    Survive,
}

/// How the last part is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Survive {
    /// As the table says, with optimisations.
    pub(crate) long: bool,
    /// Rows of the table; none: all.
    pub(crate) rows: Vec<u8>,
}

impl Survive {
    fn arguments(&self) -> Vec<String> {
        let long = self.long.then(|| "--long".to_owned());
        long.into_iter().chain(self.rows.iter().map(u8::to_string)).collect()
    }
}

impl Part {
    fn setup(self) -> Result<()> {
        match self {
            Part::Unit => setup::toolchain(),
            Part::Kernel => setup::kernel(),
            Part::Net | Part::Survive => setup::network(),
        }
    }

    /// Runs it. The whole workspace each time, so that every part uses the same build.
    fn run(self, survive: &Survive) -> Result<()> {
        let arguments: &[&str] = match self {
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
            Part::Survive if survive.long => {
                return run_command(built("survive")?.args(survive.arguments()));
            }
            Part::Survive => &["run", "--quiet", "--package", "dns-xdp-tests", "--bin", "survive", "--"],
        };
        let rows = if self == Part::Survive { survive.arguments() } else { Vec::new() };
        run_command(command("cargo").args(arguments).args(rows))
    }
}

/// Runs one part, or all of them.
///
/// # Errors
/// When a part fails; the others are run nevertheless.
pub(crate) fn run(part: Option<Part>, survive: &Survive) -> Result<()> {
    ensure!(
        part == Some(Part::Survive) || survive.arguments().is_empty(),
        "--long and rows are for `cargo xtask test survive`"
    );
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
        let result = part.run(survive);
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
