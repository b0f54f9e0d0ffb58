//! `zone export`: prints the zone as a zone file.
use std::path::PathBuf;

use clap::Subcommand;

use super::{ConfigFile, briefly, print};
use crate::control::api::ZoneFile;
use crate::control::{Client, Command};
use crate::failover::healthy_zone;
use crate::zone::zone_file;

pub(super) const EXAMPLE: &str = "Example: dns-xdp zone export > demo.example.com.zone";

#[derive(Debug, Subcommand)]
pub(super) enum Zone {
    /// Print the zone as the daemon answers it now
    #[command(after_help = "Example: dns-xdp zone export --configured --config /etc/dns-xdp/dns-xdp.toml")]
    Export {
        /// Print the zone of the configuration file with every node healthy; no daemon is needed
        #[arg(long)]
        configured: bool,
        /// The configuration file [default: /etc/dns-xdp/dns-xdp.toml]
        #[arg(long, value_name = "FILE", requires = "configured")]
        config: Option<PathBuf>,
    },
}

impl Zone {
    pub(super) fn run(self, client: &Client) -> anyhow::Result<()> {
        let Zone::Export { configured, config } = self;
        if configured {
            let file = config.map_or_else(ConfigFile::default_file, |config| ConfigFile { config });
            let config = file.load(None)?;
            let title = format!("; {}, as {} configures it\n", config.zone.apex, file.config.display());
            return print(&(title + &zone_file(&healthy_zone(&config))));
        }
        let ZoneFile { text } = briefly(async { Ok(client.ask(&Command::ZoneExport).await?) })?;
        print(&text)
    }
}
