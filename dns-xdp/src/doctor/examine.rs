//! Derives findings from facts, in the order of an operator's own search. This module is pure.
//!
//! Each subject has a file: the machine, its interfaces and their devices, its addresses, the port.
mod addresses;
mod device;
mod interface;
mod machine;
mod port;

use super::facts::{Daemon, Facts, Host, Running, Setting};
use super::{Finding, Kind, Remedy};

/// Returns the findings.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = machine::findings(facts);
    match &facts.setting {
        Ok(setting) => findings.extend(configured(&View::new(facts, setting))),
        Err(problems) => findings.push(Finding::fail(
            "configuration",
            problems.clone(),
            Remedy::new(Kind::CorrectFile, "correct these lines, then: dns-xdp check"),
        )),
    }
    findings.extend(daemon(facts));
    findings
}

/// The facts for the findings about a valid configuration.
struct View<'a> {
    host: &'a Host,
    setting: &'a Setting,
    running: Option<&'a Running>,
}

impl<'a> View<'a> {
    fn new(facts: &'a Facts, setting: &'a Setting) -> Self {
        View { host: &facts.host, setting, running: facts.daemon.running() }
    }

    fn is_running(&self) -> bool {
        self.running.is_some()
    }
}

fn configured(view: &View<'_>) -> Vec<Finding> {
    let setting = view.setting;
    let mut findings = vec![Finding::ok("configuration", format!("{} is valid", setting.path.display()))];
    let warning = |warning: &String| Finding::warn("configuration", warning.clone(), None);
    findings.extend(setting.warnings.iter().map(warning));
    findings.extend(interface::findings(view));
    findings.extend(device::findings(view));
    findings.extend(addresses::findings(view));
    findings.push(port::port(view));
    findings.push(port::tcp(view));
    findings
}

fn daemon(facts: &Facts) -> Vec<Finding> {
    match &facts.daemon {
        Daemon::Absent => {
            let remedy = Remedy::start(facts.host.unit, facts.setting.as_ref().ok());
            vec![Finding::warn("daemon", "no daemon answers on the control socket", remedy)]
        }
        Daemon::Garbled(text) => {
            let remedy = Remedy::new(Kind::ReadLog, "journalctl -u dns-xdp");
            vec![Finding::fail("daemon", text.clone(), remedy)]
        }
        Daemon::Running(running) => {
            let mut findings = vec![Finding::ok("daemon", format!("runs, pid {}", running.pid))];
            // Alarms of the network have findings of their own.
            let told = facts.setting.as_ref().map(|setting| setting.serving.alarms()).unwrap_or_default();
            let others = running.alarms.iter().filter(|alarm| !told.contains(alarm));
            // An alarm already says what to do.
            findings.extend(others.map(|alarm| Finding::warn("daemon", alarm.clone(), None)));
            findings
        }
    }
}
