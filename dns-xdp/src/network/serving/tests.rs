//! Tests which addresses of invented networks are served.
mod devices;

use std::net::IpAddr;

use super::super::{Address, Network, VlanProtocol};
use super::*;

const VRF_BLUE: u32 = 90;

fn listen(interfaces: &[&str], addresses: &[&str]) -> Listen {
    let interfaces = interfaces.iter().map(|name| (*name).to_owned()).collect();
    Listen { interfaces, addresses: addresses.iter().map(|address| ip(address)).collect(), port: 53 }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, last]
}

/// Returns an Ethernet link whose MAC address ends with its index.
fn ethernet(index: u32, name: &str) -> Link {
    let mac = Some(mac(index as u8));
    Link { index, name: name.to_owned(), is_ethernet: true, mac, mtu: 1500, up: true, ..Link::default() }
}

fn loopback() -> Link {
    Link { index: 1, name: "lo".to_owned(), is_loopback: true, mtu: 65_536, up: true, ..Link::default() }
}

fn of_kind(kind: &str, link: Link) -> Link {
    Link { kind: Some(kind.to_owned()), ..link }
}

fn slave(master: u32, link: Link) -> Link {
    Link { master: Some(master), ..link }
}

fn dot1q(id: u16) -> VlanTag {
    VlanTag { protocol: VlanProtocol::Dot1Q, id }
}

fn vlan(tag: VlanTag, parent: u32, link: Link) -> Link {
    of_kind("vlan", Link { vlan: Some(tag), lower: Some(parent), ..link })
}

fn network(links: Vec<Link>, addresses: &[(u32, &str)]) -> Network {
    let addresses = addresses.iter().map(|(link, address)| Address::new(*link, ip(address), 24)).collect();
    Network { links, addresses }
}

/// Returns the network with a change of one address.
fn with(mut network: Network, address: &str, change: impl Fn(&mut Address)) -> Network {
    network.addresses.iter_mut().filter(|there| there.ip == ip(address)).for_each(change);
    network
}

/// Returns each place as index, VLANs, address and last octet of the MAC address.
fn places(serving: &Serving) -> Vec<(u32, Vec<u16>, String, u8)> {
    let vlans = |place: &Place| place.tags.iter().map(|tag| tag.id).collect();
    let place = |place: &Place| (place.interface, vlans(place), place.address.to_string(), place.mac[5]);
    serving.places().iter().map(place).collect()
}

fn place(interface: u32, vlans: &[u16], address: &str, mac: u8) -> (u32, Vec<u16>, String, u8) {
    (interface, vlans.to_vec(), address.to_owned(), mac)
}

fn listeners(serving: &Serving) -> Vec<(String, Option<&str>)> {
    let listeners = serving.listeners().iter();
    listeners.map(|listener| (listener.address.to_string(), listener.device.as_deref())).collect()
}

fn states(serving: &Serving) -> Vec<(String, State)> {
    serving.addresses.iter().map(|address| (address.address.to_string(), address.state)).collect()
}

fn state(serving: &Serving, address: &str) -> State {
    serving.addresses.iter().find(|there| there.address == ip(address)).unwrap().state
}

fn reason(serving: &Serving, interface: usize) -> String {
    serving.interfaces[interface].port.as_ref().unwrap_err().to_string()
}

#[test]
fn by_default_the_global_addresses_of_the_interfaces_are_served() {
    let network = network(
        vec![loopback(), ethernet(2, "eth0"), ethernet(3, "eth1")],
        &[
            (1, "127.0.0.1"),
            (2, "192.0.2.11"),
            (2, "2001:db8::11"),
            (2, "fe80::11"),
            (2, "169.254.1.1"),
            (2, "127.0.0.9"),
            (3, "198.51.100.1"),
        ],
    );
    let serving = serving(&listen(&["eth0"], &[]), &network);
    assert_eq!(serving.served(), [ip("192.0.2.11"), ip("2001:db8::11")]);
    assert_eq!(listeners(&serving), [("192.0.2.11".to_owned(), None), ("2001:db8::11".to_owned(), None)]);
    assert_eq!(places(&serving), [place(2, &[], "192.0.2.11", 2), place(2, &[], "2001:db8::11", 2)]);
    assert_eq!(["fe80::11", "169.254.1.1", "127.0.0.9"].map(|it| state(&serving, it)), [State::NotGlobal; 3]);
    assert_eq!(serving.alarms(), [""; 0]);
}

