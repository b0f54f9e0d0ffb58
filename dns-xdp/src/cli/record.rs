//! `record`: lists and changes the static records of the zone.
use clap::Subcommand;

use super::columns::columns;
use super::delegation::ttl_seconds;
use super::node::Keeping;
use super::{Format, change, print, print_json};
use crate::config::edit::RecordKeys;
use crate::control::api::RecordEntry;
use crate::control::{Client, Command};
use crate::records::{record_type, type_text};

pub(super) const EXAMPLE: &str = "Example: dns-xdp record add _redis._tcp SRV '0 0 6379 node1'";

#[derive(Debug, Subcommand)]
pub(super) enum Record {
    /// List the records
    #[command(after_help = "Example: dns-xdp record list --json")]
    List(Format),
    /// Add records; they join those of the same name and type
    #[command(after_help = "Example: dns-xdp record add _acme-challenge TXT 'gfj9Xq' --ttl 1m")]
    Add {
        #[command(flatten)]
        place: Place,
        /// The data of each record in presentation form; a text without quotes is one string; write `--` before a value
        /// that begins with a hyphen
        #[arg(value_name = "VALUE", required = true)]
        values: Vec<String>,
        #[command(flatten)]
        ttl: Ttl,
        #[command(flatten)]
        keeping: Keeping,
    },
    /// Replace the records of a name and type, or give them another TTL
    #[command(after_help = "Example: dns-xdp record set @ MX '10 mail' '20 mail.example.org.'")]
    Set {
        #[command(flatten)]
        place: Place,
        /// The data of each record; without data the records stay
        #[arg(value_name = "VALUE", required_unless_present = "ttl")]
        values: Vec<String>,
        #[command(flatten)]
        ttl: Ttl,
        #[command(flatten)]
        keeping: Keeping,
    },
    /// Remove records of a name and type
    #[command(after_help = "Example: dns-xdp record remove _acme-challenge TXT")]
    Remove {
        #[command(flatten)]
        place: Place,
        /// The data of each record to remove; without data, all records of the name and type
        #[arg(value_name = "VALUE")]
        values: Vec<String>,
        #[command(flatten)]
        keeping: Keeping,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The name, relative to the zone or in full with a final dot; `@` is the zone's own
    #[arg(value_parser = name)]
    name: String,
    /// The type: a mnemonic, or TYPE1234
    #[arg(value_name = "TYPE", value_parser = rtype)]
    rtype: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Ttl {
    /// How long caches keep the records [default: the zone's `ttl`]
    #[arg(long, value_name = "DURATION", value_parser = ttl_seconds)]
    ttl: Option<u32>,
}

fn name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() {
        return Err("a name is wanted; `dns-xdp record list` shows them".to_owned());
    }
    Ok(name.to_owned())
}

fn rtype(text: &str) -> Result<String, String> {
    let rtype =
        record_type(text).ok_or_else(|| format!("there is no type {text}; try TXT, SRV or TYPE1234"))?;
    Ok(type_text(rtype))
}

impl Place {
    fn with(self, values: Vec<String>, ttl_seconds: Option<u32>) -> RecordKeys {
        RecordKeys { name: self.name, r#type: self.rtype, values, ttl_seconds }
    }
}

impl Record {
    pub(super) async fn run(self, client: &Client) -> anyhow::Result<()> {
        match self {
            Record::List(format) => list(client, &format).await,
            other => change(client, &other.into_command()).await.map(drop),
        }
    }

    fn into_command(self) -> Command {
        match self {
            Record::List(_) => Command::RecordList,
            Record::Add { place, values, ttl, keeping } => {
                Command::RecordAdd { record: place.with(values, ttl.ttl), ephemeral: keeping.ephemeral }
            }
            Record::Set { place, values, ttl, keeping } => {
                Command::RecordSet { record: place.with(values, ttl.ttl), ephemeral: keeping.ephemeral }
            }
            Record::Remove { place, values, keeping } => {
                Command::RecordRemove { record: place.with(values, None), ephemeral: keeping.ephemeral }
            }
        }
    }
}

async fn list(client: &Client, format: &Format) -> anyhow::Result<()> {
    if format.json {
        return print_json(&client.call(&Command::RecordList).await?);
    }
    let records: Vec<RecordEntry> = client.ask(&Command::RecordList).await?;
    print(&table(&records))
}

/// Returns one row for each record.
fn table(records: &[RecordEntry]) -> String {
    let head = ["NAME", "TYPE", "TTL", "KEPT", "VALUE"].map(str::to_owned);
    let rows = records.iter().flat_map(|record| {
        let kept = super::node::kept(record.ephemeral, record.shared);
        record.values.iter().map(move |value| {
            [
                record.name.clone(),
                record.r#type.clone(),
                format!("{}s", record.ttl_seconds),
                kept.to_owned(),
                value.clone(),
            ]
        })
    });
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_a_row_for_each_record() {
        let record = RecordEntry {
            name: "@".to_owned(),
            r#type: "MX".to_owned(),
            ttl_seconds: 5,
            values: vec!["10 mail.demo.example.com.".to_owned(), "20 a.example.org.".to_owned()],
            ephemeral: false,
            shared: false,
        };
        let expected = "\
NAME  TYPE  TTL  KEPT  VALUE
@     MX    5s   file  10 mail.demo.example.com.
@     MX    5s   file  20 a.example.org.
";
        assert_eq!(table(&[record]), expected);
    }
}
