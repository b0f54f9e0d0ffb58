//! Tests of holds of fallen nodes in a store, written at the same time by servers whose clocks differ.
use super::failback::{HOLD_DOWN, MANUAL, down, failback, up, votes};
use super::local_intents::{drained, local};
use super::state::tests::dual;
use super::*;
use crate::cluster::Family;
use crate::intent::{self, Hold, LocalHold, stored_hold};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// Returns the documents with this hold of node2, at the next revision.
fn with_hold(documents: &Documents, hold: Hold) -> Documents {
    let mut next = documents.clone();
    intent::hold_of(&mut next.intents, "node2", Some(hold));
    next.revisions.insert(INTENT.to_owned(), documents.epoch() + 1);
    next
}

/// The local decision of a server that holds node2.
fn held_here(base: Option<Hold>) -> Local {
    let hold = LocalHold { hold: Hold::new(at(0)), base };
    Local { holds: [("node2".to_owned(), hold)].into(), ..Local::default() }
}

impl Bench {
    /// A server whose store is away and has these intents. All nodes are up.
    fn beside(rules: &str, intents: Intents, local: Local) -> (Bench, Documents) {
        let (text, documents) = beside_a_store(&format!("{TEXT}{rules}"), intents);
        let disk = Disk { local, intents: documents.intents.clone(), ..Disk::default() };
        let mut bench = Bench::begin(&text, Some(documents.clone()), disk);
        for node in ["node1", "node2", "node3"] {
            bench.observe(node, true);
        }
        (bench.open(), documents)
    }

    /// A server whose store has a hold of node2. The hold-down has just ended on this server. Returns the documents in
    /// force, and the documents with the ended hold.
    fn ending_a_hold() -> (Bench, Documents, Documents) {
        let (mut bench, documents) = Bench::beside(HOLD_DOWN, Intents::new(), Local::default());
        let held = with_hold(&documents, Hold::new(at(0)));
        bench.see(votes(&held, Mode::Joined, up));
        assert_eq!((bench.holds(), bench.answers(NODE2)), (vec!["node2"], vec!["192.0.2.13".to_owned()]));
        for seconds in [5, 36] {
            bench.tick_at(Duration::from_secs(seconds));
        }
        assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
        let released = bench.swapped(&held);
        assert!(stored_hold(&released.intents, "node2").is_some_and(|hold| !hold.counts()));
        (bench, held, released)
    }
}

#[test]
fn a_fall_while_the_end_of_the_hold_before_it_is_written_is_held() {
    // The clock of the server that wrote the end is right, or ahead.
    for ahead in [0, 5] {
        let (mut bench, held, mut released) = Bench::ending_a_hold();
        let hold = released.intents.get_mut("node2").unwrap().hold.as_mut().unwrap();
        hold.released = hold.released.map(|at| at + jiff::SignedDuration::from_secs(ahead));
        bench.see(votes(&held, Mode::Joined, down));
        assert_eq!(bench.holds(), ["node2"]);
        bench.see(votes(&released, Mode::Joined, down));
        assert_eq!(bench.holds(), ["node2"], "{ahead}");
        bench.step(Input::Tick);
        let again = bench.swapped(&released);
        let hold = stored_hold(&again.intents, "node2").unwrap();
        assert!(hold.counts() && hold.since > at(36), "{hold:?}");
        bench.see(votes(&again, Mode::Joined, up));
        assert_eq!((bench.holds(), bench.answers(NODE2)), (vec!["node2"], vec!["192.0.2.13".to_owned()]));
        assert!(bench.core.local.is_empty());
    }
}

#[test]
fn an_operator_that_ends_the_hold_after_such_a_fall_ends_both() {
    let (mut bench, held, _) = Bench::ending_a_hold();
    bench.see(votes(&held, Mode::Joined, down));
    let by = Some("alice".to_owned());
    let failed_back = with_hold(&held, Hold { by, ..Hold::new(at(0)).released(at(40)) });
    bench.see(votes(&failed_back, Mode::Joined, up));
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
    assert!(bench.core.local.is_empty());
}

#[test]
fn a_fall_for_this_server_alone_leaves_the_end_of_the_hold_before_it() {
    let (mut bench, held, _) = Bench::ending_a_hold();
    for says in [down, up] {
        bench.see(votes(&held, Mode::Joined, says));
        assert_eq!(bench.holds(), ["node2"]);
    }
    let later = bench.elapsed + Duration::from_secs(21);
    bench.tick_at(later);
    bench.step(Input::Tick);
    bench.publish_all();
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
    assert!(bench.core.local.released.contains_key("node2"), "{:?}", bench.core.local);
}

#[test]
fn a_node_that_is_dead_over_ipv4_alone_has_not_fallen() {
    let (text, documents) = beside_a_store(&format!("{}{MANUAL}", dual()), Intents::new());
    let disk = Disk { local: held_here(None), ..Disk::default() };
    let mut bench = Bench::begin(&text, Some(documents.clone()), disk);
    for node in ["node1", "node2", "node3"] {
        for family in Family::ALL {
            let probe = ProbeId { family: Some(family), ..ProbeId::first(Subject::Node(node.to_owned())) };
            let observation = Observation::Success { round_trip: Duration::from_millis(1) };
            bench.step(Input::Probed { probe, at: bench.elapsed, observation });
        }
    }
    let mut bench = bench.open();
    for is_dead_over_ipv6 in [false, true] {
        bench.see(votes(&documents, Mode::Joined, |said| {
            down(said);
            let over_ipv6 = if is_dead_over_ipv6 { &mut said.down } else { &mut said.up };
            over_ipv6.insert("node2 ipv6".to_owned());
        }));
        assert_eq!(bench.core.has_fallen("node2"), is_dead_over_ipv6);
        assert_eq!(bench.swap().is_some(), is_dead_over_ipv6);
    }
}

