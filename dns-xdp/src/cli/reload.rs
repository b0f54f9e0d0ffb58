//! `reload`: makes the daemon read its configuration file again.
use super::change;
use crate::control::{Client, Command};

pub(super) const EXAMPLE: &str = "Example: dns-xdp reload";

#[derive(Debug, clap::Args)]
pub(super) struct Reload {
    /// Apply the file even if it removes more than half of the nodes, or this server's own
    #[arg(long)]
    force: bool,
}

impl Reload {
    pub(super) async fn run(&self, client: &Client) -> anyhow::Result<()> {
        change(client, &Command::Reload { force: self.force }).await.map(drop)
    }
}
