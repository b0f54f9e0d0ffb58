//! Scenes about the addresses that the program serves.
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bed::guest::server::Server;
use crate::bed::guest::wire::Wire;
use crate::bed::plan::Plan;
use crate::bed::wait;

const QUERIES: u64 = 3;
const SOON: Duration = Duration::from_secs(30);
/// The number of addresses: an earlier version had room for fewer pairs of interface and address.
const MANY: u8 = 60;

fn default_addresses(wire: &Wire) -> Result<Server> {
    let plan = Plan::quick(1);
    let text = plan.config(&wire.run, 1);
    let listed = text.lines().find(|line| line.starts_with("addresses = ")).unwrap_or_default().to_owned();
    let mut server = Server::prepare(wire, &text.replace(&listed, ""))?;
    server.node.start_database()?;
    server.node.start()?;
    Ok(server)
}

/// Waits until the program answers queries to an address.
fn answered_in_kernel(server: &Server, address: IpAddr) -> Result<()> {
    wait::until(&format!("the program answers on {address}"), SOON, || {
        let before = server.node.stats()?.answered_by_xdp();
        server.ask_at(address)?;
        let after = server.node.stats()?.answered_by_xdp();
        ensure!(after > before, "the responder answered");
        Ok(())
    })?;
    Ok(())
}

/// Adds and removes addresses, as DHCP and keepalived do.
pub(super) fn come_and_go() -> Result<()> {
    let wire = Wire::veth(&["eth0"])?;
    let mut server = default_addresses(&wire)?;
    server.expect_answers_in_kernel(QUERIES)?;
    let vip = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 61));
    for _ in 0..2 {
        wire.server.ip("addr add 192.0.2.61/24 dev eth0\n")?;
        answered_in_kernel(&server, vip)?;
        wire.server.ip("addr del 192.0.2.61/24 dev eth0\n")?;
        // The neighbour still sends frames for the removed address. The program must not answer them.
        wait::until("no answer comes from the removed address", SOON, || {
            ensure!(server.ask_at(vip).is_err(), "it is answered");
            Ok(())
        })?;
        server.expect_answers_in_kernel(QUERIES)?;
    }
    server.end()
}

/// Checks that the table of addresses has room for many addresses of one interface.
pub(super) fn many_on_one_interface() -> Result<()> {
    let wire = Wire::veth(&["eth0"])?;
    let address = |nth: u8| Ipv4Addr::new(192, 0, 2, 120 + nth);
    let lines: String = (0..MANY).map(|nth| format!("addr add {}/24 dev eth0\n", address(nth))).collect();
    wire.server.ip(&lines)?;
    // One address gets a second prefix length, and the interface an alternative name.
    wire.server.ip("addr add 192.0.2.120/32 dev eth0\nlink property add dev eth0 altname uplink0\n")?;
    let mut server = default_addresses(&wire)?;
    for nth in 0..MANY {
        answered_in_kernel(&server, address(nth).into())?;
    }
    server.end()
}

/// Queries to an address of another interface come in on the served one.
pub(super) fn listed_on_another_interface() -> Result<()> {
    let wire = Wire::veth(&["eth0"])?;
    let vip = "203.0.113.53";
    let text = Plan::quick(1).config(&wire.run, 1);
    let text = text.replace("addresses = [", &format!("addresses = [\"{vip}\", "));
    let mut server = Server::prepare(&wire, &text)?;
    wire.client.ip(&format!("route add {vip}/32 dev eth0\n"))?;
    server.node.start_database()?;
    server.node.start()?;
    server.expect_answers_in_kernel(QUERIES)?;
    let alarms = server.node.status()?["alarms"].to_string();
    ensure!(alarms.contains(vip), "an address that is missing is no alarm: {alarms}");
    wire.server.ip(&format!("addr add {vip}/32 dev lo\n"))?;
    answered_in_kernel(&server, vip.parse()?)?;
    server.end()
}
