//! Reads the file: its keys and defaults, and the conversion to a [`Config`].
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use dns_xdp_ebpf::cookie::SECRETS_MAX;
use dns_xdp_ebpf::table::EXEMPT_MAX;
use hickory_proto::rr::Name;
use toml::de::DeTable;

use super::diagnostic::{At, ConfigError, Diagnostic, Diagnostics, values};
use super::kind::{Surroundings, kind, target};
use super::table_reader::{IsDefault, TableReader, is_empty_list};
use super::{
    AllDown, Capacity, Config, Control, Events, Failback, Failover, Listen, Mode, NsAddresses, Observers,
    Quorum, Xdp, ZoneConfig, check, field, record, resolve, store, suffix, update,
};
use crate::cluster::{FamilyRule, HealthCheck, Order, Probe, ProbeKind, Require};
use crate::flood_limits::{FloodLimits, RateLimit};

/// `[zone]`
pub(super) const TTL_SECONDS: u32 = 5;
pub(super) const TTL_MIN_SECONDS: u32 = 1;
const NS_TTL_SECONDS: u32 = 60;
const NEGATIVE_TTL_SECONDS: u32 = 30;
const CONTACT: &str = "hostmaster";
/// `[listen]`
const DNS_PORT: u16 = 53;
/// `[xdp]`
const PIN: &str = "/sys/fs/bpf/dns-xdp";
const STALE_AFTER: Duration = Duration::from_secs(30);
const STOP_GRACE: Duration = Duration::from_secs(5);
/// `[rate-limit]`
const SLIP: u32 = 2;
const IPV4_PREFIX: u8 = 24;
const IPV6_PREFIX: u8 = 56;
/// `[fallback]`
const FALLBACK_PER_SECOND: u32 = 20_000;
/// `[zone] answers-max`
pub(super) const ANSWERS_MAX: usize = 8;
/// `[health]`
pub(crate) const PROBE: Probe = Probe {
    kind: ProbeKind::Tcp { port: 6379 },
    target: None,
    interval: Duration::from_secs(1),
    fast_interval: Duration::from_millis(250),
    timeout: Duration::from_millis(500),
    fall: 3,
    rise: 2,
    rise_max: 16,
    flap_decay: Duration::from_secs(60),
};
/// `[failover]`
pub(super) const PROBERS: usize = 5;
/// `[[node]]`
const WEIGHT: u32 = 1;
/// The kind in `[node.health]` for a node that is only answered.
pub(super) const NO_PROBE: &str = "none";
/// `[control] socket`, and where the command line looks for the daemon.
pub const DEFAULT_SOCKET: &str = "/run/dns-xdp/control.sock";
/// A configuration file in the first directory keeps its state in the second.
const CONFIG_DIRECTORY: &str = "/etc/dns-xdp";
const STATE_DIRECTORY: &str = "/var/lib/dns-xdp";
/// `[events]`
const ON_EVENT_TIMEOUT: Duration = Duration::from_secs(10);
/// `[metrics] listen`
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9153);

/// One `[[node]]`, with the places of the values that are checked against the rest of the file.
pub(super) struct NodeSpec {
    pub(super) name: At<String>,
    pub(super) ipv4: Option<At<Ipv4Addr>>,
    pub(super) ipv6: Option<At<Ipv6Addr>>,
    pub(super) ns: Option<At<String>>,
    pub(super) quorum: bool,
    pub(super) apex: At<bool>,
    pub(super) backup: Vec<At<String>>,
    pub(super) weight: u32,
    pub(super) sets: Vec<suffix::SetSpec>,
    pub(super) health: HealthCheck,
}

/// One `[[service]]` of the file.
pub(super) struct ServiceSpec {
    pub(super) name: At<String>,
    pub(super) nodes: Vec<At<String>>,
    pub(super) order: Order,
    pub(super) backup: Vec<At<String>>,
    pub(super) min_healthy: Option<At<u32>>,
    pub(super) all_down: Option<AllDown>,
    pub(super) answers_max: Option<usize>,
    pub(super) health: Option<HealthCheck>,
}

