//! The controller: a pure core that decides, and a shell that carries the decisions out.
//!
//! Every event is an input of the core: a probe's result, a command, a changed file, the end of a publication. The core
//! returns effects. The shell performs them while the core continues, and passes their results to the core as new
//! inputs.
//!
//! ```text
//! start: control socket ─► sockets ─► program loaded, a predecessor's kept alive ─► a round of probes
//!        ─► decision ─► zone published ─► lease ─► program attached ─► privileges given up ─► responder ─► ready
//! stop:  lease cut, or program detached ─► control socket gone ─► open queries answered ─► end
//!
//! a node dies:
//!  no answer for fast-interval  ─► overdue: its probes become fast; without a store, a quorum is asked at once
//!  first failure                ─► suspect: event +suspect; the TTL of its addresses shrinks
//!  `fall` failures              ─► down: event +down; without a store, the fall waits until a quorum was heard
//!  with a store                 ─► the verdict is written; the fall waits until a majority of the probers agrees
//!  decision (failover::decide)  ─► substitutes, perhaps a hold; Effect::Publish
//!  publisher's thread           ─► zone made ─► bank staged ─► zone to the responder ─► bank committed in the kernel
//!  Input::Published             ─► event +failover; answers kept on disk; repair time recorded
//! ```
mod core;
mod shell;
#[cfg(test)]
mod simulation;

use crate::store::Loaded;
pub(crate) use shell::start::served_addresses;

/// How a daemon ends after `dns-xdp unload`. It is an error only because of its exit code: the package's unit does not
/// start the daemon again after that code.
#[derive(Debug, thiserror::Error)]
#[error("ended by dns-xdp unload")]
pub struct Unloaded;

impl Unloaded {
    /// The unit names it in `RestartPreventExitStatus`.
    pub const EXIT_CODE: u8 = 4;
}

/// Runs the daemon until a signal or a command stops it. `replace`: whether to take over from a running daemon.
///
/// # Errors
/// The daemon cannot start: the error names the remedy, and nothing stays attached or bound. A second signal during the
/// stop is an error too. [`Unloaded`] is the error after `dns-xdp unload`.
pub async fn run(loaded: Loaded, replace: bool) -> anyhow::Result<()> {
    shell::start::run(loaded, replace).await
}
