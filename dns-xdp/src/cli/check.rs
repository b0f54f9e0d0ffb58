//! `check`: shows what each name would answer with every node healthy, and which part answers.
use std::fmt::Write as _;

use hickory_proto::rr::{Name, Record, RecordType};

use super::columns::columns;
use super::print;
use crate::answered_by::answered_by;
use crate::cluster::{AllDown, HealthCheck, Order, Require, Service, Suffix};
use crate::config::{Config, Failback, Failover, Mode};
use crate::health::{self, ProbeId, Subject, Target};
use crate::records::{presentation, type_text};
use crate::zone::{Lookup, Zone};
use crate::{failover, log, repair_bound};

pub(super) const EXAMPLE: &str = "Example: dns-xdp check --config /etc/dns-xdp/dns-xdp.toml";

pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    for warning in config.warnings() {
        log::tell(format_args!("warning: {warning}"));
    }
    let pin = config.check_pin();
    if pin.is_ok() {
        print(&format!("{} is valid\n", config.path.display()))?;
    }
    print(&report(config, &failover::healthy_zone(config)))?;
    Ok(pin?)
}

fn report(config: &Config, zone: &Zone) -> String {
    let mut rows = vec![["NAME", "TYPE", "TTL", "PATH", "ANSWERS"].map(str::to_owned)];
    let whole_zone = zone.authorities().iter();
    let whole_zone =
        whole_zone.flat_map(|of| [RecordType::SOA, RecordType::NS].map(|rtype| (of.apex(), rtype)));
    let types = [RecordType::A, RecordType::AAAA];
    let names = zone.names().flat_map(|(name, _)| types.map(|rtype| (name, rtype)));
    let of_records = zone.records().iter().map(|set| (&set.owner, set.rtype));
    let of_records = of_records.filter(|(_, rtype)| !types.contains(rtype));
    for (name, rtype) in whole_zone.chain(names).chain(of_records) {
        if let Lookup::Found { answers, .. } = zone.lookup(name, rtype, 0) {
            rows.push(row(config, zone, name, rtype, &answers));
        }
    }
    let parts = [summary(config, zone), probes(config), services(config), columns(&rows)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

/// Returns the table of the services with rules of their own; empty: there is none.
fn services(config: &Config) -> String {
    let has_rules = |service: &&Service| {
        service.order != Order::Rotate || !service.backup.is_empty() || service.all_down.is_some()
    };
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let row = |service: &Service| {
        [
            service.name.clone(),
            service.nodes.join(" "),
            service.order.text().to_owned(),
            or_dash(service.backup.join(" ")),
            or_dash(service.all_down.map_or("", AllDown::text).to_owned()),
        ]
    };
    let mut rows = vec![["SERVICE", "NODES", "ORDER", "BACKUP", "ALL DOWN"].map(str::to_owned)];
    rows.extend(config.cluster.services.iter().filter(has_rules).map(row));
    if rows.len() == 1 { String::new() } else { columns(&rows) }
}

/// Returns the table of the probes, in the order of the configuration.
fn probes(config: &Config) -> String {
    let (nodes, services) = (&config.cluster.nodes, &config.cluster.services);
    let targets = health::targets(&config.cluster, &config.failover.witness);
    let mut subjects: Vec<(Subject, &HealthCheck)> = Vec::new();
    for node in nodes {
        subjects.push((Subject::Node(node.name.clone()), &node.health));
    }
    for (service, check) in services.iter().filter_map(|service| Some((service, service.health.as_ref()?))) {
        let member = |node: &String| Subject::Member { service: service.name.clone(), node: node.clone() };
        subjects.extend(service.candidates().map(|node| (member(node), check)));
    }
    let of_witness = health::of_witness(nodes);
    subjects.extend(config.failover.witness.iter().map(|witness| (Subject::Witness(*witness), &of_witness)));

    let mut rows =
        vec![["PROBED", "HOW", "AT", "EVERY", "IN DOUBT", "TIMEOUT", "FALL", "RISE"].map(str::to_owned)];
    for (subject, check) in subjects {
        let probes = targets.range(ProbeId::all_of(&subject));
        rows.extend(probes.map(|(_, target)| probed(&subject, check, target)));
    }
    columns(&rows)
}

fn probed(subject: &Subject, check: &HealthCheck, Target { address, probe }: &Target) -> [String; 8] {
    let count = check.probes.len();
    let who = match check.require {
        _ if count == 1 => subject.to_string(),
        Require::All => format!("{subject}, all of {count}"),
        Require::Any => format!("{subject}, any of {count}"),
        Require::Count(needed) => format!("{subject}, {needed} of {count}"),
    };
    let [interval, fast_interval, timeout] = [probe.interval, probe.fast_interval, probe.timeout]
        .map(|period| humantime::format_duration(period).to_string());
    let [fall, rise] = [probe.fall, probe.rise].map(|results| results.to_string());
    [who, probe.kind.to_string(), address.to_string(), interval, fast_interval, timeout, fall, rise]
}

fn row(config: &Config, zone: &Zone, name: &Name, rtype: RecordType, answers: &[Record]) -> [String; 5] {
    let path = match config.xdp.mode {
        Mode::Off => "responder",
        _ => answered_by(zone, name, rtype).text(),
    };
    let ttl = answers.first().map_or(0, |record| record.ttl);
    let data: Vec<String> = answers.iter().map(|record| presentation(&record.data)).collect();
    [name.to_string(), type_text(rtype), format!("{ttl}s"), path.to_owned(), data.join(" ")]
}

fn summary(config: &Config, zone: &Zone) -> String {
    let nodes = &config.cluster.nodes;
    let voters = config.voters();
    let needed = config.failover.quorum.needed(voters);
    let promise = repair_bound::repair_bound(config, zone.names().len(), None);
    let mut text = String::new();
    let mut line = |line: String| writeln!(text, "{line}").expect("a string takes every line");
    line(format!("zone {} of {} nodes, epoch {}", zone.apex(), nodes.len(), zone.epoch()));
    for Suffix { name, set } in &config.cluster.suffixes {
        let set = set
            .as_ref()
            .map_or("the nodes' own addresses".to_owned(), |set| format!("the addresses `{set}`"));
        let own = if zone.apex().zone_of(name) { "" } else { ", a zone of its own" };
        line(format!("suffix {name} with {set}{own}"));
    }
    line(format!("quorum: {needed} of {voters} nodes and witnesses have to be visible"));
    line(format!("repair: {}", repair_bound::in_words(&promise).trim_end()));
    let Failover { failback, hold_down, .. } = config.failover;
    match failback {
        Failback::Manual => {
            line("failback: a node that fell comes back with dns-xdp node failback".to_owned());
        }
        Failback::Auto if hold_down.is_zero() => {}
        Failback::Auto => line(format!(
            "failback: a node that fell comes back when it was healthy for {}",
            humantime::format_duration(hold_down)
        )),
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_service_is_shown_with_its_order_its_backup_and_its_rule() {
        let text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                    [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.1\"\n[[node]]\nname = \"node2\"\nipv4 = \"192.0.2.2\"\n\
                    [[service]]\nname = \"db1\"\nnodes = [\"node1\"]\norder = \"first\"\nbackup = [\"node2\"]\n\
                    all-down = \"nodata\"\n[service.health]\nport = 5432\n";
        let config = Config::parse(text, Path::new("f")).unwrap();
        let report = report(&config, &failover::healthy_zone(&config));
        let words: Vec<Vec<&str>> = report.lines().map(|line| line.split_whitespace().collect()).collect();
        assert!(words.contains(&vec!["db1", "node1", "first", "node2", "nodata"]), "{report}");
        assert!(report.contains("node2 for db1"), "the backup is probed as a member: {report}");
    }

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
        assert!(report.starts_with("zone demo.example.com. of 17 nodes, epoch "), "{report}");
        assert!(report.contains("quorum: 9 of 17 nodes"), "{report}");
        assert!(report.contains("a dead node is in no answer after 2s"), "{report}");
        let words: Vec<Vec<&str>> = report.lines().map(|line| line.split_whitespace().collect()).collect();
        let has = |row: &[&str]| words.iter().any(|words| words.starts_with(row));
        assert!(has(&["demo.example.com.", "NS", "60s", "responder", "ns1.demo.example.com."]), "{report}");
        // An answer has `answers-max` of the 17 addresses.
        assert!(has(&["demo.example.com.", "A", "5s", "xdp", "192.0.2.1"]), "{report}");
        assert!(has(&["node2.demo.example.com.", "A", "5s", "xdp", "192.0.2.2"]), "{report}");
        assert!(has(&["ns2.demo.example.com.", "A", "5s", "xdp", "192.0.2.2"]), "{report}");
        assert!(
            has(&["node17", "tcp", "port", "6379", "192.0.2.17", "1s", "250ms", "500ms", "3", "2"]),
            "{report}"
        );
        assert!(has(&["db1.demo.example.com.", "A", "5s", "xdp", "192.0.2.2"]), "{report}");
    }

    #[test]
    fn the_rules_of_failback_are_shown_where_they_are_not_the_default() {
        let text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n[[node]]\nname = \"node1\"\n\
                    ipv4 = \"192.0.2.11\"\n[failover]\n";
        let shown = |rules: &str| {
            let config = Config::parse(&format!("{text}{rules}"), Path::new("f")).unwrap();
            let report = report(&config, &failover::healthy_zone(&config));
            report.lines().find_map(|line| line.strip_prefix("failback: ").map(str::to_owned))
        };
        assert_eq!(shown(""), None);
        assert!(shown("failback = \"manual\"").unwrap().ends_with("dns-xdp node failback"));
        assert!(shown("hold-down = \"5m\"").unwrap().ends_with("healthy for 5m"));
    }

    #[test]
    fn a_zone_of_thousands_of_nodes_with_long_names_is_shown() {
        let mut text = format!(
            "[zone]\nname = \"{}.example.com\"\n",
            std::array::from_fn::<_, 3, _>(|_| "z".repeat(50)).join(".")
        );
        text += "[listen]\ninterfaces = [\"eth0\"]\n[xdp]\ncapacity = 65536\n";
        for node in 0..3000 {
            let (high, low) = (node / 256, node % 256);
            text += &format!("[[node]]\nname = \"n{node}\"\nipv4 = \"10.0.{high}.{low}\"\n");
        }
        let config = Config::parse(&text, Path::new("f")).unwrap();
        let report = report(&config, &failover::healthy_zone(&config));
        assert!(report.contains(" of 3000 nodes, epoch "));
        let longest = report.lines().map(str::len).max().unwrap_or_default();
        assert!(longest > usize::from(u16::MAX), "{longest}");
        // No row is padded to the width of the longest answer.
        assert!(report.len() < 100 * longest, "{}", report.len());
    }

    #[test]
    fn each_probe_of_each_subject_is_shown_with_what_it_takes() {
        let text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                    [failover]\nwitness = [\"192.0.2.1\"]\n[health]\nrequire = \"any\"\n\
                    [[health.probes]]\nprobe = \"https\"\npath = \"/up\"\ntimeout = \"2s\"\n\
                    [[health.probes]]\nprobe = \"dns\"\ntarget = \"192.0.2.9\"\n\
                    [[service]]\nname = \"db\"\nnodes = [\"node1\"]\n[[service.health.probes]]\nprobe = \"exec\"\n\
                    command = [\"/bin/true\", \"x\"]\n[[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n";
        let config = Config::parse(text, Path::new("f")).unwrap();
        let expected = "\
PROBED             HOW                                AT          EVERY  IN DOUBT  TIMEOUT  FALL  RISE
node1, any of 2    https port 443 /up                 192.0.2.11  1s     250ms     2s       3     2
node1, any of 2    dns port 53 SOA demo.example.com.  192.0.2.9   1s     250ms     500ms    3     2
node1 for db       exec /bin/true x                   192.0.2.11  1s     250ms     500ms    3     2
witness 192.0.2.1  icmp                               192.0.2.1   1s     250ms     2s       3     2
";
        assert_eq!(probes(&config), expected);
    }
}