/// The parts of the file that are checked against each other.
pub(super) struct ClusterSpec {
    pub(super) apex: Option<Name>,
    pub(super) ns_addresses: NsAddresses,
    pub(super) nodes: Vec<NodeSpec>,
    pub(super) services: Vec<ServiceSpec>,
    pub(super) suffixes: Vec<suffix::SuffixSpec>,
    pub(super) witness: Vec<At<IpAddr>>,
    pub(super) quorum: Option<At<Quorum>>,
}

/// Reads the text of the file at `path`.
pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    document(text, path, |document, path, problems| {
        read(document, path, problems, false, resolve::LOOKUP_TIMEOUT)
    })
}

/// Returns the unknown keys of a file. Its other problems do not matter, because a different text is in force.
pub(super) fn unknown_keys(text: &str, path: &Path) -> Vec<Diagnostic> {
    let problems = Diagnostics::default();
    if let Ok(document) = DeTable::parse(text) {
        read(document.get_ref(), path, &problems, true, Duration::ZERO);
    }
    problems.into_unknown_keys(text)
}

/// Like [`parse`], for a text with the shared sections of a store.
pub(super) fn parse_shared(text: &str, path: &Path) -> Result<Config, ConfigError> {
    document(text, path, |document, path, problems| {
        read(document, path, problems, true, resolve::LOOKUP_TIMEOUT)
    })
}

/// Reads the text of the file at `path` with `read`, which returns `None` only if it has recorded a problem.
pub(super) fn document<T>(
    text: &str,
    path: &Path,
    read: impl FnOnce(&DeTable<'_>, &Path, &Diagnostics) -> Option<T>,
) -> Result<T, ConfigError> {
    let problems = Diagnostics::default();
    let value = match DeTable::parse(text) {
        Ok(document) => read(document.get_ref(), path, &problems),
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            problems.add(at, error.message().trim().replace('\n', ", "));
            None
        }
    };
    match (problems.into_error(text, path), value) {
        (None, Some(value)) => Ok(value),
        (Some(error), _) => Err(error),
        (None, None) => unreachable!("a part of the file is missing and no problem was recorded"),
    }
}

/// Reads the whole file; returns `None` only if a problem was recorded. `is_shared`: whether another file names the
/// store of these sections. `patience`: the time limit for resolving all names together.
fn read(
    document: &DeTable<'_>,
    path: &Path,
    problems: &Diagnostics,
    is_shared: bool,
    patience: Duration,
) -> Option<Config> {
    let mut file = TableReader::file(document, problems);
    let zone = zone(file.section("zone", "[zone]"));
    let listen = listen(file.section("listen", "[listen]"));
    let xdp = xdp(file.section("xdp", "[xdp]"));
    let flood_limits = flood_limits(&mut file);
    let apex = zone.as_ref().map(|zone| zone.apex.clone());
    let around = Surroundings {
        apex: apex.clone().unwrap_or_default(),
        dns_port: listen.port,
        patience: Instant::now() + patience,
    };
    let usual = health(file.section("health", "[health]"), &Usual::new(around));
    let cluster = document.get("cluster").and_then(|cluster| cluster.get_ref().as_table());
    let has_store = is_shared || cluster.is_some_and(|cluster| cluster.contains_key("store"));
    let (witness, quorum, failover) = failover(file.section("failover", "[failover]"), has_store);
    let nodes = file.sections("node", "[[node]]");
    if nodes.is_empty() {
        file.problem(0, "there is no node; write a [[node]] with `name` and `ipv4` for each");
    }
    let nodes = nodes.into_iter().enumerate().filter_map(|(index, section)| node(section, index + 1, &usual));
    let nodes: Vec<NodeSpec> = nodes.collect();
    let services = file.sections("service", "[[service]]").into_iter();
    let services = services.filter_map(|section| service(section, &usual)).collect();
    let ttl_seconds = zone.as_ref().map_or(TTL_SECONDS, |zone| zone.ttl_seconds);
    let records = file.sections("record", "[[record]]").into_iter();
    let records = records.filter_map(|section| record::record(section, apex.as_ref(), ttl_seconds));
    let records: Vec<record::RecordSpec> = records.collect();
    let suffixes = file.sections("suffix", "[[suffix]]").into_iter();
    let suffixes = suffixes.filter_map(|section| suffix::suffix(section, apex.as_ref())).collect();
    let control = control(file.section("control", "[control]"), path);
    let metrics = metrics(file.section("metrics", "[metrics]"));
    let events = events(file.section("events", "[events]"));
    let store = store::read(file.section("cluster", "[cluster]"), apex.as_ref(), &control.state);
    let updates = update::read(&mut file, apex.as_ref(), store.is_some());
    file.close();

    let ns_addresses = zone.as_ref().map_or(NsAddresses::Live, |zone| zone.ns_addresses);
    let spec = ClusterSpec { apex, ns_addresses, nodes, services, suffixes, witness, quorum };
    check::cluster(&spec, problems);
    suffix::check(&spec, &records, problems);
    record::check(&records, &spec, problems);
    if !is_shared {
        update::check(&updates, &spec, problems);
    }
    check::capacity(&spec, &records, &xdp, problems);
    let failover = Failover {
        quorum: spec.quorum.as_ref().map_or(Quorum::Majority, |quorum| quorum.value),
        witness: values(&spec.witness),
        ..failover
    };
    let suffixes = suffix::names(&spec.suffixes);
    let cluster = check::into_cluster(spec);
    let zone = zone?;
    let records = Arc::new(record::into_records(records));
    let repeated_records = match suffixes.is_empty() {
        true => Arc::clone(&records),
        false => Arc::new(records.repeated(&zone.apex, &suffixes)),
    };
    Some(Config {
        path: path.to_owned(),
        zone,
        listen,
        xdp,
        flood_limits,
        failover,
        cluster,
        records,
        repeated_records,
        updates: updates.into_updates(),
        control,
        metrics,
        events,
        store,
        revision: None,
        overridden: Vec::new(),
    })
}

