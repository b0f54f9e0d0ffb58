//! One node of a cluster: its database, its daemon, and the command line that talks to it.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use dns_xdp_ebpf::outcome::{Action, Outcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::bed::netns::Namespace;
use crate::bed::network::Cable;
use crate::bed::plan::{self, DATABASE_PORT};
use crate::bed::process;
use crate::bed::redis;
use crate::bed::run::Run;
use crate::bed::wait;

/// The longest time until a daemon is ready or has failed, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// The program that runs as a node's database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseProgram {
    /// A real redis-server.
    Redis,
    /// A program of the tests that accepts connections, for machines without Redis.
    StandIn,
}

/// A node, running or not.
#[derive(Debug)]
pub struct Node {
    /// `node1`, `node2`, …
    pub name: String,
    /// Its addresses, IPv4 first.
    pub addresses: [IpAddr; 2],
    /// The namespace that it runs in.
    pub namespace: Namespace,
    /// Its configuration file.
    pub config: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// The directory of its daemon's pins.
    pub pins: PathBuf,
    /// The log of its daemon.
    pub log: PathBuf,
    /// Environment variables for its daemons.
    pub environment: Vec<(String, String)>,
    /// A program with its arguments that becomes the daemon: `prlimit --nofile=64`.
    pub wrapper: Vec<String>,
    /// The program of its daemons; `None`: the one beside this program.
    pub program: Option<PathBuf>,
    /// How long its daemons may take to become ready, or to end.
    pub patience: Duration,
    /// The program that [`Node::start_database`] starts.
    pub database_program: DatabaseProgram,
    cable: Option<Cable>,
    database: Option<Child>,
    daemon: Option<Child>,
}

impl Node {
    /// Creates node `number` (from 1), with nothing running. `cable`: the cable to a switch, if any.
    pub fn new(run: &Run, number: u8, namespace: Namespace, cable: Option<Cable>) -> Self {
        let name = format!("node{number}");
        let file = |suffix: &str| run.directory().join(format!("{name}.{suffix}"));
        Node {
            addresses: plan::addresses(number),
            namespace,
            config: file("toml"),
            socket: file("sock"),
            log: file("log"),
            environment: Vec::new(),
            wrapper: Vec::new(),
            program: None,
            patience: START_TIMEOUT,
            database_program: DatabaseProgram::Redis,
            pins: run.pins().join(&name),
            cable,
            database: None,
            daemon: None,
            name,
        }
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> IpAddr {
        self.addresses[0]
    }

    /// Starts the database that the probes connect to.
    ///
    /// # Errors
    /// The database does not come up.
    pub fn start_database(&mut self) -> Result<()> {
        self.database = Some(match self.database_program {
            DatabaseProgram::Redis => {
                let directory = self.config.parent().context("the configuration has a directory")?;
                redis::start(&self.namespace, directory, &self.name, &self.addresses, DATABASE_PORT)?
            }
            DatabaseProgram::StandIn => {
                let mut command = Command::new(process::sibling("database")?);
                command.arg(DATABASE_PORT.to_string()).process_group(0);
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                self.namespace.spawn(&mut command)?
            }
        });
        Ok(())
    }

    /// Kills the database, as a crash would.
    ///
    /// # Errors
    /// The database is not running.
    pub fn kill_database(&mut self) -> Result<()> {
        end(self.database.take().context("no database is running")?)
    }

    /// Starts the daemon and waits for its first full round of probes.
    ///
    /// # Errors
    /// The daemon ends, or does not answer on its control socket.
    pub fn start(&mut self) -> Result<()> {
        self.spawn(&[])?;
        self.wait_until_ready()
    }

    /// Starts the daemon with more arguments to `run`, and does not wait.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn(&mut self, arguments: &[&str]) -> Result<()> {
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot open {}", self.log.display()))?;
        self.spawn_with_log(arguments, log.into())
    }

