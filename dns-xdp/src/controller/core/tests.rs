//! Tests of the core alone: inputs in, effects out.
mod failback;
mod holds_beside_a_store;
mod intents_that_end;
mod local_intents;

use std::collections::BTreeSet;
use std::path::Path;

use jiff::Timestamp;
use serde_json::Value;

use super::state::tests::{TEXT, config};
use super::*;
use crate::cluster::Admin;
use crate::health::{CLEAN_ROUNDS, Failure, Health, Observation, ProbeId, Subject};
use crate::intent::Intent;
use crate::store::Documents;
use crate::store::client::{Mode, View};
use crate::store::documents::{INTENT, split};

mod changes;
mod hanging;
mod probing;
mod updates;

/// A core and the effects that it asks for.
struct Bench {
    core: Core,
    effects: Vec<Effect>,
    elapsed: Duration,
    file: String,
    /// The nodes that were killed.
    dead: BTreeSet<String>,
    /// The last publication.
    zone: Option<Arc<crate::zone::Zone>>,
}

/// The files that a server finds on its disk when it starts.
#[derive(Default)]
struct Disk {
    intents: Intents,
    local: Local,
    last_answers: Option<LastAnswers>,
}

impl Bench {
    /// A core with all nodes up and in the answers.
    fn live(text: &str) -> Bench {
        Bench::start(text, None)
    }

    /// A live core beside a store that has the shared sections. The core has not reached the store.
    fn shared(intents: Intents) -> (Bench, Documents) {
        let (text, documents) = beside_a_store(TEXT, intents);
        (Bench::start(&text, Some(documents.clone())), documents)
    }

    fn start(text: &str, documents: Option<Documents>) -> Bench {
        let intents = documents.as_ref().map(|documents| documents.intents.clone()).unwrap_or_default();
        let mut bench = Bench::begin(text, documents, Disk { intents, ..Disk::default() });
        for node in ["node1", "node2", "node3"] {
            bench.observe(node, true);
        }
        bench.open()
    }

    /// A core that has not heard of any node yet.
    fn begin(text: &str, documents: Option<Documents>, disk: Disk) -> Bench {
        Bench::begin_at(text, documents, disk, Duration::ZERO)
    }

    /// Like [`begin`], at this time after the epoch.
    fn begin_at(text: &str, documents: Option<Documents>, disk: Disk, elapsed: Duration) -> Bench {
        let parsed = config(text);
        let (path, socket) = (&parsed.path, &parsed.control.socket);
        let (source, config) = Source::new(path, socket, text.to_owned(), documents.clone()).unwrap();
        let shared = documents.map(|documents| ("node1".to_owned(), seen(&documents, Mode::Alone)));
        let Disk { intents, local, last_answers } = disk;
        let identity = "node1".to_owned();
        let beginning = Beginning { config, source, intents, shared, local, identity, last_answers };
        let (core, effects) = Core::new(beginning, now(elapsed));
        let (file, dead) = (text.to_owned(), BTreeSet::new());
        Bench { core, effects, elapsed, file, dead, zone: None }
    }

    /// Publishes the first answers.
    fn open(mut self) -> Bench {
        if self.core.shares() {
            self.elapsed += FIRST_VIEW;
            self.step(Input::Tick);
        }
        self.publish(Ok(()));
        assert!(self.core.is_live());
        self
    }

    fn step(&mut self, input: Input) {
        self.elapsed += Duration::from_millis(1);
        let effects = self.core.step(now(self.elapsed), input);
        self.effects.extend(effects);
    }

    fn observe(&mut self, node: &str, success: bool) {
        if success {
            self.dead.remove(node);
        }
        let failure = || Failure { reason: "refused".to_owned(), visible: true };
        let observation = if success {
            Observation::Success { round_trip: Duration::from_millis(1) }
        } else {
            Observation::Failure(failure())
        };
        let probe = ProbeId::first(Subject::Node(node.to_owned()));
        self.step(Input::Probed { probe, at: self.elapsed, observation });
    }

