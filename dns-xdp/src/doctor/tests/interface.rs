//! Tests of the findings about configured interfaces.
use super::*;
use crate::network::{VlanProtocol, VlanTag};

/// Adds a VLAN of `eth0` with its own address, and names it in the configuration.
fn vlan(setting: &mut Setting) {
    let tag = VlanTag { protocol: VlanProtocol::Dot1Q, id: 5 };
    let vlan = Link {
        kind: Some("vlan".to_owned()),
        driver: Some("vlan".to_owned()),
        vlan: Some(tag),
        lower: Some(ETH0),
        ..ethernet(7, "eth0.5")
    };
    setting.network.links.push(vlan);
    setting.listen.interfaces = vec!["eth0.5".to_owned()];
    setting.network.addresses[1].link = 7;
}

#[test]
fn an_interface_that_is_missing_is_replaced_by_those_that_are_there() {
    let none = with_setting(|setting| setting.listen.interfaces = vec!["eth9".to_owned()]);
    let write = "write [listen] interfaces = [\"eth0\"], then restart the daemon";
    one(&none[..1], Severity::Fail, "eth9", "there is no interface eth9", write);
    let interfaces = || vec!["eth9".to_owned(), "eth0".to_owned()];
    let one_of_two = with_setting(|setting| setting.listen.interfaces = interfaces());
    one(&one_of_two, Severity::Warn, "eth9", "there are eth0, lo", write);
    let repeated = with_setting(|setting| {
        setting.network.links[1].altnames = vec!["wan".to_owned()];
        setting.listen.interfaces = vec!["eth0".to_owned(), "wan".to_owned()];
    });
    one(&repeated, Severity::Warn, "wan", "the same interface as eth0", write);
}

#[test]
fn an_interface_is_up_and_plugged_in_and_so_is_what_is_below_it() {
    let down = with_device(Mode::Auto, |link, _| link.up = false);
    one(&down, Severity::Fail, "eth0", "down", "ip link set dev eth0 up");
    let unplugged = with_device(Mode::Auto, |link, _| link.carrier = false);
    one(&unplugged, Severity::Fail, "eth0", "carrier", "");
    let below = with_setting(|setting| {
        vlan(setting);
        setting.network.links[1].up = false;
        setting.network.links[2].carrier = false;
    });
    one(&below[..1], Severity::Fail, "eth0.5", "eth0 below it is down", "ip link set dev eth0 up");
}

#[test]
fn lo_vlans_and_bonds_are_served_as_the_daemon_serves_them() {
    let lo = all(|facts| facts.setting.as_mut().unwrap().listen.interfaces.push("lo".to_owned()));
    assert!(about(&lo, "lo xdp").text.contains("the responder answers on it"));
    let tagged = |setting: &mut Setting| vlan(setting);
    let findings = all(|facts| {
        tagged(facts.setting.as_mut().unwrap());
        facts.setting.as_mut().unwrap().devices.get_mut(&ETH0).unwrap().settings.strips_tags = false;
    });
    assert!(about(&findings, "eth0.5 xdp").text.contains("native is to be expected"), "{findings:#?}");
    assert!(findings.iter().all(|finding| finding.level == Severity::Ok), "{findings:#?}");
    let bond = all(|facts| {
        let setting = facts.setting.as_mut().unwrap();
        let slave = |index, name: &str| Link { master: Some(ETH0), ..ethernet(index, name) };
        setting.network.links.extend([slave(8, "s8"), slave(9, "s9")]);
        setting.network.links[1].driver = Some("bond".to_owned());
        let device = setting.devices[&ETH0].clone();
        setting.devices.get_mut(&ETH0).unwrap().features = Some(Features { native: false, fragments: false });
        setting.devices.extend([(8, device.clone()), (9, device)]);
    });
    assert!(about(&bond, "eth0 xdp").text.contains("on each of 2 slaves"));
    assert_eq!(about(&bond, "s9 queues").level, Severity::Ok);
}

#[test]
fn a_device_that_takes_tags_out_of_frames_hides_its_vlans() {
    let strips = with_setting(vlan);
    one(&strips, Severity::Warn, "eth0 vlan", "the responder answers eth0.5", "ethtool -K eth0 rxvlan off");
    let veth = with_setting(|setting| {
        vlan(setting);
        setting.network.links[1].kind = Some("veth".to_owned());
    });
    assert_eq!(veth, [], "the other end's setting counts");
    let beside = with_setting(|setting| {
        let interfaces = setting.listen.interfaces.clone();
        vlan(setting);
        setting.listen.interfaces = interfaces;
        setting.network.addresses[1].link = ETH0;
        setting.network.addresses.push(Address::new(7, "198.51.100.5".parse().unwrap(), 24));
    });
    one(
        &beside,
        Severity::Warn,
        "eth0 vlan",
        "clients in eth0.5 that ask at an address of eth0",
        "ethtool -K eth0",
    );
}

#[test]
fn the_mode_to_expect_is_the_drivers_word_else_that_of_a_table() {
    let none = Some(Features { native: false, fragments: false });
    let without = |mode| with_device(mode, |_, device| device.features = none);
    assert_eq!(without(Mode::Auto), []);
    one(&without(Mode::Native), Severity::Fail, "eth0 xdp", "no native XDP", "write [xdp] mode = \"auto\"");
    assert_eq!(without(Mode::Generic), []);
    let silent = |driver: &str| {
        with_device(Mode::Native, |link, device| {
            device.features = None;
            link.driver = Some(driver.to_owned());
        })
    };
    assert_eq!(silent("virtio_net"), []);
    one(&silent("e1000"), Severity::Fail, "eth0 xdp", "e1000 has no native XDP", "");
}

#[test]
fn what_the_running_daemon_says_of_an_interface_is_shown_with_its_reason() {
    let refused = "native was refused: MTU 9000 is more than virtio_net takes";
    let generic = remarks(|facts| says(facts, "generic", Some(refused)));
    one(&generic, Severity::Warn, "eth0 xdp", &format!("generic: {refused}"), "");
    assert_eq!(remarks(|facts| says(facts, "native", None)), []);
    let no_driver = remarks(|facts| {
        says(facts, "generic", Some("native was refused: e1000 has no native XDP"));
        let none = Some(Features { native: false, fragments: false });
        change_device(facts, Mode::Auto, |_, device| device.features = none);
    });
    assert_eq!(no_driver, [], "there is nothing to do about it");
    one(&remarks(|facts| says(facts, "off", Some("why"))), Severity::Warn, "eth0 xdp", "off: why", "");
}

#[test]
fn a_veth_whose_other_end_has_no_program_is_generic() {
    let lost = |mode| {
        move |facts: &mut Facts| {
            change_device(facts, mode, |_, device| device.peer_has_native_program = Some(false));
        }
    };
    let text = "native answers would be lost, because the other end of this veth has no native XDP program";
    assert!(about(&all(lost(Mode::Auto)), "eth0 xdp").text.contains(text));
    assert_eq!(remarks(lost(Mode::Auto)), []);
    one(&remarks(lost(Mode::Native)), Severity::Fail, "eth0 xdp", text, "write [xdp] mode = \"auto\"");
}