#[test]
fn on_a_loopback_interface_its_own_addresses_are_served_too_by_the_responder() {
    let network = network(
        vec![loopback(), ethernet(2, "eth0")],
        &[(1, "127.0.0.1"), (1, "::1"), (1, "192.0.2.53"), (2, "192.0.2.11")],
    );
    let alone = serving(&listen(&["lo"], &[]), &network);
    assert_eq!(alone.served(), [ip("127.0.0.1"), ip("::1"), ip("192.0.2.53")]);
    assert_eq!((alone.places(), alone.alarms()), (&[][..], &[][..]));
    assert!(!alone.interfaces[0].port.as_ref().unwrap().is_ethernet());
    // An Ethernet interface reaches an address on `lo`, but not a loopback address.
    let both = serving(&listen(&["lo", "eth0"], &[]), &network);
    assert_eq!(places(&both), [place(2, &[], "192.0.2.11", 2), place(2, &[], "192.0.2.53", 2)]);
}

#[test]
fn a_link_that_is_not_ethernet_is_served_by_the_responder() {
    let tun = of_kind("tun", Link { mac: None, is_ethernet: false, ..ethernet(5, "tun0") });
    let serving = serving(&listen(&["tun0"], &[]), &network(vec![loopback(), tun], &[(5, "192.0.2.1")]));
    assert_eq!(serving.served(), [ip("192.0.2.1")]);
    assert_eq!((serving.places(), serving.alarms()), (&[][..], &[][..]));
}

#[test]
fn an_interface_that_is_missing_is_named_with_those_that_are_there_and_the_others_are_served() {
    let there = network(vec![loopback(), ethernet(2, "eth0")], &[(2, "192.0.2.11")]);
    let serving = serving(&listen(&["eth7", "eth0"], &[]), &there);
    let missing = "there is no interface eth7 (there are eth0, lo): it is served when it appears";
    assert_eq!((reason(&serving, 0), serving.interfaces[0].link), (missing.to_owned(), None));
    assert_eq!(serving.alarms(), [missing]);
    assert_eq!(serving.served(), [ip("192.0.2.11")]);
}

#[test]
fn where_nothing_is_served_that_is_an_alarm() {
    let links = (1..=20).map(|index| ethernet(index, &format!("eth{index:02}"))).collect();
    let serving = serving(&listen(&["wan"], &[]), &network(links, &[]));
    assert_eq!((serving.served(), serving.listeners(), serving.places()), (vec![], &[][..], &[][..]));
    assert_eq!(serving.alarms()[0], "no address is served: this server answers no queries");
    assert!(serving.alarms()[1].contains("eth10 and 10 more"), "{:?}", serving.alarms());
}

#[test]
fn an_alternative_name_is_a_name_and_the_same_link_is_served_once() {
    let eth0 = Link { altnames: vec!["enp1s0".to_owned()], ..ethernet(2, "eth0") };
    let there = network(vec![eth0], &[(2, "192.0.2.11")]);
    let alone = serving(&listen(&["enp1s0"], &[]), &there);
    assert_eq!(places(&alone), [place(2, &[], "192.0.2.11", 2)]);
    let twice = serving(&listen(&["eth0", "enp1s0"], &[]), &there);
    assert_eq!(twice.places(), alone.places());
    assert_eq!(
        (reason(&twice, 1), twice.alarms().len()),
        (
            "enp1s0 is the same interface as eth0, and is served once: \
             remove one of them from [listen] interfaces"
                .to_owned(),
            1
        )
    );
}

#[test]
fn the_same_address_in_two_networks_or_on_two_interfaces_is_served_once() {
    let addresses = [(2, "192.0.2.11"), (2, "192.0.2.11"), (3, "192.0.2.11")];
    let there = network(vec![ethernet(2, "eth0"), ethernet(3, "eth1")], &addresses);
    let serving = serving(&listen(&["eth0", "eth1"], &[]), &there);
    assert_eq!(states(&serving), [("192.0.2.11".to_owned(), State::Served)]);
    assert_eq!((listeners(&serving).len(), serving.alarms()), (1, &[][..]));
    assert_eq!(places(&serving), [place(2, &[], "192.0.2.11", 2), place(3, &[], "192.0.2.11", 3)]);
}

