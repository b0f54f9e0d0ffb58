//! Scenes: addresses and interfaces that are added and removed while the responder answers everything.
use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::Ebpf;
use aya::programs::{Xdp, XdpMode};
use dns_xdp::network::{Monitor, Network, peer_has_native_program};
use dns_xdp_tests::bed::client::{Client, Tcp, addresses_in};
use dns_xdp_tests::bed::cluster::{CLIENT, Cluster, stage};
use dns_xdp_tests::bed::netns::Namespace;
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::programs::TESTBED;
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;

/// A daemon follows the network within a second; a busy machine is slower.
const SOON: Duration = Duration::from_secs(8);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn an_address_that_comes_is_served_and_one_that_goes_is_given_up() {
    stage(&off(), |cluster| {
        serve_interfaces(cluster, "\"eth0\"")?;
        cluster.start()?;
        let dns = cluster.dns_client()?;
        let stays = cluster.nodes[0].addresses[1];
        let mut lost = 0;
        let ask = || {
            lost += u32::from(answers(&dns, stays).is_err());
            Ok(())
        };
        let node = &cluster.nodes[0];
        let other = cluster.dns_client()?;
        wait::meanwhile(ask, || {
            node.namespace.ip("addr add 192.0.2.61/32 dev eth0\n")?;
            served(&other, ip("192.0.2.61"))?;
            // Changes an address, as DHCP does with another lease.
            node.namespace.ip("addr add 192.0.2.62/24 dev eth0\naddr del 192.0.2.11/24 dev eth0\n\
                               addr replace 192.0.2.62/24 dev eth0\n")?;
            served(&other, ip("192.0.2.62"))?;
            given_up(node, "192.0.2.11")?;
            node.namespace.ip("addr del 192.0.2.61/32 dev eth0\n")?;
            given_up(node, "192.0.2.61")
        })?;
        assert_eq!(lost, 0, "queries to {stays}, which was there all the time");
        let mut tcp = Tcp::new(&cluster.client, ip("192.0.2.62"));
        let response = tcp.ask(&format!("node1.{ZONE}."), RecordType::A)?;
        ensure!(addresses_in(&response) == [ip("192.0.2.11")], "{response}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_listed_address_that_is_absent_is_waited_for_with_an_alarm() {
    stage(&off(), |cluster| {
        cluster.nodes[0].edit_config("addresses = [", "addresses = [\"192.0.2.53\", ")?;
        cluster.start()?;
        let node = &cluster.nodes[0];
        let dns = cluster.dns_client()?;
        answers(&dns, node.ipv4())?;
        alarm(node, "no interface has 192.0.2.53")?;
        // Moves a virtual address, as keepalived does, but to another interface.
        node.namespace.ip("addr add 192.0.2.53/32 dev lo\n")?;
        served(&dns, ip("192.0.2.53"))?;
        no_alarm(node)?;
        node.namespace.ip("addr del 192.0.2.53/32 dev lo\n")?;
        alarm(node, "no interface has 192.0.2.53")?;
        answers(&dns, node.ipv4())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn an_ipv6_address_is_served_when_it_is_ready_and_never_when_another_machine_has_it() {
    stage(&off(), |cluster| {
        serve_interfaces(cluster, "\"eth0\"")?;
        cluster.start()?;
        let node = &cluster.nodes[0];
        let dns = cluster.dns_client()?;
        node.namespace.enter(|| Ok(fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "1")?))?;
        let theirs = CLIENT[1];
        node.namespace.ip(&format!("addr add {theirs}/64 dev eth0\naddr add 2001:db8::61/64 dev eth0\n"))?;
        served(&dns, ip("2001:db8::61"))?;
        alarm(node, &format!("another machine in the network of eth0 has {theirs}"))?;
        answers(&dns, node.addresses[1])
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_second_daemon_on_the_same_port_is_refused_and_told_who_holds_it() {
    stage(&off(), |cluster| {
        cluster.start()?;
        let node = &cluster.nodes[0];
        let second = node.config.with_file_name("second.toml");
        // The second daemon has a control socket and pins of its own.
        let text = node.config_text()?.replace("/node1.", "/second.").replace("/node1\"", "/second\"");
        fs::write(&second, text)?;
        let mut command = Command::new(process::sibling("dns-xdp")?);
        command.arg("run").arg("--config").arg(second);
        for arguments in [&[][..], &["--replace"]] {
            let output = node.namespace.output(command.args(arguments))?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(1), "{}: {stderr}", output.status);
            let holder = format!("192.0.2.11 is taken by another dns-xdp (pid {})", node.daemon()?);
            ensure!(stderr.contains(&holder) && stderr.contains("--replace"), "{stderr}");
        }
        answers(&cluster.dns_client()?, node.ipv4())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_responder_serves_the_addresses_of_lo() {
    stage(&off(), |cluster| {
        serve_interfaces(cluster, "\"lo\"")?;
        cluster.start()?;
        let node = &cluster.nodes[0];
        let dns = Client::open(&node.namespace)?;
        answers(&dns, ip("127.0.0.1"))?;
        answers(&dns, ip("::1"))?;
        no_alarm(node)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_responder_serves_the_addresses_of_a_tunnel() {
    stage(&off(), |cluster| {
        serve_interfaces(cluster, "\"tun0\"")?;
        let lines = "tuntap add dev tun0 mode tun\nlink set tun0 up\naddr add 198.51.100.1/24 dev tun0\n";
        cluster.nodes[0].namespace.ip(lines)?;
        cluster.start()?;
        let node = &cluster.nodes[0];
        answers(&Client::open(&node.namespace)?, ip("198.51.100.1"))?;
        no_alarm(node)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn an_interface_that_is_missing_is_an_alarm_and_is_taken_when_it_appears() {
    stage(&off(), |cluster| {
        serve_interfaces(cluster, "\"eth0\", \"eth1\"")?;
        cluster.start()?;
        let node = &cluster.nodes[0];
        let missing = "there is no interface eth1 (there are eth0, lo)";
        alarm(node, missing)?;
        let dns = Client::open(&node.namespace)?;
        answers(&dns, node.ipv4())?;
        node.namespace.ip(
            "link add eth1 type veth peer name peer1\naddr add 198.51.100.1/24 dev eth1\nlink set eth1 up\n",
        )?;
        served(&dns, ip("198.51.100.1"))?;
        no_alarm(node)?;
        node.namespace.ip("link del eth1\n")?;
        alarm(node, missing)?;
        given_up(node, "198.51.100.1")
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_daemon_starts_without_any_of_its_interfaces_and_serves_the_first_address_that_comes() {
    stage(&off(), |cluster| {
        serve_interfaces(cluster, "\"eth1\"")?;
        cluster.start()?;
        let node = &cluster.nodes[0];
        alarm(node, "no address is served")?;
        node.namespace.ip("link add eth1 type veth peer name peer1\nlink set eth1 up\n")?;
        alarm(node, "eth1 has no address that can be served")?;
        node.namespace.ip("addr add 198.51.100.1/24 dev eth1\n")?;
        served(&Client::open(&node.namespace)?, ip("198.51.100.1"))
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn an_interface_that_is_named_by_both_its_names_is_served_once() {
    stage(&off(), |cluster| {
        serve_interfaces(cluster, "\"eth0\", \"the-first-port-of-the-first-card\"")?;
        let node = &cluster.nodes[0];
        node.namespace.ip("link property add dev eth0 altname the-first-port-of-the-first-card\n")?;
        // The same address in two networks.
        node.namespace.ip("addr add 192.0.2.11/25 dev eth0\n")?;
        cluster.start()?;
        let node = &cluster.nodes[0];
        alarm(node, "is the same interface as eth0")?;
        answers(&cluster.dns_client()?, node.ipv4())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_thousand_interfaces_and_addresses_are_read() {
    stage(&off(), |cluster| {
        let namespace = &cluster.nodes[0].namespace;
        let pair = |number: usize| {
            let address = format!("10.{}.{}.1", number / 250, number % 250);
            format!("link add a{number} type veth peer name b{number}\naddr add {address}/24 dev a{number}\n")
        };
        namespace.ip(&(0..500).map(pair).collect::<String>())?;
        let network = namespace.enter(|| Ok(Network::read()?))?;
        assert_eq!(network.links.len(), 2 + 1000);
        let addresses = network.addresses.iter().filter(|address| address.ip.to_string().starts_with("10."));
        assert_eq!(addresses.count(), 500);
        let veth = network.named("a499").context("a499 is missing")?;
        let peer = network.named("b499").context("b499 is missing")?;
        assert_eq!(veth.peer.map(|peer| (peer.index, peer.namespace_id)), Some((peer.index, None)));
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_veth_tells_whether_its_peer_has_a_native_program() {
    stage(&off(), |cluster| {
        let namespace = &cluster.nodes[0].namespace;
        namespace.ip("link add eth1 type veth peer name peer1\nlink add mac0 link eth0 type macvlan\n")?;
        namespace.enter(|| {
            let network = Network::read()?;
            let peer = |name| network.named(name).and_then(peer_has_native_program);
            // The switch's end is in another namespace.
            assert_eq!(peer("eth0"), Some(true));
            assert_eq!(peer("eth1"), Some(false));
            assert_eq!(["lo", "mac0"].map(peer), [None; 2]);
            // A generic program does not make the driver accept frames.
            let mut object = Ebpf::load(TESTBED)?;
            let pass: &mut Xdp =
                object.program_mut("pass").context("there is no such program")?.try_into()?;
            pass.load()?;
            let generic = pass.attach("peer1", XdpMode::Skb)?;
            assert_eq!(Network::read()?.named("eth1").and_then(peer_has_native_program), Some(false));
            pass.detach(generic)?;
            pass.attach("peer1", XdpMode::Driver)?;
            assert_eq!(Network::read()?.named("eth1").and_then(peer_has_native_program), Some(true));
            let [eth0, macvlan] = ["eth0", "mac0"].map(|name| network.named(name));
            assert_eq!(macvlan.and_then(|link| link.lower), eth0.map(|link| link.index));
            Ok(())
        })
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_burst_of_changes_is_one_change() {
    stage(&off(), |cluster| {
        let namespace = &cluster.nodes[0].namespace;
        let lines = |verb: &str| -> String {
            let line = |last: u32| format!("addr {verb} 198.51.100.{last}/32 dev lo\n");
            (1..=200).map(line).collect()
        };
        namespace.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut monitor = Monitor::new()?;
                for verb in ["add", "del"] {
                    namespace.ip(&lines(verb))?;
                    let changed = tokio::time::timeout(SOON, monitor.changed()).await;
                    changed.context("nothing was heard of a change")?;
                }
                let again = tokio::time::timeout(Duration::from_millis(300), monitor.changed()).await;
                ensure!(again.is_err(), "a change was heard of where there was none");
                Ok(())
            })
        })
    });
}

fn off() -> Plan {
    Plan::quick(1).line("xdp", "mode = \"off\"")
}

/// Makes the first node serve all addresses of these interfaces.
fn serve_interfaces(cluster: &Cluster, interfaces: &str) -> Result<()> {
    let node = &cluster.nodes[0];
    let listed = "interfaces = [\"eth0\"]\naddresses = [\"192.0.2.11\", \"2001:db8::11\"]\n";
    node.edit_config(listed, &format!("interfaces = [{interfaces}]\n"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("it is an address")
}

fn answers(dns: &Client, server: IpAddr) -> Result<()> {
    let addresses = dns.addresses(server, &format!("node1.{ZONE}."), RecordType::A)?;
    ensure!(addresses == [ip("192.0.2.11")], "node1 is {addresses:?}");
    Ok(())
}

fn served(dns: &Client, server: IpAddr) -> Result<()> {
    wait::until(&format!("{server} is served"), SOON, || answers(dns, server)).map(drop)
}

/// Checks that no socket is bound to the address any more.
fn given_up(node: &Node, address: &str) -> Result<()> {
    let endpoint = format!("{address}:53");
    wait::until(&format!("{address} is given up"), SOON, || {
        let sockets = sockets(&node.namespace)?;
        ensure!(!sockets.contains(&endpoint), "{sockets}");
        Ok(())
    })
    .map(drop)
}

fn sockets(namespace: &Namespace) -> Result<String> {
    namespace.succeed(Command::new("ss").args(["--no-header", "--numeric", "--listening", "--udp", "--tcp"]))
}

fn alarms(node: &Node) -> Result<String> {
    let alarms = node.status()?["alarms"].as_array().context("status has no alarms")?.clone();
    Ok(alarms.iter().filter_map(|alarm| alarm.as_str()).collect::<Vec<_>>().join("\n"))
}

fn alarm(node: &Node, text: &str) -> Result<()> {
    let looked = wait::until(&format!("{text:?} is an alarm"), SOON, || {
        let alarms = alarms(node)?;
        ensure!(alarms.contains(text), "{alarms:?}");
        Ok(())
    });
    looked.map(drop)
}

fn no_alarm(node: &Node) -> Result<()> {
    let looked = wait::until("there is no alarm", SOON, || {
        let alarms = alarms(node)?;
        ensure!(alarms.is_empty(), "{alarms:?}");
        Ok(())
    });
    looked.map(drop)
}
