//! The paths that outlive a daemon. Reads only these keys of the file, because the programs and certificates that the
//! file names may be gone.
use std::path::{Path, PathBuf};

use super::table_reader::TableReader;
use super::{ConfigError, spec, text};

/// The sections that are not read. They are listed so that a misspelt section is refused.
const OTHERS: [&str; 12] = [
    "zone",
    "listen",
    "rate-limit",
    "cookies",
    "fallback",
    "health",
    "failover",
    "node",
    "service",
    "metrics",
    "events",
    "cluster",
];

/// The paths that outlive a daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnloadPaths {
    /// `[xdp] pin`
    pub pin: PathBuf,
    /// `[control] socket`
    pub socket: PathBuf,
}

impl UnloadPaths {
    /// Reads `[xdp]` and `[control]` of the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        UnloadPaths::parse(&text(path)?, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        spec::document(text, path, |document, path, problems| {
            let mut file = TableReader::file(document, problems);
            let pin = spec::xdp(file.section("xdp", "[xdp]")).pin;
            let socket = spec::control(file.section("control", "[control]"), path).socket;
            for section in OTHERS {
                file.has(section);
            }
            file.close();
            Some(UnloadPaths { pin, socket })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    const FILE: &str = r#"[zone]
name = "demo.example.com"
[listen]
interfaces = ["eth0"]
[health]
probe = "https"
ca = "/nonexistent/ca.pem"
target = "nobody.invalid"
[failover]
[rate-limit]
[cookies]
[fallback]
[cluster]
[[node]]
name = "node1"
ipv4 = "192.0.2.11"
[[service]]
name = "db1"
nodes = ["node1"]
health = { probe = "exec", command = ["/nonexistent/probe"] }
[metrics]
[events]
on-event = ["/nonexistent/notify"]
[xdp]
pin = "/sys/fs/bpf/other"
[control]
socket = "/run/other.sock"
"#;

    fn refusal(text: &str) -> String {
        UnloadPaths::parse(text, Path::new("f")).expect_err(text).to_string()
    }

    #[test]
    fn what_the_other_sections_name_may_be_gone() {
        let config = Config::parse(FILE, Path::new("f")).unwrap_err().to_string();
        assert_eq!(config.lines().count(), 4, "{config}");
        let remains = UnloadPaths { pin: "/sys/fs/bpf/other".into(), socket: "/run/other.sock".into() };
        assert_eq!(UnloadPaths::parse(FILE, Path::new("f")).unwrap(), remains);
    }

    #[test]
    fn the_defaults_are_those_of_the_whole() {
        let text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n[[node]]\nname = \"node1\"\n\
                    ipv4 = \"192.0.2.11\"\n";
        let config = Config::parse(text, Path::new("f")).unwrap();
        let expected = UnloadPaths { pin: config.xdp.pin, socket: config.control.socket };
        assert_eq!(UnloadPaths::parse(text, Path::new("f")).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_with_what_is_read_is_refused() {
        let misspelt = refusal(&FILE.replace("[xdp]", "[xdpp]"));
        assert_eq!(misspelt, "f:24: unknown key `xdpp`; did you mean `xdp`?");
        let relative = refusal(&FILE.replace("/sys/fs/bpf/other", "other"));
        assert_eq!(relative, "f:25: `pin` is `other`; write the whole path, from /");
        let upwards = refusal(&FILE.replace("/sys/fs/bpf/other", "/sys/fs/bpf/.."));
        assert_eq!(upwards, "f:25: `pin` is `/sys/fs/bpf/..`; write the path without `..`");
        assert!(refusal("[xdp").starts_with("f:1: "));
    }
}
