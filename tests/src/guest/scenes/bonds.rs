//! Bonds of two interfaces, and VLANs on them.
use anyhow::{Result, ensure};

use crate::guest::server::Server;
use crate::guest::wire::Wire;
use crate::plan::Plan;

const QUERIES: u64 = 5;
const SLAVES: [&str; 2] = ["eth0", "eth1"];

pub(super) fn vlan_on_a_bond_of_veths() -> Result<()> {
    vlan_on_a_bond(Wire::bare_veth(&SLAVES)?)
}

pub(super) fn vlan_on_a_bond_of_cards() -> Result<()> {
    vlan_on_a_bond(Wire::bare_cards("virtio_net", &SLAVES)?)
}

fn vlan_on_a_bond(mut wire: Wire) -> Result<()> {
    wire.bond("bond0", "active-backup", &SLAVES)?;
    wire.vlan("bond0.5", "bond0", 5)?;
    wire.assign("bond0.5")?;
    let plan = Plan::quick(1).on(&["bond0.5"]).line("xdp", "mode = \"off\"");
    let mut server = Server::start(&wire, &plan)?;
    server.ask(QUERIES)?;
    let (mode, _) = server.mode("bond0.5")?;
    ensure!(mode == "off", "the mode is {mode}");
    server.end()
}
