//! Row 8: no room, no memory, a full or read-only disk, no descriptors: a change that cannot be made is refused as a
//! whole.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::resources::Process;
use super::stage::on_laid;
use super::{Length, Row, SOON};
use crate::bed::cgroup::Cgroup;
use crate::bed::cluster::Cluster;
use crate::bed::control_socket::Connection;
use crate::bed::node::{Node, healths};
use crate::bed::plan::{Plan, ZONE};
use crate::bed::process::succeed;
use crate::bed::wait;
use crate::bed::watch::{Question, Watch};

/// The memory limit of a group. A daemon in the group tries to load the largest table, of about 100 MiB.
const MEMORY: u64 = 48 << 20;

/// Plays the row. It is the same in both forms.
///
/// # Errors
/// A change is made in part, or is not reported.
pub fn run(_length: Length) -> Result<Row> {
    let plan = Plan::quick(2)
        .line("xdp", "mode = \"native\"")
        .line("xdp", "capacity = 16")
        .line("xdp", "stale-after = \"300s\"")
        .line("xdp", "stop-grace = \"300s\"")
        .line("health", "fall = 100");
    on_laid(&plan, |cluster| {
        cluster.nodes.iter_mut().try_for_each(Node::start_database)?;
        let disk = Disk::lay(&mut cluster.nodes[0])?;
        cluster.nodes[0].start()?;
        all_up(cluster)?;
        let questions = Question::all(&[cluster.nodes[0].ipv4()], &["node1", "node2"]);
        let watch = Watch::start(&cluster.client, questions)?;
        table_over_capacity(&cluster.nodes[0], &disk).context("a table over its capacity")?;
        let daemon = daemon(&cluster.nodes[0])?;
        disk.fill(daemon)?;
        nothing_is_written(&cluster.nodes[0], &disk, daemon).context("on a full disk")?;
        disk.empty(daemon)?;
        disk.remount(daemon, "ro")?;
        nothing_is_written(&cluster.nodes[0], &disk, daemon).context("with files that are read-only")?;
        disk.remount(daemon, "rw")?;
        no_descriptors(&cluster.nodes[0], daemon).context("without descriptors")?;
        let _group = no_memory(cluster, &disk).context("without memory")?;
        let (changes, asked) = watch.finish()?;
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        ensure!(asked.count > 0 && changes.len() == 2, "the answers meanwhile: {changes:?}");
        let result = "table over capacity, full disk, read-only files, no descriptors, memory limit: each refused with \
                      its reason; changes without a client raise an alarm in `status`; 0 answers lost or changed meanwhile";
        Ok(Row::new(8, result.to_owned(), true))
    })
}

fn all_up(cluster: &Cluster) -> Result<()> {
    wait::until("both nodes are up", SOON, || {
        let status = cluster.nodes[0].status()?;
        ensure!(healths(&status)?.iter().all(|health| *health == "up"), "{status}");
        Ok(())
    })?;
    Ok(())
}

fn daemon(node: &Node) -> Result<Process> {
    let pid = node.status()?["pid"].as_u64().context("a daemon has a number")?;
    Ok(Process(u32::try_from(pid)?))
}

/// The daemon's own small disk, with its configuration and state, in a mount namespace.
struct Disk {
    directory: PathBuf,
    config: PathBuf,
}

impl Disk {
    fn lay(node: &mut Node) -> Result<Self> {
        let directory = node.config.with_extension("disk");
        fs::create_dir(&directory)?;
        let config = directory.join("node1.toml");
        let state = directory.join("node1.state");
        node.edit_config(
            &node.socket.with_extension("state").display().to_string(),
            &state.display().to_string(),
        )?;
        let script = format!(
            "mount -t tmpfs -o size=64k tmpfs {0} && cp {1} {2} && exec \"$@\"",
            directory.display(),
            node.config.display(),
            config.display()
        );
        node.wrapper = ["unshare", "--mount", "sh", "-c", &script, "sh"].map(String::from).to_vec();
        node.config.clone_from(&config);
        Ok(Disk { directory, config })
    }

    /// The path of a file on the disk, as the daemon sees it.
    fn seen(&self, daemon: Process, file: &Path) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{}", daemon.0, file.display()))
    }

    fn fill(&self, daemon: Process) -> Result<()> {
        let full = fs::write(self.seen(daemon, &self.directory.join("fill")), vec![0; 1 << 20]);
        ensure!(full.is_err(), "a small disk took a lot");
        Ok(())
    }

    fn empty(&self, daemon: Process) -> Result<()> {
        Ok(fs::remove_file(self.seen(daemon, &self.directory.join("fill")))?)
    }

    fn remount(&self, daemon: Process, how: &str) -> Result<()> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", daemon.0));
        command.args(["mount", "-o", &format!("remount,{how}")]).arg(&self.directory);
        succeed(&mut command, "")?;
        Ok(())
    }
}

