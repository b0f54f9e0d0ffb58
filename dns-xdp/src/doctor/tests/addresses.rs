//! Tests of the findings about served addresses and others.
use super::super::facts::AddressState;
use super::*;

const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 53));

#[test]
fn each_address_is_told_with_the_reason_why_it_is_not_served() {
    let with = |change: fn(&mut Address)| {
        all(|facts| {
            let addresses = &mut facts.setting.as_mut().unwrap().network.addresses;
            let mut other = Address::new(ETH0, OTHER, 24);
            change(&mut other);
            addresses.push(other);
        })
    };
    let said = |change, text: &str| {
        let findings = with(change);
        let finding = about(&findings, "address 192.0.2.53");
        assert!(finding.text.contains(text), "{finding:?}");
        finding.clone()
    };
    assert_eq!(said(|_| (), "to be served, on eth0").level, Severity::Ok);
    assert_eq!(said(|address| address.tentative = true, "is tentative").level, Severity::Ok);
    assert_eq!(said(|address| address.deprecated = true, "is deprecated").level, Severity::Ok);
    assert_eq!(said(|address| address.temporary = true, "is temporary").level, Severity::Ok);
    let duplicate = said(|address| address.dad_failed = true, "another machine");
    one(&[duplicate], Severity::Warn, "address 192.0.2.53", "", "ip address del 192.0.2.53/24 dev eth0");
    let link_local = with(|address| address.ip = [169, 254, 0, 1].into());
    assert!(about(&link_local, "addresses").text.contains("169.254.0.1 on eth0 (not-global)"));
}

#[test]
fn the_running_daemons_word_on_an_address_goes_before() {
    let says = |state: &str, reason: Option<&str>| {
        all(|facts| {
            let (state, reason) = (state.to_owned(), reason.map(str::to_owned));
            let addresses = vec![AddressState { address: OWN, state, reason }];
            facts.daemon = Daemon::Running(Running { pid: 42, addresses, ..Running::default() });
        })
    };
    assert_eq!(about(&says("served", None), "address 192.0.2.11").text, "served, on eth0");
    let not = says("tentative", Some("why"));
    let finding = about(&not, "address 192.0.2.11");
    assert_eq!(finding.text, "on eth0, and the daemon does not serve it: why");
    assert_eq!(finding.level, Severity::Warn);
}

#[test]
fn a_listed_address_is_on_this_machine() {
    let absent = with_setting(|setting| setting.listen.addresses = vec![OWN, OTHER]);
    let add = "ip address add 192.0.2.53/32 dev eth0";
    one(&absent, Severity::Warn, "address 192.0.2.53", "no interface has 192.0.2.53", add);
    let on = |link: u32, kind: Option<&str>| {
        with_setting(|setting| {
            let link8 = Link { kind: kind.map(str::to_owned), ..ethernet(8, "eth1") };
            setting.network.links.push(link8);
            setting.listen.addresses = vec![OWN, OTHER];
            setting.network.addresses.push(Address::new(link, OTHER, 32));
        })
    };
    let write = "write [listen] interfaces = [\"eth0\", \"eth1\"], then restart the daemon";
    one(&on(8, None), Severity::Warn, "address 192.0.2.53", "on eth1, which is not in [listen]", write);
    // Frames for an address of such an interface arrive on other interfaces.
    assert_eq!(on(8, Some("dummy")), []);
    assert_eq!(on(1, None), []);
}

#[test]
fn a_machine_without_an_address_to_serve_fails_with_the_interface_that_has_one() {
    let elsewhere = with_setting(|setting| {
        setting.network.links.push(ethernet(8, "bond0.91"));
        setting.network.addresses[1].link = 8;
    });
    let write = "write [listen] interfaces = [\"eth0\", \"bond0.91\"]";
    one(&elsewhere, Severity::Fail, "addresses", "eth0 has no address that can be served", write);
    let nowhere = with_setting(|setting| setting.network.addresses.truncate(1));
    one(
        &nowhere,
        Severity::Fail,
        "addresses",
        "no address is served",
        "ip address add 192.0.2.11/32 dev eth0",
    );
}

#[test]
fn a_served_address_is_a_nodes() {
    let no_node = with_setting(|setting| {
        setting.nodes = vec![("node2".to_owned(), OTHER)];
        setting.socket = Some("/tmp/s".into());
    });
    let add = "dns-xdp --socket /tmp/s node add node1 --ipv4 192.0.2.11";
    one(&no_node, Severity::Warn, "node", "no node", add);
}
