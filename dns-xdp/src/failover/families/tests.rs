//! Tests of decisions about nodes with one dead family: single cases, and properties of all cases.
use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::Name;
use proptest::prelude::*;

use super::super::tests::{config, node, rules, service, view};
use super::super::zone::zone;
use super::*;
use crate::cluster::{Admin, AllDown, Node};
use crate::config::{Config, Failover, Quorum};
use crate::failover::{LastAnswers, decide};
use crate::zone::Zone;

const UP: NodeState =
    NodeState { serving: Some(true), visible: true, admin: Admin::Auto, seconds_left: None, held: false };

/// The results of a node's probes over IPv4 and over IPv6.
type Both = [Option<bool>; 2];

const WELL: Both = [Some(true); 2];
const NO_IPV6: Both = [Some(true), Some(false)];
const NO_IPV4: Both = [Some(false), Some(true)];
const DEAD: Both = [Some(false); 2];

/// `node1` to `node4`, with a service of the first two.
fn four_nodes() -> Config {
    let nodes = (1..=4).map(|number| node(number, true, true)).collect();
    config(Cluster::new(nodes, vec![service("db", &["node1", "node2"])]))
}

fn either([ipv4, ipv6]: Both) -> Option<bool> {
    if [ipv4, ipv6].contains(&Some(true)) {
        Some(true)
    } else if [ipv4, ipv6].contains(&None) {
        None
    } else {
        Some(false)
    }
}

/// Returns a view of nodes that follow their families. A node of one family follows that family.
fn seen(cluster: &Cluster, both: &[Both], states: &[NodeState]) -> View {
    let found = |node: &Node, both: &Both| match (node.ipv4, node.ipv6) {
        (Some(_), None) => [both[0]; 2],
        (None, Some(_)) => [both[1]; 2],
        _ => *both,
    };
    let found: Vec<Both> = cluster.nodes.iter().zip(both).map(|(node, both)| found(node, both)).collect();
    let states: Vec<NodeState> = states
        .iter()
        .zip(&found)
        .map(|(state, both)| NodeState { serving: either(*both), ..*state })
        .collect();
    let families = Family::ALL.map(|family| FamilyView {
        family,
        nodes: found.iter().map(|both| both[family as usize]).collect(),
        members: BTreeMap::new(),
    });
    View { families: families.into(), ..view(&states) }
}

fn decided(config: &Config, both: &[Both], previous: Option<&Decision>) -> Decision {
    let states = vec![UP; both.len()];
    decide(&config.cluster, &config.failover, &seen(&config.cluster, both, &states), previous)
}

fn rrsets(zone: &Zone, name: &str) -> (Vec<u8>, Vec<u8>) {
    let name = Name::from_ascii(name).unwrap().append_domain(zone.apex()).unwrap();
    let addresses = zone.addresses(&name).unwrap();
    let ipv4 = addresses.ipv4.iter().map(|address| address.octets()[3]);
    (ipv4.collect(), addresses.ipv6.iter().map(|address| address.octets()[15]).collect())
}

/// The last numbers of the A and AAAA records of a name.
fn answers(config: &Config, decision: &Decision, name: &str) -> (Vec<u8>, Vec<u8>) {
    rrsets(&zone(config, decision), name)
}

#[test]
fn a_dead_family_moves_its_own_rrset() {
    let config = four_nodes();
    let healthy = decided(&config, &[WELL; 4], None);
    assert!(healthy.answers.families.are_alike());
    let decision = decided(&config, &[WELL, NO_IPV6, WELL, WELL], None);
    assert_eq!(decision.effective[1], Effective::Up);
    let (ipv4, ipv6) = answers(&config, &decision, "node2");
    assert_eq!(ipv4, [2]);
    assert!(ipv6.len() == 1 && ipv6 != [2], "{ipv6:?}");
    assert_eq!(answers(&config, &decision, "ns2"), (ipv4, ipv6));
    assert_eq!(answers(&config, &decision, ""), (vec![1, 2, 3, 4], vec![1, 3, 4]));
    assert_eq!(answers(&config, &decision, "db"), (vec![1, 2], vec![1]));
    assert_eq!(answers(&config, &decision, "node3"), (vec![3], vec![3]));
    let (ipv4, ipv6) = answers(&config, &decided(&config, &[WELL, NO_IPV4, WELL, WELL], None), "node2");
    assert!(ipv4 != [2] && ipv6 == [2], "{ipv4:?} {ipv6:?}");
}

