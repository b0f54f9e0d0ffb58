//! Scenes: a node that fell stays out of the answers after its recovery.
use std::time::Duration;

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_node_that_dies_and_returns_stays_out_until_it_is_failed_back() {
    let database = "[[service]]\nname = \"db\"\nnodes = [\"node1\", \"node2\"]\n";
    scene(&Plan::quick(3).line("failover", "failback = \"manual\"").tables(database), |cluster| {
        cluster.nodes[1].kill_database()?;
        for server in [0, 2] {
            wait::until("node2 is out", LIMIT, || is_answered(cluster, server, "node2", false))?;
        }
        cluster.nodes[1].start_database()?;
        for server in [0, 2] {
            wait::until("node2 is held", LIMIT, || {
                let node = &cluster.nodes[server].status()?["nodes"][1];
                ensure!(node["health"] == "up" && node["effective"] == "held", "{node:#}");
                ensure!(node["held"]["since"].is_string() && node["held"]["until"].is_null(), "{node:#}");
                Ok(())
            })?;
            is_answered(cluster, server, "node2", false)?;
            is_answered(cluster, server, "db", false)?;
        }
        let shown = cluster.nodes[0].cli_ok(&["status"])?;
        // A line of the table may end within it.
        let words: Vec<&str> = shown.split_whitespace().collect();
        ensure!(words.join(" ").contains("dns-xdp node failback node2"), "{shown}");

        cluster.nodes[0].stop(Signal::SIGTERM)?;
        cluster.nodes[0].start()?;
        is_answered(cluster, 0, "node2", false)?;

        for server in [0, 2] {
            cluster.nodes[server].cli_ok(&["node", "failback", "node2"])?;
            is_answered(cluster, server, "node2", true)?;
            is_answered(cluster, server, "db", true)?;
        }
        let again = cluster.nodes[0].cli(&["node", "failback", "node2"])?;
        let told = String::from_utf8_lossy(&again.stderr).into_owned();
        ensure!(again.status.success() && told.contains("`node2` is not held"), "{told}");
        let events = cluster.nodes[0].cli_ok(&["events"])?;
        ensure!(events.contains("-held") && events.contains("failed back by "), "{events}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_node_comes_back_by_itself_after_the_hold_down() {
    scene(&Plan::quick(3).line("failover", "hold-down = \"4s\""), |cluster| {
        cluster.nodes[1].kill_database()?;
        wait::until("node2 is out", LIMIT, || is_answered(cluster, 0, "node2", false))?;
        cluster.nodes[1].start_database()?;
        wait::until("node2 is healthy", LIMIT, || {
            let node = &cluster.nodes[0].status()?["nodes"][1];
            ensure!(node["held"]["until"].is_string(), "{node:#}");
            Ok(())
        })?;
        is_answered(cluster, 0, "node2", false)?;
        let back = || is_answered(cluster, 0, "node2", true);
        let (_, took) = wait::until("node2 is back", LIMIT, back)?;
        ensure!(took > Duration::from_secs(2), "too early: {took:?}");
        Ok(())
    });
}

/// Whether a server answers node2's address under a name.
fn is_answered(cluster: &Cluster, server: usize, label: &str, wanted: bool) -> Result<()> {
    let client = cluster.dns_client()?;
    let name = format!("{label}.{ZONE}.");
    let addresses = client.addresses(cluster.nodes[server].ipv4(), &name, RecordType::A)?;
    let is_answered = addresses.contains(&cluster.nodes[1].ipv4());
    ensure!(is_answered == wanted, "{label} is {addresses:?}");
    Ok(())
}
