//! Tests of nodes that fell and are held.
use std::collections::BTreeMap;

use super::*;
use crate::intent::{self, Hold, Holds, LocalHold};
use crate::store::votes::Verdicts;
use crate::store::{InputsVersion, Swap};

pub(super) const MANUAL: &str = "[failover]\nfailback = \"manual\"\n";
pub(super) const HOLD_DOWN: &str = "[failover]\nhold-down = \"30s\"\n";

pub(super) fn failback(node: &str) -> Command {
    Command::Failback { node: node.to_owned(), by: Some("alice".to_owned()) }
}

impl Bench {
    pub(super) fn revive(&mut self, node: &str) {
        (0..20).for_each(|_| self.observe(node, true));
        self.publish_all();
    }

    pub(super) fn holds(&self) -> Vec<&str> {
        self.core.health.held().holds().keys().map(String::as_str).collect()
    }

    /// Takes the intents that the core wants written to disk.
    pub(super) fn on_disk(&mut self) -> Option<(WorkId, Intents)> {
        let mut last = None;
        while let Some(saved) = self.take(|effect| match effect {
            Effect::SaveIntents { work, intents, .. } => Some((*work, intents.clone())),
            _ => None,
        }) {
            last = Some(saved);
        }
        last
    }

    /// The first event of a kind, as text.
    fn event_of(&mut self, kind: Kind) -> Option<String> {
        self.take(|effect| match effect {
            Effect::Emit(occurrence) if occurrence.kind == kind => Some(occurrence.to_string()),
            _ => None,
        })
    }

    pub(super) fn tick_at(&mut self, elapsed: Duration) {
        self.elapsed = elapsed;
        self.step(Input::Tick);
        self.publish_all();
    }
}

#[test]
fn a_node_that_fell_stays_out_until_it_is_failed_back() {
    let mut bench = Bench::live(&format!("{TEXT}{MANUAL}"));
    bench.kill_and_publish("node2");
    bench.revive("node2");
    assert_eq!((bench.holds(), bench.answers(NODE2)), (vec!["node2"], vec!["192.0.2.13".to_owned()]));
    assert_eq!(bench.answers("db.demo.example.com."), ["192.0.2.11"]);
    let (_, kept) = bench.on_disk().unwrap();
    assert!(kept["node2"].hold.as_ref().is_some_and(Hold::counts));

    bench.ask(7, failback("Node2"));
    let (work, kept) = bench.on_disk().unwrap();
    assert!(!kept.contains_key("node2"));
    assert_eq!(bench.holds(), ["node2"], "the disk comes first");
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    bench.publish(Ok(()));
    assert_eq!(bench.reply(7).unwrap().unwrap()["notes"], serde_json::json!([]));
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    let kinds = bench.occurrences();
    assert!(kinds.contains(&Kind::Held) && kinds.contains(&Kind::Released), "{kinds:?}");
    assert!(bench.on_disk().is_none());
}

#[test]
fn the_end_of_a_hold_by_an_operator_without_a_name_is_told_as_such() {
    let nameless = || Command::Failback { node: "node2".to_owned(), by: None };
    let expected = Some("-held node2: failed back by an operator".to_owned());
    let mut bench = Bench::live(&format!("{TEXT}{MANUAL}"));
    bench.kill_and_publish("node2");
    bench.ask(7, nameless());
    let (work, _) = bench.on_disk().unwrap();
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    assert_eq!(bench.event_of(Kind::Released), expected);

    let (mut bench, documents) = Bench::joined();
    bench.see(votes(&documents, Mode::Joined, down));
    let held = bench.swapped(&documents);
    bench.see(votes(&held, Mode::Joined, up));
    bench.ask(7, nameless());
    let released = bench.swapped(&held);
    bench.see(votes(&released, Mode::Joined, up));
    assert_eq!(bench.event_of(Kind::Released), expected);
}

#[test]
fn a_node_that_falls_again_stays_held_and_one_that_is_failed_back_is_held_anew() {
    let mut bench = Bench::live(&format!("{TEXT}{MANUAL}"));
    bench.kill_and_publish("node2");
    bench.revive("node2");
    bench.kill_and_publish("node2");
    bench.ask(7, failback("node2"));
    let (work, _) = bench.on_disk().unwrap();
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    let notes = bench.reply(7).unwrap().unwrap()["notes"].to_string();
    assert!(notes.contains("`node2` is not healthy"), "{notes}");
    bench.revive("node2");
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    bench.kill_and_publish("node2");
    assert_eq!(bench.holds(), ["node2"]);
}

