//! Network namespaces by name. Only the network is entered. The filesystems, including bpffs, are still those of the
//! machine.
use std::fs::{self, File};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::thread;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bed::process;

/// The directory of iproute2's named namespaces.
pub const DIRECTORY: &str = "/run/netns";

/// A network namespace, by the name that `ip netns` knows. The value is only the name: [`crate::bed::run::Run`] removes
/// the namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace of that name, whether it exists or not.
    pub fn named(name: &str) -> Self {
        Namespace { name: name.into() }
    }

    /// Makes a namespace, with `lo` up and IPv6 addresses that are usable at once (no duplicate address detection).
    ///
    /// # Errors
    /// There is already a namespace of that name, or the caller is not root.
    pub fn create(name: &str) -> Result<Self> {
        process::succeed(Command::new("ip").args(["netns", "add", name]), "")?;
        let namespace = Namespace::named(name);
        namespace.enter(|| {
            for scope in ["all", "default"] {
                let path = format!("/proc/sys/net/ipv6/conf/{scope}/accept_dad");
                fs::write(&path, "0").with_context(|| format!("cannot write {path}"))?;
            }
            Ok(())
        })?;
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// The name that `ip netns` knows.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that `nsenter --net=` takes.
    pub fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs `work` on a thread inside the namespace. Sockets opened and programs started there stay there.
    ///
    /// # Errors
    /// The namespace cannot be entered, or `work` fails.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = self.path();
        let inside = move || {
            let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            setns(file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter {}", path.display()))?;
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join().unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Starts a program in the namespace.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let program = command.get_program().to_owned();
        self.enter(|| command.spawn().with_context(|| format!("cannot start {}", program.display())))
    }

    /// Runs a program in the namespace to its end.
    ///
    /// # Errors
    /// The program cannot be started. The caller judges its exit code.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        self.enter(|| process::output(command, ""))
    }

    /// Runs a program in the namespace, which has to succeed, and returns what it wrote to stdout.
    ///
    /// # Errors
    /// The program cannot be started, or fails. The error holds its stderr.
    pub fn succeed(&self, command: &mut Command) -> Result<String> {
        self.enter(|| process::succeed(command, ""))
    }

    /// Runs lines of `ip` in the namespace, without the leading `ip`.
    ///
    /// # Errors
    /// A line fails.
    pub fn ip(&self, lines: &str) -> Result<()> {
        process::succeed(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), lines)?;
        Ok(())
    }

    /// Every process that lives in the namespace.
    ///
    /// # Errors
    /// There is no namespace of that name.
    pub fn pids(&self) -> Result<Vec<Pid>> {
        let pids = process::succeed(Command::new("ip").args(["netns", "pids", &self.name]), "")?;
        Ok(pids.lines().filter_map(|line| line.trim().parse().ok()).map(Pid::from_raw).collect())
    }

    /// Kills every process that lives in the namespace, then deletes it with its interfaces.
    ///
    /// # Errors
    /// There is no namespace of that name.
    pub fn remove(&self) -> Result<()> {
        for pid in self.pids()? {
            // A process that has ended meanwhile counts as killed.
            kill(pid, Signal::SIGKILL).ok();
        }
        process::succeed(Command::new("ip").args(["netns", "del", &self.name]), "")?;
        Ok(())
    }
}
