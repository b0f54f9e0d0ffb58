//! Tests from observations to decisions, and functions that make states for other tests.
use std::net::IpAddr;
use std::path::Path;

use super::super::shared_view::tests::said;
use super::*;
use crate::failover::Effective;
use crate::health::Failure;
use crate::store::client::Mode;
use hickory_proto::rr::Name;

pub(in crate::controller) const TEXT: &str = r#"# three nodes
[zone]
name = "demo.example.com"
[listen]
interfaces = ["eth0"]
[[node]]
name = "node1"
ipv4 = "192.0.2.11"
[[node]]
name = "node2"
ipv4 = "192.0.2.12"
backup = ["node3"]
[[node]]
name = "node3"
ipv4 = "192.0.2.13"
[[service]]
name = "db"
nodes = ["node1", "node2"]
"#;

/// [`TEXT`], with internal addresses of the first two nodes, a suffix with them, and a suffix that is a zone of its own.
pub(in crate::controller) fn with_suffixes() -> String {
    let set = |last: u8| format!("[node.addresses.internal]\nipv4 = \"10.0.0.{last}\"\n");
    let text = TEXT.replace("192.0.2.11\"\n", &format!("192.0.2.11\"\n{}", set(11)));
    let text = text.replace("backup = [\"node3\"]\n", &format!("backup = [\"node3\"]\n{}", set(12)));
    text + "[[suffix]]\nname = \"internal\"\naddresses = \"internal\"\n[[suffix]]\nname = \"demo.corp.test.\"\n"
}

pub(in crate::controller) fn config(text: &str) -> Config {
    Config::parse(text, Path::new("/etc/dns-xdp/dns-xdp.toml")).unwrap()
}

/// A decided state with every node up.
pub(in crate::controller) fn healthy(text: &str) -> State {
    let mut state = State::new(config(text), &Intents::new());
    let nodes: Vec<String> = state.config.cluster.nodes.iter().map(|node| node.name.clone()).collect();
    for node in nodes {
        observe(&mut state, &node, true);
    }
    state.decide();
    state
}

pub(in crate::controller) fn probe(node: &str) -> ProbeId {
    ProbeId::first(Subject::Node(node.to_owned()))
}

pub(in crate::controller) fn observe(state: &mut State, node: &str, success: bool) -> Change {
    let observation = if success {
        Observation::Success { round_trip: Duration::from_millis(1) }
    } else {
        Observation::Failure(Failure { reason: "refused".to_owned(), visible: true })
    };
    state.observe(&probe(node), Duration::from_secs(7), &observation).unwrap()
}

pub(in crate::controller) fn kill(state: &mut State, node: &str) {
    for _ in 0..3 {
        observe(state, node, false);
    }
    state.decide();
}

/// Sets the intent of one more node, and decides.
pub(in crate::controller) fn set_intent(state: &mut State, node: &str, admin: Admin) {
    let mut intents = state.intents.clone();
    intents.insert(node.to_owned(), Intent::new(admin, jiff::Timestamp::UNIX_EPOCH));
    state.set_intents(intents);
    state.decide();
}

