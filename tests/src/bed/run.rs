//! One run of the test bed, and the name of all its namespaces, files and pins, so that none outlives the run.
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};

use crate::bed::filesystem;
use crate::bed::interrupt;
use crate::bed::netns::{self, Namespace};

const PREFIX: &str = "dns-xdp-";
const BPFFS: &str = "/sys/fs/bpf";
/// The lock file of a unique run. It is locked as long as the run's process lives, unlike a process number, which may
/// be used again.
const LOCK: &str = "lock";

/// The guard of a run. A drop removes everything with the run's name, unless the run is kept.
#[derive(Debug)]
pub struct Run {
    name: String,
    kept: bool,
    lock: Option<File>,
}

impl Run {
    /// Creates a run that ends with this process, even by an interrupt. Removes leftovers of killed processes.
    ///
    /// # Errors
    /// The run's directory cannot be made. Only root can make it.
    pub fn unique() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        interrupt::arm()?;
        for name in names()? {
            let run = Run { name, kept: true, lock: None };
            if run.is_abandoned() {
                run.remove()?;
            }
        }
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut run = Run::named(&format!("{}-{count}", process::id()))?;
        let lock = File::create(run.directory().join(LOCK)).context("cannot make the lock of the run")?;
        lock.lock().context("cannot lock the run")?;
        run.lock = Some(lock);
        Ok(run)
    }

    /// Creates a run with this name, such as the lab's.
    ///
    /// # Errors
    /// There is already a run of this name, or the run's directory cannot be made.
    pub fn named(name: &str) -> Result<Self> {
        let mut run = Run::existing(name);
        make(&run.directory())?;
        run.kept = false;
        make(&run.pins())?;
        Ok(run)
    }

    /// The existing run of this name; dropping this value removes nothing.
    pub fn existing(name: &str) -> Self {
        Run { name: format!("{PREFIX}{name}"), kept: true, lock: None }
    }

    fn is_abandoned(&self) -> bool {
        owner(&self.name).is_some()
            && File::open(self.directory().join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
    }

    /// Whether the run exists.
    pub fn exists(&self) -> bool {
        self.directory().exists()
    }

    /// The directory of configurations, logs and sockets.
    pub fn directory(&self) -> PathBuf {
        Path::new("/run").join(&self.name)
    }

    /// The directory of pinned programs and links.
    pub fn pins(&self) -> PathBuf {
        Path::new(BPFFS).join(&self.name)
    }

    /// The namespace of one station, which need not exist.
    pub fn namespace(&self, station: &str) -> Namespace {
        Namespace::named(&format!("{}-{station}", self.name))
    }

    /// Leaves everything running when the guard is dropped.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Whether the run outlives its guard.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// Ends every process in the run's namespaces and removes them, the pins and the files.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn remove(&self) -> Result<()> {
        // An interrupt and the end of a test may call this at the same time.
        static REMOVING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = REMOVING.lock().unwrap_or_else(PoisonError::into_inner);
        let prefix = format!("{}-", self.name);
        for entry in entries(netns::DIRECTORY)?.iter().filter(|entry| entry.starts_with(&prefix)) {
            Namespace::named(entry).remove()?;
        }
        filesystem::unmount_below(&self.directory())?;
        for directory in [self.pins(), self.directory()] {
            match fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("cannot remove {}", directory.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if !self.kept
            && let Err(error) = self.remove()
        {
            eprintln!("{}: {error:#}", self.name);
        }
    }
}

/// Removes every run of this process.
///
/// # Errors
/// Something of a run cannot be removed.
pub fn remove_own() -> Result<()> {
    for name in names()? {
        if owner(&name) == Some(process::id()) {
            Run { name, kept: true, lock: None }.remove()?;
        }
    }
    Ok(())
}

/// The process that a unique run belongs to: `dns-xdp-<pid>-<count>`.
fn owner(name: &str) -> Option<u32> {
    let (pid, count) = name.strip_prefix(PREFIX)?.split_once('-')?;
    count.parse::<u32>().ok()?;
    pid.parse().ok()
}

fn make(directory: &Path) -> Result<()> {
    fs::create_dir(directory).with_context(|| format!("cannot make {}", directory.display()))
}

fn names() -> Result<Vec<String>> {
    Ok(entries("/run")?.into_iter().filter(|name| name.starts_with(PREFIX)).collect())
}

fn entries(directory: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("cannot list {directory}"))?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_unique_run_has_an_owner() {
        assert_eq!(owner("dns-xdp-41-0"), Some(41));
        assert_eq!(owner("dns-xdp-lab"), None);
        assert_eq!(owner("dns-xdp"), None);
        assert_eq!(owner("dns-xdp-41-0-node1"), None);
    }
}
