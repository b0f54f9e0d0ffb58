//! Knot DNS, over sockets and with AF_XDP.
use std::process::Command;

use anyhow::Result;

use super::ours;
use crate::bed::run::Run;
use crate::load::queries::ZONE;
use crate::load::wire::{SERVER, Wire};

/// Returns the command for Knot DNS over sockets.
pub(super) fn sockets(run: &Run, wire: &Wire) -> Result<Command> {
    command(run, wire, "")
}

/// Returns the command for Knot DNS with its XDP program on the server's device. Knot DNS serves over sockets too.
pub(super) fn xdp(run: &Run, wire: &Wire) -> Result<Command> {
    command(run, wire, &format!("xdp:\n    listen: {}@53\n", wire.server_end.device))
}

fn command(run: &Run, wire: &Wire, xdp: &str) -> Result<Command> {
    let directory = run.directory();
    let (zone, file) = (directory.join("knot.zone"), directory.join("knot.conf"));
    super::write(&zone, &ours::zone_file(run, wire)?)?;
    let [ipv4, ipv6] = SERVER;
    let text = format!(
        "server:\n\
         \x20   rundir: \"{directory}\"\n\
         \x20   listen: [ {ipv4}@53, {ipv6}@53 ]\n\
         \x20   udp-workers: 1\n\
         \x20   tcp-workers: 1\n\
         \x20   background-workers: 1\n\
         {xdp}\
         log:\n\
         \x20 - target: stderr\n\
         \x20   any: info\n\
         database:\n\
         \x20   storage: \"{directory}\"\n\
         zone:\n\
         \x20 - domain: {ZONE}\n\
         \x20   file: \"{zone}\"\n\
         \x20   zonefile-sync: -1\n\
         \x20   journal-content: none\n",
        directory = directory.display(),
        zone = zone.display(),
    );
    super::write(&file, &text)?;
    let mut command = Command::new("knotd");
    command.arg("-c").arg(file);
    Ok(command)
}
