//! `bench`: times the program with this zone's own queries on this machine, without any traffic.
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::value_parser;
use hickory_proto::rr::Name;
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::Serialize;

use super::columns::columns;
use super::{ConfigFile, Format, print, print_json};
use crate::bench::{Between, Kind, Route, Routes, kinds};
use crate::config::Config;
use crate::controller::served_addresses;
use crate::datapath::{self, Least, PinnedMaps, Stopwatch, Timed, Unattached, Variant};
use crate::{failover, log, privileges};

pub(super) const EXAMPLE: &str = "Example: dns-xdp bench --config /etc/dns-xdp/dns-xdp.toml --seconds 10";

/// A MAC address for the served addresses, locally administered.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The clients' addresses, from the ranges for documentation (RFC 5737, RFC 9637). No node serves them.
const CLIENT_IPV4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const CLIENT_IPV6: Ipv6Addr = Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 1);

/// The number of runs in a round, which takes about 3 ms. A daemon that publishes meanwhile waits at most that long.
/// Such short rounds fit between the interrupts of a busy node.
const REPEAT: u32 = 25_000;
const ROUNDS_MIN: u32 = 3;

#[derive(Debug, clap::Args)]
pub(super) struct Bench {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    format: Format,
    /// How long to keep the core busy, about
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u16).range(1..=3600))]
    seconds: u16,
}

#[derive(Debug, Serialize)]
struct Report {
    zone: String,
    table: Table,
    program: Program,
    interfaces: Vec<Interface>,
    queries: Vec<Row>,
}

/// The table with the queried names: a table that a daemon pinned, or a table made from the configuration.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Table {
    Pinned(PathBuf),
    Configuration(PathBuf),
}

#[derive(Debug, Serialize)]
struct Program {
    instructions: u32,
    machine_code_octets: u32,
    /// Whether the pinned program is from this build; `None`: no program is pinned.
    pinned: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Interface {
    name: String,
    mode: String,
    driver: Option<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    query: String,
    names: usize,
    ns: f64,
    per_second_and_core: f64,
}

impl Bench {
    pub(super) fn run(&self, socket: Option<PathBuf>) -> anyhow::Result<()> {
        let config = self.file.load(socket)?;
        let lacking = privileges::lacking();
        if !lacking.is_empty() {
            anyhow::bail!("missing {}: run this as root", lacking.join(", "));
        }
        if config.xdp.log {
            log::tell(
                "note: [xdp] log is on: the node's program also needs time for logging, which these figures do not include",
            );
        }
        let report = self.report(&config)?;
        if self.format.json { print_json(&serde_json::to_value(report)?) } else { print(&report.text()) }
    }

    fn report(&self, config: &Config) -> anyhow::Result<Report> {
        let interfaces = datapath::attachments(config)?.into_iter().map(|it| Interface {
            name: it.interface,
            mode: it.attached.to_string(),
            driver: it.driver,
        });
        let served = served_addresses(&config.listen)?;
        let bar = progress_bar(Duration::from_secs(self.seconds.into()));
        let (responder, table) = load(config, &served)?;
        let kinds = ask(config, &responder, &served, &table)?;
        let size = responder.size()?;
        Ok(Report {
            zone: config.zone.apex.to_string(),
            interfaces: interfaces.collect(),
            queries: self.time(&responder, kinds, &bar)?,
            program: Program {
                instructions: size.translated / 8,
                machine_code_octets: size.compiled,
                pinned: responder.is_pinned(&config.xdp.pin),
            },
            table,
        })
    }

