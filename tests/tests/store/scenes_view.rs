//! Scenes: five servers that share one view through a store of three members, and the effect when something dies.
use std::net::{IpAddr, Ipv4Addr};
use std::process::Output;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use dns_xdp_tests::bed::agreement::{SOON, steady_but_for, view, wait_for_agreement, wait_for_mode, watch};
use dns_xdp_tests::bed::client::Client;
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::etcd::Access;
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use dns_xdp_tests::survive::inquiry::Inquiry;
use dns_xdp_tests::survive::load::{Load, Pace};
use hickory_proto::rr::{RData, RecordType};

const SERVERS: usize = 5;
const ALL: [usize; SERVERS] = [0, 1, 2, 3, 4];
/// The shortest permitted lease, so that no scene waits long for its end.
const LEASE: Duration = Duration::from_secs(2);
/// The tolerance for publishing on a busy machine.
const ALLOWANCE: Duration = Duration::from_secs(1);
/// The tolerance beyond the guaranteed time: agreement of several servers takes no longer if nothing else is wrong.
const AGREEMENT: Duration = Duration::from_millis(200);

fn plan() -> Plan {
    Plan::quick(SERVERS as u8).on_etcd(Access::Open).line("cluster", "lease = \"2s\"")
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn what_is_typed_on_one_server_is_in_all_answers_within_a_second_and_all_are_of_one_mind() {
    scene(&plan(), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let dns = cluster.dns_client()?;
        let down = cluster.nodes[1].ipv4();
        for (verb, server, is_answered) in
            [("down", 0, false), ("up", 3, true), ("drain", 4, false), ("auto", 1, true)]
        {
            let typed = Instant::now();
            cluster.nodes[server].cli_ok(&["node", verb, "node2", "--reason", "a rack is moved"])?;
            let answered = typed.elapsed();
            for asked in &cluster.nodes {
                wait::until(&format!("{} has heard of `node {verb}`", asked.name), SOON, || {
                    let address = address(&dns, asked, "node2")?;
                    ensure!((address == down) == is_answered, "it answers {address}");
                    Ok(())
                })?;
            }
            let took = typed.elapsed();
            println!("node {verb}: told after {answered:.2?}, seen by all after {took:.2?}");
            ensure!(took <= Duration::from_secs(1), "`node {verb}` was seen by all after {took:?}");
        }
        let before = wait_for_agreement(cluster, &ALL)?;
        cluster.nodes[2].cli_ok(&["node", "down", "node2", "--reason", "a rack is moved"])?;
        let epoch = wait_for_agreement(cluster, &ALL)?;
        ensure!(epoch > before, "the epoch is {epoch} as before");
        for node in &cluster.nodes {
            let response = cluster.ask(node.ipv4(), &format!("{ZONE}."), RecordType::SOA)?;
            let serials = response.answers.iter().filter_map(|record| match &record.data {
                RData::SOA(soa) => Some(u64::from(soa.serial)),
                _ => None,
            });
            ensure!(serials.eq([epoch]), "{}: {response}", node.name);
            let status = node.status()?;
            let reason = status["nodes"][1]["reason"].as_str().unwrap_or_default();
            ensure!(reason.contains("a rack is moved"), "{}: {reason:?}", node.name);
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn of_two_operators_who_want_different_things_one_wins_and_the_other_is_told() {
    const ROUNDS: usize = 6;
    const PLACES: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 44)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 45))];
    scene(&plan(), |cluster| {
        for place in PLACES {
            cluster.nodes[3].namespace.ip(&format!("addr add {place}/24 dev eth0\n"))?;
        }
        let [here, there] = PLACES.map(|place| place.to_string());
        let dns = cluster.dns_client()?;
        let mut refused = 0;
        for round in 0..ROUNDS {
            let name = format!("extra{round}");
            let lines = [["node", "add", &name, "--ipv4", &here], ["node", "add", &name, "--ipv4", &there]];
            let outputs = at_once(cluster, [&lines[0], &lines[1]])?;
            let won: Vec<usize> = (0..2).filter(|nth| outputs[*nth].status.success()).collect();
            ensure!(won.len() == 1, "{} of two winners: {outputs:?}", won.len());
            let told = String::from_utf8_lossy(&outputs[1 - won[0]].stderr).into_owned();
            ensure!(outputs[1 - won[0]].status.code() == Some(1), "{outputs:?}");
            ensure!(told.contains(&name), "the loser is not told what has changed: {told}");
            println!("{}", told.trim());
            refused += 1;
            wait_for_agreement(cluster, &ALL)?;
            for node in &cluster.nodes {
                let address = address(&dns, node, &name)?;
                ensure!(address == PLACES[won[0]], "{} answers {address} for {name}", node.name);
            }
            cluster.nodes[round % SERVERS].cli_ok(&["node", "remove", &name])?;
        }
        ensure!(refused == ROUNDS, "{refused} of {ROUNDS} were refused");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn what_two_operators_write_at_once_is_in_force_on_every_server() {
    const ROUNDS: u8 = 4;
    const NAMES: [&str; 2] = ["first", "second"];
    // Both are on the fourth node's machine.
    let place = |name: usize, round: u8| IpAddr::from([192, 0, 2, 40 + 2 * round + name as u8]);
    scene(&plan(), |cluster| {
        for (name, round) in (0..=ROUNDS).flat_map(|round| [(0, round), (1, round)]) {
            cluster.nodes[3].namespace.ip(&format!("addr add {}/24 dev eth0\n", place(name, round)))?;
        }
        for (name, label) in NAMES.into_iter().enumerate() {
            cluster.nodes[0].cli_ok(&["node", "add", label, "--ipv4", &place(name, 0).to_string()])?;
        }
        let dns = cluster.dns_client()?;
        let is_in_force = |cluster: &Cluster, places: [IpAddr; 2]| {
            wait_for_agreement(cluster, &ALL)?;
            for node in &cluster.nodes {
                for (name, place) in NAMES.into_iter().zip(places) {
                    let address = address(&dns, node, name)?;
                    ensure!(address == place, "{} answers {address} for {name}, not {place}", node.name);
                }
            }
            Ok(())
        };
        is_in_force(cluster, [place(0, 0), place(1, 0)])?;
        let mut refused = 0;
        for round in 1..=ROUNDS {
            // Both change the one document that has the nodes: a granted change is in force, a refused one has no
            // effect.
            let [here, there] = [place(0, round), place(1, round)].map(|place| place.to_string());
            let lines =
                [["node", "set", NAMES[0], "--ipv4", &here], ["node", "set", NAMES[1], "--ipv4", &there]];
            let outputs = at_once(cluster, [&lines[0], &lines[1]])?;
            let granted = outputs.each_ref().map(|output| output.status.success());
            ensure!(granted != [false; 2], "neither was granted: {outputs:?}");
            is_in_force(
                cluster,
                [0, 1].map(|name| place(name, if granted[name] { round } else { round - 1 })),
            )?;
            for (name, output) in outputs.iter().enumerate().filter(|(name, _)| !granted[*name]) {
                let told = String::from_utf8_lossy(&output.stderr);
                ensure!(
                    output.status.code() == Some(1) && told.contains("nothing was changed"),
                    "{output:?}"
                );
                // The refused command is repeated, as its message says.
                cluster.nodes[2].cli_ok(&lines[name])?;
                refused += 1;
            }
            is_in_force(cluster, [place(0, round), place(1, round)])?;
        }
        println!("{refused} of {ROUNDS} pairs were in each other's way");
        // Two documents: the nodes, and the intents.
        let back = place(0, 0).to_string();
        let lines: [&[&str]; 2] = [&["node", "down", "node2"], &["node", "set", NAMES[0], "--ipv4", &back]];
        let [one, other] = at_once(cluster, lines)?;
        told(&one).context("node down")?;
        told(&other).context("node set")?;
        is_in_force(cluster, [place(0, 0), place(1, ROUNDS)])?;
        for node in &cluster.nodes {
            ensure!(node.status()?["nodes"][1]["admin"] == "down", "{} has lost the intent", node.name);
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn servers_that_are_cut_off_from_the_store_judge_by_themselves_and_join_again_without_a_flap() {
    scene(&plan(), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let promise = cluster.nodes[0].promise()?;
        for cut in [&[0][..], &[0, 1]] {
            let watched = watch(cluster, &[0, 1, 2, 3])?;
            for server in cut {
                let etcd = cluster.etcd.as_ref().context("no store")?;
                etcd.cut_off(&cluster.nodes[*server])?;
            }
            for server in cut {
                let trouble = wait_for_mode(&cluster.nodes[*server], "alone")?;
                ensure!(!trouble.is_empty(), "a server that is alone does not say why");
            }
            let others: Vec<usize> = ALL.into_iter().filter(|server| !cut.contains(server)).collect();
            wait::until("the others miss them", SOON, || {
                let view = view(&cluster.nodes[4])?;
                for server in cut {
                    let name = &cluster.nodes[*server].name;
                    let servers = view["servers"].as_array().context("no servers")?;
                    let is_alive =
                        servers.iter().any(|server| server["name"] == **name && server["alive"] == true);
                    ensure!(!is_alive, "{name} is alive: {view:#}");
                }
                Ok(())
            })?;
            wait_for_agreement(cluster, &others)?;
            let (dead, death) = (cluster.nodes[4].ipv4(), Instant::now());
            cluster.nodes[4].kill_database()?;
            sleep(promise + ALLOWANCE);
            for server in cut {
                let etcd = cluster.etcd.as_ref().context("no store")?;
                etcd.join(&cluster.nodes[*server])?;
            }
            wait_for_agreement(cluster, &ALL)?;
            sleep(LEASE);
            let repaired = steady_but_for(watched, Some((dead, death)))?;
            println!("{} cut off, a death repaired after {repaired:.2?}", cut.len());
            ensure!(repaired.values().all(|took| *took <= promise + ALLOWANCE), "{repaired:?}");
            ensure!(repaired.len() == 4, "{repaired:?}");
            cluster.nodes[4].start_database()?;
            cluster.wait_until_healthy()?;
            settle(cluster)?;
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn without_a_majority_of_the_store_every_server_repairs_a_death_by_itself() {
    scene(&plan(), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let promise = cluster.nodes[0].promise()?;
        let watched = watch(cluster, &[0, 1, 2, 3])?;
        for member in 1..3 {
            cluster.etcd()?.members[member].kill()?;
        }
        for node in &cluster.nodes {
            wait_for_mode(node, "alone")?;
        }
        let refused = cluster.nodes[0].cli(&["node", "down", "node2"])?;
        ensure!(refused.status.code() == Some(1), "`node down` without a store: {refused:?}");
        let (dead, death) = (cluster.nodes[4].ipv4(), Instant::now());
        cluster.nodes[4].kill_database()?;
        sleep(promise + ALLOWANCE);
        cluster.etcd()?.start_all()?;
        wait_for_agreement(cluster, &ALL)?;
        sleep(LEASE);
        let repaired = steady_but_for(watched, Some((dead, death)))?;
        println!("without a store a death was repaired after {repaired:.2?}");
        ensure!(repaired.values().all(|took| *took <= promise + ALLOWANCE), "{repaired:?}");
        ensure!(repaired.len() == 4, "{repaired:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn one_servers_bad_link_takes_no_node_out_and_a_death_takes_the_dead_out_everywhere() {
    scene(&plan(), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let promise = cluster.nodes[0].promise()?;
        let watched = watch(cluster, &ALL)?;
        turn_away(cluster, "add")?;
        let finds = |cluster: &Cluster, server: usize, node: &str| {
            let etcd = cluster.etcd.as_ref().context("no store")?;
            let verdicts = etcd.read(&format!("verdicts/{}", cluster.nodes[server].name))?;
            let verdicts: serde_json::Value = serde_json::from_str(&verdicts)?;
            let gone = verdicts["gone"].as_array().cloned().unwrap_or_default();
            ensure!(gone.iter().any(|gone| *gone == node), "{verdicts}");
            Ok(())
        };
        // The server does notice its bad link.
        wait::until("the server does not hear the node", SOON, || finds(cluster, 0, "node3"))?;
        sleep(promise + LEASE + ALLOWANCE);
        steady_but_for(watched, None).context("of a bad link")?;
        turn_away(cluster, "del")?;
        cluster.wait_until_healthy()?;
        wait_for_agreement(cluster, &ALL)?;

        for silent in [false, true] {
            let watched = watch(cluster, &[0, 1, 2, 3])?;
            let (dead, death) = (cluster.nodes[4].ipv4(), Instant::now());
            if silent {
                cluster.nodes[4].die()?;
            } else {
                cluster.nodes[4].kill_database()?;
            }
            sleep(promise + LEASE + AGREEMENT);
            let repaired = steady_but_for(watched, Some((dead, death)))?;
            let worst = repaired.values().max().copied().unwrap_or_default();
            let kind = if silent { "a node died" } else { "a service died" };
            println!(
                "{kind}: out of all servers' answers after {worst:.2?}; promise {promise:.2?}, lease {LEASE:?}"
            );
            ensure!(repaired.len() == 4 && worst <= promise + LEASE, "{kind}: {repaired:?}");
            if worst > promise + AGREEMENT {
                println!("later than the promise and {AGREEMENT:?}");
            }
            if !silent {
                cluster.nodes[4].start_database()?;
                cluster.wait_until_healthy()?;
                settle(cluster)?;
            }
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn an_upgrade_of_one_server_after_the_other_loses_no_query() {
    scene(&plan(), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let mut inquiries = Vec::new();
        for node in &cluster.nodes {
            inquiries.extend(Inquiry::of_node(&cluster.client, &node.name, node.addresses)?);
        }
        let watched = watch(cluster, &ALL)?;
        let load = Load::start(&cluster.client, inquiries, Pace::of(5_000))?;
        for server in ALL {
            cluster.nodes[server].replace()?;
            wait_for_mode(&cluster.nodes[server], "joined")?;
        }
        wait_for_agreement(cluster, &ALL)?;
        let tally = load.finish()?;
        println!("five replaced: {}", tally.text());
        ensure!(tally.is_clean(), "{}", tally.text());
        steady_but_for(watched, None).map(drop)
    });
}

/// Waits until all servers give the configured answers, so that later changes have another cause.
fn settle(cluster: &Cluster) -> Result<()> {
    let dns = cluster.dns_client()?;
    for server in &cluster.nodes {
        for node in &cluster.nodes {
            wait::until(&format!("{} answers {}", server.name, node.name), SOON, || {
                let address = address(&dns, server, &node.name)?;
                ensure!(address == node.ipv4(), "it answers {address}");
                Ok(())
            })?;
        }
    }
    wait_for_agreement(cluster, &ALL).map(drop)
}

fn address(dns: &Client, server: &Node, label: &str) -> Result<IpAddr> {
    let addresses = dns.addresses(server.ipv4(), &format!("{label}.{ZONE}."), RecordType::A)?;
    let [address] = addresses[..] else { bail!("{} answers {addresses:?} for {label}", server.name) };
    Ok(address)
}

/// Drops all packets from node3 to the server of node1.
fn turn_away(cluster: &Cluster, verb: &str) -> Result<()> {
    let [ipv4, ipv6] = cluster.nodes[0].addresses;
    let node = &cluster.nodes[2].namespace;
    node.ip(&format!("route {verb} blackhole {ipv4}/32\nroute {verb} blackhole {ipv6}/128\n"))
}

/// Runs two verbs at once, on two servers.
fn at_once(cluster: &Cluster, lines: [&[&str]; 2]) -> Result<[Output; 2]> {
    let [one, other] = [0, 1].map(|server| &cluster.nodes[server]);
    scope(|scope| {
        let first = scope.spawn(|| one.cli(lines[0]));
        let second = other.cli(lines[1]);
        let first = first.join().expect("starting a program does not panic");
        Ok([first?, second?])
    })
}

fn told(output: &Output) -> Result<()> {
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
