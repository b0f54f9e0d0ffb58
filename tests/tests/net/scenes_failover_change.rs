//! Scenes: the node set is changed, or the daemon restarted, while a node is dying.
use std::net::{IpAddr, Ipv4Addr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, scene, stage};
use dns_xdp_tests::bed::node::DatabaseProgram;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::views::{SOON, agreed_substitute, no_server_answers, wait_for_address};
use dns_xdp_tests::bed::watch::{Change, Question, Watch, all_answered, names, since};
use nix::sys::signal::Signal;

/// The tolerance for publishing on a busy machine.
const ALLOWANCE: Duration = Duration::from_secs(1);
/// After this time the first probes of a dying node are lost, and there is no verdict yet.
const MEANWHILE: Duration = Duration::from_millis(250);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn nodes_that_are_removed_added_and_moved_while_another_dies_disturb_no_other() {
    const MOVED: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 44));
    // More failures than come between two changes.
    stage(&Plan::quick(4).line("health", "fall = 5"), |cluster| {
        // It has to listen on the address that node4 gets later.
        cluster.nodes[3].database_program = DatabaseProgram::StandIn;
        cluster.start()?;
        let [node1, node2, dead, removed] = [0, 1, 2, 3].map(|node| cluster.nodes[node].ipv4());
        let (removed_text, moved_text) = (removed.to_string(), MOVED.to_string());
        cluster.nodes[3].namespace.ip(&format!("addr add {MOVED}/24 dev eth0\n"))?;
        let questions = Question::all(&[node1, node2], &["node1", "node2", "node3", "@", "ns3"]);
        let watch = Watch::start(&cluster.client, questions)?;

        let death = dying(cluster, 2)?;
        on_both(cluster, &["node", "remove", "node4"])?;
        let gone = Instant::now();
        sleep(Duration::from_millis(300));
        let back = Instant::now();
        on_both(cluster, &["node", "add", "node4", "--ipv4", &removed_text])?;
        agreed_substitute(cluster, &[0, 1], 2)?;
        let changes = repaired_in_time(watch, cluster, death, dead)?;
        not_answered(&changes, removed, gone, back)?;

        cluster.nodes[2].put_cable_back()?;
        wait_for_address(cluster, 0, "node3", dead, SOON)?;
        wait_for_address(cluster, 1, "node3", dead, SOON)?;
        let questions = Question::all(&[node1, node2], &["node1", "node2", "node3", "@"]);
        let watch = Watch::start(&cluster.client, questions)?;
        let death = dying(cluster, 2)?;
        on_both(cluster, &["node", "set", "node4", "--ipv4", &moved_text])?;
        let moved = Instant::now();
        // If each change reset the verdict, the daemon would never find the node dead.
        let ttls = ["[zone]\n", "[zone]\nttl = \"4s\"\n"];
        for (from, to) in [(ttls[0], ttls[1]), (ttls[1], ttls[0])].into_iter().cycle() {
            for node in &cluster.nodes[..2] {
                node.edit_config(from, to)?;
            }
            on_both(cluster, &["reload"])?;
            if death.elapsed() > cluster.nodes[0].promise()? + ALLOWANCE {
                break;
            }
            sleep(Duration::from_millis(50));
        }
        agreed_substitute(cluster, &[0, 1], 2)?;
        for server in [0, 1] {
            wait_for_address(cluster, server, "node4", MOVED, SOON)?;
        }
        let changes = repaired_in_time(watch, cluster, death, dead)?;
        not_answered(&changes, removed, moved, Instant::now())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_daemon_that_is_restarted_while_a_node_dies_and_after_ends_with_its_peers_answers() {
    scene(&Plan::quick(3), |cluster| {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            let [node1, node2, dead] = [0, 1, 2].map(|node| cluster.nodes[node].ipv4());
            let labels = ["node1", "node2", "node3", "@"];
            let watch = Watch::start(&cluster.client, Question::all(&[node1, node2], &labels))?;
            dying(cluster, 2)?;
            cluster.nodes[0].stop(signal)?;
            cluster.nodes[0].start()?;
            agreed_substitute(cluster, &[0, 1], 2)?;
            no_server_answers(cluster, &[0, 1], 2)?;
            let found = Instant::now();
            cluster.nodes[0].stop(signal)?;
            cluster.nodes[0].start()?;
            sleep(Duration::from_secs(1));
            let (changes, _) = watch.finish()?;
            all_answered(&changes)?;
            let returned = since(&changes, found).find(|change| names(change, dead));
            ensure!(returned.is_none(), "after {signal} the dead address came back: {returned:?}");
            let last = |server| {
                labels.map(|label| {
                    let question = Question { server, label: label.to_owned() };
                    let mut answers = changes.iter().rev().filter(|change| change.question == question);
                    answers.next().map(|change| change.answer.clone())
                })
            };
            ensure!(last(node1) == last(node2), "after {signal} they differ: {changes:?}");
            cluster.nodes[2].put_cable_back()?;
            for server in [0, 1] {
                wait_for_address(cluster, server, "node3", dead, SOON)?;
            }
        }
        Ok(())
    });
}

/// The node falls silent; a moment later it is not detected yet.
fn dying(cluster: &Cluster, node: usize) -> Result<Instant> {
    let death = Instant::now();
    cluster.nodes[node].pull_cable()?;
    sleep(MEANWHILE);
    Ok(death)
}

/// Runs a verb on the two servers that are asked, each with its own file.
fn on_both(cluster: &Cluster, arguments: &[&str]) -> Result<()> {
    cluster.nodes[..2].iter().try_for_each(|node| node.cli_ok(arguments).map(drop))
}

/// Ends the watch 1 s after the bound: from then on no server answers the dead address.
fn repaired_in_time(watch: Watch, cluster: &Cluster, death: Instant, dead: IpAddr) -> Result<Vec<Change>> {
    let limit = cluster.nodes[0].promise()? + ALLOWANCE;
    sleep((death + limit + Duration::from_millis(300)).saturating_duration_since(Instant::now()));
    let (changes, _) = watch.finish()?;
    all_answered(&changes)?;
    let late = since(&changes, death + limit).find(|change| names(change, dead));
    ensure!(late.is_none(), "still answered {limit:?} after the death: {late:?}");
    Ok(changes)
}

/// Checks that no server answers the address of a removed or moved node after the end of that command.
fn not_answered(changes: &[Change], removed: IpAddr, gone: Instant, back: Instant) -> Result<()> {
    let stale = since(changes, gone).find(|change| change.at < back && names(change, removed));
    ensure!(stale.is_none(), "answered after its removal: {stale:?}");
    Ok(())
}