    /// Times every kind of query in turn, until the time is up. A disturbance of the machine then does not affect one
    /// kind alone.
    fn time(&self, responder: &Unattached, kinds: Vec<Kind>, bar: &ProgressBar) -> anyhow::Result<Vec<Row>> {
        let most = kinds.iter().map(|kind| kind.frames.len()).max().unwrap_or_default();
        let mut stopwatch = Stopwatch::load(most)?;
        let mut least = vec![Least::NONE; kinds.len()];
        let time = Duration::from_secs(self.seconds.into());
        bar.set_message(format!("timing {} kinds of query", kinds.len()));
        let start = Instant::now();
        for round in 0.. {
            if round >= ROUNDS_MIN && start.elapsed() >= time {
                break;
            }
            for (kind, least) in kinds.iter().zip(&mut least) {
                let timed = time_once(responder, &mut stopwatch, kind, least);
                timed.with_context(|| format!("cannot time {}", kind.text))?;
                bar.set_position(start.elapsed().min(time).as_millis() as u64);
            }
        }
        Ok(kinds.into_iter().zip(least).map(|(kind, least)| Row::new(kind, least)).collect())
    }
}

/// Loads the program over the table that the daemon pinned, or over a new one if there is none.
fn load(config: &Config, served: &[IpAddr]) -> anyhow::Result<(Unattached, Table)> {
    let port = config.listen.port;
    if let Some(pinned) = PinnedMaps::find(&config.xdp.pin)? {
        return Ok((
            Unattached::over(&pinned, served, MAC, port)?,
            Table::Pinned(pinned.directory().to_owned()),
        ));
    }
    let zone = failover::healthy_zone(config);
    let capacity = datapath::capacity(&config.xdp, zone.names().len());
    let mut responder = Unattached::load(variant(config), &datapath::places(served, MAC), port, capacity)?;
    responder.publish(&zone)?;
    Ok((responder, Table::Configuration(config.path.clone())))
}

/// Returns the variant that a daemon with this configuration uses.
fn variant(config: &Config) -> Variant {
    Variant { features: datapath::features_of(config), frags: false }
}

/// Returns the kinds of query for configured names that the program answers.
fn ask(
    config: &Config,
    responder: &Unattached,
    served: &[IpAddr],
    table: &Table,
) -> anyhow::Result<Vec<Kind>> {
    let zone = failover::healthy_zone(config);
    let names: Vec<Name> = zone.names().map(|(name, _)| name.clone()).collect();
    let routes = routes(served, config.listen.port).context("no address is served: see [listen]")?;
    let kinds = kinds(zone.apex(), &names, &routes, |query| responder.answer(query))?;
    if let (Table::Pinned(maps), true) = (table, kinds.is_empty()) {
        anyhow::bail!(
            "the table in {} answers no name of {}: name the daemon's own file with --config, or wait until it is ready",
            maps.display(),
            config.path.display()
        );
    }
    anyhow::ensure!(!kinds.is_empty(), "the program answers no name of {}", config.path.display());
    Ok(kinds)
}

fn routes(served: &[IpAddr], port: u16) -> Option<Routes> {
    let ipv4 = served.iter().find_map(|address| match address {
        IpAddr::V4(server) => Some(Between::Ipv4([CLIENT_IPV4, *server])),
        IpAddr::V6(_) => None,
    });
    let ipv6 = served.iter().find_map(|address| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(server) => Some(Between::Ipv6([CLIENT_IPV6, *server])),
    });
    let route = |between| Route { between, mac: MAC, port };
    let first = ipv4.or(ipv6).map(route)?;
    Some(Routes { first, second: ipv4.and(ipv6).map(route) })
}

fn time_once(
    responder: &Unattached,
    stopwatch: &mut Stopwatch,
    kind: &Kind,
    least: &mut Least,
) -> anyhow::Result<()> {
    stopwatch.frames(&kind.frames)?;
    let before = responder.unanswered()?;
    stopwatch.round(Timed::Responder(responder), REPEAT, least)?;
    let unanswered = responder.unanswered()? - before;
    anyhow::ensure!(
        unanswered == 0,
        "{unanswered} of {REPEAT} queries were left to the responder: did the zone change? run this again"
    );
    Ok(())
}

