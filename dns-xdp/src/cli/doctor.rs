//! `doctor`: shows what keeps this machine from answering, and the commands that help.
use std::path::PathBuf;

use super::{ConfigFile, Format, briefly, print, print_json};
use crate::config::DEFAULT_SOCKET;
use crate::doctor::{Finding, findings, gather};
use crate::severity::Severity;

pub(super) const EXAMPLE: &str = "\
Example: dns-xdp doctor --config /etc/dns-xdp/dns-xdp.toml

Nothing is changed. Exit code 0: nothing to do; 3: warnings alone; 1: something keeps this node from answering.";

#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    format: Format,
}

/// The error when `doctor` has found something. The report is on stdout.
#[derive(Debug, thiserror::Error)]
#[error("{failed} failed, {warned} to look at")]
pub(super) struct Found {
    failed: usize,
    warned: usize,
}

impl Found {
    /// Returns `None` if there is nothing to do.
    fn of(findings: &[Finding]) -> Option<Self> {
        let count = |level| findings.iter().filter(|finding| finding.level == level).count();
        let (failed, warned) = (count(Severity::Fail), count(Severity::Warn));
        (failed + warned > 0).then_some(Found { failed, warned })
    }

    pub(super) fn exit_code(&self) -> u8 {
        if self.failed > 0 { 1 } else { 3 }
    }
}

impl Doctor {
    pub(super) fn run(&self, socket: Option<PathBuf>) -> anyhow::Result<()> {
        let config = self.file.load(socket.clone());
        let known = config.as_ref().ok().map(|config| config.control.socket.clone());
        let socket = socket.or(known).unwrap_or_else(|| DEFAULT_SOCKET.into());
        let facts = briefly(async { Ok(gather(config.as_ref(), &socket).await) })?;
        let findings = findings(&facts);
        if self.format.json {
            print_json(&serde_json::to_value(&findings)?)?;
        } else {
            print(&report(&findings))?;
        }
        Found::of(&findings).map_or(Ok(()), |found| Err(found.into()))
    }
}

fn report(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or_default();
    let line = |Finding { level, what, text, remedy }: &Finding| {
        // Every problem of a file is on a line of its own.
        let indent = format!("\n{:1$}", "", "fail  ".len() + width + 2);
        let text = text.replace('\n', &indent);
        let remedy = remedy.as_ref().map(|remedy| format!("{indent}-> {remedy}")).unwrap_or_default();
        format!("{level:<4}  {what:<width$}  {text}{remedy}\n")
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{Kind, Remedy};

    #[test]
    fn the_remedy_is_below_what_was_found() {
        let finding = |level, what: &str, text: &str, remedy: Option<&str>| Finding {
            level,
            what: what.to_owned(),
            text: text.to_owned(),
            remedy: remedy.map(|text| Remedy::new(Kind::SwitchOn, text)),
        };
        let findings = [
            finding(Severity::Ok, "kernel", "6.18.0", None),
            finding(Severity::Fail, "eth0", "veth, down", Some("ip link set eth0 up")),
        ];
        let expected =
            "ok    kernel  6.18.0\nfail  eth0    veth, down\n              -> ip link set eth0 up\n";
        assert_eq!(report(&findings), expected);
    }

    #[test]
    fn the_exit_code_is_that_of_the_worst() {
        let of = |levels: &[Severity]| {
            let finding = |level: &Severity| Finding {
                level: *level,
                what: String::new(),
                text: String::new(),
                remedy: None,
            };
            let findings: Vec<Finding> = levels.iter().map(finding).collect();
            Found::of(&findings).map_or(0, |found| found.exit_code())
        };
        assert_eq!(of(&[Severity::Ok]), 0);
        assert_eq!(of(&[Severity::Warn, Severity::Ok]), 3);
        assert_eq!(of(&[Severity::Warn, Severity::Fail]), 1);
    }
}
