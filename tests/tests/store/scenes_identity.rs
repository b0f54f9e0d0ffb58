//! Scenes: an older or another store, two servers with one name, and credentials that change while the daemons run.
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::bed::agreement::{SOON, steady_but_for, store, wait_for_agreement, wait_for_mode, watch};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::etcd::{self, Access};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::wait;
use nix::sys::signal::Signal;

const SERVERS: usize = 3;
const ALL: [usize; SERVERS] = [0, 1, 2];
const LEASE: Duration = Duration::from_secs(2);
const NODES: &str = "config/nodes";

fn plan(access: Access) -> Plan {
    Plan::quick(SERVERS as u8).on_etcd(access).line("cluster", "lease = \"2s\"")
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn servers_that_start_beside_an_older_store_go_on_with_what_they_had_until_one_of_them_accepts_it() {
    scene(&plan(Access::Open), |cluster| {
        // The backup has intents: its documents are older, and none is missing.
        cluster.nodes[0].cli_ok(&["node", "up", "node1"])?;
        cluster.nodes[0].cli_ok(&["node", "auto", "node1"])?;
        wait_for_agreement(cluster, &ALL)?;
        let backup = cluster.etcd()?.save("older.backup")?;
        cluster.nodes[0].cli_ok(&["node", "down", "node2"])?;
        wait_for_agreement(cluster, &ALL)?;
        for node in &mut cluster.nodes {
            node.stop(Signal::SIGTERM)?;
        }
        cluster.etcd()?.restore(&backup)?;
        for node in &mut cluster.nodes {
            node.start()?;
        }
        // The second start shows that the first start did not overwrite the copy.
        cluster.nodes[2].stop(Signal::SIGKILL)?;
        cluster.nodes[2].start()?;
        for node in &cluster.nodes {
            wait_for_mode(node, "frozen")?;
            is_to_be(node, "down")?;
        }
        let shown = cluster.nodes[1].cli_ok(&["cluster", "accept", "--dry-run"])?;
        ensure!(shown.contains("node2 is to be auto, was to be down"), "{shown}");
        for node in &cluster.nodes {
            ensure!(store(node)?["mode"] == "frozen", "a dry run has accepted it: {}", store(node)?);
        }
        cluster.nodes[1].cli_ok(&["cluster", "accept"])?;
        wait_for_agreement(cluster, &ALL)?;
        cluster.nodes.iter().try_for_each(|node| is_to_be(node, "auto"))?;
        // The acceptance was only for this backup.
        cluster.nodes[0].cli_ok(&["node", "down", "node2"])?;
        wait_for_agreement(cluster, &ALL)?;
        cluster.etcd()?.restore(&backup)?;
        for node in &cluster.nodes {
            wait_for_mode(node, "frozen")?;
            is_to_be(node, "down")?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn of_two_servers_of_one_name_the_second_stays_alone_with_an_alarm() {
    scene(&plan(Access::Open), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        // The daemon after a killed or a replaced daemon counts as the same server.
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        cluster.nodes[0].start()?;
        cluster.nodes[1].replace()?;
        wait_for_agreement(cluster, &ALL)?;
        for node in &cluster.nodes[..2] {
            let log = std::fs::read_to_string(&node.log)?;
            ensure!(!log.contains("an earlier server") && !log.contains("call themselves"), "{log}");
        }
        let watched = watch(cluster, &ALL)?;
        let clone = &mut cluster.nodes[2];
        clone.edit_config("[cluster]\n", "[cluster]\nserver = \"node2\"\n")?;
        clone.stop(Signal::SIGTERM)?;
        clone.start()?;
        let clone = &cluster.nodes[2];
        let (trouble, _) = wait::until("the clone says so", SOON, || {
            let status = clone.status()?;
            let alarms = status["alarms"].to_string();
            ensure!(alarms.contains("two servers call themselves node2"), "{alarms}");
            ensure!(status["store"]["mode"] == "alone", "{}", status["store"]);
            Ok(alarms)
        })?;
        for address in ["192.0.2.12", "192.0.2.13"] {
            ensure!(trouble.contains(address), "{address} in {trouble}");
        }
        sleep(LEASE * 2);
        wait_for_agreement(cluster, &[0, 1])?;
        let clone = &mut cluster.nodes[2];
        clone.edit_config("server = \"node2\"\n", "")?;
        clone.stop(Signal::SIGTERM)?;
        clone.start()?;
        wait_for_agreement(cluster, &ALL)?;
        steady_but_for(watched, None).map(drop)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn a_document_that_is_deleted_stays_in_force_with_an_alarm() {
    scene(&plan(Access::Open), |cluster| {
        // It is the newest document.
        let nodes = cluster.etcd()?.read(NODES)?;
        cluster.etcd()?.write(NODES, nodes.trim_end())?;
        wait_for_agreement(cluster, &ALL)?;
        let watched = watch(cluster, &ALL)?;
        let key = format!("{}/{NODES}", etcd::prefix());
        cluster.etcd()?.ctl(&["del", &key])?;
        cluster.nodes.iter().try_for_each(|node| misses(node, NODES))?;
        let etcd = cluster.etcd.as_ref().context("no store")?;
        etcd.cut_off(&cluster.nodes[0])?;
        wait_for_mode(&cluster.nodes[0], "alone")?;
        etcd.join(&cluster.nodes[0])?;
        cluster.nodes[1].stop(Signal::SIGTERM)?;
        cluster.nodes[1].start()?;
        for node in &cluster.nodes {
            wait_for_mode(node, "joined")?;
            misses(node, NODES)?;
        }
        wait_for_agreement(cluster, &ALL)?;
        // Any change writes it again.
        cluster.nodes[2].cli_ok(&["node", "add", "node9", "--ipv4", "192.0.2.99"])?;
        cluster.nodes[2].cli_ok(&["node", "remove", "node9"])?;
        wait_for_agreement(cluster, &ALL)?;
        for node in &cluster.nodes {
            let alarms = node.status()?["alarms"].to_string();
            ensure!(!alarms.contains(NODES), "{}: {alarms}", node.name);
        }
        steady_but_for(watched, None).map(drop)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn credentials_that_change_are_read_again_for_the_next_connection() {
    for (access, word) in [(Access::Password, "password"), (Access::Certificate, "certificate")] {
        scene(&plan(access), |cluster| {
            wait_for_agreement(cluster, &ALL)?;
            let watched = watch(cluster, &ALL)?;
            cluster.etcd()?.spoil()?;
            sleep(LEASE);
            // An open connection continues.
            wait_for_agreement(cluster, &ALL)?;
            reconnect(cluster)?;
            for node in &cluster.nodes {
                wait::until(&format!("{} is not let in", node.name), SOON, || {
                    let store = store(node)?;
                    let trouble = store["trouble"].as_str().unwrap_or_default().to_lowercase();
                    ensure!(store["mode"] == "alone" && trouble.contains(word), "{store}");
                    Ok(())
                })?;
            }
            cluster.etcd()?.mend()?;
            wait_for_agreement(cluster, &ALL)?;
            steady_but_for(watched, None).map(drop)
        });
    }
}

/// Ends all connections with the store.
fn reconnect(cluster: &mut Cluster) -> Result<()> {
    let etcd = cluster.etcd()?;
    etcd.members.iter_mut().try_for_each(|member| member.kill())?;
    etcd.start_all()
}

fn misses(node: &Node, key: &str) -> Result<()> {
    wait::until(&format!("{} says what is gone", node.name), SOON, || {
        let alarms = node.status()?["alarms"].to_string();
        ensure!(alarms.contains(&format!("the store has lost {key}")), "{alarms}");
        Ok(())
    })?;
    Ok(())
}

/// The intent for node2 that a server has in force.
fn is_to_be(node: &Node, admin: &str) -> Result<()> {
    let status = node.status()?;
    ensure!(status["nodes"][1]["admin"] == admin, "{}: {}", node.name, status["nodes"][1]);
    Ok(())
}
