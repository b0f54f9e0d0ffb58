//! Scenes: the answers of services, by the program and by the responder, while members and backups die and return.
use std::net::IpAddr;

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::client::{Tcp, addresses_in};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::views::SOON;
use dns_xdp_tests::bed::wait;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn an_active_member_gives_way_to_the_passive_one_then_to_the_backup_and_comes_back() {
    let service = "[[service]]\nname = \"db\"\nnodes = [\"node2\", \"node1\"]\norder = \"first\"\nbackup = [\"node3\"]\n";
    scene(&Plan::quick(3).tables(service), |cluster| {
        let addresses: Vec<IpAddr> = cluster.nodes.iter().map(|node| node.ipv4()).collect();
        let answers =
            |cluster: &Cluster, node: usize| db_answers(cluster, ResponseCode::NoError, &[addresses[node]]);
        answers(cluster, 1)?;
        cluster.nodes[1].kill_database()?;
        answers(cluster, 0)?;
        cluster.nodes[0].kill_database()?;
        answers(cluster, 2)?;
        cluster.nodes[1].start_database()?;
        answers(cluster, 1)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_service_that_is_down_answers_nodata_or_refused_as_its_rule_says_with_an_alarm_and_an_event() {
    let service = "[[service]]\nname = \"db\"\nnodes = [\"node2\"]\nall-down = \"nodata\"\n";
    scene(&Plan::quick(3).tables(service), |cluster| {
        let address = cluster.nodes[1].ipv4();
        db_answers(cluster, ResponseCode::NoError, &[address])?;
        cluster.nodes[1].kill_database()?;
        db_answers(cluster, ResponseCode::NoError, &[])?;
        let status = cluster.nodes[0].status()?;
        let alarm = "service db is down: none of its members is healthy; it answers NODATA";
        ensure!(status["alarms"].to_string().contains(alarm), "{status:#}");
        ensure!(status["services"][0]["down"] == true, "{status:#}");
        let events = cluster.nodes[0].cli_ok(&["events", "--json"])?;
        ensure!(events.contains("+service-down"), "{events}");
        for server in &cluster.nodes {
            server.cli_ok(&["service", "set", "db", "--all-down", "refused"])?;
        }
        db_answers(cluster, ResponseCode::Refused, &[])?;
        cluster.nodes[1].start_database()?;
        db_answers(cluster, ResponseCode::NoError, &[address])?;
        let events = cluster.nodes[0].cli_ok(&["events", "--json"])?;
        ensure!(events.contains("-service-down"), "{events}");
        Ok(())
    });
}

/// Waits until every server gives this answer, over UDP from the program and over TCP from the responder.
fn db_answers(cluster: &Cluster, rcode: ResponseCode, addresses: &[IpAddr]) -> Result<()> {
    let (dns, name) = (cluster.dns_client()?, format!("db.{ZONE}."));
    for server in &cluster.nodes {
        wait::until(&format!("{} answers {rcode} and {addresses:?}", server.name), SOON, || {
            let udp = dns.ask(server.ipv4(), &name, RecordType::A)?;
            let tcp = Tcp::new(&cluster.client, server.ipv4()).ask(&name, RecordType::A)?;
            for (path, answer) in [("UDP", udp), ("TCP", tcp)] {
                let (found, given) = (answer.metadata.response_code, addresses_in(&answer));
                ensure!(found == rcode && given == addresses, "over {path}: {found} and {given:?}");
            }
            Ok(())
        })?;
    }
    Ok(())
}
