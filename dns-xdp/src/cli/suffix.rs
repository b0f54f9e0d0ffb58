//! `suffix`: lists and changes the further names under which the zone's names are repeated.
use clap::Subcommand;

use super::columns::columns;
use super::node::Keeping;
use super::{Format, change, print, print_json};
use crate::control::api::SuffixEntry;
use crate::control::{Client, Command};

pub(super) const EXAMPLE: &str = "Example: dns-xdp suffix add internal --addresses internal";

#[derive(Debug, Subcommand)]
pub(super) enum Suffix {
    /// List the suffixes, and the addresses that their names answer
    #[command(after_help = "Example: dns-xdp suffix list --json")]
    List(Format),
    /// Repeat every name of the zone under another name
    #[command(after_help = "Example: dns-xdp suffix add mycluster.corp.example. --addresses internal")]
    Add {
        #[command(flatten)]
        name: Name,
        /// The address set that the names answer [default: the nodes' own addresses]
        #[arg(long, value_name = "SET")]
        addresses: Option<String>,
        #[command(flatten)]
        keeping: Keeping,
    },
    /// Remove a suffix with all names below it
    #[command(after_help = "Example: dns-xdp suffix remove internal")]
    Remove {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        keeping: Keeping,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Name {
    /// The suffix: a label relative to the zone, or a name in full; a zone of its own ends in a dot
    #[arg(value_parser = suffix_name)]
    name: String,
}

fn suffix_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() {
        return Err("a suffix is wanted; `dns-xdp suffix list` shows them".to_owned());
    }
    Ok(name.to_owned())
}

impl Suffix {
    pub(super) async fn run(self, client: &Client) -> anyhow::Result<()> {
        match self {
            Suffix::List(format) => list(client, &format).await,
            Suffix::Add { name: Name { name }, addresses, keeping } => {
                let command = Command::SuffixAdd { name, addresses, ephemeral: keeping.ephemeral };
                change(client, &command).await.map(drop)
            }
            Suffix::Remove { name: Name { name }, keeping } => {
                let command = Command::SuffixRemove { name, ephemeral: keeping.ephemeral };
                change(client, &command).await.map(drop)
            }
        }
    }
}

async fn list(client: &Client, format: &Format) -> anyhow::Result<()> {
    if format.json {
        return print_json(&client.call(&Command::SuffixList).await?);
    }
    let suffixes: Vec<SuffixEntry> = client.ask(&Command::SuffixList).await?;
    print(&table(&suffixes))
}

fn table(suffixes: &[SuffixEntry]) -> String {
    let head = ["SUFFIX", "ADDRESSES", "ZONE", "KEPT"].map(str::to_owned);
    let row = |suffix: &SuffixEntry| {
        [
            suffix.name.clone(),
            suffix.addresses.clone().unwrap_or_else(|| "-".to_owned()),
            if suffix.is_zone { "its own" } else { "below" }.to_owned(),
            super::node::kept(suffix.ephemeral, suffix.shared).to_owned(),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(suffixes.iter().map(row)).collect();
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_table() {
        let below = SuffixEntry {
            name: "internal.demo.example.com.".to_owned(),
            addresses: Some("internal".to_owned()),
            is_zone: false,
            ephemeral: false,
            shared: false,
        };
        let own = SuffixEntry {
            name: "demo.corp.example.".to_owned(),
            addresses: None,
            is_zone: true,
            ephemeral: true,
            ..below.clone()
        };
        let expected = "\
SUFFIX                      ADDRESSES  ZONE     KEPT
internal.demo.example.com.  internal   below    file
demo.corp.example.          -          its own  no
";
        assert_eq!(table(&[below, own]), expected);
    }
}