#[test]
fn a_local_up_ends_a_hold_and_not_only_while_it_counts() {
    for is_in_store in [true, false] {
        let hold = Hold::new(at(0));
        let stored = intent::with_holds(&Intents::new(), &[("node2".to_owned(), hold)].into());
        let (intents, decided) =
            if is_in_store { (stored, Local::default()) } else { (Intents::new(), held_here(None)) };
        let (mut bench, documents) = Bench::beside(MANUAL, intents, decided);
        assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
        bench.ask(1, local("node2", Admin::Up, None));
        let kept = bench.local_saved();
        assert_eq!((kept.holds.len(), kept.released.len()), (0, 1), "as one write");
        assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
        bench.ask(2, local("node2", Admin::Auto, None));
        let kept = bench.local_saved();
        assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));

        // The same after a restart.
        let kept = serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap();
        let (mut bench, _) = Bench::beside(MANUAL, documents.intents.clone(), kept);
        assert_eq!(bench.answers(NODE2), ["192.0.2.12"], "{is_in_store}");
        bench.see(votes(&documents, Mode::Joined, up));
        assert_eq!(bench.swap().is_some(), is_in_store);
    }
}

#[test]
fn a_hold_whose_write_had_no_answer_stays_ended_after_a_local_up() {
    let (mut bench, documents) = Bench::beside(MANUAL, Intents::new(), held_here(None));
    for (call, admin) in [(1, Admin::Up), (2, Admin::Auto)] {
        bench.ask(call, local("node2", admin, None));
        bench.local_saved();
    }
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    // The store has taken the write of the hold, though this server has heard of no answer.
    let held = with_hold(&documents, Hold::new(at(0)));
    bench.see(votes(&held, Mode::Joined, up));
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
    let ended = bench.swapped(&held);
    assert!(stored_hold(&ended.intents, "node2").is_some_and(|hold| !hold.counts()));
    bench.see(votes(&ended, Mode::Joined, up));
    assert!(bench.holds().is_empty() && bench.core.local.is_empty());
}

#[test]
fn a_node_whose_hold_has_ended_here_and_that_is_dead_after_a_restart_is_held_again() {
    let hold = Hold::new(at(0));
    let stored = intent::with_holds(&Intents::new(), &[("node2".to_owned(), hold.clone())].into());
    let (text, documents) = beside_a_store(&format!("{TEXT}{MANUAL}"), stored.clone());
    let local = Local { released: [("node2".to_owned(), hold)].into(), ..Local::default() };
    let nodes = ["node1", "node2", "node3"].map(|node| (node.to_owned(), Some(node.to_owned())));
    let last_answers = Some(LastAnswers { nodes: nodes.into(), ..LastAnswers::default() });
    let mut bench = Bench::begin(&text, Some(documents), Disk { intents: stored, local, last_answers });
    bench.observe("node1", true);
    bench.observe("node3", true);
    bench.kill("node2");
    let mut bench = bench.open();
    bench.revive("node2");
    assert_eq!((bench.holds(), bench.answers(NODE2)), (vec!["node2"], vec!["192.0.2.13".to_owned()]));
}

#[test]
fn a_node_that_is_wanted_up_in_the_store_is_held_by_no_server_that_was_away() {
    let (mut bench, documents) = Bench::beside(MANUAL, Intents::new(), Local::default());
    bench.kill_and_publish("node2");
    assert_eq!(bench.holds(), ["node2"]);
    let mut wanted = documents.clone();
    wanted.intents.insert("node2".to_owned(), Intent { admin: Admin::Up, ..drained("bob") });
    wanted.revisions.insert(INTENT.to_owned(), 2);
    bench.see(votes(&wanted, Mode::Joined, down));
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
    assert!(bench.swap().is_none() && bench.core.local.is_empty());
}

#[test]
fn a_node_is_failed_back_by_a_server_that_has_found_the_store_and_not_joined_again() {
    let (mut bench, documents) = Bench::beside(MANUAL, Intents::new(), held_here(None));
    let is_back = |documents: &Documents| Seen { is_up: true, ..votes(documents, Mode::Alone, up) };
    bench.see(is_back(&documents));
    bench.ask(7, failback("node2"));
    let failed_back = bench.swapped(&documents);
    bench.see(is_back(&failed_back));
    assert!(bench.reply(7).unwrap().is_ok());
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
}

#[test]
fn the_refusal_of_a_failback_while_the_store_is_away_names_what_helps() {
    let (mut bench, _) = Bench::beside(MANUAL, Intents::new(), held_here(None));
    bench.ask(7, failback("node2"));
    let refusal = bench.reply(7).unwrap().unwrap_err();
    assert!(refusal.message.ends_with("for this server alone: dns-xdp node up node2 --local"), "{refusal}");
    assert_eq!(bench.holds(), ["node2"]);
}