pub(in crate::controller) fn addresses(state: &State, name: &str) -> Vec<IpAddr> {
    let name = Name::from_ascii(name).unwrap().append_domain(&state.config.zone.apex).unwrap();
    state.zone().unwrap().addresses(&name).unwrap().iter().collect()
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

#[test]
fn a_round_is_complete_when_everyone_was_heard_even_if_we_cannot_probe() {
    let mut state = State::new(config(TEXT), &Intents::new());
    observe(&mut state, "node1", true);
    observe(&mut state, "node2", false);
    assert!(!state.round_complete());
    let sick = Observation::Inconclusive { reason: "too many open files".to_owned() };
    state.observe(&probe("node3"), Duration::ZERO, &sick);
    assert!(state.round_complete());
}

#[test]
fn a_blind_server_judges_no_node() {
    let mut state = healthy(TEXT);
    state.clock_guard().pulse(Duration::ZERO);
    assert!(state.clock_guard().pulse(Duration::from_secs(10)));
    for _round in 0..health::CLEAN_ROUNDS {
        for node in ["node1", "node2", "node3"] {
            assert!(state.blind().is_some());
            assert_eq!(observe(&mut state, node, false), Change::default());
        }
    }
    assert_eq!(state.blind(), None);
    assert!(observe(&mut state, "node2", false).transition.is_some());
}

#[test]
fn turning_alone_moves_no_answer_before_there_is_a_result_of_its_own() {
    let five: String = (4..=5)
        .map(|node| format!("[[node]]\nname = \"node{node}\"\nipv4 = \"192.0.2.1{node}\"\n"))
        .collect();
    let text = format!("{TEXT}{five}[cluster]\nstore = \"file\"\n[failover]\nprobers = 1\n");
    let (up, unreachable): (&[&str], &[&str]) = (&["node1", "node2"], &["node3", "node4", "node5"]);
    let by_all = [[up, &[], unreachable], [up, &[], unreachable], [&[], &[], unreachable]];
    let mut state = State::new(config(&text), &Intents::new());
    state.set_peer_view(said(Mode::Joined, by_all));
    let probed = state.targets().len();
    observe(&mut state, "node1", true);
    state.decide();
    let joined = state.decision().unwrap().clone();
    assert_eq!((joined.frozen.as_deref(), joined.quorum.visible), (None, 2));
    state.set_peer_view(said(Mode::Alone, by_all));
    assert!(probed < 5 && state.targets().len() == 5);
    state.decide();
    let alone = state.decision().unwrap().clone();
    let quorum = (alone.quorum.visible, alone.quorum.ok);
    assert_eq!((&alone.answers, quorum), (&joined.answers, (1, false)), "it has seen node1 alone");
    assert_eq!(alone.effective, joined.effective);
    for node in ["node2", "node3", "node4"] {
        observe(&mut state, node, true);
    }
    state.decide();
    let seeing = state.decision().unwrap();
    let (up, down) = (Effective::Up, Effective::Down);
    assert_eq!((&*seeing.effective, seeing.quorum.ok), ([up, up, up, up, down].as_slice(), true));
}

#[test]
fn a_node_that_was_added_is_not_out_because_another_one_was_at_its_place() {
    let mut state = healthy(TEXT);
    kill(&mut state, "node2");
    state.set_peer_view(said(Mode::Joined, [[&["node1", "node3"], &["node2"], &[]]; 3]));
    state.decide();
    let node4 = "[[node]]\nname = \"node4\"\nipv4 = \"192.0.2.14\"\n";
    let text = TEXT.replace("[[node]]\nname = \"node2\"", &format!("{node4}[[node]]\nname = \"node2\""));
    state.adopt(config(&text));
    state.decide();
    assert_eq!(state.decision().unwrap().effective[1], Effective::Up);
    assert_eq!(addresses(&state, "node2"), [ip(13)]);
}

#[test]
fn only_what_a_decision_looks_at_is_decisive() {
    let mut state = healthy(TEXT);
    let suspect = observe(&mut state, "node2", false);
    assert_eq!(suspect.transition, Some(Transition { from: Health::Up, to: Health::Suspect }));
    assert!(suspect.decisive, "its TTL is to shrink");
    assert!(!observe(&mut state, "node2", false).decisive);
    assert!(observe(&mut state, "node2", false).decisive);
}

#[test]
fn a_dead_node_is_answered_for_and_a_changed_one_begins_anew() {
    let mut state = healthy(TEXT);
    kill(&mut state, "node2");
    assert_eq!(addresses(&state, "node2"), [ip(13)]);
    state.adopt(config(&TEXT.replace("192.0.2.12", "192.0.2.99")));
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(99)]);
    let health = |index: usize| state.node(&state.config.cluster.nodes[index]).health;
    assert_eq!([0, 1].map(health), [Health::Up, Health::Unknown]);
    assert!(!state.round_complete());
}

#[test]
fn an_unchanged_node_keeps_its_verdict_over_a_reload() {
    let mut state = healthy(TEXT);
    kill(&mut state, "node2");
    state.adopt(config(&TEXT.replace("[listen]", "ttl = \"9s\"\n[listen]")));
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(13)]);
}

#[test]
fn a_reload_of_the_probes_begins_with_what_is_known() {
    for changed in ["[health]\ninterval = \"3s\"", "[health]\nport = 7000", "[health]\nprobe = \"icmp\""] {
        let mut state = healthy(TEXT);
        kill(&mut state, "node2");
        state.adopt(config(&format!("{TEXT}{changed}\n")));
        state.decide();
        assert_eq!(addresses(&state, "node2"), [ip(13)], "{changed}: a dead node does not come back");
        let lost = observe(&mut state, "node3", false);
        let suspect = Transition { from: Health::Up, to: Health::Suspect };
        assert_eq!(lost.transition, Some(suspect), "{changed}: one lost probe takes no node out");
        assert!(state.round_complete());
    }
}

