//! Scenes: `dns-xdp bench` beside a daemon, after it and without it. The command leaves nothing behind.
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use dns_xdp_ebpf::table;
use dns_xdp_tests::bed::client::addresses_in;
use dns_xdp_tests::bed::cluster::{scene, stage};
use dns_xdp_tests::bed::node::{Node, Stats};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::process;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use serde_json::Value;

/// The number of queries to every node of the plan, over both families.
const KINDS: [&str; 11] = [
    "A",
    "A, OPT",
    "A, OPT with a cookie",
    "A of several addresses",
    "AAAA",
    "AAAA, OPT",
    "NODATA",
    "NXDOMAIN",
    "NXDOMAIN, OPT with a cookie",
    "A, OPT, over IPv6",
    "AAAA, OPT, over IPv6",
];

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_running_node_is_timed_while_it_answers_and_publishes_and_its_counters_do_not_see_it() {
    scene(&Plan::quick(3), |cluster| {
        let node = &cluster.nodes[0];
        let before = node.stats()?;
        let mut queries = 0;
        let report = thread::scope(|scope| -> Result<Value> {
            let timed = scope.spawn(|| report(node, &["--seconds", "3"]));
            while !timed.is_finished() {
                for (verb, substituted) in [("drain", true), ("auto", false)] {
                    node.cli_ok(&["node", verb, "node2"])?;
                    let response = cluster.ask(node.ipv4(), &format!("node2.{ZONE}."), RecordType::A)?;
                    let is_substituted = addresses_in(&response) != [cluster.nodes[1].ipv4()];
                    ensure!(is_substituted == substituted, "{verb}: {response}");
                    queries += 1;
                }
            }
            timed.join().expect("the thread does not panic")
        })?;
        let after = node.stats()?;
        assert_eq!(after.answered_by_xdp() - before.answered_by_xdp(), queries, "{after:?}");
        let all = |stats: &Stats| stats.xdp.values().sum::<u64>();
        assert_eq!(all(&after) - all(&before), queries, "{after:?}");

        let maps = maps(node)?.display().to_string();
        assert_eq!(report["table"]["pinned"], maps, "{report:#}");
        assert_eq!(report["zone"], format!("{ZONE}."), "{report:#}");
        assert_eq!(report["program"]["pinned"], true, "{report:#}");
        let interface = &report["interfaces"][0];
        assert_eq!((&interface["name"], &interface["mode"]), (&"eth0".into(), &"native".into()));
        assert_eq!(interface["driver"], "veth", "{report:#}");
        all_kinds(&report)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_table_that_a_dead_daemon_left_is_timed_and_no_octet_of_its_maps_changes() {
    scene(&Plan::quick(2), |cluster| {
        let node = &mut cluster.nodes[0];
        node.stop(Signal::SIGKILL)?;
        let node = &*node;
        let before = contents(node)?;
        let report = report(node, &["--seconds", "1"])?;
        all_kinds(&report)?;
        assert!(before == contents(node)?, "a pinned map has changed");
        assert!(node.has_xdp()?);
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn before_the_first_run_a_table_of_the_configuration_is_timed_and_nothing_is_left() {
    stage(&Plan::quick(2), |cluster| {
        let node = &cluster.nodes[0];
        let report = report(node, &["--seconds", "1"])?;
        assert_eq!(report["table"]["configuration"], node.config.display().to_string(), "{report:#}");
        assert_eq!(report["program"]["pinned"], Value::Null, "{report:#}");
        assert_eq!(report["interfaces"][0]["mode"], "off", "{report:#}");
        all_kinds(&report)?;
        assert_eq!(node.remains()?, [""; 0]);

        let output = bench(node, &["--seconds", "1"])?;
        let (text, messages) = (String::from_utf8(output.stdout)?, String::from_utf8(output.stderr)?);
        assert!(output.status.success() && messages.is_empty(), "{messages}");
        for kind in KINDS {
            assert!(text.lines().any(|line| line.starts_with(&format!("{kind}  "))), "{kind}:\n{text}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn what_cannot_be_timed_is_refused_with_the_remedy() {
    scene(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        refused(&bench(node, &["--seconds", "0"])?, 2, "--seconds")?;

        let other = node.config.with_file_name("other.toml");
        refused(&bench_with(node, &other, &[])?, 2, "other.toml")?;
        fs::write(&other, node.config_text()?.replace(ZONE, "other.example.com"))?;
        refused(&bench_with(node, &other, &[])?, 1, "--config")?;

        // Root without its capabilities has no more rights than another user.
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-all", "--inh-caps=-all"]).arg(process::sibling("dns-xdp")?);
        command.arg("bench").arg("--config").arg(&node.config);
        refused(&node.namespace.output(&mut command)?, 1, "CAP_BPF")?;

        let maps = maps(node)?;
        let version = table::LAYOUT + 1;
        fs::rename(&maps, maps.with_file_name(format!("maps-v{version}-9")))?;
        refused(&bench(node, &[])?, 1, "another version")
    });
}

/// `bench --json` of a node, which has to succeed.
fn report(node: &Node, arguments: &[&str]) -> Result<Value> {
    let output = bench(node, &[&["--json"], arguments].concat())?;
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && messages.is_empty(), "bench failed: {messages}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn bench(node: &Node, arguments: &[&str]) -> Result<Output> {
    bench_with(node, &node.config, arguments)
}

fn bench_with(node: &Node, config: &std::path::Path, arguments: &[&str]) -> Result<Output> {
    let config = config.display().to_string();
    node.cli(&[&["bench", "--config", &config], arguments].concat())
}

fn refused(output: &Output, code: i32, words: &str) -> Result<()> {
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(code), "{}, not {code}: {messages}", output.status);
    ensure!(messages.contains(words) && output.stdout.is_empty(), "{words} is not in: {messages}");
    Ok(())
}

/// Every kind of query has a row, with a plausible time.
fn all_kinds(report: &Value) -> Result<()> {
    let rows = report["queries"].as_array().context("no queries")?;
    let kinds: Vec<&str> = rows.iter().filter_map(|row| row["query"].as_str()).collect();
    ensure!(kinds == KINDS, "{kinds:?}");
    for row in rows {
        let number = |key: &str| row[key].as_f64().with_context(|| format!("no {key}: {row}"));
        let (ns, rate) = (number("ns")?, number("per_second_and_core")?);
        ensure!((5.0..100_000.0).contains(&ns) && number("names")? >= 1.0, "{row}");
        ensure!((ns * rate / 1e9 - 1.0).abs() < 0.01, "the rate is not the time's: {row}");
    }
    Ok(())
}

/// The directory of the maps that a node's daemon has pinned.
fn maps(node: &Node) -> Result<PathBuf> {
    let mut entries = fs::read_dir(&node.pins)?.flatten().map(|entry| entry.path());
    entries.find(|path| path.to_string_lossy().contains("/maps-v")).context("no maps are pinned")
}

/// The lease, the counters, and the published zone: everything that a query, a renewal or a publication changes.
fn contents(node: &Node) -> Result<([u64; 2], Vec<Vec<u64>>, u32)> {
    let maps = maps(node)?;
    let open = |name: &str| MapData::from_pin(maps.join(name));
    // Deadline and time of day.
    let lease: Array<_, [u64; 2]> = Map::Array(open(table::LEASE)?).try_into()?;
    let counters: PerCpuArray<_, u64> = Map::PerCpuArray(open(table::COUNTERS)?).try_into()?;
    let counters = counters.iter().map(|values| Ok(values?.to_vec())).collect::<Result<_>>()?;
    let zone: aya::maps::ArrayOfMaps<_, MapData> = Map::ArrayOfMaps(open(table::ZONE)?).try_into()?;
    Ok((lease.get(&0, 0)?, counters, zone.get(&0, 0)?.info()?.id()))
}