#[test]
fn the_substitute_over_one_family_is_the_one_over_both() {
    let config = four_nodes();
    let whole = answers(&config, &decided(&config, &[WELL, DEAD, WELL, WELL], None), "node2");
    let half = answers(&config, &decided(&config, &[WELL, NO_IPV6, WELL, WELL], None), "node2");
    assert_eq!((&whole.0, &whole.1), (&whole.1, &half.1));
}

#[test]
fn a_node_that_is_dead_over_both_has_one_substitute_that_is_whole() {
    let mut config = four_nodes();
    config.cluster.nodes[1].backup = vec!["node3".to_owned()];
    let decision = decided(&config, &[NO_IPV4, DEAD, NO_IPV6, WELL], None);
    assert_eq!(answers(&config, &decision, "node2"), (vec![4], vec![4]));
    let decision = decided(&config, &[NO_IPV4, DEAD, NO_IPV6, NO_IPV6], None);
    assert_eq!(answers(&config, &decision, "node2"), (vec![3], vec![1]), "none is whole");
}

#[test]
fn where_no_node_is_up_in_a_family_its_configured_addresses_are_answered() {
    let mut config = four_nodes();
    let decision = decided(&config, &[NO_IPV6, NO_IPV6, NO_IPV6, NO_IPV6], None);
    let last_resort = |family| decision.answers.families.of(family).last_resort;
    assert_eq!(Family::ALL.map(last_resort), [None, Some(LastResort::AllDown)]);
    assert!(!decision.fail_open);
    assert_eq!(answers(&config, &decision, ""), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
    assert_eq!(answers(&config, &decision, "node2"), (vec![2], vec![2]));
    config.failover.all_down = AllDown::LastGood;
    let before = decided(&config, &[NO_IPV6, WELL, NO_IPV6, NO_IPV6], None);
    let decision = decided(&config, &[NO_IPV6; 4], Some(&before));
    assert_eq!(answers(&config, &decision, "node1"), (vec![1], vec![2]));
    config.failover.all_down = AllDown::Refused;
    let decision = decided(&config, &[NO_IPV6; 4], Some(&before));
    assert_eq!(answers(&config, &decision, "node1"), (vec![1], vec![]));
}

#[test]
fn a_family_that_one_node_has_alone_goes_with_the_node() {
    let nodes = vec![node(1, true, true), node(2, true, false), node(3, true, false)];
    let config = config(Cluster::new(nodes, Vec::new()));
    let alone = decided(&config, &[NO_IPV6, WELL, WELL], None);
    assert_eq!(answers(&config, &alone, "node1"), (vec![1], vec![1]), "there is no other address");
    let (ipv4, ipv6) = answers(&config, &decided(&config, &[DEAD, WELL, WELL], None), "node1");
    assert!(ipv4 != [1] && ipv6.is_empty(), "{ipv4:?} {ipv6:?}");
}

#[test]
fn what_a_family_answers_is_frozen_carried_and_kept_over_a_restart() {
    let mut config = four_nodes();
    let before = decided(&config, &[WELL, NO_IPV6, WELL, WELL], None);
    let own = answers(&config, &before, "node2");
    let silent = vec![NodeState { visible: false, serving: Some(false), ..UP }; 4];
    let frozen = decide(&config.cluster, &config.failover, &view(&silent), Some(&before));
    assert!(frozen.frozen.is_some());
    assert_eq!(frozen.answers, before.answers);
    let kept = LastAnswers::new(&before.answers, jiff::Timestamp::UNIX_EPOCH);
    let text = serde_json::to_string(&kept).unwrap();
    let read: LastAnswers = serde_json::from_str(&text).unwrap();
    assert_eq!(read.answers(&config.cluster), *before.answers);
    let alike = decided(&config, &[WELL; 4], None);
    let text = serde_json::to_string(&LastAnswers::new(&alike.answers, kept.at)).unwrap();
    assert!(!text.contains("families"), "{text}");
    config.cluster.nodes.insert(0, node(5, true, true));
    let silent = vec![NodeState { visible: false, serving: Some(false), ..UP }; 5];
    let moved = decide(&config.cluster, &config.failover, &view(&silent), Some(&before));
    assert_eq!(answers(&config, &moved, "node2"), own);
}

#[test]
fn a_member_whose_family_fails_the_probes_of_its_service_is_out_of_that_rrset() {
    let mut config = four_nodes();
    config.cluster.services[0].health = Some(config.cluster.nodes[0].health.clone());
    let members = [Some(true), Some(true)].map(|serving| MemberState { serving, seconds_left: None });
    let families = Family::ALL.map(|family| FamilyView {
        family,
        nodes: vec![Some(true); 4],
        members: BTreeMap::from([("db".to_owned(), vec![Some(family == Family::Ipv4), Some(true)])]),
    });
    let members = BTreeMap::from([("db".to_owned(), members.to_vec())]);
    let view = View { members, families: families.into(), ..view(&[UP; 4]) };
    let decision = decide(&config.cluster, &config.failover, &view, None);
    assert_eq!(answers(&config, &decision, "db"), (vec![1, 2], vec![2]));
    assert_eq!(answers(&config, &decision, "node1"), (vec![1], vec![1]));
}

/// Returns the decision of a server that is cut off after this decision. `admin` has the operator's intents.
fn cut_off(config: &Config, before: &Decision, admin: &[Admin]) -> Decision {
    let silent = NodeState { visible: false, serving: Some(false), ..UP };
    let states: Vec<NodeState> = admin.iter().map(|&admin| NodeState { admin, ..silent }).collect();
    let frozen = decide(&config.cluster, &config.failover, &view(&states), Some(before));
    assert!(frozen.frozen.is_some());
    frozen
}

const AUTO: Admin = Admin::Auto;

#[test]
fn no_intent_brings_a_dead_family_back_while_the_answers_are_frozen() {
    let mut config = four_nodes();
    config.cluster.nodes[1].backup = vec!["node3".to_owned(), "node4".to_owned()];
    config.cluster.nodes[3].backup = vec!["node2".to_owned()];
    let before = decided(&config, &[WELL, NO_IPV6, WELL, WELL], None);
    assert_eq!(answers(&config, &before, "node2"), (vec![2], vec![3]));
    let with = |admin: [Admin; 4]| cut_off(&config, &before, &admin);
    for out in [Admin::Down, Admin::Drain] {
        let decision = with([AUTO, AUTO, out, AUTO]);
        assert_eq!(answers(&config, &decision, "node2"), (vec![2], vec![4]), "the next of its list");
        let decision = with([AUTO, out, AUTO, AUTO]);
        assert_eq!(answers(&config, &decision, "node2"), (vec![3], vec![3]), "one machine");
        let (ipv4, ipv6) = answers(&config, &with([AUTO, AUTO, AUTO, out]), "node4");
        assert!(ipv4 == ipv6 && ipv4 != [2] && ipv4 != [4], "{ipv4:?} {ipv6:?}");
        let decision = with([out, AUTO, out, out]);
        assert_eq!(answers(&config, &decision, "node4"), (vec![2], vec![3]), "no other is left over IPv6");
    }
    let decision = with([AUTO, AUTO, Admin::Up, AUTO]);
    assert_eq!(
        answers(&config, &decision, "node2"),
        (vec![2], vec![3]),
        "an operator wants its substitute up"
    );
    let decision = with([AUTO, Admin::Up, AUTO, AUTO]);
    assert_eq!(answers(&config, &decision, "node2"), (vec![2], vec![2]), "an operator wants it up");
    let again = decide(
        &config.cluster,
        &config.failover,
        &view(&[NodeState { visible: false, ..UP }; 4]),
        Some(&decision),
    );
    assert_eq!(again.answers, before.answers, "the intent is taken back");
}

#[test]
fn a_service_whose_member_is_dead_over_one_family_stays_without_it_while_frozen() {
    let mut config = four_nodes();
    config.cluster.nodes[0].backup = vec!["node4".to_owned()];
    let before = decided(&config, &[WELL, NO_IPV6, WELL, WELL], None);
    assert_eq!(answers(&config, &before, "db"), (vec![1, 2], vec![1]));
    let with = |admin: [Admin; 4]| answers(&config, &cut_off(&config, &before, &admin), "db");
    assert_eq!(with([AUTO, AUTO, Admin::Drain, Admin::Up]), (vec![1, 2], vec![1]));
    assert_eq!(with([Admin::Drain, AUTO, AUTO, AUTO]), (vec![2], vec![4]));
    assert_eq!(with([AUTO, Admin::Down, AUTO, AUTO]), (vec![1], vec![1]));
    assert_eq!(with([AUTO, Admin::Up, AUTO, AUTO]), (vec![1, 2], vec![1, 2]));
}

#[test]
fn a_service_that_is_refused_over_one_family_stays_so_while_frozen() {
    let mut config = four_nodes();
    config.cluster.services[0].health = Some(config.cluster.nodes[0].health.clone());
    config.cluster.services[0].all_down = Some(AllDown::Nodata);
    let passes = MemberState { serving: Some(true), seconds_left: None };
    let families = Family::ALL.map(|family| FamilyView {
        family,
        nodes: vec![Some(true); 4],
        members: BTreeMap::from([("db".to_owned(), vec![Some(family == Family::Ipv4); 2])]),
    });
    let members = BTreeMap::from([("db".to_owned(), vec![passes; 2])]);
    let view = View { members, families: families.into(), ..view(&[UP; 4]) };
    let before = decide(&config.cluster, &config.failover, &view, None);
    assert_eq!(answers(&config, &before, "db"), (vec![1, 2], vec![]));
    let frozen = cut_off(&config, &before, &[AUTO, AUTO, Admin::Drain, AUTO]);
    assert_eq!(answers(&config, &frozen, "db"), (vec![1, 2], vec![]));
    config.cluster.nodes.push(node(5, true, true));
    let moved = cut_off(&config, &before, &[AUTO; 5]);
    assert_eq!(answers(&config, &moved, "db"), (vec![1, 2], vec![]));
}

const HELD: NodeState = NodeState { held: true, ..UP };
const DRAINED: NodeState = NodeState { admin: Admin::Drain, ..UP };

#[test]
fn held_and_drained_nodes_that_answer_as_the_last_do_so_over_their_living_families() {
    let config = four_nodes();
    for last in [HELD, DRAINED] {
        let all = |both: [Both; 4]| {
            let view = seen(&config.cluster, &both, &[last, last, UP, UP]);
            let decision = decide(&config.cluster, &config.failover, &view, None);
            assert!(decision.held || decision.drained);
            ["node1", "node2", "node3", "db", ""].map(|name| answers(&config, &decision, name))
        };
        let [node1, node2, node3, db, apex] = all([NO_IPV6, WELL, DEAD, DEAD]);
        assert_eq!([node1, node2], [(vec![1], vec![2]), (vec![2], vec![2])], "{last:?}");
        assert_eq!([node3, db, apex], [(vec![2], vec![2]), (vec![1, 2], vec![2]), (vec![1, 2], vec![2])]);
        let [node1, node2, node3, ..] = all([NO_IPV6, NO_IPV4, DEAD, DEAD]);
        assert_eq!([node1, node2, node3], [(); 3].map(|()| (vec![1], vec![2])), "{last:?}");
    }
}

#[test]
fn held_and_drained_nodes_answer_where_no_other_is_healthy_in_a_family() {
    let config = four_nodes();
    for (last, expected) in [(HELD, LastResort::Held), (DRAINED, LastResort::Drained)] {
        let view = seen(&config.cluster, &[NO_IPV6, WELL, DEAD, DEAD], &[UP, last, UP, UP]);
        let decision = decide(&config.cluster, &config.failover, &view, None);
        assert_eq!(answers(&config, &decision, "node1"), (vec![1], vec![2]), "{last:?}");
        assert_eq!(answers(&config, &decision, ""), (vec![1], vec![2]));
        let last_resort = |family| decision.answers.families.of(family).last_resort;
        assert_eq!(Family::ALL.map(last_resort), [None, Some(expected)]);
    }
}

/// Returns a view that gives `db` its own probes, with these results for each member over IPv4 and IPv6.
fn seen_by_db(config: &Config, both: &[Both; 2], of_nodes: &[Both; 4]) -> View {
    let mut view = seen(&config.cluster, of_nodes, &[UP; 4]);
    for found in &mut view.families {
        let of_family = both.iter().map(|both| both[found.family as usize]).collect();
        found.members.insert("db".to_owned(), of_family);
    }
    let members = both.iter().map(|both| MemberState { serving: either(*both), seconds_left: None });
    view.members.insert("db".to_owned(), members.collect());
    view
}

fn four_nodes_and_a_service_with_probes(all_down: Option<AllDown>) -> Config {
    let mut config = four_nodes();
    config.cluster.services[0].health = Some(config.cluster.nodes[0].health.clone());
    config.cluster.services[0].all_down = all_down;
    config
}

#[test]
fn a_service_that_is_down_over_one_family_answers_what_it_answered_last_over_it() {
    let config = four_nodes_and_a_service_with_probes(Some(AllDown::LastGood));
    let next = |both: [Both; 2], before: Option<&Decision>| {
        let view = seen_by_db(&config, &both, &[WELL; 4]);
        decide(&config.cluster, &config.failover, &view, before)
    };
    let before = next([NO_IPV6, WELL], None);
    assert_eq!(answers(&config, &before, "db"), (vec![1, 2], vec![2]));
    let down = next([NO_IPV6, NO_IPV6], Some(&before));
    assert_eq!(answers(&config, &down, "db"), (vec![1, 2], vec![2]));
    let frozen = cut_off(&config, &before, &[AUTO; 4]);
    let down = next([NO_IPV6, NO_IPV6], Some(&frozen));
    assert_eq!(answers(&config, &down, "db"), (vec![1, 2], vec![2]), "also after it was cut off");
}

#[test]
fn a_service_without_a_member_that_passes_answers_no_node_over_a_dead_family() {
    let config = four_nodes_and_a_service_with_probes(None);
    let view = seen_by_db(&config, &[DEAD; 2], &[NO_IPV6, WELL, WELL, WELL]);
    let decision = decide(&config.cluster, &config.failover, &view, None);
    let (ipv4, ipv6) = answers(&config, &decision, "db");
    assert_eq!(ipv4, [1, 2]);
    assert!(ipv6.contains(&2) && !ipv6.contains(&1), "{ipv6:?}");
}

fn a_case() -> impl Strategy<Value = (Config, Vec<Both>, Vec<NodeState>)> {
    let families = prop_oneof![4 => Just((true, true)), 1 => Just((true, false)), 1 => Just((false, true))];
    let serving = || prop_oneof![1 => Just(None), 3 => Just(Some(true)), 2 => Just(Some(false))];
    let held = prop_oneof![4 => Just(false), 1 => Just(true)];
    let one = (families, [serving(), serving()], an_admin(), held);
    let all_down = prop_oneof![Just(AllDown::Configured), Just(AllDown::LastGood)];
    (proptest::collection::vec(one, 2..6), all_down).prop_map(|(all, all_down)| {
        let nodes = (1..).zip(&all).map(|(number, ((ipv4, ipv6), ..))| node(number, *ipv4, *ipv6));
        let db = service("db", &["node1", "node2"]);
        let mut config = config(Cluster::new(nodes.collect(), vec![db]));
        config.failover = Failover { quorum: Quorum::Count(0), all_down, ..rules() };
        let states = all.iter().map(|&(.., admin, held)| NodeState { admin, held, ..UP }).collect();
        (config, all.iter().map(|(_, both, ..)| *both).collect(), states)
    })
}

fn an_admin() -> impl Strategy<Value = Admin> {
    prop_oneof![6 => Just(Admin::Auto), 1 => Just(Admin::Down), 1 => Just(Admin::Drain), 1 => Just(Admin::Up)]
}

/// Whether a node may be answered over a family, even if only as a last resort.
fn is_well(view: &View, found: &FamilyView, place: usize) -> bool {
    match view.nodes[place].admin {
        Admin::Up => true,
        Admin::Down => false,
        Admin::Auto | Admin::Drain => found.nodes[place] != Some(false),
    }
}

/// The addresses of a family that nodes of this kind have.
fn addresses_of(config: &Config, family: Family, wanted: impl Fn(usize) -> bool) -> BTreeSet<IpAddr> {
    let nodes = config.cluster.nodes.iter().enumerate().filter(|(place, _)| wanted(*place));
    nodes.filter_map(|(_, node)| node.address(family)).collect()
}

fn answers_none(config: &Config, decision: &Decision, dead: &BTreeSet<IpAddr>) -> bool {
    let zone = zone(config, decision);
    zone.names().all(|(_, addresses)| !addresses.iter().any(|address| dead.contains(&address)))
}

proptest! {
    #[test]
    fn no_rrset_has_an_address_that_is_dead_while_a_node_is_up_in_its_family((config, both, states) in a_case()) {
        let view = seen(&config.cluster, &both, &states);
        let decision = decide(&config.cluster, &config.failover, &view, None);
        let zone = zone(&config, &decision);
        for family_view in &view.families {
            let state = |place: usize| NodeState { serving: family_view.nodes[place], ..view.nodes[place] }.effective();
            let having: Vec<usize> = (0..both.len()).filter(|&place| config.cluster.nodes[place].address(family_view.family).is_some()).collect();
            if !having.iter().any(|&place| state(place) == Effective::Up) {
                continue;
            }
            let dead: BTreeSet<IpAddr> = having.iter().filter(|&&place| state(place) != Effective::Up)
                .filter_map(|&place| config.cluster.nodes[place].address(family_view.family)).collect();
            for (name, addresses) in zone.names() {
                let found = addresses.iter().find(|address| dead.contains(address));
                prop_assert_eq!(found, None, "{} {:?}", name, decision);
            }
        }
    }

    #[test]
    fn no_rrset_has_an_address_that_is_dead_while_a_held_or_drained_node_is_well_in_its_family((config, both, states) in a_case()) {
        let view = seen(&config.cluster, &both, &states);
        let decision = decide(&config.cluster, &config.failover, &view, None);
        for found in &view.families {
            let dead = addresses_of(&config, found.family, |place| !is_well(&view, found, place));
            let well = addresses_of(&config, found.family, |place| is_well(&view, found, place));
            prop_assert!(well.is_empty() || answers_none(&config, &decision, &dead), "{:?} {:?}", dead, decision);
        }
    }

    #[test]
    fn frozen_answers_have_no_address_that_was_dead_and_none_that_an_operator_has_taken_out(
        (mut config, both, states) in a_case(),
        admin in [an_admin(), an_admin(), an_admin(), an_admin(), an_admin()],
    ) {
        let view = seen(&config.cluster, &both, &states);
        let before = decide(&config.cluster, &config.failover, &view, None);
        config.failover.quorum = Quorum::Majority;
        let frozen = cut_off(&config, &before, &admin[..states.len()]);
        for found in &view.families {
            let is_out = |place: usize| matches!(admin[place], Admin::Down | Admin::Drain);
            let is_dead = |place: usize| !is_well(&view, found, place) && admin[place] != Admin::Up;
            let well = addresses_of(&config, found.family, |place| {
                is_well(&view, found, place) && !is_out(place) && before.answers.by_node[place] == Some(place)
            });
            let dead = addresses_of(&config, found.family, |place| is_dead(place) || is_out(place));
            prop_assert!(well.is_empty() || answers_none(&config, &frozen, &dead), "{:?} {:?} {:?}", dead, before, frozen);
        }
    }

    #[test]
    fn a_node_answers_its_own_name_over_each_family_that_is_up((config, both, states) in a_case()) {
        let view = seen(&config.cluster, &both, &states);
        let decision = decide(&config.cluster, &config.failover, &view, None);
        for family_view in &view.families {
            for (place, node) in config.cluster.nodes.iter().enumerate() {
                let state = NodeState { serving: family_view.nodes[place], ..view.nodes[place] };
                if node.address(family_view.family).is_some() && state.effective() == Effective::Up {
                    prop_assert_eq!(decision.answers.node_in(family_view.family, place), Some(place));
                }
            }
        }
    }

    #[test]
    fn no_name_is_without_any_address((config, both, states) in a_case()) {
        let decision = decide(&config.cluster, &config.failover, &seen(&config.cluster, &both, &states), None);
        let zone = zone(&config, &decision);
        for (name, addresses) in zone.names() {
            prop_assert!(addresses.iter().next().is_some(), "{} {:?}", name, decision);
        }
    }

    #[test]
    fn families_that_fare_alike_are_decided_about_as_one((config, both, states) in a_case()) {
        let both: Vec<Both> = both.iter().map(|[ipv4, _]| [*ipv4; 2]).collect();
        let decision = decide(&config.cluster, &config.failover, &seen(&config.cluster, &both, &states), None);
        prop_assert!(decision.answers.families.are_alike());
    }
}

#[test]
fn a_node_without_probes_is_no_substitute_in_a_family_either() {
    let mut config = four_nodes();
    config.cluster.nodes[3].health.probes.clear();
    let decision = decided(&config, &[DEAD, NO_IPV6, DEAD, WELL], None);
    assert_eq!(answers(&config, &decision, "node1"), (vec![2], vec![1]));
    assert_eq!(answers(&config, &decision, "node4"), (vec![4], vec![4]));
}

#[test]
fn a_half_dead_node_that_an_operator_wants_up_substitutes_in_both_families_while_frozen() {
    let config = four_nodes();
    let before = decided(&config, &[WELL, NO_IPV6, WELL, WELL], None);
    let decision = cut_off(&config, &before, &[Admin::Down, Admin::Up, Admin::Down, Admin::Down]);
    assert_eq!(answers(&config, &decision, "node1"), (vec![2], vec![2]));
}
