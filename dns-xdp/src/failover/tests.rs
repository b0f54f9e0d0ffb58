//! Tests of decisions, case by case.
use super::*;
use crate::cluster::{FamilyRule, HealthCheck, Node, Order, Require, Service, SetAddresses, Suffix};
use crate::config::{self, Config, NsAddresses};
use hickory_proto::rr::Name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

/// `node<number>` with an address of each wanted family.
pub(super) fn node(number: usize, ipv4: bool, ipv6: bool) -> Node {
    let last = u8::try_from(number).unwrap();
    Node {
        name: format!("node{number}"),
        ipv4: ipv4.then_some(Ipv4Addr::new(192, 0, 2, last)),
        ipv6: ipv6.then_some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into())),
        ns: Some(format!("ns{number}")),
        is_voter: true,
        is_in_apex: true,
        backup: Vec::new(),
        weight: 1,
        sets: BTreeMap::new(),
        health: HealthCheck {
            probes: vec![config::PROBE],
            require: Require::All,
            families: FamilyRule::Each,
        },
    }
}

pub(super) fn service(name: &str, nodes: &[&str]) -> Service {
    let nodes = nodes.iter().map(|&node| node.to_owned()).collect();
    Service {
        name: name.to_owned(),
        nodes,
        order: Order::Rotate,
        backup: Vec::new(),
        min_healthy: 0,
        all_down: None,
        answers_max: None,
        health: None,
    }
}

/// Gives `node<number>` the addresses `10.0.0.<number>` and `2001:db8:1::<number>` in a set, as far as wanted.
pub(super) fn give_set(node: &mut Node, set: &str, (ipv4, ipv6): (bool, bool)) {
    let last: u8 = node.name["node".len()..].parse().unwrap();
    let addresses = SetAddresses {
        ipv4: ipv4.then_some(Ipv4Addr::new(10, 0, 0, last)),
        ipv6: ipv6.then_some(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last.into())),
    };
    if ipv4 || ipv6 {
        node.sets.insert(set.to_owned(), addresses);
    }
}

pub(super) fn suffix(name: &str, set: Option<&str>) -> Suffix {
    let name = Name::from_ascii(format!("{name}.demo.example.com.")).unwrap();
    Suffix { name, set: set.map(str::to_owned) }
}

pub(super) fn rules() -> Failover {
    Failover {
        quorum: config::Quorum::Majority,
        witness: Vec::new(),
        all_down: AllDown::Configured,
        observers: config::Observers::Majority,
        probers: 5,
        failback: config::Failback::Auto,
        hold_down: Duration::ZERO,
    }
}

pub(super) fn config(cluster: Cluster) -> Config {
    Config {
        store: None,
        revision: None,
        overridden: Vec::new(),
        path: "/etc/dns-xdp/dns-xdp.toml".into(),
        zone: config::ZoneConfig {
            apex: Name::from_ascii("demo.example.com.").unwrap(),
            ttl_seconds: 5,
            ttl_min_seconds: 1,
            ns_ttl_seconds: 60,
            negative_ttl_seconds: 300,
            contact: Name::from_ascii("hostmaster.example.com.").unwrap(),
            ns_addresses: NsAddresses::Live,
            answers_max: 8,
        },
        listen: config::Listen { interfaces: vec!["eth0".to_owned()], addresses: Vec::new(), port: 53 },
        xdp: config::Xdp {
            mode: config::Mode::Auto,
            pin: "/sys/fs/bpf/dns-xdp".into(),
            stale_after: None,
            stop_grace: Duration::from_secs(5),
            capacity: config::Capacity::Auto,
            log: false,
        },
        flood_limits: crate::flood_limits::FloodLimits::default(),
        failover: rules(),
        cluster,
        records: Arc::default(),
        repeated_records: Arc::default(),
        updates: config::Updates::default(),
        control: config::Control { socket: "control.sock".into(), state: "state.json".into(), watch: false },
        metrics: None,
        events: config::Events { on_event: Vec::new(), on_event_timeout: Duration::from_secs(10) },
    }
}

fn three_nodes() -> Config {
    let nodes: Vec<Node> = (1..=3).map(|number| node(number, true, false)).collect();
    let db = service("db", &["node1", "node2"]);
    let mut config = config(Cluster::new(nodes, vec![db]));
    config.cluster.nodes[1].backup = vec!["node3".to_owned()];
    config
}

pub(super) const UP: NodeState =
    NodeState { serving: Some(true), visible: true, admin: Admin::Auto, seconds_left: None, held: false };
