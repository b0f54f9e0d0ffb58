//! The main job, shown step by step: a cluster zone answered at the NIC, a node that dies, and its return. Meanwhile a
//! real client connects to a real database by the node's name.
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use dns_xdp_tests::bed::client::Client;
use dns_xdp_tests::bed::client::dig::{Record, Reply};
use dns_xdp_tests::bed::cluster::{CLIENT, Cluster};
use dns_xdp_tests::bed::demo::{Steps, demonstrate};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::parent::{ADDRESSES, PARENT};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::redis::{Attempt, Connections, Span, spans};
use dns_xdp_tests::bed::unbound;
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;

const NODES: u8 = 3;
/// The longest time until a client sees the dead address replaced, with the default configuration.
const FAILOVER_LIMIT: Duration = Duration::from_secs(4);
const FAILBACK_LIMIT: Duration = Duration::from_secs(15);
/// The longest time until caches have dropped the dead address: twice the failover and the TTL of the defaults.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(18);
/// The longest time until a client connects again: the failover, the TTL, and the resolver's wait for the dead server.
const CONNECTED_WITHIN: Duration = Duration::from_secs(18);
/// The client's attempts before anything happens.
const ATTEMPTS: usize = 20;
/// A resolver's client asks again soon. Unbound drops an answer that took longer than 1.9 s (`discard-timeout`), and
/// answers the next query at once.
const AS_CLIENTS_ASK: [&str; 2] = ["+time=2", "+tries=5"];

fn main() -> ExitCode {
    demonstrate(&Plan::new(NODES), play)
}

fn play(steps: &mut Steps, cluster: &mut Cluster) -> Result<()> {
    steps.step("three nodes, a parent zone, a client with its resolver");
    cluster.delegate()?;
    cluster.start()?;
    cluster.resolve()?;
    show_stations(cluster)?;
    let dns = cluster.dns_client()?;

    steps.step("the parent zone has the records of `dns-xdp delegation show`");
    delegation(cluster)?;

    steps.step("the client asks the parent, and is referred to the cluster's own nodes");
    let servers = referral(cluster)?;

    steps.step("it asks the nodes in turn, and the first answers");
    answers(cluster, servers[0])?;

    steps.step("address queries are answered in XDP: the responder sees none of them");
    counters(cluster, &dns)?;

    steps.step("the resolver has an empty cache, and finds node1 from the root down");
    resolve(cluster, "node1")?;
    resolve(cluster, "node2")?;

    steps.step("`dns-xdp delegation verify` asks the parent, every server and the resolver");
    verify(cluster, 0)?;

    steps.step("a client of the database connects to node2 by its name, ten times a second");
    let client = connect(cluster)?;

    steps.step("node2 dies: cable pulled, database and daemon killed");
    let death = Instant::now();
    cluster.nodes[1].die()?;
    failover(cluster, &dns, death)?;

    steps.step("the dead address is in no answer, and the servers agree");
    dead_address_is_gone(cluster, &dns)?;

    steps.step("a resolver that tries the dead server asks the next one");
    next_server(cluster, &servers)?;

    steps.step("so does the client's, and it finds every name");
    resolver_goes_on(cluster)?;

    steps.step("the client of the database connects again, to a living node");
    connects_again(cluster, &client, death)?;

    steps.step("`dns-xdp delegation verify` shows which server is dead");
    verify(cluster, 1)?;

    steps.step("node2 comes back");
    let start = Instant::now();
    cluster.nodes[1].come_back()?;
    failback(cluster, &dns, start)?;
    verify(cluster, 0)?;

    steps.step("the client of the database is on node2 again: its attempts, in seconds from the death");
    on_node2_again(cluster, client, death)
}

fn show_stations(cluster: &Cluster) -> Result<()> {
    for node in &cluster.nodes {
        let status = node.status()?;
        let mode = status["interfaces"][0]["mode"].as_str().unwrap_or("none");
        println!("   {:<8}{:<14}{:<16}xdp: {mode}", node.name, node.addresses[0], node.addresses[1]);
        ensure!(mode == "native", "{} does not answer in XDP's native mode: {mode}", node.name);
    }
    println!("   {:<8}{:<14}{:<16}nsd, zone {PARENT} and the root", "parent", ADDRESSES[0], ADDRESSES[1]);
    println!("   {:<8}{:<14}{:<16}unbound on {}", "client", CLIENT[0], CLIENT[1], unbound::ADDRESS);
    Ok(())
}

