//! `cargo xtask fuzz`: sets up, and lets libFuzzer loose on the path of a query, from the packet table on.
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::cargo::{cargo, command, root, run};
use crate::setup;

/// Everything of it that is not source. Not below the fuzz crate: it lies within dns-xdp-ebpf, and whatever changes
/// there has the programs built anew.
const DIRECTORY: &str = "target/fuzz";
/// Frames that have once broken the law.
const REGRESSIONS: &str = "dns-xdp-ebpf/fuzz/regressions";
/// Octets of an input: more than the path looks at, padding and all.
const FRAME_MAX: u32 = 4096;
/// The slowest frame takes a millisecond or two.
const TIMEOUT_SECONDS: u32 = 10;

/// Fuzzes for so many seconds; what was learnt before is where it goes on.
///
/// # Errors
/// When a frame breaks the law.
pub(crate) fn run_for(seconds: u32) -> Result<()> {
    setup::fuzzing()?;
    let [seeds, corpus, artifacts, target] = ["seeds", "corpus", "artifacts", "build"]
        .map(|directory| format!("{}/{DIRECTORY}/{directory}", root().display()));
    for directory in [&corpus, &artifacts] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {directory}"))?;
    }
    cargo(&["run", "--quiet", "--package", "dns-xdp-tests", "--bin", "fuzz-seeds", "--", &seeds])?;
    println!("fuzz: building with instrumentation, which takes minutes the first time");
    run(cargo_fuzz("build", &target).arg("frame"))?;
    let mut fuzz = cargo_fuzz("run", &target);
    fuzz.args(["frame", &corpus, &seeds, REGRESSIONS, "--", "-print_final_stats=1"]);
    fuzz.arg(format!("-artifact_prefix={artifacts}/"));
    fuzz.arg(format!("-max_total_time={seconds}"));
    fuzz.arg(format!("-max_len={FRAME_MAX}"));
    fuzz.arg(format!("-timeout={TIMEOUT_SECONDS}"));
    run(&mut fuzz).with_context(|| {
        format!(
            "a frame broke the law, what is said above tells how: copy it from {artifacts} to {REGRESSIONS}, under a \
             name that says what is wrong, and `cargo test --package dns-xdp-tests --test law_of_frames` replays it"
        )
    })
}

fn cargo_fuzz(verb: &str, target: &str) -> Command {
    let mut fuzz = command("cargo");
    // Sanitizer and coverage are flags that the stable toolchain has only when told so.
    fuzz.env("RUSTC_BOOTSTRAP", "1");
    fuzz.args(["fuzz", verb, "--fuzz-dir", "dns-xdp-ebpf/fuzz", "--target-dir", target]);
    fuzz
}
