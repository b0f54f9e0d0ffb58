//! The Debian package, built as it is shipped but without optimisations, and installed into a root of its own.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::run::Run;

/// The package's files below an otherwise empty root; they vanish with the run.
#[derive(Debug)]
pub struct Installed {
    root: PathBuf,
}

impl Installed {
    /// Packs and installs. The maintainer's scripts are run, and told the root.
    ///
    /// # Errors
    /// When either fails.
    pub fn install(run: &Run) -> Result<Self> {
        let root = run.directory().join("root");
        let dpkg = root.join("var/lib/dpkg");
        for directory in ["info", "updates", "triggers"] {
            let directory = dpkg.join(directory);
            fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        }
        for file in ["status", "available"] {
            fs::write(dpkg.join(file), "").with_context(|| format!("cannot write {file}"))?;
        }
        let package = pack()?;
        let installed = Installed { root };
        installed.dpkg(&["--install".as_ref(), package.as_path()])?;
        Ok(installed)
    }

    /// Where a file of the package is: `usr/bin/dns-xdp`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// Removes it with its configuration.
    ///
    /// # Errors
    /// When dpkg does not.
    pub fn purge(&self) -> Result<()> {
        self.dpkg(&["--purge".as_ref(), "dns-xdp".as_ref()])
    }

    fn dpkg(&self, arguments: &[&Path]) -> Result<()> {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", self.root.display()));
        // Nothing else is in that root: neither a shell for the scripts nor the C library's package.
        command.args(["--force-script-chrootless", "--force-depends"]).args(arguments);
        process::succeed(&mut command, "").map(drop)
    }
}

/// `cargo xtask dist`, which prints the files that it has made.
fn pack() -> Result<PathBuf> {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace has no directory")?;
    let mut command = Command::new("cargo");
    command.current_dir(workspace).args(["xtask", "dist", "--profile", "dev"]);
    let made = process::succeed(&mut command, "")?;
    match made.lines().find(|line| line.ends_with(".deb")) {
        Some(package) => Ok(workspace.join(package)),
        None => bail!("no package was made: {made}"),
    }
}