pub(super) const REFUSES: NodeState = NodeState { serving: Some(false), ..UP };
pub(super) const SILENT: NodeState = NodeState { visible: false, ..REFUSES };
const UNKNOWN: NodeState = NodeState { serving: None, ..UP };
pub(super) const DRAINED: NodeState = NodeState { admin: Admin::Drain, ..UP };

pub(super) fn decided(config: &Config, states: &[NodeState], previous: Option<&Decision>) -> Decision {
    decide(&config.cluster, &config.failover, &view(states), previous)
}

pub(super) fn view(states: &[NodeState]) -> View {
    View { nodes: states.to_vec(), ..View::default() }
}

/// The last numbers of the addresses under a name.
pub(super) fn answers(config: &Config, decision: &Decision, name: &str) -> Vec<u8> {
    let name = Name::from_ascii(name).unwrap().append_domain(&config.zone.apex).unwrap();
    let zone = zone(config, decision);
    let last = |address| match address {
        IpAddr::V4(ipv4) => ipv4.octets()[3],
        IpAddr::V6(ipv6) => ipv6.octets()[15],
    };
    zone.addresses(&name).unwrap().iter().map(last).collect()
}

#[test]
fn a_dead_node_is_replaced_under_every_name() {
    let config = three_nodes();
    for dead in [SILENT, REFUSES, DRAINED] {
        let decision = decided(&config, &[UP, dead, UP], None);
        let all = ["node1", "node2", "node3", "ns1", "ns2", "ns3", "", "db"];
        let expected: [&[u8]; 8] = [&[1], &[3], &[3], &[1], &[3], &[3], &[1, 3], &[1]];
        assert_eq!(all.map(|name| answers(&config, &decision, name)), expected);
    }
}

#[test]
fn a_service_without_a_healthy_member_answers_its_members_substitutes() {
    let config = three_nodes();
    let decision = decided(&config, &[REFUSES, REFUSES, UP], None);
    assert_eq!(answers(&config, &decision, "db"), [3]);
}

#[test]
fn name_servers_can_keep_the_addresses_of_the_glue() {
    let mut config = three_nodes();
    config.zone.ns_addresses = NsAddresses::Fixed;
    let decision = decided(&config, &[UP, SILENT, UP], None);
    assert_eq!(answers(&config, &decision, "ns2"), [2]);
    assert_eq!(answers(&config, &decision, "node2"), [3]);
}

#[test]
fn an_isolated_server_keeps_what_it_answered() {
    let config = three_nodes();
    let before = decided(&config, &[UP, REFUSES, UP], None);
    let isolated = decided(&config, &[UP, SILENT, SILENT], Some(&before));
    assert_eq!(isolated.answers, before.answers);
    assert_eq!(isolated.frozen.as_deref(), Some("1 of 3 nodes and witnesses visible, 2 needed"));
    assert_eq!(isolated.quorum, Quorum { visible: 1, needed: 2, ok: false });
    let from_the_start = decided(&config, &[UP, SILENT, SILENT], None);
    assert_eq!(answers(&config, &from_the_start, "node2"), [2]);
}

#[test]
fn frozen_answers_follow_a_node_that_is_added_or_removed() {
    let mut config = three_nodes();
    let before = decided(&config, &[REFUSES, REFUSES, UP], None);
    config.cluster.nodes.insert(0, node(4, true, false));
    let isolated = decided(&config, &[SILENT; 4], Some(&before));
    assert_eq!(["node4", "node1", "node2"].map(|name| answers(&config, &isolated, name)), [[4], [3], [3]]);
    config.cluster.nodes.retain(|node| node.name != "node3");
    let isolated = decided(&config, &[SILENT; 3], Some(&isolated));
    assert_eq!(["node4", "node1", "node2"].map(|name| answers(&config, &isolated, name)), [[4], [1], [2]]);
    assert_eq!(answers(&config, &isolated, "db"), [1, 2]);
}

#[test]
fn a_witness_that_is_visible_counts_for_the_quorum() {
    let mut config = three_nodes();
    config.failover.witness = vec![Ipv4Addr::new(192, 0, 2, 254).into()];
    let states = [UP, UP, SILENT];
    let quorum = |visible_witnesses| {
        let view = View { visible_witnesses, ..view(&states) };
        decide(&config.cluster, &config.failover, &view, None).quorum
    };
    assert_eq!(quorum(0), Quorum { visible: 2, needed: 3, ok: false });
    assert_eq!(quorum(1), Quorum { visible: 3, needed: 3, ok: true });
}

