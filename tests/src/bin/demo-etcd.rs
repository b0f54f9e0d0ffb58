//! Shows step by step how five servers share one view through a store of three members. An operator gives a command to
//! all servers, and two operators give commands at once. Then come a bad link, an agreed death, a server without the
//! store, and a lost store.
use std::net::IpAddr;
use std::process::ExitCode;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dns_xdp_tests::bed::agreement::{view, wait_for_agreement, wait_for_mode};
use dns_xdp_tests::bed::client::Client;
use dns_xdp_tests::bed::cluster::Cluster;
use dns_xdp_tests::bed::demo::{Steps, demonstrate};
use dns_xdp_tests::bed::etcd::{ADDRESSES, Access, Etcd, prefix};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;

const SERVERS: u8 = 5;
const ALL: [usize; SERVERS as usize] = [0, 1, 2, 3, 4];
/// The longest time until an operator's command is in all answers.
const HEARD: Duration = Duration::from_secs(1);
/// The longest time until a dead address is in no answer: the repair bound of the default configuration, and the lease.
const REPAIRED: Duration = Duration::from_secs(9);

fn main() -> ExitCode {
    demonstrate(&Plan::new(SERVERS).on_etcd(Access::Open), play)
}

fn play(steps: &mut Steps, cluster: &mut Cluster) -> Result<()> {
    steps.step("a store of three members gets the shared part of the configuration");
    cluster.start_store()?;
    for (number, address) in (1..).zip(ADDRESSES) {
        println!("   etcd{number:<4}{address}");
    }
    print!("   dns-xdp cluster init --config shared.toml\n   {}", cluster.share()?);

    steps.step("five servers start with their own files, and agree");
    cluster.start()?;
    wait_for_agreement(cluster, &ALL)?;
    println!("   {} holds the zone, {} the nodes", prefix(), SERVERS);
    shown(&cluster.nodes[4], &["status", "--cluster"])?;
    let dns = cluster.dns_client()?;

    steps.step("`node drain` on one server changes the answers of all servers");
    typed(cluster, &dns, 0, "drain", false)?;
    typed(cluster, &dns, 3, "auto", true)?;

    steps.step("two operators at once: one succeeds, and the other gets an error");
    two_at_once(cluster)?;

    steps.step("node1's link to node3 is bad: no answer changes");
    bad_link(cluster, &dns)?;

    steps.step("node5's database dies: the servers agree on it");
    death(cluster, &dns)?;

    steps.step("node1 loses the store: it continues, and judges by itself");
    store(cluster)?.cut_off(&cluster.nodes[0])?;
    println!("   {}", wait_for_mode(&cluster.nodes[0], "alone")?);
    said_by(cluster, &dns)?;
    wait::until("the others miss it", REPAIRED, || {
        let view = view(&cluster.nodes[1])?;
        ensure!(
            view["servers"].as_array().is_some_and(|all| all.iter().any(|it| it["alive"] == false)),
            "{view}"
        );
        Ok(())
    })?;
    shown(&cluster.nodes[1], &["status", "--cluster"])?;

    steps.step("node1 has the store again, and joins without a flap");
    store(cluster)?.join(&cluster.nodes[0])?;
    wait_for_agreement(cluster, &ALL)?;
    said_by(cluster, &dns)?;

    steps
        .step("the store loses its majority: every server keeps answering and judging, and commands fail with an error");
    for member in 0..2 {
        cluster.etcd()?.members[member].kill()?;
    }
    for node in &cluster.nodes {
        wait_for_mode(node, "alone")?;
    }
    said_by(cluster, &dns)?;
    refused(&cluster.nodes[2], &["node", "down", "node2"])?;

    steps.step("the store is back, and so is node5");
    cluster.etcd()?.start_all()?;
    cluster.nodes[4].start_database()?;
    wait_for_agreement(cluster, &ALL)?;
    heard(cluster, &dns, "node5", cluster.nodes[4].ipv4(), true, 2 * REPAIRED)?;
    said_by(cluster, &dns)?;
    Ok(())
}

fn store(cluster: &Cluster) -> Result<&Etcd> {
    cluster.etcd.as_ref().context("there is no store")
}

/// Runs a verb of `node` about node2 on a server (from 0), and waits until every server answers node2's address, or no
/// server does.
fn typed(cluster: &Cluster, dns: &Client, server: usize, verb: &str, is_answered: bool) -> Result<()> {
    let start = Instant::now();
    cluster.nodes[server].cli_ok(&["node", verb, "node2"])?;
    let told = start.elapsed();
    let took = heard(cluster, dns, "node2", cluster.nodes[1].ipv4(), is_answered, HEARD)?;
    let all = told + took;
    println!(
        "   {}: dns-xdp node {verb} node2: told after {told:.0?}, in all answers after {all:.0?}",
        cluster.nodes[server].name
    );
    Ok(())
}

