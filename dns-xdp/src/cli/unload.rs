//! `unload`: ends a running daemon if there is one, then detaches and unpins what is left.
use anyhow::Context as _;

use super::{briefly, change};
use crate::config::Remains;
use crate::control::{CallError, Client, Command, remove_stale};
use crate::datapath;

pub(super) const EXAMPLE: &str = "Example: dns-xdp unload --config /etc/dns-xdp/dns-xdp.toml";

pub(super) fn unload(remains: &Remains) -> anyhow::Result<()> {
    let client = Client::new(&remains.socket);
    let stopped = briefly(async {
        let stopped = change(&client, &Command::Unload).await;
        match stopped.as_ref().map_err(|error| error.downcast_ref::<CallError>()) {
            Err(Some(CallError::NoDaemon { .. })) => Ok(()),
            _ => stopped.map(drop),
        }
    });
    stopped.context("the running daemon did not unload")?;
    let pin = remains.pin.display();
    let removed =
        datapath::unload(&remains.pin).with_context(|| format!("cannot unload what is pinned in {pin}"))?;
    for removed in removed {
        eprintln!("{removed}");
    }
    if remove_stale(&remains.socket)? {
        eprintln!("removed {}", remains.socket.display());
    }
    Ok(())
}
