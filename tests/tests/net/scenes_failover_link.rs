//! Scenes: a server with bad links to other nodes, and how it decides.
use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::cluster::{scene, stage};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::views::{SOON, wait_for_address};
use dns_xdp_tests::bed::wait;
use dns_xdp_tests::bed::watch::{Question, Watch, all_answered, since};
use serde_json::{Value, json};

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_node_to_which_every_other_connection_fails_is_found_out() {
    scene(&Plan::quick(3), |cluster| {
        let [node1, node2, node3] = [0, 1, 2].map(|node| cluster.nodes[node].ipv4());
        let questions = Question::all(&[node1, node3], &["node1", "node2", "node3"]);
        let watch = Watch::start(&cluster.client, questions)?;
        cluster.halve(1)?;
        let servers = [&cluster.nodes[0], &cluster.nodes[2]];
        for server in servers {
            wait_for_status(server, "/nodes/1/effective", &json!("down"))?;
            // Single probes succeed, so the node is not silent.
            wait_for_status(server, "/nodes/1/health", &json!("recovering"))?;
        }
        let found_out = Instant::now();
        sleep(Duration::from_secs(2));
        let (changes, _) = watch.finish()?;
        all_answered(&changes)?;
        for change in since(&changes, found_out).filter(|change| change.question.label == "node2") {
            ensure!(change.answer != Ok(vec![node2]), "it came back: {change}");
        }
        for (label, address) in [("node1", node1), ("node3", node3)] {
            let mut others = changes.iter().filter(|change| change.question.label == label);
            ensure!(others.all(|change| change.answer == Ok(vec![address])), "{label} suffers: {changes:?}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn of_two_nodes_the_survivor_takes_over_when_it_sees_the_witness_and_freezes_when_not() {
    const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let plan = Plan::quick(2).line("failover", &format!("witness = [\"{GATEWAY}\"]"));
    stage(&plan, |cluster| {
        let (_namespace, gateway) = cluster.plug("gateway", &[GATEWAY])?;
        cluster.start()?;
        let [survivor, other] = [0, 1].map(|node| cluster.nodes[node].ipv4());

        cluster.nodes[1].pull_cable()?;
        wait_for_address(cluster, 0, "node2", survivor, SOON)?;
        wait_for_status(&cluster.nodes[0], "/quorum/visible", &json!(2))?;
        cluster.nodes[1].put_cable_back()?;
        wait_for_address(cluster, 0, "node2", other, SOON)?;

        gateway.pull()?;
        wait_for_status(&cluster.nodes[0], "/quorum/visible", &json!(2))?;
        let watch = Watch::start(&cluster.client, Question::all(&[survivor], &["node1", "node2", "@"]))?;
        cluster.nodes[1].pull_cable()?;
        wait_for_status(&cluster.nodes[0], "/quorum/ok", &json!(false))?;
        wait_for_status(&cluster.nodes[0], "/nodes/1/health", &json!("down"))?;
        sleep(Duration::from_secs(1));
        let (changes, _) = watch.finish()?;
        all_answered(&changes)?;
        ensure!(changes.len() == 3, "a frozen server changes nothing: {changes:?}");
        Ok(())
    });
}

/// Waits until a server's status has this value at this place (RFC 6901).
fn wait_for_status(server: &Node, pointer: &str, value: &Value) -> Result<()> {
    wait::until(&format!("{} has {value} at {pointer}", server.name), SOON, || {
        let status = server.status()?;
        ensure!(status.pointer(pointer) == Some(value), "{status:#}");
        Ok(())
    })?;
    Ok(())
}
