//! Whether this process may do what XDP needs, said before anything is touched.
use crate::config::Mode;

/// capabilities(7): the bits of those that loading and attaching an XDP program takes.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];
/// Stands for the last two.
const CAP_SYS_ADMIN: u32 = 21;

/// Refuses to go on without the capabilities, even where `mode = "auto"` could do without XDP: an operator who
/// forgot `sudo` does not want a slow server.
pub(super) fn check(mode: Mode) -> anyhow::Result<()> {
    let missing = lacking();
    if mode == Mode::Off || missing.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "missing {}: run as root, give the process these capabilities, or do without XDP: [xdp] mode = \"off\"",
        missing.join(", ")
    )
}

/// The capabilities that this process lacks.
pub(crate) fn lacking() -> Vec<&'static str> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status).map(missing).unwrap_or_default()
}

/// The effective set in proc_pid_status(5).
fn effective(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective & (1 << bit) != 0;
    let is_missing = |&&(bit, name): &&(u32, &str)| {
        let covered = has(CAP_SYS_ADMIN) && name != "CAP_NET_ADMIN";
        !has(bit) && !covered
    };
    NEEDED.iter().filter(is_missing).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_capabilities_are_named() {
        let of = |set: &str| effective(&format!("Name:\tdns-xdp\nCapEff:\t{set}\n")).map(missing).unwrap();
        assert!(of("000001ffffffffff").is_empty());
        assert_eq!(of("0000000000000000"), ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
        assert_eq!(of("0000000000201000"), [""; 0]);
        assert_eq!(of("0000008000001000"), ["CAP_PERFMON"]);
    }
}