#[test]
fn nodes_whose_silence_several_servers_attest_are_not_needed_for_the_quorum_unless_all_are_silent() {
    let mut config = three_nodes();
    let quorum = |config: &Config, states: &[NodeState], confirmed_unreachable| {
        let view = View { confirmed_unreachable, ..view(states) };
        decide(&config.cluster, &config.failover, &view, None).quorum
    };
    let states = [UP, SILENT, SILENT];
    assert_eq!(quorum(&config, &states, 0), Quorum { visible: 1, needed: 2, ok: false });
    assert_eq!(quorum(&config, &states, 1), Quorum { visible: 1, needed: 1, ok: true });
    assert_eq!(quorum(&config, &states, 2), Quorum { visible: 1, needed: 1, ok: true });
    assert_eq!(quorum(&config, &[SILENT; 3], 3), Quorum { visible: 0, needed: 2, ok: false });
    config.failover.witness = vec![Ipv4Addr::new(192, 0, 2, 254).into()];
    let view = View { confirmed_unreachable: 3, visible_witnesses: 1, ..view(&[SILENT; 3]) };
    let quorum = decide(&config.cluster, &config.failover, &view, None).quorum;
    assert_eq!(quorum, Quorum { visible: 1, needed: 3, ok: false }, "a witness is no node to answer");
}

#[test]
fn with_every_node_down_the_rule_decides() {
    let mut config = three_nodes();
    let good = decided(&config, &[UP, REFUSES, UP], None);
    let mut answer = |rule, previous| {
        config.failover.all_down = rule;
        let decision = decided(&config, &[REFUSES; 3], previous);
        (decision.fail_open, answers(&config, &decision, "node2"), answers(&config, &decision, "").len())
    };
    assert_eq!(answer(AllDown::Configured, Some(&good)), (true, vec![2], 3));
    assert_eq!(answer(AllDown::LastGood, Some(&good)), (true, vec![3], 2));
    assert_eq!(answer(AllDown::LastGood, None), (true, vec![2], 3));
    config.failover.all_down = AllDown::LastGood;
    let taken_down = [NodeState { admin: Admin::Down, ..REFUSES }, REFUSES, REFUSES];
    let decision = decided(&config, &taken_down, Some(&good));
    assert_eq!(answers(&config, &decision, ""), [3], "node1 is taken down, and there is another");
    let mut answer = |rule, previous| {
        config.failover.all_down = rule;
        let decision = decided(&config, &[REFUSES; 3], previous);
        (decision.fail_open, answers(&config, &decision, "node2"), answers(&config, &decision, "").len())
    };
    assert_eq!(answer(AllDown::Refused, Some(&good)), (false, vec![], 0));
}

#[test]
fn healthy_drained_nodes_are_answered_before_failing_ones_and_those_taken_down_last() {
    let config = three_nodes();
    let down = NodeState { admin: Admin::Down, ..UP };
    let all = |states: [NodeState; 3]| {
        let decision = decided(&config, &states, None);
        let answers = ["node1", "node2", "node3", "", "db"].map(|name| answers(&config, &decision, name));
        (answers, decision.drained, decision.fail_open)
    };
    let expected: [&[u8]; 5] = [&[2], &[2], &[2], &[2], &[2]];
    assert_eq!(all([REFUSES, DRAINED, down]), (expected.map(<[u8]>::to_vec), true, false));
    let expected: [&[u8]; 5] = [&[1], &[2], &[1], &[1, 2], &[1, 2]];
    assert_eq!(all([DRAINED, DRAINED, REFUSES]), (expected.map(<[u8]>::to_vec), true, false));
    let (answers, drained, fail_open) = all([REFUSES, down, REFUSES]);
    assert_eq!((&answers[1], &answers[3], drained, fail_open), (&vec![3], &vec![1, 3], false, true));
    let (answers, ..) = all([down; 3]);
    assert_eq!(answers[3], [1, 2, 3], "there is no other");
}

