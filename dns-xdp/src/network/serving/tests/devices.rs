//! Tests of interfaces whose frames arrive on other devices: VLANs, bonds, and the like.
use super::*;

#[test]
fn a_vlan_is_served_through_its_parent_with_its_own_addresses_alone() {
    let links = vec![ethernet(2, "eth0"), vlan(dot1q(5), 2, ethernet(7, "eth0.5"))];
    let there = network(links, &[(2, "192.0.2.11"), (7, "198.51.100.11")]);
    let both = serving(&listen(&["eth0", "eth0.5"], &[]), &there);
    assert_eq!(places(&both), [place(2, &[], "192.0.2.11", 2), place(2, &[5], "198.51.100.11", 7)]);
    let port = both.interfaces[1].port.as_ref().unwrap();
    assert_eq!((port.index, port.device, &*port.device_name), (7, 2, "eth0"));
    let alone = serving(&listen(&["eth0.5"], &[]), &there);
    assert_eq!(places(&alone), [place(2, &[5], "198.51.100.11", 7)]);
}

#[test]
fn two_tags_are_read_from_the_outside_and_three_are_a_reason() {
    let outer = VlanTag { protocol: VlanProtocol::Dot1Ad, id: 10 };
    let links = vec![
        ethernet(2, "eth0"),
        vlan(outer, 2, ethernet(3, "eth0.10")),
        vlan(dot1q(20), 3, ethernet(4, "eth0.10.20")),
        vlan(dot1q(30), 4, ethernet(5, "inner")),
    ];
    let there = network(links, &[(4, "192.0.2.11"), (5, "192.0.2.12")]);
    let serving = serving(&listen(&["eth0.10.20", "inner"], &[]), &there);
    assert_eq!(serving.interfaces[0].port.as_ref().unwrap().tags, [outer, dot1q(20)]);
    assert_eq!(places(&serving), [place(2, &[10, 20], "192.0.2.11", 4)]);
    assert_eq!(
        reason(&serving, 1),
        "the frames of inner have 3 VLAN tags, the XDP program reads 2: the responder answers on it"
    );
    assert_eq!(serving.served().len(), 2);
}

#[test]
fn parents_that_go_round_and_parents_elsewhere_are_reasons() {
    let mut links = vec![
        vlan(dot1q(1), 3, ethernet(2, "a")),
        vlan(dot1q(2), 2, ethernet(3, "b")),
        vlan(dot1q(3), 99, ethernet(4, "c")),
        Link { vlan: None, ..vlan(dot1q(4), 2, ethernet(5, "d")) },
    ];
    links.push(Link { lower: None, ..vlan(dot1q(5), 0, ethernet(6, "e")) });
    let serving = serving(&listen(&["a", "c", "d", "e"], &[]), &network(links, &[(2, "192.0.2.1")]));
    assert_eq!(reason(&serving, 0), "a is a VLAN that is its own parent: the responder answers on it");
    assert!(reason(&serving, 1).starts_with("the parent of c is in another network namespace"));
    assert!(reason(&serving, 2).starts_with("the VLAN tag of d is of an unknown kind"));
    assert!(reason(&serving, 3).starts_with("the parent of e is in another network namespace"));
    assert_eq!((serving.served().len(), serving.places()), (1, &[][..]));
}

#[test]
fn a_bond_is_served_with_every_slave() {
    let bond = Link { mac: Some(mac(3)), ..of_kind("bond", ethernet(9, "bond0")) };
    let links = vec![
        slave(9, ethernet(3, "eth0")),
        slave(9, ethernet(4, "eth1")),
        bond,
        vlan(dot1q(91), 9, ethernet(10, "bond0.91")),
    ];
    let there = network(links, &[(9, "192.0.2.11"), (10, "198.51.100.11")]);
    let serving = serving(&listen(&["bond0", "bond0.91"], &[]), &there);
    assert_eq!(
        places(&serving),
        [
            place(3, &[], "192.0.2.11", 3),
            place(3, &[91], "198.51.100.11", 10),
            place(4, &[], "192.0.2.11", 4),
            place(4, &[91], "198.51.100.11", 10),
            place(9, &[], "192.0.2.11", 3),
            place(9, &[91], "198.51.100.11", 10),
        ]
    );
}

#[test]
fn an_azure_pair_has_its_vf_as_a_slave_and_a_bridge_has_none() {
    let links = vec![
        ethernet(2, "eth0"),
        slave(2, ethernet(3, "enP1s1")),
        of_kind("bridge", ethernet(4, "br0")),
        slave(4, ethernet(5, "eth1")),
    ];
    let there = network(links, &[(2, "192.0.2.11"), (4, "192.0.2.12")]);
    let serving = serving(&listen(&["eth0", "br0"], &[]), &there);
    let slaves = |interface: usize| serving.interfaces[interface].port.as_ref().unwrap().slaves.clone();
    assert_eq!((slaves(0), slaves(1)), (vec![Slave { index: 3, mac: mac(3) }], vec![]));
}
