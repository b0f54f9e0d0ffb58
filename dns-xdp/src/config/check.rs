//! Checks the parts of a configuration against each other: unique names and addresses, and valid references.
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::net::IpAddr;

use hickory_proto::rr::Name;

use super::diagnostic::{At, Diagnostics, values};
use super::record::RecordSpec;
use super::spec::{ClusterSpec, NodeSpec};
use super::table_reader::TableReader;
use super::{Capacity, Mode, NsAddresses, Quorum, Xdp, field, suffix};
use crate::cluster::{APEX, Cluster, Node, Parts, Service};
use crate::records::with_names_above;

/// Records every problem of the cluster as a whole.
pub(super) fn cluster(spec: &ClusterSpec, problems: &Diagnostics) {
    names(spec, problems);
    addresses(spec, problems);
    for node in &spec.nodes {
        references("backup", &node.backup, &spec.nodes, problems);
        for backup in node.backup.iter().filter(|backup| backup.value == node.name.value) {
            let text = format!("`backup` of `{}` is the node itself; name another", backup.value);
            problems.add(backup.at, text);
        }
    }
    for service in &spec.services {
        references("nodes", &service.nodes, &spec.nodes, problems);
        references("backup", &service.backup, &spec.nodes, problems);
        let is_member = |backup: &&At<String>| service.nodes.iter().any(|node| node.value == backup.value);
        for backup in service.backup.iter().filter(is_member) {
            let text = format!(
                "`backup` has `{}`, which is one of the service's `nodes`; name another",
                backup.value
            );
            problems.add(backup.at, text);
        }
        if let Some(At { at, value }) = service.min_healthy
            && value as usize > service.nodes.len()
        {
            let members = service.nodes.len();
            problems
                .add(at, format!("`min-healthy` is {value} with {members} members; write at most {members}"));
        }
    }
    quorum(spec, problems);
    roles(spec, problems);
}

/// Records roles that no node has, and roles without effect.
fn roles(spec: &ClusterSpec, problems: &Diagnostics) {
    let Some(first) = spec.nodes.first() else { return };
    if spec.nodes.iter().all(|node| node.ns.is_none()) {
        let text =
            "every node has `ns = false`; a zone needs a name server: remove it from one node at least";
        problems.add(first.name.at, text);
    }
    if spec.nodes.iter().all(|node| node.health.probes.is_empty()) {
        let text = "every node has probe = \"none\"; a node can take over for another only if some node is probed: \
                    remove it from one node at least";
        problems.add(first.name.at, text);
    } else if spec.nodes.iter().all(|node| !node.quorum) && spec.witness.is_empty() {
        let text = "no node counts for the quorum; remove `quorum = false` from one node at least, or add a `witness` to \
                    [failover]";
        problems.add(first.name.at, text);
    }
    if spec.services.iter().any(|service| service.name.value == APEX) {
        for node in spec.nodes.iter().filter(|node| !node.apex.value) {
            let text = "`apex` has no effect beside the [[service]] \"@\", whose `nodes` the apex answers; remove it";
            problems.add(node.apex.at, text);
        }
    }
}

/// Returns a relative name and the names above it. The names above exist even if they hold no records (RFC 8020).
fn and_names_above(name: &str) -> impl Iterator<Item = &str> {
    let above = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
    std::iter::once(name).chain(above)
}

/// Returns the names of the zone, relative to it. Names of the suffixes are not among them.
pub(super) fn names_of_the_zone<'s>(
    spec: &'s ClusterSpec,
    records: &'s [RecordSpec],
) -> impl Iterator<Item = &'s str> {
    let servers = spec.nodes.iter().filter_map(|node| node.ns.as_ref());
    let nodes = spec.nodes.iter().map(|node| &node.name).chain(servers).map(|name| name.value.as_str());
    let services = spec.services.iter().map(|service| service.name.value.as_str());
    let records = records.iter().map(RecordSpec::relative);
    nodes.chain(services).chain(records).chain([APEX])
}

