//! Tests of the answers of services, case by case.
use std::collections::BTreeMap;

use super::super::tests::{REFUSES, SILENT, UP, answers, config, decided, node, service, view};
use super::super::{Decision, MemberState, NodeState, View, decide};
use crate::cluster::{Admin, AllDown, Cluster, Order, Service};
use crate::config::Config;

const TAKEN_OUT: NodeState = NodeState { admin: Admin::Down, ..UP };

/// Four nodes, and this service as `db`.
fn with(service: Service) -> Config {
    config(Cluster::new((1..=4).map(|number| node(number, true, false)).collect(), vec![service]))
}

/// `node1` and `node2` with `order = "first"`: `node1` answers.
fn active_passive() -> Service {
    Service { order: Order::First, ..service("db", &["node1", "node2"]) }
}

/// Returns the service with its own probes.
fn apart(service: Service) -> Service {
    Service { health: Some(node(1, true, false).health), ..service }
}

fn db(config: &Config, states: &[NodeState; 4]) -> Vec<u8> {
    answers(config, &decided(config, states, None), "db")
}

/// A decision from these results of the service's own probes. The members' results come first, then the backups'.
fn probed(config: &Config, results: &[bool], states: &[NodeState; 4], before: Option<&Decision>) -> Decision {
    let members = results.iter().map(|passes| MemberState { serving: Some(*passes), seconds_left: None });
    let members = BTreeMap::from([("db".to_owned(), members.collect())]);
    decide(&config.cluster, &config.failover, &View { members, ..view(states) }, before)
}

#[test]
fn the_first_healthy_member_answers_alone_and_gives_way_when_an_earlier_one_is_back() {
    let config = with(active_passive());
    assert_eq!(db(&config, &[UP; 4]), [1]);
    assert_eq!(db(&config, &[REFUSES, UP, UP, UP]), [2]);
    assert_eq!(db(&config, &[TAKEN_OUT, UP, UP, UP]), [2]);
    assert_eq!(db(&config, &[UP, REFUSES, UP, UP]), [1]);
    let other = with(Service { order: Order::First, ..service("db", &["node2", "node1"]) });
    assert_eq!(db(&other, &[UP; 4]), [2], "the order is the file's, not that of the nodes");
    assert_eq!(db(&config, &[REFUSES; 4]), [1], "no node is up: the first member is answered");
}

#[test]
fn a_backup_answers_while_no_member_is_healthy_and_the_first_of_several_alone() {
    let backup = vec!["node4".to_owned(), "node3".to_owned()];
    let config = with(Service { backup, ..service("db", &["node1", "node2"]) });
    assert_eq!(db(&config, &[UP; 4]), [1, 2]);
    assert_eq!(db(&config, &[REFUSES, UP, UP, UP]), [2]);
    assert_eq!(db(&config, &[REFUSES, REFUSES, UP, UP]), [4]);
    assert_eq!(db(&config, &[REFUSES, REFUSES, UP, TAKEN_OUT]), [3]);
}

#[test]
fn a_service_with_one_member_and_a_probe_of_its_own_moves_to_the_backup_that_passes_it() {
    let backup = vec!["node3".to_owned(), "node4".to_owned()];
    let config = with(apart(Service { backup, ..service("db", &["node1"]) }));
    let db = |results: &[bool]| {
        let decision = probed(&config, results, &[UP; 4], None);
        let down = decision.services_down(&config.cluster).count();
        (answers(&config, &decision, "db"), down)
    };
    assert_eq!(db(&[true, true, true]), (vec![1], 0));
    assert_eq!(db(&[false, true, true]), (vec![3], 0));
    assert_eq!(
        db(&[false, false, true]),
        (vec![4], 0),
        "a living host that does not pass the probe is no backup"
    );
    assert_eq!(db(&[false, false, false]), (vec![1], 1), "all-down is `configured`");
}

