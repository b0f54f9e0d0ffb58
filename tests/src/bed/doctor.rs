//! Runs `doctor` on a node, and applies its remedies exactly as printed.
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::bed::node::Node;
use crate::bed::process;
use crate::bed::wait;

/// The longest time until a carrier or an address is there.
const DEVICE_TIMEOUT: Duration = Duration::from_secs(10);

/// One finding of `doctor`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `ok`, `warn` or `fail`
    pub level: String,
    /// `eth0 queues`
    pub what: String,
    /// The text of the finding.
    pub text: String,
    /// The remedy.
    pub remedy: Option<String>,
}

/// Runs `doctor` with its own PATH, so that programs can be missing.
///
/// # Errors
/// `doctor` cannot be started, or prints no JSON.
pub fn look_in(node: &Node, path: &OsStr) -> Result<Vec<Found>> {
    let mut command = Command::new(process::sibling("dns-xdp")?);
    command.args(["doctor", "--json", "--config"]).arg(&node.config).env("PATH", path);
    read(&node.namespace.output(&mut command)?)
}

/// Runs `doctor` for a node.
///
/// # Errors
/// The same as for [`look_in`].
pub fn look(node: &Node) -> Result<Vec<Found>> {
    look_in(node, &path()?)
}

/// Reads the output of `doctor --json`.
///
/// # Errors
/// The output is no JSON.
pub fn read(output: &Output) -> Result<Vec<Found>> {
    let stderr = || String::from_utf8_lossy(&output.stderr).into_owned();
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).with_context(stderr)?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let found = |value: &Value| {
        let [level, what, said] = ["level", "what", "text"].map(|field| text(&value[field]));
        Some(Found { level: level?, what: what?, text: said?, remedy: text(&value["remedy"]) })
    };
    findings.iter().map(|value| found(value).with_context(|| format!("not a finding: {value}"))).collect()
}

/// Returns the finding about one subject; the worst if there are several.
pub fn about<'a>(findings: &'a [Found], what: &str) -> Option<&'a Found> {
    let all = findings.iter().filter(|found| found.what == what);
    all.max_by_key(|found| ["ok", "warn", "fail"].iter().position(|level| found.level == *level))
}

/// Whether a subject needs no remedy.
pub fn is_well(findings: &[Found], what: &str) -> bool {
    about(findings, what).is_none_or(|found| found.level == "ok")
}

/// Expects `doctor` to find a fault of `what`, applies its remedy, and checks that the fault is gone. Returns the
/// remedy.
///
/// # Errors
/// `doctor` finds no fault or no remedy, or the remedy fails or does not help.
pub fn cure(node: &mut Node, what: &str) -> Result<String> {
    let path = path()?;
    cure_in(node, what, &path)
}

/// Like [`cure`], with a PATH for `doctor`.
///
/// # Errors
/// As [`cure`].
pub fn cure_in(node: &mut Node, what: &str, path: &OsStr) -> Result<String> {
    let looked = wait::until(&format!("something is wrong about {what}"), DEVICE_TIMEOUT, || {
        let findings = look_in(node, path)?;
        ensure!(!is_well(&findings, what), "{findings:#?}");
        about(&findings, what).cloned().context("it is gone")
    });
    let (found, _) = looked?;
    let remedy = found.remedy.clone().with_context(|| format!("no remedy: {found:?}"))?;
    apply(node, &remedy)?;
    wait::until(&format!("`{remedy}` helps against {found:?}"), DEVICE_TIMEOUT, || {
        let findings = look_in(node, path)?;
        ensure!(is_well(&findings, what), "{:?}", about(&findings, what));
        Ok(())
    })?;
    Ok(remedy)
}

/// Applies a remedy: writes the line that it names, or runs it as a command.
///
/// # Errors
/// The command fails, or there is no such section.
pub fn apply(node: &mut Node, remedy: &str) -> Result<()> {
    let Some(line) = remedy.strip_prefix("write [") else {
        let mut command = Command::new("sh");
        command.args(["-c", remedy]).env("PATH", path()?);
        node.namespace.succeed(&mut command)?;
        return Ok(());
    };
    let (line, restarts) = match line.strip_suffix(", then restart the daemon") {
        Some(line) => (line, true),
        None => (line, false),
    };
    let (section, line) = line.split_once("] ").context("a line has a section")?;
    let text = written(&node.config_text()?, section, line).with_context(|| format!("no [{section}]"))?;
    fs::write(&node.config, text)?;
    if restarts {
        node.stop(Signal::SIGTERM)?;
        node.start()?;
    }
    Ok(())
}

/// Returns the file with this line in a section, in place of the key's old line.
fn written(text: &str, section: &str, line: &str) -> Option<String> {
    let head = format!("[{section}]\n");
    let (before, rest) = text.split_once(&head)?;
    let end = rest.find("\n[").unwrap_or(rest.len());
    let (inside, after) = rest.split_at(end);
    let key = line.split_once(" = ")?.0;
    let others = inside.lines().filter(|other| other.split_once(" = ").is_none_or(|(other, _)| other != key));
    let inside: String = others.map(|other| format!("{other}\n")).collect();
    Some(format!("{before}{head}{line}\n{inside}{after}"))
}

/// Returns this PATH with the built programs first, as if they were installed.
///
/// # Errors
/// The programs are not built.
pub fn path() -> Result<OsString> {
    let dns_xdp = process::sibling("dns-xdp")?;
    let own = dns_xdp.parent().map(Path::to_owned);
    let others = env::var_os("PATH").unwrap_or_default();
    Ok(env::join_paths(own.into_iter().chain(env::split_paths(&others)))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written_into_its_section_in_the_place_of_the_old_one() {
        let text = "[zone]\nmode = 1\n\n[xdp]\npin = \"p\"\nmode = \"native\"\n\n[health]\n";
        let expected = "[zone]\nmode = 1\n\n[xdp]\nmode = \"auto\"\npin = \"p\"\n\n[health]\n";
        assert_eq!(written(text, "xdp", "mode = \"auto\"").unwrap(), expected);
        assert_eq!(written(text, "listen", "port = 1"), None);
    }

    #[test]
    fn the_worst_that_is_said_counts() {
        let found = |level: &str| Found {
            level: level.to_owned(),
            what: "eth0".to_owned(),
            text: String::new(),
            remedy: None,
        };
        let findings = [found("ok"), found("warn"), found("ok")];
        assert_eq!(about(&findings, "eth0").unwrap().level, "warn");
        assert!(!is_well(&findings, "eth0") && is_well(&findings, "eth1"));
    }
}