fn zone(mut section: TableReader<'_>) -> Option<ZoneConfig> {
    let apex = section.required("name", "\"mycluster.example.com\"", field::zone_name);
    let ttl_seconds = section.value("ttl", field::ttl_seconds).unwrap_or(TTL_SECONDS);
    let ttl_min = section.located("ttl-min", field::ttl_seconds);
    if let Some(At { at, value }) = ttl_min
        && value > ttl_seconds
    {
        section.problem(at, format!("`ttl-min` {value}s is longer than `ttl` {ttl_seconds}s; shorten it"));
    }
    let ttl_min_seconds = ttl_min.map_or(TTL_MIN_SECONDS.min(ttl_seconds), |located| located.value);
    let ns_ttl_seconds = section.value("ns-ttl", field::ns_ttl_seconds).unwrap_or(NS_TTL_SECONDS);
    let negative_ttl_seconds =
        section.value("negative-ttl", field::negative_ttl_seconds).unwrap_or(NEGATIVE_TTL_SECONDS);
    let contact = section.value("contact", field::contact);
    let ns_addresses = section.value("ns-addresses", field::ns_addresses).unwrap_or(NsAddresses::Live);
    let answers_max = section.value("answers-max", field::answers_max).unwrap_or(ANSWERS_MAX);
    let contact = apex.as_ref().and_then(|At { at, value: apex }| {
        contact.or_else(|| {
            let default = apex.prepend_label(CONTACT).ok();
            if default.is_none() {
                section.problem(*at, format!("`name` {}", field::too_long(&format!("{CONTACT}.{apex}"))));
            }
            default
        })
    });
    section.close();
    let (apex, contact) = (apex?.value, contact?);
    Some(ZoneConfig {
        apex,
        ttl_seconds,
        ttl_min_seconds,
        ns_ttl_seconds,
        negative_ttl_seconds,
        contact,
        ns_addresses,
        answers_max,
    })
}

fn listen(mut section: TableReader<'_>) -> Listen {
    let interfaces = section.required_list("interfaces", "[\"eth0\"]", field::interface);
    let addresses = section.list("addresses", field::address);
    let port = section.value("port", field::port).unwrap_or(DNS_PORT);
    check::unique("interfaces", &interfaces, &section);
    check::unique("addresses", &addresses, &section);
    section.close();
    Listen { interfaces: values(&interfaces), addresses: values(&addresses), port }
}

