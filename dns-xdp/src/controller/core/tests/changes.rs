//! Tests of reloads without a waiting client, files that are held back, and intents kept on disk.
use super::*;
use crate::store::{Error, Swap};

const STATE: &str = "/var/lib/dns-xdp/dns-xdp.state.json";

fn prepares(bench: &Bench) -> bool {
    bench.effects.iter().any(|effect| matches!(effect, Effect::Prepare { .. }))
}

/// The messages of the events of a kind.
fn told(bench: &Bench, kind: Kind) -> Vec<String> {
    let of_kind = |effect: &Effect| match effect {
        Effect::Emit(occurrence) if occurrence.kind == kind => {
            Some(occurrence.reason.clone().unwrap_or_default())
        }
        _ => None,
    };
    bench.effects.iter().filter_map(of_kind).collect()
}

fn reloads(bench: &Bench) -> usize {
    let is_reload = |effect: &&Effect| matches!(effect, Effect::Record(Record::Reloaded { .. }));
    bench.effects.iter().filter(is_reload).count()
}

/// Returns a file without this node and all later ones, as if its writer had been interrupted.
fn cut(text: &str, node: &str) -> String {
    text[..text.find(&format!("[[node]]\nname = \"{node}\"")).unwrap()].to_owned()
}

#[test]
fn signals_on_an_unchanged_file_are_no_events_and_few_reloads() {
    let mut bench = Bench::live(TEXT);
    for _ in 0..300 {
        bench.step(Input::Signal(Signal::Hangup));
        while prepares(&bench) {
            bench.prepare();
            bench.publish_all();
        }
    }
    assert!(reloads(&bench) <= 1, "{}", reloads(&bench));
    bench.elapsed += Duration::from_secs(1);
    bench.file = TEXT.replace("[listen]", "ttl = \"9s\"\n[listen]");
    bench.step(Input::Tick);
    assert_eq!(told(&bench, Kind::Reload), [""; 0]);
    bench.prepare();
    bench.publish_all();
    assert_eq!(told(&bench, Kind::Reload), ["[zone] ttl: default -> \"9s\""]);
    assert_eq!(reloads(&bench), 2);
}

#[test]
fn a_file_that_lost_most_of_its_nodes_is_held_back_until_it_has_them_or_is_forced() {
    let mut bench = Bench::live(TEXT);
    bench.file = cut(TEXT, "node2");
    bench.step(Input::FileSettled(Ok(bench.file.clone())));
    bench.prepare();
    bench.step(Input::Signal(Signal::Hangup));
    bench.elapsed += Duration::from_secs(1);
    bench.step(Input::Tick);
    bench.prepare();
    assert!(bench.wanted().is_none() && bench.nodes() == 3);
    let alarm = bench.core.refused.clone().unwrap();
    for said in ["2 of 3 nodes", "node2, node3", "dns-xdp reload --force"] {
        assert!(alarm.contains(said), "{alarm}");
    }
    assert_eq!(told(&bench, Kind::HeldBack).len(), 1);

    bench.ask(1, Command::Reload { force: false });
    bench.prepare();
    let refusal = bench.reply(1).unwrap().unwrap_err();
    assert_eq!(refusal.kind.exit_code(), 1);
    assert!(refusal.message.contains("dns-xdp reload --force"), "{refusal}");

    bench.file = TEXT.to_owned();
    bench.step(Input::FileSettled(Ok(bench.file.clone())));
    assert_eq!((bench.core.refused.as_ref(), told(&bench, Kind::HeldBackOver).len()), (None, 1));

    bench.file = cut(TEXT, "node2");
    bench.ask(2, Command::Reload { force: true });
    bench.prepare();
    bench.publish_all();
    assert!(bench.reply(2).unwrap().is_ok());
    assert_eq!(bench.nodes(), 1);
}

