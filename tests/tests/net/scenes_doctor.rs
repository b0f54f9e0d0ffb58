//! Scenes: every remedy of `doctor` is applied exactly as printed, and then nothing is wrong any more.
use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::cluster::{CLIENT, stage};
use dns_xdp_tests::bed::doctor::{about, apply, cure, is_well, look, path, read};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::wait;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_switches_interfaces_on() {
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        node.namespace.ip("link set eth0 down\n")?;
        assert_eq!(cure(node, "eth0")?, "ip link set dev eth0 up");
        node.namespace.ip("link add mac0 link eth0 type macvlan\naddr add 198.51.100.1/24 dev mac0\n")?;
        serve(node, &["mac0"], &[])?;
        node.namespace.ip("link set eth0 down\n")?;
        assert_eq!(cure(node, "mac0")?, "ip link set dev eth0 up; ip link set dev mac0 up");
        node.namespace.ip("link set eth0 down\n")?;
        assert_eq!(cure(node, "mac0")?, "ip link set dev eth0 up");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_corrects_the_interfaces_of_the_configuration() {
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        serve(node, &["eth9"], &[])?;
        assert_eq!(cure(node, "eth9")?, "write [listen] interfaces = [\"eth0\"]");
        serve(node, &["eth9", "eth0"], &[])?;
        cure(node, "eth9")?;
        node.namespace.ip("link property add dev eth0 altname the-first-port\n")?;
        serve(node, &["the-first-port", "eth0"], &[])?;
        assert_eq!(cure(node, "eth0")?, "write [listen] interfaces = [\"the-first-port\"]");
        // An address on an interface that is not configured.
        add_pair(node)?;
        node.namespace.ip("addr add 192.0.2.53/32 dev eth1\n")?;
        serve(node, &["eth0"], &["192.0.2.11", "192.0.2.53"])?;
        let remedy = cure(node, "address 192.0.2.53")?;
        assert_eq!(remedy, "write [listen] interfaces = [\"eth0\", \"eth1\"]");
        serve(node, &["eth1"], &[])?;
        node.namespace.ip("addr del 192.0.2.53/32 dev eth1\n")?;
        assert_eq!(cure(node, "addresses")?, "write [listen] interfaces = [\"eth1\", \"eth0\"]");
        no_failure(node)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_changes_the_mode_where_native_xdp_cannot_be_had() {
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        node.namespace.ip("link add br0 type bridge\nlink set br0 up\n")?;
        add_pair(node)?;
        for interface in ["br0", "eth1"] {
            serve(node, &[interface], &[])?;
            apply(node, "write [xdp] mode = \"native\"")?;
            assert_eq!(cure(node, &format!("{interface} xdp"))?, "write [xdp] mode = \"auto\"");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn what_doctor_has_added_to_the_configuration_is_served_without_a_failure() {
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        add_pair(node)?;
        node.namespace.ip(
            "link add mac0 link eth0 type macvlan\nlink set mac0 up\naddr add 198.51.100.1/24 dev mac0\n\
             addr add 203.0.113.1/24 dev eth1\n",
        )?;
        serve(node, &["eth0", "lo", "eth1", "mac0"], &[])?;
        no_failure(node)?;
        cluster.start()?;
        let node = &mut cluster.nodes[0];
        no_failure(node)?;
        let findings = look(node)?;
        let text = |what: &str| about(&findings, what).map(|found| found.text.clone()).unwrap_or_default();
        assert_eq!(text("eth0 xdp"), "native");
        assert!(text("eth1 xdp").starts_with("generic: native answers would be lost"), "{findings:#?}");
        assert!(text("lo xdp").contains("the responder answers on it"), "{findings:#?}");
        assert_eq!(text("address 203.0.113.1"), "served, on eth1");
        // The daemon is restarted to read the line.
        serve(node, &["eth9", "eth0"], &[])?;
        let remedy = cure(node, "eth9")?;
        assert_eq!(remedy, "write [listen] interfaces = [\"eth0\"], then restart the daemon");
        no_failure(node)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_gives_a_veth_the_queues_that_native_xdp_takes() {
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        let queues = "numrxqueues 4 numtxqueues 4";
        let pair = format!("link add eth1 {queues} type veth peer name peer1 {queues}\n");
        node.namespace.ip(&format!("{pair}link set eth1 up\nlink set peer1 up\n"))?;
        let ethtool = |arguments: &[&str]| node.namespace.succeed(Command::new("ethtool").args(arguments));
        ethtool(&["-L", "eth1", "rx", "1", "tx", "1"])?;
        ethtool(&["-L", "peer1", "rx", "1", "tx", "4"])?;
        serve(node, &["eth1"], &[])?;
        assert_eq!(cure(node, "eth1 queues")?, "ethtool -L eth1 rx 4");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_adds_and_removes_addresses() {
    let host = host();
    let own = format!("[[node]]\nname = \"{host}\"\nipv4 = \"192.0.2.77\"\n");
    stage(&Plan::quick(1).tables(&own), |cluster| {
        let node = &mut cluster.nodes[0];
        serve(node, &["eth0"], &["192.0.2.11", "192.0.2.53"])?;
        assert_eq!(cure(node, "address 192.0.2.53")?, "ip address add 192.0.2.53/32 dev eth0");
        serve(node, &["eth0"], &[])?;
        node.namespace.ip("addr flush dev eth0\n")?;
        assert_eq!(cure(node, "addresses")?, "ip address add 192.0.2.77/32 dev eth0");
        node.namespace.enter(|| Ok(fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "1")?))?;
        let theirs = CLIENT[1];
        node.namespace.ip(&format!("addr add {theirs}/64 dev eth0\n"))?;
        let remedy = cure(node, &format!("address {theirs}"))?;
        assert_eq!(remedy, format!("ip address del {theirs}/64 dev eth0"));
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_adds_the_machine_as_a_node() {
    let host = host();
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        node.namespace.ip("addr add 192.0.2.61/24 dev eth0\n")?;
        serve(node, &["eth0"], &["192.0.2.61"])?;
        cluster.start()?;
        let node = &mut cluster.nodes[0];
        let remedy = cure(node, "node")?;
        let socket = node.socket.display();
        assert_eq!(remedy, format!("dns-xdp --socket {socket} node add {host} --ipv4 192.0.2.61"));
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_ends_what_holds_the_port() {
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        let mut command = Command::new(process::sibling("database")?);
        command.arg("53").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut holder = node.namespace.spawn(&mut command)?;
        let cured = cure(node, "port 53");
        holder.kill()?;
        holder.wait()?;
        assert_eq!(cured?, format!("kill {}", holder.id()));
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_starts_the_daemon() {
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        let findings = look(node)?;
        let remedy = about(&findings, "daemon").and_then(|found| found.remedy.clone()).unwrap_or_default();
        let (socket, config) = (node.socket.display(), node.config.display());
        assert_eq!(remedy, format!("dns-xdp --socket {socket} run --config {config}"));
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {remedy}")]).env("PATH", path()?);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut daemon = node.namespace.spawn(&mut command)?;
        let cured = wait::until("the daemon runs", node.patience, || {
            let findings = look(node)?;
            ensure!(
                about(&findings, "daemon").is_some_and(|found| found.text.starts_with("runs")),
                "not yet"
            );
            Ok(())
        });
        // It detaches its program.
        kill(Pid::from_raw(daemon.id().try_into()?), Signal::SIGINT)?;
        daemon.wait()?;
        cured.map(drop)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_mounts_the_bpf_filesystem() {
    stage(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let look = || {
            let mut command = Command::new(process::sibling("dns-xdp")?);
            command.args(["doctor", "--json", "--config"]).arg(&node.config);
            read(&process::output(&mut command, "")?)
        };
        // A thread with its own mounts.
        node.namespace.enter(|| {
            let none: Option<&str> = None;
            unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            umount2("/sys/fs/bpf", MntFlags::MNT_DETACH)?;
            let findings = look()?;
            let remedy = about(&findings, "bpffs").and_then(|found| found.remedy.clone()).unwrap_or_default();
            process::succeed(Command::new("sh").args(["-c", &remedy]), "")?;
            let findings = look()?;
            ensure!(is_well(&findings, "bpffs"), "`{remedy}` does not help: {findings:#?}");
            Ok(())
        })
    });
}

/// The machine's name, for a node.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or_default().to_ascii_lowercase()
}

/// A veth `eth1` whose other end, `peer1`, is in the same namespace.
fn add_pair(node: &Node) -> Result<()> {
    node.namespace.ip("link add eth1 type veth peer name peer1\nlink set eth1 up\nlink set peer1 up\n")
}

/// Writes these interfaces and addresses into the configuration.
fn serve(node: &Node, interfaces: &[&str], addresses: &[&str]) -> Result<()> {
    let text = node.config_text()?;
    let quoted = |all: &[&str]| all.iter().map(|one| format!("\"{one}\"")).collect::<Vec<_>>().join(", ");
    let line = |line: &str| match line.split_once(" = ") {
        Some(("interfaces", _)) => format!("interfaces = [{}]\n", quoted(interfaces)),
        Some(("addresses", _)) => String::new(),
        _ => format!("{line}\n"),
    };
    let mut text: String = text.lines().map(line).collect();
    if !addresses.is_empty() {
        text = text.replace("[listen]\n", &format!("[listen]\naddresses = [{}]\n", quoted(addresses)));
    }
    Ok(fs::write(&node.config, text)?)
}

fn no_failure(node: &Node) -> Result<()> {
    let mut findings = look(node)?;
    // The other findings are about this machine.
    findings.retain(|found| found.level == "fail" && !found.what.starts_with("tcp"));
    ensure!(findings.is_empty(), "{findings:#?}");
    Ok(())
}
