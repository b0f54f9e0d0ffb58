//! Tests of intents that an operator sets on one server while the store is away.
use super::*;
use crate::intent::LocalIntent;
use crate::store::{Error, Swap};

pub(super) fn local(node: &str, admin: Admin, for_ms: Option<u64>) -> Command {
    let (node, by) = (node.to_owned(), Some("alice".to_owned()));
    Command::Admin { node, admin, reason: None, by, for_ms, force: false, local: true }
}

pub(super) fn drained(by: &str) -> Intent {
    Intent { by: Some(by.to_owned()), ..intent(Admin::Drain, None) }
}

impl Bench {
    /// Performs the write of this server's own decisions.
    pub(super) fn local_saved(&mut self) -> Local {
        let saved = self.take(|effect| match effect {
            Effect::SaveLocal { work, local, .. } => Some((*work, Local::clone(local))),
            _ => None,
        });
        let (work, local) = saved.expect("something is to be kept on disk");
        self.step(Input::IntentsSaved { work, result: Ok(()) });
        self.publish_all();
        local
    }

    pub(super) fn written(&mut self) -> Option<(WorkId, Swap)> {
        self.take(|effect| match effect {
            Effect::Swap { work, swap } => Some((*work, swap.clone())),
            _ => None,
        })
    }

    pub(super) fn sees(&mut self, documents: &Documents, mode: Mode) {
        self.step(Input::StoreSeen(Box::new(seen(documents, mode))));
        self.publish_all();
    }

    /// A lone server with node2 drained on this server only.
    pub(super) fn drained_here() -> (Bench, Documents) {
        let (mut bench, documents) = Bench::shared(Intents::new());
        bench.ask(7, local("node2", Admin::Drain, None));
        bench.local_saved();
        let notes = bench.reply(7).unwrap().unwrap()["notes"].to_string();
        assert!(notes.contains("on this server alone"), "{notes}");
        assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
        (bench, documents)
    }
}

#[test]
fn a_local_intent_is_refused_without_a_store_and_beside_one_that_is_reached() {
    let mut bench = Bench::live(TEXT);
    bench.ask(1, local("node2", Admin::Drain, None));
    let refusal = bench.reply(1).unwrap().unwrap_err();
    assert_eq!(
        (refusal.kind, &*refusal.message),
        (RefusalKind::Invalid, "there is no store: leave --local out")
    );
    let (mut bench, documents) = Bench::shared(Intents::new());
    bench.sees(&documents, Mode::Joined);
    bench.ask(2, local("node2", Admin::Drain, None));
    let refusal = bench.reply(2).unwrap().unwrap_err();
    assert!(refusal.message.contains("the store is reached: leave --local out"), "{refusal}");
}

#[test]
fn the_refusal_of_an_intent_while_the_store_is_away_names_the_option() {
    let (mut bench, _) = Bench::shared(Intents::new());
    bench.ask(1, admin("node2", Admin::Drain, None));
    let refusal = bench.reply(1).unwrap().unwrap_err();
    assert!(refusal.message.ends_with("or with --local for this server alone"), "{refusal}");
}

#[test]
fn a_local_intent_counts_here_and_goes_to_the_store_when_it_is_back() {
    let (mut bench, documents) = Bench::drained_here();
    assert_eq!(bench.core.local_alarms().count(), 1);
    bench.step(Input::Tick);
    assert!(bench.written().is_none(), "the store is away");

    bench.sees(&documents, Mode::Joined);
    let (work, swap) = bench.written().unwrap();
    assert_eq!(swap.expected[INTENT], 1);
    bench.step(Input::Swapped { work, result: Err(Error::Unreachable("gone again".to_owned())) });
    assert!(bench.local_saved().intents["node2"].offered.is_some(), "this outlives a restart");
    bench.step(Input::Tick);
    let (work, swap) = bench.written().expect("it is tried again");
    bench.step(Input::Swapped { work, result: Ok(2) });
    let mut next = documents.clone();
    next.intents = serde_json::from_slice(&swap.writes[INTENT]).unwrap();
    next.revisions.insert(INTENT.to_owned(), 2);
    assert_eq!(
        (next.intents["node2"].admin, next.intents["node2"].by.as_deref()),
        (Admin::Drain, Some("alice"))
    );
    bench.sees(&next, Mode::Joined);
    assert!(bench.core.local.is_empty() && bench.local_saved().is_empty());
    assert_eq!((bench.core.local_alarms().count(), bench.answers(NODE2)), (0, vec!["192.0.2.13".to_owned()]));
    bench.step(Input::Tick);
    assert!(bench.written().is_none());
}

