//! Scenes: a router, a route or a firewall refuses every kind of probe to nodes.
//!
//! A router's refusal is a dead path: the nodes are down and not visible. A refusal by this machine's own routes or
//! firewall is its own trouble: the verdicts stay, with an alarm.
use std::fs;
use std::net::{Ipv6Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, stage};
use dns_xdp_tests::bed::netns::Namespace;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::router::{FAR, Router};
use dns_xdp_tests::bed::views::SOON;
use dns_xdp_tests::bed::wait;
use dns_xdp_tests::bed::web::{Page, Web};
use hickory_proto::op::Message;
use serde_json::Value;

const WEB_PORT: u16 = 8080;
/// The nodes that are probed at the far host, by their position: node2 to node6.
const FAR_NODES: usize = 5;
/// The nodes that the daemon probes itself; a command probes the last one.
const OWN_PROBES: usize = 4;
/// The time of a few verdicts.
const WHILE: Duration = Duration::from_secs(2);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn what_a_router_refuses_with_icmp_is_a_dead_path_to_every_probe() {
    // All codes (RFC 792; RFC 1812, section 5.2.7.1).
    behind_a_router(0, |cluster, router| refused_with(cluster, router, 0..=15));
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn what_a_router_refuses_with_icmpv6_is_a_dead_path_to_every_probe() {
    // All codes (RFC 4443, section 3.1; RFC 7112, section 5 has the others).
    behind_a_router(1, |cluster, router| refused_with(cluster, router, 0..=7));
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn what_a_route_or_a_firewall_of_this_machine_refuses_is_its_own_trouble() {
    for family in [0, 1] {
        behind_a_router(family, |cluster, _router| {
            let server = &cluster.nodes[0].namespace;
            let far = FAR[family];
            server.ip(&format!("route add prohibit {far}\n"))?;
            stays_up_with_an_alarm(cluster, "the route prohibits it")?;
            server.ip(&format!("route del prohibit {far}\n"))?;
            all_up(cluster)?;
            let ip = if family == 0 { "ip" } else { "ip6" };
            let rules = format!(
                "table inet refuse {{\n chain output {{\n  type filter hook output priority 0\n  {ip} daddr {far} reject\n }}\n}}\n"
            );
            server.enter(|| process::succeed(std::process::Command::new("nft").args(["-f", "-"]), &rules))?;
            stays_up_with_an_alarm(cluster, "the firewall rejects it")
        });
    }
}

/// Plays with a server whose nodes 2 to 6 are behind a router, each probed by another kind over one family.
fn behind_a_router(family: usize, play: impl Fn(&Cluster, &Router) -> Result<()>) {
    let directory = tempfile::tempdir().expect("there is room for a file");
    let command = command(directory.path());
    let far = FAR[family];
    let kinds = [
        format!("probe = \"tcp\", port = {WEB_PORT}"),
        format!("probe = \"http\", port = {WEB_PORT}"),
        "probe = \"icmp\"".to_owned(),
        "probe = \"dns\"".to_owned(),
        format!("probe = \"exec\", command = [\"{command}\"]"),
    ];
    let mut plan = Plan::quick(6).line("failover", "quorum = 1");
    for line in ["fall = 2", "rise = 1", "rise-max = 1"] {
        plan = plan.line("health", line);
    }
    for (number, kind) in (2..).zip(&kinds) {
        plan = plan.line(&format!("node{number}"), &format!("health = {{ {kind}, target = \"{far}\" }}"));
    }
    stage(&plan, |cluster| {
        let router = Router::start(cluster)?;
        let _web = Web::start(&router.far, WEB_PORT, Page { status: "200 OK", body: "", tls: None })?;
        let _name_server = NameServer::start(&router.far)?;
        cluster.nodes[0].start_database()?;
        cluster.nodes[0].start()?;
        all_up(cluster)?;
        play(cluster, &router)
    });
}

fn refused_with(cluster: &Cluster, router: &Router, codes: impl Iterator<Item = u8>) -> Result<()> {
    for code in codes {
        router.refuse(code)?;
        wait::until(&format!("code {code} is a dead path"), SOON, || {
            let status = cluster.nodes[0].status()?;
            let nodes = &far_nodes(&status);
            ensure!(nodes.iter().all(|node| node["health"] == "down"), "{nodes:#?}");
            ensure!(status["quorum"]["visible"] == 1, "{status:#}");
            let alarms = own_trouble(&status);
            ensure!(alarms.is_empty(), "{alarms:?}");
            Ok(())
        })?;
        ensure!(router.refusals(code) > 0, "the router has not refused anything with code {code}");
        router.open()?;
        all_up(cluster)?;
    }
    Ok(())
}

fn all_up(cluster: &Cluster) -> Result<()> {
    wait::until("all nodes are up and visible", SOON, || {
        let status = cluster.nodes[0].status()?;
        let nodes = &far_nodes(&status);
        ensure!(nodes.iter().all(|node| node["health"] == "up"), "{nodes:#?}");
        ensure!(status["quorum"]["visible"] == FAR_NODES + 1, "{status:#}");
        Ok(())
    })?;
    Ok(())
}

/// Checks that no verdict of the daemon's own probes changes, and that an alarm says why.
fn stays_up_with_an_alarm(cluster: &Cluster, why: &str) -> Result<()> {
    let look = || {
        let status = cluster.nodes[0].status()?;
        let nodes = &far_nodes(&status)[..OWN_PROBES];
        ensure!(nodes.iter().all(|node| node["health"] == "up"), "{why}: {nodes:#?}");
        let alarms = own_trouble(&status).join("; ");
        Ok((0..OWN_PROBES).all(|node| alarms.contains(&format!("node{}", node + 2))).then_some(()))
    };
    wait::until(&format!("an alarm says that {why}"), SOON, || {
        ensure!(look()?.is_some(), "{:#}", cluster.nodes[0].status()?);
        Ok(())
    })?;
    let before = std::time::Instant::now();
    while before.elapsed() < WHILE {
        ensure!(look()?.is_some(), "the alarm went: {:#}", cluster.nodes[0].status()?);
        thread::sleep(wait::POLL);
    }
    Ok(())
}

fn far_nodes(status: &Value) -> Vec<Value> {
    status["nodes"].as_array().map(|nodes| nodes[1..].to_vec()).unwrap_or_default()
}

fn own_trouble(status: &Value) -> Vec<String> {
    let alarms = status["alarms"].as_array().cloned().unwrap_or_default();
    let texts = alarms.iter().filter_map(Value::as_str).map(str::to_owned);
    texts.filter(|text| text.contains("cannot probe")).collect()
}

/// A command that connects; its exit code shows that the host is not visible.
fn command(directory: &Path) -> String {
    let path = directory.join("connect");
    let text = format!("#!/bin/bash\n(: < /dev/tcp/$DNS_XDP_ADDRESS/{WEB_PORT}) 2> /dev/null || exit 75\n");
    fs::write(&path, text).expect("there is room for a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    path.display().to_string()
}

/// A name server that answers every query with authority. A drop ends the server.
struct NameServer {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    fn start(on: &Namespace) -> Result<Self> {
        let socket = on.enter(|| Ok(UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 53))?))?;
        socket.set_read_timeout(Some(wait::POLL))?;
        let over = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let over = over.clone();
            move || {
                let mut buffer = [0; 512];
                while !over.load(Ordering::Relaxed) {
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                    let Ok(query) = Message::from_vec(&buffer[..length]) else { continue };
                    let mut answer = query.into_response();
                    answer.metadata.authoritative = true;
                    if let Ok(octets) = answer.to_vec() {
                        socket.send_to(&octets, from).ok();
                    }
                }
            }
        });
        Ok(NameServer { over, thread: Some(thread) })
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