    /// Like [`Node::spawn`], with another destination of the log.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn spawn_with_log(&mut self, arguments: &[&str], log: Stdio) -> Result<()> {
        // The daemon has no terminal: a Ctrl-C is for the process that started the cluster.
        let mut command = self.daemon_command(arguments)?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        self.daemon = Some(self.namespace.spawn(&mut command)?);
        Ok(())
    }

    /// Waits until the daemon has a verdict about every node.
    ///
    /// # Errors
    /// The daemon ends too early or takes too long. [`Cluster::logs`](crate::bed::cluster::Cluster::logs) shows why.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let mut child = self.daemon.take().context("no daemon is running")?;
        let looked = wait::until(&format!("{} is ready", self.name), self.patience, || {
            // A daemon that has ended will not become ready.
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            let status = self.status()?;
            ensure!(healths(&status)?.iter().all(|health| *health != "unknown"), "a node is yet unknown");
            Ok(None)
        });
        self.daemon = Some(child);
        match looked? {
            (Some(status), _) => {
                bail!("the daemon of {} has ended ({status}); see {}", self.name, self.log.display())
            }
            (None, _) => Ok(()),
        }
    }

    /// Runs a daemon that is expected to refuse and end.
    ///
    /// # Errors
    /// The daemon cannot be started, or is still running after 15 s.
    pub fn run_to_the_end(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = self.daemon_command(arguments)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.namespace.spawn(&mut command)?;
        if let Err(error) = wait_for(&mut child, self.patience) {
            end(child)?;
            return Err(error);
        }
        Ok(child.wait_with_output()?)
    }

    fn daemon_command(&self, arguments: &[&str]) -> Result<Command> {
        let daemon = self.program.clone().map_or_else(|| process::sibling("dns-xdp"), Ok)?;
        let mut command = match &*self.wrapper {
            [] => Command::new(daemon),
            [program, wrapper @ ..] => {
                let mut command = Command::new(program);
                command.args(wrapper).arg(daemon);
                command
            }
        };
        command.arg("run").arg("--config").arg(&self.config).args(arguments);
        command.envs(self.environment.iter().cloned());
        Ok(command)
    }

    /// The process of the daemon.
    ///
    /// # Errors
    /// The daemon is not running.
    pub fn daemon(&self) -> Result<Pid> {
        let child = self.daemon.as_ref().context("no daemon is running")?;
        Ok(Pid::from_raw(child.id().try_into()?))
    }

    /// Sends the daemon a signal.
    ///
    /// # Errors
    /// The daemon is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.daemon()?, signal).context("cannot signal the daemon")
    }

    /// Sends the daemon a signal and waits until it has ended.
    ///
    /// # Errors
    /// The daemon is not running, or has not ended after 15 s.
    pub fn stop(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        let mut child = self.daemon.take().context("no daemon is running")?;
        let stopped = wait_for(&mut child, self.patience);
        if stopped.is_err() {
            self.daemon = Some(child);
        }
        stopped
    }

    /// Stops watching the daemon: it has ended, except for parts that the kernel cannot end.
    pub fn leave_daemon(&mut self) {
        drop(self.daemon.take());
    }

    /// Starts a daemon that takes over from the running one, and waits until the old one has ended.
    ///
    /// # Errors
    /// The old daemon has not ended after 15 s, or the new one does not come up.
    pub fn replace(&mut self) -> Result<()> {
        let mut old = self.daemon.take().context("no daemon is running")?;
        self.spawn(&["--replace"])?;
        if let Err(error) = wait_for(&mut old, self.patience) {
            end(old)?;
            return Err(error);
        }
        self.wait_until_ready()
    }

    /// Pulls only the cable: the node lives and reaches no other station.
    ///
    /// # Errors
    /// The switch is gone.
    pub fn pull_cable(&self) -> Result<()> {
        self.cable()?.pull()
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// The switch is gone.
    pub fn put_cable_back(&self) -> Result<()> {
        self.cable()?.put_back()
    }

    fn cable(&self) -> Result<&Cable> {
        self.cable.as_ref().with_context(|| format!("{} has no cable to a switch", self.name))
    }

    /// Kills the node: pulls the cable, kills database and daemon.
    ///
    /// # Errors
    /// The node was not alive.
    pub fn die(&mut self) -> Result<()> {
        self.cable()?.pull()?;
        self.kill_database()?;
        self.stop(Signal::SIGKILL)?;
        Ok(())
    }

    /// Brings the node back: cable, database, daemon.
    ///
    /// # Errors
    /// The database or the daemon does not come up.
    pub fn come_back(&mut self) -> Result<()> {
        self.cable()?.put_back()?;
        self.start_database()?;
        self.start()
    }

    /// Runs a verb of the command line against this node's daemon.
    ///
    /// # Errors
    /// The program cannot be started. The caller judges its exit code.
    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        self.namespace.output(&mut self.cli_command(arguments)?)
    }

    /// Starts a verb of the command line that runs for a while; its output is kept for the caller.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn cli_start(&self, arguments: &[&str]) -> Result<Child> {
        let mut command = self.cli_command(arguments)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.namespace.spawn(&mut command)
    }

    fn cli_command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new(process::sibling("dns-xdp")?);
        command.arg("--socket").arg(&self.socket).args(arguments);
        Ok(command)
    }

    /// Runs a verb that has to succeed, and returns its stdout.
    ///
    /// # Errors
    /// The verb fails. The error holds its stderr.
    pub fn cli_ok(&self, arguments: &[&str]) -> Result<String> {
        let output = self.cli(arguments)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`dns-xdp {}` failed: {}", arguments.join(" "), stderr.trim());
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// `status --json`.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn status(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.cli_ok(&["status", "--json"])?)?)
    }

    /// Returns the guaranteed time from a death to the verdict, as `status` shows it.
    ///
    /// # Errors
    /// The daemon does not answer.
    pub fn promise(&self) -> Result<Duration> {
        let status = self.status()?;
        let promise = status["promise"]["detect_ms"].as_u64();
        Ok(Duration::from_millis(promise.with_context(|| format!("status has no promise: {status}"))?))
    }

    /// `stats --json`.
    ///
    /// # Errors
    /// The daemon does not answer, or the counters are not where the contract puts them.
    pub fn stats(&self) -> Result<Stats> {
        let stats: Value = serde_json::from_str(&self.cli_ok(&["stats", "--json"])?)?;
        let part = |name: &str| {
            serde_json::from_value(stats[name].clone()).with_context(|| format!("stats: {name}"))
        };
        Ok(Stats { xdp: part("xdp")?, responder: part("responder")? })
    }

    /// Whether an XDP program is attached to any of its interfaces.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn has_xdp(&self) -> Result<bool> {
        let mut command = Command::new("ip");
        command.args(["-n", self.namespace.name(), "-json", "link", "show"]);
        let links: Value = serde_json::from_str(&process::succeed(&mut command, "")?)?;
        Ok(links.as_array().is_some_and(|links| links.iter().any(|link| link.get("xdp").is_some())))
    }

    /// Returns the leftovers of its daemon: an attached program, pins, the control socket.
    ///
    /// # Errors
    /// The leftovers cannot be listed.
    pub fn remains(&self) -> Result<Vec<String>> {
        let mut remains = Vec::new();
        if self.has_xdp()? {
            remains.push("a program on an interface".to_owned());
        }
        if self.socket.exists() {
            remains.push(self.socket.display().to_string());
        }
        for entry in fs::read_dir(&self.pins).into_iter().flatten() {
            remains.push(entry?.path().display().to_string());
        }
        Ok(remains)
    }

    /// Changes the configuration file on disk; the daemon reads it by `reload`.
    ///
    /// # Errors
    /// The file does not contain `from`.
    pub fn edit_config(&self, from: &str, to: &str) -> Result<()> {
        let text = self.config_text()?;
        ensure!(text.contains(from), "{} does not hold {from:?}", self.config.display());
        Ok(fs::write(&self.config, text.replace(from, to))?)
    }

    /// The configuration file as it is on disk.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn config_text(&self) -> Result<String> {
        fs::read_to_string(&self.config).with_context(|| format!("cannot read {}", self.config.display()))
    }

    /// Kills all running programs.
    pub fn end(&mut self) {
        for child in [self.database.take(), self.daemon.take()].into_iter().flatten() {
            end(child).ok();
        }
    }
}

