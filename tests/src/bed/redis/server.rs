//! A Redis server that a scene configures, and changes while it runs.
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::bed::netns::Namespace;
use crate::bed::process;
use crate::bed::wait;

/// The longest time until an empty server answers.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// The server. A drop kills the server.
#[derive(Debug)]
pub struct Server {
    namespace: Namespace,
    port: u16,
    server: Child,
}

impl Server {
    /// Starts it on `port` of all addresses, without TLS, with further lines of its configuration. The server's files
    /// go into `directory`.
    ///
    /// # Errors
    /// redis-server is not installed, or does not come up.
    pub fn start(on: &Namespace, directory: &Path, port: u16, lines: &str) -> Result<Self> {
        let config = directory.join("redis.conf");
        let usual = format!(
            "port {port}\nbind 0.0.0.0 ::\nprotected-mode no\nsave \"\"\ndir {}\nenable-debug-command yes\n",
            directory.display()
        );
        fs::write(&config, usual + lines).with_context(|| format!("cannot write {}", config.display()))?;
        let log = directory.join("redis.log");
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("redis-server");
        command.arg(&config).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let server = on.spawn(&mut command).context("is redis-server installed?")?;
        let redis = Server { namespace: on.clone(), port, server };
        match wait::until("redis-server answers", START_TIMEOUT, || redis.command(&["INFO", "server"])) {
            Ok(_) => Ok(redis),
            Err(error) => Err(anyhow!("{error:#}\n{}", process::tail(&log, 10))),
        }
    }

    /// Sends a command over the loopback, and returns the reply.
    ///
    /// # Errors
    /// The server refuses the command.
    pub fn command(&self, words: &[&str]) -> Result<String> {
        let reply = self.namespace.succeed(self.client().args(words))?;
        let refusal = ["ERR", "NOAUTH", "LOADING", "DENIED", "MASTERDOWN", "NOPERM", "WRONGPASS"];
        ensure!(!refusal.iter().any(|word| reply.starts_with(word)), "{words:?}: {reply}");
        Ok(reply)
    }

    /// Like [`Server::command`], without waiting for the reply.
    ///
    /// # Errors
    /// The client cannot be started.
    pub fn start_command(&self, words: &[&str]) -> Result<Child> {
        self.namespace.spawn(self.client().args(words).stdout(Stdio::null()).stderr(Stdio::null()))
    }

    fn client(&self) -> Command {
        let mut client = Command::new("redis-cli");
        client.args(["-p", &self.port.to_string()]);
        client
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.server.kill().and_then(|()| self.server.wait()).ok();
    }
}