pub(super) fn xdp(mut section: TableReader<'_>) -> Xdp {
    let xdp = Xdp {
        mode: section.value("mode", field::mode).unwrap_or(Mode::Auto),
        pin: section.value("pin", field::pin).unwrap_or_else(|| PathBuf::from(PIN)),
        stale_after: section.value("stale-after", field::lease).unwrap_or(Some(STALE_AFTER)),
        stop_grace: section.value("stop-grace", field::duration).unwrap_or(STOP_GRACE),
        capacity: section.value("capacity", field::capacity).unwrap_or(Capacity::Auto),
        log: section.value("log", field::boolean).unwrap_or(false),
    };
    section.close();
    xdp
}

fn flood_limits(file: &mut TableReader<'_>) -> FloodLimits {
    let mut section = file.section("rate-limit", "[rate-limit]");
    section.needs(
        "answers-per-second",
        &[
            ("burst", |value| field::per_second(value) == Ok(0)),
            ("slip", |value| field::slip(value) == Ok(SLIP)),
            ("exempt", is_empty_list),
        ],
    );
    let exempt = section.list("exempt", field::network);
    check::at_most("exempt", &exempt, EXEMPT_MAX, &section);
    let answers_per_second = section.value("answers-per-second", field::per_second).unwrap_or(0);
    let burst = section.located("burst", field::per_second);
    check::burst(burst.as_ref(), answers_per_second, &section);
    let rate_limit = RateLimit {
        answers_per_second,
        burst: burst.map_or(0, |burst| burst.value),
        slip: section.value("slip", field::slip).unwrap_or(SLIP),
        ipv4_prefix: section.value("ipv4-prefix", field::ipv4_prefix).unwrap_or(IPV4_PREFIX),
        ipv6_prefix: section.value("ipv6-prefix", field::ipv6_prefix).unwrap_or(IPV6_PREFIX),
        exempt: values(&exempt),
    };
    section.close();
    let mut section = file.section("cookies", "[cookies]");
    let secrets = section.list("secrets", field::secret);
    check::at_most("secrets", &secrets, SECRETS_MAX, &section);
    section.close();
    let mut section = file.section("fallback", "[fallback]");
    let fallback_per_second =
        section.value("queries-per-second", field::per_second).unwrap_or(FALLBACK_PER_SECOND);
    section.close();
    FloodLimits { rate_limit, fallback_per_second, secrets: values(&secrets) }
}

/// The defaults of a section about health.
struct Usual {
    /// The defaults of a single probe.
    base: Probe,
    check: HealthCheck,
    /// Whether the file lists its probes.
    listed: bool,
    around: Surroundings,
}

impl Usual {
    fn new(around: Surroundings) -> Self {
        let check = HealthCheck { probes: vec![PROBE], require: Require::All, families: FamilyRule::Each };
        Usual { base: PROBE, check, listed: false, around }
    }
}

/// Reads `[health]`, or `[node.health]` and `[service.health]` with its values as defaults. A single probe is written
/// in the section itself. Several are listed in it, with the section's values as defaults.
fn health(mut section: TableReader<'_>, usual: &Usual) -> Usual {
    let (at, title, around) = (section.at(), section.title().to_owned(), usual.around.clone());
    let silent = section.is_empty();
    let kinds = section.place("probe");
    let base = probe(&mut section, &usual.base, &usual.around);
    let listed = section.sections("probes", "[[health.probes]]");
    let require = section.located("require", field::require);
    let families = section.value("families", field::families).unwrap_or(usual.check.families);
    section.close();
    if silent || (usual.listed && listed.is_empty()) {
        if !silent {
            let text = format!("[health] lists its probes; list the probes of {title} too, as `probes`");
            section.problem(at, text);
        }
        return Usual { base, check: usual.check.clone(), listed: usual.listed, around };
    }
    let several = !listed.is_empty();
    if let Some(at) = kinds.filter(|_| several) {
        section.problem(at, "`probe` is beside a list of `probes`; move it into the list".to_owned());
    }
    let on_top = |mut section: TableReader<'_>| {
        let probe = probe(&mut section, &base, &usual.around);
        section.close();
        probe
    };
    let mut probes: Vec<Probe> = listed.into_iter().map(on_top).collect();
    if !several {
        probes.push(base.clone());
    }
    match &require {
        Some(At { at, value: Require::Count(count) }) if *count > probes.len() => {
            let text = format!("`require` is {count} with {} probes; write at most that many", probes.len());
            section.problem(*at, text);
        }
        Some(At { at, value: Require::Any | Require::Count(_) }) if probes.len() == 1 => section.problem(
            *at,
            "`require` has no effect with one probe; list several as [[health.probes]], or remove it",
        ),
        _ => {}
    }
    let require = require.map_or(Require::All, |located| located.value);
    Usual { base, check: HealthCheck { probes, require, families }, listed: several, around }
}

