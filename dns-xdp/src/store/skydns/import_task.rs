//! The task that follows SkyDNS keys: it lists and watches a zone's path, and changes the documents where they differ.
//!
//! Every server has this task. If several servers change the documents at once, one succeeds; the others then find no
//! difference.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use hickory_proto::rr::Name;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::import::{Followed, follow};
use super::task::{Comparison, PAUSE, Task, Trouble};
use super::{Ignored, path};
use crate::config::edit::NodeRole;
use crate::config::{Config, differences};
use crate::store::client::{Mode, Request, Seen};
use crate::store::documents::{Documents, Shared, join};
use crate::store::{Error, Listing, Revision, Store, Swap, Watch as _};

/// The time without changes after which the writer of the keys counts as finished.
const REST: Duration = Duration::from_millis(150);
/// The longest wait for such a time without changes.
const REST_MOST: Duration = Duration::from_secs(1);
/// The longest time for the answer to a change of the documents.
const STORE_WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause before a change whose outcome is unknown is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// The pause before refused keys are tried again. The reason may pass: a name that could not be looked up, a missing
/// file.
const REFUSED_AGAIN: Duration = Duration::from_secs(5);

/// The keys to follow, and the file that a change is checked with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The path above the keys; the reversed name of the zone follows.
    pub below: String,
    /// This server's file.
    pub file: PathBuf,
    /// The text of the file.
    pub text: String,
}

/// Starts the task. `connect` connects to the member with this number, counted from 0, for the keys of a path. Needs a
/// tokio runtime.
pub fn start<S, F>(
    settings: Settings,
    seen: watch::Receiver<Seen>,
    swaps: mpsc::Sender<Request>,
    connect: impl Fn(String, usize) -> F + Send + Sync + 'static,
) -> Task
where
    S: Store,
    F: Future<Output = Result<S, Error>> + Send + 'static,
{
    Task::start(|trouble| {
        let import =
            Import { settings, seen, swaps, trouble, ignored: Ignored::default(), done: None, again: None };
        import.run(connect)
    })
}

/// The inputs of a translation; while they stay the same, there is nothing to do.
type Base = (Revision, BTreeMap<String, Revision>, Mode);

struct Import {
    settings: Settings,
    seen: watch::Receiver<Seen>,
    swaps: mpsc::Sender<Request>,
    trouble: Trouble,
    /// The keys that were last reported as not followed.
    ignored: Ignored,
    done: Option<Base>,
    /// When to try again if nothing changes.
    again: Option<Instant>,
}

