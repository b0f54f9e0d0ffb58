//! One member of etcd: a process that can be started, killed, stopped for a while, and deprived of its data.
use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{ADDRESSES, Access, PORT};
use crate::bed::netns::Namespace;

/// The port for other members.
const PEER_PORT: u16 = 2380;
/// The heartbeat in milliseconds. The default is for distant members. With it an election takes a second, which is too
/// long for a scene.
const HEARTBEAT: &str = "50";
const ELECTION: &str = "500";

/// A member, whether it runs or not.
#[derive(Debug)]
pub struct Member {
    /// `etcd1`, `etcd2`, …
    pub name: String,
    /// The address that it listens on.
    pub address: Ipv4Addr,
    /// The namespace that it runs in.
    pub namespace: Namespace,
    /// Its log.
    pub log: PathBuf,
    data: PathBuf,
    arguments: Vec<String>,
    server: Option<Child>,
}

/// Returns the name of member `number` (from 1).
pub fn name(number: usize) -> String {
    format!("etcd{number}")
}

impl Member {
    /// Member `number` (from 1), which does not run.
    pub fn new(
        directory: &Path,
        number: usize,
        address: Ipv4Addr,
        namespace: Namespace,
        access: Access,
    ) -> Self {
        let name = name(number);
        let clients = format!("{}://{address}:{PORT}", access.scheme());
        let mut arguments = Vec::from(
            [
                ["--listen-client-urls", &clients],
                ["--advertise-client-urls", &clients],
                ["--listen-peer-urls", &peer(address)],
                ["--heartbeat-interval", HEARTBEAT],
                ["--election-timeout", ELECTION],
                ["--logger", "zap"],
                ["--log-level", "warn"],
            ]
            .map(|pair| pair.map(ToOwned::to_owned)),
        )
        .concat();
        arguments.push("--enable-grpc-gateway=false".to_owned());
        arguments.extend(access.of_members(directory));
        Member {
            data: directory.join(&name),
            log: directory.join(format!("{name}.log")),
            namespace,
            address,
            arguments,
            server: None,
            name,
        }
    }

    /// Returns the arguments for founding a new cluster of the members, empty or from a backup.
    pub(super) fn founding(&self) -> Vec<String> {
        let members =
            (1..).zip(ADDRESSES).map(|(number, address)| format!("{}={}", name(number), peer(address)));
        let members = members.collect::<Vec<_>>().join(",");
        let data = self.data.display().to_string();
        [
            ["--name", &self.name],
            ["--data-dir", &data],
            ["--initial-advertise-peer-urls", &peer(self.address)],
            ["--initial-cluster", &members],
        ]
        .concat()
        .into_iter()
        .map(ToOwned::to_owned)
        .collect()
    }

    /// Starts the member with its data, if it has any.
    ///
    /// # Errors
    /// The member runs already, or etcd is not installed.
    pub fn start(&mut self) -> Result<()> {
        ensure!(!self.is_started(), "{} runs", self.name);
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = Command::new("etcd");
        command.args(self.founding()).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.server = Some(self.namespace.spawn(&mut command).context("is etcd installed?")?);
        Ok(())
    }

    /// Whether the member has been started, and has not ended since.
    pub fn is_started(&self) -> bool {
        self.server.is_some()
    }

    /// Kills the member, as a crash would.
    ///
    /// # Errors
    /// The member does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut server = self.server.take().with_context(|| format!("{} does not run", self.name))?;
        server.kill()?;
        server.wait()?;
        Ok(())
    }

    /// Sends the member a signal, for example SIGSTOP or SIGCONT.
    ///
    /// # Errors
    /// The member does not run.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let server = self.server.as_ref().with_context(|| format!("{} does not run", self.name))?;
        Ok(kill(Pid::from_raw(server.id().try_into()?), signal)?)
    }

    /// Removes the member's data.
    ///
    /// # Errors
    /// The member runs, or its files cannot be removed.
    pub fn wipe(&self) -> Result<()> {
        ensure!(!self.is_started(), "{} runs", self.name);
        match fs::remove_dir_all(&self.data) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.data.display()))
            }
            _ => Ok(()),
        }
    }

    /// Kills the member if it runs.
    pub fn end(&mut self) {
        if self.is_started() {
            self.kill().ok();
        }
    }
}

fn peer(address: Ipv4Addr) -> String {
    format!("http://{address}:{PEER_PORT}")
}