#[test]
fn a_node_comes_back_when_it_was_healthy_for_the_hold_down() {
    let mut bench = Bench::live(&format!("{TEXT}{HOLD_DOWN}"));
    bench.kill_and_publish("node2");
    bench.tick_at(Duration::from_secs(100));
    bench.revive("node2");
    bench.tick_at(Duration::from_secs(110));
    bench.tick_at(Duration::from_secs(135));
    // The node falls for a moment, so its hold-down begins again.
    bench.kill_and_publish("node2");
    bench.tick_at(Duration::from_secs(136));
    bench.revive("node2");
    bench.tick_at(Duration::from_secs(140));
    bench.tick_at(Duration::from_secs(169));
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
    bench.on_disk();
    bench.tick_at(Duration::from_secs(171));
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    assert!(bench.on_disk().unwrap().1.is_empty() && bench.holds().is_empty());
}

#[test]
fn the_time_of_a_hold_down_does_not_run_while_the_answers_are_frozen() {
    let mut bench = Bench::live(&format!("{TEXT}{HOLD_DOWN}"));
    bench.kill_and_publish("node2");
    bench.revive("node2");
    bench.tick_at(Duration::from_secs(10));
    for node in ["node1", "node3"] {
        for _ in 0..3 {
            let failure = Failure { reason: "timeout".to_owned(), visible: false };
            let probe = ProbeId::first(Subject::Node(node.to_owned()));
            bench.step(Input::Probed {
                probe,
                at: bench.elapsed,
                observation: Observation::Failure(failure),
            });
        }
    }
    bench.publish_all();
    assert!(bench.core.health.decision().unwrap().frozen.is_some());
    bench.tick_at(Duration::from_secs(50));
    assert!(bench.holds().contains(&"node2"));
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
    bench.revive("node1");
    bench.revive("node3");
    bench.tick_at(Duration::from_secs(60));
    assert!(bench.holds().contains(&"node2"));
    bench.tick_at(Duration::from_secs(91));
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
}

#[test]
fn an_explicit_up_ends_a_hold_and_a_drain_makes_none() {
    let mut bench = Bench::live(&format!("{TEXT}{MANUAL}"));
    bench.ask(1, admin("node3", Admin::Drain, None));
    let work = bench.saved();
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    bench.publish_all();
    bench.kill_and_publish("node3");
    assert!(bench.holds().is_empty());

    bench.kill_and_publish("node2");
    bench.revive("node2");
    bench.on_disk();
    bench.ask(2, admin("node2", Admin::Up, None));
    let (work, kept) = bench.on_disk().unwrap();
    assert!(intent::holds(&kept).is_empty());
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    bench.publish_all();
    assert!(bench.reply(2).unwrap().is_ok());
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
    assert!(bench.occurrences().contains(&Kind::Released));
    bench.ask(3, admin("node2", Admin::Auto, None));
    let work = bench.saved();
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
}

#[test]
fn a_hold_outlives_a_restart_and_a_fall_during_a_restart_is_held() {
    let text = format!("{TEXT}{MANUAL}");
    let disk = intent::with_holds(
        &Intents::new(),
        &Holds::from([("node2".to_owned(), Hold::new(Timestamp::UNIX_EPOCH))]),
    );
    let nodes = ["node1", "node2", "node3"].map(|node| (node.to_owned(), Some(node.to_owned())));
    let nodes = BTreeMap::from_iter(nodes);
    let mut last = LastAnswers { nodes, ..LastAnswers::default() };
    last.nodes.insert("node2".to_owned(), Some("node3".to_owned()));
    let mut bench =
        Bench::begin(&text, None, Disk { intents: disk, last_answers: Some(last), ..Disk::default() });
    bench.observe("node2", true);
    bench.observe("node3", true);
    bench.kill("node1");
    let mut bench = bench.open();
    assert_eq!(bench.holds(), ["node1", "node2"]);
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
    bench.revive("node1");
    assert_eq!(bench.answers("node1.demo.example.com."), ["192.0.2.13"]);
}

#[test]
fn a_node_that_was_never_healthy_is_not_held() {
    let mut bench = Bench::begin(&format!("{TEXT}{MANUAL}"), None, Disk::default());
    bench.observe("node1", true);
    bench.observe("node3", true);
    bench.kill("node2");
    let mut bench = bench.open();
    assert!(bench.holds().is_empty());
    bench.revive("node2");
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
}

