//! The programs and the packet table on the running kernel: the number of instructions that its verifier processes, and
//! the results of the table.
use std::collections::BTreeSet;
use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use dns_xdp::datapath::{Error, KernelVersion, Unattached, Variant};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::budget::{PLAIN_VERIFIED_MAX, VERIFIED_MAX};
use super::report::{self, Kind};
use super::share::Share;
use crate::oracle::kernel;
use crate::oracle::table::zone::{CAPACITY, PORT, places};

fn load(variant: Variant) -> Result<Unattached, Error> {
    Unattached::load(variant, &places(), PORT, CAPACITY)
}

/// The variants that the kernel can run: all, except those for fragmented frames on older kernels.
fn variants() -> impl Iterator<Item = Variant> {
    let has_frags = KernelVersion::running().is_some_and(KernelVersion::has_frags);
    Variant::ALL.into_iter().filter(move |variant| has_frags || !variant.frags)
}

/// The most instructions that the verifier may process.
fn verified_max(variant: Variant) -> u32 {
    if variant.features.guarded { VERIFIED_MAX } else { PLAIN_VERIFIED_MAX }
}

/// Loads each variant, then runs the packet table through each that is in this machine's share.
pub fn check(share: Share) {
    for variant in variants() {
        report::check(Kind::Program, &variant.to_string(), |seen| {
            let start = Instant::now();
            let loaded = load(variant);
            let milliseconds = start.elapsed().as_millis();
            if loaded.is_err() {
                seen.value = "refused".into();
                seen.detail = format!("after {milliseconds} ms");
            }
            let verified = match loaded.context("the kernel refuses it")?.size()?.verified {
                // Kernels before 5.16 do not report the count there.
                0 => verified_of_log(variant)?,
                verified => verified,
            };
            seen.value = verified.to_string();
            seen.detail = format!("loaded in {milliseconds} ms");
            let most = verified_max(variant);
            ensure!(verified <= most, "the verifier processed {verified} instructions, more than {most}");
            Ok(())
        });
    }
    for (_, variant) in variants().enumerate().filter(|(place, _)| share.has(*place)) {
        report::check(Kind::Table, &format!("packet table, {variant}"), |seen| {
            let run = kernel::run_table(variant)?;
            seen.value = format!("{} of {}", run.rows - run.failures.len(), run.rows);
            ensure!(run.failures.is_empty(), "{}", run.failures.join("; "));
            Ok(())
        });
    }
}

/// The count on the last line of the verifier's log, which aya returns only for a refused program. The kernel is
/// therefore made to refuse the load in its last step: it verifies the variant, and then finds no free file descriptor.
/// Each try leaves the load one descriptor fewer, until it fails in that step.
fn verified_of_log(variant: Variant) -> Result<u32> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let before = descriptors()?;
    let loaded = load(variant)?;
    let highest = descriptors()?.difference(&before).max().copied().unwrap_or_default();
    drop(loaded);
    let mut count = None;
    for descriptors in (0..=highest).rev() {
        setrlimit(Resource::RLIMIT_NOFILE, descriptors, hard)?;
        if let Err(error) = load(variant) {
            count = processed(&format!("{:#}", anyhow::Error::new(error)));
        }
        if count.is_some() {
            break;
        }
    }
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).context("cannot restore the limit of file descriptors")?;
    count.context("the verifier's log has no count of instructions")
}

/// This process's file descriptors.
fn descriptors() -> Result<BTreeSet<u64>> {
    let entries = fs::read_dir("/proc/self/fd").context("cannot list this process's file descriptors")?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
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