#[test]
fn an_operator_overrules_frozen_answers_and_takes_the_intent_back() {
    let config = three_nodes();
    let before = decided(&config, &[UP, REFUSES, UP], None);
    let frozen = |admin: [Admin; 3], previous: &Decision| {
        let states = admin.map(|admin| NodeState { admin, ..SILENT });
        decided(&config, &states, Some(previous))
    };
    let (auto, down, up) = (Admin::Auto, Admin::Down, Admin::Up);
    let lost = frozen([down, auto, auto], &before);
    assert!(lost.frozen.is_some());
    assert_eq!(["node1", "node2", "", "db"].map(|name| answers(&config, &lost, name)), [[3], [3], [3], [3]]);
    let found = frozen([auto, up, auto], &lost);
    assert_eq!(answers(&config, &found, "node2"), [2]);
    assert_eq!(answers(&config, &found, "node1"), [1], "earlier intents are forgotten");
    let again = frozen([auto; 3], &found);
    assert_eq!(again.answers, before.answers);
}

#[test]
fn what_was_answered_before_a_restart_is_answered_until_there_is_a_quorum() {
    let mut config = three_nodes();
    let before = decided(&config, &[UP, REFUSES, UP], None);
    let last = LastAnswers::new(&before.answers, jiff::Timestamp::UNIX_EPOCH);
    let restarted = Decision::remembered(last.answers(&config.cluster));
    assert_eq!(restarted.answers, before.answers);
    assert!(restarted.is_out(1, "node2"));
    config.cluster.nodes.push(node(4, true, false));
    let frozen = decided(&config, &[SILENT; 4], Some(&Decision::remembered(last.answers(&config.cluster))));
    assert_eq!(["node2", "node4"].map(|name| answers(&config, &frozen, name)), [[3], [4]]);
}

#[test]
fn a_node_that_is_unknown_answers_its_own_name_and_no_other() {
    let config = three_nodes();
    let decision = decided(&config, &[UP, REFUSES, UNKNOWN], None);
    assert_eq!(["node2", "node3", ""].map(|name| answers(&config, &decision, name)), [[1], [3], [1]]);
}

#[test]
fn the_operator_overrules_the_probes() {
    let config = three_nodes();
    let forced_up = NodeState { admin: Admin::Up, ..REFUSES };
    let forced_down = NodeState { admin: Admin::Down, ..UP };
    let decision = decided(&config, &[forced_down, forced_up, UP], None);
    assert_eq!(decision.effective, [Effective::Down, Effective::Up, Effective::Up]);
    assert_eq!(answers(&config, &decision, ""), [2, 3]);
}

#[test]
fn the_healthy_zone_answers_what_is_configured() {
    let config = three_nodes();
    assert_eq!(healthy_zone(&config), zone(&config, &decided(&config, &[UP; 3], None)));
    assert!(healthy_zone(&config).addresses(&config.zone.apex).unwrap().rotate);
}

#[test]
fn a_service_with_probes_of_its_own_answers_the_members_that_pass_them() {
    let mut config = three_nodes();
    config.cluster.services[0].health = Some(node(1, true, false).health);
    let answer = |first: Option<bool>, second: Option<bool>, states: [NodeState; 3]| {
        let members = [first, second].map(|serving| MemberState { serving, seconds_left: None });
        let members = BTreeMap::from([("db".to_owned(), members.to_vec())]);
        let decision = decide(&config.cluster, &config.failover, &View { members, ..view(&states) }, None);
        (answers(&config, &decision, "db"), answers(&config, &decision, "node1"))
    };
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(answer(yes, yes, [REFUSES, UP, UP]).0, [1, 2], "the node's own probe is another matter");
    assert_eq!(answer(no, yes, [UP; 3]), (vec![2], vec![1]));
    assert_eq!(answer(None, yes, [UP; 3]).0, [2]);
    assert_eq!(answer(None, no, [UP; 3]).0, [1]);
    assert_eq!(answer(yes, yes, [DRAINED, UP, UP]).0, [2]);
    assert_eq!(answer(no, no, [UP; 3]).0, [1, 2], "no member passes: the living hosts are tried");
    assert_eq!(answer(no, no, [UP, SILENT, UP]).0, [1, 3], "and a substitute for the dead one");
}

#[test]
fn with_too_few_healthy_members_all_of_them_are_answered() {
    let mut config = three_nodes();
    config.cluster.services[0] = Service { min_healthy: 2, ..service("db", &["node1", "node2", "node3"]) };
    assert_eq!(answers(&config, &decided(&config, &[UP, REFUSES, UP], None), "db"), [1, 3]);
    assert_eq!(answers(&config, &decided(&config, &[UP, REFUSES, REFUSES], None), "db"), [1, 2, 3]);
    assert_eq!(answers(&config, &decided(&config, &[UP, DRAINED, REFUSES], None), "db"), [1, 3]);
    let drained = decided(&config, &[DRAINED, REFUSES, REFUSES], None);
    assert_eq!(answers(&config, &drained, "db"), [1, 2, 3], "the drained one is the only one that lives");
    let down = NodeState { admin: Admin::Down, ..UP };
    config.cluster.services[0] = Service { min_healthy: 1, ..service("db", &["node1", "node2"]) };
    assert_eq!(answers(&config, &decided(&config, &[DRAINED, down, UP], None), "db"), [3]);
}