#[test]
fn a_service_that_is_down_obeys_its_rule_and_else_that_of_failover() {
    let answer = |own, usual, is_apart| {
        let db = Service { all_down: own, ..service("db", &["node1", "node2"]) };
        let mut config = with(if is_apart { apart(db) } else { db });
        config.failover.all_down = usual;
        let good = probed(&config, &[false, true], &[REFUSES, UP, UP, UP], None);
        let states = [REFUSES, REFUSES, UP, UP];
        let bad = probed(&config, &[false, false], &states, Some(&good));
        assert_eq!(bad.services_down(&config.cluster).count(), 1);
        let name = crate::failover::owner("db", &config.zone.apex);
        let zone = crate::failover::zone(&config, &bad);
        let found = zone.addresses(&name).unwrap();
        assert_eq!(found.refused, found.iter().next().is_none() && own.unwrap_or(usual) == AllDown::Refused);
        (answers(&config, &bad, "db"), found.refused)
    };
    let (configured, refused) = (AllDown::Configured, AllDown::Refused);
    for is_apart in [false, true] {
        assert_eq!(answer(Some(AllDown::Nodata), configured, is_apart), (vec![], false));
        assert_eq!(answer(Some(refused), configured, is_apart), (vec![], true));
        assert_eq!(answer(Some(AllDown::LastGood), configured, is_apart), (vec![2], false));
    }
    let (substitutes, _) = answer(Some(configured), refused, false);
    assert!(
        !substitutes.is_empty() && substitutes.iter().all(|node| [3, 4].contains(node)),
        "{substitutes:?}"
    );
    assert_eq!(answer(None, refused, true), (vec![], true), "the rule of [failover]");
    assert_eq!(answer(None, refused, false).0, substitutes, "the others answer their members' substitutes");
}

#[test]
fn while_no_node_is_up_a_service_obeys_its_own_rule_too() {
    let mut config =
        with(Service { all_down: Some(AllDown::Configured), ..service("db", &["node1", "node2"]) });
    config.failover.all_down = AllDown::Nodata;
    let decision = decided(&config, &[REFUSES; 4], None);
    assert_eq!(answers(&config, &decision, "db"), [1, 2]);
    assert_eq!(answers(&config, &decision, "node1"), [0; 0], "nodata");
    let zone = crate::failover::zone(&config, &decision);
    assert!(zone.names().all(|(_, addresses)| !addresses.refused));
}

#[test]
fn frozen_answers_leave_a_member_that_an_operator_has_taken_out_for_one_that_is_healthy() {
    let backup = vec!["node4".to_owned()];
    let config = with(Service { backup, ..active_passive() });
    let frozen = |before: &[NodeState; 4], now: [NodeState; 4]| {
        let good = decided(&config, before, None);
        let frozen = decided(&config, &now, Some(&good));
        assert!(frozen.frozen.is_some());
        answers(&config, &frozen, "db")
    };
    let out = NodeState { admin: Admin::Down, ..SILENT };
    assert_eq!(frozen(&[UP; 4], [SILENT; 4]), [1], "by itself nothing changes");
    assert_eq!(frozen(&[UP; 4], [out, SILENT, SILENT, SILENT]), [2], "it was healthy before");
    assert_eq!(
        frozen(&[UP, REFUSES, UP, UP], [out, SILENT, SILENT, SILENT]),
        [4],
        "node2 was not: the backup"
    );
    let seen = NodeState { visible: false, ..UP };
    assert_eq!(
        frozen(&[UP, REFUSES, UP, UP], [out, seen, SILENT, SILENT]),
        [2],
        "it is known to be healthy now"
    );
    assert_eq!(frozen(&[UP; 4], [out, out, SILENT, SILENT]), [4]);
}

#[test]
fn services_that_are_down_stay_what_they_were_while_no_node_is_up() {
    let config = with(service("db", &["node1", "node2"]));
    let down = |decision: &Decision| decision.services_down(&config.cluster).count();
    let good = decided(&config, &[UP; 4], None);
    let open = decided(&config, &[REFUSES; 4], Some(&good));
    assert_eq!((open.fail_open, down(&open)), (true, 0));
    let bad = decided(&config, &[REFUSES, REFUSES, UP, UP], Some(&open));
    assert_eq!(down(&bad), 1);
    assert_eq!(down(&decided(&config, &[REFUSES; 4], Some(&bad))), 1);
}

