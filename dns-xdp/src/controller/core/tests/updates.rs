//! Tests of updates by DNS UPDATE: with a file, with a store, and beside other changes.
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};

use super::*;
use crate::records::{data, full_name};
use crate::store::{Error, Swap};
use crate::update::{Change, Failure, Prerequisite, SignedUpdate, Update};

const KEY: &str = "[[key]]\nname = \"certbot\"\nsecret = \"AAECAwQFBgcICQoLDA0ODw==\"\n\
                   [[key.grant]]\nnames = [\"_acme-challenge.*\"]\ntypes = [\"TXT\"]\n";
const LOCAL: &str = "[update]\nlocal = true\n";

fn name(text: &str) -> Name {
    full_name(text, &full_name("demo.example.com.", &Name::root()).unwrap()).unwrap()
}

/// The update of the configured key that adds a text, if these prerequisites hold.
fn adding(owner: &str, text: &str, prerequisites: Vec<Prerequisite>) -> Box<SignedUpdate> {
    let key = Arc::clone(&config(&format!("{TEXT}{KEY}{LOCAL}")).updates.keys[0]);
    let data = data(RecordType::TXT, text, &Name::root()).unwrap();
    let changes = vec![Change::Add { owner: name(owner), ttl_seconds: 60, data }];
    Box::new(SignedUpdate { key, client: [192, 0, 2, 7].into(), update: Update { prerequisites, changes } })
}

fn texts(bench: &Bench, owner: &str) -> usize {
    let zone = bench.zone.as_ref().unwrap();
    zone.records().set(&name(owner), RecordType::TXT).map_or(0, |set| set.data.len())
}

fn failure(bench: &mut Bench, call: CallId) -> Failure {
    bench.reply(call).expect("it is answered").expect_err("it is refused").into_failure()
}

#[test]
fn an_update_is_in_force_and_in_the_file_when_it_is_answered() {
    let mut bench = Bench::live(&format!("{TEXT}{KEY}{LOCAL}"));
    bench.step(Input::Update { call: 7, update: adding("_acme-challenge", "one", Vec::new()) });
    let work = bench.prepare();
    bench.publish(Ok(()));
    assert_eq!((texts(&bench, "_acme-challenge"), bench.reply(7)), (1, None));
    bench.step(Input::FileCommitted { work, result: Ok(()) });
    assert!(bench.reply(7).unwrap().is_ok());
    let told = bench.take(|effect| match effect {
        Effect::Emit(occurrence) if occurrence.kind == Kind::Record => occurrence.subject.clone(),
        _ => None,
    });
    assert_eq!(told.as_deref(), Some("updated by the key certbot"));

    // Another one like it changes nothing, and is answered with success.
    bench.step(Input::Update { call: 8, update: adding("_acme-challenge", "one", Vec::new()) });
    bench.prepare();
    bench.publish_all();
    assert!(bench.reply(8).unwrap().is_ok());
}

#[test]
fn an_update_that_fails_changes_nothing_and_says_why() {
    let mut bench = Bench::live(&format!("{TEXT}{KEY}{LOCAL}"));
    let in_use = vec![Prerequisite::NameNotInUse(name("node1"))];
    bench.step(Input::Update { call: 1, update: adding("_acme-challenge", "one", in_use) });
    bench.prepare();
    assert_eq!(
        failure(&mut bench, 1),
        Failure::new(ResponseCode::YXDomain, "node1.demo.example.com. has records")
    );
    bench.step(Input::Update { call: 2, update: adding("www", "one", Vec::new()) });
    bench.prepare();
    assert_eq!(failure(&mut bench, 2).rcode, ResponseCode::Refused);
    assert!(bench.wanted().is_none());

    let serial = bench.zone.as_ref().unwrap().epoch();
    let has_soa = vec![
        Prerequisite::SetExists(name("@"), RecordType::SOA),
        Prerequisite::SetHas(name("node1"), data(RecordType::A, "192.0.2.11", &Name::root()).unwrap()),
    ];
    bench.step(Input::Update { call: 3, update: adding("_acme-challenge", "one", has_soa) });
    let work = bench.prepare();
    bench.publish(Ok(()));
    bench.step(Input::FileCommitted { work, result: Ok(()) });
    assert!(bench.reply(3).unwrap().is_ok());
    assert_ne!(bench.zone.as_ref().unwrap().epoch(), serial, "the serial follows the records");
}