#[test]
fn a_node_that_was_dead_only_while_the_answers_were_frozen_is_not_held() {
    let mut bench = Bench::live(&format!("{TEXT}{MANUAL}"));
    bench.observe("node2", false);
    for node in ["node1", "node3"] {
        bench.observe(node, true);
    }
    for node in ["node1", "node3"] {
        bench.silence(node);
    }
    (0..2).for_each(|_| bench.observe("node2", false));
    bench.publish_all();
    let decision = bench.core.health.decision().unwrap();
    assert!(decision.frozen.is_some() && decision.effective[1] == crate::failover::Effective::Down);
    for node in ["node2", "node1", "node3"] {
        bench.revive(node);
    }
    assert!(bench.core.health.decision().unwrap().frozen.is_none());
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
}

#[test]
fn a_node_that_falls_leaves_a_service_with_its_own_probes_at_once() {
    let mut bench =
        Bench::begin(&format!("{TEXT}[service.health]\nport = 11211\n{MANUAL}"), None, Disk::default());
    let probes: Vec<ProbeId> = bench.core.health.targets().keys().cloned().collect();
    for probe in probes {
        let observation = Observation::Success { round_trip: Duration::from_millis(1) };
        bench.step(Input::Probed { probe, at: bench.elapsed, observation });
    }
    let mut bench = bench.open();
    assert_eq!(bench.answers("db.demo.example.com."), ["192.0.2.11", "192.0.2.12"]);
    bench.kill_and_publish("node2");
    assert_eq!(bench.holds(), ["node2"]);
    assert_eq!(bench.answers("db.demo.example.com."), ["192.0.2.11"], "the service's own probes pass");
}

#[test]
fn failing_back_what_is_not_held_changes_nothing_and_an_unknown_node_is_refused() {
    let mut bench = Bench::live(&format!("{TEXT}{MANUAL}"));
    bench.ask(7, failback("node2"));
    assert_eq!(bench.reply(7).unwrap().unwrap()["notes"][0], "`node2` is not held");
    bench.ask(8, failback("nod2"));
    assert_eq!(bench.reply(8).unwrap().unwrap_err().kind, RefusalKind::NotFound);
    assert!(bench.on_disk().is_none());
}

#[test]
fn a_fall_during_another_change_is_kept() {
    let mut bench = Bench::live(&format!("{TEXT}{MANUAL}"));
    bench.ask(1, admin("node3", Admin::Drain, None));
    let work = bench.saved();
    bench.kill_and_publish("node2");
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    bench.publish_all();
    let (_, kept) = bench.on_disk().unwrap();
    assert_eq!((kept["node3"].admin, bench.holds()), (Admin::Drain, vec!["node2"]));
    assert!(kept["node2"].hold.is_some());
}

#[test]
fn without_the_rules_no_node_is_held_and_holds_of_before_end() {
    let mut bench = Bench::live(TEXT);
    bench.kill_and_publish("node2");
    assert!(bench.holds().is_empty());
    bench.core.health.held_mut().hold("node2", Hold::new(Timestamp::UNIX_EPOCH));
    bench.revive("node2");
    bench.tick_at(Duration::from_secs(10));
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
}

/// Returns the view of a store with three servers. Each server has this verdict on node2.
pub(super) fn votes(documents: &Documents, mode: Mode, says: impl Fn(&mut Verdicts)) -> Seen {
    let names = ["node1", "node2", "node3"].map(str::to_owned);
    let mut said = Verdicts::default();
    said.up.extend(["node1".to_owned(), "node3".to_owned()]);
    says(&mut said);
    let view = View::of(names.clone().into_iter().map(|name| (name, said.clone())), names);
    // Different verdicts get a different revision.
    let revision = documents.epoch() * 10 + said.down.len() as u64 * 2 + said.fallen.len() as u64;
    let judged = InputsVersion { revision, ..view.judged };
    let view = View { documents: Arc::new(documents.clone()), judged, ..view };
    Seen { view: Arc::new(view), ..seen(documents, mode) }
}

pub(super) fn up(said: &mut Verdicts) {
    said.up.insert("node2".to_owned());
}

pub(super) fn down(said: &mut Verdicts) {
    said.down.insert("node2".to_owned());
}

impl Bench {
    /// A server that has joined a store, with manual failback.
    pub(super) fn joined() -> (Bench, Documents) {
        let (text, documents) = beside_a_store(&format!("{TEXT}{MANUAL}"), Intents::new());
        let mut bench = Bench::start(&text, Some(documents.clone()));
        bench.see(votes(&documents, Mode::Joined, up));
        (bench, documents)
    }

    pub(super) fn see(&mut self, seen: Seen) {
        self.step(Input::StoreSeen(Box::new(seen)));
        self.publish_all();
    }

