//! Bonds of two interfaces, and VLANs on them and on others.
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bed::guest::server::Server;
use crate::bed::guest::wire::Wire;
use crate::bed::plan::Plan;
use crate::bed::wait;

const QUERIES: u64 = 5;
const SLAVES: [&str; 2] = ["eth0", "eth1"];
const SOON: Duration = Duration::from_secs(30);

fn expect_native(server: &mut Server, interface: &str) -> Result<()> {
    wait::until(&format!("{interface} is native"), SOON, || {
        let (mode, reason) = server.mode(interface)?;
        ensure!(mode == "native", "the mode is {mode}: {reason}");
        Ok(())
    })?;
    server.expect_answers_in_kernel(QUERIES)
}

/// From Linux 5.15 on, the program is on the bond; on older kernels it is on each slave. A slave is added later, and
/// the first one then goes down.
pub(super) fn bond_of_cards() -> Result<()> {
    let mut wire = Wire::bare_cards("virtio_net", &SLAVES)?;
    wire.bond("bond0", "active-backup", &SLAVES[..1])?;
    wire.assign("bond0")?;
    let mut server = Server::start(&wire, &Plan::quick(1).on(&["bond0"]))?;
    expect_native(&mut server, "bond0")?;
    for namespace in [&wire.server, &wire.client] {
        namespace.ip("link set eth1 down\nlink set eth1 master bond0\n")?;
    }
    server.expect_answers_in_kernel(QUERIES)?;
    for namespace in [&wire.server, &wire.client] {
        namespace.ip("link set eth0 down\n")?;
    }
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}

/// The VLAN's name has a dot; the program sees the indexes of the bond's slaves.
pub(super) fn vlan_on_a_bond_of_cards() -> Result<()> {
    let mut wire = Wire::bare_cards("virtio_net", &SLAVES)?;
    wire.bond("bond0", "active-backup", &SLAVES)?;
    wire.vlan("bond0.91", "bond0", 91)?;
    wire.assign("bond0.91")?;
    let mut server = Server::start(&wire, &Plan::quick(1).on(&["bond0.91"]))?;
    expect_native(&mut server, "bond0.91")?;
    server.end()
}

/// An address of a VLAN is not answered on another VLAN, nor untagged.
pub(super) fn vlan_on_a_card() -> Result<()> {
    let mut wire = Wire::bare_cards("virtio_net", &["eth0"])?;
    wire.vlan("eth0.5", "eth0", 5)?;
    wire.assign("eth0.5")?;
    let mut server = Server::start(&wire, &Plan::quick(1).on(&["eth0.5"]))?;
    expect_native(&mut server, "eth0.5")?;
    let before = server.node.stats()?.answered_by_xdp();
    // The client uses another VLAN. The server's stack accepts the frames of that VLAN too.
    wire.client.ip("link set eth0.5 down\n")?;
    wire.vlan("eth0.6", "eth0", 6)?;
    wire.assign("eth0.6").ok();
    let asked = server.ask(1);
    let after = server.node.stats()?.answered_by_xdp();
    ensure!(after == before, "the program answered {} queries of another VLAN: {asked:?}", after - before);
    server.end()
}

/// One program on the common device serves both.
pub(super) fn card_and_its_vlan() -> Result<()> {
    let mut wire = Wire::bare_cards("virtio_net", &["eth0"])?;
    wire.vlan("eth0.5", "eth0", 5)?;
    wire.assign("eth0.5")?;
    wire.server.ip("addr add 198.51.100.11/24 dev eth0\n")?;
    wire.client.ip("addr add 198.51.100.100/24 dev eth0\n")?;
    let text = Plan::quick(1).on(&["eth0", "eth0.5"]).config(&wire.run, 1);
    let text = text.replace("addresses = [", "addresses = [\"198.51.100.11\", ");
    let mut server = Server::prepare(&wire, &text)?;
    server.node.start_database()?;
    server.node.start()?;
    expect_native(&mut server, "eth0.5")?;
    expect_native(&mut server, "eth0")?;
    let before = server.node.stats()?.answered_by_xdp();
    server.ask_at("198.51.100.11".parse()?)?;
    ensure!(server.node.stats()?.answered_by_xdp() > before, "the responder answered on eth0");
    server.end()
}
