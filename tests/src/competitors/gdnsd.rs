//! gdnsd over sockets.
use std::process::Command;

use anyhow::Result;

use super::ours;
use crate::bed::gdnsd;
use crate::bed::run::Run;
use crate::load::queries::ZONE;
use crate::load::wire::{SERVER, Wire};

/// Returns the command. Its configuration directory is the run's.
pub(super) fn command(run: &Run, wire: &Wire) -> Result<Command> {
    gdnsd::command(&run.directory(), &SERVER, ZONE, &ours::zone_file(run, wire)?, "")
}
