//! Scenes: queries during a change get the old zone or the new zone, never a mixture.
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use dns_xdp::datapath::layout;
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::strace::{Attached, calls, injected, injecting};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

const SERVICES: usize = 3000;
/// More names than a table of the first size holds.
const MANY_SERVICES: usize = 9000;
const CHANGES: usize = 12;
const TTLS: [&str; 2] = ["ttl = \"5s\"\nns-ttl = \"50s\"", "ttl = \"7s\"\nns-ttl = \"70s\""];

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_query_while_thousands_of_names_change_gets_the_old_answer_or_the_new() {
    scene(&Plan::quick(3).tables(&services(0..SERVICES)), |cluster| {
        let dns = cluster.dns_client()?;
        let node = &cluster.nodes[0];
        node.edit_config("[zone]\n", &format!("[zone]\n{}\n", TTLS[0]))?;
        node.cli_ok(&["reload"])?;
        let before = node.stats()?.answered_by_xdp();
        let mut nth = 0_usize;
        // The observed TTLs, and their numbers: a zone that changes as a whole changes once, for all its names.
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

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_zone_that_outgrows_its_table_gets_a_larger_one_and_no_query_is_lost() {
    scene(&Plan::quick(3).tables(&services(0..SERVICES)), |cluster| {
        let dns = cluster.dns_client()?;
        let node = &mut cluster.nodes[0];
        ensure!(tables(node)? == ["4096"], "it begins with {:?}", tables(node)?);
        let (before, mut asked) = (node.stats()?, 0);
        let ask = || {
            asked += 1;
            let answers =
                dns.ask(node.ipv4(), &format!("s{}.{ZONE}.", asked % SERVICES), RecordType::A)?.answers;
            ensure!(answers.len() == 3, "{answers:?}");
            Ok(())
        };
        wait::meanwhile(ask, || {
            let more = services(SERVICES..MANY_SERVICES);
            std::fs::write(&node.config, node.config_text()? + "\n" + &more)?;
            node.cli_ok(&["reload"]).map(drop)
        })?;
        ensure!(tables(node)? == ["16384"], "it has {:?}", tables(node)?);
        let after = node.stats()?;
        let answered = after.answered_by_xdp() - before.answered_by_xdp();
        ensure!(answered >= asked as u64, "{asked} asked, {answered} answered by XDP");
        let last = format!("s{}.{ZONE}.", MANY_SERVICES - 1);
        ensure!(dns.ask(node.ipv4(), &last, RecordType::A)?.answers.len() == 3, "{last} has no addresses");
        ensure!(node.stats()?.answered_by_xdp() > after.answered_by_xdp(), "the responder answered {last}");
        // A restart adopts the table as it is. Another program starts with a new table and grows it too.
        node.replace()?;
        ensure!(tables(node)? == ["16384"], "after a restart {:?}", tables(node)?);
        node.stop(Signal::SIGINT)?;
        node.start()?;
        ensure!(tables(node)? == ["16384"], "a fresh start has {:?}", tables(node)?);
        ensure!(dns.ask(node.ipv4(), &last, RecordType::A)?.answers.len() == 3, "{last} has no addresses");
        Ok(())
    });
}

/// The most tries to make a call of a growth fail.
const TRIES: usize = 4;
/// The zone outgrows its table by few names, so that a growth takes little time.
const FEW: usize = 10;
const OUTGROWN: usize = 4200;
/// The kinds of calls of a growth. The last call of each kind fails in turn.
const GROWING: [&str; 5] =
    ["BPF_MAP_CREATE", "BPF_PROG_LOAD", "BPF_OBJ_PIN", "BPF_LINK_UPDATE", "BPF_MAP_UPDATE_ELEM"];

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_growth_that_fails_at_any_step_leaves_a_program_that_answers_and_follows() {
    scene(&Plan::quick(3).tables(&services(0..FEW)), |cluster| {
        let traces = tempfile::tempdir()?;
        let small = cluster.nodes[0].config_text()?;
        let large = format!("{small}\n{}", services(FEW..OUTGROWN));
        let trace = traces.path().join("whole");
        grow(&mut cluster.nodes[0], &large, &trace, &[])?;
        let calls = calls(&trace)?;
        let mut refused = 0;
        for command in GROWING {
            let number = calls.iter().rposition(|call| call.command == command);
            let number = number.with_context(|| format!("no {command}"))? + 1;
            let step = format!("{command} at call {number}");
            // The daemon makes some calls periodically, so a growth may have fewer calls than the first one.
            let grown = (0..TRIES).find_map(|nth| {
                let trace = traces.path().join(format!("{command}-{nth}"));
                grow_anew(&mut cluster.nodes[0], [&small, &large], &trace, number).transpose()
            });
            let grown = grown.with_context(|| format!("{step}: no call has failed in {TRIES} tries"))??;
            if let Err(error) = grown {
                let told = format!("{error:#}");
                ensure!(told.contains("cannot publish the zone to the kernel"), "{step}: {told}");
                refused += 1;
            }
            follows(cluster).context(step.clone())?;
            cluster.nodes[0].cli_ok(&["reload"])?;
            ensure!(tables(&cluster.nodes[0])? == ["8192"], "{step}: {:?}", tables(&cluster.nodes[0])?);
            follows(cluster).context(step)?;
        }
        ensure!(refused > GROWING.len() / 2, "{refused} growths were refused");
        Ok(())
    });
}

/// Starts with the first text, and reloads the second while a tracer makes the call with this number fail. Returns the
/// result of the reload; `None`: there was no such call.
fn grow_anew(
    node: &mut Node,
    [small, large]: [&str; 2],
    trace: &Path,
    number: usize,
) -> Result<Option<Result<()>>> {
    std::fs::write(&node.config, small)?;
    node.stop(Signal::SIGINT)?;
    node.start()?;
    let grown = grow(node, large, trace, &injecting("ENOMEM", &number.to_string()));
    Ok(injected(trace)?.map(|_| grown))
}

/// Reloads a text while a tracer lists the calls and makes one of them fail.
fn grow(node: &mut Node, text: &str, trace: &Path, inject: &[String]) -> Result<()> {
    std::fs::write(&node.config, text)?;
    let pid = node.status()?["pid"].to_string();
    let _strace = Attached::to(&pid, trace, inject)?;
    node.cli_ok(&["reload"]).map(drop)
}

/// The program answers, and its answers follow a change.
fn follows(cluster: &Cluster) -> Result<()> {
    let (node, dns) = (&cluster.nodes[0], cluster.dns_client()?);
    let before = node.stats()?.answered_by_xdp();
    for (verb, members) in [("down", 2), ("auto", 3)] {
        node.cli_ok(&["node", verb, "node3"])?;
        let answers = dns.ask(node.ipv4(), &format!("s0.{ZONE}."), RecordType::A)?.answers;
        ensure!(answers.len() == members, "after {verb}: {answers:?}");
    }
    let answered = node.stats()?.answered_by_xdp() - before;
    ensure!(answered == 2, "the program answered {answered} of 2 queries");
    Ok(())
}

fn services(numbers: std::ops::Range<usize>) -> String {
    let mut services = String::new();
    for service in numbers {
        let nodes = "nodes = [\"node1\", \"node2\", \"node3\"]";
        write!(services, "[[service]]\nname = \"s{service}\"\n{nodes}\n").expect("a String takes all");
    }
    services
}

/// The capacity of each pinned table.
fn tables(node: &Node) -> Result<Vec<String>> {
    let pinned =
        std::fs::read_dir(&node.pins)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let halves = pinned.filter_map(|name| name.strip_prefix("maps-")?.split('-').next_back()?.parse().ok());
    Ok(halves.map(|half: u32| layout::capacity(half).to_string()).collect())
}
