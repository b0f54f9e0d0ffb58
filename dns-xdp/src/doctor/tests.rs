//! Findings of invented machines.
use std::net::IpAddr;

use super::facts::{Daemon, Device, Facts, Holder, Host, Setting};
use super::{Finding, Level, findings};
use crate::config::Mode;
use crate::datapath::{Foreign, Inspection, ProgramThere};

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 11));

/// A machine that wants nothing.
fn healthy() -> Facts {
    let link = Inspection {
        index: 2,
        ethernet: true,
        up: true,
        carrier: true,
        driver: Some("virtio_net".to_owned()),
        mtu: 1500,
        program: None,
    };
    let device = Device {
        link,
        native: Some(true),
        queues: Some((4, 8)),
        ring: Some(256),
        strips_tags: true,
        trunk: false,
    };
    Facts {
        host: Host {
            kernel: "6.18.0-1-amd64".to_owned(),
            btf: true,
            bpffs: true,
            lacking: Vec::new(),
            cpus: 4,
            clock_synchronised: Some(true),
            filters: Vec::new(),
        },
        setting: Ok(Setting {
            path: "f".into(),
            warnings: Vec::new(),
            mode: Mode::Auto,
            port: 53,
            interfaces: vec![("eth0".to_owned(), Ok(device))],
            served: Ok(vec![OWN]),
            present: vec![("lo".to_owned(), [127, 0, 0, 1].into()), ("eth0".to_owned(), OWN)],
            nodes: vec![OWN],
            holders: vec![holder([127, 0, 0, 53].into(), 7, "systemd-resolve"), holder(OWN, 42, "dns-xdp")],
            reached: Some(((OWN, 53).into(), Ok(()))),
        }),
        daemon: Daemon::Running { pid: 42, alarms: Vec::new() },
    }
}

fn holder(address: IpAddr, pid: u32, name: &str) -> Holder {
    Holder { protocol: "udp", address, process: Some((pid, name.to_owned())) }
}

/// What is left to do on a machine that differs from the healthy one.
fn remarks(differ: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = healthy();
    differ(&mut facts);
    let mut findings = findings(&facts);
    findings.retain(|finding| finding.level != Level::Ok);
    findings
}

fn with_setting(differ: impl FnOnce(&mut Setting)) -> Vec<Finding> {
    remarks(|facts| differ(facts.setting.as_mut().unwrap()))
}

fn with_device(mode: Mode, differ: impl FnOnce(&mut Device)) -> Vec<Finding> {
    with_setting(|setting| {
        setting.mode = mode;
        differ(setting.interfaces[0].1.as_mut().unwrap());
    })
}

/// Exactly one, of this level, about this, with these words in it, and in its remedy.
#[track_caller]
fn one(findings: &[Finding], level: Level, what: &str, text: &str, remedy: &str) {
    let [finding] = findings else { panic!("{findings:#?}") };
    let said = finding.remedy.as_deref().unwrap_or_default();
    assert_eq!((finding.level, finding.what.as_str()), (level, what), "{finding:?}");
    assert!(finding.text.contains(text) && said.contains(remedy), "{finding:?}");
}

#[test]
fn a_machine_that_wants_nothing_is_left_alone() {
    assert_eq!(remarks(|_| ()), []);
}

#[test]
fn what_the_kernel_lacks_is_told_with_its_remedy() {
    let old = remarks(|facts| facts.host.kernel = "5.4.0-150".to_owned());
    one(&old[..1], Level::Fail, "kernel", "older than 5.9", "mode = \"off\"");
    one(&old[1..], Level::Warn, "memlock", "memlock", "LimitMEMLOCK");
    let middling = remarks(|facts| facts.host.kernel = "5.10.0-28-amd64".to_owned());
    one(&middling, Level::Warn, "memlock", "before 5.11", "LimitMEMLOCK");
    one(&remarks(|facts| facts.host.btf = false), Level::Warn, "btf", "missing", "CONFIG_DEBUG_INFO_BTF");
    one(&remarks(|facts| facts.host.bpffs = false), Level::Warn, "bpffs", "/sys/fs/bpf", "mount -t bpf");
    let poor = remarks(|facts| facts.host.lacking = vec!["CAP_BPF"]);
    one(&poor, Level::Fail, "capabilities", "CAP_BPF", "sudo");
    one(
        &remarks(|facts| facts.host.clock_synchronised = Some(false)),
        Level::Warn,
        "clock",
        "",
        "timedatectl",
    );
}

#[test]
fn a_file_that_is_wrong_is_told_and_the_machine_nevertheless() {
    let wrong = remarks(|facts| {
        facts.setting = Err("f:3: unknown key".to_owned());
        facts.host.bpffs = false;
    });
    one(&wrong[..1], Level::Warn, "bpffs", "", "mount");
    one(&wrong[1..], Level::Fail, "configuration", "f:3: unknown key", "dns-xdp check");
}

#[test]
fn an_interface_is_there_up_and_plugged_in() {
    let gone = with_setting(|setting| setting.interfaces[0].1 = Err("there is no such interface".to_owned()));
    one(&gone, Level::Fail, "eth0", "no such interface", "ip -brief link");
    let down = with_device(Mode::Auto, |device| device.link.up = false);
    one(&down, Level::Fail, "eth0", "down", "ip link set eth0 up");
    let unplugged = with_device(Mode::Auto, |device| device.link.carrier = false);
    one(&unplugged, Level::Fail, "eth0", "carrier", "ethtool eth0");
}

