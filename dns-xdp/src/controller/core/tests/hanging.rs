//! Tests of work outside the core that hangs: it is given up, and delays no other work.
use super::*;

#[test]
fn a_change_whose_working_out_hangs_is_refused_and_holds_nothing_up() {
    let mut bench = Bench::live(TEXT);
    bench.ask(1, add("node4", 14));
    let (work, job) = bench.job();
    bench.ask(2, admin("node2", Admin::Down, None));
    bench.step(Input::Tick);
    assert_eq!(bench.reply(1), None);
    bench.elapsed += Duration::from_secs(10);
    bench.step(Input::Tick);
    let refusal = bench.reply(1).unwrap().unwrap_err();
    assert!(refusal.message.contains("could not be prepared within 10 s"), "{refusal}");
    let saved = bench.saved();
    bench.step(Input::IntentsSaved { work: saved, result: Ok(()) });
    bench.publish(Ok(()));
    assert!(bench.reply(2).unwrap().is_ok());
    bench.end_job(work, job);
    assert!(bench.is_dropped(work), "the result comes too late");
    assert!(bench.wanted().is_none() && bench.nodes() == 3);
}

#[test]
fn what_is_wanted_of_a_node_is_refused_when_the_disk_hangs_and_does_not_count_later_either() {
    let mut bench = Bench::live(TEXT);
    bench.ask(1, admin("node2", Admin::Down, None));
    let work = bench.saved();
    bench.ask(2, Command::Reload { force: false });
    bench.elapsed += Duration::from_secs(10);
    bench.step(Input::Tick);
    let refusal = bench.reply(1).unwrap().unwrap_err();
    assert!(refusal.message.contains("could not be written within 10 s"), "{refusal}");
    bench.prepare();
    bench.publish(Ok(()));
    assert!(bench.reply(2).unwrap().is_ok(), "others go on");
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    let is_empty = |effect: &Effect| match effect {
        Effect::SaveIntents { intents, .. } => Some(intents.is_empty()),
        _ => None,
    };
    assert_eq!(bench.take(is_empty), Some(true), "the disk says what counts");
}

#[test]
fn a_local_intent_that_the_disk_does_not_take_names_its_own_file() {
    let (mut bench, _) = Bench::shared(Intents::new());
    let (node, admin) = ("node2".to_owned(), Admin::Drain);
    bench.ask(
        1,
        Command::Admin { node, admin, reason: None, by: None, for_ms: None, force: false, local: true },
    );
    bench.elapsed += Duration::from_secs(10);
    bench.step(Input::Tick);
    let refusal = bench.reply(1).unwrap().unwrap_err();
    let file = bench.core.health.config().control.local();
    assert!(refusal.message.contains(&file.display().to_string()), "{refusal}");
}

#[test]
fn what_had_its_time_ends_though_the_disk_hangs() {
    let mut bench = Bench::live(TEXT);
    bench.ask(1, admin("node2", Admin::Down, Some(60_000)));
    let work = bench.saved();
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    bench.publish(Ok(()));
    bench.elapsed += Duration::from_secs(61);
    bench.step(Input::Tick);
    bench.publish(Ok(()));
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    bench.saved();
    bench.kill_and_publish("node3");
    assert_eq!(bench.answers("node3.demo.example.com."), ["192.0.2.11"]);
}