#[test]
fn a_server_that_turns_alone_does_not_count_those_that_it_has_never_seen() {
    let more: String = (4..=9)
        .map(|node| format!("[[node]]\nname = \"node{node}\"\nipv4 = \"192.0.2.1{node}\"\n"))
        .collect();
    let text = format!("{TEXT}{more}[cluster]\nstore = \"file\"\n[failover]\nprobers = 1\n");
    let all = ["node1", "node2", "node3", "node4", "node5", "node6", "node7", "node8", "node9"];
    let up: &[&str] = &all;
    let mut state = State::new(config(&text), &Intents::new());
    state.set_peer_view(said(Mode::Joined, [[up, &[], &[]]; 3]));
    let own: Vec<String> = state.targets().keys().map(|probe| probe.subject.to_string()).collect();
    for node in &own {
        observe(&mut state, node, true);
    }
    state.decide();
    let joined = state.decision().unwrap().answers.clone();
    // The server's own network is cut: the nodes that it has probed fall by its own verdict.
    state.set_peer_view(said(Mode::Alone, [[up, &[], &[]]; 3]));
    let silent = Observation::Failure(Failure { reason: "timeout".to_owned(), visible: false });
    for node in own.iter().flat_map(|node| [node; 3]) {
        state.observe(&probe(node), Duration::from_secs(7), &silent);
    }
    state.decide();
    let alone = state.decision().unwrap();
    assert_eq!((&alone.answers, alone.quorum.visible), (&joined, 0));
}

#[test]
fn a_node_that_was_added_answers_only_its_own_name() {
    let mut state = healthy(TEXT);
    kill(&mut state, "node2");
    state.adopt(config(&format!("{TEXT}[[node]]\nname = \"node4\"\nipv4 = \"192.0.2.14\"\n")));
    state.decide();
    assert_eq!(addresses(&state, "node4"), [ip(14)]);
    assert_eq!(state.decision().unwrap().quorum.visible, 4, "the new node has not been silent yet");
    assert_eq!(addresses(&state, ""), [ip(11), ip(13)]);
}

#[test]
fn the_operator_is_obeyed_at_the_next_decision() {
    let mut state = healthy(TEXT);
    set_intent(&mut state, "node2", Admin::Drain);
    assert_eq!(addresses(&state, "node2"), [ip(13)]);
    assert_eq!(state.decision().unwrap().effective[1], Effective::Drain);
    assert_eq!(state.node(&state.config.cluster.nodes[1]).health, Health::Up);
}

/// A configuration that also gives every node an IPv6 address. Each node is probed at both addresses.
pub(in crate::controller) fn dual() -> String {
    (11..=13).fold(TEXT.to_owned(), |text, last| {
        let ipv4 = format!("ipv4 = \"192.0.2.{last}\"\n");
        text.replace(&ipv4, &format!("{ipv4}ipv6 = \"2001:db8::{last}\"\n"))
    })
}

pub(in crate::controller) fn heard(state: &mut State, node: &str, family: Family, success: bool) -> Change {
    let probe = ProbeId { family: Some(family), ..probe(node) };
    let observation = if success {
        Observation::Success { round_trip: Duration::from_millis(1) }
    } else {
        Observation::Failure(Failure { reason: "timed out".to_owned(), visible: false })
    };
    state.observe(&probe, Duration::from_secs(7), &observation).unwrap()
}

/// Three healthy nodes of both families.
pub(in crate::controller) fn well(text: &str) -> State {
    let mut state = State::new(config(text), &Intents::new());
    for node in ["node1", "node2", "node3"] {
        for family in Family::ALL {
            heard(&mut state, node, family, true);
        }
    }
    state.decide();
    state
}

fn ipv6(last: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])
}

#[test]
fn each_family_of_a_node_has_its_own_health_and_moves_its_own_rrset() {
    let mut state = well(&dual());
    assert_eq!(addresses(&state, "node2"), [ip(12), ipv6(0x12)]);
    for failures in 1..=3 {
        let change = heard(&mut state, "node2", Family::Ipv6, false);
        assert_eq!(change.transition, None, "the node is up");
        assert_eq!(change.families.len(), usize::from(failures != 2), "{change:?}");
    }
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(12), ipv6(0x13)]);
    assert!(state.view().nodes[1].visible);
    let node2 = &state.config.cluster.nodes[1].clone();
    let Counted { health, reason, .. } = state.health_that_counts(node2);
    assert_eq!((health, reason.as_deref()), (Health::Down, Some("ipv6: timed out")));
    let over = |family| state.family_that_counts(node2, family).unwrap().health;
    assert_eq!(Family::ALL.map(over), [Health::Up, Health::Down]);
    for _ in 0..3 {
        heard(&mut state, "node2", Family::Ipv4, false);
    }
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(13), ipv6(0x13)], "one substitute for both");
    assert!(!state.view().nodes[1].visible);
    for family in Family::ALL {
        for _ in 0..2 {
            heard(&mut state, "node2", family, true);
        }
    }
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(12), ipv6(0x12)]);
}

