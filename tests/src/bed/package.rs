//! The Debian package, built as for a release but without optimisations, and installed into its own root.
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::bed::process;
use crate::bed::run::Run;

/// The package's files below an otherwise empty root; they vanish with the run.
#[derive(Debug)]
pub struct Installed {
    root: PathBuf,
}

impl Installed {
    /// Builds and installs the package. The maintainer's scripts run with this root.
    ///
    /// # Errors
    /// The build or the installation fails.
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

    /// The path of a file of the package, such as `usr/bin/dns-xdp`.
    pub fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    /// The daemon's user and group, which the package has made.
    ///
    /// # Errors
    /// The user or the group does not exist.
    pub fn user(&self) -> Result<(u32, u32)> {
        let users = fs::read_to_string(self.path("etc/passwd")).context("the package has made no user")?;
        let user = users.lines().find_map(|line| line.strip_prefix("dns-xdp:"));
        let mut fields = user.context("the package has made no user dns-xdp")?.split(':').skip(1);
        let mut number = || Ok::<_, anyhow::Error>(fields.next().context("a field is missing")?.parse()?);
        Ok((number()?, number()?))
    }

    /// Performs the unit's steps as root before the daemon's start. The BPF filesystem has the mode that systemd gives
    /// it.
    ///
    /// # Errors
    /// The filesystem cannot be mounted, or the rules cannot be followed.
    pub fn prepare(&self) -> Result<Bpffs> {
        let bpffs = Bpffs::mount(self.path("sys/fs/bpf"))?;
        let root = format!("--root={}", self.root.display());
        process::succeed(Command::new("systemd-tmpfiles").args([&root, "--create", "dns-xdp.conf"]), "")?;
        let (user, group) = self.user()?;
        for directory in ["run/dns-xdp", "var/lib/dns-xdp"] {
            let directory = self.path(directory);
            fs::create_dir_all(&directory)?;
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
            chown(&directory, Some(user), Some(group))?;
        }
        Ok(bpffs)
    }

    /// Returns the command that starts a daemon as the unit does: with its user and its capabilities.
    ///
    /// # Errors
    /// The unit has no capabilities, or the package has made no user.
    pub fn wrapper(&self) -> Result<Vec<String>> {
        let unit = self.path("usr/lib/systemd/system/dns-xdp.service");
        let unit = fs::read_to_string(&unit).with_context(|| format!("cannot read {}", unit.display()))?;
        let capabilities = |key: &str| {
            let set = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix("=CAP_"));
            let set = set.with_context(|| format!("the unit has no {key}"))?.to_lowercase();
            let set: Vec<String> = set.split(" cap_").map(|name| format!("+{name}")).collect();
            Ok::<_, anyhow::Error>(format!("-all,{}", set.join(",")))
        };
        let (user, group) = self.user()?;
        let ambient = capabilities("AmbientCapabilities")?;
        Ok(vec![
            "setpriv".to_owned(),
            format!("--reuid={user}"),
            format!("--regid={group}"),
            "--clear-groups".to_owned(),
            "--no-new-privs".to_owned(),
            format!("--inh-caps={ambient}"),
            format!("--ambient-caps={ambient}"),
            format!("--bounding-set={}", capabilities("CapabilityBoundingSet")?),
            "--".to_owned(),
        ])
    }

    /// Removes the package with its configuration.
    ///
    /// # Errors
    /// dpkg does not remove the package.
    pub fn purge(&self) -> Result<()> {
        self.dpkg(&["--purge".as_ref(), "dns-xdp".as_ref()])
    }

    fn dpkg(&self, arguments: &[&Path]) -> Result<()> {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", self.root.display()));
        // The root has nothing else: neither a shell for the scripts nor the C library's package.
        command.args(["--force-script-chrootless", "--force-depends"]).args(arguments);
        process::succeed(&mut command, "").map(drop)
    }
}

/// A BPF filesystem that only root may enter; it is unmounted on drop.
#[derive(Debug)]
pub struct Bpffs(PathBuf);

impl Bpffs {
    fn mount(directory: PathBuf) -> Result<Self> {
        fs::create_dir_all(&directory)?;
        mount(Some("bpf"), &directory, Some("bpf"), MsFlags::empty(), Some("mode=700"))
            .with_context(|| format!("cannot mount a BPF filesystem on {}", directory.display()))?;
        Ok(Bpffs(directory))
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

/// Runs `cargo xtask dist`, which prints the files that it has made. Returns the package.
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
