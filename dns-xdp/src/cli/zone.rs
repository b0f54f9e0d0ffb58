//! `zone`: prints the zone as a zone file, and takes the records of a zone file.
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use hickory_proto::rr::Name;

use super::node::Keeping;
use super::{ConfigFile, briefly, change, print};
use crate::config::Config;
use crate::config::edit::{Edited, RecordKeys, import_records, record_sections};
use crate::control::api::{Status, ZoneFile};
use crate::control::{Client, Command};
use crate::delegation::Delegation;
use crate::failover::healthy_zone;
use crate::log;
use crate::records::{
    ZoneRecord, full_name, presentation, records_of_zone_file, relative, type_text, zone_file_text,
};
use crate::zone::zone_file_of;

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
        /// A suffix that is a zone of its own [default: the zone of the configuration]
        #[arg(long, value_name = "NAME", value_parser = super::delegation::zone)]
        zone: Option<Name>,
    },
    /// Add the records of a zone file, all of them or none; the SOA and NS records of the zone are left out
    #[command(after_help = "Example: dns-xdp zone import demo.example.com.zone")]
    Import {
        /// The zone file (RFC 1035, section 5)
        file: PathBuf,
        /// Print the records as sections of the configuration, and change nothing; no daemon is needed
        #[arg(long, conflicts_with = "ephemeral")]
        print: bool,
        /// The configuration file that names the zone [default: /etc/dns-xdp/dns-xdp.toml]
        #[arg(long, value_name = "FILE", requires = "print")]
        config: Option<PathBuf>,
        #[command(flatten)]
        keeping: Keeping,
    },
}

impl Zone {
    pub(super) fn run(self, client: &Client) -> anyhow::Result<()> {
        let file = |config: Option<PathBuf>| {
            config.map_or_else(ConfigFile::default_file, |config| ConfigFile { config })
        };
        match self {
            Zone::Export { configured: true, config, zone } => {
                let file = file(config);
                let config = file.load(None)?;
                if let Some(name) = &zone {
                    Delegation::zone_named(&config, name).map_err(anyhow::Error::msg)?;
                }
                let apex = zone.as_ref().map_or(config.zone.apex.clone(), Name::to_lowercase);
                let title = format!("; {apex}, as {} configures it\n", file.config.display());
                print(&(title + &zone_file_of(&healthy_zone(&config), &apex)))
            }
            Zone::Export { zone, .. } => {
                let of = |zone: Name| Command::ZoneExportOf { zone: zone.to_string() };
                let command = zone.map_or(Command::ZoneExport, of);
                let ZoneFile { text } = briefly(async { Ok(client.ask(&command).await?) })?;
                print(&text)
            }
            Zone::Import { file: path, print: true, config, .. } => {
                let file = file(config);
                let in_force = file.load(None)?;
                let zone = &in_force.zone;
                let records = records(&path, &zone.apex, Some(zone.ttl_seconds))?;
                print(&checked_sections(&records, &file.config, &in_force)?)
            }
            Zone::Import { file: path, keeping, .. } => briefly(async {
                let status: Status = client.ask(&Command::Status).await?;
                let apex = full_name(&status.zone, &Name::root()).map_err(anyhow::Error::msg)?;
                let records = records(&path, &apex, status.ttl_seconds)?;
                let command = Command::RecordImport { records, ephemeral: keeping.ephemeral };
                change(client, &command).await.map(drop)
            }),
        }
    }
}

/// Returns the records as sections, if the configuration with them is valid.
fn checked_sections(records: &[RecordKeys], path: &Path, in_force: &Config) -> anyhow::Result<String> {
    let apex = &in_force.zone.apex;
    // The sections of a store are not in the file, so the records cannot be checked against them here.
    if in_force.store.is_some() {
        return Ok(record_sections(records, apex));
    }
    let text = Config::text(path)?;
    let (Edited { text: edited, notes }, sections) = import_records(&text, records)?;
    notes.iter().for_each(log::tell);
    if let Err(error) = Config::parse(&edited, path) {
        bail!(
            "nothing was printed: with these records the configuration is not valid: {}",
            error.without_lines()
        );
    }
    Ok(sections)
}

/// Returns the records of a zone file, one for each name and type. Tells which lines are left out.
fn records(path: &Path, apex: &Name, zone_ttl: Option<u32>) -> anyhow::Result<Vec<RecordKeys>> {
    let shown = path.display();
    let octets = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
    let text = zone_file_text(&octets)
        .map_err(|problem| anyhow::anyhow!("{shown}: nothing was imported: {problem}"))?;
    let (records, skipped) = match records_of_zone_file(&text, apex) {
        Ok(read) => read,
        Err(problems) => bail!("{shown}: nothing was imported: {}", problems.join("; ")),
    };
    for record in skipped {
        log::tell(format_args!(
            "{shown}: line {}: the {} record is left out: the zone makes its own",
            record.line, record.rtype
        ));
    }
    let (keys, notes) = collected(&records, apex, zone_ttl);
    notes.iter().for_each(|note| log::tell(format_args!("{shown}: {note}")));
    Ok(keys)
}

