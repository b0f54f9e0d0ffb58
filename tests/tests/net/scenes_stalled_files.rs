//! Scenes: files whose reads or writes hang, and the work that continues nevertheless.
use std::fs;
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, stage};
use dns_xdp_tests::bed::filesystem::Filesystem;
use dns_xdp_tests::bed::node::healths;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::views::{SOON, agreed_substitute, no_server_answers, wait_for_address};
use dns_xdp_tests::bed::wait;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;

/// The daemon gives up the work of a change after 10 s. The rest is for a busy machine.
const REFUSED_WITHIN: Duration = Duration::from_secs(15);
/// A command that touches no file.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_frozen_state_file_holds_up_neither_failover_nor_status_nor_the_end_of_a_drain() {
    stage(&Plan::quick(3), |cluster| {
        let disk = on_a_disk_of_its_own(cluster)?;
        cluster.start()?;
        let node1 = &cluster.nodes[0];
        let [second, third] = [1, 2].map(|node| cluster.nodes[node].ipv4());
        node1.cli_ok(&["node", "drain", "node3", "--for", "3s"])?;
        disk.freeze()?;

        // The drain ends at its time, although the file cannot be written.
        wait_for_address(cluster, 0, "node3", third, SOON)?;
        // A death is detected and repaired.
        cluster.nodes[1].die()?;
        agreed_substitute(cluster, &[0, 2], 1)?;
        no_server_answers(cluster, &[0, 2], 1)?;
        let node1 = &cluster.nodes[0];
        let (status, took) = timed(|| node1.status())?;
        ensure!(took < ANSWERED_WITHIN, "status took {took:?}");
        ensure!(healths(&status)? == ["up", "down", "up"], "{status:#}");

        // An intent that cannot be kept is refused, and does not count.
        let (refused, took) = timed(|| node1.cli(&["node", "drain", "node3", "--force"]))?;
        let told = stderr(&refused);
        ensure!(refused.status.code() == Some(1) && took < REFUSED_WITHIN, "after {took:?}: {told}");
        let state = disk.path().join("state");
        ensure!(told.contains(&state.display().to_string()) && told.contains("within 10 s"), "{told}");
        let status = node1.status()?;
        ensure!(status["nodes"][2]["admin"] == "auto", "{status:#}");
        let alarms = status["alarms"].to_string();
        ensure!(alarms.contains(&state.display().to_string()), "no alarm tells of the file: {alarms}");
        wait_for_address(cluster, 0, "node3", third, SOON)?;

        disk.thaw()?;
        cluster.nodes[1].come_back()?;
        wait_for_address(cluster, 0, "node2", second, SOON)?;
        let node1 = &cluster.nodes[0];
        node1.cli_ok(&["node", "drain", "node3"])?;
        wait::until("no alarm is left", SOON, || {
            let status = node1.status()?;
            ensure!(status["alarms"].as_array().is_some_and(Vec::is_empty), "{}", status["alarms"]);
            Ok(())
        })?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_daemon_whose_state_file_is_frozen_ends_on_sigterm_and_the_next_one_takes_over() {
    stage(&Plan::quick(2), |cluster| {
        let disk = on_a_disk_of_its_own(cluster)?;
        cluster.start()?;
        disk.freeze()?;
        cluster.nodes[1].kill_database()?;
        // The write of the answers hangs from now on.
        wait::until("node2 is down", SOON, || {
            let status = cluster.nodes[0].status()?;
            ensure!(healths(&status)? == ["up", "down"], "{status:#}");
            Ok(())
        })?;
        let node1 = &mut cluster.nodes[0];
        let daemon = node1.daemon()?;
        let start = Instant::now();
        node1.signal(Signal::SIGTERM)?;
        // The thread that waits for the disk cannot be killed. The rest of the process has to end.
        wait::until("the daemon has ended", SOON, || {
            ensure!(!node1.socket.exists(), "its control socket is there");
            let state = process_state(&format!("/proc/{daemon}"))?;
            ensure!(state == 'Z', "its state is {state}");
            Ok(())
        })?;
        println!("ended {:.2} s after SIGTERM", start.elapsed().as_secs_f64());

        // Nothing of the old daemon blocks a start, and neither does the disk.
        node1.leave_daemon();
        node1.start()?;
        wait::until("it answers", SOON, || {
            let status = node1.status()?;
            ensure!(healths(&status)? == ["up", "down"], "{status:#}");
            Ok(())
        })?;
        no_server_answers(cluster, &[0], 1)?;
        disk.thaw()
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_reload_of_a_file_without_an_end_is_refused_and_the_daemon_lives() {
    stage(&Plan::quick(3), |cluster| {
        cluster.start()?;
        let node1 = &cluster.nodes[0];
        let text = node1.config_text()?;
        // Opening a pipe blocks until there is a writer.
        fs::remove_file(&node1.config)?;
        nix::unistd::mkfifo(&node1.config, Mode::S_IRWXU)?;
        let reload = node1.cli_start(&["reload"])?;
        cluster.nodes[2].kill_database()?;
        agreed_substitute(cluster, &[0, 1, 2], 2)?;
        let node1 = &cluster.nodes[0];
        let (refused, took) = timed(|| Ok(reload.wait_with_output()?))?;
        let told = stderr(&refused);
        ensure!(refused.status.code() == Some(1) && took < REFUSED_WITHIN, "after {took:?}: {told}");
        ensure!(told.contains("nothing was changed") && told.contains("within 10 s"), "{told}");
        let (status, took) = timed(|| node1.status())?;
        ensure!(took < ANSWERED_WITHIN && healths(&status)? == ["up", "up", "down"], "{took:?}: {status:#}");

        fs::remove_file(&node1.config)?;
        fs::write(&node1.config, text)?;
        node1.cli_ok(&["reload"])?;
        cluster.nodes[2].start_database()?;
        cluster.wait_until_healthy()
    });
}

/// Puts the first node's state on a separate filesystem.
fn on_a_disk_of_its_own(cluster: &Cluster) -> Result<Filesystem> {
    let node = &cluster.nodes[0];
    let directory = node.config.parent().context("a configuration is in a directory")?;
    let disk = Filesystem::mount(directory, "disk")?;
    let (old, new) = (directory.join("node1.state"), disk.path().join("state"));
    node.edit_config(&old.display().to_string(), &new.display().to_string())?;
    Ok(disk)
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    let done = work()?;
    Ok((done, start.elapsed()))
}

/// The letter of a process's state; `Z`: the process has ended, and its parent has not yet waited for it.
fn process_state(process: &str) -> Result<char> {
    let stat = fs::read_to_string(format!("{process}/stat")).context("the process is gone")?;
    // The program's name, which may hold anything, is in parentheses before it.
    let behind = stat.rsplit(") ").next().unwrap_or_default();
    behind.chars().next().context("the process has no state")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