/// Returns how many names exist, with those under the suffixes.
fn count(spec: &ClusterSpec, records: &[RecordSpec]) -> usize {
    let names: BTreeSet<&str> = names_of_the_zone(spec, records).flat_map(and_names_above).collect();
    let Some(apex) = spec.apex.as_ref().filter(|_| !spec.suffixes.is_empty()) else { return names.len() };
    let full = |name: &str| crate::records::full_name(name, apex).ok();
    let names = with_names_above(names.into_iter().filter_map(full), apex);
    let suffixes = suffix::names(&spec.suffixes);
    let copies = suffix::copies(&names, apex, &suffixes);
    let above = with_names_above(suffixes.into_iter().filter(|suffix| apex.zone_of(suffix)), apex);
    names.into_iter().chain(copies).chain(above).collect::<BTreeSet<_>>().len()
}

/// Records a problem if the table has no room for the zone, because a failover could not be published.
pub(super) fn capacity(spec: &ClusterSpec, records: &[RecordSpec], xdp: &Xdp, problems: &Diagnostics) {
    let names = count(spec, records);
    let most = xdp.capacity.most() as usize;
    if xdp.mode == Mode::Off || names <= most {
        return;
    }
    problems.add(0, match xdp.capacity {
        Capacity::Names(_) if names <= Capacity::MAX as usize => format!(
            "the zone has {names} names, more than the {most} of `[xdp] capacity`; write at least {names} or \"auto\" there"
        ),
        _ => format!(
            "the zone has {names} names, more than the {} of the largest table; split it, or write `mode = \"off\"` in [xdp]",
            Capacity::MAX
        ),
    });
}

/// Ticks per second of the slowest kernel clock (HZ). The program reads that clock, so all answers within a tick have
/// the same time.
const TICKS_PER_SECOND: u32 = 100;

/// Returns the smallest burst that lets the whole rate of a limit through. If neither a tick nor the interval between
/// answers divides the other, the time of an answer may be within a tick. The burst then has to cover one more answer.
fn least_burst(per_second: u32) -> u32 {
    let in_one_tick = per_second.div_ceil(TICKS_PER_SECOND);
    let divide = |a: u32, b: u32| b != 0 && a.is_multiple_of(b);
    let is_aligned = divide(per_second, TICKS_PER_SECOND) || divide(TICKS_PER_SECOND, per_second);
    if is_aligned { in_one_tick } else { in_one_tick + 1 }
}

/// Records a burst that is too small for the configured rate.
pub(super) fn burst(burst: Option<&At<u32>>, per_second: u32, section: &TableReader<'_>) {
    let least = least_burst(per_second);
    if let Some(At { at, value: burst @ 1.. }) = burst
        && *burst < least
    {
        let text = format!(
            "`burst` is {burst}, and with a kernel clock of {} ms that lets less than {per_second} \
             `answers-per-second` through; write at least {least}",
            1000 / TICKS_PER_SECOND
        );
        section.problem(*at, text);
    }
}

/// Records a problem if the list is longer than `most`.
pub(super) fn at_most<T>(key: &str, list: &[At<T>], most: usize, section: &TableReader<'_>) {
    if let Some(At { at, .. }) = list.get(most) {
        section.problem(*at, format!("`{key}` has {} entries; write at most {most}", list.len()));
    }
}

/// Returns the checked cluster. Its nodes have addresses, and its references are valid.
pub(super) fn into_cluster(spec: ClusterSpec) -> Cluster {
    let node = |node: NodeSpec| Node {
        name: node.name.value,
        ipv4: node.ipv4.map(|ipv4| ipv4.value),
        ipv6: node.ipv6.map(|ipv6| ipv6.value),
        ns: node.ns.map(|ns| ns.value),
        is_voter: node.quorum,
        is_in_apex: node.apex.value,
        backup: values(&node.backup),
        weight: node.weight,
        sets: suffix::into_sets(node.sets),
        health: node.health,
    };
    let services = spec.services.into_iter();
    let services = services.map(|service| Service {
        name: service.name.value,
        nodes: values(&service.nodes),
        order: service.order,
        backup: values(&service.backup),
        min_healthy: service.min_healthy.map_or(0, |least| least.value as usize),
        all_down: service.all_down,
        answers_max: service.answers_max,
        health: service.health,
    });
    Cluster::of(Parts {
        nodes: spec.nodes.into_iter().map(node).collect(),
        services: services.collect(),
        suffixes: spec.suffixes.into_iter().map(suffix::into_suffix).collect(),
    })
}

/// Records values that are in a list twice.
pub(super) fn unique<T: Ord + Display>(key: &str, list: &[At<T>], section: &TableReader<'_>) {
    for duplicate in duplicates(list) {
        section.problem(duplicate.at, format!("`{key}` has {} twice; remove one", duplicate.value));
    }
}

