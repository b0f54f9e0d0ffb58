//! `cargo xtask test kernels`: the program, the daemon and its interfaces on Debian's kernels, in QEMU machines.
//!
//! Each kernel's packages are unpacked below `target/kernels`, never installed. The machine boots that kernel with an
//! initramfs. In it `guest`, a program of the tests, runs the checks and writes a line about each on the serial
//! console.
mod image;
mod machine;
mod modules;
mod package;
mod report;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::cargo::root;
use crate::count::Counts;

use machine::Machine;
use package::Kernel;
use report::Report;

/// The directory of files that are kept between runs.
const DIRECTORY: &str = "target/kernels";
/// The versions of `cargo xtask test kernels` if none is named.
const ALL: [&str; 4] = ["5.10", "6.1", "6.12", package::NEWEST];
/// The first version that the program supports.
const OLDEST: [u32; 2] = [5, 10];
/// The versions of `cargo xtask test`: the kernel of Debian oldstable, and the newest kernel. The verifier of Debian
/// oldstable is the strictest in wide use.
pub(crate) const COMMON: [&str; 2] = ["6.1", package::NEWEST];
/// The number of machines that run at once; each keeps about one core busy.
const AT_ONCE: usize = 2;

/// How scenes and packet tables are divided among the kernels of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Each kernel runs all of them.
    Everything,
    /// Each scene is played on only one of the kernels, to save time.
    EachOnce,
}

/// Checks the form of a version, before anything is built for it.
///
/// # Errors
/// The text is no version, or the version is older than the program supports.
pub(crate) fn check_version(version: &str) -> Result<()> {
    let numbers = package::numbers(version);
    let is_form = version == package::NEWEST
        || numbers.len() > 1 && version.split('.').all(|part| part.parse::<u32>().is_ok());
    ensure!(is_form, "`{version}` is no version of Linux: write one such as 6.1, or `{}`", package::NEWEST);
    ensure!(
        version == package::NEWEST || numbers.as_slice() >= OLDEST.as_slice(),
        "Linux {version} is older than 5.10, which the program needs: name 5.10 or later"
    );
    Ok(())
}

/// Tests these versions, or all of them, with the programs that were built into `binaries`, and counts the checks. A
/// kernel that cannot be fetched, or a machine that does not end, counts as a failed check.
///
/// # Errors
/// The common files of the machines cannot be built.
pub(crate) fn run(versions: &[String], share: Share, binaries: &Path) -> Result<Counts> {
    let versions = match versions {
        [] => ALL.map(str::to_owned).to_vec(),
        versions => versions.to_vec(),
    };
    let directory = root().join(DIRECTORY);
    let wanted = image::modules(binaries)?;
    let common = image::userland(binaries)?;
    let mut machines = VecDeque::new();
    let mut reports = Vec::new();
    for (nth, version) in versions.iter().enumerate() {
        let share = match share {
            Share::Everything => "1/1".to_owned(),
            Share::EachOnce => format!("{}/{}", nth + 1, versions.len()),
        };
        match prepare(&directory, version, &wanted, &common, share) {
            Ok(machine) => machines.push_back(machine),
            // The other kernels still run.
            Err(error) => reports.push(Report::failed(version, &error)),
        }
    }
    reports.extend(boot_all(machines));
    println!("\n{}", report::table(&reports));
    let [passed, failed] =
        [true, false].map(|verdict| reports.iter().map(|report| report.count(verdict)).sum());
    for report in &reports {
        print!("{}", report.failures());
    }
    let counts = Counts { passed, failed };
    println!("{counts}");
    if failed > 0 {
        println!("the consoles are in {DIRECTORY}/VERSION/{}", machine::CONSOLE);
    }
    Ok(counts)
}

/// Fetches a kernel unless it is there, and packs the initramfs for it.
fn prepare(
    directory: &Path,
    version: &str,
    wanted: &[String],
    common: &[u8],
    share: String,
) -> Result<Machine> {
    let kernel = Kernel::fetch(directory, version)?;
    let modules = modules::find(&kernel.modules, wanted)?;
    let initramfs = kernel.directory.join("initramfs");
    image::write(&initramfs, common, &modules)
        .with_context(|| format!("cannot write {}", initramfs.display()))?;
    Ok(Machine {
        version: kernel.version,
        kernel: kernel.image,
        initramfs,
        directory: kernel.directory,
        share,
    })
}

/// Boots every machine, several at once, and prints the result of each as soon as it has ended.
fn boot_all(machines: VecDeque<Machine>) -> Vec<Report> {
    let waiting = Mutex::new(machines);
    let reports = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(machine) = next else { return };
            let report = Report::of(&machine.version, machine.boot());
            print!("{}", report.lines());
            reports.lock().unwrap_or_else(PoisonError::into_inner).push(report);
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(work);
        }
    });
    let mut reports = reports.into_inner().unwrap_or_else(PoisonError::into_inner);
    reports.sort_by_key(|report| package::numbers(&report.version));
    reports
}

/// The directory of the programs of `cargo build`.
///
/// # Errors
/// Xtask is not in a target directory.
pub(crate) fn binaries() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where xtask is")?;
    Ok(this.parent().context("xtask is not in a target directory")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_refused_before_anything_is_built_for_it() {
        for version in ["5.10", "6.1", "6.18.3", package::NEWEST] {
            check_version(version).unwrap();
        }
        for (version, told) in [
            ("4.19", "older than 5.10"),
            ("5.9", "older than"),
            ("foo", "write one such as 6.1"),
            ("6", "6.1"),
        ] {
            let error = check_version(version).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