fn delegation(cluster: &Cluster) -> Result<()> {
    for line in cluster.delegation()?.lines() {
        println!("   {line}");
    }
    Ok(())
}

/// Asks the client's resolver for the IPv4 address of a name, which has to be a living node's.
fn resolve(cluster: &Cluster, name: &str) -> Result<()> {
    let [time, tries] = AS_CLIENTS_ASK;
    let reply = dig(cluster, unbound::ADDRESS, &[time, tries, &format!("{name}.{ZONE}"), "A"])?;
    ensure!(reply.has_flag("ra") && !reply.answers.is_empty(), "it resolves nothing:\n{}", reply.text);
    show("answer", &reply.answers);
    Ok(())
}

/// Runs `delegation verify` and prints it; it has to end with `exit_code`.
fn verify(cluster: &Cluster, exit_code: i32) -> Result<()> {
    let output = cluster.verify(&[])?;
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines() {
        println!("   {line}");
    }
    let code = output.status.code();
    println!("   exit code {}", code.unwrap_or(-1));
    ensure!(code == Some(exit_code), "the exit code is not {exit_code}");
    let dead = text.lines().filter(|line| line.starts_with("fail"));
    ensure!(dead.clone().all(|line| line.contains(" ns2.")), "it is not ns2 that fails");
    ensure!((dead.count() > 0) == (exit_code == 1), "the lines do not say what the exit code does");
    Ok(())
}

/// Prints the parent's referral: the NS set with glue. Returns the servers' IPv4 addresses in the order of the
/// referral.
fn referral(cluster: &Cluster) -> Result<Vec<IpAddr>> {
    let qname = format!("node1.{ZONE}");
    let reply = dig(cluster, ADDRESSES[0], &["+norecurse", &qname, "A"])?;
    ensure!(reply.answers.is_empty() && !reply.has_flag("aa"), "the parent answered instead of referring");
    show("authority", &reply.authority);
    show("glue", &reply.additional);
    let mut servers = Vec::new();
    for ns in &reply.authority {
        let glue = reply.additional.iter().find(|record| record.name == ns.data && record.rtype == "A");
        servers.push(glue.with_context(|| format!("no glue for {}", ns.data))?.data.parse()?);
    }
    ensure!(servers.len() == usize::from(NODES), "the referral names {} servers", servers.len());
    Ok(servers)
}

fn answers(cluster: &Cluster, server: IpAddr) -> Result<()> {
    for (qname, qtype) in [
        (ZONE.to_owned(), "NS"),
        (format!("ns1.{ZONE}"), "A"),
        (format!("node1.{ZONE}"), "A"),
        (format!("node1.{ZONE}"), "AAAA"),
    ] {
        let reply = dig(cluster, server, &["+norecurse", &qname, qtype])?;
        ensure!(
            reply.has_flag("aa") && !reply.answers.is_empty(),
            "no authoritative answer:\n{}",
            reply.text
        );
        show("answer", &reply.answers);
        show("additional", &reply.additional);
    }
    Ok(())
}

/// Asks every node for every node's addresses and compares its counters before and after.
fn counters(cluster: &Cluster, dns: &Client) -> Result<()> {
    println!("   {:<8}{:>8}{:>8}{:>12}", "", "queries", "in XDP", "responder");
    for server in &cluster.nodes {
        let before = server.stats()?;
        let mut queries = 0;
        for node in &cluster.nodes {
            let qname = format!("{}.{ZONE}.", node.name);
            for (address, rtype) in server.addresses.iter().zip([RecordType::A, RecordType::AAAA]) {
                dns.addresses(*address, &qname, rtype)?;
                queries += 1;
            }
        }
        let after = server.stats()?;
        let in_xdp = after.answered_by_xdp() - before.answered_by_xdp();
        let by_responder = after.answered_by_responder() - before.answered_by_responder();
        println!("   {:<8}{queries:>8}{in_xdp:>8}{by_responder:>12}", server.name);
        ensure!(in_xdp == queries && by_responder == 0, "{} did not answer all of them in XDP", server.name);
    }
    Ok(())
}

