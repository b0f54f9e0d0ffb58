//! Reloads that nobody waits for, files that are held back, and what is kept on disk.
use super::*;

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

/// The nodes from this one on are missing: a program was interrupted while it wrote the file.
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

#[test]
fn a_file_that_would_take_most_nodes_from_the_store_is_held_back() {
    let (mut bench, documents) = Bench::shared(Intents::new());
    bench.step(Input::StoreSeen(Box::new(seen(&documents, Mode::Joined))));
    bench.publish_all();
    bench.file =
        cut(&bench.file, "node2") + "[cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\n";
    for (call, force) in [(1, false), (2, true)] {
        bench.ask(call, Command::Reload { force });
        bench.prepare();
        bench.publish_all();
        bench.prepare();
        let swap = bench.take(|effect| match effect {
            Effect::Swap { swap, .. } => Some(swap.clone()),
            _ => None,
        });
        assert_eq!(swap.is_some(), force);
        if !force {
            let refusal = bench.reply(call).unwrap().unwrap_err();
            assert!(refusal.message.contains("2 of 3 nodes"), "{refusal}");
        }
    }
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
