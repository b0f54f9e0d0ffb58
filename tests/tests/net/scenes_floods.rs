//! Scenes: cookies, and clients that ask too much, on the wire.
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dns_xdp_tests::bed::client::Udp;
use dns_xdp_tests::bed::client::dig::Reply;
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::network::INTERFACE;
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::oracle::frames::Checksum;
use dns_xdp_tests::oracle::frames::message::{A, IN, Message, name};

const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";
const OTHER: &str = "445536bcd2513298075a5d379663c962";
const NS: u16 = 2;
/// Queries of one burst: fewer than a socket of the responder's holds.
const BURST: usize = 100;

fn guarded(sections: &str) -> Plan {
    Plan::quick(2).tables(sections)
}

/// Whether dig accepts the cookie of a reply.
fn cookie(reply: &Reply) -> Result<(String, bool)> {
    let line = reply.text.lines().find_map(|line| line.strip_prefix("; COOKIE: "));
    let line = line.with_context(|| format!("no cookie: {}", reply.text))?;
    let (cookie, judged) = line.split_once(' ').with_context(|| format!("not judged: {line}"))?;
    Ok((cookie.to_owned(), judged == "(good)"))
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn every_server_knows_the_cookie_that_another_made_and_the_responder_that_of_the_program() {
    scene(&guarded(&format!("[cookies]\nsecrets = [\"{SECRET}\", \"{OTHER}\"]\n")), |cluster| {
        let qname = format!("node1.{ZONE}");
        let [first, second] = [0, 1].map(|node| cluster.nodes[node].ipv4());
        let learned = cookie(&cluster.dig(first, &["+cookie=2464c4abcf10c957", &qname, "A"])?)?;
        ensure!(learned.1 && learned.0.len() == 48, "{learned:?}");
        let before = cluster.nodes[0].stats()?.answered_by_xdp();
        let shown = format!("+cookie={}", learned.0);
        for server in [first, second] {
            for query in [["+notcp", &qname, "A"], ["+notcp", &qname, "NS"], ["+tcp", &qname, "A"]] {
                let reply = cluster.dig(server, &[&[&*shown][..], &query].concat())?;
                ensure!(cookie(&reply)? == learned, "{server} {query:?}: {}", reply.text);
            }
        }
        ensure!(cluster.nodes[0].stats()?.answered_by_xdp() == before + 1, "A of UDP alone is the program's");

        // The secrets change places: a cookie by the old secret is valid, and the answer has a new one.
        let node = &cluster.nodes[0];
        node.edit_config(&format!("\"{SECRET}\", \"{OTHER}\""), &format!("\"{OTHER}\", \"{SECRET}\""))?;
        let Output { status, stdout, stderr } = node.cli(&["reload"])?;
        let said = String::from_utf8([stdout, stderr].concat())?;
        ensure!(status.success() && !said.contains(&SECRET[..8]), "{said}");
        let renewed = cookie(&cluster.dig(first, &[&shown, &qname, "A"])?)?;
        ensure!(renewed.1 && renewed.0 != learned.0, "{renewed:?}");
        let shown = format!("+cookie={}", renewed.0);
        let known = cookie(&cluster.dig(second, &[&shown, &qname, "A"])?)?;
        ensure!(known.0 != renewed.0, "the other server makes them with the first of its own");
        ensure!(node.cli_ok(&["status"])?.contains("cookies"));
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_client_that_asks_too_much_is_limited_asks_over_tcp_and_is_exempt_with_a_cookie() {
    let sections = format!(
        "[cookies]\nsecrets = [\"{SECRET}\"]\n[rate-limit]\nanswers-per-second = 1\nburst = 5\nslip = 1\n"
    );
    scene(&guarded(&sections), |cluster| {
        let qname = format!("node1.{ZONE}");
        let server = cluster.nodes[0].ipv4();
        let ask = |options: &[&str]| cluster.dig(server, &[options, &[&*qname, "A"]].concat());
        let (whole, truncated) = burst(cluster, A)?;
        ensure!((4..=8).contains(&whole) && whole + truncated == BURST, "{whole} whole, {truncated} not");
        let slipped = ask(&["+nocookie", "+ignore"])?;
        ensure!(slipped.has_flag("tc") && slipped.answers.is_empty(), "{}", slipped.text);
        // dig asks again by itself.
        let over_tcp = ask(&["+nocookie"])?;
        ensure!(over_tcp.data("A") == ["192.0.2.11"] && over_tcp.text.contains("TCP"), "{}", over_tcp.text);
        let (learned, _) = cookie(&ask(&["+cookie", "+ignore"])?)?;
        let shown = format!("+cookie={learned}");
        for _ in 0..10 {
            let reply = ask(&[&*shown, "+ignore"])?;
            ensure!(!reply.has_flag("tc") && reply.data("A") == ["192.0.2.11"], "{}", reply.text);
        }
        // The responder limits its own answers.
        let (whole, truncated) = burst(cluster, NS)?;
        ensure!((4..=8).contains(&whole) && whole + truncated == BURST, "{whole} whole, {truncated} not");

        let node = &cluster.nodes[0];
        let flood_policy = node.status()?["guard"].clone();
        ensure!(flood_policy["slipped"].as_u64().is_some_and(|slipped| slipped > 80), "{flood_policy}");
        node.edit_config("slip = 1", "slip = 0")?;
        node.cli_ok(&["reload"])?;
        let (whole, truncated) = burst(cluster, A)?;
        ensure!(whole <= 3 && truncated == 0, "{whole} whole, {truncated} not");
        ensure!(node.status()?["guard"]["rate_limited"].as_u64().is_some_and(|held| held > 90));
        node.edit_config("answers-per-second = 1", "answers-per-second = 0")?;
        node.cli_ok(&["reload"])?;
        ensure!(burst(cluster, A)? == (BURST, 0), "no limit, and still held back");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_flood_for_the_responder_is_cut_and_the_program_answers_on() {
    scene(&guarded("[fallback]\nqueries-per-second = 40\n"), |cluster| {
        let (whole, truncated) = burst(cluster, NS)?;
        ensure!((10..=20).contains(&whole) && truncated == 0, "{whole} of {BURST} were passed up");
        ensure!(burst(cluster, A)? == (BURST, 0), "the program's own were cut too");
        let limited = cut(&cluster.nodes[0])?;
        ensure!(limited >= BURST as u64 - 20, "{limited} counted");
        let start = Instant::now();
        while burst(cluster, NS)?.0 < 3 {
            ensure!(start.elapsed() < Duration::from_secs(5), "nothing is passed up any more");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn queries_in_frames_to_all_stations_are_answered_within_the_limit() {
    scene(&guarded("[fallback]\nqueries-per-second = 10\n"), |cluster| {
        let node = &cluster.nodes[0];
        let neighbour = format!("{} dev {INTERFACE}", node.ipv4());
        let broadcast = format!("neigh replace {neighbour} lladdr ff:ff:ff:ff:ff:ff nud permanent\n");
        cluster.client.ip(&broadcast)?;
        let (whole, truncated) = burst(cluster, A)?;
        ensure!((1..=10).contains(&whole) && truncated == 0, "{whole} of {BURST} were passed up");
        let stats = node.stats()?;
        ensure!(stats.xdp["group-mac"] == whole as u64, "{:?}", stats.xdp);
        ensure!(cut(node)? == (BURST - whole) as u64, "{} were cut", cut(node)?);
        cluster.client.ip(&format!("neigh del {neighbour}\n"))?;
        ensure!(burst(cluster, A)? == (BURST, 0), "the program's own were cut too");
        Ok(())
    });
}

fn cut(node: &Node) -> Result<u64> {
    node.status()?["guard"]["fallback_limited"].as_u64().context("the status has no such number")
}

/// The numbers of whole and of truncated answers to a burst of queries.
fn burst(cluster: &Cluster, qtype: u16) -> Result<(usize, usize)> {
    let qname = if qtype == A { format!("node1.{ZONE}") } else { ZONE.to_owned() };
    let query = |id| Message { id, ..Message::query(&name(&qname), qtype, IN) }.bytes();
    let messages: Vec<Vec<u8>> = (1..=BURST as u16).map(query).collect();
    let client = Udp::connect(&cluster.client, cluster.nodes[0].ipv4(), Checksum::Whole)?;
    let answers = client.burst(&messages, Duration::from_millis(300))?;
    let truncated = answers.iter().filter(|answer| answer.get(2).is_some_and(|flags| flags & 2 != 0)).count();
    Ok((answers.len() - truncated, truncated))
}
