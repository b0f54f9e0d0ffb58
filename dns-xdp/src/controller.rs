//! The loop that joins probes, decisions, publication and the control socket.
use crate::config::Config;

/// Runs the daemon until it is told to stop; `replace`: takes over from the one that runs.
pub async fn run(_config: Config, _replace: bool) -> anyhow::Result<()> {
    anyhow::bail!("the controller is not built yet")
}
