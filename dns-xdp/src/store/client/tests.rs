//! Tests of the client over a store in memory, in virtual time.
use super::*;
use crate::store::identity::Instance;
use crate::store::memory::Memory;
use crate::store::votes::Verdicts;
use crate::store::{Lease, Listing};
use tokio::time::sleep;

const ZONE: &str = "[zone]\nname = \"demo.example.com\"\n";

fn stored() -> Memory {
    let store = Memory::new();
    store.write("config/zone", ZONE);
    store
}

fn start(store: &Memory, server: &str) -> Client {
    start_from(store, server, Known::default())
}

fn start_from(store: &Memory, server: &str, known: Known) -> Client {
    start_as(store, server, "a", known)
}

fn start_as(store: &Memory, server: &str, id: &str, known: Known) -> Client {
    let instance = Instance { id: id.to_owned(), place: "a test".to_owned() };
    let settings = Settings { server: server.to_owned(), instance, lease: Duration::from_secs(2) };
    let store = store.clone();
    Client::start(settings, known, move |_| std::future::ready(Ok(store.clone())))
}

async fn until(client: &mut Client, holds: impl FnMut(&Seen) -> bool) -> Seen {
    let seen = timeout(Duration::from_secs(60), client.seen.wait_for(holds)).await;
    seen.expect("it comes about").unwrap().clone()
}

fn own(up: &str) -> Own {
    let verdicts = Verdicts { up: [up.to_owned()].into(), ..Verdicts::default() };
    Own { verdicts, ..Own::default() }
}

