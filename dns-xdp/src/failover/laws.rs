//! What holds for every cluster and every state of its nodes.
use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;

use super::tests::{config, node, rules, service};
use super::*;
use crate::cluster::{Node, Service};
use crate::config::{Config, Quorum as Needed};

fn admin() -> impl Strategy<Value = Admin> {
    prop_oneof![5 => Just(Admin::Auto), 1 => Just(Admin::Up), 1 => Just(Admin::Down), 1 => Just(Admin::Drain)]
}

fn state() -> impl Strategy<Value = NodeState> {
    let serving = prop_oneof![1 => Just(None), 4 => any::<bool>().prop_map(Some)];
    (serving, any::<bool>(), admin()).prop_map(|(serving, visible, admin)| NodeState {
        serving,
        visible,
        admin,
    })
}

fn names(count: usize, least: usize) -> impl Strategy<Value = Vec<String>> {
    let all: Vec<String> = (1..=count).map(|number| format!("node{number}")).collect();
    proptest::sample::subsequence(all, least..=count).prop_shuffle()
}

fn a_node(number: usize, count: usize) -> impl Strategy<Value = Node> {
    let families = prop_oneof![Just((true, false)), Just((false, true)), Just((true, true))];
    (families, names(count, 0)).prop_map(move |((ipv4, ipv6), mut backup)| {
        let node = node(number, ipv4, ipv6);
        backup.retain(|name| *name != node.name);
        Node { backup, ..node }
    })
}

fn a_cluster() -> impl Strategy<Value = Cluster> {
    (1usize..7).prop_flat_map(|count| {
        let nodes: Vec<_> = (1..=count).map(|number| a_node(number, count)).collect();
        let a_service = |name: &'static str| {
            names(count, 1).prop_map(move |nodes| Service { nodes, ..service(name, &[]) })
        };
        let services = (a_service("db"), proptest::option::of(a_service("@")));
        (nodes, services).prop_map(|(nodes, (db, apex))| Cluster {
            nodes,
            services: std::iter::once(db).chain(apex).collect(),
        })
    })
}

/// A cluster with three states of it, one after the other.
fn a_history() -> impl Strategy<Value = (Config, [Vec<NodeState>; 3])> {
    let all_down = prop_oneof![Just(AllDown::Configured), Just(AllDown::LastGood), Just(AllDown::Refused)];
    (a_cluster(), all_down).prop_flat_map(|(cluster, all_down)| {
        let states = || proptest::collection::vec(state(), cluster.nodes.len());
        let history = [states(), states(), states()];
        let needed = prop_oneof![Just(Needed::Majority), Just(Needed::Count(1))];
        (Just(cluster), needed, history).prop_map(move |(cluster, quorum, history)| {
            let mut config = config(cluster);
            config.failover = Failover { quorum, all_down, ..rules() };
            (config, history)
        })
    })
}

fn decisions(config: &Config, history: &[Vec<NodeState>]) -> Vec<Decision> {
    let mut decisions: Vec<Decision> = Vec::new();
    for states in history {
        decisions.push(decide(&config.cluster, &config.failover, states, 0, decisions.last()));
    }
    decisions
}

proptest! {
    #[test]
    fn no_answer_is_empty_unless_it_is_refused((config, history) in a_history()) {
        for decision in decisions(&config, &history) {
            let zone = zone(&config, &decision);
            for (name, addresses) in zone.names() {
                prop_assert_eq!(addresses.iter().next().is_none(), addresses.refused, "{}", name);
                prop_assert!(!addresses.refused || config.failover.all_down == AllDown::Refused, "{}", name);
            }
        }
    }

    #[test]
    fn no_name_answers_a_dead_address_while_a_node_is_up((config, history) in a_history()) {
        for decision in decisions(&config, &history) {
            if decision.frozen.is_some() || !decision.effective.contains(&Effective::Up) {
                continue;
            }
            let nodes = config.cluster.nodes.iter().zip(&decision.effective);
            let dead: BTreeSet<IpAddr> = nodes
                .filter(|(_, effective)| **effective != Effective::Up)
                .flat_map(|(node, _)| node.addresses())
                .collect();
            prop_assert!(!decision.fail_open);
            for (name, addresses) in zone(&config, &decision).names() {
                let found = addresses.iter().find(|address| dead.contains(address));
                prop_assert_eq!(found, None, "{}", name);
            }
        }
    }

    #[test]
    fn a_frozen_decision_changes_no_answer((config, history) in a_history()) {
        let mut before = Answers::configured(&config.cluster);
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
        if last.frozen.is_none() && last.effective.contains(&Effective::Up) {
            let fresh = decide(&config.cluster, &config.failover, &history[2], 0, None);
            prop_assert_eq!(last, &fresh);
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