fn failover(cluster: &Cluster, dns: &Client, death: Instant) -> Result<()> {
    let dead = &cluster.nodes[1];
    let qname = format!("{}.{ZONE}.", dead.name);
    let living = living(cluster);
    let mut replaced: Vec<Option<(Duration, IpAddr)>> = vec![None; living.len()];
    wait::until("every server answers a healthy node's address", FAILOVER_LIMIT * 2, || {
        for (server, slot) in living.iter().zip(&mut replaced).filter(|(_, slot)| slot.is_none()) {
            let address = only_address(dns, server.ipv4(), &qname)?;
            if living.iter().any(|node| node.ipv4() == address) {
                *slot = Some((death.elapsed(), address));
            }
        }
        ensure!(replaced.iter().all(Option::is_some), "{qname} is {} still", dead.ipv4());
        Ok(())
    })?;
    let mut slowest = Duration::ZERO;
    for (server, (time, address)) in living.iter().zip(replaced.into_iter().flatten()) {
        println!("   {:<8}says {} is {address} after {:.2} s", server.name, dead.name, time.as_secs_f64());
        slowest = slowest.max(time);
    }
    ensure!(slowest <= FAILOVER_LIMIT, "that took longer than {FAILOVER_LIMIT:?}");
    Ok(())
}

fn dead_address_is_gone(cluster: &Cluster, dns: &Client) -> Result<()> {
    let dead = &cluster.nodes[1];
    let types = [RecordType::A, RecordType::AAAA, RecordType::NS];
    let mut names = vec![format!("{ZONE}.")];
    for number in 1..=NODES {
        names.extend([format!("node{number}.{ZONE}."), format!("ns{number}.{ZONE}.")]);
    }
    for qname in &names {
        for rtype in types {
            let mut views = Vec::new();
            for server in living(cluster) {
                let mut addresses = dns.every_address(server.ipv4(), qname, rtype)?;
                if let Some(address) = addresses.iter().find(|address| dead.addresses.contains(address)) {
                    bail!("{} answers {address} to {qname} {rtype}", server.name);
                }
                addresses.sort();
                views.push(addresses);
            }
            ensure!(views.windows(2).all(|pair| pair[0] == pair[1]), "{qname} {rtype} differs: {views:?}");
            if rtype == RecordType::A {
                let addresses: Vec<String> = views[0].iter().map(ToString::to_string).collect();
                println!("   {qname:<26}A    {}", addresses.join(", "));
            }
        }
    }
    println!("   {} names, types A, AAAA and NS, on {} servers", names.len(), NODES - 1);
    Ok(())
}

/// Asks the servers like a resolver that begins with the dead one.
fn next_server(cluster: &Cluster, servers: &[IpAddr]) -> Result<()> {
    let qname = format!("node2.{ZONE}");
    let dead = cluster.nodes[1].ipv4();
    let order = std::iter::once(dead).chain(servers.iter().copied().filter(|server| *server != dead));
    for server in order {
        match cluster.dig(server, &["+norecurse", &qname, "A"]) {
            Ok(reply) => {
                println!("   dig @{server:<12}answers in time");
                show("answer", &reply.answers);
                return Ok(());
            }
            Err(_) => println!("   dig @{server:<12}no answer: on to the next"),
        }
    }
    bail!("no server answers")
}

/// Waits until the resolver, which caches the dead address for its TTL, no longer answers it.
fn resolver_goes_on(cluster: &Cluster) -> Result<()> {
    let dead = cluster.nodes[1].ipv4().to_string();
    let qname = format!("node2.{ZONE}");
    let [time, tries] = AS_CLIENTS_ASK;
    let ask = |qname: &str| cluster.dig(unbound::ADDRESS, &[time, tries, qname, "A"]);
    println!("   dig @{} {time} {tries} {qname} A, and the others", unbound::ADDRESS);
    let (reply, _) = wait::until("the resolver forgets the dead address", FORGOTTEN_WITHIN, || {
        let reply = ask(&qname)?;
        ensure!(!reply.data("A").contains(&dead.as_str()), "it holds {dead}");
        Ok(reply)
    })?;
    show("answer", &reply.answers);
    for name in ["node1", "node3", "ns1", "ns2", "ns3"] {
        let reply = ask(&format!("{name}.{ZONE}"))?;
        let addresses = reply.data("A");
        ensure!(!addresses.is_empty() && !addresses.contains(&dead.as_str()), "{name}:\n{}", reply.text);
        show("", &reply.answers);
    }
    Ok(())
}

/// Starts a client that connects to node2 by name, and waits for some connections without a failure.
fn connect(cluster: &Cluster) -> Result<Connections> {
    let host = format!("node2.{ZONE}");
    let client = Connections::start(cluster.redis_cli()?, &host);
    println!("   {}", Connections::command_line(&host));
    let node2 = cluster.nodes[1].ipv4();
    client.wait_until("the client connects to node2", CONNECTED_WITHIN, |attempts| {
        attempts.len() >= ATTEMPTS
            && attempts.iter().rev().take(ATTEMPTS).all(|attempt| attempt.outcome == Ok(node2))
    })?;
    println!("   {} attempts, {}", client.so_far().len(), seen(cluster, &Ok(node2)));
    Ok(client)
}