    /// Makes a probe of a node fail by a timeout.
    fn silence(&mut self, node: &str) {
        let observation = Observation::Failure(Failure { reason: "timeout".to_owned(), visible: false });
        let probe = ProbeId::first(Subject::Node(node.to_owned()));
        self.step(Input::Probed { probe, at: self.elapsed, observation });
    }

    /// Makes a node fail until it is down, while the other nodes answer.
    fn kill(&mut self, node: &str) {
        self.dead.insert(node.to_owned());
        self.observe(node, false);
        for other in ["node1", "node2", "node3"].into_iter().filter(|other| *other != node) {
            self.observe(other, !self.dead.contains(other));
        }
        (0..2).for_each(|_| self.observe(node, false));
    }

    /// Makes a node fail, and publishes both when it is in doubt and when it is down.
    fn kill_and_publish(&mut self, node: &str) {
        self.kill(node);
        self.publish_all();
    }

    fn ask(&mut self, call: CallId, command: Command) {
        self.step(Input::Asked { call, command });
    }

    /// Removes the first effect that `wanted` returns a value for, and returns the value.
    fn take<T>(&mut self, wanted: impl Fn(&Effect) -> Option<T>) -> Option<T> {
        let place = self.effects.iter().position(|effect| wanted(effect).is_some())?;
        wanted(&self.effects.remove(place))
    }

    /// Takes the answers that the core wants to publish.
    fn wanted(&mut self) -> Option<Published> {
        self.take(|effect| match effect {
            Effect::Publish(published) | Effect::Open(published) => Some(published.clone()),
            _ => None,
        })
    }

    /// Publishes until nothing is left to publish: a failing node is in doubt first, and that is published too.
    fn publish_all(&mut self) {
        while let Some(published) = self.wanted() {
            self.end_publication(&published, Ok(()));
        }
    }

    /// Performs the next publication with this result.
    fn publish(&mut self, result: Result<(), &str>) {
        let published = self.wanted().expect("something is to be published");
        self.end_publication(&published, result);
    }

    fn end_publication(&mut self, published: &Published, result: Result<(), &str>) {
        let zone = Arc::new(published.zone());
        let took = Some(Duration::from_millis(1));
        let publication = Publication::new(published, self.zone.as_deref(), Arc::clone(&zone), took);
        let is_live = self.core.is_live();
        match result {
            Ok(()) => self.zone = Some(zone),
            Err(error) => return self.step(Input::Published(Err(error.to_owned()))),
        }
        let publication = Box::new(publication);
        self.step(if is_live { Input::Published(Ok(publication)) } else { Input::Opened(publication) });
    }

    /// Prepares the change that the core asks for, from the present file.
    fn prepare(&mut self) -> WorkId {
        let (work, job) = self.job();
        self.end_job(work, job)
    }

    /// Takes the change that the core wants prepared.
    fn job(&mut self) -> (WorkId, Job) {
        let place = self.effects.iter().position(|effect| matches!(effect, Effect::Prepare { .. }));
        let Effect::Prepare { work, job } =
            self.effects.remove(place.expect("something is to be worked out"))
        else {
            unreachable!()
        };
        (work, *job)
    }

    fn end_job(&mut self, work: WorkId, job: Job) -> WorkId {
        let file = self.file.clone();
        let result = job.run(|_: &Path| Ok(file)).map(Box::new);
        self.step(Input::Prepared { work, result });
        work
    }

    fn reply(&mut self, wanted: CallId) -> Option<Result<Value, Refusal>> {
        self.take(|effect| match effect {
            Effect::Reply { call, answer } if *call == wanted => Some(answer.clone()),
            _ => None,
        })
    }

    fn is_dropped(&mut self, work: WorkId) -> bool {
        let dropped =
            |effect: &Effect| matches!(effect, Effect::DropFile { work: own } if *own == work).then_some(());
        self.take(dropped).is_some()
    }

