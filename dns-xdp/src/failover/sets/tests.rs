//! Tests of address sets, case by case.
use super::super::tests::{DRAINED, REFUSES, SILENT, UP, config, decided, give_set, node, service, suffix};
use super::super::{LastAnswers, healthy_zone, zone};
use super::*;
use crate::cluster::{AllDown, Node, Parts};
use crate::config::Config;
use crate::zone::Zone;
use hickory_proto::rr::Name;
use jiff::Timestamp;
use std::net::IpAddr;

/// Three nodes. The first two have internal addresses.
fn two_with_internal_addresses() -> Config {
    let mut nodes: Vec<Node> = (1..=3).map(|number| node(number, true, false)).collect();
    nodes[..2].iter_mut().for_each(|node| give_set(node, "internal", (true, false)));
    let services = vec![service("db", &["node1", "node3"]), service("far", &["node3"])];
    let suffixes = vec![suffix("internal", Some("internal")), suffix("also", None)];
    config(Cluster::of(Parts { nodes, services, suffixes }))
}

fn in_zone(zone: &Zone, name: &str) -> String {
    let name = Name::from_ascii(name).unwrap().append_domain(zone.apex()).unwrap();
    let addresses = zone.addresses(&name).unwrap_or_else(|| panic!("{name}"));
    let text = |address: IpAddr| {
        let text = address.to_string();
        text.replace("10.0.0.", "in").replace("192.0.2.", "out").replace("2001:db8:1::", "in6-")
    };
    if addresses.refused {
        "refused".to_owned()
    } else {
        addresses.iter().map(text).collect::<Vec<_>>().join(" ")
    }
}

fn told(config: &Config, decision: &Decision, names: &[&str]) -> Vec<String> {
    let zone = zone(config, decision);
    names.iter().map(|name| in_zone(&zone, name)).collect()
}

#[test]
fn every_name_is_repeated_with_the_addresses_of_the_set() {
    let config = two_with_internal_addresses();
    let decision = decided(&config, &[UP, UP, UP], None);
    let names =
        ["node1", "node1.internal", "node1.also", "ns2.internal", "internal", "", "also", "db.internal"];
    let expected = ["out1", "in1", "out1", "in2", "in1 in2", "out1 out2 out3", "out1 out2 out3", "in1"];
    assert_eq!(told(&config, &decision, &names), expected);
    assert_eq!(zone(&config, &decision), healthy_zone(&config));
}

#[test]
fn a_node_without_the_set_is_answered_like_a_dead_one() {
    let mut config = two_with_internal_addresses();
    config.cluster.nodes[2].backup = vec!["node2".to_owned()];
    let decision = decided(&config, &[UP, UP, UP], None);
    let names = ["node3", "node3.internal", "far", "far.internal"];
    assert_eq!(told(&config, &decision, &names), ["out3", "in2", "out3", "in2"]);
    assert_eq!(zone(&config, &decision), healthy_zone(&config));
    let decision = decided(&config, &[UP, REFUSES, UP], None);
    assert_eq!(told(&config, &decision, &names), ["out3", "in1", "out3", "in1"]);
}

#[test]
fn failover_stays_inside_the_set() {
    let config = two_with_internal_addresses();
    let names = ["node2", "node2.internal", "internal", "db.internal"];
    for out in [REFUSES, SILENT, DRAINED] {
        let decision = decided(&config, &[UP, out, UP], None);
        let [own, rest @ ..] = &told(&config, &decision, &names)[..] else { panic!() };
        assert!(["out1", "out3"].contains(&&**own), "{own}");
        assert_eq!(rest, ["in1", "in1", "in1"]);
    }
}

#[test]
fn a_set_without_a_node_that_is_up_fails_open_alone() {
    let mut config = two_with_internal_addresses();
    let names = ["node1", "node1.internal", "internal", "node3.internal"];
    let dead = [REFUSES, REFUSES, UP];
    let decision = decided(&config, &dead, None);
    let [own, ours, apex, lacking] = &told(&config, &decision, &names)[..] else { panic!() };
    assert_eq!([own, ours, apex], ["out3", "in1", "in1 in2"]);
    assert!(["in1", "in2"].contains(&&**lacking));
    assert!(!decision.fail_open);
    assert_eq!(decision.answers.sets["internal"].last_resort, Some(LastResort::AllDown));
    config.failover.all_down = AllDown::Refused;
    let decision = decided(&config, &dead, None);
    assert_eq!(told(&config, &decision, &names), ["out3", "refused", "refused", "refused"]);
    config.failover.all_down = AllDown::LastGood;
    let before = decided(&config, &[UP, REFUSES, UP], None);
    let decision = decided(&config, &dead, Some(&before));
    assert_eq!(told(&config, &decision, &names), ["out3", "in1", "in1", "in1"]);
}

#[test]
fn drained_and_held_nodes_of_a_set_answer_before_dead_ones() {
    let config = two_with_internal_addresses();
    let held = NodeState { held: true, ..UP };
    for (state, resort) in [(DRAINED, LastResort::Drained), (held, LastResort::Held)] {
        let decision = decided(&config, &[REFUSES, state, UP], None);
        assert_eq!(told(&config, &decision, &["node1.internal", "internal"]), ["in2", "in2"]);
        assert_eq!(decision.answers.sets["internal"].last_resort, Some(resort));
    }
}