/// The counters of a node, as `stats` shows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Frames by outcome.
    pub xdp: BTreeMap<String, u64>,
    /// Responses of the responder by rcode.
    pub responder: BTreeMap<String, u64>,
}

impl Stats {
    /// Queries that the XDP program answered with addresses.
    pub fn answered_by_xdp(&self) -> u64 {
        self.xdp.get("answered").copied().unwrap_or(0)
    }

    /// Queries that the XDP program answered in any way.
    pub fn answered_in_kernel(&self) -> u64 {
        let answers = Outcome::ALL.iter().filter(|outcome| outcome.action() == Action::Transmit);
        answers.filter_map(|outcome| self.xdp.get(outcome.text())).sum()
    }

    /// Queries that the responder answered.
    pub fn answered_by_responder(&self) -> u64 {
        self.responder.values().sum()
    }
}

/// The `health` of every node in a `status --json`, in the order of the configuration.
///
/// # Errors
/// The status has no nodes.
pub fn healths(status: &Value) -> Result<Vec<&str>> {
    let nodes = status["nodes"].as_array().ok_or_else(|| anyhow!("status has no nodes: {status}"))?;
    Ok(nodes.iter().map(|node| node["health"].as_str().unwrap_or("missing")).collect())
}

fn wait_for(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let (status, _) = wait::until("the daemon ends", limit, || match child.try_wait()? {
        Some(status) => Ok(status),
        None => bail!("it is running"),
    })?;
    Ok(status)
}

fn end(mut child: Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}