impl Import {
    async fn run<S, F>(mut self, connect: impl Fn(String, usize) -> F)
    where
        S: Store,
        F: Future<Output = Result<S, Error>> + Send,
    {
        let mut failures = 0;
        for number in 0.. {
            let Some(apex) = self.apex().await else { return };
            let path = path(&self.settings.below, &apex);
            let failed = match connect(path.clone(), number).await {
                Ok(store) => self.session(store, &apex, &mut failures).await,
                Err(error) => Err(error),
            };
            if let Err(error) = failed {
                let what = format!("the SkyDNS keys below {path} cannot be followed");
                self.trouble.failed(&mut failures, &what, &error);
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until the documents have the zone's name; `None`: the store's session has ended.
    async fn apex(&mut self) -> Option<Name> {
        let seen = self.seen.wait_for(|seen| apex(&seen.view.documents).is_some()).await.ok()?;
        apex(&seen.view.documents)
    }

    /// Follows the keys over one connection. Ends when the zone's name changes.
    async fn session<S: Store>(&mut self, store: S, zone: &Name, failures: &mut u32) -> Result<(), Error> {
        let mut listing = store.list().await?;
        let mut watch = store.watch(listing.revision + 1).await?;
        let mut comparison = Comparison::new();
        self.done = None;
        *failures = 0;
        loop {
            if apex(&self.seen.borrow_and_update().view.documents).as_ref() != Some(zone) {
                return Ok(());
            }
            self.bring(&listing).await;
            tokio::select! {
                batch = watch.next() => {
                    listing.apply(batch?);
                    let most = Instant::now() + REST_MOST;
                    while let Ok(batch) = timeout_at(most.min(Instant::now() + REST), watch.next()).await {
                        listing.apply(batch?);
                    }
                }
                changed = self.seen.changed() => if changed.is_err() {
                    return Ok(());
                },
                () = reached(self.again), if self.again.is_some() => self.done = None,
                () = comparison.due() => comparison.compare(&store, &listing).await?,
            }
        }
    }

    /// Changes the documents to follow the keys, if anything may have changed.
    async fn bring(&mut self, listing: &Listing) {
        let (documents, base) = {
            let seen = self.seen.borrow();
            let base = (listing.revision, seen.view.documents.revisions.clone(), seen.mode);
            if seen.mode != Mode::Joined || seen.view.malformed.is_some() || self.done.as_ref() == Some(&base)
            {
                return;
            }
            (seen.view.documents.clone(), base)
        };
        self.done = Some(base);
        self.again = None;
        let Followed { ignored, texts } = follow(listing, &documents, NodeRole::Name);
        let path = &self.settings.below;
        if ignored != self.ignored {
            if !ignored.is_empty() {
                tracing::warn!("SkyDNS keys of the zone below {path} that are not followed: {ignored}");
            }
            self.ignored = ignored;
        }
        let checked = match texts {
            Ok(Some(texts)) => self.checked(&documents, texts).await,
            Ok(None) => return self.trouble.set(None),
            Err(reason) => Err(reason),
        };
        let texts = match checked {
            Ok(texts) => texts,
            Err(reason) => {
                self.again = Some(Instant::now() + REFUSED_AGAIN);
                let reason = reason.replace('\n', "; ");
                let text = format!(
                    "the SkyDNS keys of the zone below {path} are refused, what is in force stays: {reason}"
                );
                return self.trouble.set(Some(text));
            }
        };
        let swap = Swap { expected: documents.expected(), writes: documents.writes(&texts) };
        match self.swap(swap).await {
            Ok(revision) => {
                let told = differences(&documents.text(), &join(&texts)).join("; ");
                tracing::info!("followed the SkyDNS keys below {path} (revision {revision}): {told}");
                self.trouble.set(None);
            }
            // The other client's change arrives soon, and is then compared.
            Err(Error::Conflict) => {}
            Err(error) => {
                tracing::debug!("{error}");
                self.again = Some(Instant::now() + AGAIN);
            }
        }
    }

    /// Whether documents with these texts are a valid configuration that this server can hold. Runs in a thread of the
    /// pool, because the check reads files and looks names up.
    async fn checked(&self, documents: &Documents, texts: Shared) -> Result<Shared, String> {
        let next = Documents { texts, ..documents.clone() };
        let Settings { file, text, .. } = self.settings.clone();
        let check = tokio::task::spawn_blocking(move || {
            Config::parse_with(&text, &file, &next).map_err(|error| error.to_string())?;
            Ok(next.texts)
        });
        check.await.unwrap_or_else(|defect| Err(format!("a defect of dns-xdp: {defect}")))
    }

    async fn swap(&self, swap: Swap) -> Result<Revision, Error> {
        let gone = || Error::Unreachable("the session with the store has ended".to_owned());
        let (reply, told) = oneshot::channel();
        self.swaps.send(Request { swap, reply }).await.map_err(|_| gone())?;
        let slow = |_| Error::Unreachable(format!("no answer within {} s", STORE_WRITE_TIMEOUT.as_secs()));
        timeout(STORE_WRITE_TIMEOUT, told).await.map_err(slow)?.unwrap_or_else(|_| Err(gone()))
    }
}

/// Waits until `time`, or for ever if there is none.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The zone of the documents.
fn apex(documents: &Documents) -> Option<Name> {
    let document: toml_edit::DocumentMut = documents.texts.get("config/zone")?.parse().ok()?;
    let name = Name::from_ascii(document.get("zone")?.get("name")?.as_str()?).ok()?;
    (!name.is_root()).then(|| name.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Known;
    use crate::store::client::{Client, Settings as OfClient};
    use crate::store::identity::Instance;
    use crate::store::memory::Memory;

    const NODES: &str = "[[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\nweight = 3\n";

    fn host(last: u8) -> String {
        format!(r#"{{"host":"192.0.2.{last}"}}"#)
    }

    struct Server {
        mirror: Client,
        task: Task,
    }

    fn start(store: &Memory, keys: &Memory, server: &str) -> Server {
        let (instance, lease) = (Instance::default(), Duration::from_secs(2));
        let settings = OfClient { server: server.to_owned(), instance, lease };
        let (store, keys) = (store.clone(), keys.clone());
        let mirror =
            Client::start(settings, Known::default(), move |_| std::future::ready(Ok(store.clone())));
        let settings = Settings {
            below: "/skydns".to_owned(),
            file: "/etc/dns-xdp/dns-xdp.toml".into(),
            text: "[listen]\ninterfaces = [\"eth0\"]\n[xdp]\ncapacity = 16\n".to_owned(),
        };
        let (seen, swaps) = (mirror.seen.clone(), mirror.swaps.clone());
        let task = super::start(settings, seen, swaps, move |path, _| {
            assert_eq!(path, "/skydns/com/example/demo");
            std::future::ready(Ok(keys.clone()))
        });
        Server { mirror, task }
    }

    fn stores() -> (Memory, Memory) {
        let (store, keys) = (Memory::new(), Memory::new());
        store.write("config/zone", "[zone]\nname = \"Demo.example.com\"\n");
        store.write("config/nodes", NODES);
        keys.write("node1", &host(11));
        (store, keys)
    }

    async fn until(server: &mut Server, holds: impl Fn(&str) -> bool) -> String {
        let has =
            |seen: &Seen| holds(seen.view.documents.texts.get("config/nodes").map_or("", String::as_str));
        let seen = timeout(Duration::from_secs(60), server.mirror.seen.wait_for(has)).await;
        seen.expect("it comes about").unwrap().view.documents.texts["config/nodes"].clone()
    }

    async fn until_troubled(server: &mut Server, holds: impl Fn(Option<&str>) -> bool) -> Option<String> {
        timeout(Duration::from_secs(60), server.task.alarm_that(holds)).await.expect("it comes about")
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_becomes_a_node_once_however_many_servers_follow() {
        let (store, keys) = stores();
        let mut servers = ["node1", "node2", "node3"].map(|name| start(&store, &keys, name));
        keys.write("node2", &host(12));
        for server in &mut servers {
            let nodes = until(server, |nodes| nodes.contains("192.0.2.12")).await;
            assert!(nodes.starts_with(NODES), "{nodes}");
        }
        let before = store.list().await.unwrap().entries["config/nodes"].revision;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(store.list().await.unwrap().entries["config/nodes"].revision, before);
        // A change of the documents that the keys do not have is undone.
        store.write("config/nodes", &NODES.replace("weight = 3", "weight = 5"));
        let nodes =
            until(&mut servers[1], |nodes| nodes.contains("192.0.2.12") && nodes.contains("weight = 5"))
                .await;
        assert!(nodes.contains("node2"), "{nodes}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_configuration_is_refused_with_an_alarm_until_it_is_right() {
        let (store, keys) = stores();
        store.write("config/failover", "[failover]\nwitness = [\"192.0.2.12\"]\n");
        let mut server = start(&store, &keys, "node1");
        keys.write("node2", &host(12));
        let trouble = until_troubled(&mut server, |trouble| trouble.is_some()).await.unwrap();
        assert!(trouble.contains("192.0.2.12") && trouble.contains("what is in force stays"), "{trouble}");
        assert_eq!(store.value("config/nodes").unwrap(), NODES);
        keys.write("node2", &host(13));
        until(&mut server, |nodes| nodes.contains("192.0.2.13")).await;
        until_troubled(&mut server, |trouble| trouble.is_none()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_a_reason_that_passes_is_tried_again() {
        let (store, keys) = stores();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        store.write("config/health", &format!("[health]\nprobe = \"redis\"\npassword-file = {file:?}\n"));
        let mut server = start(&store, &keys, "node1");
        keys.write("node2", &host(12));
        let trouble = until_troubled(&mut server, |trouble| trouble.is_some()).await.unwrap();
        assert!(trouble.contains("password"), "{trouble}");
        std::fs::write(&file, "hunter2\n").unwrap();
        until(&mut server, |nodes| nodes.contains("192.0.2.12")).await;
        until_troubled(&mut server, |trouble| trouble.is_none()).await;
    }

    #[tokio::test]
    async fn names_that_are_looked_up_hold_up_nothing_else() {
        let (store, keys) = stores();
        // Opening a pipe blocks until there is a writer.
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("password");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        store.write("config/health", &format!("[health]\nprobe = \"redis\"\npassword-file = {pipe:?}\n"));
        let mut server = start(&store, &keys, "node1");
        keys.write("node2", &host(12));
        // The runtime's only worker is not blocked, and opens the other end.
        sleep(Duration::from_millis(500)).await;
        let writer = tokio::task::spawn_blocking(move || std::fs::write(&pipe, "hunter2\n"));
        timeout(Duration::from_secs(60), writer).await.unwrap().unwrap().unwrap();
        until(&mut server, |nodes| nodes.contains("192.0.2.12")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_come_one_after_the_other_are_one_change_and_more_than_can_be_held_are_none() {
        let (store, keys) = stores();
        let mut server = start(&store, &keys, "node1");
        // The apex, node1 and its name server, and 13 names.
        for last in 12..25 {
            sleep(REST / 2).await;
            keys.write(&format!("node{last}"), &host(last));
        }
        let nodes = until(&mut server, |nodes| nodes.contains("192.0.2.12")).await;
        assert!(nodes.contains("192.0.2.24"), "{nodes}");
        keys.write("node25", &host(25));
        let trouble = until_troubled(&mut server, |trouble| trouble.is_some()).await.unwrap();
        assert!(trouble.contains("17 names, more than the 16 of `[xdp] capacity`"), "{trouble}");
        assert_eq!(store.value("config/nodes").unwrap(), nodes);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_are_all_gone_leave_the_nodes() {
        let (store, keys) = stores();
        let mut server = start(&store, &keys, "node1");
        keys.change(BTreeMap::new(), [("node1".to_owned(), None)].into()).await.unwrap();
        let trouble = until_troubled(&mut server, |trouble| trouble.is_some()).await.unwrap();
        assert!(trouble.contains("no address of a node"), "{trouble}");
        assert_eq!(store.value("config/nodes").unwrap(), NODES);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_whose_watch_has_fallen_silent_are_listed_again() {
        let (store, keys) = stores();
        let mut server = start(&store, &keys, "node1");
        until_troubled(&mut server, |trouble| trouble.is_none()).await;
        sleep(Duration::from_secs(1)).await;
        keys.silence_watches();
        keys.write("node2", &host(12));
        until(&mut server, |nodes| nodes.contains("192.0.2.12")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_cannot_be_read_are_an_alarm_after_a_while() {
        let (store, keys) = stores();
        keys.cut_off(true);
        let mut server = start(&store, &keys, "node1");
        let trouble = until_troubled(&mut server, |trouble| trouble.is_some()).await.unwrap();
        assert!(trouble.contains("/skydns/com/example/demo cannot be followed"), "{trouble}");
        keys.cut_off(false);
        until_troubled(&mut server, |trouble| trouble.is_none()).await;
    }
}
