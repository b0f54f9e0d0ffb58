//! dns-xdp itself: the zone as a cluster of one node with a service for each name.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use dns_xdp::config::Config;
use dns_xdp::failover::healthy_zone;
use dns_xdp::zone;
use serde_json::Value;

use crate::bed::process::{sibling, succeed};
use crate::bed::run::Run;
use crate::load::queries::{NAMES, ZONE, name};
use crate::load::wire::{SERVER, Wire};

/// Returns the command for dns-xdp with XDP.
pub(super) fn command(run: &Run, wire: &Wire) -> Result<Command> {
    in_mode(run, wire, "native")
}

/// Returns the command for the responder alone.
pub(super) fn fallback(run: &Run, wire: &Wire) -> Result<Command> {
    in_mode(run, wire, "off")
}

fn in_mode(run: &Run, wire: &Wire, mode: &str) -> Result<Command> {
    let file = run.directory().join("dns-xdp.toml");
    super::write(&file, &configuration(run, &wire.server_end.device, mode))?;
    let mut command = Command::new(sibling("dns-xdp")?);
    command.arg("run").arg("--config").arg(file);
    Ok(command)
}

/// The daemon's zone as a zone file, for the other servers.
pub(super) fn zone_file(run: &Run, wire: &Wire) -> Result<String> {
    let text = configuration(run, &wire.server_end.device, "off");
    let config = Config::parse(&text, Path::new("dns-xdp.toml"))?;
    Ok(zone::zone_file(&healthy_zone(&config)))
}

/// The XDP program's counters.
///
/// # Errors
/// The daemon does not answer.
pub fn outcomes(run: &Run) -> Result<BTreeMap<String, u64>> {
    let mut command = Command::new(sibling("dns-xdp")?);
    command.arg("--socket").arg(socket(&run.directory())).args(["stats", "--json"]);
    let mut stats: Value = serde_json::from_str(&succeed(&mut command, "")?)?;
    serde_json::from_value(stats["xdp"].take()).context("stats: xdp")
}

fn socket(directory: &Path) -> PathBuf {
    directory.join("dns-xdp.sock")
}

/// The configuration. Its probe is a connection to the daemon's own port 53, which succeeds while the daemon runs.
fn configuration(run: &Run, device: &str, mode: &str) -> String {
    let directory = run.directory();
    let [ipv4, ipv6] = SERVER;
    let mut toml = format!(
        "[zone]\nname = \"{ZONE}\"\n\
         [listen]\ninterfaces = [\"{device}\"]\naddresses = [\"{ipv4}\", \"{ipv6}\"]\n\
         [xdp]\nmode = \"{mode}\"\npin = \"{pins}/server\"\n\
         [health]\nport = 53\n\
         [control]\nsocket = \"{socket}\"\nstate = \"{directory}/dns-xdp.state\"\n\
         [metrics]\nlisten = \"off\"\n\
         [[node]]\nname = \"node1\"\nipv4 = \"{ipv4}\"\nipv6 = \"{ipv6}\"\n",
        pins = run.pins().display(),
        socket = socket(&directory).display(),
        directory = directory.display(),
    );
    for nth in 0..NAMES {
        write!(toml, "[[service]]\nname = \"{}\"\nnodes = [\"node1\"]\n", name(nth))
            .expect("a String takes all");
    }
    toml
}
