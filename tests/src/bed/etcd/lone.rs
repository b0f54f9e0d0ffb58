//! One member of etcd at the loopback address, with etcd's default settings.
use std::ffi::OsStr;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use crate::bed::process;
use crate::bed::wait;

/// The longest time until a single member is ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The member. A drop ends the process and removes its data.
#[derive(Debug)]
pub struct LoneEtcd {
    /// The URL for clients.
    pub endpoint: String,
    server: Child,
    _directory: TempDir,
}

impl LoneEtcd {
    /// Starts the member and waits until it answers.
    ///
    /// # Errors
    /// etcd is not installed or does not come up.
    pub fn start() -> Result<LoneEtcd> {
        let directory = tempfile::tempdir()?;
        let ports = [(); 2].map(|()| TcpListener::bind(("127.0.0.1", 0)));
        let [clients, peers] = ports.map(|port| port.and_then(|port| port.local_addr()));
        let (endpoint, peer) = (format!("http://{}", clients?), format!("http://{}", peers?));
        let mut command = Command::new("etcd");
        command.arg("--data-dir").arg(directory.path().join("data"));
        for option in ["--listen-client-urls", "--advertise-client-urls"] {
            command.args([option, &endpoint]);
        }
        for option in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
            command.args([option, &peer]);
        }
        command.arg("--initial-cluster").arg(format!("default={peer}"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = command.spawn().context("is etcd installed?")?;
        let etcd = LoneEtcd { endpoint, server, _directory: directory };
        wait::until("etcd answers", START_TIMEOUT, || etcd.put("/ready", "yes"))?;
        Ok(etcd)
    }

    /// Writes a key, which need not be text.
    ///
    /// # Errors
    /// The member does not accept the key.
    pub fn put(&self, key: impl AsRef<OsStr>, value: &str) -> Result<()> {
        self.ctl([OsStr::new("put"), key.as_ref(), OsStr::new(value)])
    }

    /// Compacts the history before this revision.
    ///
    /// # Errors
    /// There is no such revision.
    pub fn compact(&self, revision: u64) -> Result<()> {
        self.ctl(["compact", &revision.to_string()])
    }

    fn ctl<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Result<()> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint]).args(arguments);
        process::succeed(&mut command, "").map(drop)
    }
}

impl Drop for LoneEtcd {
    fn drop(&mut self) {
        self.server.kill().ok();
        self.server.wait().ok();
    }
}
