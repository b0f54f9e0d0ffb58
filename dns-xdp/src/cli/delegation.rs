//! `delegation`: shows what the parent zone has to hold, and verifies that clients see the delegation.
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use clap::Subcommand;
use hickory_proto::rr::Name;
use serde_json::json;
use thiserror::Error;

use super::{ConfigFile, briefly, print, print_json};
use crate::cluster::Suffix;
use crate::config::Config;
use crate::delegation::ask::Asker;
use crate::delegation::{self, CheckResult, Form, Places, verify, worst};
use crate::log;
use crate::severity::Severity;

pub(super) const EXAMPLE: &str = "Example: dns-xdp delegation show --format route53 > delegation.json";

#[derive(Debug, Subcommand)]
pub(super) enum Delegation {
    /// Print the records that the parent zone has to hold, from the configuration; no daemon is needed
    #[command(after_help = "Example: dns-xdp delegation show --format bind >> /etc/nsd/example.com.zone")]
    Show(Show),
    /// Ask the parent, every name server and a resolver, and compare their answers with the configuration
    #[command(
        after_help = "Example: dns-xdp delegation verify --parent-ns 192.0.2.53\n\nExit code 0: all checks are ok; 1: a check \
                      has failed; 2: wrong usage or configuration; 3: only warnings."
    )]
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    file: ConfigFile,
    /// The format of the records
    #[arg(long, value_enum, default_value = "table")]
    format: Form,
    /// TTL of the records at the parent, such as 60s or 5m
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = ttl_seconds)]
    ttl: u32,
    #[command(flatten)]
    zone: OfZone,
    #[command(flatten)]
    parent: Parent,
}

#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    file: ConfigFile,
    /// A name server of the parent zone [default: found through the resolver]
    #[arg(long, value_name = "ADDRESS")]
    parent_ns: Option<IpAddr>,
    /// A resolver to ask as clients do [default: the first in /etc/resolv.conf]
    #[arg(long, value_name = "ADDRESS")]
    resolver: Option<IpAddr>,
    #[command(flatten)]
    zone: OfZone,
    #[command(flatten)]
    parent: Parent,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct OfZone {
    /// A suffix that is a zone of its own [default: the zone of the configuration]
    #[arg(long, value_name = "NAME", value_parser = zone)]
    zone: Option<Name>,
}

impl OfZone {
    fn find<'c>(&self, config: &'c Config) -> Result<Option<&'c Suffix>, Unsound> {
        let Some(name) = &self.zone else { return Ok(None) };
        delegation::Delegation::zone_named(config, name).map_err(Unsound::Zone)
    }
}

#[derive(Debug, clap::Args)]
struct Parent {
    /// The zone that holds the delegation [default: the name above the zone's]
    #[arg(long, value_name = "ZONE", value_parser = zone)]
    parent: Option<Name>,
}

/// Reads the name of a zone from the command line.
pub(super) fn zone(text: &str) -> Result<Name, String> {
    let name = Name::from_ascii(text).ok().filter(|_| !text.is_empty());
    let mut name = name.ok_or("it is no domain name; write it like example.com")?;
    name.set_fqdn(true);
    Ok(name)
}

/// Reads a TTL from the command line.
pub(super) fn ttl_seconds(text: &str) -> Result<u32, String> {
    /// The largest TTL (RFC 2181, section 8).
    const LARGEST: u64 = (1 << 31) - 1;
    let ttl = humantime::parse_duration(text).map_err(|_| "write whole seconds such as 60s".to_owned())?;
    let seconds = u32::try_from(ttl.as_secs()).ok().filter(|&seconds| u64::from(seconds) <= LARGEST);
    let seconds = seconds.filter(|_| ttl.subsec_nanos() == 0);
    seconds.ok_or_else(|| format!("write whole seconds such as 60s, at most {LARGEST}"))
}

/// Why a delegation is not in order.
#[derive(Debug, Error)]
pub(super) enum Unsound {
    #[error("--parent: {0}")]
    Usage(String),
    #[error("--zone: {0}")]
    Zone(String),
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Warned(String),
}

impl Unsound {
    pub(super) const fn exit_code(&self) -> u8 {
        match self {
            Unsound::Failed(_) => 1,
            Unsound::Usage(_) | Unsound::Zone(_) => 2,
            Unsound::Warned(_) => 3,
        }
    }
}

impl Delegation {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Delegation::Show(show) => show.run(),
            Delegation::Verify(verify) => {
                let config = verify.file.load(None)?;
                briefly(verify.run(&config))
            }
        }
    }
}