#[test]
fn untagged_interfaces_serve_each_others_addresses() {
    let addresses = [(2, "192.0.2.11"), (3, "198.51.100.11")];
    let there = network(vec![ethernet(2, "eth0"), ethernet(3, "eth1")], &addresses);
    let serving = serving(&listen(&["eth0", "eth1"], &[]), &there);
    let on = |interface, mac| ["192.0.2.11", "198.51.100.11"].map(|it| place(interface, &[], it, mac));
    assert_eq!(places(&serving), [on(2, 2), on(3, 3)].concat());
}

#[test]
fn an_address_that_is_not_ready_is_not_served_yet() {
    let there = network(vec![ethernet(2, "eth0")], &[(2, "2001:db8::1"), (2, "2001:db8::2")]);
    let there = with(there, "2001:db8::2", |address| address.tentative = true);
    let tentative = serving(&listen(&["eth0"], &[]), &there);
    assert_eq!(state(&tentative, "2001:db8::2"), State::Tentative);
    assert_eq!(tentative.served(), [ip("2001:db8::1")]);
    assert_eq!(tentative.alarms(), [""; 0]);
    let there = with(there, "2001:db8::2", |address| address.optimistic = true);
    assert_eq!(serving(&listen(&["eth0"], &[]), &there).served().len(), 2);
    let there = with(there, "2001:db8::2", |address| address.dad_failed = true);
    let failed = serving(&listen(&["eth0"], &[]), &there);
    assert_eq!((failed.served().len(), state(&failed, "2001:db8::2")), (1, State::Duplicate));
    assert!(failed.alarms()[0].starts_with("another machine in the network of eth0 has 2001:db8::2"));
}

#[test]
fn deprecated_and_temporary_addresses_are_served_when_they_are_listed() {
    let there = network(vec![ethernet(2, "eth0")], &[(2, "2001:db8::1"), (2, "2001:db8::2")]);
    let there = with(there, "2001:db8::1", |address| address.deprecated = true);
    let there = with(there, "2001:db8::2", |address| address.temporary = true);
    let by_default = serving(&listen(&["eth0"], &[]), &there);
    assert_eq!(
        states(&by_default).iter().map(|(_, state)| *state).collect::<Vec<_>>(),
        [State::Deprecated, State::Temporary]
    );
    assert!(by_default.alarms()[1].starts_with("eth0 has no address that can be served"));
    let listed = serving(&listen(&["eth0"], &["2001:db8::1", "2001:db8::2"]), &there);
    assert_eq!(listed.served().len(), 2);
}

#[test]
fn exactly_the_listed_addresses_are_served() {
    let there = network(vec![ethernet(2, "eth0")], &[(2, "192.0.2.11"), (2, "192.0.2.12")]);
    let serving = serving(&listen(&["eth0"], &["192.0.2.12"]), &there);
    assert_eq!(places(&serving), [place(2, &[], "192.0.2.12", 2)]);
    assert_eq!(listeners(&serving), [("192.0.2.12".to_owned(), None)]);
    assert_eq!(state(&serving, "192.0.2.11"), State::NotListed);
    assert_eq!(serving.alarms(), [""; 0]);
}

#[test]
fn a_listed_address_that_is_not_there_is_bound_and_waited_for() {
    let there = network(vec![ethernet(2, "eth0")], &[(2, "192.0.2.11"), (2, "2001:db8::1")]);
    let there = with(there, "2001:db8::1", |address| address.tentative = true);
    let serving = serving(&listen(&["eth0"], &["192.0.2.11", "192.0.2.53", "2001:db8::1"]), &there);
    assert_eq!(serving.served(), [ip("192.0.2.11")]);
    assert_eq!(listeners(&serving).len(), 3);
    assert_eq!(places(&serving), [place(2, &[], "192.0.2.11", 2)]);
    assert_eq!(
        serving.alarms(),
        [
            "no interface has 192.0.2.53: it is served when one gets it, or correct [listen] addresses",
            "2001:db8::1 on eth0 is tentative: it is served when duplicate address detection has ended",
        ]
    );
}

