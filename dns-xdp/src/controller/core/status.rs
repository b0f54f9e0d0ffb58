//! The answers to `status`, `node list` and `service list`: the state for an operator.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::rr::Name;
use jiff::{SignedDuration, Timestamp};

use super::input::Now;
use super::publication::Answering;
use super::services_down::ServicesDown;
use super::source::Source;
use super::state::{Counted, State};
use crate::cluster::{APEX, Admin, Family, Node, Parts, Service, Suffix};
use crate::config::Mode;
use crate::control::api::{
    AddressStatus, FamilyStatus, GuardStatus, HeldStatus, InterfaceStatus, Lease, NodeEntry, NodeStatus,
    QuorumStatus, Rate, ServiceEntry, ServiceStatus, SetStatus, Status, StoreStatus, SuffixEntry,
    SuffixStatus, UNPROBED,
};
use crate::datapath::{Attached, InterfaceState};
use crate::failover::{Decision, Effective, LastResort, SetAnswers};
use crate::flood_limits::FloodLimits;
use crate::intent::Local;
use crate::network::AddressState;
use crate::repair_bound::repair_bound;
use crate::zone::Zone;

/// The most services in one status.
const SERVICES: usize = 1_000;

/// The parts of a [`Status`] that the state does not know.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    /// The published answers and their zone.
    pub(super) answering: (&'a Answering, &'a Zone),
    pub(super) now: Timestamp,
    /// The time since the origin of the verdicts' times. The wall clock may have been set meanwhile.
    pub(super) uptime: Duration,
    pub(super) interfaces: &'a [InterfaceState],
    pub(super) addresses: &'a [AddressState],
    /// The rest of the program lease; `None`: it does not end.
    pub(super) lease_left: Option<Duration>,
    pub(super) rate: Option<Rate>,
    /// [`GuardStatus::rate_limited`], [`GuardStatus::slipped`] and [`GuardStatus::fallback_limited`]
    pub(super) held_back: [u64; 3],
    /// [`Status::store`]
    pub(super) store: StoreStatus,
    /// The decisions that count on this server alone.
    pub(super) local: &'a Local,
    /// Alarms from the shell, the program and the responder.
    pub(super) alarms: Vec<String>,
}

