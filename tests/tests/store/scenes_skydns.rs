//! Scenes: servers that take their nodes from SkyDNS keys, and servers that mirror their answers to such keys.
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::bed::agreement::{SOON, wait_for_agreement};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::etcd::Access;
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use serde_json::Value;

const SERVERS: usize = 3;
const ALL: [usize; SERVERS] = [0, 1, 2];
const FOLLOWED: &str = "/skydns/com/example/demo";
const MIRRORED: &str = "/skydns-live/com/example/demo";
/// The longest time from a key to all answers: the writer has to pause, the documents change, every server publishes.
const FOLLOWED_WITHIN: Duration = Duration::from_secs(2);
/// The longest time from the answers to the mirror; the first server may have died, with a lease of 2 s.
const MIRRORED_WITHIN: Duration = Duration::from_secs(4);
/// A time that is longer than the follower waits for more keys.
const NOTHING_COMES: Duration = Duration::from_secs(2);

fn plan(access: Access, line: &str) -> Plan {
    Plan::quick(SERVERS as u8).on_etcd(access).line("cluster", "lease = \"2s\"").line("cluster", line)
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn nodes_come_and_go_with_their_keys_and_nonsense_changes_nothing() {
    scene(&plan(Access::Open, "skydns-follow = \"/skydns\""), |cluster| {
        let first = wait_for_agreement(cluster, &ALL)?;
        for node in &cluster.nodes {
            // An empty store must not lead to a cluster without nodes.
            wait_for_alarm(node, Some("no address of a node"))?;
        }
        let mut keys = Vec::new();
        for (number, node) in (1..).zip(&cluster.nodes) {
            for (mark, address) in node.addresses.iter().enumerate() {
                keys.push((format!("{FOLLOWED}/node{number}/{mark:08x}"), record(&address.to_string())));
            }
        }
        // The keys are written at once, because a server that sees only some of them follows those.
        cluster.etcd()?.put_all(&keys)?;
        for node in &cluster.nodes {
            wait_for_alarm(node, None)?;
        }
        ensure!(wait_for_agreement(cluster, &ALL)? == first, "what was there already was written again");
        ensure!(cluster.etcd()?.read("config/nodes")?.contains("[[node]]"), "the nodes are gone");

        // A node, and a service of that node and another node, as ExternalDNS writes them.
        cluster.nodes[2].namespace.ip("addr add 192.0.2.44/24 dev eth0\n")?;
        let written = Instant::now();
        put(cluster, "node4/3f2a1b0c", &record("192.0.2.44"))?;
        answered_by_all(cluster, "node4", &["192.0.2.44"])?;
        println!("a node is answered by all servers {:.2?} after its key was written", written.elapsed());
        for (mark, address) in [("0a", "192.0.2.11"), ("0b", "192.0.2.44")] {
            put(cluster, &format!("db/{mark}"), &record(address))?;
        }
        answered_by_all(cluster, "db", &["192.0.2.11", "192.0.2.44"])?;
        cluster.wait_until_healthy()?;

        let refused = cluster.nodes[0].cli(&["node", "remove", "node4"])?;
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(1) && told.contains(&format!("{FOLLOWED}/node4")), "{told}");
        cluster.nodes[0].cli_ok(&["node", "drain", "node4"])?;
        answered_by_all(cluster, "db", &["192.0.2.11"])?;
        cluster.nodes[1].cli_ok(&["node", "auto", "node4"])?;
        answered_by_all(cluster, "db", &["192.0.2.11", "192.0.2.44"])?;

        let written = Instant::now();
        remove(cluster, "db/0b")?;
        remove(cluster, "node4/3f2a1b0c")?;
        answered_by_all(cluster, "node4", &[])?;
        println!("a node is answered by no server {:.2?} after its key was removed", written.elapsed());
        answered_by_all(cluster, "db", &["192.0.2.11"])?;

        nonsense(cluster)?;
        cluster.etcd()?.ctl(&["del", "--prefix", "/skydns/"])?;
        for node in &cluster.nodes {
            wait_for_alarm(node, Some("no address of a node"))?;
        }
        answered_by_all(cluster, "node1", &["192.0.2.11"])?;
        answered_by_all(cluster, "db", &["192.0.2.11"])
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn nodes_are_imported_once_from_keys_that_are_not_followed() {
    scene(&plan(Access::Open, ""), |cluster| {
        let before = wait_for_agreement(cluster, &ALL)?;
        for (key, address) in
            [("node1/x1", "192.0.2.11"), ("node2/x1", "192.0.2.12"), ("web/x1", "192.0.2.13")]
        {
            put(cluster, key, &record(address))?;
        }
        let config = cluster.nodes[0].config.to_str().context("the path is no text")?.to_owned();
        let line = ["cluster", "import", "--skydns", "/skydns", "--config", &config];
        let printed = cluster.nodes[0].cli_ok(&[&line[..], &["--dry-run"]].concat())?;
        ensure!(printed.contains("[zone]") && printed.contains("name = \"web\""), "{printed}");
        ensure!(wait_for_agreement(cluster, &ALL)? == before, "a dry run has written something");
        cluster.nodes[0].cli_ok(&line)?;
        answered_by_all(cluster, "web", &["192.0.2.13"])?;
        answered_by_all(cluster, "node3", &[])?;
        let empty = ["cluster", "import", "--skydns", "/nothing", "--config", &config];
        let refused = cluster.nodes[0].cli(&empty)?;
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        cluster.nodes[0].cli_ok(&["node", "remove", "web"]).map(drop)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn a_server_without_access_to_the_keys_says_so_until_it_has_it() {
    let plan = plan(Access::Password, "skydns-follow = \"/skydns\"");
    scene(&plan.line("cluster", "skydns-mirror = \"/skydns-live\""), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        for node in &cluster.nodes {
            wait_for_alarm(
                node,
                Some("below /skydns/com/example/demo cannot be followed: the store refuses"),
            )?;
        }
        wait_for_alarm(&cluster.nodes[0], Some("cannot be mirrored"))?;
        for (number, node) in (1..).zip(&cluster.nodes) {
            put(cluster, &format!("node{number}/0a"), &record(&node.ipv4().to_string()))?;
        }
        for (rights, path) in [("read", "/skydns/"), ("readwrite", "/skydns-live/")] {
            cluster.etcd()?.ctl(&["role", "grant-permission", "dns-xdp", "--prefix=true", rights, path])?;
        }
        for node in &cluster.nodes {
            wait_for_alarm(node, None)?;
        }
        wait::until("the mirror has what is followed", SOON, || {
            ensure!(mirrored(cluster, "node3")? == BTreeSet::from([cluster.nodes[2].ipv4()]));
            Ok(())
        })?;
        Ok(())
    });
}

/// Keys without a node's address, and keys that give no valid configuration.
fn nonsense(cluster: &mut Cluster) -> Result<()> {
    let before = wait_for_agreement(cluster, &ALL)?;
    for (key, value) in [
        ("a", "{"),
        ("b", "{\"host\":\"elsewhere.example.com\"}"),
        ("c/x1", "{\"text\":\"\\\"heritage=external-dns,external-dns/owner=default\\\"\"}"),
        ("_tcp/_redis", "{\"host\":\"192.0.2.12\",\"port\":6379}"),
        ("d", "{\"host\":\"224.0.0.1\"}"),
        ("*", "{\"host\":\"192.0.2.99\"}"),
        ("dns/ns/a", "{\"host\":\"192.0.2.99\"}"),
    ] {
        put(cluster, key, value)?;
    }
    sleep(NOTHING_COMES);
    ensure!(wait_for_agreement(cluster, &ALL)? == before, "nonsense has changed a document");
    for node in &cluster.nodes {
        let log = std::fs::read_to_string(&node.log)?;
        let told = log.lines().filter(|line| line.contains("that are not followed: ")).count();
        ensure!((1..=8).contains(&told), "{} tells {told} times what it does not follow", node.name);
        wait_for_alarm(node, None)?;
    }
    // 4 labels of 63 octets: no name of the zone, and no node.
    let long = format!("{}/0a", vec!["l".repeat(63); 4].join("/"));
    put(cluster, &long, &record("192.0.2.98"))?;
    for node in &cluster.nodes {
        wait_for_alarm(node, Some("longer than 255 octets"))?;
    }
    ensure!(wait_for_agreement(cluster, &ALL)? == before, "what is no configuration was written");
    remove(cluster, &long)?;
    for node in &cluster.nodes {
        wait_for_alarm(node, None)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn the_mirror_has_the_answers_through_deaths_of_nodes_and_of_its_writer() {
    const FOREIGN: &str = "{\"host\":\"192.0.2.99\"}";
    let plan = plan(Access::Open, "skydns-mirror = \"/skydns-live\"")
        .tables("[[service]]\nname = \"db.prod\"\nnodes = [\"node2\", \"node3\"]\n");
    scene(&plan, |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let foreign = format!("{MIRRORED}/node2/x1");
        cluster.etcd()?.ctl(&["put", &foreign, "--", FOREIGN])?;
        mirrors(cluster, 0)?;

        let promise = cluster.nodes[0].promise()?;
        let own = BTreeSet::from(cluster.nodes[1].addresses);
        let death = Instant::now();
        cluster.nodes[1].kill_database()?;
        wait::until("the mirror has a substitute", promise + MIRRORED_WITHIN, || {
            let addresses = mirrored(cluster, "node2")?;
            ensure!(addresses.is_disjoint(&own) && !addresses.is_empty(), "{addresses:?}");
            Ok(())
        })?;
        println!(
            "a dead node's name has another's addresses in the mirror {:.2?} after its death",
            death.elapsed()
        );
        mirrors(cluster, 0)?;
        ensure!(mirrored(cluster, "prod/db")? == BTreeSet::from(cluster.nodes[2].addresses), "the service");
        cluster.nodes[1].start_database()?;
        wait::until("the mirror has the node's own addresses", SOON, || {
            ensure!(mirrored(cluster, "node2")? == own);
            Ok(())
        })?;
        cluster.wait_until_healthy()?;
        mirrors(cluster, 0)?;

        // The writing server dies. Another server's node dies while no server may write.
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        let death = Instant::now();
        cluster.nodes[2].kill_database()?;
        wait::until("another has taken over", promise + MIRRORED_WITHIN + SOON, || {
            let addresses = mirrored(cluster, "node3")?;
            ensure!(addresses.is_disjoint(&BTreeSet::from(cluster.nodes[2].addresses)), "{addresses:?}");
            Ok(())
        })?;
        println!("with its writer dead the mirror follows after {:.2?}", death.elapsed());
        mirrors(cluster, 1)?;
        cluster.nodes[2].start_database()?;
        cluster.nodes[0].start()?;
        cluster.wait_until_healthy()?;
        wait_for_agreement(cluster, &ALL)?;
        mirrors(cluster, 0)?;

        // A removed key of the mirror comes back; foreign keys stay.
        cluster.etcd()?.ctl(&["del", &format!("{MIRRORED}/node2/dns-xdp-1")])?;
        wait::until("the key is there again", SOON, || mirrors(cluster, 0))?;
        let left = cluster.etcd()?.ctl(&["get", &foreign, "--print-value-only"])?;
        ensure!(left.trim() == FOREIGN, "what is not ours has become {left:?}");
        let keys = cluster.etcd()?.ctl(&["get", MIRRORED, "--prefix", "--keys-only"])?;
        let marked = |key: &&str| key.rsplit('/').next().is_some_and(|mark| mark.starts_with("dns-xdp-"));
        let others: Vec<&str> = keys.split_whitespace().filter(|key| !marked(key)).collect();
        ensure!(others == [foreign.as_str()], "{others:?}");
        Ok(())
    });
}

/// Waits until every name has the same addresses in the mirror as a server answers, and the same TTL.
fn mirrors(cluster: &Cluster, server: usize) -> Result<()> {
    let dns = cluster.dns_client()?;
    let names = ["node1", "node2", "node3", "ns1", "ns2", "ns3", "dns/apex", "prod/db"];
    for place in names {
        let labels: Vec<&str> = place.rsplit('/').collect();
        let name = match place {
            "dns/apex" => format!("{ZONE}."),
            _ => format!("{}.{ZONE}.", labels.join(".")),
        };
        wait::until(&format!("the mirror has {name}"), MIRRORED_WITHIN, || {
            let mut answered = BTreeSet::new();
            for rtype in [RecordType::A, RecordType::AAAA] {
                answered.extend(dns.addresses(cluster.nodes[server].ipv4(), &name, rtype)?);
            }
            let mirrored = mirrored(cluster, place)?;
            ensure!(mirrored == answered, "{mirrored:?}, and answered is {answered:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The mirror's addresses at a key. The apex's addresses have the zone's TTL.
fn mirrored(cluster: &Cluster, place: &str) -> Result<BTreeSet<IpAddr>> {
    let etcd = cluster.etcd.as_ref().context("no store")?;
    let prefix = format!("{MIRRORED}/{place}/dns-xdp-");
    let values = etcd.ctl(&["get", &prefix, "--prefix", "--print-value-only"])?;
    let address = |line: &str| {
        let value: Value = serde_json::from_str(line)?;
        ensure!(value["ttl"] == 5, "{line}");
        Ok(value["host"].as_str().context("no host")?.parse()?)
    };
    values.lines().filter(|line| !line.is_empty()).map(address).collect()
}

/// A key as ExternalDNS writes it: with its owner, and an additional label.
fn record(host: &str) -> String {
    format!("{{\"host\":\"{host}\",\"text\":\"\\\"heritage=external-dns\\\"\",\"ttl\":30,\"targetstrip\":1}}")
}

fn put(cluster: &Cluster, key: &str, value: &str) -> Result<()> {
    let etcd = cluster.etcd.as_ref().context("no store")?;
    etcd.ctl(&["put", &format!("{FOLLOWED}/{key}"), "--", value]).map(drop)
}

fn remove(cluster: &Cluster, key: &str) -> Result<()> {
    let etcd = cluster.etcd.as_ref().context("no store")?;
    etcd.ctl(&["del", &format!("{FOLLOWED}/{key}")]).map(drop)
}

/// Waits until all servers answer exactly these IPv4 addresses; empty: there is no such name.
fn answered_by_all(cluster: &Cluster, label: &str, expected: &[&str]) -> Result<()> {
    let dns = cluster.dns_client()?;
    let expected: BTreeSet<IpAddr> =
        expected.iter().map(|address| address.parse()).collect::<Result<_, _>>()?;
    for node in &cluster.nodes {
        wait::until(&format!("{} answers {label} as it is to", node.name), FOLLOWED_WITHIN + SOON, || {
            let answered = dns.every_address(node.ipv4(), &format!("{label}.{ZONE}."), RecordType::A)?;
            let answered: BTreeSet<IpAddr> = answered.into_iter().collect();
            ensure!(answered == expected, "it answers {answered:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Waits until a server has an alarm about SkyDNS keys with this text; `None`: until it has none.
fn wait_for_alarm(node: &Node, words: Option<&str>) -> Result<()> {
    wait::until(&format!("the alarm of {} is {words:?}", node.name), SOON, || {
        let status = node.status()?;
        let alarms = status["alarms"].as_array().context("no alarms")?;
        let of_keys: Vec<&str> =
            alarms.iter().filter_map(Value::as_str).filter(|alarm| alarm.contains("SkyDNS")).collect();
        match words {
            Some(words) => ensure!(of_keys.iter().any(|alarm| alarm.contains(words)), "{of_keys:?}"),
            None => ensure!(of_keys.is_empty(), "{of_keys:?}"),
        }
        Ok(())
    })?;
    Ok(())
}