fn refused(output: &Output, words: &[&str]) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let named = words.iter().all(|word| stderr.contains(word));
    ensure!(!output.status.success() && named, "{}, without {words:?}: {stderr}", output.status);
    Ok(())
}

fn alarms(node: &Node) -> Result<String> {
    Ok(node.status()?["alarms"].to_string())
}

/// More names than the table holds: all of the file or nothing, by `reload` and by a signal.
fn table_over_capacity(node: &Node, disk: &Disk) -> Result<()> {
    let file = disk.seen(daemon(node)?, &disk.config);
    let before = fs::read_to_string(&file)?;
    let services = (0..30).map(|nth| format!("[[service]]\nname = \"db{nth}\"\nnodes = [\"node1\"]\n"));
    fs::write(&file, before.clone() + &services.collect::<String>())?;
    refused(&node.cli(&["reload"])?, &["capacity"])?;
    node.signal(Signal::SIGHUP)?;
    wait::until("the refused reload is an alarm", SOON, || {
        let alarms = alarms(node)?;
        ensure!(alarms.contains("refused") && alarms.contains("capacity"), "the alarms are {alarms}");
        Ok(())
    })?;
    fs::write(&file, before)?;
    node.cli_ok(&["reload"])?;
    wait::until("the alarm is over", SOON, || {
        ensure!(alarms(node)? == "[]", "the alarms are {}", alarms(node)?);
        Ok(())
    })?;
    Ok(())
}

/// A change that would be lost with a restart is not made at all.
fn nothing_is_written(node: &Node, disk: &Disk, daemon: Process) -> Result<()> {
    let file = disk.seen(daemon, &disk.config);
    let before = (fs::read_to_string(&file)?, node.cli_ok(&["node", "list", "--json"])?);
    refused(
        &node.cli(&["node", "add", "node3", "--ipv4", "192.0.2.13"])?,
        &["node1.toml", "nothing was changed"],
    )?;
    refused(
        &node.cli(&["node", "set", "node2", "--ipv4", "192.0.2.99"])?,
        &["node1.toml", "nothing was changed"],
    )?;
    refused(&node.cli(&["node", "down", "node2"])?, &["node1.state"])?;
    let after = (fs::read_to_string(&file)?, node.cli_ok(&["node", "list", "--json"])?);
    ensure!(before == after, "{before:?} has become {after:?}");
    Ok(())
}

/// The daemon has its open descriptors and no further one. Clients that are connected already get an answer.
fn no_descriptors(node: &Node, daemon: Process) -> Result<()> {
    let mut connection = Connection::open(&node.socket)?;
    connection.ask(r#"{"verb":"status"}"#)?;
    let limit = |soft: &str| {
        let mut command = Command::new("prlimit");
        command.args(["--pid", &daemon.0.to_string(), &format!("--nofile={soft}:")]);
        succeed(&mut command, "").map(|_| ())
    };
    limit("1")?;
    let add = r#"{"verb":"node-add","name":"node3","ipv4":"192.0.2.13","ipv6":null,"ephemeral":true}"#;
    let (code, answer) = connection.ask(add)?;
    let message = answer["message"].to_string();
    ensure!(code == 500 && message.contains("(os error 24)"), "{code}: {answer}");
    let (_, status) = connection.ask(r#"{"verb":"status"}"#)?;
    ensure!(status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2), "{status}");
    wait::until("the want of descriptors is an alarm", SOON, || {
        let alarms = connection.ask(r#"{"verb":"status"}"#)?.1["alarms"].to_string();
        ensure!(
            alarms.contains("os error 24") || alarms.contains("too many open files"),
            "the alarms are {alarms}"
        );
        Ok(())
    })?;
    limit("4096")?;
    wait::until("the alarm is over", SOON, || {
        ensure!(alarms(node)? == "[]", "the alarms are {}", alarms(node)?);
        Ok(())
    })?;
    Ok(())
}

/// A successor whose table is larger than its memory refuses to start, and the predecessor's program answers on. A
/// successor without XDP then takes over. Returns the successor's cgroup.
fn no_memory(cluster: &mut Cluster, disk: &Disk) -> Result<Cgroup> {
    let node = &mut cluster.nodes[0];
    node.stop(Signal::SIGKILL)?;
    node.config = disk.directory.with_extension("toml");
    node.edit_config("capacity = 16", "capacity = 65536")?;
    let group = Cgroup::of_memory(&format!("dns-xdp-{}-{ZONE}", std::process::id()), MEMORY)?;
    node.wrapper = group.wrapper();
    refused(&node.run_to_the_end(&[])?, &["map", "(os error 12)"])?;
    // If XDP is not demanded, the responder answers, and the status says why.
    node.edit_config("mode = \"native\"", "mode = \"auto\"")?;
    node.start()?;
    let alarms = alarms(node)?;
    ensure!(alarms.contains("eth0 is off"), "the alarms are {alarms}");
    ensure!(!node.has_xdp()?, "the predecessor's program is left, with its last zone");
    Ok(group)
}