/// Returns the answer to `status`. There must be a decision.
pub(super) fn status(state: &State, decision: &Decision, around: Surroundings<'_>) -> Status {
    let config = state.config();
    let interfaces: Vec<InterfaceStatus> =
        around.interfaces.iter().map(|state| interface(state, config.xdp.mode)).collect();
    let mut alarms = around.alarms;
    let impaired: Vec<String> = interfaces
        .iter()
        .filter_map(|interface| {
            let reason = interface.reason.as_ref().filter(|_| config.xdp.mode != Mode::Off)?;
            let is_told = alarms.contains(reason);
            (!is_told).then(|| format!("{} is {}: {reason}", interface.name, interface.mode))
        })
        .collect();
    alarms.extend(impaired);
    alarms.extend(cannot_probe(state));
    let services_down = ServicesDown::new(state, decision);
    alarms.extend(services_down.alarm());
    let drained = "every probed node that is up is drained: drained nodes are answered; bring one back with `dns-xdp node auto`";
    alarms.extend(decision.drained.then(|| drained.to_owned()));
    let all_held = "every probed node that is up is held: held nodes are answered; let one come back with `dns-xdp node failback`";
    alarms.extend(decision.held.then(|| all_held.to_owned()));
    alarms.extend(Family::ALL.into_iter().filter_map(|family| none_is_up(decision, family)));
    alarms.extend(
        decision.answers.sets.iter().filter_map(|(set, answers)| none_in_set(decision, set, answers)),
    );
    alarms.extend(state.blind().map(|reason| format!("blind, no node is judged: {reason}")));
    let attached = around.interfaces.iter().any(|interface| interface.mode != Attached::Off);
    let uptime = SignedDuration::try_from(around.uptime).unwrap_or_default();
    let started = around.now.checked_sub(uptime).unwrap_or(around.now);
    let nodes = config.cluster.nodes.iter().zip(&decision.effective);
    let moment = Now { elapsed: around.uptime, wall: around.now };
    let (answering, zone) = around.answering;
    let cached = |node: &Node| {
        let out = !node.all_addresses().any(|address| answering.answered.contains(&address));
        out.then(|| milliseconds(answering.caches.left(node.all_addresses(), around.uptime)))
    };
    Status {
        zone: config.zone.apex.to_string(),
        ttl_seconds: Some(config.zone.ttl_seconds),
        epoch: config.epoch(),
        interfaces,
        addresses: around.addresses.iter().map(address).collect(),
        quorum: QuorumStatus {
            visible: decision.quorum.visible,
            needed: decision.quorum.needed,
            ok: decision.quorum.ok,
        },
        fail_open: decision.fail_open,
        frozen: decision.frozen.clone(),
        blind: state.blind().map(str::to_owned),
        nodes: nodes
            .map(|(node, effective)| {
                let answers = answers(zone, &node.name, &config.zone.apex);
                let since = since(state, node, started);
                let (effective, cached_ms) = (shown(state, node, *effective).to_string(), cached(node));
                let families = family_status(state, node, (zone, started));
                let held = held(state, node, moment);
                let sets = set_status(state, node, zone);
                let local = around.local.intents.contains_key(&node.name);
                NodeStatus {
                    effective,
                    answers,
                    cached_ms,
                    since,
                    families,
                    sets,
                    held,
                    local,
                    ..node_status(state, node)
                }
            })
            .collect(),
        services: services(state, decision, &services_down),
        suffixes: suffix_status(state),
        promise: repair_bound(config, zone.names().len(), Some(answering.took)),
        lease: Lease {
            stale_after_ms: config.xdp.stale_after.map(milliseconds),
            left_ms: around.lease_left.filter(|_| attached).map(milliseconds),
        },
        alarms,
        config: config.path.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        uptime_seconds: around.uptime.as_secs(),
        published: Some(answering.at),
        up_to_date: !answering.is_pending(),
        rate: around.rate,
        guard: guard_status(&config.flood_limits, around.held_back),
        store: around.store,
    }
}

fn guard_status(
    flood_limits: &FloodLimits,
    [rate_limited, slipped, fallback_limited]: [u64; 3],
) -> GuardStatus {
    GuardStatus {
        cookies: !flood_limits.secrets.is_empty(),
        answers_per_second: flood_limits.rate_limit.answers_per_second,
        fallback_per_second: flood_limits.fallback_per_second,
        rate_limited,
        slipped,
        fallback_limited,
    }
}

/// Returns the answer to `node list`.
pub(super) fn node_entries(state: &State, source: &Source, local: &Local) -> Vec<NodeEntry> {
    let entry = |node: &Node| {
        let intent = state.intent(node);
        NodeEntry {
            name: node.name.clone(),
            ipv4: node.ipv4,
            ipv6: node.ipv6,
            ns: node.ns.clone(),
            quorum: node.is_voter,
            apex: node.is_in_apex,
            health: health_text(state, node),
            backup: node.backup.clone(),
            admin: intent.map_or(Admin::Auto, |intent| intent.admin),
            reason: intent.and_then(|intent| intent.reason.clone()),
            by: intent.and_then(|intent| intent.by.clone()),
            until: intent.and_then(|intent| intent.until),
            ephemeral: source.ephemeral(node),
            shared: source.documents().is_some(),
            local: local.intents.contains_key(&node.name),
        }
    };
    state.config().cluster.nodes.iter().map(entry).collect()
}

/// Returns the status of a node, without the parts that come from the decision and the zone.
fn node_status(state: &State, node: &Node) -> NodeStatus {
    let (Counted { reason: found, .. }, intent) = (state.health_that_counts(node), state.intent(node));
    let wanted = intent.and_then(|intent| intent.reason.clone());
    NodeStatus {
        name: node.name.clone(),
        ipv4: node.ipv4,
        ipv6: node.ipv6,
        admin: intent.map_or(Admin::Auto, |intent| intent.admin),
        health: health_text(state, node),
        effective: String::new(),
        answers: Vec::new(),
        since: Timestamp::UNIX_EPOCH,
        reason: wanted.or(found),
        by: intent.and_then(|intent| intent.by.clone()),
        until: intent.and_then(|intent| intent.until),
        cached_ms: None,
        families: BTreeMap::new(),
        sets: BTreeMap::new(),
        local: false,
        held: None,
    }
}