    fn saved(&mut self) -> WorkId {
        let save = |effect: &Effect| match effect {
            Effect::SaveIntents { work, .. } => Some(*work),
            _ => None,
        };
        self.take(save).expect("something is to be kept on disk")
    }

    fn answers(&self, name: &str) -> Vec<String> {
        let name = hickory_proto::rr::Name::from_ascii(name).unwrap();
        let zone = self.zone.as_ref().unwrap();
        zone.addresses(&name).map_or_else(Vec::new, |all| all.iter().map(|it| it.to_string()).collect())
    }

    fn nodes(&self) -> usize {
        self.core.health.config().cluster.nodes.len()
    }

    fn occurrences(&self) -> Vec<Kind> {
        let kind = |effect: &Effect| match effect {
            Effect::Emit(occurrence) => Some(occurrence.kind),
            _ => None,
        };
        self.effects.iter().filter_map(kind).collect()
    }
}

/// Returns a file beside a store, and the store's documents.
fn beside_a_store(text: &str, intents: Intents) -> (String, Documents) {
    let text = format!("{text}[cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\n");
    let (_, texts) = split(&text).unwrap();
    let revisions = texts.keys().map(|key| (key.clone(), 1)).chain([(INTENT.to_owned(), 1)]).collect();
    let documents = Documents { texts, revisions, intents, ..Documents::default() };
    (text, documents)
}

/// Returns the view of the store of a server in this mode.
fn seen(documents: &Documents, mode: Mode) -> Seen {
    let view = View { documents: Arc::new(documents.clone()), ..View::of([], []) };
    let is_up = mode == Mode::Joined;
    Seen { view: Arc::new(view), mode, trouble: None, since: Timestamp::UNIX_EPOCH, offered: None, is_up }
}

fn intent(admin: Admin, until: Option<Timestamp>) -> Intent {
    Intent { until, ..Intent::new(admin, Timestamp::UNIX_EPOCH) }
}

fn now(elapsed: Duration) -> Now {
    let wall = Timestamp::UNIX_EPOCH + jiff::SignedDuration::try_from(elapsed).unwrap();
    Now { elapsed, wall }
}

const NODE2: &str = "node2.demo.example.com.";

fn add(name: &str, last: u8) -> Command {
    let ipv4 = Some([192, 0, 2, last].into());
    Command::NodeAdd { name: name.to_owned(), ipv4, ipv6: None, keys: Box::default(), ephemeral: false }
}

fn admin(node: &str, admin: Admin, for_ms: Option<u64>) -> Command {
    Command::Admin {
        node: node.to_owned(),
        admin,
        reason: None,
        by: None,
        for_ms,
        force: false,
        local: false,
    }
}

#[test]
fn what_is_decided_while_something_is_published_is_published_behind_it_as_one() {
    let mut bench = Bench::live(TEXT);
    bench.kill("node2");
    let first = bench.wanted().unwrap();
    bench.kill("node3");
    assert!(bench.wanted().is_none(), "one at a time");
    bench.observe("node2", true);
    bench.observe("node2", true);
    bench.end_publication(&first, Ok(()));
    bench.publish(Ok(()));
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
    assert_eq!(bench.answers("node3.demo.example.com."), ["192.0.2.11"]);
    assert!(bench.wanted().is_none());
}

#[test]
fn what_cannot_be_published_is_tried_again_with_the_next_tick_and_is_an_event_once() {
    let mut bench = Bench::live(TEXT);
    bench.kill("node2");
    bench.publish(Err("no memory"));
    bench.step(Input::Tick);
    bench.publish(Err("no memory"));
    let unpublished =
        |bench: &Bench| bench.occurrences().iter().filter(|kind| **kind == Kind::Unpublished).count();
    assert_eq!(unpublished(&bench), 1);
    bench.step(Input::Tick);
    bench.publish(Ok(()));
    assert!(bench.occurrences().contains(&Kind::Published));
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
    bench.step(Input::Tick);
    assert!(bench.wanted().is_none());
}

