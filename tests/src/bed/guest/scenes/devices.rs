//! Scenes about faults of devices that lose native answers or detach the program: the daemon detects, reports and
//! corrects them.
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dns_xdp::datapath::KernelVersion;
use nix::sys::signal::Signal;

use crate::bed::guest::server::Server;
use crate::bed::guest::wire::Wire;
use crate::bed::plan::Plan;
use crate::bed::wait;

const QUERIES: u64 = 5;
/// The longest time to wait. The daemon looks once a second; the emulated processor is about 20 times slower than a
/// real one.
const SOON: Duration = Duration::from_secs(30);

/// Waits for a mode, and returns its reason.
fn mode_becomes(server: &Server, interface: &str, wanted: &str) -> Result<String> {
    let (reason, _) = wait::until(&format!("{interface} is {wanted}"), SOON, || {
        let (mode, reason) = server.mode(interface)?;
        ensure!(mode == wanted, "it is {mode}: {reason}");
        Ok(reason)
    })?;
    Ok(reason)
}

/// Without a program on the client's end, every answer of the driver would be lost.
pub(super) fn veth_without_a_program_at_the_other_end() -> Result<()> {
    let mut wire = Wire::veth(&["eth0"])?;
    wire.remove_stubs();
    let mut server = Server::start(&wire, &Plan::quick(1))?;
    server.ask(QUERIES)?;
    let reason = mode_becomes(&server, "eth0", "generic")?;
    ensure!(reason.contains("the other end of this veth has no native XDP program"), "{reason}");
    let alarms = server.node.status()?["alarms"].to_string();
    ensure!(alarms.contains("eth0 is generic"), "{alarms}");
    wire.put_stubs(&["eth0"])?;
    mode_becomes(&server, "eth0", "native")?;
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}

/// A BPF filesystem refuses names with a dot.
pub(super) fn name_with_a_dot() -> Result<()> {
    let wire = Wire::veth(&["eth0.5"])?;
    let text = Plan::quick(1).on(&["eth0.5"]).config(&wire.run, 1);
    let pin = wire.run.pins().join("node1");
    let written = format!("pin = \"{}\"", pin.display());
    ensure!(text.contains(&written), "the configuration does not have {written}");
    let dotted = format!("pin = \"{}\"", pin.with_file_name("node.1").display());
    let mut server = Server::prepare(&wire, &text.replace(&written, &dotted))?;
    server.node.pins = pin.with_file_name("node%2e1");
    server.node.start_database()?;
    server.node.start()?;
    ensure!(server.node.pins.join("link-eth0%2e5").exists(), "the link is not pinned under an encoded name");
    mode_becomes(&server, "eth0.5", "native")?;
    server.expect_answers_in_kernel(QUERIES)?;
    server.node.stop(Signal::SIGKILL)?;
    server.ask(QUERIES)?;
    server.node.start()?;
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}

/// A driver accepts a plain program while a frame of the MTU fits a page. For a larger MTU it accepts a program for
/// fragmented frames, if the driver supports such programs.
pub(super) fn jumbo_frames_on_cards() -> Result<()> {
    /// The first kernel whose virtio_net accepts programs for fragments.
    const FRAGS: KernelVersion = KernelVersion(6, 3);
    let wire = Wire::cards("virtio_net", &["eth0"])?;
    let set = |octets: u32| wire.both(&format!("link set eth0 mtu {octets}\n"));
    set(9000)?;
    let mut server = Server::start(&wire, &Plan::quick(1))?;
    if KernelVersion::running().is_some_and(|kernel| kernel >= FRAGS) {
        mode_becomes(&server, "eth0", "native")?;
        server.expect_answers_in_kernel(QUERIES)?;
    } else {
        let reason = mode_becomes(&server, "eth0", "generic")?;
        ensure!(reason.contains("native was refused: MTU 9000 is above 3506"), "{reason}");
        server.ask(QUERIES)?;
        set(1500)?;
        mode_becomes(&server, "eth0", "native")?;
        server.expect_answers_in_kernel(QUERIES)?;
    }
    server.end()
}

