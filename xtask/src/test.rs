//! `cargo xtask test`: unit, kernel, net, store, simulation, kernels and survive, each under its heading.
//!
//! The last line is `N passed, N failed`, over everything that ran. A part that cannot run counts as one failure.
use std::io::{self, IsTerminal as _, stdout};
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow, bail, ensure};
use clap::ValueEnum;

use crate::cargo::{BUILD_FOR_TESTS, built, cargo, command, program, run_reading};
use crate::count::Counts;
use crate::{kernels, setup};

/// Modules of scenes that change the machine itself, and so run one at a time, without others beside them.
const ALONE: [&str; 1] = ["scenes_install::"];

/// The module of the simulation. It takes all cores for minutes and needs no clock.
const SIMULATION: &str = "controller::simulation";
const SIMULATION_TEST: [&str; 5] = ["test", "--workspace", "--lib", SIMULATION, "--"];

/// The number of scenes at once. They mostly wait: 2 leave half of two cores idle.
const SCENES: usize = 3;
/// The number of scenes with a store at once. Each has 3 members of a store with short leases, which need their time.
const STORE_SCENES: usize = 2;

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
    /// Thousands of simulated histories, a part of unit
    Simulation,
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
            Part::Unit | Part::Simulation => setup::toolchain(),
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
                command.args(["test", "--workspace", "--no-fail-fast", "--", colour()]);
                if !alone {
                    command.args(["--skip", SIMULATION]);
                }
                Ran::tests(&mut command)
            }
            Part::Kernel => ignored("kernel", 2, &[]),
            Part::Net => {
                let others: Vec<&str> = ALONE.iter().flat_map(|scenes| ["--skip", scenes]).collect();
                ignored("net", SCENES, &others).and(ignored("net", 1, &ALONE))
            }
            Part::Store => ignored("store", STORE_SCENES, &[]),
            Part::Simulation => Ran::tests(command("cargo").args(SIMULATION_TEST).arg(colour())),
            Part::Kernels if alone => kernels(&options.which, kernels::Share::Everything),
            Part::Kernels => kernels(&kernels::COMMON.map(str::to_owned), kernels::Share::EachOnce),
            Part::Survive => {
                let survive = if options.long { built("survive") } else { program("debug", "survive") };
                match survive {
                    Ok(mut survive) => Ran::tests(survive.args(options.survive())),
                    Err(error) => Ran::not_run(error),
                }
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

    /// Shows the output of a command that has printed the results of tests, and counts them.
    fn of_output(output: io::Result<Output>) -> Ran {
        let output = match output {
            Ok(output) => output,
            Err(error) => return Ran::not_run(Error::new(error).context("cannot start the simulation")),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        print!("{}{text}", String::from_utf8_lossy(&output.stderr));
        let mut counts = Counts::default();
        text.lines().for_each(|line| counts += Counts::of_line(line).unwrap_or_default());
        Ran { counts: counts.of_run(output.status.success()), error: None }
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
        _ => cargo(&BUILD_FOR_TESTS),
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
    let mut summary = Summary::default();
    let mut beside = None;
    for (part, ready) in ready {
        if part == Part::Kernel && !alone && built.is_ok() {
            beside = Some(thread::spawn(simulate));
        }
        let name = format!("{part:?}").to_lowercase();
        heading(&name);
        let start = Instant::now();
        let ran = match (ready, &built) {
            (Err(error), _) => Ran::not_run(error),
            (Ok(()), Err(error)) => Ran::not_run(anyhow!("{error:#}")),
            (Ok(()), Ok(()))
                if part == Part::Simulation
                    && let Some(simulation) = beside.take() =>
            {
                Ran::of_output(simulation.join().expect("no panic is possible there"))
            }
            (Ok(()), Ok(())) => part.run(options, alone),
        };
        summary.add(&name, ran, start.elapsed());
    }
    Ok(summary.close())
}

/// Runs the simulation at idle priority beside the scenes, which mostly wait.
fn simulate() -> io::Result<Output> {
    command("chrt").args(["--idle", "0", "cargo"]).args(SIMULATION_TEST).arg(colour()).output()
}

/// The results of all parts.
#[derive(Default)]
struct Summary {
    lines: Vec<String>,
    failed: Vec<String>,
    total: Counts,
}

impl Summary {
    fn add(&mut self, name: &str, ran: Ran, took: Duration) {
        if let Some(error) = ran.error {
            println!("error: {error:#}");
        }
        let verdict = if ran.counts.failed == 0 { "passed" } else { "FAILED" };
        self.lines.push(format!("{name:<11}{verdict}  {}  {}", seconds(took), ran.counts));
        self.total += ran.counts;
        self.failed.extend((ran.counts.failed > 0).then(|| name.to_owned()));
    }

    /// Prints the results. Returns whether everything passed.
    fn close(self) -> bool {
        let Summary { lines, failed, total } = self;
        heading("summary");
        println!("{}", lines.join("\n"));
        if let [first, ..] = &failed[..] {
            println!("failed: {}; run one part alone with `cargo xtask test {first}`", failed.join(", "));
        }
        println!("{total}");
        failed.is_empty()
    }
}

fn heading(title: &str) {
    println!("\n=== {title} {}", "=".repeat(70_usize.saturating_sub(title.len())));
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
