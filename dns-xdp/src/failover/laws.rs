//! Properties of decisions for every cluster and every state of its nodes.
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::Name;
use proptest::prelude::*;

use super::tests::{config, give_set, node, rules, service, suffix};
use super::zone::owner;
use super::*;
use crate::cluster::{AllDown, Node, Order, Parts, Service};
use crate::config::{Config, Quorum as Needed};

fn admin() -> impl Strategy<Value = Admin> {
    prop_oneof![5 => Just(Admin::Auto), 1 => Just(Admin::Up), 1 => Just(Admin::Down), 1 => Just(Admin::Drain)]
}

fn state() -> impl Strategy<Value = NodeState> {
    let serving = prop_oneof![1 => Just(None), 4 => any::<bool>().prop_map(Some)];
    let held = prop_oneof![4 => Just(false), 1 => Just(true)];
    (serving, any::<bool>(), admin(), proptest::option::of(0..9u32), held).prop_map(
        |(serving, visible, admin, seconds_left, held)| NodeState {
            serving,
            visible,
            admin,
            seconds_left,
            held,
        },
    )
}

fn names(count: usize, least: usize) -> impl Strategy<Value = Vec<String>> {
    let all: Vec<String> = (1..=count).map(|number| format!("node{number}")).collect();
    proptest::sample::subsequence(all, least..=count).prop_shuffle()
}

fn all_down() -> impl Strategy<Value = AllDown> {
    prop_oneof![
        Just(AllDown::Configured),
        Just(AllDown::LastGood),
        Just(AllDown::Nodata),
        Just(AllDown::Refused)
    ]
}

/// The first node has every role, as one node has to.
fn a_node(number: usize, count: usize) -> impl Strategy<Value = Node> {
    let families = prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))];
    let role = || prop_oneof![3 => Just(true), 1 => Just(number == 1)];
    let roles = (role(), role(), role(), role());
    (families, names(count, 0), roles).prop_map(move |((ipv4, ipv6), mut backup, roles)| {
        let (is_server, is_voter, is_in_apex, is_probed) = roles;
        let mut node = node(number, ipv4, ipv6);
        backup.retain(|name| *name != node.name);
        node.ns.take_if(|_| !is_server);
        if !is_probed {
            node.health.probes.clear();
        }
        Node { backup, is_voter: is_voter && is_probed, is_in_apex, ..node }
    })
}

fn a_cluster() -> impl Strategy<Value = Cluster> {
    (1usize..7).prop_flat_map(|count| {
        let nodes: Vec<_> = (1..=count).map(|number| a_node(number, count)).collect();
        let a_service = |name: &'static str| {
            let order = prop_oneof![2 => Just(Order::Rotate), 1 => Just(Order::First)];
            let own = proptest::option::weighted(0.4, all_down());
            (names(count, 1), names(count, 0), any::<bool>(), order, own).prop_map(
                move |(nodes, mut backup, apart, order, all_down)| {
                    backup.retain(|name| !nodes.contains(name));
                    let health = apart.then(|| node(1, true, false).health);
                    Service { nodes, backup, health, order, all_down, ..service(name, &[]) }
                },
            )
        };
        let services = (a_service("db"), proptest::option::of(a_service("@")));
        let sets = proptest::option::of(proptest::collection::vec(a_set(), count));
        (nodes, services, sets).prop_map(|(mut nodes, (db, apex), sets)| {
            let mut suffixes = Vec::new();
            for (number, (node, set)) in (1..).zip(nodes.iter_mut().zip(sets.into_iter().flatten())) {
                suffixes = vec![suffix("internal", Some("internal")), suffix("also", None)];
                // The first node is probed, and a suffix needs a node that is.
                let set = set.unwrap_or((number == 1, false));
                give_set(node, "internal", set);
            }
            Cluster::of(Parts { nodes, services: std::iter::once(db).chain(apex).collect(), suffixes })
        })
    })
}

/// The families of a node in an address set; `None`: the node lacks the set.
fn a_set() -> impl Strategy<Value = Option<(bool, bool)>> {
    let families = prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))];
    proptest::option::weighted(0.7, families)
}

/// The nodes with an address set, or the nodes with their own addresses, by the name of the suffix; `None`: the apex.
fn part<'c>(config: &'c Config, name: &Name) -> &'c Cluster {
    let suffix = config.cluster.suffixes.iter().find(|suffix| suffix.name.zone_of(name));
    let part = suffix.and_then(|suffix| config.cluster.address_set(suffix.set.as_ref()?));
    part.map_or(&config.cluster, |part| part.cluster())
}

/// The names of a service, in the zone and under the suffixes.
fn names_of(config: &Config, service: &Service) -> Vec<Name> {
    let suffixes = config.cluster.suffixes.iter().map(|suffix| &suffix.name);
    let origins = std::iter::once(&config.zone.apex).chain(suffixes);
    origins.map(|origin| owner(&service.name, origin)).collect()
}

