//! Scenes: nodes die and come back, and the answers of every server meanwhile.
use std::time::Duration;

use anyhow::ensure;
use dns_xdp_tests::bed::cluster::scene;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::views::{SOON, agreed_substitute, no_server_answers, wait_for_address};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_dead_nodes_name_answers_a_healthy_nodes_address_on_every_server_until_it_is_back() {
    scene(&Plan::quick(3), |cluster| {
        cluster.nodes[1].die()?;
        let living = [0, 2];
        let substitute = agreed_substitute(cluster, &living, 1)?;
        ensure!(
            living.iter().any(|node| cluster.nodes[*node].ipv4() == substitute),
            "{substitute} is no node's"
        );
        no_server_answers(cluster, &living, 1)?;
        cluster.nodes[1].come_back()?;
        for server in 0..3 {
            wait_for_address(cluster, server, "node2", cluster.nodes[1].ipv4(), SOON)?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn with_the_default_settings_a_client_sees_the_change_within_4_seconds() {
    scene(&Plan::new(3), |cluster| {
        let dead = cluster.nodes[2].ipv4();
        cluster.nodes[2].die()?;
        let dns = cluster.dns_client()?;
        let qname = format!("node3.{ZONE}.");
        wait::until("both servers answer another address", Duration::from_secs(4), || {
            for node in &cluster.nodes[..2] {
                let addresses = dns.addresses(node.ipv4(), &qname, RecordType::A)?;
                ensure!(!addresses.contains(&dead), "{} answers {addresses:?}", node.name);
            }
            Ok(())
        })?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_node_whose_database_alone_is_dead_is_replaced_by_its_own_daemon_too() {
    scene(&Plan::quick(3), |cluster| {
        cluster.nodes[0].kill_database()?;
        let servers = [0, 1, 2];
        agreed_substitute(cluster, &servers, 0)?;
        no_server_answers(cluster, &servers, 0)?;
        let status = cluster.nodes[0].status()?;
        assert_eq!(status["nodes"][0]["effective"], "down", "{status:#}");
        assert_eq!(status["quorum"]["ok"], true, "a refused connection is visible: {status:#}");
        cluster.nodes[0].start_database()?;
        for server in servers {
            wait_for_address(cluster, server, "node1", cluster.nodes[0].ipv4(), SOON)?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_backups_take_over_in_their_order() {
    let plan = Plan::quick(3).line("node1", "backup = [\"node3\", \"node2\"]");
    scene(&plan, |cluster| {
        cluster.nodes[0].kill_database()?;
        wait_for_address(cluster, 1, "node1", cluster.nodes[2].ipv4(), SOON)?;
        cluster.nodes[2].kill_database()?;
        for name in ["node1", "node3"] {
            wait_for_address(cluster, 1, name, cluster.nodes[1].ipv4(), SOON)?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn with_all_nodes_down_every_name_answers_its_configured_address() {
    scene(&Plan::quick(3), |cluster| {
        for node in &mut cluster.nodes {
            node.kill_database()?;
        }
        for server in &cluster.nodes {
            wait::until("the server fails open", SOON, || {
                let status = server.status()?;
                ensure!(status["fail_open"] == true, "{status:#}");
                Ok(())
            })?;
        }
        for (server, node) in (0..3).flat_map(|server| (0..3).map(move |node| (server, node))) {
            let name = cluster.nodes[node].name.clone();
            wait_for_address(cluster, server, &name, cluster.nodes[node].ipv4(), SOON)?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_server_that_sees_no_node_freezes_instead_of_judging() {
    scene(&Plan::quick(3), |cluster| {
        // A node that is cut off sees only its own database: 1 of 3.
        cluster.nodes[0].pull_cable()?;
        let isolated = &cluster.nodes[0];
        wait::until("the isolated node knows it", SOON, || {
            let status = isolated.status()?;
            ensure!(status["quorum"]["ok"] == false, "{status:#}");
            Ok(())
        })?;
        let status = isolated.status()?;
        for (index, node) in cluster.nodes.iter().enumerate() {
            assert_eq!(status["nodes"][index]["answers"][0], node.ipv4().to_string(), "{status:#}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn fixed_ns_addresses_stay_with_the_glue() {
    let plan = Plan::quick(2).line("zone", "ns-addresses = \"fixed\"").line("failover", "quorum = 1");
    scene(&plan, |cluster| {
        let dead = cluster.nodes[1].ipv4();
        cluster.nodes[1].die()?;
        wait_for_address(cluster, 0, "node2", cluster.nodes[0].ipv4(), SOON)?;
        wait_for_address(cluster, 0, "ns2", dead, SOON)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_restarted_daemon_does_not_bring_the_dead_address_back() {
    scene(&Plan::quick(3), |cluster| {
        cluster.nodes[1].die()?;
        agreed_substitute(cluster, &[0, 2], 1)?;
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        cluster.nodes[0].start()?;
        no_server_answers(cluster, &[0, 2], 1)
    });
}