impl Row {
    fn new(kind: Kind, least: Least) -> Self {
        let ns = least.ns();
        let per_second_and_core = (1e9 / ns.max(1.0)).round();
        Row { query: kind.text, names: kind.frames.len(), ns, per_second_and_core }
    }
}

/// Returns a progress bar on stderr, which is hidden unless stderr is a terminal.
fn progress_bar(time: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {percent:>3} %");
    let bar = ProgressBar::new(time.as_millis() as u64)
        .with_style(style.expect("the template is valid"))
        .with_message("loading the program")
        .with_finish(ProgressFinish::AndClear);
    bar.tick();
    bar
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |line: String| writeln!(text, "{line}").expect("a string takes every line");
        line(match &self.table {
            Table::Pinned(maps) => {
                format!("zone {}, in the table that is pinned in {}", self.zone, maps.display())
            }
            Table::Configuration(file) => {
                format!("zone {}, in a table made from {}, because none is pinned", self.zone, file.display())
            }
        });
        let Program { instructions, machine_code_octets, pinned } = &self.program;
        let other = if *pinned == Some(false) { "; the node runs another build" } else { "" };
        line(format!(
            "program: {instructions} instructions, {machine_code_octets} octets of machine code{other}"
        ));
        for Interface { name, mode, driver } in &self.interfaces {
            let driver = driver.as_ref().map(|driver| format!(", driver {driver}")).unwrap_or_default();
            line(format!("interface {name}: {mode}{driver}"));
        }
        text.push('\n');
        text.push_str(&columns(&self.rows()));
        text.push_str(
            "\nThe program's own time, and what one core could answer if that were all: receiving and sending come on \
             top,\nthe driver's work in native mode, the kernel's buffer as well in generic mode.\n",
        );
        text
    }

    fn rows(&self) -> Vec<[String; 4]> {
        let head = ["QUERY", "NAMES", "NS", "PER SECOND AND CORE"].map(str::to_owned);
        let row = |row: &Row| {
            let millions = format!("{:.1} M", row.per_second_and_core / 1e6);
            [row.query.clone(), row.names.to_string(), format!("{:.0}", row.ns), millions]
        };
        std::iter::once(head).chain(self.queries.iter().map(row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_says_what_was_timed_and_what_was_not() {
        let report = Report {
            zone: "demo.example.com.".to_owned(),
            table: Table::Pinned("/sys/fs/bpf/dns-xdp/maps-v1-9216".into()),
            program: Program { instructions: 2151, machine_code_octets: 10_297, pinned: Some(false) },
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                mode: "native".to_owned(),
                driver: Some("virtio_net".to_owned()),
            }],
            queries: vec![Row {
                query: "A".to_owned(),
                names: 6,
                ns: 75.0,
                per_second_and_core: 13_333_333.0,
            }],
        };
        let expected = "\
zone demo.example.com., in the table that is pinned in /sys/fs/bpf/dns-xdp/maps-v1-9216
program: 2151 instructions, 10297 octets of machine code; the node runs another build
interface eth0: native, driver virtio_net

QUERY  NAMES  NS  PER SECOND AND CORE
A      6      75  13.3 M

The program's own time, and what one core could answer if that were all: receiving and sending come on top,
the driver's work in native mode, the kernel's buffer as well in generic mode.
";
        assert_eq!(report.text(), expected);
    }

    #[test]
    fn a_server_is_asked_over_the_families_that_it_has() {
        let ipv4 = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11));
        let ipv6: IpAddr = "2001:db8::11".parse().unwrap();
        let over_ipv6 = |route: Route| matches!(route.between, Between::Ipv6(_));
        let both = routes(&[ipv6, ipv4], 53).unwrap();
        assert!(!over_ipv6(both.first) && both.second.is_some_and(over_ipv6));
        let only = routes(&[ipv6], 53).unwrap();
        assert!(over_ipv6(only.first) && only.second.is_none());
        assert_eq!(routes(&[], 53), None);
    }
}
