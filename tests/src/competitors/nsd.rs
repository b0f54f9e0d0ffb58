//! NSD over sockets.
use std::process::Command;

use anyhow::Result;

use super::ours;
use crate::bed::nsd;
use crate::bed::run::Run;
use crate::load::queries::ZONE;
use crate::load::wire::{SERVER, Wire};

/// Returns the command for NSD with answers as short as dns-xdp's.
pub(super) fn command(run: &Run, wire: &Wire) -> Result<Command> {
    let zone = nsd::Zone { apex: ZONE, text: &ours::zone_file(run, wire)? };
    nsd::command(&run.directory(), &SERVER, &[zone], "\tminimal-responses: yes\n")
}