/// The service's own probes kept one member in the answers while the nodes were refused. The operator replaces that
/// member.
#[test]
fn frozen_answers_of_a_service_are_those_that_an_operator_wants_up_where_the_nodes_are_refused() {
    let mut config =
        with(apart(Service { all_down: Some(AllDown::Configured), ..service("db", &["node1", "node2"]) }));
    config.failover.all_down = AllDown::Refused;
    let before = probed(&config, &[true, true], &[REFUSES, TAKEN_OUT, TAKEN_OUT, TAKEN_OUT], None);
    assert_eq!(answers(&config, &before, "db"), [1]);
    let [out, wanted] = [Admin::Down, Admin::Up].map(|admin| NodeState { admin, ..SILENT });
    let frozen = probed(&config, &[false, false], &[out, wanted, SILENT, SILENT], Some(&before));
    assert!(frozen.frozen.is_some());
    assert_eq!(answers(&config, &frozen, "db"), [2]);
    let elsewhere = probed(&config, &[false, false], &[out, SILENT, SILENT, wanted], Some(&before));
    assert_eq!(
        answers(&config, &elsewhere, "db"),
        [4],
        "no member is wanted up: another node is better than none"
    );
    config.cluster.nodes[2].health.probes.clear();
    let unprobed = NodeState { visible: false, ..UP };
    let before = probed(&config, &[true, true], &[REFUSES, TAKEN_OUT, unprobed, TAKEN_OUT], None);
    let alone = probed(&config, &[false, false], &[out, SILENT, unprobed, SILENT], Some(&before));
    assert!(alone.frozen.is_some());
    assert_eq!(answers(&config, &alone, "db"), [1], "a node without probes answers for no other");
}

#[test]
fn a_service_that_its_own_probes_find_down_is_down_while_no_node_is_up() {
    let config = with(apart(service("db", &["node1", "node2"])));
    let good = probed(&config, &[true, true], &[UP; 4], None);
    assert_eq!(good.services_down(&config.cluster).count(), 0);
    let bad = probed(&config, &[false, false], &[REFUSES; 4], Some(&good));
    assert_eq!(bad.services_down(&config.cluster).count(), 1);
}

#[test]
fn a_service_that_was_down_says_nothing_about_the_services_of_another_cluster() {
    let db = || service("db", &["node1", "node2"]);
    let before = with(db());
    let bad = decided(&before, &[REFUSES, REFUSES, UP, UP], None);
    assert_eq!(bad.services_down(&before.cluster).count(), 1);
    let nodes = (1..=4).map(|number| node(number, true, false)).collect();
    let after = config(Cluster::new(nodes, vec![service("cache", &["node3"]), db()]));
    let open = decided(&after, &[REFUSES; 4], Some(&bad));
    assert_eq!(open.services_down(&after.cluster).count(), 0);
}

#[test]
fn a_member_that_an_operator_wants_up_comes_back_into_no_service_with_probes_of_its_own_while_frozen() {
    let config = with(apart(service("db", &["node1", "node2"])));
    let before = probed(&config, &[true, false], &[UP; 4], None);
    assert_eq!(answers(&config, &before, "db"), [1]);
    let wanted = NodeState { admin: Admin::Up, ..SILENT };
    let frozen = probed(&config, &[true, false], &[SILENT, wanted, SILENT, SILENT], Some(&before));
    assert!(frozen.frozen.is_some());
    assert_eq!(answers(&config, &frozen, "db"), [1], "its own probes have not passed");
}

#[test]
fn the_soonest_end_of_a_doubt_decides_the_ttl_of_all_names_of_a_node() {
    let config = with(apart(service("db", &["node1", "node2"])));
    let doubted = |node, member| {
        let members =
            [Some(member), None].map(|seconds_left| MemberState { serving: Some(true), seconds_left });
        let members = BTreeMap::from([("db".to_owned(), members.to_vec())]);
        let first = NodeState { seconds_left: Some(node), ..UP };
        let view = View { members, ..view(&[first, UP, UP, UP]) };
        decide(&config.cluster, &config.failover, &view, None).answers.seconds_left[&0]
    };
    assert_eq!([doubted(4, 2), doubted(2, 4)], [2, 2]);
}