/// The same on a veth. Its driver accepts programs for fragmented frames on every kernel that has such programs.
pub(super) fn jumbo_frames_on_a_veth() -> Result<()> {
    let mut wire = Wire::veth(&["eth0"])?;
    wire.remove_stubs();
    wire.both("link set eth0 mtu 9000\n")?;
    if KernelVersion::running().is_some_and(KernelVersion::has_frags) {
        wire.put_stubs_for_fragments(&["eth0"])?;
        let mut server = Server::start(&wire, &Plan::quick(1))?;
        mode_becomes(&server, "eth0", "native")?;
        server.expect_answers_in_kernel(QUERIES)?;
        return server.end();
    }
    let mut server = Server::start(&wire, &Plan::quick(1))?;
    mode_becomes(&server, "eth0", "generic")?;
    server.ask(QUERIES)?;
    wire.both("link set eth0 mtu 1500\n")?;
    wire.put_stubs(&["eth0"])?;
    mode_becomes(&server, "eth0", "native")?;
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}

/// The pins are removed from the BPF filesystem.
pub(super) fn pins_are_removed() -> Result<()> {
    let wire = Wire::veth(&["eth0"])?;
    let mut server = Server::start(&wire, &Plan::quick(1))?;
    server.expect_answers_in_kernel(QUERIES)?;
    let pins = server.node.pins.clone();
    fs::remove_file(pins.join("link-eth0")).context("cannot remove the link's pin")?;
    fs::remove_file(pins.join("program")).context("cannot remove the program's pin")?;
    let is_pinned = || {
        let missing = ["link-eth0", "program"].iter().find(|name| !pins.join(name).exists());
        ensure!(missing.is_none(), "{missing:?} is missing");
        Ok(())
    };
    wait::until("both are pinned again", SOON, is_pinned)?;
    server.expect_answers_in_kernel(QUERIES)?;
    // The daemon may create pins again during the removal, which then fails and is repeated.
    wait::until("the pins are removed", SOON, || {
        fs::remove_dir_all(&pins).context("cannot remove the pins")
    })?;
    wait::until("everything is pinned again", SOON, is_pinned)?;
    mode_becomes(&server, "eth0", "native")?;
    server.expect_answers_in_kernel(QUERIES)?;
    // The restored pins belong to the answering program: the next daemon adopts it.
    server.node.stop(Signal::SIGKILL)?;
    server.ask(QUERIES)?;
    server.node.start()?;
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}

/// The daemon does not touch another program on the interface. It attaches its own program when the other one is gone.
pub(super) fn foreign_program_leaves() -> Result<()> {
    let wire = Wire::veth(&["eth0", "eth1"])?;
    let foreign = wire.occupy(&["eth0", "eth1"])?;
    let mut server = Server::start(&wire, &Plan::quick(1).on(&["eth0", "eth1"]))?;
    let mut detaches = Vec::new();
    for interface in ["eth0", "eth1"] {
        let reason = mode_becomes(&server, interface, "off")?;
        ensure!(reason.contains("another XDP program, pass"), "{reason}");
        let detach = reason.split_once("link detach id ").map(|(_, id)| id.to_owned());
        detaches.push(detach.with_context(|| reason.clone())?);
    }
    ensure!(detaches[0] != detaches[1], "each interface has a link of its own: {detaches:?}");
    server.ask(QUERIES)?;
    drop(foreign);
    mode_becomes(&server, "eth0", "native")?;
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}

/// A missing interface does not affect the others.
pub(super) fn missing_interface_appears() -> Result<()> {
    let mut wire = Wire::veth(&["eth0"])?;
    let mut server = Server::start(&wire, &Plan::quick(1).on(&["eth7", "eth0"]))?;
    server.expect_answers_in_kernel(QUERIES)?;
    let reason = mode_becomes(&server, "eth7", "off")?;
    ensure!(reason.contains("there is no interface eth7"), "{reason}");
    wire.add_veth("eth7")?;
    mode_becomes(&server, "eth7", "native")?;
    mode_becomes(&server, "eth0", "native")?;
    wire.server.ip("link del eth7\n")?;
    mode_becomes(&server, "eth7", "off")?;
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}