#[test]
fn with_any_both_rrsets_stay_while_one_family_is_healthy() {
    let mut state = well(&format!("{}[health]\nfamilies = \"any\"\n", dual()));
    for _ in 0..3 {
        heard(&mut state, "node2", Family::Ipv6, false);
    }
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(12), ipv6(0x12)]);
    let node2 = &state.config.cluster.nodes[1].clone();
    assert_eq!(state.health_that_counts(node2).health, Health::Up);
    assert_eq!(state.family_that_counts(node2, Family::Ipv6).unwrap().health, Health::Down);
    for _ in 0..3 {
        heard(&mut state, "node2", Family::Ipv4, false);
    }
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(13), ipv6(0x13)]);
}

#[test]
fn a_server_says_what_it_finds_of_ipv6_where_that_is_something_else() {
    let mut state = well(&dual());
    let text = |state: &State| serde_json::to_string(&state.own_verdicts()).unwrap();
    assert_eq!(text(&state), r#"{"up":["node1","node2","node3"]}"#);
    for _ in 0..3 {
        heard(&mut state, "node2", Family::Ipv6, false);
    }
    assert_eq!(text(&state), r#"{"up":["node1","node2","node3"],"gone":["node2 ipv6"]}"#);
    for _ in 0..3 {
        heard(&mut state, "node2", Family::Ipv4, false);
    }
    assert_eq!(text(&state), r#"{"up":["node1","node3"],"gone":["node2"]}"#);
}

#[test]
fn servers_that_share_a_store_agree_on_each_family() {
    let mut state = well(&dual());
    let up: &[&str] = &["node1", "node2", "node3"];
    let unreachable: &[&str] = &["node2 ipv6"];
    state.set_peer_view(said(Mode::Joined, [[up, &[], &[]], [up, &[], unreachable], [up, &[], unreachable]]));
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(12), ipv6(0x13)]);
    let older = [up, &[], &[]];
    state.set_peer_view(said(Mode::Joined, [[up, &[], &[]], older, [up, &[], unreachable]]));
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(12), ipv6(0x12)], "one server alone");
}

#[test]
fn a_family_that_was_out_stays_out_until_there_is_a_verdict_on_it() {
    let mut state = State::new(config(&dual()), &Intents::new());
    for (node, family) in
        ["node1", "node3"].into_iter().flat_map(|node| Family::ALL.map(|family| (node, family)))
    {
        heard(&mut state, node, family, true);
    }
    let all: &[&str] = &["node1", "node2", "node3"];
    let others: &[&str] = &["node1", "node3"];
    let unreachable: &[&str] = &["node2 ipv6"];
    state.set_peer_view(said(Mode::Joined, [[all, &[], unreachable]; 3]));
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(12), ipv6(0x13)]);
    state.set_peer_view(said(Mode::Joined, [[others, &[], &[]]; 3]));
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(12), ipv6(0x13)], "no server reports on it any more");
    state.set_peer_view(said(Mode::Alone, [[others, &[], &[]]; 3]));
    for _ in 0..3 {
        heard(&mut state, "node2", Family::Ipv4, false);
    }
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(13), ipv6(0x13)], "out over both");
    assert_eq!(state.decision().unwrap().effective[1], Effective::Down);
    for _ in 0..2 {
        heard(&mut state, "node2", Family::Ipv6, true);
    }
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(13), ipv6(0x12)]);
}

#[test]
fn an_address_that_is_added_leaves_the_verdict_on_the_other_alone() {
    let mut state = healthy(TEXT);
    kill(&mut state, "node2");
    state.adopt(config(&dual()));
    state.decide();
    let node2 = &state.config.cluster.nodes[1].clone();
    let over = |family| state.family_that_counts(node2, family).unwrap().health;
    assert_eq!(Family::ALL.map(over), [Health::Down, Health::Unknown]);
}

#[test]
fn a_node_that_was_out_stays_out_while_no_server_has_a_verdict_on_it() {
    let mut state = State::new(config(TEXT), &Intents::new());
    let others: &[&str] = &["node1", "node3"];
    state.set_peer_view(said(Mode::Joined, [[others, &["node2"], &[]]; 3]));
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(13)]);
    state.set_peer_view(said(Mode::Joined, [[others, &[], &[]]; 3]));
    state.decide();
    assert_eq!(addresses(&state, "node2"), [ip(13)]);
}

