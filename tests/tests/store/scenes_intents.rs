//! Scenes: an operator is obeyed while the store is away, and nodes that fell are held on every server.
use std::time::Duration;

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::agreement::{wait_for_agreement, wait_for_mode};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::etcd::Access;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;

const ALL: [usize; 3] = [0, 1, 2];
const LIMIT: Duration = Duration::from_secs(15);

fn plan() -> Plan {
    Plan::quick(3).on_etcd(Access::Open).line("cluster", "lease = \"2s\"")
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn a_drain_of_one_server_while_the_store_is_away_is_every_servers_when_it_is_back() {
    scene(&plan(), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let reached = cluster.nodes[0].cli(&["node", "drain", "node2", "--local"])?;
        let told = String::from_utf8_lossy(&reached.stderr).into_owned();
        ensure!(reached.status.code() == Some(1) && told.contains("the store is reached"), "{told}");

        for member in 0..3 {
            cluster.etcd()?.members[member].kill()?;
        }
        for server in ALL {
            wait_for_mode(&cluster.nodes[server], "alone")?;
        }
        let refused = cluster.nodes[0].cli(&["node", "drain", "node2"])?;
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(1) && told.contains("--local"), "{told}");
        cluster.nodes[0].cli_ok(&["node", "drain", "node2", "--local", "--reason", "its disk burns"])?;
        is_answered(cluster, 0, false)?;
        is_answered(cluster, 2, true)?;
        let status = cluster.nodes[0].status()?;
        ensure!(status["nodes"][1]["local"] == true, "{:#}", status["nodes"][1]);
        ensure!(status["alarms"].to_string().contains("on this server alone"), "{:#}", status["alarms"]);

        cluster.etcd()?.start_all()?;
        for server in ALL {
            wait::until("every server drains it", LIMIT, || {
                let node = &cluster.nodes[server].status()?["nodes"][1];
                ensure!(node["admin"] == "drain" && node["local"] == false, "{node:#}");
                ensure!(node["reason"] == "its disk burns", "{node:#}");
                is_answered(cluster, server, false)
            })?;
        }
        wait_for_agreement(cluster, &ALL)?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn a_node_that_fell_is_held_by_every_server_and_failed_back_on_every_server() {
    scene(&plan().line("failover", "failback = \"manual\""), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        cluster.nodes[1].kill_database()?;
        for server in ALL {
            wait::until("node2 is out", LIMIT, || is_answered(cluster, server, false))?;
        }
        cluster.nodes[1].start_database()?;
        for server in ALL {
            wait::until("node2 is held", LIMIT, || {
                let node = &cluster.nodes[server].status()?["nodes"][1];
                ensure!(node["health"] == "up" && node["effective"] == "held", "{node:#}");
                Ok(())
            })?;
            is_answered(cluster, server, false)?;
        }
        wait_for_agreement(cluster, &ALL)?;
        cluster.nodes[2].cli_ok(&["node", "failback", "node2"])?;
        for server in ALL {
            wait::until("node2 is back", LIMIT, || is_answered(cluster, server, true))?;
        }
        wait_for_agreement(cluster, &ALL)?;
        Ok(())
    });
}

/// Whether a server answers node2's own address under its name.
fn is_answered(cluster: &Cluster, server: usize, wanted: bool) -> Result<()> {
    let client = cluster.dns_client()?;
    let name = format!("node2.{ZONE}.");
    let addresses = client.addresses(cluster.nodes[server].ipv4(), &name, RecordType::A)?;
    let is_answered = addresses.contains(&cluster.nodes[1].ipv4());
    ensure!(is_answered == wanted, "node2 is {addresses:?}");
    Ok(())
}
