//! `cargo xtask test`: unit, kernel, net, store, kernels and survive, each under its heading.
//!
//! The last line is `N passed, N failed`, over everything that ran. A part that cannot run counts as one failure.
use std::io::{IsTerminal as _, stdout};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow, bail, ensure};
use clap::ValueEnum;

use crate::cargo::{built, cargo, command, run_reading};
use crate::count::Counts;
use crate::{kernels, setup};

/// Modules of scenes that change the machine itself, and so run one at a time, without others beside them.
const ALONE: [&str; 1] = ["scenes_install::"];

/// The number of rows in the table of survive.
const ROWS: std::ops::RangeInclusive<u8> = 1..=18;

/// A part of the tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// All tests without privileges, including the packet table on host code
    Unit,
    /// The packet table and the properties of the program in the kernel
    Kernel,
    /// The scenes in network namespaces, and the comparison with another name server
    Net,
    /// The scenes of servers that share a store, in network namespaces
    Store,
    /// The program, the daemon and its interfaces on other kernels, in QEMU machines
    Kernels,
    /// A steady load during faults: the survival table
    Survive,
}

/// The options of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// For survive: the table's own times, with optimisations.
    pub(crate) long: bool,
    /// For survive: rows of its table; for kernels: versions. Empty: all.
    pub(crate) which: Vec<String>,
}

impl Options {
    /// # Errors
    /// An option is not for this part.
    fn check(&self, part: Option<Part>) -> Result<()> {
        ensure!(!self.long || part == Some(Part::Survive), "--long is for `cargo xtask test survive`");
        match part {
            Some(Part::Kernels) => {
                for version in &self.which {
                    kernels::check_version(version)?;
                }
            }
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

    /// Runs the part. It builds the whole workspace each time, so that every part uses the same build.
    fn run(self, options: &Options, alone: bool) -> Ran {
        match self {
            Part::Unit => {
                let mut command = command("cargo");
                Ran::tests(command.args(["test", "--workspace", "--no-fail-fast", "--", colour()]))
            }
            Part::Kernel => ignored("kernel", 2, &[]),
            Part::Net => {
                let others: Vec<&str> = ALONE.iter().flat_map(|scenes| ["--skip", scenes]).collect();
                ignored("net", 2, &others).and(ignored("net", 1, &ALONE))
            }
            Part::Store => ignored("store", 2, &[]),
            Part::Kernels if alone => kernels(&options.which, kernels::Share::Everything),
            Part::Kernels => kernels(&kernels::COMMON.map(str::to_owned), kernels::Share::EachOnce),
            Part::Survive if options.long => match built("survive") {
                Ok(mut survive) => Ran::tests(survive.args(options.survive())),
                Err(error) => Ran::not_run(error),
            },
            Part::Survive => {
                let run = ["run", "--quiet", "--package", "dns-xdp-tests", "--bin", "survive", "--"];
                Ran::tests(command("cargo").args(run).args(options.survive()))
            }
        }
    }
}

/// The result of a part.
struct Ran {
    counts: Counts,
    /// Why it failed, if something besides its tests failed.
    error: Option<Error>,
}

impl Ran {
    /// Runs a command that prints the results of tests.
    fn tests(command: &mut Command) -> Ran {
        let mut counts = Counts::default();
        let result = run_reading(command, |line| counts += Counts::of_line(line).unwrap_or_default());
        if result.is_ok() && counts == Counts::default() {
            // A filter that matches no test proves nothing.
            return Ran::not_run(anyhow!("no test was run"));
        }
        Ran { counts: counts.of_run(result.is_ok()), error: result.err() }
    }

    fn not_run(error: Error) -> Ran {
        Ran { counts: Counts::NOT_RUN, error: Some(error) }
    }

    /// Adds the result of another run of the same part.
    fn and(mut self, other: Ran) -> Ran {
        self.counts += other.counts;
        Ran { counts: self.counts, error: self.error.or(other.error) }
    }
}

/// Runs the tests of one binary that need root, this many at once; `filters` are libtest's.
fn ignored(binary: &str, at_once: usize, filters: &[&str]) -> Ran {
    let mut command = command("cargo");
    command.args(["test", "--workspace", "--no-fail-fast", "--test", binary, "--", colour(), "--ignored"]);
    Ran::tests(command.arg(format!("--test-threads={at_once}")).args(filters))
}

/// The colour option for libtest, whose own stdout is a pipe here.
fn colour() -> &'static str {
    if stdout().is_terminal() { "--color=always" } else { "--color=never" }
}

fn kernels(versions: &[String], share: kernels::Share) -> Ran {
    match kernels::binaries().and_then(|binaries| kernels::run(versions, share, &binaries)) {
        Ok(counts) => Ran { counts, error: None },
        Err(error) => Ran::not_run(error),
    }
}

fn build(part: Option<Part>) -> Result<()> {
    match part {
        // The machines get no other program of the tests.
        Some(Part::Kernels) => {
            cargo(&["build", "--workspace", "--bin", "dns-xdp", "--bin", "guest", "--bin", "database"])
        }
        _ => cargo(&["build", "--workspace", "--bins", "--tests"]),
    }
}

/// Runs one part, or all of them, and prints the counts last. Returns whether everything passed.
///
/// # Errors
/// An option is not for this part. Every other error counts as a failed test.
pub(crate) fn run(part: Option<Part>, options: &Options) -> Result<bool> {
    options.check(part)?;
    let parts = part.map_or_else(|| Part::value_variants().to_vec(), |part| vec![part]);
    let alone = parts.len() == 1;
    let ready: Vec<(Part, Result<()>)> = parts.into_iter().map(|part| (part, part.setup())).collect();
    heading("build");
    let built = build(part);
    let mut total = Counts::default();
    let (mut lines, mut failed) = (Vec::new(), Vec::new());
    for (part, ready) in ready {
        let name = format!("{part:?}").to_lowercase();
        heading(&name);
        let start = Instant::now();
        let ran = match (ready, &built) {
            (Err(error), _) => Ran::not_run(error),
            (Ok(()), Err(error)) => Ran::not_run(anyhow!("{error:#}")),
            (Ok(()), Ok(())) => part.run(options, alone),
        };
        if let Some(error) = ran.error {
            println!("error: {error:#}");
        }
        let verdict = if ran.counts.failed == 0 { "passed" } else { "FAILED" };
        lines.push(format!("{name:<8}{verdict}  {}  {}", seconds(start.elapsed()), ran.counts));
        total += ran.counts;
        failed.extend((ran.counts.failed > 0).then_some(name));
    }
    heading("summary");
    println!("{}", lines.join("\n"));
    if let [first, ..] = &failed[..] {
        println!("failed: {}; run one part alone with `cargo xtask test {first}`", failed.join(", "));
    }
    println!("{total}");
    Ok(failed.is_empty())
}

fn heading(title: &str) {
    println!("\n=== {title} {}", "=".repeat(70_usize.saturating_sub(title.len())));
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