/// Collects the records of each name and type, in the order of the file. An RRset has its smallest TTL (RFC 2181,
/// section 5.2); a note says so. A record without a TTL has that of the zone.
fn collected(records: &[ZoneRecord], apex: &Name, zone_ttl: Option<u32>) -> (Vec<RecordKeys>, Vec<String>) {
    let mut places: BTreeMap<(&Name, u16), usize> = BTreeMap::new();
    let (mut all, mut notes): (Vec<RecordKeys>, Vec<String>) = (Vec::new(), Vec::new());
    for record in records {
        let value = presentation(&record.data);
        let ttl_seconds = record.ttl_seconds;
        let Some(place) = places.get(&(&record.owner, record.rtype.into())) else {
            places.insert((&record.owner, record.rtype.into()), all.len());
            let (name, rtype) = (relative(&record.owner, apex), type_text(record.rtype));
            all.push(RecordKeys { name, r#type: rtype, values: vec![value], ttl_seconds });
            continue;
        };
        let Some(keys) = all.get_mut(*place) else { continue };
        if keys.ttl_seconds != ttl_seconds {
            let given = [keys.ttl_seconds.or(zone_ttl), ttl_seconds.or(zone_ttl)];
            keys.ttl_seconds = given.into_iter().flatten().min();
            let ttl = keys.ttl_seconds.map_or("the zone's TTL".to_owned(), |ttl| format!("the TTL {ttl}s"));
            notes.push(format!(
                "line {}: the {} records of {} get {ttl}: records of a name and type have one TTL",
                record.line, keys.r#type, keys.name
            ));
        }
        if keys.values.contains(&value) {
            notes.push(format!("line {}: the record is there twice; one of them is left out", record.line));
        } else {
            keys.values.push(value);
        }
    }
    (all, notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_records_of_a_name_and_type_are_collected() {
        let apex = full_name("demo.example.com.", &Name::root()).unwrap();
        let text = "$TTL 60\n@ MX 10 a\nb TXT \"x\"\n@ 30 MX 20 b\nb TXT x\n";
        let (records, _) = records_of_zone_file(text, &apex).unwrap();
        let (keys, notes) = collected(&records, &apex, Some(5));
        let mx = ["10 a.demo.example.com.", "20 b.demo.example.com."].map(str::to_owned).to_vec();
        let key = |name: &str, rtype: &str, values, ttl| RecordKeys {
            name: name.to_owned(),
            r#type: rtype.to_owned(),
            values,
            ttl_seconds: Some(ttl),
        };
        assert_eq!(keys, [key("@", "MX", mx, 30), key("b", "TXT", vec!["\"x\"".to_owned()], 60)]);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].starts_with("line 4: the MX records of @ get the TTL 30s"), "{notes:?}");
    }

    #[test]
    fn printed_records_are_checked_with_the_configuration() {
        let text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                    [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.1\"\n";
        let path = std::env::temp_dir().join(format!("dns-xdp-import-{}.toml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let config = Config::parse(text, &path).unwrap();
        let keys = |name: &str, rtype: &str, value: &str| RecordKeys {
            name: name.to_owned(),
            r#type: rtype.to_owned(),
            values: vec![value.to_owned()],
            ttl_seconds: None,
        };
        let sound =
            checked_sections(&[keys("x", "TXT", "a"), keys("node1", "A", "192.0.2.1")], &path, &config);
        let unsound = checked_sections(&[keys("node1", "CNAME", "x")], &path, &config);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(sound.unwrap(), "[[record]]\nname = \"x\"\ntype = \"TXT\"\nvalue = \"a\"\n");
        let problem = unsound.unwrap_err().to_string();
        assert!(problem.contains("`node1` is a node") && !problem.contains("toml:"), "{problem}");
    }

    #[test]
    fn a_record_without_a_ttl_has_that_of_the_zone() {
        let apex = full_name("demo.example.com.", &Name::root()).unwrap();
        let (records, _) = records_of_zone_file("b TXT x\nb 60 TXT y\n", &apex).unwrap();
        for (zone_ttl, expected) in [(Some(5), 5), (Some(3600), 60), (None, 60)] {
            let (keys, _) = collected(&records, &apex, zone_ttl);
            assert_eq!(keys[0].ttl_seconds, Some(expected), "{zone_ttl:?}");
        }
    }
}
