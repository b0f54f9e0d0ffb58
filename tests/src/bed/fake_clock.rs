//! A daemon's own wall clock, by libfaketime. It steps while the daemon runs; no other process notices.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The clock of the programs that are started with its [environment](FakeClock::environment).
#[derive(Debug)]
pub struct FakeClock {
    file: PathBuf,
    library: PathBuf,
}

impl FakeClock {
    /// Creates a clock without an offset. Its file is in `directory`.
    ///
    /// # Errors
    /// libfaketime is not installed.
    pub fn new(directory: &Path) -> Result<Self> {
        let clock = FakeClock { file: directory.join("clock"), library: library()? };
        clock.set(0)?;
        Ok(clock)
    }

    /// Returns the environment that a program has to be started with. Its monotonic clock and the times of files do not
    /// change.
    pub fn environment(&self) -> Vec<(String, String)> {
        let (file, library) = (self.file.display().to_string(), self.library.display().to_string());
        [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("NO_FAKE_STAT", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    /// Sets the clock this many seconds ahead of the machine's clock; a negative number sets it behind.
    ///
    /// # Errors
    /// The clock's file cannot be replaced.
    pub fn set(&self, seconds: i64) -> Result<()> {
        let new = self.file.with_extension("new");
        fs::write(&new, format!("{seconds:+}\n"))
            .with_context(|| format!("cannot write {}", new.display()))?;
        fs::rename(&new, &self.file).with_context(|| format!("cannot replace {}", self.file.display()))
    }
}

/// The library for programs with threads, in the directory of the machine's architecture.
fn library() -> Result<PathBuf> {
    let directories = fs::read_dir("/usr/lib").context("cannot list /usr/lib")?;
    let libraries = directories.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let library = libraries.into_iter().find(|library| library.exists());
    library.context("libfaketime is not installed: apt-get install faketime, or cargo xtask test, which does")
}