#[test]
fn a_file_without_this_servers_own_node_is_held_back_and_one_that_lacks_another_is_not() {
    let mut bench = Bench::live(TEXT);
    bench.file = cut(TEXT, "node3").replace("backup = [\"node3\"]\n", "");
    bench.ask(1, Command::Reload { force: false });
    bench.prepare();
    bench.publish_all();
    assert!(bench.reply(1).unwrap().is_ok());
    bench.file = TEXT.replace("node1", "node9");
    bench.ask(2, Command::Reload { force: false });
    bench.prepare();
    let refusal = bench.reply(2).unwrap().unwrap_err();
    assert!(refusal.message.contains("this server's own node, `node1`"), "{refusal}");
    assert_eq!(bench.nodes(), 2);
}

/// A server that has joined its store. Its file differs from the configuration in force: in the server's own part, and
/// in the shared part by `edit`.
fn with_a_limit(mode: Mode, edit: impl Fn(&str) -> String) -> (Bench, Documents) {
    const STORE: &str = "[cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\n";
    let (mut bench, documents) = Bench::shared(Intents::new());
    bench.step(Input::StoreSeen(Box::new(seen(&documents, mode))));
    bench.publish_all();
    bench.file = edit(TEXT) + STORE + "[rate-limit]\nanswers-per-second = 50\n";
    (bench, documents)
}

/// Answers work and publications until the server writes to the store.
fn until_written(bench: &mut Bench) -> Option<(WorkId, Swap)> {
    loop {
        bench.publish_all();
        let swap = bench.take(|effect| match effect {
            Effect::Swap { work, swap } => Some((*work, swap.clone())),
            _ => None,
        });
        if swap.is_some() || !prepares(bench) {
            return swap;
        }
        bench.prepare();
    }
}

fn limit(bench: &Bench) -> u32 {
    bench.core.health.config().flood_limits.rate_limit.answers_per_second
}

fn with_a_ttl(text: &str) -> String {
    text.replace("[listen]", "ttl = \"9s\"\n[listen]")
}

#[test]
fn a_file_that_would_take_most_nodes_from_the_store_is_held_back_with_its_own_part() {
    let (mut bench, _) = with_a_limit(Mode::Joined, |text| cut(text, "node2"));
    bench.ask(1, Command::Reload { force: false });
    assert_eq!(until_written(&mut bench), None);
    let refusal = bench.reply(1).unwrap().unwrap_err();
    assert!(refusal.message.contains("2 of 3 nodes"), "{refusal}");
    assert_eq!(limit(&bench), 0, "nothing was changed");
    bench.ask(2, Command::Reload { force: true });
    assert!(until_written(&mut bench).is_some());
}

#[test]
fn a_reload_that_the_store_does_not_take_changes_nothing_here() {
    for (mode, error) in [
        (Mode::Alone, None),
        (Mode::Joined, Some(Error::Conflict)),
        (Mode::Joined, Some(Error::Unreachable("gone".to_owned()))),
    ] {
        let (mut bench, _) = with_a_limit(mode, with_a_ttl);
        bench.ask(1, Command::Reload { force: false });
        let written = until_written(&mut bench);
        assert_eq!(written.is_some(), mode == Mode::Joined);
        if let (Some((work, _)), Some(error)) = (written, error) {
            bench.step(Input::Swapped { work, result: Err(error) });
            bench.elapsed += Duration::from_secs(6);
            bench.step(Input::Tick);
        }
        assert_eq!(until_written(&mut bench), None);
        let refusal = bench.reply(1).unwrap().unwrap_err();
        assert_eq!(limit(&bench), 0, "{refusal}");
        let failed =
            |effect: &Effect| matches!(effect, Effect::Record(Record::Reloaded { ok: false })).then_some(());
        assert!(bench.take(failed).is_some(), "it counts as a reload that was refused");
    }
}

