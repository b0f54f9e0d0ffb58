//! Scenes: nodes that are no name servers, do not count for the quorum, are not in the apex, or are not probed.
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread::sleep;

use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::views::{SOON, wait_for_address};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::{RData, RecordType};

/// 3 servers; a node that only the quorum, the apex and the NS set lack; and a node that is only answered.
fn plan() -> Plan {
    let lacks = |plan: Plan, node| {
        ["ns = false", "quorum = false", "apex = false"]
            .into_iter()
            .fold(plan, |plan, line| plan.line(node, line))
    };
    let plan = lacks(Plan::quick(5), "node4");
    lacks(plan, "node5").line("node5", "health.probe = \"none\"")
}

/// The addresses that the first server answers for a name; `@` is the apex.
fn addresses(cluster: &Cluster, name: &str) -> Result<BTreeSet<IpAddr>> {
    let qname = if name == "@" { format!("{ZONE}.") } else { format!("{name}.{ZONE}.") };
    let answer = cluster.ask(cluster.nodes[0].ipv4(), &qname, RecordType::A)?;
    let address =
        |data: &RData| if let RData::A(address) = data { Some(IpAddr::V4(address.0)) } else { None };
    Ok(answer.answers.iter().filter_map(|record| address(&record.data)).collect())
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn nodes_without_a_role_keep_out_of_its_answers_and_of_the_quorum() {
    scene(&plan(), |cluster| {
        let [ref servers @ .., node4, node5] = [0, 1, 2, 3, 4].map(|node| cluster.nodes[node].ipv4());
        let first = servers[0];
        ensure!(
            addresses(cluster, "@")? == servers.iter().copied().collect(),
            "{:?}",
            addresses(cluster, "@")?
        );
        let ns = cluster.ask(first, &format!("{ZONE}."), RecordType::NS)?;
        ensure!(ns.answers.len() == servers.len(), "{:?}", ns.answers);
        ensure!(addresses(cluster, "ns4")?.is_empty(), "node4 is no name server");
        ensure!(addresses(cluster, "node5")? == [node5].into(), "node5 is answered");
        let file = cluster.nodes[0].config.to_str().context("the path is no text")?.to_owned();
        let shown =
            cluster.nodes[0].cli_ok(&["delegation", "show", "--format", "bind", "--config", &file])?;
        ensure!(shown.contains("ns3") && !shown.contains("ns4"), "{shown}");

        // The zone file has what is answered, and NSD's tool finds no fault in it.
        let exported = cluster.nodes[0].cli_ok(&["zone", "export"])?;
        let configured = cluster.nodes[0].cli_ok(&["zone", "export", "--configured", "--config", &file])?;
        let records = |text: &str| {
            text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect::<Vec<_>>()
        };
        ensure!(records(&exported) == records(&configured), "{exported}\n{configured}");
        let zone = tempfile::NamedTempFile::new()?;
        std::fs::write(zone.path(), &exported)?;
        let checked = std::process::Command::new("nsd-checkzone").arg(ZONE).arg(zone.path()).output()?;
        ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));

        // The death of a node without a vote is repaired. A node without probes stays.
        cluster.nodes[3].pull_cable()?;
        cluster.nodes[4].pull_cable()?;
        wait::until("another node answers for node4", SOON, || {
            let answered = addresses(cluster, "node4")?;
            ensure!(
                !answered.is_empty() && !answered.contains(&node4) && !answered.contains(&node5),
                "{answered:?}"
            );
            Ok(())
        })?;
        let promise = cluster.nodes[0].promise()?;
        sleep(promise);
        ensure!(addresses(cluster, "node5")? == [node5].into(), "nothing decides about node5");
        let status = cluster.nodes[0].status()?;
        ensure!(status["quorum"]["needed"] == 2 && status["quorum"]["visible"] == 3, "{status:#}");
        ensure!(status["frozen"].is_null() && status["nodes"][4]["health"] == "unprobed", "{status:#}");
        cluster.nodes[0].cli_ok(&["node", "drain", "node5"])?;
        wait::until("another node answers for node5", SOON, || {
            ensure!(!addresses(cluster, "node5")?.contains(&node5));
            Ok(())
        })?;
        cluster.nodes[0].cli_ok(&["node", "auto", "node5"])?;
        for node in [3, 4] {
            cluster.nodes[node].put_cable_back()?;
        }
        wait_for_address(cluster, 0, "node4", node4, SOON)?;

        // With two of three voters silent the answers freeze, although both other nodes are visible.
        cluster.nodes[1].pull_cable()?;
        cluster.nodes[2].pull_cable()?;
        wait::until("the answers are frozen", SOON, || {
            let status = cluster.nodes[0].status()?;
            ensure!(status["frozen"] == "1 of 3 nodes and witnesses visible, 2 needed", "{status:#}");
            Ok(())
        })?;
        ensure!(addresses(cluster, "node2")? == [servers[1]].into(), "no quorum, no failover");
        for node in [1, 2] {
            cluster.nodes[node].put_cable_back()?;
        }
        cluster.wait_until_healthy()
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_reload_that_renames_name_servers_says_so_and_how_to_keep_them() {
    scene(&Plan::quick(3), |cluster| {
        let node = &cluster.nodes[2];
        let text = node.config_text()?;
        let (before, after) = text.split_once("[[node]]\nname = \"node1\"").context("node1 is there")?;
        let (_, after) = after.split_once("[[node]]").context("node2 is behind it")?;
        std::fs::write(&node.config, format!("{before}[[node]]{after}"))?;
        let reloaded = node.cli(&["reload"])?;
        let told = [&reloaded.stdout[..], &reloaded.stderr[..]].concat();
        let told = String::from_utf8_lossy(&told);
        ensure!(reloaded.status.success(), "{told}");
        ensure!(told.contains("the name servers change: ns1 moves from"), "{told}");
        ensure!(told.contains("ns = \"ns3\" in [[node]] node3"), "{told}");
        let one = node.cli_ok(&["node", "show", "node3"])?;
        ensure!(one.contains("name server ns2") && one.contains("health      up"), "{one}");
        let gone = node.cli(&["node", "show", "node1"])?;
        let told = String::from_utf8_lossy(&gone.stderr);
        ensure!(gone.status.code() == Some(1) && told.contains("there is no node `node1`"), "{told}");
        let json = node.cli_ok(&["node", "show", "node2", "--json"])?;
        ensure!(json.contains("\"ns\": \"ns1\"") && json.contains("\"answers\""), "{json}");
        Ok(())
    });
}