#[tokio::test(start_paused = true)]
async fn servers_see_documents_and_each_others_verdicts() {
    let store = stored();
    let mut first = start(&store, "node1");
    let mut second = start(&store, "node2");
    second.own.send_replace(own("node7"));
    let seen =
        until(&mut first, |seen| seen.view.verdicts.get("node2").is_some_and(|said| !said.up.is_empty()))
            .await;
    assert_eq!((seen.mode, &*seen.view.documents.texts["config/zone"]), (Mode::Joined, ZONE));
    let epoch = store.write("config/nodes", "[[node]]\n");
    let seen = until(&mut second, |seen| seen.view.documents.texts.len() == 2).await;
    assert_eq!(seen.view.documents.epoch(), epoch);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_loses_the_store_is_alone_before_its_lease_ends_and_joins_again() {
    let store = stored();
    let mut client = start(&store, "node1");
    until(&mut client, |seen| seen.mode == Mode::Joined).await;
    let cut = Instant::now();
    store.cut_off(true);
    let seen = until(&mut client, |seen| seen.mode == Mode::Alone).await;
    assert!(cut.elapsed() < Duration::from_millis(1300), "{:?}", cut.elapsed());
    assert!(seen.trouble.is_some() && seen.view.documents.texts.len() == 1, "{seen:?}");
    let (reply, told) = oneshot::channel();
    client.swaps.send(Request { swap: Swap::default(), reply }).await.unwrap();
    assert!(matches!(told.await.unwrap(), Err(Error::Unreachable(_))));
    let back = Instant::now();
    store.cut_off(false);
    let zone = store.write("config/nodes", "[[node]]\n");
    let seen = until(&mut client, |seen| seen.is_up).await;
    assert_eq!((seen.mode, seen.view.documents.epoch()), (Mode::Alone, zone), "documents count at once");
    assert_eq!(seen.trouble.as_deref(), Some("the store is back; joining in 3 s"));
    let (reply, told) = oneshot::channel();
    client.swaps.send(Request { swap: Swap::default(), reply }).await.unwrap();
    assert!(told.await.unwrap().is_ok(), "and so do intents");
    until(&mut client, |seen| seen.trouble.as_deref() == Some("the store is back; joining in 1 s")).await;
    until(&mut client, |seen| seen.mode == Mode::Joined).await;
    assert!(back.elapsed() >= Duration::from_millis(2400), "{:?}", back.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_decided_before_it_reached_the_store_joins_after_a_probation() {
    let store = stored();
    store.cut_off(true);
    let mut client = start(&store, "node1");
    sleep(Duration::from_millis(500)).await;
    client.decide();
    store.cut_off(false);
    let seen = until(&mut client, |seen| seen.is_up).await;
    assert_eq!(seen.mode, Mode::Alone, "{:?}", seen.trouble);
    until(&mut client, |seen| seen.mode == Mode::Joined).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_not_kept_alive_for_verdicts_that_cannot_be_written() {
    let store = stored();
    let mut client = start(&store, "node1");
    until(&mut client, |seen| seen.mode == Mode::Joined).await;
    let hung = Instant::now();
    store.hang_puts(true);
    client.own.send_replace(own("node7"));
    until(&mut client, |seen| !seen.is_up).await;
    let kept = store.kept();
    assert!(hung.elapsed() <= Duration::from_millis(1201), "{:?}", hung.elapsed());
    until(&mut client, |seen| seen.mode == Mode::Alone).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!(store.kept(), kept);
    store.hang_puts(false);
    until(&mut client, |seen| seen.mode == Mode::Joined).await;
    assert_eq!(store.value("verdicts/node1").as_deref(), Some(r#"{"up":["node7"]}"#));
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_has_fallen_silent_is_begun_anew() {
    let store = stored();
    let mut client = start(&store, "node1");
    until(&mut client, |seen| seen.mode == Mode::Joined).await;
    store.silence_watches();
    let silenced = Instant::now();
    let epoch = store.write("config/nodes", "[[node]]\n");
    let seen = until(&mut client, |seen| seen.view.documents.epoch() == epoch).await;
    assert!(silenced.elapsed() < Duration::from_secs(2), "{:?}", silenced.elapsed());
    assert_eq!(seen.mode, Mode::Joined, "the lease was confirmed all the while");
}

#[tokio::test(start_paused = true)]
async fn changes_that_are_there_are_shown_once() {
    let store = stored();
    let mut client = start(&store, "node1");
    until(&mut client, |seen| seen.mode == Mode::Joined).await;
    client.seen.borrow_and_update();
    let mut last = 0;
    for number in 0..100 {
        last = store.write("intent", &format!("{{}}{}", " ".repeat(number)));
    }
    let mut shown = Vec::new();
    while shown.last() != Some(&last) {
        client.seen.changed().await.unwrap();
        shown.push(client.seen.borrow_and_update().view.revision);
    }
    assert!(shown.len() <= 2, "{shown:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_leaves_removes_its_verdicts_at_once() {
    let store = stored();
    let mut client = start(&store, "node1");
    until(&mut client, |seen| seen.mode == Mode::Joined).await;
    assert!(store.value("servers/node1").is_some());
    client.leave().await;
    assert_eq!((store.value("servers/node1"), store.value("verdicts/node1")), (None, None));
}

#[tokio::test(start_paused = true)]
async fn an_older_store_is_not_trusted_until_it_is_accepted() {
    let store = stored();
    let older = store.copy();
    store.write("config/nodes", "[[node]]\n");
    let mut client = start(&store, "node1");
    let joined = |seen: &Seen| seen.mode == Mode::Joined && seen.view.documents.texts.len() == 2;
    let seen = until(&mut client, joined).await;
    drop(client);
    store.restore(&older);
    // The server starts from the copy on its disk, as after a restart.
    let mut client = start_from(&store, "node1", seen.view.as_known());
    let seen = until(&mut client, |seen| seen.mode == Mode::Frozen).await;
    assert_eq!(seen.view.documents.texts.len(), 2, "those before stay");
    assert!(seen.trouble.unwrap().contains("cluster accept"));
    client.accept();
    let seen = until(&mut client, |seen| seen.mode == Mode::Joined).await;
    assert_eq!(seen.view.documents.texts.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_document_that_a_restored_store_never_had_is_no_deletion() {
    let store = stored();
    let older = store.copy();
    store.write("config/nodes", "[[node]]\n");
    let mut client = start(&store, "node1");
    let joined = |seen: &Seen| seen.mode == Mode::Joined && seen.view.documents.texts.len() == 2;
    until(&mut client, joined).await;
    store.cut_off(true);
    until(&mut client, |seen| !seen.is_up).await;
    store.restore(&older);
    // The backup's leases run out and others write. So its revision passes the newest one seen.
    (0..99).for_each(|_| _ = store.write("verdicts/node2", "{}"));
    store.cut_off(false);
    let seen = until(&mut client, |seen| seen.is_up || seen.mode == Mode::Frozen).await;
    assert_eq!((seen.mode, seen.view.documents.texts.len()), (Mode::Frozen, 2));
    assert!(seen.view.documents.deleted.is_empty());
    let trouble = seen.trouble.unwrap();
    assert!(trouble.contains("config/nodes") && trouble.contains("cluster accept"), "{trouble}");
    // The store is still refused, even at a higher revision.
    (0..99).for_each(|_| _ = store.write("verdicts/node2", "{}"));
    sleep(Duration::from_secs(30)).await;
    assert_eq!(client.seen.borrow().mode, Mode::Frozen);
    client.accept();
    until(&mut client, |seen| seen.mode == Mode::Joined && seen.view.documents.texts.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_document_that_cannot_be_read_leaves_those_before() {
    let store = stored();
    store.write("intent", "{}");
    let mut client = start(&store, "node1");
    until(&mut client, |seen| seen.mode == Mode::Joined).await;
    store.write("intent", "{");
    let seen = until(&mut client, |seen| seen.view.malformed.is_some()).await;
    assert_eq!(&*seen.view.documents.texts["config/zone"], ZONE);
    store.write("intent", "{}");
    until(&mut client, |seen| seen.view.malformed.is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn what_one_server_accepts_all_accept() {
    let store = stored();
    let older = store.copy();
    store.write("config/nodes", "[[node]]\n");
    let joined = |seen: &Seen| seen.mode == Mode::Joined && seen.view.documents.texts.len() == 2;
    let mut first = start(&store, "node1");
    let known = until(&mut first, joined).await.view.as_known();
    drop(first);
    store.restore(&older);
    let mut first = start_from(&store, "node1", known.clone());
    let mut second = start_from(&store, "node2", known.clone());
    for client in [&mut first, &mut second] {
        let seen = until(client, |seen| seen.mode == Mode::Frozen).await;
        assert_eq!(seen.offered.unwrap().texts.len(), 1);
    }
    first.accept();
    for client in [&mut first, &mut second] {
        let seen = until(client, |seen| seen.mode == Mode::Joined).await;
        assert_eq!((seen.view.documents.texts.len(), seen.offered), (1, None));
    }
    // A server that was down meanwhile does the same.
    let mut third = start_from(&store, "node3", known);
    until(&mut third, |seen| seen.mode == Mode::Joined && seen.view.documents.texts.len() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_deleted_document_stays_in_force_until_its_end_is_accepted() {
    let store = stored();
    store.write("config/nodes", "[[node]]\n");
    let mut first = start(&store, "node1");
    let mut second = start(&store, "node2");
    until(&mut first, |seen| seen.mode == Mode::Joined).await;
    until(&mut second, |seen| seen.mode == Mode::Joined).await;
    store.delete("config/nodes");
    let seen = until(&mut first, |seen| !seen.view.documents.deleted.is_empty()).await;
    assert_eq!((seen.mode, seen.view.documents.texts.len()), (Mode::Joined, 2));
    assert!(seen.view.documents.deletion().unwrap().contains("config/nodes"));
    // The removed document was the newest. A server that has lost the store for a moment still finds it the same store.
    store.cut_off(true);
    until(&mut first, |seen| !seen.is_up).await;
    store.cut_off(false);
    let seen = until(&mut first, |seen| seen.is_up).await;
    assert!(seen.mode != Mode::Frozen && seen.view.documents.texts.len() == 2, "{seen:?}");
    first.accept();
    for client in [&mut first, &mut second] {
        let seen = until(client, |seen| seen.view.documents.deleted.is_empty()).await;
        assert_eq!(seen.view.documents.texts.len(), 1);
    }
    let epoch = store.write("config/nodes", "[[node]]\n");
    until(&mut second, |seen| seen.view.documents.epoch() == epoch).await;
}

#[tokio::test(start_paused = true)]
async fn of_two_servers_with_one_name_the_second_stays_alone_and_writes_nothing() {
    let store = stored();
    let mut first = start(&store, "node1");
    first.own.send_replace(own("node7"));
    until(&mut first, |seen| seen.mode == Mode::Joined).await;
    let mut clone = start_as(&store, "node1", "b", Known::default());
    clone.own.send_replace(own("node9"));
    let says = |text: &'static str| {
        move |seen: &Seen| seen.trouble.as_ref().is_some_and(|trouble| trouble.contains(text))
    };
    until(&mut clone, says("an earlier server has the name node1, a on a test")).await;
    let seen = until(&mut clone, says("two servers call themselves node1")).await;
    assert_eq!((seen.mode, seen.is_up), (Mode::Alone, false));
    assert_eq!(seen.view.documents.texts.len(), 1, "documents count all the same");
    assert!(store.value("verdicts/node1").unwrap().contains("node7"));
    assert_eq!(first.seen.borrow().mode, Mode::Joined);
    first.leave().await;
    until(&mut clone, |seen| seen.mode == Mode::Joined).await;
    assert!(store.value("verdicts/node1").unwrap().contains("node9"));
}

#[tokio::test(start_paused = true)]
async fn a_successor_takes_the_name_over_at_once() {
    let store = stored();
    let mut first = start(&store, "node1");
    until(&mut first, |seen| seen.mode == Mode::Joined).await;
    // The server ends without notice, and its lease continues.
    drop(first);
    assert!(store.value("servers/node1").is_some());
    let begun = Instant::now();
    let mut successor = start(&store, "node1");
    until(&mut successor, |seen| seen.mode == Mode::Joined).await;
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_lease_that_counts_is_the_one_that_was_granted() {
    let store = stored();
    store.grant_at_least(Duration::from_secs(10));
    let mut client = start(&store, "node1");
    until(&mut client, |seen| seen.mode == Mode::Joined).await;
    let cut = Instant::now();
    store.cut_off(true);
    until(&mut client, |seen| seen.mode == Mode::Alone).await;
    let alone = cut.elapsed();
    assert!(alone > Duration::from_secs(3) && alone <= Duration::from_secs(6), "{alone:?}");
}

#[test]
fn the_age_of_a_renewal_counts_from_its_request() {
    let instance = Instance { id: "a".to_owned(), place: "a test".to_owned() };
    let settings = Settings { server: "node1".to_owned(), instance, lease: Duration::from_secs(5) };
    let (at, start) = (Duration::from_secs, Duration::ZERO);
    let mut session = Session::new(settings, Known::default(), start);
    while !session.is_open() {
        for call in session.due(start) {
            let answer = match call {
                Call::Connect => Answer::Connected,
                Call::List => Answer::Listing(Listing::default()),
                Call::Lease(time) => Answer::Lease(Lease { id: 1, time }),
                Call::Put { .. } => Answer::Written,
                Call::Watch { .. } => Answer::Watching,
                other => panic!("{other:?}"),
            };
            session.answered(start, start, Ok(answer));
        }
    }
    assert_eq!(session.due(at(1)), [Call::KeepAlive(1)]);
    session.answered(at(1), at(2), Ok(Answer::Kept));
    assert_eq!([3, 4].map(|second| session.mode(at(second)).0), [Mode::Joined, Mode::Alone]);
}