#[test]
fn the_mode_to_expect_is_the_drivers_word_else_that_of_a_table() {
    let without = |mode| with_device(mode, |device| device.native = Some(false));
    one(&without(Mode::Auto), Level::Warn, "eth0 xdp", "generic", "none needed");
    one(&without(Mode::Native), Level::Fail, "eth0 xdp", "no native XDP", "mode = \"auto\"");
    assert_eq!(without(Mode::Generic), []);
    let silent = |driver: &str| {
        with_device(Mode::Auto, |device| {
            device.native = None;
            device.link.driver = Some(driver.to_owned());
        })
    };
    assert_eq!(silent("virtio_net"), []);
    one(&silent("e1000"), Level::Warn, "eth0 xdp", "e1000 has no native XDP", "");
    let tunnel = with_device(Mode::Auto, |device| device.link.ethernet = false);
    one(&tunnel, Level::Fail, "eth0 xdp", "not an Ethernet interface", "mode = \"off\"");
}

#[test]
fn another_program_is_in_the_way_and_ours_is_not() {
    let there = |mode, ours| {
        with_device(mode, |device| {
            device.link.program = Some(ProgramThere {
                program: Foreign { id: 9, name: "xdp_filter".to_owned(), native: true, link: Some(4) },
                ours,
            });
        })
    };
    one(
        &there(Mode::Auto, false),
        Level::Warn,
        "eth0 program",
        "xdp_filter (id 9",
        "ip link set eth0 xdp off",
    );
    one(
        &there(Mode::Native, false),
        Level::Fail,
        "eth0 program",
        "xdp_filter (id 9",
        "ip link set eth0 xdp off",
    );
    assert_eq!(there(Mode::Auto, true), []);
}

#[test]
fn what_slows_a_card_down_is_told() {
    let queues = with_device(Mode::Auto, |device| device.queues = Some((1, 8)));
    one(&queues, Level::Warn, "eth0 queues", "1 receive queues of 8", "ethtool -L eth0 combined 4");
    assert_eq!(with_device(Mode::Auto, |device| device.queues = Some((1, 1))), []);
    let ring = with_device(Mode::Auto, |device| device.ring = Some(4096));
    one(&ring, Level::Warn, "eth0 ring", "4096", "ethtool -G eth0 rx 512");
    let jumbo = with_device(Mode::Auto, |device| device.link.mtu = 9000);
    one(&jumbo, Level::Warn, "eth0 mtu", "9000", "ip link set eth0 mtu");
    let trunk = with_device(Mode::Auto, |device| device.trunk = true);
    one(&trunk, Level::Warn, "eth0 vlan", "VLAN", "ethtool -K eth0 rxvlan off");
}

#[test]
fn served_addresses_are_on_the_interface_and_a_nodes() {
    let none = with_setting(|setting| setting.served = Err("no global address on eth0".to_owned()));
    one(&none, Level::Fail, "addresses", "no global address", "ip address add");
    let missing = with_setting(|setting| setting.present.truncate(1));
    one(&missing, Level::Fail, "addresses", "192.0.2.11", "ip address add 192.0.2.11/32 dev eth0");
    let elsewhere = with_setting(|setting| setting.present[1].0 = "eth1".to_owned());
    one(&elsewhere, Level::Warn, "addresses", "on eth1", "\"eth1\"");
    let no_node = with_setting(|setting| setting.nodes = vec![[192, 0, 2, 12].into()]);
    one(&no_node, Level::Warn, "addresses", "no node", "[[node]]");
}

#[test]
fn who_takes_the_port_is_named_and_talked_out_of_it() {
    let any = IpAddr::from([0, 0, 0, 0]);
    let taken =
        |address, name: &str| with_setting(|setting| setting.holders = vec![holder(address, 7, name)]);
    one(
        &taken(any, "systemd-resolve"),
        Level::Fail,
        "port 53",
        "systemd-resolve (pid 7)",
        "DNSStubListener=no",
    );
    one(&taken(OWN, "dnsmasq"), Level::Fail, "port 53", "dnsmasq (pid 7)", "bind-interfaces");
    one(&taken(any, "busybox"), Level::Fail, "port 53", "busybox", "ps -fp 7");
    assert_eq!(taken([127, 0, 0, 53].into(), "systemd-resolve"), []);
    let hidden = Holder { protocol: "tcp", address: any, process: None };
    let hidden = with_setting(|setting| setting.holders = vec![hidden]);
    one(&hidden, Level::Fail, "port 53", "not seen from here", "ss -lunpt");
}

#[test]
fn tcp_that_does_not_come_through_fails_and_rules_alone_are_a_hint() {
    let refused =
        with_setting(|setting| setting.reached = Some(((OWN, 53).into(), Err("refused".to_owned()))));
    one(&refused, Level::Fail, "tcp 53", "192.0.2.11:53 does not answer: refused", "nft list ruleset");
    let rules = remarks(|facts| facts.host.filters = vec!["nftables"]);
    one(&rules, Level::Warn, "tcp 53", "nftables has rules", "nft list ruleset");
}

#[test]
fn a_daemon_that_is_not_there_or_raises_an_alarm_is_told() {
    let absent = remarks(|facts| {
        facts.daemon = Daemon::Absent;
        let setting = facts.setting.as_mut().unwrap();
        setting.holders.clear();
        setting.reached = None;
    });
    one(&absent, Level::Warn, "daemon", "none answers", "systemctl start dns-xdp");
    let garbled = remarks(|facts| facts.daemon = Daemon::Garbled("may not use it".to_owned()));
    one(&garbled[garbled.len() - 1..], Level::Fail, "daemon", "may not use it", "journalctl");
    let alarmed =
        remarks(|facts| facts.daemon = Daemon::Running { pid: 42, alarms: vec!["blind".to_owned()] });
    one(&alarmed, Level::Warn, "daemon", "blind", "dns-xdp status");
}
