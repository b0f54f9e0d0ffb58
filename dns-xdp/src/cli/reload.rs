//! `reload`: the daemon reads its configuration file again.
use super::change;
use crate::control::{Client, Command};

pub(super) const EXAMPLE: &str = "Example: dns-xdp reload";

pub(super) async fn reload(client: &Client) -> anyhow::Result<()> {
    change(client, &Command::Reload).await.map(drop)
}