#[test]
fn frozen_answers_of_a_set_stay_and_obey_the_operator() {
    let config = two_with_internal_addresses();
    let names = ["node1.internal", "node2.internal", "internal"];
    let before = decided(&config, &[UP, REFUSES, UP], None);
    let frozen = decided(&config, &[UP, SILENT, SILENT], Some(&before));
    assert!(frozen.frozen.is_some());
    assert_eq!(told(&config, &frozen, &names), ["in1", "in1", "in1"]);
    let wanted = NodeState { admin: Admin::Up, ..SILENT };
    let drained = NodeState { admin: Admin::Drain, ..UP };
    let obeyed = decided(&config, &[drained, wanted, SILENT], Some(&frozen));
    assert!(obeyed.frozen.is_some());
    assert_eq!(told(&config, &obeyed, &names), ["in2", "in2", "in2"]);
    let from_the_start = decided(&config, &[UP, SILENT, SILENT], None);
    assert_eq!(told(&config, &from_the_start, &["node2.internal", "internal"]), ["in2", "in1 in2"]);
}

#[test]
fn frozen_answers_follow_a_set_that_a_node_gets_or_loses() {
    let mut config = two_with_internal_addresses();
    let before = decided(&config, &[UP, UP, UP], None);
    config.cluster.nodes[1].sets.clear();
    give_set(&mut config.cluster.nodes[2], "internal", (true, false));
    let frozen = decided(&config, &[UP, SILENT, SILENT], Some(&before));
    assert!(frozen.frozen.is_some());
    let [first, second, _, apex] =
        &told(&config, &frozen, &["node1.internal", "node2.internal", "node3.internal", "internal"])[..]
    else {
        panic!()
    };
    assert_eq!([&**first, &**apex], ["in1", "in1"]);
    assert!(second.starts_with("in") && second != "in2", "{second}");
}

#[test]
fn the_answers_of_the_sets_are_kept_over_a_restart() {
    let config = two_with_internal_addresses();
    let decision = decided(&config, &[UP, REFUSES, UP], None);
    let kept = LastAnswers::new(&decision.answers, Timestamp::UNIX_EPOCH);
    let text = serde_json::to_string(&kept).unwrap();
    let read: LastAnswers = serde_json::from_str(&text).unwrap();
    assert_eq!(read.answers(&config.cluster), *decision.answers);
    // A file of a version that knows no sets, or of a configuration without them: the dead node 2 stays out.
    let old = LastAnswers { sets: BTreeMap::new(), ..kept };
    let answers = old.answers(&config.cluster);
    assert_eq!(answers.set("internal").unwrap().by_node, decision.answers.set("internal").unwrap().by_node);
    assert_eq!(answers.set("internal").unwrap().service("@"), Some(&[0][..]));
}

#[test]
fn a_set_that_comes_while_the_answers_are_frozen_answers_no_node_that_was_out() {
    let with = two_with_internal_addresses();
    let mut without = two_with_internal_addresses();
    without.cluster = Cluster::of(Parts { suffixes: Vec::new(), ..without.cluster.into_parts() });
    let before = decided(&without, &[UP, REFUSES, UP], None);
    let frozen = decided(&with, &[UP, SILENT, SILENT], Some(&before));
    assert!(frozen.frozen.is_some());
    let names = ["node2", "node2.internal", "internal", "db.internal"];
    let told = told(&with, &frozen, &names);
    assert_eq!(told[1..], ["in1", "in1", "in1"]);
    assert_ne!(told[0], "out2");
}

#[test]
fn an_unchanged_set_shares_its_answers_with_the_decision_before() {
    let config = two_with_internal_addresses();
    let first = decided(&config, &[UP, UP, UP], None);
    let second = decided(&config, &[UP, UP, REFUSES], Some(&first));
    let set = |decision: &Decision| Arc::clone(&decision.answers.sets["internal"].answers);
    assert!(Arc::ptr_eq(&set(&first), &set(&second)) && first.answers != second.answers);
}

#[test]
fn a_family_of_a_set_follows_the_health_of_that_family() {
    use super::super::FamilyView;
    use crate::cluster::Family;
    let mut nodes: Vec<Node> = (1..=3).map(|number| node(number, true, true)).collect();
    nodes.iter_mut().for_each(|node| give_set(node, "internal", (true, true)));
    let suffixes = vec![suffix("internal", Some("internal"))];
    let config = config(Cluster::of(Parts { nodes, services: Vec::new(), suffixes }));
    let over = |family, first: bool| FamilyView {
        family,
        nodes: vec![Some(first), Some(true), Some(true)],
        members: BTreeMap::new(),
    };
    let view = View {
        nodes: vec![UP; 3],
        families: vec![over(Family::Ipv4, true), over(Family::Ipv6, false)],
        ..View::default()
    };
    let decision = decide(&config.cluster, &config.failover, &view, None);
    let found = &told(&config, &decision, &["node1.internal", "internal"]);
    assert!(["in1 in6-2", "in1 in6-3"].contains(&&*found[0]), "{found:?}");
    assert_eq!(found[1], "in1 in2 in3 in6-2 in6-3");
}
