//! Decisions about nodes of which one family is dead, case by case, and what holds for all of them.
use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::Name;
use proptest::prelude::*;

use super::super::tests::{config, node, rules, service, view};
use super::super::zone::zone;
use super::*;
use crate::cluster::{Admin, AllDown};
use crate::config::Config;
use crate::failover::LastAnswers;
use crate::zone::Zone;

const UP: NodeState =
    NodeState { serving: Some(true), visible: true, admin: Admin::Auto, seconds_left: None, held: false };

/// What the probes say of a node over IPv4 and over IPv6.
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

/// A view in which each node is as its families are; a node of one family is as that one.
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
    assert!(!decision.fail_open && decision.answers.families.of(Family::Ipv6).all_down);
    assert!(!decision.answers.families.of(Family::Ipv4).all_down);
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

fn a_case() -> impl Strategy<Value = (Config, Vec<Both>, Vec<NodeState>)> {
    let families = prop_oneof![4 => Just((true, true)), 1 => Just((true, false)), 1 => Just((false, true))];
    let serving = || prop_oneof![1 => Just(None), 3 => Just(Some(true)), 2 => Just(Some(false))];
    let admin = prop_oneof![6 => Just(Admin::Auto), 1 => Just(Admin::Down), 1 => Just(Admin::Drain), 1 => Just(Admin::Up)];
    let one = (families, [serving(), serving()], admin, any::<bool>());
    let all_down = prop_oneof![Just(AllDown::Configured), Just(AllDown::LastGood)];
    (proptest::collection::vec(one, 2..6), all_down).prop_map(|(all, all_down)| {
        let nodes = (1..).zip(&all).map(|(number, ((ipv4, ipv6), ..))| node(number, *ipv4, *ipv6));
        let db = service("db", &["node1", "node2"]);
        let mut config = config(Cluster::new(nodes.collect(), vec![db]));
        config.failover = Failover { quorum: Quorum::Count(0), all_down, ..rules() };
        let states = all.iter().map(|(.., admin, _)| NodeState { admin: *admin, ..UP }).collect();
        (config, all.iter().map(|(_, both, ..)| *both).collect(), states)
    })
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