/// Waits until every server answers an address to a name, or until no server does.
fn heard(
    cluster: &Cluster,
    dns: &Client,
    label: &str,
    address: IpAddr,
    is_answered: bool,
    within: Duration,
) -> Result<Duration> {
    let ((), took) = wait::until(&format!("every server has heard of {label}"), within, || {
        for server in &cluster.nodes {
            let answered = only_address(dns, server, label)?;
            ensure!((answered == address) == is_answered, "{} answers {answered}", server.name);
        }
        Ok(())
    })?;
    Ok(took)
}

fn two_at_once(cluster: &Cluster) -> Result<()> {
    let lines: [[&str; 5]; 2] = [
        ["service", "add", "db1", "--nodes", "node1,node2"],
        ["service", "add", "db1", "--nodes", "node3,node4"],
    ];
    let [one, other] = [0, 3].map(|server| &cluster.nodes[server]);
    let outputs = scope(|scope| {
        let first = scope.spawn(|| one.cli(&lines[0]));
        let second = other.cli(&lines[1]);
        let first = first.join().expect("starting a program does not panic");
        Ok::<_, anyhow::Error>([first?, second?])
    })?;
    let mut won = 0;
    for ((output, line), server) in outputs.iter().zip(lines).zip([one, other]) {
        println!(
            "   {}: dns-xdp {}: exit code {}",
            server.name,
            line.join(" "),
            output.status.code().unwrap_or(-1)
        );
        String::from_utf8_lossy(&output.stderr).lines().for_each(|line| println!("     {line}"));
        won += usize::from(output.status.success());
    }
    ensure!(won == 1, "{won} of the two have won");
    wait_for_agreement(cluster, &ALL)?;
    shown(&cluster.nodes[4], &["service", "list"])
}

fn bad_link(cluster: &Cluster, dns: &Client) -> Result<()> {
    let [ipv4, ipv6] = cluster.nodes[0].addresses;
    let link = |verb: &str| {
        let node = &cluster.nodes[2].namespace;
        node.ip(&format!("route {verb} blackhole {ipv4}/32\nroute {verb} blackhole {ipv6}/128\n"))
    };
    link("add")?;
    let etcd = store(cluster)?;
    wait::until("node1 finds node3 dead", REPAIRED, || {
        let verdicts = etcd.read("verdicts/node1")?;
        ensure!(verdicts.contains("\"gone\":[\"node3\"]"), "{verdicts}");
        println!("   verdicts/node1: {}", verdicts.trim());
        Ok(())
    })?;
    sleep(HEARD);
    heard(cluster, dns, "node3", cluster.nodes[2].ipv4(), true, HEARD)?;
    let status = cluster.nodes[0].cli_ok(&["status"])?;
    status.lines().filter(|line| line.contains("node3")).for_each(|line| println!("   {line}"));
    link("del")?;
    cluster.wait_until_healthy()
}

fn death(cluster: &mut Cluster, dns: &Client) -> Result<()> {
    let death = Instant::now();
    cluster.nodes[4].kill_database()?;
    heard(cluster, dns, "node5", cluster.nodes[4].ipv4(), false, REPAIRED)?;
    println!("   out of the answers of all after {:.2} s", death.elapsed().as_secs_f64());
    said_by(cluster, dns)
}

/// Prints each server's answer for node5, and checks that they agree.
fn said_by(cluster: &Cluster, dns: &Client) -> Result<()> {
    let mut said = Vec::new();
    for server in &cluster.nodes {
        let address = only_address(dns, server, "node5")?;
        println!("   {:<8}says node5 is {address}", server.name);
        said.push(address);
    }
    ensure!(said.windows(2).all(|pair| pair[0] == pair[1]), "the servers disagree");
    Ok(())
}

fn only_address(dns: &Client, server: &Node, label: &str) -> Result<IpAddr> {
    let addresses = dns.addresses(server.ipv4(), &format!("{label}.{ZONE}."), RecordType::A)?;
    let [address] = addresses[..] else { anyhow::bail!("{} answers {addresses:?} to {label}", server.name) };
    Ok(address)
}

/// Runs a command on a server and prints its output.
fn shown(server: &Node, arguments: &[&str]) -> Result<()> {
    println!("   {}: dns-xdp {}", server.name, arguments.join(" "));
    server.cli_ok(arguments)?.lines().for_each(|line| println!("     {line}"));
    Ok(())
}

/// Runs a command that has to be refused.
fn refused(server: &Node, arguments: &[&str]) -> Result<()> {
    let output = server.cli(arguments)?;
    ensure!(output.status.code() == Some(1), "it was not refused: {output:?}");
    println!("   {}: dns-xdp {}: exit code 1", server.name, arguments.join(" "));
    String::from_utf8_lossy(&output.stderr).lines().for_each(|line| println!("     {line}"));
    Ok(())
}