#[test]
fn a_service_without_a_healthy_member_is_an_event_when_its_last_one_falls_and_when_one_is_back() {
    let mut bench = Bench::live(TEXT);
    bench.kill_and_publish("node1");
    assert!(!bench.occurrences().contains(&Kind::ServiceDown), "node2 answers for db");
    bench.kill_and_publish("node2");
    let down = bench.occurrences().into_iter().filter(|kind| *kind == Kind::ServiceDown);
    assert_eq!(down.count(), 1);
    for _ in 0..2 {
        bench.observe("node1", true);
    }
    bench.publish_all();
    assert!(bench.occurrences().contains(&Kind::ServiceUp));
}

#[test]
fn a_change_is_in_force_when_it_is_published_and_answered_when_its_file_is_in_place() {
    let mut bench = Bench::live(TEXT);
    bench.ask(7, add("node4", 14));
    assert_eq!(bench.nodes(), 3);
    let work = bench.prepare();
    assert_eq!(bench.nodes(), 3);
    bench.publish(Ok(()));
    assert_eq!((bench.nodes(), bench.reply(7)), (4, None));
    assert!(bench.take(|effect| matches!(effect, Effect::CommitFile { .. }).then_some(())).is_some());
    bench.step(Input::FileCommitted { work, result: Ok(()) });
    assert!(bench.reply(7).unwrap().is_ok());
}

#[test]
fn a_change_that_cannot_be_published_leaves_everything_as_it_was() {
    let mut bench = Bench::live(TEXT);
    bench.ask(7, add("node4", 14));
    let work = bench.prepare();
    bench.publish(Err("the table is full"));
    let refusal = bench.reply(7).unwrap().unwrap_err();
    assert_eq!((&*refusal.message, bench.nodes()), ("the table is full", 3));
    assert!(bench.is_dropped(work));
    bench.step(Input::Tick);
    assert!(bench.wanted().is_none(), "the old answers are right");
}

#[test]
fn a_file_that_cannot_be_put_in_place_brings_back_what_was_in_force() {
    let mut bench = Bench::live(TEXT);
    bench.ask(7, add("node4", 14));
    let work = bench.prepare();
    bench.publish(Ok(()));
    bench.step(Input::FileCommitted { work, result: Err("read-only".to_owned()) });
    assert_eq!(bench.reply(7), None);
    bench.publish(Ok(()));
    let refusal = bench.reply(7).unwrap().unwrap_err();
    assert!(refusal.message.contains("read-only; nothing was changed"), "{refusal}");
    assert_eq!((bench.nodes(), bench.answers("node4.demo.example.com.").len()), (3, 0));
}

#[test]
fn names_fail_over_while_a_change_is_worked_out_and_while_its_file_is_written() {
    let mut bench = Bench::live(TEXT);
    bench.ask(7, add("node4", 14));
    bench.kill_and_publish("node2");
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
    bench.prepare();
    bench.publish(Ok(()));
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"], "the change uses the known verdicts");
    bench.kill_and_publish("node3");
    assert_eq!(bench.answers(NODE2), ["192.0.2.11"]);
    assert_eq!(bench.reply(7), None);
}

#[test]
fn what_is_found_while_a_change_is_published_is_published_behind_it() {
    let mut bench = Bench::live(TEXT);
    bench.ask(7, add("node4", 14));
    bench.prepare();
    let change = bench.wanted().unwrap();
    bench.kill("node2");
    assert!(bench.wanted().is_none());
    bench.end_publication(&change, Ok(()));
    assert_eq!((bench.nodes(), bench.answers(NODE2)), (4, vec!["192.0.2.12".to_owned()]));
    bench.publish(Ok(()));
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
}

