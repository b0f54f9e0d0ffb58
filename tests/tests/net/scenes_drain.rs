//! Scenes: nodes that an operator takes out for a while, and the effect for clients and caches.
use std::process::{Child, Output};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::client::addresses_in;
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Every name that may have the address of a node.
const NAMES: [&str; 7] = ["node1", "node2", "node3", "ns1", "ns2", "ns3", "@"];

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_drain_that_breaks_the_quorum_is_refused_and_can_be_forced() {
    scene(&Plan::quick(3), |cluster| {
        let node = &cluster.nodes[0];
        node.cli_ok(&["node", "drain", "node2"])?;
        let refused = node.cli(&["node", "drain", "node3"])?;
        let told = stderr(&refused);
        assert_eq!(refused.status.code(), Some(1), "{told}");
        assert!(
            told.contains("leave 1 node in the answers")
                && told.contains("the quorum's 2")
                && told.contains("--force"),
            "{told}"
        );
        assert_eq!(wanted(cluster, 2)?["admin"], "auto");
        expect(cluster, "node3", &["192.0.2.13"])?;

        node.cli_ok(&["node", "drain", "node2", "--reason", "it is drained already"])?;
        node.cli_ok(&["node", "drain", "node3", "--force"])?;
        for name in ["node1", "node2", "node3", "@"] {
            expect(cluster, name, &["192.0.2.11"])?;
        }
        node.cli_ok(&["node", "drain", "node3"])?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn waiting_for_a_drain_takes_the_ttl_and_then_no_answer_has_the_address() {
    scene(&Plan::quick(3).line("zone", "ttl = \"3s\""), |cluster| {
        let node = &cluster.nodes[0];
        let took = |arguments: &[&str]| -> Result<Duration> {
            let start = Instant::now();
            node.cli_ok(arguments)?;
            Ok(start.elapsed())
        };
        let drain = ["node", "drain", "node2", "--wait"];
        let first = took(&drain)?;
        ensure!(first > Duration::from_millis(2900) && first < Duration::from_secs(6), "{first:?}");
        for name in NAMES {
            ensure!(!addresses(cluster, name)?.contains(&"192.0.2.12".to_owned()), "{name} has it");
        }
        assert_eq!(wanted(cluster, 1)?["cached_ms"], 0);
        let again = took(&drain)?;
        ensure!(again < Duration::from_secs(1), "nothing is left to wait for: {again:?}");

        node.cli_ok(&["node", "auto", "node2"])?;
        node.cli_ok(&["node", "down", "node2"])?;
        thread::sleep(Duration::from_secs(1));
        let rest = took(&["node", "down", "node2", "--wait"])?;
        ensure!(
            rest > Duration::from_secs(1) && rest < Duration::from_millis(2900),
            "only the rest: {rest:?}"
        );

        node.cli_ok(&["node", "auto", "node2"])?;
        let removed = took(&["node", "remove", "node2", "--ephemeral", "--wait"])?;
        ensure!(removed > Duration::from_millis(2900), "{removed:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_wait_ends_with_the_drain_or_with_ctrl_c_and_outlives_the_daemon() {
    scene(&Plan::quick(3).line("zone", "ttl = \"5s\""), |cluster| {
        let drain = ["node", "drain", "node2", "--wait"];
        let waiting = started(cluster, &drain)?;
        cluster.nodes[0].cli_ok(&["node", "auto", "node2"])?;
        let ended = waiting.wait_with_output()?;
        assert_eq!(ended.status.code(), Some(1));
        assert!(stderr(&ended).contains("`node2` is auto again by "), "{}", stderr(&ended));

        let waiting = started(cluster, &drain)?;
        kill(Pid::from_raw(waiting.id().try_into()?), Signal::SIGINT)?;
        let ended = waiting.wait_with_output()?;
        assert_eq!(ended.status.code(), Some(1));
        assert!(stderr(&ended).contains("`node2` stays out of the answers"), "{}", stderr(&ended));
        assert_eq!(wanted(cluster, 1)?["admin"], "drain");

        cluster.nodes[0].cli_ok(&["node", "auto", "node2"])?;
        let start = Instant::now();
        let waiting = started(cluster, &drain)?;
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        cluster.nodes[0].start()?;
        let ended = waiting.wait_with_output()?;
        ensure!(ended.status.success(), "{}", stderr(&ended));
        ensure!(start.elapsed() > Duration::from_millis(4900), "{:?}", start.elapsed());
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_drain_ends_by_itself_when_its_time_is_over() {
    scene(&Plan::quick(3), |cluster| {
        let node = &cluster.nodes[0];
        let start = Instant::now();
        node.cli_ok(&["node", "drain", "node2", "--for", "3s", "--reason", "a short one"])?;
        expect(cluster, "node2", &["192.0.2.13"]).or_else(|_| expect(cluster, "node2", &["192.0.2.11"]))?;
        let status = wanted(cluster, 1)?;
        ensure!(status["by"].is_string() && status["until"].is_string(), "{status:#}");
        let list = node.cli_ok(&["node", "list"])?;
        ensure!(list.contains(" until 20") && list.contains("a short one"), "{list}");
        wait::until("node2 is back", Duration::from_secs(8), || expect(cluster, "node2", &["192.0.2.12"]))?;
        ensure!(start.elapsed() > Duration::from_millis(2900), "too early: {:?}", start.elapsed());
        let status = wanted(cluster, 1)?;
        assert_eq!((&status["admin"], &status["until"]), (&"auto".into(), &Value::Null));
        let events = node.cli_ok(&["events"])?;
        ensure!(events.contains("its time is over; it was drain by "), "{events}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_end_of_a_drain_survives_a_restart_and_comes_while_the_daemon_is_away() {
    scene(&Plan::quick(3), |cluster| {
        let start = Instant::now();
        cluster.nodes[0].cli_ok(&["node", "drain", "node2", "--for", "15s"])?;
        let until = wanted(cluster, 1)?["until"].clone();
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        cluster.nodes[0].start()?;
        let status = wanted(cluster, 1)?;
        assert_eq!((&status["admin"], &status["until"]), (&"drain".into(), &until), "{:?}", start.elapsed());
        ensure!(!addresses(cluster, "node2")?.contains(&"192.0.2.12".to_owned()), "node2 is answered");
        wait::until("node2 is back", Duration::from_secs(20), || expect(cluster, "node2", &["192.0.2.12"]))?;
        ensure!(start.elapsed() > Duration::from_millis(14_900), "too early: {:?}", start.elapsed());

        let start = Instant::now();
        cluster.nodes[0].cli_ok(&["node", "drain", "node2", "--for", "5s"])?;
        assert_eq!(wanted(cluster, 1)?["admin"], "drain");
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        let stopped = start.elapsed();
        ensure!(stopped < Duration::from_secs(5), "the drain was over before the daemon: {stopped:?}");
        thread::sleep(Duration::from_millis(5100).saturating_sub(stopped));
        cluster.nodes[0].start()?;
        expect(cluster, "node2", &["192.0.2.12"])?;
        assert_eq!(wanted(cluster, 1)?["admin"], "auto");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_watched_file_is_taken_in_when_it_is_good_and_refused_whole_when_it_is_not() {
    scene(&Plan::quick(2).line("control", "watch = true"), |cluster| {
        let node = &cluster.nodes[0];
        node.edit_config("[zone]\n", "[zone]\nttl = \"7s\"\nttll = \"8s\"\n")?;
        wait::until("the bad file is an alarm", Duration::from_secs(8), || {
            let alarms = alarms(cluster)?;
            ensure!(alarms.contains("the last reload was refused") && alarms.contains("ttll"), "{alarms}");
            Ok(())
        })?;
        assert_eq!(ttl(cluster)?, 5);

        node.edit_config("ttll = \"8s\"\n", "")?;
        wait::until("the good file is in force", Duration::from_secs(8), || {
            ensure!(ttl(cluster)? == 7, "the ttl is as before");
            Ok(())
        })?;
        assert_eq!(alarms(cluster)?, "[]");

        // The daemon's own writes cause no reload: an ephemeral node would not survive it.
        node.cli_ok(&["node", "add", "node8", "--ipv4", "192.0.2.18", "--ephemeral"])?;
        node.cli_ok(&["node", "add", "node9", "--ipv4", "192.0.2.19"])?;
        thread::sleep(Duration::from_secs(3));
        let list = node.cli_ok(&["node", "list"])?;
        ensure!(list.contains("node8") && list.contains("node9"), "{list}");

        node.edit_config("watch = true", "watch = false")?;
        wait::until("the watch is off", Duration::from_secs(8), || {
            let list = node.cli_ok(&["node", "list"])?;
            ensure!(!list.contains("node8"), "the last reload has not come: {list}");
            Ok(())
        })?;
        node.edit_config("ttl = \"7s\"", "ttl = \"9s\"")?;
        thread::sleep(Duration::from_secs(3));
        assert_eq!(ttl(cluster)?, 7);
        Ok(())
    });
}

/// Starts a verb with `--wait` on the first node. Returns when its change is in force.
fn started(cluster: &Cluster, arguments: &[&str]) -> Result<Child> {
    let child = cluster.nodes[0].cli_start(arguments)?;
    wait::until("node2 is drained", Duration::from_secs(5), || {
        ensure!(wanted(cluster, 1)?["admin"] == "drain", "it is not yet");
        Ok(())
    })?;
    // The command has its answer, and waits for signals.
    thread::sleep(Duration::from_millis(200));
    Ok(child)
}

/// The first node's status of a node, counted from 0.
fn wanted(cluster: &Cluster, node: usize) -> Result<Value> {
    Ok(cluster.nodes[0].status()?["nodes"][node].clone())
}

fn alarms(cluster: &Cluster) -> Result<String> {
    let status = cluster.nodes[0].status()?;
    let alarms = status["alarms"].as_array().cloned().unwrap_or_default();
    let ours: Vec<Value> = alarms.into_iter().filter(|alarm| alarm.to_string().contains("reload")).collect();
    Ok(Value::from(ours).to_string())
}

fn ttl(cluster: &Cluster) -> Result<u32> {
    let response = cluster.ask(cluster.nodes[0].ipv4(), &format!("node1.{ZONE}."), RecordType::A)?;
    Ok(response.answers[0].ttl)
}

/// The answer of the first node's server for a name, in order.
fn addresses(cluster: &Cluster, name: &str) -> Result<Vec<String>> {
    let name = if name == "@" { format!("{ZONE}.") } else { format!("{name}.{ZONE}.") };
    let response = cluster.ask(cluster.nodes[0].ipv4(), &name, RecordType::A)?;
    let mut addresses: Vec<String> = addresses_in(&response).iter().map(ToString::to_string).collect();
    addresses.sort();
    Ok(addresses)
}

fn expect(cluster: &Cluster, name: &str, expected: &[&str]) -> Result<()> {
    let addresses = addresses(cluster, name)?;
    ensure!(addresses == expected, "{name} is {addresses:?}, not {expected:?}");
    Ok(())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