#[test]
fn a_file_that_cannot_be_written_is_a_failure_of_the_server() {
    let mut bench = Bench::live(&format!("{TEXT}{KEY}{LOCAL}"));
    bench.step(Input::Update { call: 1, update: adding("_acme-challenge", "one", Vec::new()) });
    let work = bench.prepare();
    bench.publish(Ok(()));
    bench.step(Input::FileCommitted { work, result: Err("read-only".to_owned()) });
    bench.publish(Ok(()));
    let failure = failure(&mut bench, 1);
    assert!(failure.rcode == ResponseCode::ServFail && failure.reason.contains("read-only"), "{failure:?}");
    assert_eq!(texts(&bench, "_acme-challenge"), 0);
}

#[test]
fn one_of_several_servers_with_files_refuses_updates_with_the_reason() {
    let mut bench = Bench::live(&format!("{TEXT}{KEY}"));
    bench.step(Input::Update { call: 1, update: adding("_acme-challenge", "one", Vec::new()) });
    let failure = failure(&mut bench, 1);
    assert_eq!(failure.rcode, ResponseCode::Refused);
    assert!(failure.reason.contains("[update] local = true"), "{failure:?}");
}

#[test]
fn a_key_that_a_reload_has_removed_updates_nothing() {
    let mut bench = Bench::live(&format!("{TEXT}{KEY}{LOCAL}"));
    let configured = |bench: &mut Bench| {
        let mut last = None;
        while let Some(access) = bench.take(|effect| match effect {
            Effect::ConfigureUpdates(access) => Some(access.clone()),
            _ => None,
        }) {
            last = Some(access.keys.len());
        }
        last
    };
    assert_eq!(configured(&mut bench), Some(1));
    bench.file = TEXT.to_owned();
    bench.ask(1, Command::Reload { force: false });
    bench.prepare();
    bench.publish_all();
    assert!(bench.reply(1).unwrap().is_ok());
    assert_eq!(configured(&mut bench), Some(0));
    // It was on its way already.
    bench.file = format!("{TEXT}{LOCAL}");
    bench.step(Input::Update { call: 2, update: adding("_acme-challenge", "one", Vec::new()) });
    assert_eq!(failure(&mut bench, 2).rcode, ResponseCode::Refused);
}

/// A joined server with a key, and its documents.
fn shared() -> (Bench, Documents) {
    let (text, documents) = beside_a_store(TEXT, Intents::new());
    let mut bench = Bench::start(&format!("{text}{KEY}"), Some(documents.clone()));
    bench.step(Input::StoreSeen(Box::new(seen(&documents, Mode::Joined))));
    bench.publish_all();
    (bench, documents)
}

fn swap(bench: &mut Bench) -> (WorkId, Swap) {
    bench.prepare();
    let swap = bench.take(|effect| match effect {
        Effect::Swap { work, swap } => Some((*work, swap.clone())),
        _ => None,
    });
    swap.expect("the update goes to the store")
}

/// The documents after a write, at this revision.
fn written(documents: &Documents, swap: &Swap, revision: u64) -> Documents {
    let mut documents = documents.clone();
    for (key, text) in &swap.writes {
        documents.texts.insert(key.clone(), String::from_utf8(text.clone()).unwrap());
        documents.revisions.insert(key.clone(), revision);
    }
    documents
}

fn see(bench: &mut Bench, documents: &Documents) {
    bench.step(Input::StoreSeen(Box::new(seen(documents, Mode::Joined))));
    if bench.effects.iter().any(|effect| matches!(effect, Effect::Prepare { .. })) {
        bench.prepare();
    }
    bench.publish_all();
}

#[test]
fn with_a_store_an_update_changes_the_store_and_is_answered_when_it_is_in_force_here() {
    let (mut bench, documents) = shared();
    bench.step(Input::Update { call: 1, update: adding("_acme-challenge", "one", Vec::new()) });
    let (work, swap) = swap(&mut bench);
    assert!(swap.writes.contains_key("config/records") && !swap.writes.contains_key("config/nodes"));
    assert!(!swap.writes.values().any(|text| String::from_utf8_lossy(text).contains("secret")));
    bench.step(Input::Swapped { work, result: Ok(2) });
    assert_eq!(bench.reply(1), None);
    see(&mut bench, &written(&documents, &swap, 2));
    assert!(bench.reply(1).unwrap().is_ok());
    assert_eq!(texts(&bench, "_acme-challenge"), 1);
}

