//! Tests of the findings about devices that should have a program.
use super::*;
use crate::datapath::{AttachedBy, Foreign, ProgramThere};

#[test]
fn another_program_is_in_the_way_and_ours_is_not() {
    let there = |mode, ours, by| {
        with_device(mode, |_, device| {
            let program = Foreign { id: 9, name: "xdp_filter".to_owned(), native: true, by };
            device.program = Some(ProgramThere { program, ours, pins: Vec::new(), holders: Vec::new() });
        })
    };
    let (what, text) = ("eth0 program", "xdp_filter (id 9");
    one(
        &there(Mode::Auto, false, AttachedBy::Link(4)),
        Severity::Warn,
        what,
        text,
        "bpftool link detach id 4",
    );
    one(
        &there(Mode::Native, false, AttachedBy::Netlink),
        Severity::Fail,
        what,
        text,
        "ip link set dev eth0 xdpdrv off",
    );
    assert_eq!(there(Mode::Auto, true, AttachedBy::Link(4)), []);
}

#[test]
fn an_mtu_is_measured_by_what_driver_and_kernel_take() {
    let jumbo = |kernel: &str, driver: &str, mtu, fragments| {
        remarks(|facts| {
            facts.host.kernel = kernel.to_owned();
            change_device(facts, Mode::Auto, |link, device| {
                (link.mtu, link.driver) = (mtu, Some(driver.to_owned()));
                device.features = Some(Features { native: true, fragments });
            });
        })
    };
    let ena = jumbo("6.1.0", "ena", 9001, false);
    one(&ena, Severity::Warn, "eth0 mtu", "9001 is above 3498", "ip link set dev eth0 mtu 3498");
    assert_eq!(jumbo("6.1.0", "ena", 3498, false), []);
    assert_eq!(jumbo("6.1.0", "virtio_net", 9000, true), []);
    let old = jumbo("5.15.0", "virtio_net", 9000, true);
    one(&old[old.len() - 1..], Severity::Warn, "eth0 mtu", "3506", "ip link set dev eth0 mtu 3506");
    one(&jumbo("5.15.0", "veth", 9000, true), Severity::Warn, "eth0 mtu", "3506", "");
    assert_eq!(jumbo("6.1.0", "mlx5_core", 9000, false), [], "its limit is not known here");
}

#[test]
fn what_the_daemon_has_attached_decides_over_an_mtu() {
    let jumbo = |mode: &str, reason: Option<&str>, driver: &str| {
        remarks(|facts| {
            says(facts, mode, reason);
            change_device(facts, Mode::Auto, |link, _| {
                (link.mtu, link.driver) = (9000, Some(driver.to_owned()));
            });
        })
    };
    assert_eq!(jumbo("native", None, "ena"), []);
    let refused = "native was refused: MTU 9000 is more than i40e takes, or it has no native XDP";
    let generic = jumbo("generic", Some(refused), "i40e");
    one(&generic[..1], Severity::Warn, "eth0 xdp", refused, "");
    one(&generic[1..], Severity::Warn, "eth0 mtu", "9000: generic", "ip link set dev eth0 mtu 1500");
}

#[test]
fn queues_are_as_many_as_ethtool_can_set_and_xdp_leaves() {
    let queues = |driver: &str, channels| {
        with_device(Mode::Auto, |link, device| {
            link.driver = Some(driver.to_owned());
            device.settings.channels = Some(channels);
        })
    };
    let combined = |combined, combined_max| Channels { combined, combined_max, ..Channels::default() };
    let separate = |receive, receive_max| Channels {
        receive,
        receive_max,
        transmit: receive,
        transmit_max: receive_max,
        ..Channels::default()
    };
    let (level, what) = (Severity::Warn, "eth0 queues");
    one(&queues("i40e", combined(1, 8)), level, what, "1 receive queues of 8", "ethtool -L eth0 combined 4");
    assert_eq!(queues("i40e", combined(1, 1)), []);
    one(&queues("ena", combined(8, 8)), level, what, "native XDP is refused", "ethtool -L eth0 combined 4");
    one(&queues("ena", combined(4, 4)), level, what, "native XDP is refused", "ethtool -L eth0 combined 2");
    assert_eq!(queues("ena", combined(2, 4)), [], "half of them receive");
    one(&queues("gve", separate(4, 4)), level, what, "native XDP is refused", "ethtool -L eth0 rx 2 tx 2");
    one(&queues("mlx4_en", separate(1, 8)), level, what, "1 receive queues", "ethtool -L eth0 rx 4");
    assert_eq!(queues("veth", separate(1, 8)), [], "its other end chooses");
    let refused = with_device(Mode::Auto, |link, device| {
        link.driver = Some("veth".to_owned());
        device.settings.channels = Some(separate(1, 8));
        device.features = Some(Features { native: false, fragments: false });
    });
    one(&refused, level, what, "the other end sends by more", "ethtool -L eth0 rx 8");
}

#[test]
fn a_ring_is_shortened_where_the_driver_can() {
    let ring = |driver: &str| {
        with_device(Mode::Auto, |link, device| {
            link.driver = Some(driver.to_owned());
            device.settings.ring = Some(4096);
        })
    };
    one(&ring("ixgbe"), Severity::Warn, "eth0 ring", "4096", "ethtool -G eth0 rx 512");
    assert_eq!(ring("virtio_net"), []);
}

#[test]
fn answers_that_do_not_leave_are_told() {
    let lost = remarks(|facts| {
        let transmit_errors = BTreeMap::from([("eth0".to_owned(), 7)]);
        facts.daemon = Daemon::Running(Running { pid: 42, transmit_errors, ..Running::default() });
    });
    one(&lost, Severity::Warn, "eth0 transmit", "failed to send 7 answers", "");
}