#[test]
fn what_is_prolonged_as_it_ends_is_kept_on_disk_as_it_counts() {
    let mut bench = Bench::live(TEXT);
    bench.ask(1, admin("node2", Admin::Drain, Some(5_000)));
    let work = bench.saved();
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    bench.publish_all();
    bench.ask(2, admin("node2", Admin::Drain, Some(3_600_000)));
    let prolonged = bench.saved();
    bench.elapsed += Duration::from_secs(6);
    bench.step(Input::Tick);
    bench.saved();
    bench.step(Input::IntentsSaved { work: prolonged, result: Ok(()) });
    bench.publish_all();
    assert!(bench.core.health.intents().contains_key("node2"));
    let kept = |effect: &Effect| match effect {
        Effect::SaveIntents { intents, .. } => Some(intents.clone()),
        _ => None,
    };
    assert_eq!(bench.take(kept).as_ref(), Some(bench.core.health.intents()));
}

#[test]
fn a_repair_is_counted_though_something_else_is_decided_while_it_is_published() {
    let mut bench = Bench::live(TEXT);
    bench.kill("node2");
    bench.publish(Ok(()));
    let failover = bench.wanted().unwrap();
    bench.observe("node3", false);
    bench.end_publication(&failover, Ok(()));
    bench.publish_all();
    let repaired = |effect: &&Effect| matches!(effect, Effect::Record(Record::Repaired(_)));
    assert_eq!(bench.effects.iter().filter(repaired).count(), 1);
}

#[test]
fn changes_are_made_one_after_the_other() {
    let mut bench = Bench::live(TEXT);
    bench.ask(1, add("node4", 14));
    bench.ask(2, add("node5", 15));
    let first = bench.prepare();
    assert!(!bench.effects.iter().any(|effect| matches!(effect, Effect::Prepare { .. })));
    bench.publish(Ok(()));
    bench.file = format!("{TEXT}[[node]]\nname = \"node4\"\nipv4 = \"192.0.2.14\"\n");
    bench.step(Input::FileCommitted { work: first, result: Ok(()) });
    let second = bench.prepare();
    bench.publish(Ok(()));
    bench.step(Input::FileCommitted { work: second, result: Ok(()) });
    assert!(bench.reply(1).unwrap().is_ok() && bench.reply(2).unwrap().is_ok());
    assert_eq!(bench.nodes(), 5);
}

#[test]
fn what_is_wanted_of_a_node_counts_when_it_is_kept_on_disk() {
    let mut bench = Bench::live(TEXT);
    bench.ask(1, admin("node2", Admin::Down, None));
    let work = bench.saved();
    assert!(bench.wanted().is_none());
    bench.step(Input::IntentsSaved { work, result: Err("the disk is full".to_owned()) });
    assert_eq!(bench.reply(1).unwrap().unwrap_err().message, "the disk is full");
    assert!(bench.core.health.intents().is_empty());

    bench.ask(2, admin("node2", Admin::Down, None));
    let work = bench.saved();
    bench.step(Input::IntentsSaved { work, result: Ok(()) });
    assert_eq!(bench.reply(2), None);
    bench.publish(Ok(()));
    let done = bench.reply(2).unwrap().unwrap();
    assert_eq!(done["cached_ms"], 5000);
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
}

#[test]
fn a_reload_that_is_refused_is_an_alarm_until_one_is_not() {
    let mut bench = Bench::live(TEXT);
    bench.file = "[zone]\nname = 7\n".to_owned();
    (0..3).for_each(|_| bench.step(Input::Signal(Signal::Hangup)));
    bench.prepare();
    assert!(bench.core.refused.as_ref().is_some_and(|alarm| alarm.contains("what was in force stays")));
    bench.file = TEXT.to_owned();
    bench.elapsed += Duration::from_secs(1);
    bench.step(Input::Tick);
    bench.prepare();
    bench.publish(Ok(()));
    assert_eq!(bench.core.refused, None);
    bench.elapsed += Duration::from_secs(1);
    bench.step(Input::Tick);
    assert!(
        !bench.effects.iter().any(|effect| matches!(effect, Effect::Prepare { .. })),
        "signals that come together ask for one reload"
    );
}

