//! `check`: what each name would answer with every node healthy, and by which path.
use std::fmt::Write as _;
use std::time::Duration;

use hickory_proto::rr::{Name, Record, RecordType};

use super::columns::columns;
use super::print;
use crate::config::{Config, Mode};
use crate::failover;
use crate::path::path;
use crate::zone::{Lookup, Zone};

pub(super) const EXAMPLE: &str = "Example: dns-xdp check --config /etc/dns-xdp/dns-xdp.toml";

pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    for warning in config.warnings() {
        eprintln!("warning: {warning}");
    }
    print(&report(config, &failover::healthy_zone(config)))
}

fn report(config: &Config, zone: &Zone) -> String {
    let mut rows = vec![["NAME", "TYPE", "TTL", "PATH", "ANSWERS"].map(str::to_owned)];
    let apex = zone.apex();
    let whole_zone = [RecordType::SOA, RecordType::NS].map(|rtype| (apex, rtype));
    let types = [RecordType::A, RecordType::AAAA];
    let names = zone.names().flat_map(|(name, _)| types.map(|rtype| (name, rtype)));
    for (name, rtype) in whole_zone.into_iter().chain(names) {
        if let Lookup::Found { answers, .. } = zone.lookup(name, rtype, 0) {
            rows.push(row(config, zone, name, rtype, &answers));
        }
    }
    let mut report = summary(config, zone);
    report.push('\n');
    report.push_str(&columns(&rows));
    report
}

fn row(config: &Config, zone: &Zone, name: &Name, rtype: RecordType, answers: &[Record]) -> [String; 5] {
    let path = match config.xdp.mode {
        Mode::Off => "responder",
        _ => path(zone, name, rtype).text(),
    };
    let ttl = answers.first().map_or(0, |record| record.ttl);
    let data: Vec<String> = answers.iter().map(|record| record.data.to_string()).collect();
    [name.to_string(), rtype.to_string(), format!("{ttl}s"), path.to_owned(), data.join(" ")]
}

fn summary(config: &Config, zone: &Zone) -> String {
    let nodes = &config.cluster.nodes;
    let voters = nodes.len() + config.failover.witness.len();
    let needed = config.failover.quorum.needed(voters);
    let detect = nodes.iter().map(|node| node.health.time_to_detect()).max().unwrap_or_default();
    let ttl = Duration::from_secs(config.zone.ttl_seconds.into());
    let [detect, ttl, whole] = [detect, ttl, detect + ttl].map(humantime::format_duration);
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes every line");
    line(format!("{} is valid", config.path.display()));
    line(format!("zone {} of {} nodes, epoch {}", zone.apex(), nodes.len(), zone.epoch()));
    line(format!("quorum: {needed} of {voters} nodes and witnesses have to be visible"));
    line(format!(
        "repair: a dead node is found out within {detect}; with a TTL of {ttl} no cache has it after {whole}"
    ));
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_name_is_shown_with_its_path() {
        let mut text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                        [[service]]\nname = \"db1\"\nnodes = [\"node2\"]\n"
            .to_owned();
        for last in 1..=17 {
            text += &format!("[[node]]\nname = \"node{last}\"\nipv4 = \"192.0.2.{last}\"\n");
        }
        let config = Config::parse(&text, Path::new("f")).unwrap();
        let report = report(&config, &failover::healthy_zone(&config));
        assert!(report.starts_with("f is valid\nzone demo.example.com. of 17 nodes, epoch "), "{report}");
        assert!(report.contains("quorum: 9 of 17 nodes"), "{report}");
        assert!(report.contains("within 2s; with a TTL of 5s no cache has it after 7s"), "{report}");
        let words: Vec<Vec<&str>> = report.lines().map(|line| line.split_whitespace().collect()).collect();
        let has = |row: &[&str]| words.iter().any(|words| words.starts_with(row));
        assert!(has(&["demo.example.com.", "NS", "60s", "responder", "ns1.demo.example.com."]), "{report}");
        assert!(has(&["demo.example.com.", "A", "5s", "responder", "192.0.2.1"]), "{report}");
        assert!(has(&["node2.demo.example.com.", "A", "5s", "xdp", "192.0.2.2"]), "{report}");
        assert!(has(&["ns2.demo.example.com.", "A", "5s", "xdp", "192.0.2.2"]), "{report}");
        assert!(has(&["db1.demo.example.com.", "A", "5s", "xdp", "192.0.2.2"]), "{report}");
    }
}
