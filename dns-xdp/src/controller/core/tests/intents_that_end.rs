//! Tests of intents whose time ends, with a store and while the store is away.
use super::local_intents::{drained, local};
use super::*;
use crate::intent::{self, LocalIntent};
use crate::store::Error;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// The intents with node2 drained until then.
fn drained_until(seconds: i64) -> Intents {
    [("node2".to_owned(), Intent { until: Some(at(seconds)), ..drained("bob") })].into()
}

/// Returns the documents with these intents, at the next revision.
fn next(documents: &Documents, intents: Intents) -> Documents {
    let mut next = Documents { intents, ..documents.clone() };
    next.revisions.insert(INTENT.to_owned(), documents.epoch() + 1);
    next
}

impl Bench {
    /// A server whose store is away, with these decisions on its disk.
    fn restarted(intents: Intents, local: Local, elapsed: Duration) -> (Bench, Documents) {
        let (text, documents) = beside_a_store(TEXT, intents);
        let disk = Disk { local, intents: documents.intents.clone(), ..Disk::default() };
        let mut bench = Bench::begin_at(&text, Some(documents.clone()), disk, elapsed);
        for node in ["node1", "node2", "node3"] {
            bench.observe(node, true);
        }
        (bench.open(), documents)
    }

    fn stored(&mut self) -> Option<Intents> {
        let (_, swap) = self.written()?;
        Some(serde_json::from_slice(&swap.writes[INTENT]).unwrap())
    }

    fn told(&self, text: &str) -> bool {
        let tells = |effect: &Effect| matches!(effect, Effect::Emit(told) if told.to_string().contains(text));
        self.effects.iter().any(tells)
    }
}

#[test]
fn the_mere_end_of_a_stored_intent_does_not_overrule_a_local_one() {
    // The clock of the server that ended the intent is right, or ahead.
    for (ended, elapsed) in [(61, 61), (62, 58)] {
        let (mut bench, documents) = Bench::shared(drained_until(60));
        bench.ask(1, local("node2", Admin::Up, None));
        bench.local_saved();
        bench.elapsed = Duration::from_secs(elapsed);
        let (left, _) = intent::expire(&documents.intents, at(ended)).unwrap();
        bench.sees(&next(&documents, left), Mode::Joined);
        assert!(!bench.told("the store's intent counts again"), "{:?}", bench.effects);
        assert_eq!(bench.stored().unwrap()["node2"].admin, Admin::Up);
    }
}

#[test]
fn the_mere_end_of_a_stored_intent_refuses_no_command_that_is_written_at_the_same_time() {
    let (mut bench, documents) = Bench::shared(drained_until(60));
    bench.sees(&documents, Mode::Joined);
    bench.ask(1, admin("node2", Admin::Up, None));
    let (work, _) = bench.written().unwrap();
    bench.elapsed = Duration::from_secs(61);
    bench.step(Input::Swapped { work, result: Err(Error::Conflict) });
    let (left, _) = intent::expire(&documents.intents, at(61)).unwrap();
    bench.sees(&next(&documents, left), Mode::Joined);
    assert_eq!(bench.reply(1), None);
    assert_eq!(bench.stored().unwrap()["node2"].admin, Admin::Up);
}

#[test]
fn a_local_intent_that_ended_while_the_daemon_was_away_changes_nothing_in_the_store() {
    let up = Intent { admin: Admin::Up, until: Some(at(60)), ..drained("alice") };
    let stored = Intents::from([("node2".to_owned(), drained("bob"))]);
    let intents =
        [("node2".to_owned(), LocalIntent { intent: up, base: stored.get("node2").cloned(), offered: None })];
    let local = Local { intents: intents.into(), ..Local::default() };
    let (mut bench, documents) = Bench::restarted(stored, local, Duration::from_secs(100));
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
    bench.sees(&documents, Mode::Joined);
    assert_eq!(bench.stored(), None);
    bench.step(Input::Tick);
    bench.publish_all();
    assert!(bench.core.local.is_empty() && bench.stored().is_none());
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
}

#[test]
fn a_stored_intent_that_ended_while_the_daemon_was_away_is_not_in_the_first_answers() {
    let (bench, _) = Bench::restarted(drained_until(60), Local::default(), Duration::from_secs(100));
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    assert!(bench.told("its time is over; it was drain"));
}