/// Records a command line that cannot be run.
pub(super) fn program(key: &str, words: &[At<String>], section: &TableReader<'_>) {
    if let Some(At { at, value: program }) = words.first()
        && let Err(problem) = field::program(program)
    {
        section.problem(*at, format!("`{key}` {problem}"));
    }
}

fn duplicates<T: Ord>(list: &[At<T>]) -> impl Iterator<Item = &At<T>> {
    let mut seen = BTreeSet::new();
    list.iter().filter(move |located| !seen.insert(&located.value))
}

/// Nodes, name servers and services share one name space: the zone. A name server may have its own node's name if both
/// would answer the same.
fn names(spec: &ClusterSpec, problems: &Diagnostics) {
    let mut taken: BTreeMap<&str, String> = BTreeMap::new();
    let nodes = spec.nodes.iter().map(|node| (&node.name, "a node".to_owned()));
    let servers = spec.nodes.iter().filter_map(|node| Some((node, node.ns.as_ref()?)));
    let servers = servers
        .filter(|(node, ns)| spec.ns_addresses == NsAddresses::Fixed || ns.value != node.name.value)
        .map(|(node, ns)| (ns, format!("the name server of `{}`", node.name.value)));
    let services = spec.services.iter().map(|service| (&service.name, "a service".to_owned()));
    for (name, holder) in nodes.chain(servers).chain(services) {
        if let Some(apex) = spec.apex.as_ref().filter(|_| name.value != APEX)
            && too_long(&name.value, apex)
        {
            problems.add(name.at, format!("the name {}", field::too_long(&format!("{}.{apex}", name.value))));
        }
        if let Some(first) = taken.get(name.value.as_str()) {
            let text = format!("`{}`, {holder}, is already {first}; rename one", name.value);
            problems.add(name.at, text);
        } else {
            taken.insert(&name.value, holder);
        }
    }
}

/// Whether the full name has more than 255 octets (RFC 1035, section 2.3.4).
fn too_long(name: &str, apex: &Name) -> bool {
    Name::from_ascii(name).and_then(|name| name.append_domain(apex)).is_err()
}

fn addresses(spec: &ClusterSpec, problems: &Diagnostics) {
    let mut taken: BTreeMap<IpAddr, String> = BTreeMap::new();
    let of_node = |node: &NodeSpec| {
        let ipv4 = node.ipv4.iter().map(|ipv4| (ipv4.at, IpAddr::V4(ipv4.value)));
        let ipv6 = node.ipv6.iter().map(|ipv6| (ipv6.at, IpAddr::V6(ipv6.value)));
        let holder = format!("node `{}`", node.name.value);
        ipv4.chain(ipv6).map(move |(at, address)| (at, address, holder.clone())).collect::<Vec<_>>()
    };
    let witnesses = spec.witness.iter().map(|witness| (witness.at, witness.value, "a witness".to_owned()));
    for (at, address, holder) in spec.nodes.iter().flat_map(of_node).chain(witnesses) {
        if let Some(first) = taken.get(&address) {
            problems
                .add(at, format!("{address} is already the address of {first}; each address counts once"));
        } else {
            taken.insert(address, holder);
        }
    }
}

fn references(key: &str, list: &[At<String>], nodes: &[NodeSpec], problems: &Diagnostics) {
    for At { at, value } in duplicates(list) {
        problems.add(*at, format!("`{key}` names `{value}` twice; remove one"));
    }
    let known: BTreeSet<&str> = nodes.iter().map(|node| node.name.value.as_str()).collect();
    for At { at, value } in list.iter().filter(|name| !known.contains(name.value.as_str())) {
        let remedy = match problems.nearest_name(value, known.iter().copied()) {
            Some(known) => format!("did you mean `{known}`?"),
            None => "add a [[node]] of that name, or remove it here".to_owned(),
        };
        problems.add(*at, format!("`{key}` names `{value}`, and there is no such node; {remedy}"));
    }
}

fn quorum(spec: &ClusterSpec, problems: &Diagnostics) {
    let voters = spec.nodes.iter().filter(|node| node.quorum).count() + spec.witness.len();
    if let Some(At { at, value: Quorum::Count(count) }) = spec.quorum
        && count as usize > voters
    {
        let text = format!("`quorum` is {count} with {voters} nodes and witnesses; write at most {voters}");
        problems.add(at, text);
    }
}