    pub(super) fn swap(&mut self) -> Option<(WorkId, Swap)> {
        self.take(|effect| match effect {
            Effect::Swap { work, swap } => Some((*work, swap.clone())),
            _ => None,
        })
    }

    /// Performs the write to the store. Returns the new documents.
    pub(super) fn swapped(&mut self, documents: &Documents) -> Documents {
        let (work, swap) = self.swap().expect("something is to be written to the store");
        assert_eq!(swap.expected[INTENT], documents.revisions[INTENT]);
        let revision = documents.epoch() + 1;
        self.step(Input::Swapped { work, result: Ok(revision) });
        let mut next = documents.clone();
        next.intents = serde_json::from_slice(&swap.writes[INTENT]).unwrap();
        next.revisions.insert(INTENT.to_owned(), revision);
        next
    }
}

#[test]
fn a_fall_that_servers_agree_on_is_held_in_the_store_and_failed_back_there() {
    let (mut bench, documents) = Bench::joined();
    bench.see(votes(&documents, Mode::Joined, down));
    assert_eq!(bench.holds(), ["node2"]);
    let held = bench.swapped(&documents);
    assert!(held.intents["node2"].hold.as_ref().is_some_and(Hold::counts));
    bench.see(votes(&held, Mode::Joined, up));
    assert_eq!((bench.holds(), bench.answers(NODE2)), (vec!["node2"], vec!["192.0.2.13".to_owned()]));
    assert!(bench.core.local.is_empty());

    bench.ask(7, failback("node2"));
    let released = bench.swapped(&held);
    assert_eq!(bench.holds(), ["node2"], "it is the store that counts");
    bench.see(votes(&released, Mode::Joined, up));
    assert!(bench.reply(7).unwrap().is_ok());
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
    bench.step(Input::Tick);
    assert!(bench.swap().is_none());
}

#[test]
fn a_server_that_is_not_the_first_takes_the_hold_over_or_writes_it_later() {
    let (mut bench, documents) = Bench::joined();
    let first = |seen: Seen| {
        let names = ["node0", "node1"].map(str::to_owned);
        let servers = View::of([], names).servers;
        Seen { view: Arc::new(View { servers, ..View::clone(&seen.view) }), ..seen }
    };
    bench.see(first(votes(&documents, Mode::Joined, down)));
    assert!(bench.swap().is_none());
    bench.elapsed += Duration::from_secs(3);
    bench.step(Input::Tick);
    let held = bench.swapped(&documents);
    bench.see(first(votes(&held, Mode::Joined, up)));
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
}

#[test]
fn a_fall_for_a_server_that_is_alone_is_held_there_and_written_if_the_others_have_seen_it() {
    for others_saw_it in [true, false] {
        let (mut bench, documents) = Bench::joined();
        bench.see(votes(&documents, Mode::Alone, up));
        bench.kill_and_publish("node2");
        bench.revive("node2");
        assert_eq!((bench.holds(), bench.answers(NODE2)), (vec!["node2"], vec!["192.0.2.13".to_owned()]));
        bench.see(votes(&documents, Mode::Joined, |said| {
            up(said);
            said.fallen.extend(others_saw_it.then(|| "node2".to_owned()));
        }));
        if others_saw_it {
            let held = bench.swapped(&documents);
            bench.see(votes(&held, Mode::Joined, up));
            assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
        } else {
            assert!(bench.swap().is_none());
            let later = bench.elapsed + Duration::from_secs(21);
            bench.tick_at(later);
            assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
        }
    }
}

/// Returns the view of a store with three servers. For this many of them, node2 fell and is up again.
fn fell_for(documents: &Documents, servers: usize) -> Seen {
    let names = || ["node1", "node2", "node3"].map(str::to_owned);
    let said = |(place, server): (usize, String)| {
        let mut said = Verdicts { up: names().into(), ..Verdicts::default() };
        said.fallen.extend((place < servers).then(|| "node2".to_owned()));
        (server, said)
    };
    let view = View::of(names().into_iter().enumerate().map(said), names());
    let view = View { documents: Arc::new(documents.clone()), ..view };
    Seen { view: Arc::new(view), ..seen(documents, Mode::Joined) }
}

#[test]
fn a_hold_is_written_only_if_the_node_fell_for_a_majority_of_the_servers() {
    for (servers, is_written) in [(1, false), (2, true)] {
        let (mut bench, documents) = Bench::joined();
        bench.see(votes(&documents, Mode::Alone, up));
        bench.kill_and_publish("node2");
        bench.revive("node2");
        bench.see(fell_for(&documents, servers));
        assert_eq!(bench.swap().is_some(), is_written, "{servers}");
    }
}

