//! Scenes: a log that cannot be written, and a daemon that works nevertheless.
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Write as _, pipe};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::cluster::stage;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::views::{SOON, agreed_substitute, no_server_answers, wait_for_address};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::Signal;

/// The limit for a command and for the end of a daemon. Only the end waits for the log, for its last lines.
const WITHIN: Duration = Duration::from_secs(3);
/// The smallest pipe: a page.
const PIPE: i32 = 4096;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_log_that_has_no_reader_no_room_or_a_stuck_reader_holds_nothing_up() {
    stage(&Plan::quick(3), |cluster| {
        let (reader, gone) = pipe()?;
        drop(reader);
        let full = File::options().write(true).open("/dev/full")?;
        let (reader, stuck) = full_pipe()?;
        let logs: [Stdio; 3] = [gone.into(), full.into(), stuck.into()];
        for (node, log) in cluster.nodes.iter_mut().zip(logs) {
            node.start_database()?;
            node.spawn_with_log(&[], log)?;
        }
        for node in &mut cluster.nodes {
            node.wait_until_ready()?;
        }
        cluster.wait_until_healthy()?;
        for server in 0..3 {
            let start = Instant::now();
            cluster.nodes[server].cli_ok(&["node", "drain", "node2"])?;
            cluster.nodes[server].cli_ok(&["node", "auto", "node2"])?;
            ensure!(start.elapsed() < WITHIN, "after {:?}", start.elapsed());
        }
        let servers = [0, 1, 2];
        for _ in 0..2 {
            cluster.nodes[2].kill_database()?;
            agreed_substitute(cluster, &servers, 2)?;
            no_server_answers(cluster, &servers, 2)?;
            cluster.nodes[2].start_database()?;
            for server in servers {
                wait_for_address(cluster, server, "node3", cluster.nodes[2].ipv4(), SOON)?;
            }
        }
        for node in &mut cluster.nodes {
            let start = Instant::now();
            let status = node.stop(Signal::SIGTERM)?;
            ensure!(status.success(), "{} ended with {status}", node.name);
            ensure!(start.elapsed() < WITHIN, "{} took {:?}", node.name, start.elapsed());
        }
        drop(reader);
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn an_exit_code_is_the_same_if_the_error_is_not_read() {
    for verb in ["run", "check"] {
        let (reader, stderr) = pipe().expect("there is room for a pipe");
        drop(reader);
        let program = process::sibling("dns-xdp").expect("it is built");
        let mut command = Command::new(program);
        command.args([verb, "--config", "/nonexistent"]).stdout(Stdio::null()).stderr(stderr);
        let status = command.status().expect("it can be started");
        assert_eq!(status.code(), Some(2), "{verb}");
    }
}

/// A full pipe.
fn full_pipe() -> Result<(PipeReader, PipeWriter)> {
    let (reader, mut writer) = pipe()?;
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(PIPE))?;
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    while writer.write(b"x").is_ok() {}
    // The daemon's end of the pipe blocks, which is a pipe's default.
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok((reader, writer))
}
