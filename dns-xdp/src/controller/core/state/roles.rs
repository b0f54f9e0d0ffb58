//! Tests of nodes without a vote and of nodes without probes.
use super::super::shared_view::tests::said;
use super::tests::{TEXT, addresses, config, healthy, kill, observe, set_intent};
use super::*;
use crate::failover::Effective;
use crate::health::Failure;
use crate::store::client::Mode;

/// 3 nodes with all roles, and a load balancer with these lines.
fn with_a_load_balancer(lines: &str) -> String {
    let lb = format!("[[node]]\nname = \"lb\"\nipv4 = \"192.0.2.19\"\n{lines}\n");
    TEXT.replace("[[service]]", &format!("{lb}[[service]]"))
}

fn silent() -> Observation {
    Observation::Failure(Failure { reason: "timeout".to_owned(), visible: false })
}

#[test]
fn a_node_without_probes_is_answered_and_an_operator_can_take_it_out() {
    let text = with_a_load_balancer("health.probe = \"none\"");
    let mut state = State::new(config(&text), &Intents::new());
    state.decide();
    assert_eq!(addresses(&state, "lb"), [IpAddr::from([192, 0, 2, 19])]);
    assert!(!state.round_complete(), "the other nodes have no result yet");
    for node in ["node1", "node2", "node3"] {
        observe(&mut state, node, true);
    }
    assert!(state.round_complete(), "it has no result to wait for");
    kill(&mut state, "node1");
    assert_ne!(addresses(&state, "node1"), [IpAddr::from([192, 0, 2, 19])]);
    set_intent(&mut state, "lb", Admin::Drain);
    assert_ne!(addresses(&state, "lb"), [IpAddr::from([192, 0, 2, 19])]);
}

#[test]
fn a_reload_may_take_the_probes_from_a_node_and_give_them_back() {
    let mut state = healthy(&with_a_load_balancer("quorum = false"));
    kill(&mut state, "lb");
    assert_ne!(addresses(&state, "lb"), [IpAddr::from([192, 0, 2, 19])]);
    state.adopt(config(&with_a_load_balancer("health.probe = \"none\"")));
    state.decide();
    assert_eq!(addresses(&state, "lb"), [IpAddr::from([192, 0, 2, 19])]);
    state.adopt(config(&with_a_load_balancer("quorum = false")));
    state.decide();
    assert_eq!(addresses(&state, "lb"), [IpAddr::from([192, 0, 2, 19])], "it has no result yet");
}

#[test]
fn a_node_without_a_vote_confirms_no_fall() {
    let mut state = healthy(&with_a_load_balancer("quorum = false"));
    let at = |milliseconds| Duration::from_secs(60) + Duration::from_millis(milliseconds);
    let mut tell = |node: &str, milliseconds, observation: &Observation| {
        state.observe(&tests::probe(node), at(milliseconds), observation).unwrap();
        state.decide();
        state.decision().unwrap().effective[0]
    };
    let heard = Observation::Success { round_trip: Duration::ZERO };
    for round in 0..3 {
        tell("node1", round, &silent());
        tell("lb", round, &heard);
    }
    assert_eq!(tell("lb", 10, &heard), Effective::Up, "no quorum was heard since node1 began to fail");
    assert_eq!(tell("node2", 11, &heard), Effective::Up, "one voter is no quorum");
    assert_eq!(tell("node3", 12, &heard), Effective::Down);
}

#[test]
fn a_node_that_loses_its_vote_by_a_reload_no_longer_confirms() {
    let voting = with_a_load_balancer("");
    let mut state = healthy(&voting);
    let at = |seconds: u64| Duration::from_secs(60 + seconds);
    let heard = Observation::Success { round_trip: Duration::ZERO };
    for node in ["lb", "node2"] {
        state.observe(&tests::probe(node), at(1), &heard).unwrap();
    }
    state.adopt(config(&with_a_load_balancer("quorum = false")));
    for _ in 0..3 {
        state.observe(&tests::probe("node1"), at(1), &silent()).unwrap();
    }
    state.decide();
    assert_eq!(state.decision().unwrap().effective[0], Effective::Up, "only node2 was heard");
    state.observe(&tests::probe("node3"), at(2), &heard).unwrap();
    state.decide();
    assert_eq!(state.decision().unwrap().effective[0], Effective::Down);
}

#[test]
fn a_drain_minds_the_votes_alone() {
    let mut state = healthy(&with_a_load_balancer("quorum = false"));
    let drain = |state: &State, name: &str| {
        let request = intent::IntentRequest { admin: Admin::Drain, reason: None, by: None, lasting: None };
        super::super::admin::judge(state, name, &request, false)
    };
    assert_eq!(drain(&state, "node1"), Ok(()));
    set_intent(&mut state, "node1", Admin::Drain);
    assert!(drain(&state, "node2").is_err(), "one voter would be left of the 2 that are needed");
    assert_eq!(drain(&state, "lb"), Ok(()));
}

#[test]
fn beside_a_store_a_node_without_probes_comes_back_after_an_intent_and_after_a_reload() {
    let own = [IpAddr::from([192, 0, 2, 19])];
    let unprobed = with_a_load_balancer("health.probe = \"none\"");
    let all: &[&str] = &["node1", "node2", "node3"];
    let mut state = State::new(config(&unprobed), &Intents::new());
    state.set_peer_view(said(Mode::Joined, [[all, &[], &[]]; 3]));
    for admin in [Admin::Down, Admin::Drain] {
        set_intent(&mut state, "lb", admin);
        assert_ne!(addresses(&state, "lb"), own);
        set_intent(&mut state, "lb", Admin::Auto);
        assert_eq!(addresses(&state, "lb"), own, "{admin}");
    }
    let mut state = State::new(config(&with_a_load_balancer("quorum = false")), &Intents::new());
    state.set_peer_view(said(Mode::Joined, [[all, &["lb"], &[]]; 3]));
    state.decide();
    assert_ne!(addresses(&state, "lb"), own);
    state.adopt(config(&unprobed));
    state.decide();
    assert_eq!(
        addresses(&state, "lb"),
        own,
        "servers with the earlier configuration still have votes about it"
    );
}

#[test]
fn a_silent_node_without_a_vote_is_not_taken_off_the_quorum() {
    let mut state = State::new(config(&with_a_load_balancer("quorum = false")), &Intents::new());
    let all: &[&str] = &["node1", "node2", "node3"];
    let lb: &[&str] = &["lb"];
    state.set_peer_view(said(Mode::Joined, [[all, lb, lb]; 3]));
    state.decide();
    let quorum = state.decision().unwrap().quorum;
    assert_eq!((quorum.visible, quorum.needed), (3, 2));
}
