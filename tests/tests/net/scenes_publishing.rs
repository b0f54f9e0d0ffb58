//! Scenes: a zone that changes while it is asked is seen whole or not at all.
use std::fmt::Write as _;

use anyhow::{Context as _, ensure};
use dns_xdp_tests::bed::cluster::scene;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;

const SERVICES: usize = 3000;
const CHANGES: usize = 12;
const TTLS: [&str; 2] = ["ttl = \"5s\"\nns-ttl = \"50s\"", "ttl = \"7s\"\nns-ttl = \"70s\""];

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_query_while_thousands_of_names_change_gets_the_old_answer_or_the_new() {
    let mut services = String::new();
    for service in 0..SERVICES {
        let nodes = "nodes = [\"node1\", \"node2\", \"node3\"]";
        write!(services, "[[service]]\nname = \"s{service}\"\n{nodes}\n").expect("a String takes all");
    }
    scene(&Plan::quick(3).tables(&services), |cluster| {
        let dns = cluster.dns_client()?;
        let node = &cluster.nodes[0];
        node.edit_config("[zone]\n", &format!("[zone]\n{}\n", TTLS[0]))?;
        node.cli_ok(&["reload"])?;
        let before = node.stats()?.answered_by_xdp();
        let mut nth = 0_usize;
        // The TTLs as they were seen, and how often: a zone that changes whole changes once, for all its names.
        let mut seen: Vec<(u32, u64)> = Vec::new();
        let ask = || {
            nth += 1;
            let qname = format!("s{}.{ZONE}.", nth * 1009 % SERVICES);
            let answers = dns.ask(node.ipv4(), &qname, RecordType::A)?.answers;
            let ttl = answers.first().with_context(|| format!("{qname} has no address"))?.ttl;
            ensure!(answers.len() == 3, "{qname} has {} addresses", answers.len());
            ensure!(answers.iter().all(|record| record.ttl == ttl), "{qname} is a mixture: {answers:?}");
            match seen.last_mut() {
                Some((last, times)) if *last == ttl => *times += 1,
                _ => seen.push((ttl, 1)),
            }
            Ok(())
        };
        wait::meanwhile(ask, || {
            for change in 0..CHANGES {
                node.edit_config(TTLS[change % 2], TTLS[(change + 1) % 2])?;
                node.cli_ok(&["reload"])?;
            }
            Ok(())
        })?;
        assert!(seen.len() <= CHANGES + 1, "old and new answers take turns: {seen:?}");
        assert!(seen.len() > CHANGES / 2, "few of {CHANGES} changes were seen: {seen:?}");
        let asked: u64 = seen.iter().map(|(_, times)| times).sum();
        let answered = node.stats()?.answered_by_xdp() - before;
        ensure!(asked > 1000 && answered >= asked, "{asked} asked, {answered} answered by XDP");
        Ok(())
    });
}