fn a_view(count: usize, apart: &[(String, usize)]) -> impl Strategy<Value = View> + use<> {
    let members = apart.iter().map(|(name, count)| {
        let member = state()
            .prop_map(|state| MemberState { serving: state.serving, seconds_left: state.seconds_left });
        (Just(name.clone()), proptest::collection::vec(member, *count))
    });
    let members: Vec<_> = members.collect();
    (proptest::collection::vec(state(), count), members).prop_map(|(nodes, members)| View {
        nodes,
        members: members.into_iter().collect(),
        ..View::default()
    })
}

/// A cluster with three successive views of it.
fn a_history() -> impl Strategy<Value = (Config, [View; 3])> {
    (a_cluster(), all_down()).prop_flat_map(|(cluster, all_down)| {
        let apart = cluster.services.iter().filter(|service| service.health.is_some());
        let apart: Vec<_> =
            apart.map(|service| (service.name.clone(), service.candidates().count())).collect();
        let count = cluster.nodes.len();
        let views = || a_view(count, &apart);
        let history = [views(), views(), views()];
        let needed = prop_oneof![Just(Needed::Majority), Just(Needed::Count(1))];
        (Just(cluster), needed, history).prop_map(move |(cluster, quorum, mut history)| {
            for view in &mut history {
                let unprobed =
                    view.nodes.iter_mut().zip(&cluster.nodes).filter(|(_, node)| !node.is_probed());
                unprobed.for_each(|(state, _)| *state = NodeState { admin: state.admin, ..UNPROBED });
            }
            let mut config = config(cluster);
            config.failover = Failover { quorum, all_down, ..rules() };
            (config, history)
        })
    })
}

/// The state of a node without probes.
const UNPROBED: NodeState =
    NodeState { serving: Some(true), visible: false, admin: Admin::Auto, seconds_left: None, held: false };

/// Whether a node that is probed is up.
fn one_is_up(config: &Config, decision: &Decision) -> bool {
    let mut nodes = config.cluster.nodes.iter().zip(&decision.effective);
    nodes.any(|(node, effective)| node.is_probed() && *effective == Effective::Up)
}

fn decisions(config: &Config, history: &[View]) -> Vec<Decision> {
    let mut decisions: Vec<Decision> = Vec::new();
    for view in history {
        decisions.push(decide(&config.cluster, &config.failover, view, decisions.last()));
    }
    decisions
}