#[test]
fn a_local_intent_whose_write_had_no_answer_is_taken_back_everywhere() {
    for is_in_store in [true, false] {
        let (mut bench, documents) = Bench::drained_here();
        bench.sees(&documents, Mode::Joined);
        let (work, swap) = bench.written().unwrap();
        bench.step(Input::Swapped { work, result: Err(Error::Unreachable("timed out".to_owned())) });
        bench.local_saved();
        bench.sees(&documents, Mode::Alone);
        bench.ask(8, local("node2", Admin::Auto, None));
        bench.local_saved();
        assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);

        let mut next = documents.clone();
        if is_in_store {
            next.intents = serde_json::from_slice(&swap.writes[INTENT]).unwrap();
            next.revisions.insert(INTENT.to_owned(), 2);
        }
        bench.sees(&next, Mode::Joined);
        assert_eq!(bench.answers(NODE2), ["192.0.2.12"], "{is_in_store}");
        let (_, swap) = bench.written().unwrap();
        let written: Intents = serde_json::from_slice(&swap.writes[INTENT]).unwrap();
        assert_eq!(written["node2"].admin, Admin::Auto, "{is_in_store}");
    }
}

#[test]
fn another_decision_meanwhile_overrules_a_local_intent() {
    let (mut bench, mut documents) = Bench::drained_here();
    documents.intents.insert("node2".to_owned(), Intent { admin: Admin::Up, ..drained("bob") });
    documents.revisions.insert(INTENT.to_owned(), 2);
    bench.sees(&documents, Mode::Joined);
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    assert!(bench.core.local.is_empty() && bench.written().is_none());
    let told = bench.take(|effect| match effect {
        Effect::Emit(occurrence) if occurrence.to_string().contains("the store's intent counts again") => {
            Some(())
        }
        _ => None,
    });
    assert!(told.is_some());
}

#[test]
fn a_local_intent_ends_at_its_time_and_with_auto() {
    let (mut bench, _) = Bench::shared(Intents::new());
    bench.ask(1, local("node2", Admin::Drain, Some(60_000)));
    bench.local_saved();
    bench.elapsed += Duration::from_secs(61);
    bench.step(Input::Tick);
    bench.publish_all();
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    assert!(bench.local_saved().is_empty());

    let (mut bench, _) = Bench::drained_here();
    bench.ask(8, local("node2", Admin::Auto, None));
    bench.local_saved();
    assert!(bench.reply(8).unwrap().is_ok() && bench.core.local.is_empty());
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
}

#[test]
fn a_local_intent_counts_above_the_stores_and_after_a_restart() {
    let (text, documents) = beside_a_store(TEXT, [("node2".to_owned(), drained("bob"))].into());
    let up = Intent { admin: Admin::Up, ..drained("alice") };
    let base = documents.intents.get("node2").cloned();
    let intents = [("node2".to_owned(), LocalIntent { intent: up, base, offered: None })].into();
    let local = Local { intents, ..Local::default() };
    let disk = Disk { local, intents: documents.intents.clone(), ..Disk::default() };
    let mut bench = Bench::begin(&text, Some(documents.clone()), disk);
    for node in ["node1", "node2", "node3"] {
        bench.observe(node, true);
    }
    let mut bench = bench.open();
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    bench.sees(&documents, Mode::Joined);
    let (_, swap) = bench.written().unwrap();
    let written: Intents = serde_json::from_slice(&swap.writes[INTENT]).unwrap();
    assert_eq!(written["node2"].admin, Admin::Up);
}
