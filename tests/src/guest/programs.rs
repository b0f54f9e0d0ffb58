//! The programs and the packet table on the running kernel: what its verifier processes, and what comes out.
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dns_xdp::datapath::{Error, Unattached};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::budget::VERIFIED_MAX;
use super::report::{self, Kind};
use crate::kernel;
use crate::table::zone::{CAPACITY, PORT, SERVER, SERVER_MAC};

/// A variant of the program, as the daemon would load it.
struct Variant {
    name: &'static str,
    /// Instructions that the verifier may process.
    verified_max: u32,
    load: fn() -> Result<Unattached, Error>,
}

/// Every variant.
const VARIANTS: [Variant; 1] = [Variant { name: "responder", verified_max: VERIFIED_MAX, load }];

fn load() -> Result<Unattached, Error> {
    Unattached::load(&SERVER, SERVER_MAC, PORT, CAPACITY)
}

/// Loads each variant, then runs the packet table.
pub fn check() {
    for variant in VARIANTS {
        report::check(Kind::Program, variant.name, |seen| {
            let start = Instant::now();
            let loaded = (variant.load)();
            let milliseconds = start.elapsed().as_millis();
            if loaded.is_err() {
                seen.value = "refused".into();
                seen.detail = format!("after {milliseconds} ms");
            }
            let verified = match loaded.context("the kernel refuses it")?.size()?.verified {
                // Kernels before 5.16 do not have it there.
                0 => verified_of_log(variant.load)?,
                verified => verified,
            };
            seen.value = verified.to_string();
            seen.detail = format!("loaded in {milliseconds} ms");
            let most = variant.verified_max;
            ensure!(verified <= most, "the verifier processed {verified} instructions, more than {most}");
            Ok(())
        });
    }
    report::check(Kind::Table, "packet table", |seen| {
        let run = kernel::run_table(load)?;
        seen.value = format!("{} of {}", run.rows - run.failures.len(), run.rows);
        ensure!(run.failures.is_empty(), "{}", run.failures.join("; "));
        Ok(())
    });
}

/// The count on the last line of the verifier's log, which aya returns of a refused program only. So each load is refused
/// in its last step: the kernel has verified the program by the time that it finds no file descriptor left for it. Each
/// round leaves one descriptor more, until the load succeeds; the largest program's count is the one that is wanted.
fn verified_of_log(load: fn() -> Result<Unattached, Error>) -> Result<u32> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let mut most = None;
    let mut result = Ok(());
    for descriptors in 3..soft {
        setrlimit(Resource::RLIMIT_NOFILE, descriptors, hard)?;
        match load() {
            Ok(_) => break,
            Err(error) => most = most.max(processed(&format!("{:#}", anyhow::Error::new(error)))),
        }
    }
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, soft, hard) {
        result = Err(error);
    }
    result.context("cannot restore the limit of file descriptors")?;
    most.context("the verifier's log has no count of instructions")
}

/// `processed 271828 insns (limit 1000000) …`
fn processed(log: &str) -> Option<u32> {
    let (_, behind) = log.rsplit_once("processed ")?;
    behind.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_on_the_last_line_of_the_log() {
        let log = "cannot load: No file descriptors available. Verifier output: processed 271828 insns (limit 1000000) \
                   max_states_per_insn 4 total_states 9 peak_states 9 mark_read 3";
        assert_eq!(processed(log), Some(271_828));
        assert_eq!(processed("unreachable insn 7"), None);
    }
}
