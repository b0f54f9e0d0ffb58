//! Scenes: a zone that changes while it is asked is seen whole or not at all.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::ask::Asker;
use dns_xdp_tests::cluster::{Cluster, scene};
use dns_xdp_tests::plan::{Plan, ZONE};
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
        let asker = cluster.asker()?;
        cluster.nodes[0].edit_config("[zone]\n", &format!("[zone]\n{}\n", TTLS[0]))?;
        cluster.nodes[0].cli_ok(&["reload"])?;
        let before = cluster.nodes[0].stats()?.answered_by_xdp();
        let seen = ask_while(cluster, &asker, |cluster| {
            for change in 0..CHANGES {
                let [from, to] = [TTLS[change % 2], TTLS[(change + 1) % 2]];
                cluster.nodes[0].edit_config(from, to)?;
                cluster.nodes[0].cli_ok(&["reload"])?;
            }
            Ok(())
        })?;
        assert_eq!(seen.keys().collect::<Vec<_>>(), [&5, &7], "{seen:?}");
        let asked: usize = seen.values().sum();
        let answered = cluster.nodes[0].stats()?.answered_by_xdp() - before;
        ensure!(asked > 1000 && answered >= asked as u64, "{asked} asked, {answered} answered by XDP");
        Ok(())
    });
}

/// Asks for one name after the other while `change` is made: how often each TTL was seen.
///
/// # Errors
/// When a query goes unanswered, or an answer has a part of each zone.
fn ask_while(
    cluster: &mut Cluster,
    asker: &Asker,
    change: impl FnOnce(&mut Cluster) -> Result<()>,
) -> Result<BTreeMap<u32, usize>> {
    let server = cluster.nodes[0].ipv4();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut seen = BTreeMap::new();
            let mut nth = 0_usize;
            while !is_over.load(Ordering::Relaxed) {
                nth += 1;
                let qname = format!("s{}.{ZONE}.", nth * 1009 % SERVICES);
                let answers = asker.ask(server, &qname, RecordType::A)?.answers;
                let ttl = answers.first().with_context(|| format!("{qname} has no address"))?.ttl;
                ensure!(answers.len() == 3, "{qname} has {} addresses", answers.len());
                ensure!(answers.iter().all(|record| record.ttl == ttl), "{qname} is a mixture: {answers:?}");
                *seen.entry(ttl).or_insert(0) += 1;
            }
            Ok(seen)
        });
        let changed = change(cluster);
        is_over.store(true, Ordering::Relaxed);
        let seen = client.join().expect("the client does not panic");
        changed.and(seen)
    })
}