fn health_text(state: &State, node: &Node) -> String {
    if node.is_probed() { state.health_that_counts(node).health.to_string() } else { UNPROBED.to_owned() }
}

fn held(state: &State, node: &Node, now: Now) -> Option<HeldStatus> {
    let hold = state.held().holds().get(&node.name)?;
    let left = state.held().left(&node.name, &state.config().failover, now.elapsed);
    let until = left.and_then(|left| now.wall.checked_add(SignedDuration::try_from(left).ok()?).ok());
    Some(HeldStatus { since: hold.since, until })
}

/// How a node is treated. A node is shown as down if one RRset of its name lacks the node's address while the other
/// RRset has it.
fn shown(state: &State, node: &Node, effective: Effective) -> Effective {
    let is_auto = state.intent(node).is_none_or(|intent| intent.admin == Admin::Auto);
    let is_down = || state.health_that_counts(node).health.serving() == Some(false);
    if effective == Effective::Up && is_auto && is_down() { Effective::Down } else { effective }
}

/// The status of each family, for a node that is probed at addresses of both; otherwise nothing.
fn family_status(
    state: &State,
    node: &Node,
    (zone, started): (&Zone, Timestamp),
) -> BTreeMap<Family, FamilyStatus> {
    let answers = answers_of(zone, &node.name, &state.config().zone.apex);
    let of = |family: Family| {
        let Counted { health, reason, since } = state.family_that_counts(node, family)?;
        let answers = answers.iter().filter(|address| Family::of(**address) == family);
        let answers = answers.map(ToString::to_string).collect();
        Some((
            family,
            FamilyStatus { health: health.to_string(), since: after(started, since), reason, answers },
        ))
    };
    Family::ALL.into_iter().filter_map(of).collect()
}

/// The addresses of a node in each set, and what its name answers under a suffix of the set.
fn set_status(state: &State, node: &Node, zone: &Zone) -> BTreeMap<String, SetStatus> {
    let suffixes = state.config().cluster.suffixes.iter();
    let of_set = suffixes.filter_map(|Suffix { name, set }| {
        let set = set.as_ref()?;
        let own = node.sets.get(set);
        let (ipv4, ipv6) = (own.and_then(|own| own.ipv4), own.and_then(|own| own.ipv6));
        Some((set.clone(), SetStatus { ipv4, ipv6, answers: answers(zone, &node.name, name) }))
    });
    of_set.collect()
}

/// Returns the answer to `suffix list`.
pub(super) fn suffix_entries(state: &State, source: &Source) -> Vec<SuffixEntry> {
    let apex = &state.config().zone.apex;
    let entry = |suffix: &Suffix| SuffixEntry {
        name: suffix.name.to_string(),
        addresses: suffix.set.clone(),
        is_zone: !apex.zone_of(&suffix.name),
        ephemeral: source.ephemeral_suffix(suffix),
        shared: source.documents().is_some(),
    };
    state.config().cluster.suffixes.iter().map(entry).collect()
}

fn suffix_status(state: &State) -> Vec<SuffixStatus> {
    let status =
        |Suffix { name, set }: &Suffix| SuffixStatus { name: name.to_string(), addresses: set.clone() };
    state.config().cluster.suffixes.iter().map(status).collect()
}

fn after(started: Timestamp, since: Duration) -> Timestamp {
    started.checked_add(SignedDuration::try_from(since).unwrap_or_default()).unwrap_or(started)
}

fn since(state: &State, node: &Node, started: Timestamp) -> Timestamp {
    let health = after(started, state.health_that_counts(node).since);
    state.intent(node).map_or(health, |intent| intent.since.max(health))
}