proptest! {
    #[test]
    fn no_answer_is_empty_unless_it_is_refused((config, history) in a_history()) {
        for decision in decisions(&config, &history) {
            let zone = zone(&config, &decision);
            for (name, addresses) in zone.names() {
                let own = config.cluster.services.iter().find(|service| names_of(&config, service).contains(name));
                let rule = own.and_then(|service| service.all_down).unwrap_or(config.failover.all_down);
                let is_empty = addresses.iter().next().is_none();
                prop_assert!(!is_empty || matches!(rule, AllDown::Nodata | AllDown::Refused), "{}", name);
                prop_assert_eq!(addresses.refused, is_empty && rule == AllDown::Refused, "{}", name);
            }
        }
    }

    #[test]
    fn no_name_answers_a_dead_address_while_a_node_is_up((config, history) in a_history()) {
        for decision in decisions(&config, &history) {
            if decision.frozen.is_some() || !one_is_up(&config, &decision) {
                continue;
            }
            let nodes = config.cluster.nodes.iter().zip(&decision.effective);
            let dead: BTreeSet<IpAddr> = nodes
                .filter(|(_, effective)| **effective != Effective::Up)
                .flat_map(|(node, _)| node.all_addresses())
                .collect();
            prop_assert!(!decision.fail_open);
            let looks_back = |service: &&Service| service.health.is_some() || service.all_down == Some(AllDown::LastGood);
            let apart = config.cluster.services.iter().filter(looks_back);
            let apart: BTreeSet<Name> = apart.flat_map(|service| names_of(&config, service)).collect();
            let zone = zone(&config, &decision);
            // While no node with the set is up, the names of the set fail open.
            let has_one_up = |name: &Name| {
                let mut nodes = part(&config, name).nodes.iter().zip(&decision.effective);
                nodes.any(|(node, effective)| node.is_probed() && node.has_address() && *effective == Effective::Up)
            };
            for (name, addresses) in zone.names().filter(|(name, _)| !apart.contains(name) && has_one_up(name)) {
                let found = addresses.iter().find(|address| dead.contains(address));
                prop_assert_eq!(found, None, "{}", name);
            }
        }
    }

    #[test]
    fn a_name_answers_addresses_of_its_own_set_alone((config, history) in a_history()) {
        for decision in decisions(&config, &history) {
            for (name, addresses) in zone(&config, &decision).names() {
                let of_set: BTreeSet<IpAddr> = part(&config, name).nodes.iter().flat_map(|node| node.addresses()).collect();
                let strange = addresses.iter().find(|address| !of_set.contains(address));
                prop_assert_eq!(strange, None, "{}", name);
            }
        }
    }

    #[test]
    fn the_configured_answers_are_those_of_healthy_nodes((config, history) in a_history()) {
        let up = |state: &NodeState| NodeState { serving: Some(true), admin: Admin::Auto, held: false, seconds_left: None, ..*state };
        let [mut view, ..] = history;
        view.nodes = view.nodes.iter().map(up).collect();
        for state in view.members.values_mut().flatten() {
            *state = MemberState { serving: Some(true), seconds_left: None };
        }
        let rules = Failover { quorum: Needed::Count(0), ..config.failover.clone() };
        let decision = decide(&config.cluster, &rules, &view, None);
        prop_assert_eq!(&*decision.answers, &Answers::configured(&config.cluster));
    }

    #[test]
    fn a_service_with_probes_of_its_own_answers_members_that_pass_them_if_any_does((config, history) in a_history()) {
        for (view, decision) in history.iter().zip(decisions(&config, &history)) {
            if decision.frozen.is_some() {
                continue;
            }
            for service in config.cluster.services.iter().filter(|service| service.health.is_some()) {
                let place = |name: &String| config.cluster.nodes.iter().position(|node| node.name == *name).unwrap();
                let passing: Vec<usize> = service
                    .nodes
                    .iter()
                    .zip(&view.members[&service.name])
                    .map(|(name, member)| (place(name), member))
                    .filter(|(node, member)| view.nodes[*node].as_member(member).proven())
                    .map(|(node, _)| node)
                    .collect();
                let count = if service.order == Order::First { 1 } else { passing.len() };
                let passing = &passing[..count.min(passing.len())];
                if !passing.is_empty() {
                    prop_assert_eq!(decision.answers.service(&service.name), Some(passing));
                }
            }
        }
    }

    #[test]
    fn a_frozen_decision_changes_no_answer_by_itself((config, history) in a_history()) {
        let by_itself = |mut view: View| {
            view.nodes.iter_mut().for_each(|state| state.admin = Admin::Auto);
            view
        };
        let history = history.map(by_itself);
        let mut before = Arc::new(Answers::configured(&config.cluster));
        for decision in decisions(&config, &history) {
            if decision.frozen.is_some() {
                prop_assert_eq!(&decision.answers, &before);
            }
            before = decision.answers;
        }
    }

    #[test]
    fn the_history_does_not_matter_while_a_node_is_up((config, history) in a_history()) {
        let decisions = decisions(&config, &history);
        let last = decisions.last().unwrap();
        let rules = config.cluster.services.iter().filter_map(|service| service.all_down);
        let looks_back = rules.chain([config.failover.all_down]).any(|rule| rule == AllDown::LastGood);
        if last.frozen.is_none() && one_is_up(&config, last) && !looks_back {
            let fresh = decide(&config.cluster, &config.failover, &history[2], None);
            prop_assert_eq!(last, &fresh);
        }
    }

    #[test]
    fn a_service_answers_its_first_member_alone_and_others_only_while_none_is_healthy((config, history) in a_history()) {
        for (view, decision) in history.iter().zip(decisions(&config, &history)) {
            for service in &config.cluster.services {
                let answering = decision.answers.service(&service.name).unwrap();
                prop_assert!(service.order == Order::Rotate || answering.len() <= 1, "{:?}", decision);
                let is_strange = |place: &&usize| !service.nodes.contains(&config.cluster.nodes[**place].name);
                let Some(&stranger) = answering.iter().find(is_strange) else { continue };
                if decision.frozen.is_some() || !one_is_up(&config, &decision) {
                    continue;
                }
                let place = |name: &String| config.cluster.nodes.iter().position(|node| node.name == *name).unwrap();
                let passes = |(at, name): (usize, &String)| match view.members.get(&service.name) {
                    Some(apart) => view.nodes[place(name)].as_member(&apart[at]).proven(),
                    None => view.nodes[place(name)].proven(),
                };
                prop_assert!(!service.nodes.iter().enumerate().any(passes), "{} answers {}", service.name, stranger);
            }
        }
    }

    #[test]
    fn a_held_node_answers_while_no_node_is_up_and_another_time_never((config, history) in a_history()) {
        for (view, decision) in history.iter().zip(decisions(&config, &history)) {
            let held: Vec<usize> = (0..view.nodes.len()).filter(|&node| decision.effective[node] == Effective::Held).collect();
            if held.is_empty() || decision.frozen.is_some() {
                continue;
            }
            let one_is_up = one_is_up(&config, &decision);
            let by_node = &decision.answers.by_node;
            let answered = held.iter().any(|node| by_node.contains(&Some(*node)));
            prop_assert_eq!(answered, !one_is_up);
            prop_assert_eq!((decision.held, decision.drained, decision.fail_open), (!one_is_up, false, false));
            let mut members = decision.answers.services().flat_map(|(_, nodes)| nodes);
            prop_assert!(!one_is_up || !members.any(|node| held.contains(node)));
        }
    }

    #[test]
    fn a_node_that_is_up_answers_for_itself((config, history) in a_history()) {
        for decision in decisions(&config, &history).iter().filter(|decision| decision.frozen.is_none()) {
            for (index, effective) in decision.effective.iter().enumerate() {
                if *effective == Effective::Up {
                    prop_assert_eq!(decision.answers.by_node[index], Some(index));
                }
            }
        }
    }
}