/// Waits until an attempt that began after the death has found a living node, and prints what the client saw.
fn connects_again(cluster: &Cluster, client: &Connections, death: Instant) -> Result<()> {
    let dead = cluster.nodes[1].ipv4();
    let is_again = |attempt: &Attempt| {
        attempt.at > death && attempt.outcome.as_ref().is_ok_and(|address| *address != dead)
    };
    client.wait_until("the client connects again", CONNECTED_WITHIN, |attempts| {
        attempts.last().is_some_and(is_again)
    })?;
    print_connections(cluster, &client.so_far(), death)
}

fn on_node2_again(cluster: &Cluster, client: Connections, death: Instant) -> Result<()> {
    let node2 = cluster.nodes[1].ipv4();
    client.wait_until("the client connects to node2", CONNECTED_WITHIN, |attempts| {
        attempts.last().is_some_and(|attempt| attempt.outcome == Ok(node2))
    })?;
    print_connections(cluster, &client.finish()?, death)
}

/// Prints the table of the client's attempts. They may fail only around the death, and not for long.
fn print_connections(cluster: &Cluster, attempts: &[Attempt], death: Instant) -> Result<()> {
    let seconds = |at: Instant| match at.checked_duration_since(death) {
        Some(after) => format!("+{:.1}", after.as_secs_f64()),
        None => format!("-{:.1}", (death - at).as_secs_f64()),
    };
    let spans = spans(attempts);
    println!("   {:>8}{:>8}{:>10}   each of them", "from", "to", "attempts");
    for Span { first, last, attempts, outcome } in &spans {
        println!("   {:>8}{:>8}{attempts:>10}   {}", seconds(*first), seconds(*last), seen(cluster, outcome));
    }
    let failed: Vec<&Attempt> = attempts.iter().filter(|attempt| attempt.outcome.is_err()).collect();
    let [first, .., last] = failed[..] else { bail!("the death cost the client {} attempts", failed.len()) };
    println!(
        "   {} of {} attempts failed: those from {} s to {} s",
        failed.len(),
        attempts.len(),
        seconds(first.at),
        seconds(last.at)
    );
    ensure!(last.at < death + CONNECTED_WITHIN, "they failed for longer than {CONNECTED_WITHIN:?}");
    Ok(())
}

/// The outcome of an attempt, in words.
fn seen(cluster: &Cluster, outcome: &Result<IpAddr, String>) -> String {
    match outcome {
        Ok(address) => {
            let node = cluster.nodes.iter().find(|node| node.ipv4() == *address);
            format!("{address} answers, {}", node.map_or("which is no node", |node| &node.name))
        }
        Err(reason) => format!("FAILED: {reason}"),
    }
}

fn failback(cluster: &Cluster, dns: &Client, start: Instant) -> Result<()> {
    let node = &cluster.nodes[1];
    let qname = format!("{}.{ZONE}.", node.name);
    for server in &cluster.nodes {
        wait::until("node2 answers its own address again", FAILBACK_LIMIT, || {
            let address = only_address(dns, server.ipv4(), &qname)?;
            ensure!(address == node.ipv4(), "{} says {address}", server.name);
            Ok(())
        })?;
        println!(
            "   {:<8}says {} is {} after {:.2} s",
            server.name,
            node.name,
            node.ipv4(),
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

fn living(cluster: &Cluster) -> Vec<&Node> {
    cluster.nodes.iter().filter(|node| node.name != "node2").collect()
}

fn only_address(dns: &Client, server: IpAddr, qname: &str) -> Result<IpAddr> {
    let addresses = dns.addresses(server, qname, RecordType::A)?;
    ensure!(addresses.len() == 1, "{server} answers {addresses:?} to {qname}");
    Ok(addresses[0])
}

fn dig(cluster: &Cluster, server: IpAddr, arguments: &[&str]) -> Result<Reply> {
    println!("   dig @{server} {}", arguments.join(" "));
    cluster.dig(server, arguments)
}

fn show(section: &str, records: &[Record]) {
    let mut label = section;
    for record in records {
        println!("     {label:<12}{:<24}{:>4} {:<5}{}", record.name, record.ttl, record.rtype, record.data);
        label = "";
    }
}
