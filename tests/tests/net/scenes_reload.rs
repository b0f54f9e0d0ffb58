//! Scenes: truncated files, many signals, and slow clients that delay no other client.
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::bed::cluster::scene;
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::wait;
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(8);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_file_that_was_cut_off_between_two_nodes_is_held_back_until_it_is_whole_or_forced() {
    scene(&Plan::quick(3).line("control", "watch = true"), |cluster| {
        let node = &cluster.nodes[0];
        let whole = node.config_text()?;
        let end = whole.find("[[node]]\nname = \"node2\"").context("no node2")?;
        fs::write(&node.config, &whole[..end])?;
        wait::until("the cut file is an alarm", SOON, || {
            let alarms = alarms(node)?;
            ensure!(alarms.contains("2 of 3 nodes") && alarms.contains("reload --force"), "{alarms}");
            Ok(())
        })?;
        assert_eq!(nodes(node)?, 3);
        let refused = node.cli(&["reload"])?;
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(1) && told.contains("dns-xdp reload --force"), "{told}");

        fs::write(&node.config, &whole)?;
        wait::until("the whole file ends the alarm", SOON, || {
            ensure!(alarms(node)? == "[]", "{}", alarms(node)?);
            Ok(())
        })?;
        let events = node.cli_ok(&["events"])?;
        for (kind, count) in [("+held-back", 1), ("-held-back", 1), ("  reload  ", 0)] {
            ensure!(events.matches(kind).count() == count, "{kind}: {events}");
        }

        fs::write(&node.config, &whole[..end])?;
        node.cli_ok(&["reload", "--force"])?;
        assert_eq!(nodes(node)?, 1);
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn signals_on_an_unchanged_file_leave_no_events() {
    scene(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let before = node.cli_ok(&["events"])?;
        for _ in 0..300 {
            node.signal(Signal::SIGHUP)?;
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_secs(2));
        assert_eq!(node.cli_ok(&["events"])?, before);
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn halves_of_requests_do_not_delay_a_command() {
    const HALF: &[u8] = b"POST /command HTTP/1.1\r\nhost: x\r\ncontent-length: 90\r\n\r\n{";
    scene(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let mut halves = Vec::new();
        for half in [&HALF[..20], HALF].into_iter().cycle().take(300) {
            let mut stream = UnixStream::connect(&node.socket)?;
            stream.write_all(half)?;
            halves.push(stream);
        }
        let start = Instant::now();
        node.status()?;
        ensure!(start.elapsed() < Duration::from_secs(3), "status took {:?}", start.elapsed());
        Ok(())
    });
}

fn alarms(node: &Node) -> Result<String> {
    Ok(node.status()?["alarms"].to_string())
}

fn nodes(node: &Node) -> Result<usize> {
    Ok(node.status()?["nodes"].as_array().map_or(0, Vec::len))
}
