//! Scenes: the events of a death and a return, on the command line and for an operator's program.
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dns_xdp_tests::bed::cluster::stage;
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// The longest time for anything that needs a verdict, with the settings of [`Plan::quick`].
const SOON: Duration = Duration::from_secs(8);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_death_and_a_return_are_reported_in_order_to_every_listener() {
    stage(&Plan::quick(3), |cluster| {
        let heard = notify(&cluster.nodes[0], "cat >> heard")?;
        cluster.start()?;
        let follower = Follower::start(&cluster.nodes[0], &["events", "--follow", "--json"])?;
        cluster.nodes[1].die()?;
        let failover = wait_for(&cluster.nodes[0], "+failover")?;
        cluster.nodes[1].come_back()?;
        let failback = wait_for(&cluster.nodes[0], "-failback")?;

        let events = events(&cluster.nodes[0])?;
        in_order(&events, "node2", &["+suspect", "+down", "+failover", "-down", "-failback"])?;
        let own = ["192.0.2.12", "2001:db8::12"];
        let (old, away) = answers(&failover, "node2.demo.example.com.")?;
        assert!(old == own && !away.is_empty() && own.iter().all(|own| !away.contains(own)), "{failover:#}");
        let (before, back) = answers(&failback, "node2.demo.example.com.")?;
        assert!(before == away && back == own, "{failback:#}");
        for (seq, event) in (1..).zip(&events) {
            assert_eq!(event["seq"], seq, "they are numbered without gaps");
        }

        let told = |path: &Path| {
            wait::until(&format!("{} has every event", path.display()), SOON, || {
                let told = lines(path)?;
                ensure!(told.starts_with(&events), "it has {} of {}", told.len(), events.len());
                Ok(())
            })
        };
        told(&heard)?;
        told(&follower.stdout)?;
        let log = fs::read_to_string(&cluster.nodes[0].log)?;
        ensure!(log.contains("+failover node2: node2 is down (timeout); "), "{log}");
        let text = cluster.nodes[0].cli_ok(&["events"])?;
        ensure!(text.lines().count() >= events.len() && text.contains("-failback"), "{text}");
        let last =
            cluster.nodes[0].cli_ok(&["events", "--json", "--since", &(events.len() - 1).to_string()])?;
        ensure!(objects(&last)?.first() == events.last(), "{last}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_command_that_hangs_is_killed_and_delays_nothing() {
    stage(&Plan::quick(3), |cluster| {
        let node = &cluster.nodes[0];
        notify(node, "echo at work; sleep 300")?;
        node.edit_config("[events]\n", "[events]\non-event-timeout = \"2s\"\n")?;
        cluster.start()?;
        cluster.nodes[1].kill_database()?;
        let start = Instant::now();
        let down = wait_for(&cluster.nodes[0], "+failover")?;
        ensure!(start.elapsed() < Duration::from_secs(2), "{:?}: {down:#}", start.elapsed());
        wait::until("the first runs are given up", SOON, || {
            let stats: Value = serde_json::from_str(&cluster.nodes[0].cli_ok(&["stats", "--json"])?)?;
            let failures = &stats["controller"]["on-event-failures"];
            ensure!(failures.as_u64() >= Some(2), "{failures} are");
            Ok(())
        })?;
        let log = fs::read_to_string(&cluster.nodes[0].log)?;
        ensure!(log.contains("): killed after 2s: at work"), "{log}");

        let node = &cluster.nodes[0];
        let heard = notify(node, "cat >> heard")?;
        node.cli_ok(&["reload"])?;
        wait::until("the new command hears the next events", SOON, || {
            ensure!(lines(&heard)?.iter().any(|event| event["kind"] == "reload"), "not yet");
            Ok(())
        })?;
        let refused = {
            fs::remove_file(node.config.with_file_name("notify"))?;
            node.cli(&["reload"])?
        };
        let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(2) && stderr.contains("`on-event` begins with "), "{stderr}");
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        let left = cluster.nodes[0].namespace.pids()?;
        ensure!(left.len() == 1, "besides the database there is something left: {left:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_follower_goes_on_over_a_restart_and_ends_with_0_by_ctrl_c() {
    stage(&Plan::quick(2), |cluster| {
        cluster.start()?;
        let mut follower = Follower::start(&cluster.nodes[0], &["events", "--follow"])?;
        follower.wait_for("start")?;
        cluster.nodes[0].cli_ok(&["node", "drain", "node2", "--force", "--reason", "new disk"])?;
        follower.wait_for("admin         node2         drain by ")?;
        follower.wait_for("+failover     node2         node2 is drain (new disk); ")?;
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        follower.wait_for("stop")?;
        cluster.nodes[0].start()?;
        cluster.nodes[0].cli_ok(&["node", "auto", "node2"])?;
        follower.wait_for("-failback     node2         node2 is up; ")?;
        let said = fs::read_to_string(&follower.stderr)?;
        ensure!(said.starts_with("the daemon is gone: waiting for it\n"), "{said}");
        ensure!(said.contains("the daemon was started again at "), "{said}");
        let status = follower.interrupt()?;
        ensure!(status == Some(0), "{status:?}");
        Ok(())
    });
}

/// Makes the node report its events to a script beside its configuration file. The script runs in that directory.
/// Returns the path of the file `heard`, which the script writes.
fn notify(node: &Node, script: &str) -> Result<PathBuf> {
    let directory = node.config.parent().context("the configuration has a directory")?;
    let program = directory.join("notify");
    // A running script cannot be written; a new one can take its name.
    let new = directory.join("notify.new");
    fs::write(&new, format!("#!/bin/sh\ncd {}\n{script}\n", directory.display()))?;
    fs::set_permissions(&new, Permissions::from_mode(0o755))?;
    fs::rename(&new, &program)?;
    if !node.config_text()?.contains("[events]") {
        node.edit_config("[failover]\n", &format!("[events]\non-event = [{program:?}]\n[failover]\n"))?;
    }
    Ok(directory.join("heard"))
}

fn events(node: &Node) -> Result<Vec<Value>> {
    objects(&node.cli_ok(&["events", "--json"])?)
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    if path.exists() { objects(&fs::read_to_string(path)?) } else { Ok(Vec::new()) }
}

fn objects(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// The first event of a kind about node2.
fn wait_for(node: &Node, kind: &str) -> Result<Value> {
    let (event, _) = wait::until(&format!("{} tells {kind}", node.name), SOON, || {
        let events = events(node)?;
        let found = events.iter().find(|event| event["kind"] == kind && event["subject"] == "node2");
        found.cloned().with_context(|| format!("{:?}", events.last()))
    })?;
    Ok(event)
}

fn in_order(events: &[Value], subject: &str, kinds: &[&str]) -> Result<()> {
    let mut told = events.iter().filter(|event| event["subject"] == subject).map(|event| &event["kind"]);
    for kind in kinds {
        ensure!(told.any(|told| told == kind), "{kind} is not where it should be: {events:#?}");
    }
    Ok(())
}

/// The old and new answers of a name in an event.
fn answers<'e>(event: &'e Value, name: &str) -> Result<(Vec<&'e str>, Vec<&'e str>)> {
    let changes = event["answers"].as_array().context("the answers are a list")?;
    let change = changes.iter().find(|change| change["name"] == name);
    let change = change.with_context(|| format!("{name} is not in {event:#}"))?;
    let list = |key: &str| -> Vec<&'e str> {
        change[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    Ok((list("old"), list("new")))
}

/// `events --follow` under way.
struct Follower {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Follower {
    fn start(node: &Node, arguments: &[&str]) -> Result<Self> {
        let [stdout, stderr] = ["followed", "follower"].map(|name| node.config.with_file_name(name));
        let mut command = Command::new(process::sibling("dns-xdp")?);
        command.arg("--socket").arg(&node.socket).args(arguments).process_group(0);
        command.stdin(Stdio::null()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        Ok(Follower { child: node.namespace.spawn(&mut command)?, stdout, stderr })
    }

    fn wait_for(&self, text: &str) -> Result<()> {
        wait::until(&format!("the follower shows {text:?}"), SOON, || {
            let shown = fs::read_to_string(&self.stdout)?;
            ensure!(shown.contains(text), "{shown}");
            Ok(())
        })?;
        Ok(())
    }

    fn interrupt(&mut self) -> Result<Option<i32>> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGINT)?;
        let (status, _) =
            wait::until("the follower ends", SOON, || self.child.try_wait()?.context("it goes on"))?;
        Ok(status.code())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        // It may have ended.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
