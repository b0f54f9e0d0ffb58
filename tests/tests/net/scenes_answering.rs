//! Scenes: a client's answers over both transports and families, and whether the program or the responder gives them.
use std::net::IpAddr;

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::client::dig::Reply;
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

/// The server's EDNS size, in bytes (RFC 9715).
const EDNS_SIZE: u16 = 1232;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn address_queries_are_answered_in_xdp_and_the_responder_sees_none() {
    scene(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let before = node.stats()?;
        let mut queries = 0;
        for (family, server) in ["-4", "-6"].iter().zip(node.addresses) {
            for (qtype, address) in ["A", "AAAA"].iter().zip(node.addresses) {
                // By default dig sends a cookie.
                for options in ["+edns", "+nocookie", "+noedns", "+dnssec", "+norecurse"] {
                    let reply = cluster.dig(server, &[family, options, &format!("node1.{ZONE}"), qtype])?;
                    expect_address(&reply, qtype, address)?;
                    let edns_size = (options != "+noedns").then_some(EDNS_SIZE);
                    ensure!(reply.edns_size == edns_size, "{options}: {}", reply.text);
                    ensure!(reply.has_flag("rd") == (options != "+norecurse"), "{options}: {}", reply.text);
                    queries += 1;
                }
            }
        }
        let after = node.stats()?;
        assert_eq!(after.answered_by_xdp() - before.answered_by_xdp(), queries);
        assert_eq!(after.responder, before.responder);
        Ok(())
    });
}

fn expect_address(reply: &Reply, qtype: &str, address: IpAddr) -> Result<()> {
    ensure!(reply.status == "NOERROR" && reply.has_flag("aa") && !reply.has_flag("ra"), "{}", reply.text);
    ensure!(reply.data(qtype) == [address.to_string()], "{}", reply.text);
    ensure!(reply.answers[0].ttl == 5, "{}", reply.text);
    Ok(())
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_case_of_the_question_is_echoed_by_both_paths() {
    scene(&Plan::quick(1), |cluster| {
        let qname = format!("nOdE1.{}", ZONE.to_uppercase());
        for options in ["+notcp", "+tcp"] {
            let reply = cluster.dig(cluster.nodes[0].ipv4(), &[options, &qname, "A"])?;
            assert_eq!(reply.question, format!("{qname}."), "{}", reply.text);
            assert_eq!(reply.data("A"), ["192.0.2.11"], "{}", reply.text);
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn tcp_answers_as_udp_does_and_by_the_responder() {
    scene(&Plan::quick(2), |cluster| {
        let node = &cluster.nodes[0];
        for qname in names(2) {
            for (server, qtype) in node.addresses.iter().flat_map(|server| [(server, "A"), (server, "AAAA")])
            {
                let udp = cluster.dig(*server, &["+notcp", &qname, qtype])?;
                let before = node.stats()?;
                let tcp = cluster.dig(*server, &["+tcp", &qname, qtype])?;
                ensure!(
                    !udp.answers.is_empty() && udp.data(qtype) == tcp.data(qtype),
                    "{}{}",
                    udp.text,
                    tcp.text
                );
                let after = node.stats()?;
                ensure!(after.answered_by_xdp() == before.answered_by_xdp(), "XDP answered {qname} over tcp");
                ensure!(after.answered_by_responder() == before.answered_by_responder() + 1, "{after:?}");
            }
        }
        Ok(())
    });
}

/// Every name of the zone.
fn names(nodes: u8) -> Vec<String> {
    let of_nodes =
        (1..=nodes).flat_map(|number| [format!("node{number}.{ZONE}"), format!("ns{number}.{ZONE}")]);
    of_nodes.chain([ZONE.to_owned()]).collect()
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_apex_and_a_service_answer_all_their_members() {
    let plan = Plan::quick(3).tables("[[service]]\nname = \"db1\"\nnodes = [\"node1\", \"node3\"]\n");
    scene(&plan, |cluster| {
        let server = cluster.nodes[1].ipv4();
        let reply = cluster.dig(server, &[ZONE, "A"])?;
        assert_eq!(reply.data("A"), ["192.0.2.11", "192.0.2.12", "192.0.2.13"], "{}", reply.text);
        let reply = cluster.dig(server, &[&format!("db1.{ZONE}"), "AAAA"])?;
        assert_eq!(reply.data("AAAA"), ["2001:db8::11", "2001:db8::13"], "{}", reply.text);
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_name_servers_come_with_their_glue_and_the_soa_is_the_same_everywhere() {
    scene(&Plan::quick(3), |cluster| {
        let mut serials = Vec::new();
        for node in &cluster.nodes {
            let reply = cluster.dig(node.ipv4(), &[ZONE, "NS"])?;
            let servers = (1..=3).map(|number| format!("ns{number}.{ZONE}."));
            assert_eq!(reply.data("NS"), servers.collect::<Vec<_>>(), "{}", reply.text);
            assert_eq!(reply.additional.len(), 6, "{}", reply.text);
            let reply = cluster.dig(node.ipv4(), &[ZONE, "SOA"])?;
            serials.push(reply.answers[0].data.clone());
        }
        ensure!(serials.windows(2).all(|pair| pair[0] == pair[1]), "{serials:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn what_is_not_there_is_denied_with_the_soa() {
    scene(&Plan::quick(1), |cluster| {
        for (qname, qtype, status) in [
            (format!("node1.{ZONE}"), "TXT", "NOERROR"),
            (format!("node1.{ZONE}"), "TYPE65280", "NOERROR"),
            (format!("nobody.{ZONE}"), "A", "NXDOMAIN"),
            (format!("deep.below.node1.{ZONE}"), "AAAA", "NXDOMAIN"),
        ] {
            for server in cluster.nodes[0].addresses {
                let reply = cluster.dig(server, &[&qname, qtype])?;
                assert_eq!(reply.status, status, "{}", reply.text);
                assert!(reply.answers.is_empty() && reply.has_flag("aa"), "{}", reply.text);
                assert_eq!(reply.authority[0].rtype, "SOA", "{}", reply.text);
                assert_eq!(reply.authority[0].ttl, 30, "{}", reply.text);
            }
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn odd_queries_are_met_with_the_rcode_that_the_standards_oblige() {
    scene(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let node1 = format!("node1.{ZONE}");
        for (arguments, status) in [
            (vec!["example.net", "A"], "REFUSED"),
            (vec!["+opcode=2", &node1, "A"], "NOTIMP"),
            (vec!["+edns=1", "+noednsnegotiation", &node1, "A"], "BADVERS"),
            (vec!["id.server", "TXT", "CH"], "NOERROR"),
            (vec!["+nsid", &node1, "A"], "NOERROR"),
        ] {
            let reply = cluster.dig(node.ipv4(), &arguments)?;
            assert_eq!(reply.status, status, "{}", reply.text);
        }
        for rtype in [RecordType::AXFR, RecordType::IXFR] {
            let response = cluster.dns_client()?.ask(node.ipv4(), &format!("{ZONE}."), rtype)?;
            assert_eq!(response.metadata.response_code, ResponseCode::Refused, "{rtype}");
        }
        any_is_answered_with_one_rrset(cluster, node)
    });
}

/// Checks the answer to ANY (RFC 8482, section 4).
fn any_is_answered_with_one_rrset(cluster: &Cluster, node: &Node) -> Result<()> {
    let reply = cluster.dig(node.ipv4(), &["+notcp", &format!("node1.{ZONE}"), "ANY"])?;
    let rtype = &reply.answers[0].rtype;
    assert!(reply.answers.iter().all(|record| record.rtype == *rtype), "{}", reply.text);
    Ok(())
}
