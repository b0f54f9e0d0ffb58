//! Scenes: the operator's command line, and the answers to clients when a command returns.
use std::time::Duration;

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::client::addresses_in;
use dns_xdp_tests::bed::cluster::{Cluster, scene, stage};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_node_is_added_changed_and_removed_while_comments_in_the_file_survive() {
    // The new node does not run. The scene is about its name, so an intent sets it up.
    scene(&Plan::quick(2), |cluster| {
        let node = &cluster.nodes[0];
        node.edit_config("[zone]", "# as agreed with operations\n[zone] # ours")?;
        node.cli_ok(&["reload"])?;
        node.cli_ok(&["node", "add", "node9", "--ipv4", "192.0.2.19", "--ipv6", "2001:db8::19"])?;
        node.cli_ok(&["node", "up", "node9", "--reason", "it is new"])?;
        expect(cluster, "node9", &["192.0.2.19"])?;
        let text = node.config_text()?;
        assert!(
            text.contains("# as agreed with operations\n[zone] # ours") && text.contains("node9"),
            "{text}"
        );

        node.cli_ok(&["node", "add", "node9", "--ipv4", "192.0.2.19", "--ipv6", "2001:db8::19"])?;
        node.cli_ok(&["node", "set", "node9", "--ipv4", "192.0.2.29"])?;
        expect(cluster, "node9", &["192.0.2.29"])?;

        node.cli_ok(&["node", "remove", "node9"])?;
        let response = cluster.ask(node.ipv4(), &format!("node9.{ZONE}."), RecordType::A)?;
        assert_eq!(response.metadata.response_code, ResponseCode::NXDomain, "{response}");
        assert!(!node.config_text()?.contains("node9"));
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn an_ephemeral_node_is_not_in_the_file() {
    scene(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let before = node.config_text()?;
        node.cli_ok(&["node", "add", "node9", "--ipv4", "192.0.2.19", "--ephemeral"])?;
        assert_eq!(node.config_text()?, before);
        let list = node.cli_ok(&["node", "list", "--json"])?;
        assert!(list.contains("192.0.2.19"), "{list}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn what_the_operator_wants_of_a_node_holds_at_once_and_over_a_restart() {
    scene(&Plan::quick(2), |cluster| {
        for (verb, shown, more) in [("drain", "drain", &["--force"][..]), ("down", "down", &[])] {
            let wanted = ["node", verb, "node2", "--reason", "maintenance"];
            cluster.nodes[0].cli_ok(&[&wanted[..], more].concat())?;
            expect(cluster, "node2", &["192.0.2.11"])?;
            expect(cluster, "ns2", &["192.0.2.11"])?;
            let status = cluster.nodes[0].status()?;
            assert_eq!(status["nodes"][1]["admin"], shown, "{status:#}");
            assert_eq!(status["nodes"][1]["health"], "up", "the real state is shown beside it: {status:#}");
        }
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        cluster.nodes[0].start()?;
        expect(cluster, "node2", &["192.0.2.11"])?;
        cluster.nodes[0].cli_ok(&["node", "auto", "node2"])?;
        expect(cluster, "node2", &["192.0.2.12"])
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_node_that_is_wanted_up_is_answered_dead_or_alive() {
    scene(&Plan::quick(2), |cluster| {
        cluster.nodes[0].cli_ok(&["node", "up", "node2"])?;
        cluster.nodes[1].kill_database()?;
        let node = &cluster.nodes[0];
        wait::until("node2 is seen down", Duration::from_secs(8), || {
            let status = node.status()?;
            ensure!(status["nodes"][1]["health"] == "down", "{status:#}");
            Ok(())
        })?;
        expect(cluster, "node2", &["192.0.2.12"])
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_reload_takes_all_of_the_file_or_nothing() {
    scene(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        node.edit_config("[zone]\n", "[zone]\nttl = \"7s\"\nttll = \"8s\"\n")?;
        let output = node.cli(&["reload"])?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains("ttll"), "{stderr}");
        assert_eq!(ttl(cluster)?, 5);
        node.edit_config("ttll = \"8s\"\n", "")?;
        let told = node.cli(&["reload"])?;
        assert_eq!(String::from_utf8_lossy(&told.stderr), "[zone] ttl: default -> \"7s\"\n");
        assert_eq!(ttl(cluster)?, 7);
        node.edit_config("ttl = \"7s\"", "ttl = \"9s\"")?;
        node.signal(Signal::SIGHUP)?;
        wait::until("SIGHUP reloads", Duration::from_secs(5), || {
            ensure!(ttl(cluster)? == 9, "the ttl is as before");
            Ok(())
        })?;
        Ok(())
    });
}

fn ttl(cluster: &Cluster) -> Result<u32> {
    let response = cluster.ask(cluster.nodes[0].ipv4(), &format!("node1.{ZONE}."), RecordType::A)?;
    Ok(response.answers[0].ttl)
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn query_and_check_say_what_would_be_answered() {
    scene(&Plan::quick(2), |cluster| {
        let node = &cluster.nodes[0];
        let answer = node.cli_ok(&["query", "node2"])?;
        assert!(answer.contains("192.0.2.12"), "{answer}");
        let config = node.config.display().to_string();
        let table = node.cli_ok(&["check", "--config", &config])?;
        for address in ["192.0.2.11", "192.0.2.12", "2001:db8::11", "2001:db8::12"] {
            assert!(table.contains(address), "{table}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_verb_without_a_daemon_says_how_to_start_one() {
    stage(&Plan::quick(1), |cluster| {
        for verb in [&["status"][..], &["node", "list"], &["reload"]] {
            let output = cluster.nodes[0].cli(verb)?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{stderr}");
            assert!(stderr.contains("dns-xdp run"), "{stderr}");
        }
        Ok(())
    });
}

/// The answer of the first node's server for a name.
fn expect(cluster: &Cluster, name: &str, addresses: &[&str]) -> Result<()> {
    let response = cluster.ask(cluster.nodes[0].ipv4(), &format!("{name}.{ZONE}."), RecordType::A)?;
    let answered: Vec<String> = addresses_in(&response).iter().map(ToString::to_string).collect();
    ensure!(answered == addresses, "{name} is not {addresses:?}:\n{response}");
    Ok(())
}
