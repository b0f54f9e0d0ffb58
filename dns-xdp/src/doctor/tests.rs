//! Tests of the findings about invented machines.
mod addresses;
mod device;
mod interface;
mod machine;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::facts::{Daemon, Device, Facts, Features, Holder, Host, InterfaceState, Running, Setting};
use super::{Finding, Severity, findings};
use crate::config::{Listen, Mode};
use crate::network::ethtool::{Channels, Settings};
use crate::network::{Address, Link, Network, serving};

const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 11));
const ETH0: u32 = 2;

/// Returns a machine without a problem.
fn healthy() -> Facts {
    let lo = Link {
        index: 1,
        name: "lo".to_owned(),
        is_loopback: true,
        up: true,
        carrier: true,
        ..Link::default()
    };
    let channels = Channels { combined: 4, combined_max: 8, ..Channels::default() };
    let device = Device {
        features: Some(Features { native: true, fragments: false }),
        settings: Settings {
            channels: Some(channels),
            ring: Some(256),
            strips_tags: true,
            aggregates: false,
        },
        ..Device::default()
    };
    let listen = Listen { interfaces: vec!["eth0".to_owned()], addresses: Vec::new(), port: 53 };
    let network = Network {
        links: vec![lo, ethernet(ETH0, "eth0")],
        addresses: vec![Address::new(1, [127, 0, 0, 1].into(), 8), Address::new(ETH0, OWN, 24)],
    };
    Facts {
        host: Host {
            name: "node1.example.com".to_owned(),
            kernel: "6.18.0-1-amd64".to_owned(),
            btf: true,
            bpffs: true,
            lacking: Vec::new(),
            cpus: 4,
            clock_synchronised: Some(true),
            filters: Vec::new(),
            bpftool: true,
            unit: true,
        },
        setting: Ok(Setting {
            path: "f".into(),
            socket: None,
            warnings: Vec::new(),
            mode: Mode::Auto,
            serving: serving(&listen, &network),
            listen,
            network,
            devices: BTreeMap::from([(ETH0, device)]),
            nodes: vec![("node1".to_owned(), OWN)],
            holders: vec![holder([127, 0, 0, 53].into(), 7, "systemd-resolve"), holder(OWN, 42, "dns-xdp")],
            units: BTreeMap::new(),
            reached: Some(((OWN, 53).into(), Ok(()))),
        }),
        daemon: Daemon::Running(Running { pid: 42, ..Running::default() }),
    }
}

/// Returns the link of a network card, with a carrier.
fn ethernet(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        is_ethernet: true,
        mac: Some([2, 0, 0, 0, 0, 1]),
        mtu: 1500,
        up: true,
        carrier: true,
        driver: Some("virtio_net".to_owned()),
        ..Link::default()
    }
}

fn holder(address: IpAddr, pid: u32, name: &str) -> Holder {
    Holder { protocol: "udp", address, process: Some((pid, name.to_owned())) }
}

/// Returns all findings about a machine that differs from the healthy one.
fn all(differ: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut facts = healthy();
    differ(&mut facts);
    if let Ok(setting) = &mut facts.setting {
        setting.serving = serving(&setting.listen, &setting.network);
    }
    findings(&facts)
}

/// Returns the findings that are not ok about a machine that differs from the healthy one.
fn remarks(differ: impl FnOnce(&mut Facts)) -> Vec<Finding> {
    let mut findings = all(differ);
    findings.retain(|finding| finding.level != Severity::Ok);
    findings
}

fn with_setting(differ: impl FnOnce(&mut Setting)) -> Vec<Finding> {
    remarks(|facts| differ(facts.setting.as_mut().unwrap()))
}

fn with_device(mode: Mode, differ: impl FnOnce(&mut Link, &mut Device)) -> Vec<Finding> {
    remarks(|facts| change_device(facts, mode, differ))
}

fn change_device(facts: &mut Facts, mode: Mode, differ: impl FnOnce(&mut Link, &mut Device)) {
    let setting = facts.setting.as_mut().unwrap();
    setting.mode = mode;
    let link = setting.network.links.iter_mut().find(|link| link.index == ETH0).unwrap();
    differ(link, setting.devices.get_mut(&ETH0).unwrap());
}

/// Sets the mode of `eth0` in the running daemon's status.
fn says(facts: &mut Facts, mode: &str, reason: Option<&str>) {
    let state =
        InterfaceState { name: "eth0".to_owned(), mode: mode.to_owned(), reason: reason.map(str::to_owned) };
    facts.daemon = Daemon::Running(Running { pid: 42, interfaces: vec![state], ..Running::default() });
}

/// Asserts exactly one finding of this level and subject. The finding contains `text`, and its remedy contains
/// `remedy`.
#[track_caller]
fn one(findings: &[Finding], level: Severity, what: &str, text: &str, remedy: &str) {
    let [finding] = findings else { panic!("{findings:#?}") };
    let said = finding.remedy.as_ref().map(ToString::to_string).unwrap_or_default();
    assert_eq!((finding.level, finding.what.as_str()), (level, what), "{finding:?}");
    assert!(finding.text.contains(text) && said.contains(remedy), "{finding:?}");
}

/// Returns the finding about this subject.
#[track_caller]
fn about<'a>(findings: &'a [Finding], what: &str) -> &'a Finding {
    let found = findings.iter().find(|finding| finding.what == what);
    found.unwrap_or_else(|| panic!("nothing about {what} in {findings:#?}"))
}

#[test]
fn a_machine_that_wants_nothing_is_left_alone() {
    assert_eq!(remarks(|_| ()), []);
}
