//! Scenes with wrong pins: removed pins, and pins of a renamed interface.
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;

use crate::bed::guest::server::Server;
use crate::bed::guest::wire::Wire;
use crate::bed::plan::Plan;
use crate::bed::wait;

const QUERIES: u64 = 5;
const SOON: Duration = Duration::from_secs(30);
const COOKIES: &str = "[cookies]\nsecrets = [\"e5e973e5a6b2a43f48e7dc849e37bfcf\"]\n[[node]]\n";

/// The program's name in the kernel, which keeps 15 letters.
const PLAIN: &str = "dns_xdp";
const GUARDED: &str = "dns_xdp_guarded";

fn expect_program(server: &Server, interface: &str, wanted: &str) -> Result<()> {
    wait::until(&format!("{wanted} is on {interface}"), SOON, || {
        let name = server.program(interface)?;
        ensure!(name == wanted, "it is {name}");
        Ok(())
    })?;
    Ok(())
}

/// Switches cookies on.
fn reload_with_cookies(server: &Server) -> Result<()> {
    server.node.edit_config("[[node]]\n", COOKIES)?;
    server.node.cli_ok(&["reload"]).map(drop)
}

/// The daemon has started without cookies.
pub(super) fn made_anew_with_cookies() -> Result<()> {
    let wire = Wire::veth(&["eth0"])?;
    let mut server = Server::start(&wire, &Plan::quick(1))?;
    server.expect_answers_in_kernel(QUERIES)?;
    expect_program(&server, "eth0", PLAIN)?;
    reload_with_cookies(&server)?;
    expect_program(&server, "eth0", GUARDED)?;
    let before = server.node.stats()?.answered_by_xdp();
    let pins = server.node.pins.clone();
    // The daemon may create pins again during the removal, which then fails and is repeated.
    wait::until("the pins are removed", SOON, || {
        fs::remove_dir_all(&pins).context("cannot remove the pins")
    })?;
    wait::until("everything is pinned again", SOON, || {
        ensure!(pins.join("link-eth0").exists() && pins.join("program").exists(), "not yet");
        Ok(())
    })?;
    expect_program(&server, "eth0", GUARDED)?;
    let after = server.node.stats()?.answered_by_xdp();
    ensure!(after >= before, "{before} answers were counted before, {after} after");
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}

/// The configuration changes before the daemon has noticed that a pin is missing.
pub(super) fn cookies_without_a_pin() -> Result<()> {
    let wire = Wire::veth(&["eth0", "eth1"])?;
    let mut server = Server::start(&wire, &Plan::quick(1).on(&["eth0", "eth1"]))?;
    for interface in ["eth0", "eth1"] {
        fs::remove_file(server.node.pins.join(format!("link-{interface}"))).context("cannot remove a pin")?;
    }
    reload_with_cookies(&server)?;
    expect_program(&server, "eth0", GUARDED)?;
    expect_program(&server, "eth1", GUARDED)?;
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}

/// The pin has the interface's old name, and keeps the previous daemon's program attached.
pub(super) fn renamed_interface() -> Result<()> {
    let wire = Wire::veth(&["eth0"])?;
    let mut server = Server::start(&wire, &Plan::quick(1))?;
    server.expect_answers_in_kernel(QUERIES)?;
    server.node.stop(Signal::SIGTERM)?;
    wire.server.ip("link set eth0 down\nlink set eth0 name lan0\nlink set lan0 up\n")?;
    // An interface that was down has lost its IPv6 address.
    wire.server.ip(&format!("addr replace {}/64 dev lan0 nodad\n", server.node.addresses[1]))?;
    server.node.edit_config("[\"eth0\"]", "[\"lan0\"]")?;
    server.node.start().with_context(|| server.log())?;
    expect_program(&server, "lan0", PLAIN)?;
    server.expect_answers_in_kernel(QUERIES)?;
    ensure!(!server.node.pins.join("link-eth0").exists(), "the pin with the old name is there yet");
    server.end()
}