#[test]
fn an_update_that_another_server_has_overtaken_is_made_again_from_the_new_records() {
    let (mut bench, documents) = shared();
    let free = || vec![Prerequisite::NameNotInUse(name("_acme-challenge"))];
    bench.step(Input::Update { call: 1, update: adding("_acme-challenge", "one", free()) });
    bench.step(Input::Update { call: 2, update: adding("_acme-challenge.db", "one", Vec::new()) });
    let [first, second] = [swap(&mut bench), swap(&mut bench)];
    for (work, _) in [&first, &second] {
        bench.step(Input::Swapped { work: *work, result: Err(Error::Conflict) });
    }
    let mut theirs = documents.clone();
    let record = "[[record]]\nname = \"_acme-challenge\"\ntype = \"TXT\"\nvalue = \"theirs\"\n";
    theirs.texts.insert("config/records".to_owned(), record.to_owned());
    theirs.revisions.insert("config/records".to_owned(), 2);
    see(&mut bench, &theirs);
    bench.step(Input::Tick);
    // The prerequisite of the first is not met any more, and the second is made beside the other server's record.
    bench.prepare();
    bench.prepare();
    assert_eq!(failure(&mut bench, 1).rcode, ResponseCode::YXDomain);
    let again = bench.take(|effect| match effect {
        Effect::Swap { work, swap } => Some((*work, swap.clone())),
        _ => None,
    });
    let (work, again) = again.expect("the second is tried again");
    let text = String::from_utf8_lossy(&again.writes["config/records"]).into_owned();
    assert!(text.contains("theirs") && text.contains("_acme-challenge.db"), "{text}");
    bench.step(Input::Swapped { work, result: Ok(3) });
    see(&mut bench, &written(&theirs, &again, 3));
    assert!(bench.reply(2).unwrap().is_ok());
}

#[test]
fn without_its_store_a_server_makes_no_update() {
    let (text, documents) = beside_a_store(TEXT, Intents::new());
    let mut bench = Bench::start(&format!("{text}{KEY}"), Some(documents));
    bench.step(Input::Update { call: 1, update: adding("_acme-challenge", "one", Vec::new()) });
    bench.prepare();
    assert_eq!(failure(&mut bench, 1).rcode, ResponseCode::ServFail);
}

#[test]
fn a_static_address_is_not_taken_for_an_address_of_the_cluster() {
    let grant = "[[key]]\nname = \"apps\"\nsecret = \"AAECAwQFBgcICQoLDA0ODw==\"\n\
                 [[key.grant]]\nnames = [\"*.apps\"]\ntypes = [\"A\", \"AAAA\"]\nttl-max = \"1h\"\n";
    let record = "[[record]]\nname = \"www.apps\"\ntype = \"A\"\nvalue = \"203.0.113.7\"\n";
    let suffix = "[[suffix]]\nname = \"internal\"\n";
    let address = |rtype, text| data(rtype, text, &Name::root()).unwrap();
    for more in [String::new(), suffix.to_owned()] {
        let config = config(&format!("{TEXT}{grant}{LOCAL}{record}{more}"));
        let owner = name("www.apps");
        let made = |prerequisites, changes| {
            let (key, update) = (Arc::clone(&config.updates.keys[0]), Update { prerequisites, changes });
            update::sets_of(&config, &SignedUpdate { key, client: [192, 0, 2, 7].into(), update })
        };
        let old = address(RecordType::A, "203.0.113.7");
        let exact = vec![Prerequisite::SetHas(owner.clone(), old.clone())];
        let gone = made(exact, vec![Change::Remove { owner: owner.clone(), data: old }]);
        assert_eq!(gone.unwrap().len(), 1, "{more}");
        assert!(made(Vec::new(), vec![Change::RemoveName { owner: owner.clone() }]).is_ok(), "{more}");
        let add = |text, ttl_seconds| {
            vec![Change::Add { owner: owner.clone(), ttl_seconds, data: address(RecordType::AAAA, text) }]
        };
        assert!(made(Vec::new(), add("2001:db8::7", 60)).is_ok(), "{more}");
        assert!(made(Vec::new(), add("2001:db8::7", 7200)).is_err(), "the TTL is longer than the grant's");
    }
}
