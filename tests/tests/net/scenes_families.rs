//! Scenes: nodes with a dead or missing address family.
use std::net::IpAddr;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, scene, stage};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::views::SOON;
use dns_xdp_tests::bed::wait;
use hickory_proto::op::Message;
use hickory_proto::rr::{RData, RecordType};
use serde_json::Value;

/// A node with this route sends nothing over IPv6 to the other stations.
const BLACKHOLE: &str = "blackhole 2001:db8::/64 metric 1";

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_node_whose_ipv6_is_dead_loses_its_aaaa_and_keeps_its_a() {
    scene(&Plan::quick(3), |cluster| {
        let [ipv4, ipv6] = cluster.nodes[1].addresses;
        let servers = [0, 2];
        cluster.nodes[1].namespace.ip(&format!("route add {BLACKHOLE}\n"))?;
        for server in servers {
            moved(cluster, server, ipv6)?;
        }
        // This is long enough for a verdict on IPv4, but there must be none.
        sleep(Duration::from_secs(1));
        for server in servers {
            ensure!(rrset(cluster, server, "node2", RecordType::A)? == [ipv4], "its A has moved, too");
            ensure!(!rrset(cluster, server, "", RecordType::AAAA)?.contains(&ipv6), "the apex has it yet");
            ensure!(rrset(cluster, server, "", RecordType::A)?.contains(&ipv4), "the apex has lost its A");
            let status = cluster.nodes[server].status()?;
            let node2 = &status["nodes"][1];
            let health = |family: &str| node2["families"][family]["health"].as_str().map(str::to_owned);
            ensure!(health("ipv4").as_deref() == Some("up"), "{node2:#}");
            ensure!(health("ipv6").as_deref() == Some("down"), "{node2:#}");
            ensure!(node2["health"] == "down" && status["quorum"]["visible"] == 3, "{status:#}");
            let events = cluster.nodes[server].cli_ok(&["events", "--json"])?;
            let told = |line: &str| -> Result<Option<(Value, Value)>> {
                let event: Value = serde_json::from_str(line)?;
                Ok((event["kind"] == "+down").then(|| (event["subject"].clone(), event["reason"].clone())))
            };
            let downs: Vec<(Value, Value)> =
                events.lines().map(told).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
            ensure!(downs.len() == 1 && downs[0].0 == "node2 ipv6", "{downs:?}");
        }
        cluster.nodes[1].namespace.ip(&format!("route del {BLACKHOLE}\n"))?;
        for server in servers {
            wait::until("its AAAA is back", SOON, || {
                let found = rrset(cluster, server, "node2", RecordType::AAAA)?;
                ensure!(found == [ipv6], "{found:?}");
                Ok(())
            })?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_absence_of_a_family_is_told_for_no_longer_than_the_failover() {
    stage(&Plan::quick(3), |cluster| {
        for node in &cluster.nodes {
            for lacking in ["2001:db8::12", "2001:db8::13"] {
                node.edit_config(&format!("\nipv6 = \"{lacking}\"\n"), "\n")?;
            }
        }
        cluster.start()?;
        let [ipv4, ipv6] = cluster.nodes[0].addresses;
        ensure!(soa(&ask(cluster, 1, "nobody", RecordType::A)?)? == (30, 30), "of a name that is not there");
        cluster.nodes[0].die()?;
        wait::until("node1 has a substitute without IPv6", SOON, || {
            let found = rrset(cluster, 1, "node1", RecordType::A)?;
            ensure!(found != [ipv4] && found.len() == 1, "{found:?}");
            Ok(())
        })?;
        let absent = ask(cluster, 1, "node1", RecordType::AAAA)?;
        ensure!(absent.answers.is_empty() && soa(&absent)? == (5, 5), "{absent}");
        cluster.nodes[0].come_back()?;
        wait::until("both are back", SOON, || {
            let found = [RecordType::A, RecordType::AAAA].map(|rtype| rrset(cluster, 1, "node1", rtype));
            let [a, aaaa] = found;
            ensure!(a? == [ipv4] && aaaa? == [ipv6], "not yet");
            Ok(())
        })?;
        Ok(())
    });
}

/// Waits until the AAAA of `node2` is another node's address.
fn moved(cluster: &Cluster, server: usize, own: IpAddr) -> Result<()> {
    wait::until("its AAAA is another node's", SOON, || {
        let found = rrset(cluster, server, "node2", RecordType::AAAA)?;
        ensure!(found.len() == 1 && found != [own], "{found:?}");
        Ok(())
    })?;
    Ok(())
}

fn ask(cluster: &Cluster, server: usize, name: &str, rtype: RecordType) -> Result<Message> {
    let name = if name.is_empty() { format!("{ZONE}.") } else { format!("{name}.{ZONE}.") };
    cluster.ask(cluster.nodes[server].ipv4(), &name, rtype)
}

fn rrset(cluster: &Cluster, server: usize, name: &str, rtype: RecordType) -> Result<Vec<IpAddr>> {
    let answers = ask(cluster, server, name, rtype)?.answers;
    Ok(answers.iter().filter_map(|record| record.data.ip_addr()).collect())
}

/// TTL and MINIMUM of the SOA record of a negative answer.
fn soa(answer: &Message) -> Result<(u32, u32)> {
    let record = answer.authorities.first().with_context(|| format!("no SOA: {answer}"))?;
    let RData::SOA(soa) = &record.data else { anyhow::bail!("no SOA: {answer}") };
    Ok((record.ttl, soa.minimum))
}