#[test]
fn a_hold_of_a_server_that_was_alone_for_long_waits_for_the_other_servers_after_it_has_joined() {
    let (mut bench, documents) = Bench::joined();
    bench.see(votes(&documents, Mode::Alone, up));
    bench.kill_and_publish("node2");
    bench.revive("node2");
    bench.tick_at(bench.elapsed + Duration::from_secs(60));
    bench.see(votes(&documents, Mode::Joined, up));
    assert_eq!(bench.holds(), ["node2"]);
    bench.tick_at(bench.elapsed + Duration::from_secs(21));
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
}

#[test]
fn a_node_that_was_failed_back_meanwhile_is_not_held_again_by_a_server_that_was_away() {
    let (mut bench, documents) = Bench::joined();
    bench.see(votes(&documents, Mode::Alone, up));
    bench.kill_and_publish("node2");
    bench.revive("node2");
    let mut failed_back = documents.clone();
    let hold = Hold::new(Timestamp::UNIX_EPOCH).released(Timestamp::UNIX_EPOCH);
    intent::hold_of(&mut failed_back.intents, "node2", Some(hold));
    failed_back.revisions.insert(INTENT.to_owned(), 5);
    bench.see(votes(&failed_back, Mode::Joined, up));
    assert_eq!((bench.holds().len(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
    assert!(bench.swap().is_none() && bench.core.local.is_empty());
}

#[test]
fn a_hold_outlives_a_restart_without_the_store() {
    let (text, documents) = beside_a_store(&format!("{TEXT}{MANUAL}"), Intents::new());
    let hold = LocalHold { hold: Hold::new(Timestamp::UNIX_EPOCH), base: None };
    let local = Local { holds: [("node2".to_owned(), hold)].into(), ..Local::default() };
    let mut bench = Bench::begin(&text, Some(documents), Disk { local, ..Disk::default() });
    for node in ["node1", "node2", "node3"] {
        bench.observe(node, true);
    }
    let bench = bench.open();
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
}

#[test]
fn a_hold_outlives_a_reload_that_lacks_the_node_and_ends_when_the_node_is_removed_by_command() {
    let mut bench = Bench::live(&format!("{TEXT}{MANUAL}"));
    bench.kill_and_publish("node3");
    bench.revive("node3");
    bench.on_disk();
    let whole = bench.file.clone();
    bench.file = whole.replace("[[node]]\nname = \"node3\"\nipv4 = \"192.0.2.13\"\n", "");
    bench.file = bench.file.replace("backup = [\"node3\"]\n", "");
    bench.ask(1, Command::Reload { force: false });
    bench.prepare();
    bench.publish_all();
    assert_eq!((bench.nodes(), bench.holds()), (2, vec!["node3"]));
    bench.file = whole;
    bench.ask(2, Command::Reload { force: false });
    bench.prepare();
    bench.publish_all();
    assert_eq!((bench.nodes(), bench.holds()), (3, vec!["node3"]));

    let remove = Command::NodeRemove { name: "node3".to_owned(), ephemeral: false };
    bench.file = bench.file.replace("backup = [\"node3\"]\n", "");
    bench.ask(3, Command::Reload { force: false });
    bench.prepare();
    bench.publish_all();
    bench.ask(4, remove);
    let work = bench.prepare();
    bench.publish_all();
    bench.step(Input::FileCommitted { work, result: Ok(()) });
    assert!(bench.holds().is_empty());
    assert!(bench.on_disk().unwrap().1.is_empty());
}

#[test]
fn a_removal_whose_file_cannot_be_put_in_place_leaves_the_hold_of_the_node() {
    let mut bench = Bench::live(&format!("{}{MANUAL}", TEXT.replace("backup = [\"node3\"]\n", "")));
    bench.kill_and_publish("node3");
    bench.revive("node3");
    bench.ask(1, Command::NodeRemove { name: "node3".to_owned(), ephemeral: false });
    let work = bench.prepare();
    bench.publish_all();
    assert_eq!((bench.nodes(), bench.holds().len()), (2, 0));
    bench.step(Input::FileCommitted { work, result: Err("read-only".to_owned()) });
    bench.publish_all();
    assert!(bench.reply(1).unwrap().is_err());
    assert_eq!((bench.nodes(), bench.holds()), (3, vec!["node3"]));
    assert_ne!(bench.answers("node3.demo.example.com."), ["192.0.2.13"]);
}