#[test]
fn the_ttl_of_a_suspect_is_what_is_left_until_the_decision() {
    let mut config = three_nodes();
    config.zone.ttl_seconds = 60;
    let ttl = |config: &Config, left: Option<u32>, admin, name: &str| {
        let states = [UP, UP, NodeState { seconds_left: left, admin, ..UP }];
        let zone = zone(config, &decided(config, &states, None));
        let name = Name::from_ascii(name).unwrap().append_domain(&config.zone.apex).unwrap();
        zone.addresses(&name).unwrap().ttl_seconds
    };
    let auto = Admin::Auto;
    assert_eq!(ttl(&config, None, auto, "node3"), 60);
    assert_eq!(["node3", "ns3", "", "node1"].map(|name| ttl(&config, Some(7), auto, name)), [7, 7, 7, 60]);
    assert_eq!(ttl(&config, Some(99), auto, "node3"), 60);
    assert_eq!(ttl(&config, Some(7), Admin::Up, "node3"), 60, "no probe decides");
    config.zone.ttl_min_seconds = 10;
    assert_eq!(ttl(&config, Some(7), auto, "node3"), 10);
}

/// The TTLs of NODATA for `node1`, `node2`, the apex and `db`; `None`: the zone's.
fn nodata_ttls(config: &Config, states: &[NodeState]) -> [Option<u32>; 4] {
    let zone = zone(config, &decided(config, states, None));
    ["node1", "node2", "", "db"].map(|name| {
        let name = Name::from_ascii(name).unwrap().append_domain(&config.zone.apex).unwrap();
        zone.addresses(&name).unwrap().nodata_ttl_seconds
    })
}

#[test]
fn the_absence_of_a_family_lives_no_longer_than_the_names_ttl() {
    let nodes = vec![node(1, true, true), node(2, true, false), node(3, true, false)];
    let mut config = config(Cluster::new(nodes, vec![service("db", &["node1", "node2"])]));
    assert_eq!(nodata_ttls(&config, &[UP; 3]), [None; 4], "that node2 has no AAAA is no failover");
    let short = [Some(5), None, Some(5), Some(5)];
    for out in [SILENT, DRAINED] {
        assert_eq!(nodata_ttls(&config, &[out, UP, UP]), short);
    }
    assert_eq!(nodata_ttls(&config, &[UP, SILENT, UP]), [None; 4], "node2 lacks nothing that it had");
    config.zone.negative_ttl_seconds = 3;
    assert_eq!(nodata_ttls(&config, &[SILENT, UP, UP]), [None; 4], "the zone's is shorter");
}

#[test]
fn the_soa_of_a_name_that_lacks_a_family_has_its_ttl_twice() {
    let nodes = vec![node(1, true, true), node(2, true, false), node(3, true, false)];
    let config = config(Cluster::new(nodes, Vec::new()));
    let zone = zone(&config, &decided(&config, &[SILENT, UP, UP], None));
    let soa = |name: &str| {
        let record = zone.negative_soa(&Name::from_ascii(name).unwrap());
        let hickory_proto::rr::RData::SOA(soa) = record.data else { panic!("{record}") };
        (record.ttl, soa.minimum)
    };
    assert_eq!(soa("node1.demo.example.com."), (5, 5));
    assert_eq!(soa("node2.demo.example.com."), (300, 300));
    assert_eq!(soa("nobody.demo.example.com."), (300, 300));
}

/// `three_nodes()` with a node 4 that lacks the roles which `change` takes from it.
fn with_a_fourth(change: impl FnOnce(&mut Node)) -> Config {
    let mut config = three_nodes();
    let mut fourth = node(4, true, false);
    change(&mut fourth);
    config.cluster.nodes.push(fourth);
    config
}

