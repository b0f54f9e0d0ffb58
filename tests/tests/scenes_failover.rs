//! Scenes: nodes die and come back, and what every server says meanwhile.
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use dns_xdp_tests::cluster::{Cluster, scene};
use dns_xdp_tests::node::Node;
use dns_xdp_tests::plan::{Plan, ZONE};
use dns_xdp_tests::wait;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

/// For anything that takes a verdict, with the settings of [`Plan::quick`].
const SOON: Duration = Duration::from_secs(8);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_dead_nodes_name_answers_a_healthy_nodes_address_on_every_server_until_it_is_back() {
    scene(&Plan::quick(3), |cluster| {
        cluster.nodes[1].die()?;
        let living = [0, 2];
        let substitute = agreed_substitute(cluster, &living, 1)?;
        ensure!(
            living.iter().any(|node| cluster.nodes[*node].ipv4() == substitute),
            "{substitute} is nobody's"
        );
        nobody_answers(cluster, &living, 1)?;
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
        let asker = cluster.asker()?;
        let qname = format!("node3.{ZONE}.");
        wait::until("both servers answer another address", Duration::from_secs(4), || {
            for node in &cluster.nodes[..2] {
                let addresses = asker.addresses(node.ipv4(), &qname, RecordType::A)?;
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
        nobody_answers(cluster, &servers, 0)?;
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
fn a_server_that_sees_nobody_freezes_instead_of_judging() {
    scene(&Plan::quick(3), |cluster| {
        // Its own database alone is visible to a node that is cut off: one of three.
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
        nobody_answers(cluster, &[0, 2], 1)
    });
}

/// Waits until all `servers` answer the same address, not its own, for the dead node's name.
fn agreed_substitute(cluster: &Cluster, servers: &[usize], dead: usize) -> Result<IpAddr> {
    let asker = cluster.asker()?;
    let dead = &cluster.nodes[dead];
    let qname = format!("{}.{ZONE}.", dead.name);
    let (address, _) = wait::until("the servers agree on a substitute", SOON, || {
        let mut views = Vec::new();
        for server in servers {
            views.extend(asker.addresses(cluster.nodes[*server].ipv4(), &qname, RecordType::A)?);
        }
        ensure!(views.iter().all(|view| *view == views[0] && *view != dead.ipv4()), "{views:?}");
        Ok(views[0])
    })?;
    Ok(address)
}

/// The dead address is in no section of any response, for no name.
fn nobody_answers(cluster: &Cluster, servers: &[usize], dead: usize) -> Result<()> {
    let asker = cluster.asker()?;
    let dead = &cluster.nodes[dead];
    let labels = cluster.nodes.iter().enumerate();
    let labels = labels.flat_map(|(index, node)| [format!("{}.", node.name), format!("ns{}.", index + 1)]);
    for label in labels.chain([String::new()]) {
        for (server, rtype) in servers
            .iter()
            .flat_map(|server| [RecordType::A, RecordType::AAAA, RecordType::NS].map(|rtype| (server, rtype)))
        {
            let server: &Node = &cluster.nodes[*server];
            let addresses = asker.every_address(server.ipv4(), &format!("{label}{ZONE}."), rtype)?;
            if addresses.iter().any(|address| dead.addresses.contains(address)) {
                bail!("{} answers {addresses:?} to {label}{ZONE} {rtype}", server.name);
            }
        }
    }
    Ok(())
}

fn wait_for_address(
    cluster: &Cluster,
    server: usize,
    name: &str,
    address: IpAddr,
    limit: Duration,
) -> Result<()> {
    let asker = cluster.asker()?;
    let server = &cluster.nodes[server];
    wait::until(&format!("{} answers {address} for {name}", server.name), limit, || {
        let addresses = asker.addresses(server.ipv4(), &format!("{name}.{ZONE}."), RecordType::A)?;
        ensure!(addresses == [address], "it answers {addresses:?}");
        Ok(())
    })?;
    Ok(())
}