#[test]
fn lease_and_watchdog_are_renewed_by_each_tick_and_by_nothing_else() {
    let mut bench = Bench::live(TEXT);
    bench.effects.clear();
    bench.kill_and_publish("node2");
    let renewals = |bench: &Bench| {
        let renews = |effect: &&Effect| matches!(effect, Effect::RenewLease | Effect::Alive);
        bench.effects.iter().filter(renews).count()
    };
    assert_eq!(renewals(&bench), 0);
    bench.step(Input::Tick);
    assert_eq!(renewals(&bench), 2);
}

#[test]
fn a_machine_that_was_stopped_judges_no_node_for_two_rounds_though_its_clock_stood_still() {
    let mut bench = Bench::live(TEXT);
    bench.step(Input::WasStopped(Duration::from_secs(3600)));
    assert_eq!(bench.core.health.blind(), Some("this machine was stopped for 3600 s"));
    assert!(bench.take(|effect| matches!(effect, Effect::RestartProbes).then_some(())).is_some());
    assert_eq!(bench.take(|effect| matches!(effect, Effect::RenewSession).then_some(())), None, "no store");
    for _ in 0..CLEAN_ROUNDS {
        ["node1", "node2"].iter().for_each(|node| bench.observe(node, true));
        bench.observe("node3", false);
    }
    assert_eq!(bench.core.health.blind(), None);
    assert!(bench.core.health.verdicts().values().all(|verdict| verdict.health() == Health::Up));
    bench.kill_and_publish("node3");
    assert_ne!(bench.answers("node3"), ["192.0.2.13"]);
}

#[test]
fn a_machine_that_was_stopped_begins_a_new_session_with_the_store_and_judges_alone_until_then() {
    let (mut bench, documents) = Bench::shared(Intents::default());
    bench.step(Input::StoreSeen(Box::new(seen(&documents, Mode::Joined))));
    bench.step(Input::WasStopped(Duration::from_secs(60)));
    assert!(bench.take(|effect| matches!(effect, Effect::RenewSession).then_some(())).is_some());
    let shared = bench.core.shared.as_ref().unwrap();
    assert_eq!(shared.alarms(), ["alone, this server judges by itself: this machine was stopped for 60 s"]);
}

#[test]
fn a_task_that_has_ended_is_an_alarm_until_it_runs_again() {
    let mut bench = Bench::live(TEXT);
    bench.step(Input::TaskEnded { task: "store-session", reason: "panicked".to_owned() });
    assert_eq!(bench.core.ended.len(), 1);
    bench.step(Input::TaskStarted { task: "store-session" });
    assert!(bench.core.ended.is_empty());
}

#[test]
fn what_is_wanted_for_a_time_ends_though_the_store_is_away() {
    let until = Some(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_secs(60));
    let (mut bench, _) = Bench::shared([("node2".to_owned(), intent(Admin::Drain, until))].into());
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
    bench.elapsed += Duration::from_secs(61);
    bench.step(Input::Tick);
    bench.publish(Ok(()));
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
}

#[test]
fn documents_that_are_refused_are_tried_again_and_what_operators_want_counts_meanwhile() {
    let (mut bench, mut documents) = Bench::shared(Intents::new());
    let broken = documents.texts["config/nodes"].replace("192.0.2.13", "192.0.2.12");
    documents.texts.insert("config/nodes".to_owned(), broken);
    documents.revisions.insert("config/nodes".to_owned(), 2);
    documents.intents.insert("node2".to_owned(), intent(Admin::Down, None));
    documents.revisions.insert(INTENT.to_owned(), 3);
    bench.step(Input::StoreSeen(Box::new(seen(&documents, Mode::Alone))));
    bench.prepare();
    bench.publish(Ok(()));
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"], "node2 is down");
    assert!(bench.core.shared.as_ref().unwrap().refused.is_some());
    bench.step(Input::Tick);
    let prepares =
        |bench: &Bench| bench.effects.iter().any(|effect| matches!(effect, Effect::Prepare { .. }));
    assert!(!prepares(&bench));
    bench.elapsed += Duration::from_secs(5);
    bench.step(Input::Tick);
    assert!(prepares(&bench));
}
