//! gdnsd over sockets.
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use super::ours;
use crate::load::queries::ZONE;
use crate::load::wire::{SERVER, Wire};
use crate::run::Run;

/// Its configuration directory is that of the run: `config`, and in `zones` a file that is called after the zone.
pub(super) fn command(run: &Run, wire: &Wire) -> Result<Command> {
    let directory = run.directory();
    let zones = directory.join("zones");
    fs::create_dir(&zones).with_context(|| format!("cannot make {}", zones.display()))?;
    super::write(&zones.join(ZONE), &ours::zone_file(run, wire)?)?;
    let file = directory.join("config");
    let [ipv4, ipv6] = SERVER;
    let text = format!(
        "options => {{\n\
         \x20 listen => [ \"{ipv4}\", \"{ipv6}\" ],\n\
         \x20 udp_threads => 1,\n\
         \x20 tcp_threads => 1,\n\
         \x20 run_dir => \"{directory}/gdnsd-run\",\n\
         \x20 state_dir => \"{directory}/gdnsd-state\",\n\
         }}\n",
        directory = directory.display(),
    );
    super::write(&file, &text)?;
    let mut command = Command::new("gdnsd");
    command.arg("-c").arg(&directory).arg("start");
    Ok(command)
}