/// The services to list. If there are more than [`SERVICES`], only services that are down are listed, at most that
/// many.
fn services(state: &State, decision: &Decision, down: &ServicesDown) -> Vec<ServiceStatus> {
    let Parts { nodes, services, .. } = &*state.config().cluster;
    let shown = |service: &Service| {
        let (place, _) = state.config().cluster.members().service(&service.name)?;
        let is_down = down.has(place);
        let answering = decision.answers.service(&service.name).unwrap_or_default();
        (services.len() <= SERVICES || is_down).then(|| ServiceStatus {
            name: service.name.clone(),
            order: service.order,
            backup: service.backup.clone(),
            down: is_down,
            answers: answering.iter().map(|&node| nodes[node].name.clone()).collect(),
        })
    };
    services.iter().filter_map(shown).take(SERVICES).collect()
}

/// Returns the answer to `service list`.
pub(super) fn service_entries(state: &State, source: &Source, zone: &Zone) -> Vec<ServiceEntry> {
    let down = state.decision().map(|decision| ServicesDown::new(state, decision));
    let members = state.config().cluster.members();
    let is_down = |name: &str| {
        members.service(name).zip(down.as_ref()).is_some_and(|((place, _), down)| down.has(place))
    };
    let entry = |service: &Service| ServiceEntry {
        name: service.name.clone(),
        nodes: service.nodes.clone(),
        min_healthy: service.min_healthy,
        order: service.order,
        backup: service.backup.clone(),
        all_down: service.all_down,
        down: is_down(&service.name),
        answers: answers(zone, &service.name, &state.config().zone.apex),
        ephemeral: source.ephemeral_service(service),
        shared: source.documents().is_some(),
    };
    state.config().cluster.services.iter().map(entry).collect()
}

/// What the zone answers for a name that is relative to `origin`: the apex or a suffix.
fn answers(zone: &Zone, name: &str, origin: &Name) -> Vec<String> {
    answers_of(zone, name, origin).iter().map(ToString::to_string).collect()
}

fn answers_of(zone: &Zone, name: &str, apex: &Name) -> Vec<IpAddr> {
    let name = if name == APEX { Ok(Name::root()) } else { Name::from_ascii(name) };
    let name = name.and_then(|name| name.append_domain(apex)).ok();
    let addresses = name.and_then(|name| zone.addresses(&name));
    addresses.into_iter().flat_map(|addresses| addresses.iter()).collect()
}

fn interface(state: &InterfaceState, wanted: Mode) -> InterfaceStatus {
    let InterfaceState { name, mode, reason } = state.clone();
    let as_wanted = match wanted {
        Mode::Off => true,
        Mode::Generic => mode == Attached::Generic,
        Mode::Auto | Mode::Native => mode == Attached::Native,
    };
    let degraded = !as_wanted && reason.is_some();
    let switched_off = || "switched off by [xdp] mode".to_owned();
    let reason = if wanted == Mode::Off { Some(switched_off()) } else { reason };
    InterfaceStatus { name, mode: mode.to_string(), reason, degraded }
}

fn address(state: &AddressState) -> AddressStatus {
    AddressStatus {
        address: state.address,
        interface: state.interface.clone(),
        state: state.state.to_string(),
        reason: state.reason.clone(),
    }
}

/// The alarm that no node is up in this family while a node is up in the other family.
fn none_is_up(decision: &Decision, family: Family) -> Option<String> {
    let instead = match decision.answers.families.of(family).last_resort? {
        LastResort::Held if decision.held => return None,
        LastResort::Held => "held nodes are answered; let one come back with `dns-xdp node failback`",
        LastResort::Drained if decision.drained => return None,
        LastResort::Drained => "drained nodes are answered; bring one back with `dns-xdp node auto`",
        LastResort::AllDown => "its addresses are answered as [failover] all-down says",
    };
    Some(format!("no node is up over {family}: {instead}"))
}

/// The alarm that no node with an address set is up while another node is.
fn none_in_set(decision: &Decision, set: &str, answers: &SetAnswers) -> Option<String> {
    let instead = match answers.last_resort? {
        _ if decision.fail_open || decision.drained || decision.held => return None,
        LastResort::Held => "held nodes are answered; let one come back with `dns-xdp node failback`",
        LastResort::Drained => "drained nodes are answered; bring one back with `dns-xdp node auto`",
        LastResort::AllDown => "its names answer as [failover] all-down says",
    };
    Some(format!("no node with the addresses `{set}` is up: {instead}"))
}

