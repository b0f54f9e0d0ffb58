//! `unload`: ends a running daemon if there is one, then detaches and unpins the remaining programs.
use std::path::Path;

use anyhow::Context as _;

use super::{briefly, change};
use crate::config::UnloadPaths;
use crate::control::{BindError, CallError, Client, Command, RefusalKind, remove_stale};
use crate::datapath::{self, Removal};
use crate::log;

pub(super) const EXAMPLE: &str = "Example: dns-xdp unload --config /etc/dns-xdp/dns-xdp.toml";

pub(super) fn unload(remains: &UnloadPaths) -> anyhow::Result<()> {
    let had_daemon = end_daemon(&remains.socket).context("the running daemon did not unload")?;
    let pin = remains.pin.display();
    let Removal { removed, foreign } =
        datapath::unload(&remains.pin).with_context(|| format!("cannot unload what is pinned in {pin}"))?;
    for removed in &removed {
        log::tell(format_args!("removed {}", removed.display()));
    }
    for foreign in &foreign {
        log::tell(format_args!("left {}, which is not dns-xdp's", foreign.display()));
    }
    match remove_stale(&remains.socket) {
        Ok(true) => log::tell(format_args!("removed {}", remains.socket.display())),
        // A daemon removes its socket after its last answers.
        Err(BindError::Busy { .. }) if had_daemon => {}
        left => drop(left?),
    }
    if !had_daemon && !removed.is_empty() {
        log::tell("no daemon ran; if systemd is about to start one again: systemctl stop dns-xdp");
    }
    Ok(())
}

/// Asks the running daemon to unload, and returns whether there is one. A refusal is not an error yet: a process that
/// runs as root can remove more than the daemon.
fn end_daemon(socket: &Path) -> anyhow::Result<bool> {
    let client = Client::new(socket);
    briefly(async {
        let Err(error) = change(&client, &Command::Unload).await else { return Ok(true) };
        match error.downcast_ref::<CallError>() {
            Some(CallError::NoDaemon { .. }) => Ok(false),
            Some(CallError::Refused(refusal)) if refusal.kind == RefusalKind::Failed => {
                log::tell(format_args!("the daemon has ended: {refusal}; the rest is tried without it"));
                Ok(true)
            }
            _ => Err(error),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::control::{Refusal, Server};
    use crate::event::Journal;

    /// Starts a thread with a daemon that refuses `unload` in this way.
    fn refusing(socket: &Path, kind: RefusalKind) -> std::thread::JoinHandle<()> {
        let (bound, is_bound) = std::sync::mpsc::channel();
        let socket = socket.to_owned();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let server = Server::bind(&socket).unwrap();
                bound.send(()).unwrap();
                let (calls, mut inbox) = mpsc::channel(1);
                let stop = CancellationToken::new();
                let journal = Arc::new(Journal::new(Timestamp::UNIX_EPOCH));
                let serving = tokio::spawn(server.serve(calls, journal, stop.clone()));
                let call = inbox.recv().await.unwrap();
                assert_eq!(call.command, Command::Unload);
                call.reply.send(Err(Refusal::new(kind, "cannot detach everything"))).unwrap();
                stop.cancel();
                serving.await.unwrap();
            });
        });
        is_bound.recv().unwrap();
        thread
    }

    #[test]
    fn what_a_daemon_fails_to_remove_is_tried_without_it_and_a_refusal_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let remains = UnloadPaths {
            pin: directory.path().join("missing"),
            socket: directory.path().join("run/socket"),
        };
        let daemon = refusing(&remains.socket, RefusalKind::Failed);
        unload(&remains).unwrap();
        daemon.join().unwrap();
        let daemon = refusing(&remains.socket, RefusalKind::Conflict);
        unload(&remains).unwrap_err();
        daemon.join().unwrap();
        // No daemon runs.
        unload(&remains).unwrap();
    }
}