/// Reads one probe and its times.
fn probe(section: &mut TableReader<'_>, usual: &Probe, around: &Surroundings) -> Probe {
    let interval = section.located("interval", field::period);
    let fast_interval = section.located("fast-interval", field::period);
    let rise = section.located("rise", field::results_in_a_row);
    let rise_max = section.located("rise-max", field::results_in_a_row);
    let at = [&fast_interval, &interval].into_iter().flatten().map(|located| located.at).next();
    let rise = rise.map_or(usual.rise, |rise| rise.value);
    let probe = Probe {
        kind: kind(section, &usual.kind, around),
        target: target(section, around).or_else(|| usual.target.clone()),
        interval: interval.map_or(usual.interval, |interval| interval.value),
        fast_interval: fast_interval.map_or(usual.fast_interval, |interval| interval.value),
        timeout: section.value("timeout", field::period).unwrap_or(usual.timeout),
        fall: section.value("fall", field::results_in_a_row).unwrap_or(usual.fall),
        rise,
        rise_max: rise_max.as_ref().map_or(usual.rise_max.max(rise), |rise_max| rise_max.value),
        flap_decay: section.value("flap-decay", field::period).unwrap_or(usual.flap_decay),
    };
    if let Some(at) = at.filter(|_| probe.fast_interval > probe.interval) {
        let fast_interval = humantime::format_duration(probe.fast_interval);
        let interval = humantime::format_duration(probe.interval);
        let text =
            format!("`fast-interval` {fast_interval} is longer than `interval` {interval}; shorten it");
        section.problem(at, text);
    }
    if let Some(At { at, value }) = rise_max
        && value < probe.rise
    {
        section.problem(at, format!("`rise-max` is {value}, less than `rise` {}; raise it", probe.rise));
    }
    probe
}

/// The witnesses and the quorum with their places, and the rest of the section.
type FailoverSpec = (Vec<At<IpAddr>>, Option<At<Quorum>>, Failover);

fn failover(mut section: TableReader<'_>, has_store: bool) -> FailoverSpec {
    if !has_store {
        section.without_effect(
            &[
                ("observers", |value| field::observers(value) == Ok(Observers::Majority)),
                ("probers", |value| field::probers(value) == Ok(PROBERS)),
            ],
            store::WANTED,
        );
    }
    let quorum = section.located("quorum", field::quorum);
    let witness = section.list("witness", field::witness);
    let failover = Failover {
        quorum: Quorum::Majority,
        witness: Vec::new(),
        all_down: section.value("all-down", field::all_down).unwrap_or(AllDown::Configured),
        observers: section.value("observers", field::observers).unwrap_or(Observers::Majority),
        probers: section.value("probers", field::probers).unwrap_or(PROBERS),
        failback: section.value("failback", field::failback).unwrap_or(Failback::Auto),
        hold_down: section.value("hold-down", field::duration).unwrap_or_default(),
    };
    section.close();
    (witness, quorum, failover)
}