#[test]
fn a_listed_address_of_no_configured_interface_is_served_on_each() {
    let links = vec![
        loopback(),
        ethernet(2, "eth0"),
        ethernet(3, "eth1"),
        ethernet(4, "dummy0"),
        vlan(dot1q(5), 3, ethernet(6, "eth1.5")),
    ];
    let there = network(links, &[(1, "192.0.2.53"), (4, "192.0.2.54"), (2, "192.0.2.11")]);
    let serving = serving(&listen(&["eth0", "eth1.5"], &["192.0.2.53", "192.0.2.54", "192.0.2.11"]), &there);
    let vips = ["192.0.2.53", "192.0.2.54"];
    let untagged = [place(2, &[], "192.0.2.11", 2)].into_iter().chain(vips.map(|vip| place(2, &[], vip, 2)));
    let expected: Vec<_> = untagged.chain(vips.map(|vip| place(3, &[5], vip, 6))).collect();
    assert_eq!(places(&serving), expected);
}

#[test]
fn an_interface_that_belongs_to_a_bond_and_one_that_is_down_are_alarms() {
    let links = vec![
        of_kind("bond", ethernet(9, "bond0")),
        slave(9, ethernet(3, "eth0")),
        Link { up: false, ..ethernet(4, "eth1") },
    ];
    let there = network(links, &[(9, "192.0.2.11"), (4, "192.0.2.12")]);
    let serving = serving(&listen(&["eth0", "eth1"], &[]), &there);
    assert_eq!(
        serving.alarms(),
        [
            "eth0 belongs to bond0 and has no address of its own: name bond0 in [listen] interfaces",
            "eth1 is down: it is served after `ip link set eth1 up`",
        ]
    );
}

#[test]
fn an_address_in_a_vrf_is_bound_there_and_served_on_its_interfaces() {
    let links = vec![
        of_kind("vrf", ethernet(VRF_BLUE, "blue")),
        slave(VRF_BLUE, ethernet(2, "eth0")),
        ethernet(3, "eth1"),
    ];
    let there = network(links, &[(2, "192.0.2.11"), (3, "192.0.2.12"), (3, "192.0.2.11")]);
    let both = serving(&listen(&["eth0", "eth1"], &[]), &there);
    assert_eq!(
        listeners(&both),
        [
            ("192.0.2.11".to_owned(), Some("blue")),
            ("192.0.2.11".to_owned(), None),
            ("192.0.2.12".to_owned(), None)
        ]
    );
    assert_eq!(
        places(&both),
        [place(2, &[], "192.0.2.11", 2), place(3, &[], "192.0.2.11", 3), place(3, &[], "192.0.2.12", 3)]
    );
    // An absent address is expected in the VRF that all interfaces share.
    let absent = |interfaces: &[&str]| {
        let serving = serving(&listen(interfaces, &["192.0.2.53"]), &there);
        serving.listeners()[0].device.clone()
    };
    assert_eq!(absent(&["eth0"]).as_deref(), Some("blue"));
    assert_eq!(absent(&["eth0", "eth1"]), None);
}

#[test]
fn addresses_that_can_never_be_served_are_told() {
    assert_eq!(impossible(&listen(&["eth0"], &["192.0.2.11", "2001:db8::1", "169.254.1.1"])), [""; 0]);
    let never = impossible(&listen(&["eth0"], &["fe80::1", "0.0.0.0", "ff02::1"]));
    assert!(never[0].starts_with("fe80::1 is a link-local address"), "{never:?}");
    assert!(never[1].starts_with("0.0.0.0 is not one address"), "{never:?}");
    assert_eq!(never.len(), 3);
}

#[test]
fn a_thousand_interfaces_and_addresses_are_served() {
    let links: Vec<Link> = (1..=1000).map(|index| ethernet(index, &format!("eth{index}"))).collect();
    let names: Vec<String> = links.iter().map(|link| link.name.clone()).collect();
    let addresses =
        (1..=1000).map(|index| Address::new(index, [192, 0, (index >> 8) as u8, index as u8].into(), 24));
    let there = Network { links, addresses: addresses.collect() };
    let listen = Listen { interfaces: names[..10].to_vec(), addresses: Vec::new(), port: 53 };
    assert_eq!(serving(&listen, &there).places().len(), 100);
}
