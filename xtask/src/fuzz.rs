//! `cargo xtask fuzz`: sets up, and runs libFuzzer over untrusted input, beginning with the known inputs.
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::cargo::{cargo, command, root, run};
use crate::setup;

/// The directory of all files of the fuzzer except the sources. It is not below the fuzz crate, which lies within
/// dns-xdp-ebpf: every change there would rebuild the programs.
const DIRECTORY: &str = "target/fuzz";
/// The directory of inputs that have once broken a property, with a subdirectory for each target.
const REGRESSIONS: &str = "dns-xdp-ebpf/fuzz/regressions";
/// The longest time of an input in seconds. The slowest input takes 1 or 2 ms, more on an overloaded machine.
const TIMEOUT_SECONDS: u32 = 20;

/// The target of the fuzzer.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Target {
    /// Frames on the path of a query
    Frame,
    /// Messages to the responder
    Request,
    /// Updates of the zone, signed and not
    Update,
    /// The text of a configuration
    Configuration,
    /// Input on the control socket
    Control,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Frame => "frame",
            Target::Request => "request",
            Target::Update => "update",
            Target::Configuration => "configuration",
            Target::Control => "control",
        }
    }

    /// The longest input in octets: more than the target reads.
    fn longest(self) -> u32 {
        match self {
            Target::Frame | Target::Configuration => 4096,
            // The longest message over TCP, after the octet that selects its form.
            Target::Request | Target::Update => 65_536,
            Target::Control => 20_000,
        }
    }

    /// The module of the tests that replays the findings.
    fn replay(self) -> &'static str {
        match self {
            Target::Frame => "property_of_frames",
            Target::Request | Target::Update | Target::Configuration | Target::Control => "untrusted",
        }
    }
}

/// Fuzzes one target, or all one after another, each for this many seconds. It continues from the corpus of earlier
/// runs.
///
/// # Errors
/// An input breaks the property of its target.
pub(crate) fn run_for(target: Option<Target>, seconds: u32) -> Result<()> {
    setup::fuzzing()?;
    let [seeds, build] = ["seeds", "build"].map(directory);
    cargo(&["run", "--quiet", "--package", "dns-xdp-tests", "--bin", "fuzz-seeds", "--", &seeds])?;
    println!("fuzz: building with instrumentation, which takes minutes the first time");
    let targets = target.map_or_else(|| Target::value_variants().to_vec(), |target| vec![target]);
    for target in &targets {
        run(cargo_fuzz("build", &build).arg(target.name()))?;
    }
    targets.into_iter().try_for_each(|target| fuzz(target, seconds, &seeds, &build))
}

fn fuzz(target: Target, seconds: u32, seeds: &str, build: &str) -> Result<()> {
    let name = target.name();
    let [corpus, artifacts] = ["corpus", "artifacts"].map(|kind| directory(&format!("{kind}/{name}")));
    let regressions = format!("{REGRESSIONS}/{name}");
    for directory in [&corpus, &artifacts, &format!("{}/{regressions}", root().display())] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {directory}"))?;
    }
    println!("fuzz: {name} for {seconds} s");
    let mut fuzz = cargo_fuzz("run", build);
    fuzz.args([name, &corpus, &format!("{seeds}/{name}"), &regressions, "--", "-print_final_stats=1"]);
    fuzz.arg(format!("-artifact_prefix={artifacts}/"));
    fuzz.arg(format!("-max_total_time={seconds}"));
    fuzz.arg(format!("-max_len={}", target.longest()));
    fuzz.arg(format!("-timeout={TIMEOUT_SECONDS}"));
    run(&mut fuzz).with_context(|| {
        format!(
            "an input broke the property, what is said above tells how: copy it from {artifacts} to {regressions}, under a \
             name that says what is wrong, and `cargo test --package dns-xdp-tests --test host {}` replays it",
            target.replay()
        )
    })
}

fn directory(name: &str) -> String {
    format!("{}/{DIRECTORY}/{name}", root().display())
}

fn cargo_fuzz(verb: &str, target: &str) -> Command {
    let mut fuzz = command("cargo");
    // The stable toolchain accepts the flags for sanitizer and coverage only with this variable.
    fuzz.env("RUSTC_BOOTSTRAP", "1");
    fuzz.args(["fuzz", verb, "--fuzz-dir", "dns-xdp-ebpf/fuzz", "--target-dir", target]);
    fuzz
}