/// The alarms for nodes that this server cannot probe for its own reasons, one for each reason.
fn cannot_probe(state: &State) -> Vec<String> {
    let mut blind: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (subject, subject_health) in
        state.health_by_subject().iter().filter(|(_, subject_health)| subject_health.inconclusive)
    {
        let reason = subject_health.reason.as_deref().unwrap_or("cannot probe");
        blind.entry(reason).or_default().push(subject.to_string());
    }
    blind.into_iter().map(|(reason, subjects)| format!("{}: {reason}", subjects.join(", "))).collect()
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{TEXT, dual, healthy, heard, kill, probe, set_intent, well};
    use super::*;
    use crate::health::Observation;
    use crate::intent::{Hold, Intent, Intents};

    fn eth0(mode: Attached, reason: Option<&str>) -> Vec<InterfaceState> {
        vec![InterfaceState { name: "eth0".to_owned(), mode, reason: reason.map(str::to_owned) }]
    }

    fn shown(state: &State, interfaces: &[InterfaceState]) -> Status {
        let started = Timestamp::UNIX_EPOCH;
        let now = started + SignedDuration::from_secs(61);
        let zone = state.zone().unwrap();
        let around = Surroundings {
            store: StoreStatus::default(),
            local: &Local::default(),
            answering: (&Answering::new(started), &zone),
            now,
            uptime: Duration::from_secs(61),
            interfaces,
            addresses: &[],
            lease_left: Some(Duration::from_secs(29)),
            rate: None,
            held_back: [0; 3],
            alarms: Vec::new(),
        };
        status(state, state.decision().unwrap(), around)
    }

    #[test]
    fn a_dead_node_is_shown_with_its_substitute_since_and_reason() {
        let mut state = healthy(TEXT);
        kill(&mut state, "node2");
        let status = shown(&state, &eth0(Attached::Native, None));
        let node = &status.nodes[1];
        assert_eq!(
            (&*node.health, &*node.effective, &*node.answers),
            ("down", "down", &["192.0.2.13".to_owned()][..])
        );
        assert_eq!(node.since.as_second(), 7);
        assert_eq!(node.reason.as_deref(), Some("refused"));
        assert_eq!(
            (status.quorum.visible, status.uptime_seconds, status.lease.left_ms),
            (3, 61, Some(29_000))
        );
        assert!(status.alarms.is_empty());
    }

    #[test]
    fn a_node_is_shown_with_each_set_and_a_set_without_a_node_that_is_up_is_an_alarm() {
        let mut state = healthy(&super::super::state::tests::with_suffixes());
        kill(&mut state, "node2");
        let status = shown(&state, &[]);
        let set = |node: usize| &status.nodes[node].sets["internal"];
        assert_eq!(
            (set(1).ipv4, &*set(1).answers),
            (Some([10, 0, 0, 12].into()), &["10.0.0.11".to_owned()][..])
        );
        assert_eq!((set(2).ipv4, &*set(2).answers), (None, &["10.0.0.11".to_owned()][..]));
        let names: Vec<&str> = status.suffixes.iter().map(|suffix| &*suffix.name).collect();
        assert_eq!(names, ["internal.demo.example.com.", "demo.corp.test."]);
        assert!(status.alarms.is_empty(), "{:?}", status.alarms);
        kill(&mut state, "node1");
        let alarms = shown(&state, &[]).alarms;
        let alarm =
            "no node with the addresses `internal` is up: its names answer as [failover] all-down says";
        assert!(alarms.iter().any(|told| told == alarm), "{alarms:?}");
    }

    #[test]
    fn what_is_wanted_stands_beside_the_real_state() {
        let mut state = healthy(TEXT);
        let since: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let intent = Intent {
            reason: Some("new disk".to_owned()),
            by: Some("alice".to_owned()),
            until: Some(since),
            ..Intent::new(Admin::Drain, since)
        };
        state.set_intents(Intents::from([("node1".to_owned(), intent)]));
        state.decide();
        let node = &shown(&state, &[]).nodes[0];
        assert_eq!((node.admin, &*node.health, &*node.effective), (Admin::Drain, "up", "drain"));
        assert_eq!((node.since, node.reason.as_deref()), (since, Some("new disk")));
        assert_eq!((node.by.as_deref(), node.until), (Some("alice"), Some(since)));
    }

    #[test]
    fn a_worse_mode_than_hoped_for_is_an_alarm() {
        let state = healthy(TEXT);
        let status =
            shown(&state, &eth0(Attached::Generic, Some("native was refused: MTU 9000 is above 3506")));
        assert_eq!(status.alarms, ["eth0 is generic: native was refused: MTU 9000 is above 3506"]);
        let off = shown(&state, &eth0(Attached::Off, Some("there is no such interface")));
        assert_eq!((off.lease.left_ms, off.alarms.len()), (None, 1));
    }

    /// Returns a state in which these nodes are dead in one family, and healthy in the other.
    fn dead_over(family: Family, nodes: &[&str]) -> State {
        let mut state = well(&dual());
        for node in nodes {
            (0..3).for_each(|_| drop(heard(&mut state, node, family, false)));
        }
        state.decide();
        state
    }

    fn alarms(state: &State) -> Vec<String> {
        shown(state, &eth0(Attached::Native, None)).alarms
    }

    #[test]
    fn a_family_without_a_node_that_is_up_is_an_alarm_that_says_what_is_answered() {
        for (family, name) in Family::ALL.into_iter().zip(["ipv4", "ipv6"]) {
            assert!(alarms(&dead_over(family, &["node1", "node2"])).is_empty(), "node3 is up over {name}");
            let said = |instead: &str| [format!("no node is up over {name}: {instead}")];
            let all = dead_over(family, &["node1", "node2", "node3"]);
            assert_eq!(alarms(&all), said("its addresses are answered as [failover] all-down says"));

            let mut drained = dead_over(family, &["node1", "node2"]);
            set_intent(&mut drained, "node3", Admin::Drain);
            let text = "drained nodes are answered; bring one back with `dns-xdp node auto`";
            assert_eq!(alarms(&drained), said(text));

            let mut held = dead_over(family, &["node1", "node2"]);
            held.held_mut().hold("node3", Hold::new(Timestamp::UNIX_EPOCH));
            held.decide();
            let text = "held nodes are answered; let one come back with `dns-xdp node failback`";
            assert_eq!(alarms(&held), said(text));
        }
    }

    #[test]
    fn what_is_said_of_all_nodes_is_not_said_again_of_a_family() {
        for family in Family::ALL {
            let mut drained = dead_over(family, &["node1"]);
            let mut held = drained.clone();
            for node in ["node1", "node2", "node3"] {
                set_intent(&mut drained, node, Admin::Drain);
                held.held_mut().hold(node, Hold::new(Timestamp::UNIX_EPOCH));
            }
            held.decide();
            let text = "every probed node that is up is drained: drained nodes are answered; bring one back with `dns-xdp node auto`";
            assert_eq!(alarms(&drained), [text], "{family}");
            let text = "every probed node that is up is held: held nodes are answered; let one come back with `dns-xdp node failback`";
            assert_eq!(alarms(&held), [text], "{family}");
        }
    }

    #[test]
    fn a_service_all_of_whose_members_fail_is_an_alarm() {
        let mut state = healthy(TEXT);
        kill(&mut state, "node1");
        assert!(alarms(&state).is_empty(), "node2 answers");
        kill(&mut state, "node2");
        let alarm = "service db is down: none of its members is healthy; it answers node3";
        assert_eq!(alarms(&state), [alarm]);
    }

    #[test]
    fn our_own_blindness_is_an_alarm() {
        let mut state = healthy(TEXT);
        for node in ["node1", "node3"] {
            let sick = Observation::Inconclusive { reason: "cannot probe: too many open files".to_owned() };
            state.observe(&probe(node), Duration::ZERO, &sick);
        }
        assert_eq!(shown(&state, &[]).alarms, ["node1, node3: cannot probe: too many open files"]);
    }
}