fn node(mut section: TableReader<'_>, position: usize, usual: &Usual) -> Option<NodeSpec> {
    let at = section.at();
    let name = section.required("name", "\"node1\"", field::relative_name);
    let ipv4 = section.located("ipv4", field::ipv4);
    let ipv6 = section.located("ipv6", field::ipv6);
    if !section.has("ipv4") && !section.has("ipv6") {
        section.problem(at, "this node has no address; write ipv4 = \"192.0.2.11\", or `ipv6`, or both");
    }
    let ns = match section.located("ns", field::name_server) {
        Some(At { at, value }) => value.map(|value| At { at, value }),
        None => Some(At { at, value: default_ns(position) }),
    };
    let backup = section.list("backup", field::relative_name);
    let weight = section.value("weight", field::weight).unwrap_or(WEIGHT);
    let quorum = section.located("quorum", field::boolean);
    let apex = section.located("apex", field::boolean).unwrap_or(At { at, value: true });
    let sets = suffix::sets(section.section("addresses", "[node.addresses]"));
    let health = section.section("health", "[node.health]");
    let health =
        if health.says("probe", NO_PROBE) { unprobed(health) } else { self::health(health, usual).check };
    let quorum = match quorum {
        Some(At { at, value: true }) if health.probes.is_empty() => {
            let text = "`quorum = true` needs a node that is probed, and this one has probe = \"none\"; remove one of them";
            section.problem(at, text);
            true
        }
        Some(quorum) => quorum.value,
        None => !health.probes.is_empty(),
    };
    section.close();
    Some(NodeSpec { name: name?, ipv4, ipv6, ns, quorum, apex, backup, weight, sets, health })
}

/// Reads the health of a node that is not probed. No other key has an effect.
fn unprobed(mut section: TableReader<'_>) -> HealthCheck {
    section.has("probe");
    section.refuse_others(&format!("has no effect with probe = \"{NO_PROBE}\"; remove it"));
    HealthCheck { probes: Vec::new(), require: Require::All, families: FamilyRule::Each }
}

/// Returns the name-server name of the node at this position, counted from 1.
pub(super) fn default_ns(position: usize) -> String {
    format!("ns{position}")
}

fn service(mut section: TableReader<'_>, usual: &Usual) -> Option<ServiceSpec> {
    let name = section.required("name", "\"db1\"", field::service_name);
    let nodes = section.required_list("nodes", "[\"node1\"]", field::relative_name);
    let order = section.value("order", field::order).unwrap_or_default();
    if order == Order::First {
        let never: IsDefault = |_| false;
        section.without_effect(&[("min-healthy", never), ("answers-max", never)], "`order = \"rotate\"`");
    }
    let backup = section.list("backup", field::relative_name);
    let min_healthy = section.located("min-healthy", field::members);
    let all_down = section.value("all-down", field::all_down);
    let answers_max = section.value("answers-max", field::answers_max);
    let own = section.has("health");
    let health = health(section.section("health", "[service.health]"), usual).check;
    section.close();
    let health = own.then_some(health);
    Some(ServiceSpec { name: name?, nodes, order, backup, min_healthy, all_down, answers_max, health })
}

pub(super) fn control(mut section: TableReader<'_>, path: &Path) -> Control {
    let socket = section.value("socket", field::socket_path).unwrap_or_else(|| DEFAULT_SOCKET.into());
    let state = section.value("state", field::path).unwrap_or_else(|| default_state(path));
    let watch = section.value("watch", field::boolean).unwrap_or(false);
    section.close();
    Control { socket, state, watch }
}

fn default_state(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let file = format!("{stem}.state.json");
    if path.parent().is_some_and(|directory| directory.starts_with(CONFIG_DIRECTORY)) {
        return Path::new(STATE_DIRECTORY).join(file);
    }
    path.with_file_name(file)
}

fn metrics(mut section: TableReader<'_>) -> Option<SocketAddr> {
    let listen = section.value("listen", field::listener).unwrap_or(Some(METRICS));
    section.close();
    listen
}

fn events(mut section: TableReader<'_>) -> Events {
    section.needs("on-event", &[("on-event-timeout", |value| field::period(value) == Ok(ON_EVENT_TIMEOUT))]);
    let on_event = section.list("on-event", field::word);
    check::program("on-event", &on_event, &section);
    let events = Events {
        on_event: values(&on_event),
        on_event_timeout: section.value("on-event-timeout", field::period).unwrap_or(ON_EVENT_TIMEOUT),
    };
    section.close();
    events
}
