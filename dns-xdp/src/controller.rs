//! The controller: a pure core that decides, and a shell that does what follows.
//!
//! Every event is an input of the core: a probe's result, a command, a changed file, the end of a publication. The
//! core answers with effects, which the shell performs beside it; their results are inputs again.
//!
//! ```text
//! start: control socket ─► sockets ─► program loaded, a predecessor's kept alive ─► a round of probes
//!        ─► decision ─► zone published ─► lease ─► program attached ─► privileges given up ─► responder ─► ready
//! stop:  lease cut, or program detached ─► control socket gone ─► open queries answered ─► end
//! ```
mod core;
mod shell;
#[cfg(test)]
mod simulation;

use crate::store::Loaded;
pub(crate) use shell::start::served_addresses;

/// How a daemon ends that `dns-xdp unload` has ended. It is an error only for its exit code, which tells the
/// package's unit not to start the daemon again.
#[derive(Debug, thiserror::Error)]
#[error("ended by dns-xdp unload")]
pub struct Unloaded;

impl Unloaded {
    /// The unit names it in `RestartPreventExitStatus`.
    pub const EXIT_CODE: u8 = 4;
}

/// Runs the daemon until it is told to stop; `replace`: takes over from the one that runs.
///
/// # Errors
/// What keeps it from starting, with the remedy; nothing is left attached or bound then. A second signal while
/// it stops is an error too. [`Unloaded`] is the reason where `dns-xdp unload` has ended it.
pub async fn run(loaded: Loaded, replace: bool) -> anyhow::Result<()> {
    shell::start::run(loaded, replace).await
}