#[test]
fn a_node_that_is_no_voter_neither_makes_nor_breaks_the_quorum() {
    let config = with_a_fourth(|node| node.is_voter = false);
    let quorum = |states: &[NodeState]| decided(&config, states, None).quorum;
    assert_eq!(quorum(&[UP, UP, SILENT, SILENT]), Quorum { visible: 2, needed: 2, ok: true });
    assert_eq!(quorum(&[UP, SILENT, SILENT, UP]), Quorum { visible: 1, needed: 2, ok: false });
    let decision = decided(&config, &[UP, UP, UP, SILENT], None);
    assert_ne!(answers(&config, &decision, "node4"), [4], "its name fails over all the same");
    let decision = decided(&config, &[UP, UP, UP, UP], None);
    assert_eq!(answers(&config, &decision, "ns4"), [4], "it is a name server all the same");
}

#[test]
fn a_node_that_is_not_probed_answers_for_itself_and_for_no_other() {
    const UNPROBED: NodeState = NodeState { visible: false, ..UP };
    let mut config = with_a_fourth(|node| {
        node.health.probes.clear();
        node.is_voter = false;
    });
    for name in ["node1", "node2", "node3", "node4"] {
        let decision = decided(&config, &[REFUSES, UP, REFUSES, UNPROBED], None);
        let expected = if name == "node4" { 4 } else { 2 };
        assert_eq!(answers(&config, &decision, name), [expected], "{name}");
    }
    for rule in [AllDown::Configured, AllDown::LastGood, AllDown::Nodata, AllDown::Refused] {
        config.failover.all_down = rule;
        let decision = decided(&config, &[REFUSES, REFUSES, REFUSES, UNPROBED], None);
        assert_eq!(answers(&config, &decision, "node4"), [4], "{rule:?}");
        assert_ne!(answers(&config, &decision, "node1"), [4], "{rule:?}");
        assert_eq!(answers(&config, &decision, ""), [4], "the apex has a healthy member: {rule:?}");
    }
    let out = NodeState { admin: Admin::Drain, ..UNPROBED };
    let decision = decided(&config, &[UP, UP, UP, out], None);
    assert_ne!(answers(&config, &decision, "node4"), [4], "an operator has taken it out");
    config.cluster.nodes[0].backup = vec!["node4".to_owned()];
    let decision = decided(&config, &[REFUSES, UP, UP, UNPROBED], None);
    assert_eq!(answers(&config, &decision, "node1"), [4], "the operator has chosen it");
}

#[test]
fn the_apex_and_the_ns_set_have_the_nodes_of_that_role() {
    let mut config = with_a_fourth(|node| {
        node.ns = None;
        node.is_in_apex = false;
    });
    let decision = decided(&config, &[UP, UP, UP, UP], None);
    assert_eq!(answers(&config, &decision, ""), [1, 2, 3]);
    assert_eq!(answers(&config, &decision, "node4"), [4]);
    let zone = zone(&config, &decision);
    assert_eq!(zone.name_server_count(), 3);
    assert!(zone.addresses(&owner("ns4", zone.apex())).is_none());
    for node in &mut config.cluster.nodes {
        node.is_in_apex = false;
    }
    let decision = decided(&config, &[UP, UP, UP, UP], None);
    assert_eq!(answers(&config, &decision, ""), [0_u8; 0], "the apex exists and has no address");
    let service_names = decision.answers.services().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
    assert_eq!(service_names, ["db"]);
}

#[test]
fn the_apex_lacks_no_family_that_only_nodes_outside_it_have() {
    let nodes =
        vec![node(1, true, false), node(2, true, false), Node { is_in_apex: false, ..node(3, true, true) }];
    let config = config(Cluster::new(nodes, Vec::new()));
    let zone = zone(&config, &decided(&config, &[UP; 3], None));
    assert_eq!(zone.addresses(zone.apex()).unwrap().nodata_ttl_seconds, None);
}

#[test]
fn the_name_of_a_dead_server_answers_a_server() {
    let mut nodes: Vec<Node> = (1..=9).map(|number| node(number, true, false)).collect();
    nodes[2..].iter_mut().for_each(|node| node.ns = None);
    nodes[1].backup = vec!["node5".to_owned()];
    let config = config(Cluster::new(nodes, Vec::new()));
    let dead = |dead: &[usize]| {
        let states: Vec<NodeState> =
            (0..9).map(|index| if dead.contains(&index) { REFUSES } else { UP }).collect();
        decided(&config, &states, None)
    };
    let decision = dead(&[1]);
    assert_eq!(answers(&config, &decision, "node2"), [5]);
    assert_eq!(answers(&config, &decision, "ns2"), [1]);
    let decision = dead(&[0, 1]);
    assert_eq!(answers(&config, &decision, "ns2"), [5], "no server is left: no dead address all the same");
}