#[test]
fn a_reload_with_a_store_changes_the_store_first_and_then_this_servers_own_part() {
    let (mut bench, mut documents) = with_a_limit(Mode::Joined, with_a_ttl);
    bench.ask(1, Command::Reload { force: false });
    let (work, swap) = until_written(&mut bench).unwrap();
    assert_eq!(limit(&bench), 0);
    // The next reload takes what was written to the file meanwhile.
    bench.file = "nonsense".to_owned();
    bench.step(Input::Swapped { work, result: Ok(2) });
    assert_eq!(until_written(&mut bench), None);
    assert_eq!((limit(&bench), bench.reply(1)), (50, None));
    for (key, text) in swap.writes {
        documents.texts.insert(key.clone(), String::from_utf8(text).unwrap());
        documents.revisions.insert(key, 2);
    }
    bench.step(Input::StoreSeen(Box::new(seen(&documents, Mode::Joined))));
    assert_eq!(until_written(&mut bench), None);
    let done = bench.reply(1).unwrap().unwrap();
    let notes = done["notes"].to_string();
    assert!(notes.contains("ttl") && notes.contains("answers-per-second"), "{notes}");
    assert!(!notes.contains("nothing has changed"), "{notes}");
    assert_eq!(limit(&bench), 50);
}

#[test]
fn a_reload_of_this_servers_own_part_alone_needs_no_store() {
    let (mut bench, _) = with_a_limit(Mode::Alone, str::to_owned);
    bench.ask(1, Command::Reload { force: false });
    assert_eq!(until_written(&mut bench), None);
    assert!(bench.reply(1).unwrap().is_ok());
    assert_eq!(limit(&bench), 50);
}

#[test]
fn an_own_part_that_cannot_be_published_says_what_the_store_has() {
    let (mut bench, _) = with_a_limit(Mode::Joined, with_a_ttl);
    bench.ask(1, Command::Reload { force: false });
    let (work, _) = until_written(&mut bench).unwrap();
    bench.step(Input::Swapped { work, result: Ok(2) });
    bench.prepare();
    bench.publish(Err("the table is full"));
    let refusal = bench.reply(1).unwrap().unwrap_err();
    assert!(
        refusal.message.contains("the store has") && refusal.message.contains("the table is full"),
        "{refusal}"
    );
    assert_eq!(limit(&bench), 0);
}

#[test]
fn intents_that_the_store_has_lost_are_written_again_by_the_next_command() {
    let (mut bench, mut documents) = Bench::shared([("node2".to_owned(), intent(Admin::Drain, None))].into());
    documents.deleted.insert(INTENT.to_owned());
    bench.step(Input::StoreSeen(Box::new(seen(&documents, Mode::Joined))));
    bench.publish_all();
    let told = documents.deletion().unwrap();
    assert!(told.contains("dns-xdp node") && !told.contains("cluster import"), "{told}");
    // The command changes no intent.
    bench.ask(1, admin("node1", Admin::Auto, None));
    let (_, swap) = until_written(&mut bench).unwrap();
    let written: Intents = serde_json::from_slice(&swap.writes[INTENT]).unwrap();
    assert_eq!((written["node2"].admin, swap.expected[INTENT]), (Admin::Drain, 0));
}

#[test]
fn an_end_that_cannot_be_written_is_an_alarm_until_it_is() {
    let mut bench = Bench::live(TEXT);
    bench.ask(1, admin("node2", Admin::Down, Some(5_000)));
    let work = bench.saved();
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    bench.publish_all();
    bench.elapsed += Duration::from_secs(6);
    bench.step(Input::Tick);
    let work = bench.saved();
    assert_eq!(bench.core.unkept_alarm(), None);
    bench.step(Input::IntentsSaved { work, result: Err("read-only file system".to_owned()) });
    bench.publish_all();
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"], "it has ended all the same");
    let alarm = bench.core.unkept_alarm().unwrap();
    assert!(alarm.contains(STATE) && alarm.contains("read-only file system"), "{alarm}");
    bench.step(Input::Tick);
    let save = |effect: &Effect| matches!(effect, Effect::SaveIntents { .. }).then_some(());
    assert!(bench.take(save).is_none(), "not at once");
    bench.elapsed += Duration::from_secs(5);
    bench.step(Input::Tick);
    let work = bench.saved();
    bench.elapsed += Duration::from_secs(10);
    bench.step(Input::Tick);
    assert!(bench.take(save).is_none(), "one at a time");
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    assert_eq!(bench.core.unkept_alarm(), None);
}