#[test]
fn a_verdict_whose_next_result_is_discarded_is_not_told_to_the_other_servers() {
    let mut state = healthy(TEXT);
    state.clock_guard().go_blind(Duration::ZERO, "a test".to_owned());
    for _round in 0..health::CLEAN_ROUNDS {
        for node in ["node1", "node2"] {
            observe(&mut state, node, true);
        }
    }
    state.clock_guard().pulse(Duration::from_secs(3600));
    assert_eq!(state.blind(), None, "the blindness ends without a result of node3");
    let told: Vec<String> = state.own_verdicts().up.into_iter().collect();
    assert_eq!(told, ["node1", "node2"]);
}

#[test]
fn a_probe_is_made_fast_while_the_other_family_of_its_node_comes_back() {
    let mut state = well(&dual());
    for family in Family::ALL {
        for _ in 0..3 {
            heard(&mut state, "node2", family, false);
        }
    }
    let ipv4 = ProbeId { family: Some(Family::Ipv4), ..probe("node2") };
    let usual = state.targets()[&ipv4].probe.clone();
    assert_eq!(state.pace(&ipv4).unwrap().delay, usual.interval);
    heard(&mut state, "node2", Family::Ipv6, true);
    assert_eq!(state.pace(&ipv4).unwrap().delay, usual.fast_interval);
}

/// Takes the result of one probe of a node at this time. A failed probe hears nothing.
pub(super) fn tell(state: &mut State, probe: &ProbeId, second: u64, success: bool) {
    let observation = if success {
        Observation::Success { round_trip: Duration::from_millis(1) }
    } else {
        Observation::Failure(Failure { reason: "timeout".to_owned(), visible: false })
    };
    state.observe(probe, Duration::from_secs(second), &observation).unwrap();
}

/// Decides, and returns how this node is treated.
pub(super) fn decided(state: &mut State, index: usize) -> Effective {
    state.decide();
    state.decision().unwrap().effective[index]
}

#[test]
fn a_node_whose_address_has_changed_confirms_a_fall_only_after_it_is_heard_again() {
    let mut state = healthy(TEXT);
    for node in ["node2", "node3"] {
        tell(&mut state, &probe(node), 60, true);
    }
    state.adopt(config(&TEXT.replace("192.0.2.13", "192.0.2.99")));
    (0..3).for_each(|_| tell(&mut state, &probe("node1"), 60, false));
    assert_eq!(decided(&mut state, 0), Effective::Up, "only node2 was heard");
    tell(&mut state, &probe("node3"), 61, true);
    assert_eq!(decided(&mut state, 0), Effective::Down);
}

#[test]
fn the_quorum_that_confirms_a_fall_counts_the_witnesses() {
    let witnesses = "[failover]\nwitness = [\"192.0.2.253\", \"192.0.2.254\"]\n";
    let mut state = healthy(&format!("{TEXT}{witnesses}"));
    let witness = ProbeId::first(Subject::Witness(ip(254)));
    tell(&mut state, &witness, 50, true);
    for node in ["node2", "node3"] {
        tell(&mut state, &probe(node), 60, true);
    }
    (0..3).for_each(|_| tell(&mut state, &probe("node1"), 60, false));
    assert_eq!(decided(&mut state, 0), Effective::Up, "two nodes are no quorum of five");
    tell(&mut state, &witness, 61, true);
    assert_eq!(decided(&mut state, 0), Effective::Down);
}

#[test]
fn a_node_with_several_probes_fails_since_the_last_of_them_began_to_fail() {
    let probes = "[health]\nrequire = \"any\"\n[[health.probes]]\nport = 1\n[[health.probes]]\nport = 2\n";
    let mut state = State::new(config(&format!("{TEXT}{probes}")), &Intents::new());
    let of = |node: &str, index: usize| ProbeId { index, ..probe(node) };
    for (node, index) in ["node1", "node2", "node3"].into_iter().flat_map(|node| [(node, 0), (node, 1)]) {
        tell(&mut state, &of(node, index), 1, true);
    }
    (0..3).for_each(|_| tell(&mut state, &of("node2", 0), 60, false));
    for node in ["node1", "node3"] {
        tell(&mut state, &of(node, 0), 65, true);
    }
    (0..3).for_each(|_| tell(&mut state, &of("node2", 1), 70, false));
    assert_eq!(decided(&mut state, 1), Effective::Up, "no quorum was heard since the second probe failed");
    for node in ["node1", "node3"] {
        tell(&mut state, &of(node, 0), 71, true);
    }
    assert_eq!(decided(&mut state, 1), Effective::Down);
}