#[test]
fn an_intent_that_has_ended_and_comes_with_other_documents_is_no_event() {
    let (mut bench, documents) = Bench::shared(Intents::new());
    bench.elapsed = Duration::from_secs(100);
    let mut other = next(&documents, drained_until(60));
    let nodes = other.texts["config/nodes"].replace("192.0.2.13", "192.0.2.14");
    other.texts.insert("config/nodes".to_owned(), nodes);
    bench.sees(&other, Mode::Joined);
    bench.prepare();
    bench.publish_all();
    assert_eq!(bench.answers("node3.demo.example.com."), ["192.0.2.14"]);
    assert!(!bench.told("drain"));
}

#[test]
fn a_local_auto_takes_back_a_local_intent_above_a_stored_one_that_has_ended() {
    let (mut bench, _) = Bench::shared(drained_until(60));
    bench.ask(1, local("node2", Admin::Down, None));
    bench.local_saved();
    bench.elapsed = Duration::from_secs(61);
    bench.ask(2, local("node2", Admin::Auto, None));
    assert!(bench.local_saved().is_empty());
    assert_eq!((bench.core.local_alarms().count(), bench.answers(NODE2)), (0, vec!["192.0.2.12".to_owned()]));
}

#[test]
fn a_local_intent_with_an_end_is_followed_by_the_stores() {
    let (mut bench, _) = Bench::shared([("node2".to_owned(), drained("bob"))].into());
    bench.ask(1, local("node2", Admin::Up, Some(60_000)));
    bench.local_saved();
    let notes = bench.reply(1).unwrap().unwrap()["notes"].to_string();
    assert!(notes.contains("at 1970-01-01T00:01:01Z the store's intent counts again"), "{notes}");
    assert!(!notes.contains("back to auto"), "{notes}");
}

#[test]
fn a_local_intent_that_is_overruled_while_it_is_kept_on_disk_is_not_written_to_the_store() {
    let (mut bench, documents) = Bench::shared(Intents::new());
    bench.ask(1, local("node2", Admin::Drain, None));
    let bobs = [("node2".to_owned(), Intent { admin: Admin::Up, ..drained("bob") })].into();
    bench.sees(&next(&documents, bobs), Mode::Joined);
    bench.local_saved();
    bench.step(Input::Tick);
    bench.publish_all();
    assert_eq!(bench.stored(), None);
    assert!(bench.core.local.is_empty());
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
}

#[test]
fn what_is_decided_in_the_store_counts_at_once_though_the_server_has_not_joined_again() {
    let (mut bench, documents) = Bench::drained_here();
    bench.step(Input::StoreSeen(Box::new(Seen { is_up: true, ..seen(&documents, Mode::Alone) })));
    bench.ask(1, admin("node2", Admin::Up, None));
    let (work, swap) = bench.written().unwrap();
    bench.step(Input::Swapped { work, result: Ok(2) });
    let written = next(&documents, serde_json::from_slice(&swap.writes[INTENT]).unwrap());
    bench.step(Input::StoreSeen(Box::new(Seen { is_up: true, ..seen(&written, Mode::Alone) })));
    bench.publish_all();
    assert!(bench.reply(1).unwrap().is_ok());
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
}

#[test]
fn what_a_server_has_decided_about_a_node_ends_when_the_node_is_removed_from_the_store() {
    let (mut bench, documents) = Bench::shared(Intents::new());
    bench.ask(1, local("node3", Admin::Drain, None));
    bench.local_saved();
    let mut removed = next(&documents, Intents::new());
    let nodes =
        removed.texts["config/nodes"].replace("[[node]]\nname = \"node3\"\nipv4 = \"192.0.2.13\"\n", "");
    removed.texts.insert("config/nodes".to_owned(), nodes.replace("backup = [\"node3\"]\n", ""));
    bench.sees(&removed, Mode::Joined);
    bench.prepare();
    bench.publish_all();
    assert_eq!(bench.nodes(), 2);
    bench.step(Input::Tick);
    assert_eq!(bench.stored(), None);
    assert!(bench.core.local.is_empty() && bench.local_saved().is_empty());

    let documents = Documents { intents: Intents::new(), ..next(&removed, Intents::new()) };
    let again = Documents { texts: Bench::shared(Intents::new()).1.texts, ..documents };
    bench.sees(&again, Mode::Joined);
    bench.prepare();
    bench.publish_all();
    assert_eq!(bench.answers("node3.demo.example.com."), ["192.0.2.13"]);
}
