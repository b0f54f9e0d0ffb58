//! The running daemon's status and counters. Reads them field by field, because the daemon may be another version.
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::facts::{AddressState, Daemon, InterfaceState, Running};
use super::gather::CONNECT_TIMEOUT;
use crate::control::{CallError, Client, Command};

pub(super) async fn daemon(socket: &Path) -> Daemon {
    let client = Client::new(socket).with_patience(CONNECT_TIMEOUT);
    let status = match client.call(&Command::Status).await {
        Ok(status) => status,
        Err(CallError::NoDaemon { .. }) => return Daemon::Absent,
        Err(error) => return Daemon::Garbled(error.to_string()),
    };
    let stats = client.call(&Command::Stats).await.unwrap_or_default();
    let Some(running) = running(&status, &stats) else {
        return Daemon::Garbled("its status has no pid: it is another version".to_owned());
    };
    let limits = fs::read_to_string(format!("/proc/{}/limits", running.pid));
    let unlimited_memory = limits.ok().as_deref().and_then(is_unlimited);
    Daemon::Running(Running { unlimited_memory, ..running })
}

fn running(status: &Value, stats: &Value) -> Option<Running> {
    let pid = status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok())?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let frozen = text(&status["frozen"]).map(|reason| format!("the answers are frozen: {reason}"));
    let interface = |value: &Value| {
        let [name, mode] = ["name", "mode"].map(|field| text(&value[field]));
        Some(InterfaceState { name: name?, mode: mode?, reason: text(&value["reason"]) })
    };
    let address = |value: &Value| {
        let address = value["address"].as_str()?.parse().ok()?;
        Some(AddressState { address, state: text(&value["state"])?, reason: text(&value["reason"]) })
    };
    let errors = stats["transmit_errors"].as_object().into_iter().flatten();
    let errors: BTreeMap<String, u64> =
        errors.filter_map(|(name, count)| Some((name.clone(), count.as_u64()?))).collect();
    Some(Running {
        pid,
        alarms: list(&status["alarms"], text).into_iter().chain(frozen).collect(),
        interfaces: list(&status["interfaces"], interface),
        addresses: list(&status["addresses"], address),
        transmit_errors: errors,
        unlimited_memory: None,
    })
}

fn list<T>(values: &Value, read: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    values.as_array().into_iter().flatten().filter_map(read).collect()
}

/// Whether a process may lock unlimited memory (proc_pid_limits(5)).
fn is_unlimited(limits: &str) -> Option<bool> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    Some(line.split_whitespace().next()? == "unlimited")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_status_is_read_whichever_version_wrote_it() {
        let status = json!({"pid": 7, "alarms": ["blind"], "frozen": "no quorum",
            "interfaces": [{"name": "eth0", "mode": "generic", "reason": "why"}, {"name": "eth1"}],
            "addresses": [{"address": "192.0.2.1", "state": "served", "reason": null}]});
        let running = running(&status, &json!({"transmit_errors": {"eth0": 3}})).unwrap();
        assert_eq!(running.alarms, ["blind", "the answers are frozen: no quorum"]);
        assert_eq!(running.interface("eth0").unwrap().reason.as_deref(), Some("why"));
        assert_eq!((running.interfaces.len(), running.addresses.len()), (1, 1));
        assert_eq!(running.transmit_errors["eth0"], 3);
        let old = super::running(&json!({"pid": 7}), &Value::Null).unwrap();
        assert_eq!(old, Running { pid: 7, ..Running::default() });
        assert_eq!(super::running(&json!({}), &Value::Null), None);
    }

    #[test]
    fn a_limit_of_memory_is_read() {
        let line = |limit: &str| {
            format!("Max processes 1 1 processes\nMax locked memory         {limit}   8388608   bytes\n")
        };
        assert_eq!(is_unlimited(&line("unlimited")), Some(true));
        assert_eq!(is_unlimited(&line("8388608")), Some(false));
        assert_eq!(is_unlimited(""), None);
    }
}