#[test]
fn a_write_that_hangs_is_an_alarm_too() {
    let mut bench = Bench::live(TEXT);
    bench.ask(1, admin("node2", Admin::Down, Some(5_000)));
    let work = bench.saved();
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    bench.elapsed += Duration::from_secs(6);
    bench.step(Input::Tick);
    let work = bench.saved();
    bench.elapsed += Duration::from_secs(10);
    assert!(bench.core.unkept_alarm().is_none());
    bench.step(Input::Tick);
    assert!(bench.core.unkept_alarm().is_some_and(|alarm| alarm.contains("within 10 s")));
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    assert_eq!(bench.core.unkept_alarm(), None);
}

#[test]
fn the_last_good_answers_outlive_a_restart() {
    let text = format!("{TEXT}[failover]\nall-down = \"last-good\"\n");
    let mut bench = Bench::live(&text);
    for node in ["node1", "node2", "node3"] {
        bench.kill_and_publish(node);
    }
    let names = ["node1", "node2", "node3"].map(|node| format!("{node}.demo.example.com."));
    let good = names.each_ref().map(|name| bench.answers(name));
    assert_eq!(good, ["192.0.2.13"; 3].map(|address| vec![address.to_owned()]), "the last one that was up");
    let kept = bench.effects.iter().rev().find_map(|effect| match effect {
        Effect::KeepAnswers { answers, at, .. } => Some(LastAnswers::new(answers, *at)),
        _ => None,
    });
    let kept: LastAnswers = serde_json::from_str(&serde_json::to_string(&kept.unwrap()).unwrap()).unwrap();
    let mut next = Bench::begin(&text, None, Disk { last_answers: Some(kept), ..Disk::default() });
    for node in ["node1", "node2", "node3"] {
        next.observe(node, false);
    }
    next.publish_all();
    assert!(next.core.is_live());
    assert_eq!(names.each_ref().map(|name| next.answers(name)), good);
}

#[test]
fn answers_that_are_frozen_are_not_kept_on_disk() {
    let mut bench = Bench::live(TEXT);
    bench.kill_and_publish("node2");
    for node in ["node1", "node3"] {
        bench.silence(node);
    }
    bench.publish_all();
    assert!(bench.core.health.decision().unwrap().frozen.is_some());
    bench.effects.clear();
    bench.ask(1, admin("node2", Admin::Up, None));
    let work = bench.saved();
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    bench.publish_all();
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"], "an operator has changed them");
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::KeepAnswers { .. })));
}

#[test]
fn a_change_whose_file_cannot_be_put_in_place_leaves_a_dead_node_out() {
    let moved = Command::NodeSet {
        name: "node2".to_owned(),
        ipv4: Some("192.0.2.99".parse().unwrap()),
        ipv6: None,
        keys: Box::default(),
        ephemeral: false,
    };
    let removed = Command::NodeRemove { name: "node2".to_owned(), ephemeral: false };
    let text = TEXT.replace("nodes = [\"node1\", \"node2\"]", "nodes = [\"node1\", \"node3\"]");
    for command in [moved, removed] {
        let mut bench = Bench::live(&text);
        bench.kill_and_publish("node2");
        assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
        bench.ask(1, command);
        let work = bench.prepare();
        bench.publish_all();
        assert_ne!(bench.answers(NODE2), ["192.0.2.13"]);
        bench.step(Input::FileCommitted { work, result: Err("read-only".to_owned()) });
        bench.publish_all();
        assert!(bench.reply(1).unwrap().is_err());
        assert_eq!(bench.answers(NODE2), ["192.0.2.13"], "the dead node stays out");
        for _ in 0..2 {
            bench.observe("node2", true);
        }
        bench.publish_all();
        assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    }
}
