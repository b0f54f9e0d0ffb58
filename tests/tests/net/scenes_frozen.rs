//! Scenes: a server without a quorum keeps its answers, even over a restart, and obeys its operator.
use anyhow::{Result, ensure};
use dns_xdp_tests::bed::cluster::scene;
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::views::{SOON, wait_for_address};
use dns_xdp_tests::bed::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_start_without_a_quorum_answers_what_was_answered_before_and_obeys_its_operator() {
    scene(&Plan::quick(3), |cluster| {
        let [node1, node2, _] = [0, 1, 2].map(|node| cluster.nodes[node].ipv4());
        cluster.nodes[1].die()?;
        wait::until("another node answers for node2", SOON, || {
            let status = cluster.nodes[0].status()?;
            ensure!(status["nodes"][1]["answers"][0] != node2.to_string(), "{status:#}");
            Ok(())
        })?;
        cluster.nodes[2].die()?;
        let before = frozen(&cluster.nodes[0])?;
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            cluster.nodes[0].stop(signal)?;
            cluster.nodes[0].start()?;
            let after = frozen(&cluster.nodes[0])?;
            ensure!(before == after, "{before:?} became {after:?}");
        }
        let server = &cluster.nodes[0];
        server.cli_ok(&["node", "up", "node2"])?;
        wait_for_address(cluster, 0, "node2", node2, SOON)?;
        server.cli_ok(&["node", "down", "node3"])?;
        wait_for_address(cluster, 0, "node3", node1, SOON)?;
        let refused = server.cli(&["node", "auto", "node2"])?;
        ensure!(!refused.status.success(), "no probe decides: {refused:?}");
        Ok(())
    });
}

/// The answer for each node's name, once the server's answers are frozen.
fn frozen(server: &Node) -> Result<Vec<Value>> {
    let (status, _) = wait::until("the answers are frozen", SOON, || {
        let status = server.status()?;
        ensure!(!status["frozen"].is_null(), "{status:#}");
        Ok(status)
    })?;
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    Ok(nodes.into_iter().map(|node| node["answers"].clone()).collect())
}