impl Show {
    fn run(self) -> anyhow::Result<()> {
        let config = self.file.load(None)?;
        let (zone, parent) = (self.zone.find(&config)?, self.parent.parent.as_ref());
        let wanted = delegation::Delegation::new(&config, zone, parent, self.ttl);
        let wanted = wanted.map_err(Unsound::Usage)?;
        print(&wanted.render(self.format))?;
        log::tell(wanted.next_step(self.format));
        Ok(())
    }
}

impl Verify {
    async fn run(self, config: &Config) -> anyhow::Result<()> {
        // The TTL at the parent is compared with the zone's own, not with this one.
        let (zone, parent) = (self.zone.find(config)?, self.parent.parent.as_ref());
        let wanted = delegation::Delegation::new(config, zone, parent, config.zone.ns_ttl_seconds);
        let wanted = wanted.map_err(Unsound::Usage)?;
        let resolver = self.resolver.or_else(Places::system_resolver);
        let places = Places { parent: self.parent_ns, resolver };
        let findings = verify(config, &wanted, places, &Arc::new(Asker::default())).await;
        let verdict = worst(&findings);
        if self.json {
            let zone = wanted.apex.to_string();
            print_json(&json!({ "zone": zone, "verdict": verdict, "findings": findings }))?;
        } else {
            print(&text(&findings))?;
        }
        let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
        let (failed, warned) = (count(Severity::Fail), count(Severity::Warn));
        let sum = format!("of {} checks {failed} failed, {warned} warned", findings.len());
        match verdict {
            Severity::Ok => Ok(()),
            Severity::Warn => Err(Unsound::Warned(sum).into()),
            Severity::Fail => Err(Unsound::Failed(sum).into()),
        }
    }
}

/// Returns a line for each finding, with the remedy below the findings that share it. Consecutive ok findings with the
/// same text are one line.
fn text(findings: &[CheckResult]) -> String {
    let alike = |a: &CheckResult, b: &CheckResult| {
        (a.check, a.verdict, &a.detail) == (b.check, b.verdict, &b.detail) && a.verdict == Severity::Ok
    };
    let mut text = String::new();
    let mut lines = findings.chunk_by(alike).peekable();
    while let Some(same) = lines.next() {
        let Some(CheckResult { verdict, check, subject, detail, remedy }) = same.first() else { continue };
        let others = match same.len() - 1 {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        let (verdict, word) = (verdict.text(), check.text());
        writeln!(text, "{verdict:<6}{word:<18}{subject}{others}: {detail}")
            .expect("a string takes every line");
        let shared = lines.peek().and_then(|next| next.first());
        let shared = shared.is_some_and(|next| (next.check, &next.remedy) == (*check, remedy));
        if let Some(remedy) = remedy.as_ref().filter(|_| !shared) {
            writeln!(text, "      {:<18}-> {remedy}", "").expect("a string takes every line");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delegation::Check;

    fn finding(verdict: Severity, check: Check, subject: &str, detail: &str) -> CheckResult {
        let remedy = (verdict != Severity::Ok).then(|| "do this".to_owned());
        CheckResult { verdict, check, subject: subject.to_owned(), detail: detail.to_owned(), remedy }
    }

    #[test]
    fn what_is_well_is_short_and_what_is_not_has_a_remedy() {
        let findings = [
            finding(Severity::Ok, Check::ServerUdp, "ns1", "answers"),
            finding(Severity::Ok, Check::ServerUdp, "ns2", "answers"),
            finding(Severity::Fail, Check::ServerUdp, "ns3", "answers"),
            finding(Severity::Fail, Check::ServerUdp, "ns4", "answers"),
            finding(Severity::Ok, Check::ServerTcp, "ns1", "answers"),
            finding(Severity::Ok, Check::ServerTcp, "ns2", "answers otherwise"),
        ];
        let expected = "\
ok    server-udp        ns1 and 1 more: answers
fail  server-udp        ns3: answers
fail  server-udp        ns4: answers
                        -> do this
ok    server-tcp        ns1: answers
ok    server-tcp        ns2: answers otherwise
";
        assert_eq!(text(&findings), expected);
    }

    #[test]
    fn a_zone_is_fully_qualified_however_it_is_written() {
        assert_eq!(zone("example.com").unwrap(), Name::from_ascii("example.com.").unwrap());
        assert_eq!(zone(".").unwrap(), Name::root());
        assert!(zone("").is_err());
    }
}
