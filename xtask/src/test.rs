//! `cargo xtask test`: unit, kernel, net, store, kernels and survive, each under its heading; a part that cannot run has failed.
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::cargo::{built, cargo, command, root, run as run_command};
use crate::{kernels, setup};

/// Scenes that wait most of the time, for caches and leases to end, and so do not disturb each other.
const PATIENT: [&str; 4] = ["scenes_drain", "scenes_events", "scenes_lifecycle", "scenes_metrics"];

/// Of the table of survive.
const ROWS: std::ops::RangeInclusive<u8> = 1..=16;

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Everything that runs without privileges, the packet table on host code among it
    Unit,
    /// The packet table and the laws of the program in the kernel
    Kernel,
    /// The scenes in network namespaces, and the law that takes another name server
    Net,
    /// The scenes of servers that share a store, in network namespaces
    Store,
    /// The program, the daemon and its interfaces on other kernels, in machines of QEMU's
    Kernels,
    /// A steady load while things go wrong: the table of what the program survives
    Survive,
}

/// What a part takes besides its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// Of survive: as its table says, with optimisations.
    pub(crate) long: bool,
    /// Of survive: rows of its table; of kernels: versions. None: all.
    pub(crate) which: Vec<String>,
}

impl Options {
    /// # Errors
    /// When they are not for this part.
    fn check(&self, part: Option<Part>) -> Result<()> {
        ensure!(!self.long || part == Some(Part::Survive), "--long is for `cargo xtask test survive`");
        match part {
            Some(Part::Kernels) => {}
            Some(Part::Survive) => {
                let is_row = |row: &&String| row.parse().is_ok_and(|row: u8| ROWS.contains(&row));
                if let Some(other) = self.which.iter().find(|row| !is_row(row)) {
                    bail!(
                        "the table of survive has no row {other}: they are {} to {}",
                        ROWS.start(),
                        ROWS.end()
                    );
                }
            }
            _ => ensure!(
                self.which.is_empty(),
                "rows are for `cargo xtask test survive`, versions for `cargo xtask test kernels`"
            ),
        }
        Ok(())
    }

    fn survive(&self) -> impl Iterator<Item = String> {
        self.long.then(|| "--long".to_owned()).into_iter().chain(self.which.clone())
    }
}

impl Part {
    fn setup(self) -> Result<()> {
        match self {
            Part::Unit => setup::toolchain(),
            Part::Kernel => setup::kernel(),
            Part::Net | Part::Store | Part::Survive => setup::network(),
            Part::Kernels => setup::emulation(),
        }
    }

    /// Runs it. The whole workspace each time, so that every part uses the same build.
    fn run(self, options: &Options, alone: bool) -> Result<()> {
        match self {
            Part::Unit => cargo(&["test", "--workspace", "--no-fail-fast"]),
            Part::Kernel => ignored(&["packets", "law_kernel_*"].map(str::to_owned), 2),
            Part::Net => {
                let (patient, hurried): (Vec<String>, Vec<String>) =
                    scenes()?.into_iter().partition(|scene| PATIENT.contains(&&**scene));
                // The others are run whatever becomes of these.
                let first = ignored(&[hurried, vec!["law_fallback_*".to_owned()]].concat(), 1);
                ignored(&patient, 2).and(first)
            }
            Part::Store => ignored(&["store_*".to_owned()], 2),
            Part::Kernels if alone => {
                kernels::run(&options.which, kernels::Share::Everything, &kernels::binaries()?)
            }
            Part::Kernels => {
                let common = kernels::COMMON.map(str::to_owned);
                kernels::run(&common, kernels::Share::EachOnce, &kernels::binaries()?)
            }
            Part::Survive if options.long => run_command(built("survive")?.args(options.survive())),
            Part::Survive => {
                let run = ["run", "--quiet", "--package", "dns-xdp-tests", "--bin", "survive", "--"];
                run_command(command("cargo").args(run).args(options.survive()))
            }
        }
    }
}

/// Runs the tests that need root of these files, so many at once.
fn ignored(files: &[String], at_once: usize) -> Result<()> {
    let files = files.iter().flat_map(|file| ["--test", file]);
    let mut command = command("cargo");
    command.args(["test", "--workspace", "--no-fail-fast"]).args(files);
    run_command(command.args(["--", "--ignored", &format!("--test-threads={at_once}")]))
}

/// The files of scenes.
fn scenes() -> Result<Vec<String>> {
    let directory = root().join("tests/tests");
    let entries = fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut scenes: Vec<String> = names
        .filter_map(|name| name.strip_suffix(".rs").map(ToOwned::to_owned))
        .filter(|name| name.starts_with("scenes_"))
        .collect();
    scenes.sort();
    Ok(scenes)
}

/// Runs one part, or all of them.
///
/// # Errors
/// When a part fails; the others are run nevertheless.
pub(crate) fn run(part: Option<Part>, options: &Options) -> Result<()> {
    options.check(part)?;
    let parts = part.map_or_else(|| Part::value_variants().to_vec(), |part| vec![part]);
    for part in &parts {
        part.setup()?;
    }
    heading("build");
    match part {
        // Nothing else of the tests is put into the machines.
        Some(Part::Kernels) => {
            cargo(&["build", "--workspace", "--bin", "dns-xdp", "--bin", "guest", "--bin", "database"])?;
        }
        _ => cargo(&["build", "--workspace", "--bins", "--tests"])?,
    }
    let mut failed = Vec::new();
    let mut lines = Vec::new();
    for part in &parts {
        let name = format!("{part:?}").to_lowercase();
        heading(&name);
        let start = Instant::now();
        let result = part.run(options, parts.len() == 1);
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
