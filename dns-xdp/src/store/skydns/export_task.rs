//! The task that mirrors the answers to SkyDNS keys. One server at a time does this: the first joined server by name.
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::sleep;

use super::export::{Step, ours, steps};
use super::path;
use super::task::{Comparison, PAUSE, Task, Trouble};
use crate::responder::Published;
use crate::store::client::{Mode, Seen};
use crate::store::{Batch, Entry, Error, Store, Watch as _};
use crate::zone::Zone;

/// Starts the task, which writes the published answers below a path while it is this server's turn. The keys outlive
/// the task. `connect` is like the import's. Needs a tokio runtime.
pub fn start<S, F>(
    below: String,
    server: String,
    seen: watch::Receiver<Seen>,
    published: Published,
    connect: impl Fn(String, usize) -> F + Send + Sync + 'static,
) -> Task
where
    S: Store,
    F: Future<Output = Result<S, Error>> + Send + 'static,
{
    Task::start(|trouble| Export { below, server, seen, published, trouble }.run(connect))
}

/// Whether it is this server's turn.
fn is_first(seen: &Seen, server: &str) -> bool {
    seen.mode == Mode::Joined && seen.view.servers.keys().next().is_some_and(|first| first == server)
}

/// Waits until it is another server's turn, or the store's session has ended. Cancel safe.
async fn passed_on(seen: &mut watch::Receiver<Seen>, server: &str) {
    seen.wait_for(|seen| !is_first(seen, server)).await.ok();
}

struct Export {
    below: String,
    server: String,
    seen: watch::Receiver<Seen>,
    published: Published,
    trouble: Trouble,
}

impl Export {
    async fn run<S, F>(mut self, connect: impl Fn(String, usize) -> F)
    where
        S: Store,
        F: Future<Output = Result<S, Error>> + Send,
    {
        let mut failures = 0;
        for number in 0.. {
            let Some(zone) = self.turn().await else { return };
            let path = path(&self.below, zone.apex());
            let failed = match connect(path.clone(), number).await {
                Ok(store) => self.session(store, &zone, &mut failures).await,
                Err(error) => Err(error),
            };
            match failed {
                Ok(()) => self.trouble.set(None),
                // Another client has written there: list again.
                Err(Error::Conflict) => {}
                Err(error) => {
                    let what = format!("the answers cannot be mirrored to SkyDNS keys below {path}");
                    self.trouble.failed(&mut failures, &what, &error);
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits for this server's turn. Returns the zone that is published then; `None`: the daemon ends.
    async fn turn(&mut self) -> Option<Arc<Zone>> {
        let server = &self.server;
        if !is_first(&self.seen.borrow(), server) {
            // The trouble of this server's last turn is over: another server reports its own.
            self.trouble.set(None);
        }
        self.seen.wait_for(|seen| is_first(seen, server)).await.ok()?;
        self.published.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// Mirrors over one connection. Ends when it is another server's turn, or when the zone's name changes.
    async fn session<S: Store>(&mut self, store: S, first: &Zone, failures: &mut u32) -> Result<(), Error> {
        let mut listing = store.list().await?;
        let mut watch = store.watch(listing.revision + 1).await?;
        let mut comparison = Comparison::new();
        loop {
            let zone = self.published.borrow_and_update().clone();
            let Some(zone) = zone.filter(|zone| zone.apex() == first.apex()) else { return Ok(()) };
            for Step { expected, changes } in steps(&listing, &zone) {
                if !is_first(&self.seen.borrow_and_update(), &self.server) {
                    return Ok(());
                }
                let revision = store.change(expected, changes.clone()).await?;
                let entry = |value| Entry { value, revision };
                let changes = changes.into_iter().map(|(key, value)| (key, value.map(entry)));
                listing.apply(Batch { revision, changes: changes.collect() });
            }
            *failures = 0;
            self.trouble.set(None);
            tokio::select! {
                biased;
                () = passed_on(&mut self.seen, &self.server) => return Ok(()),
                changed = self.published.changed() => if changed.is_err() {
                    return Ok(());
                },
                batch = watch.next() => {
                    let Batch { revision, mut changes } = batch?;
                    // This server's own writes come back, and may be older than its latest ones.
                    changes.retain(|(key, entry)| {
                        let known = listing.entries.get(key).map_or(0, |known| known.revision);
                        entry.as_ref().map_or(revision, |entry| entry.revision) > known
                    });
                    let is_ours = changes.iter().any(|(key, _)| ours(key).is_some());
                    listing.apply(Batch { revision, changes });
                    if is_ours {
                        // Another server may also think that it is its turn. The pause gives that server the time to
                        // notice the mistake, so that both do not compete.
                        sleep(PAUSE).await;
                    }
                }
                () = comparison.due() => comparison.compare(&store, &listing).await?,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;
    use std::time::Duration;

    use jiff::Timestamp;
    use tokio::time::timeout;

    use super::*;
    use crate::config::Config;
    use crate::failover::healthy_zone;
    use crate::store::client::View;
    use crate::store::memory::Memory;
    use crate::store::{Listing, SERVERS};

    fn zone(last: u8) -> Option<Arc<Zone>> {
        let text = format!(
            "[listen]\ninterfaces = [\"eth0\"]\n[zone]\nname = \"demo.example.com\"\n\
             [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.{last}\"\n"
        );
        Some(Arc::new(healthy_zone(&Config::parse(&text, Path::new("/etc/dns-xdp/dns-xdp.toml")).unwrap())))
    }

    fn seen(mode: Mode, servers: &[&str]) -> Seen {
        let entry = Entry { value: b"{}".to_vec(), revision: 1 };
        let entries = servers.iter().map(|name| (format!("{SERVERS}{name}"), entry.clone())).collect();
        let view = View::read(&Listing { revision: 1, entries, ..Listing::default() }, &View::default());
        Seen {
            view: Arc::new(view),
            mode,
            trouble: None,
            since: Timestamp::UNIX_EPOCH,
            offered: None,
            is_up: true,
        }
    }

    struct Mirrored {
        keys: Memory,
        seen: watch::Sender<Seen>,
        published: watch::Sender<Option<Arc<Zone>>>,
        _task: Task,
    }

    fn start(keys: &Memory, server: &str, servers: &[&str], zone: Option<Arc<Zone>>) -> Mirrored {
        let (seen, seen_by_task) = watch::channel(seen(Mode::Joined, servers));
        let (published, of_task) = watch::channel(zone);
        let store = keys.clone();
        let task =
            super::start("/live".to_owned(), server.to_owned(), seen_by_task, of_task, move |path, _| {
                assert_eq!(path, "/live/com/example/demo");
                std::future::ready(Ok(store.clone()))
            });
        Mirrored { keys: keys.clone(), seen, published, _task: task }
    }

    async fn until(keys: &Memory, holds: impl Fn(Option<&str>) -> bool) {
        let waiting = async {
            while !holds(keys.value("node1/dns-xdp-1").as_deref()) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.expect("it comes about");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_is_in_the_keys_and_what_others_do_to_them_is_put_right() {
        let mirrored = start(&Memory::new(), "node1", &["node1", "node2"], None);
        mirrored.published.send_replace(zone(11));
        until(&mirrored.keys, |value| value.is_some_and(|value| value.contains("192.0.2.11"))).await;
        mirrored.published.send_replace(zone(12));
        until(&mirrored.keys, |value| value.is_some_and(|value| value.contains("192.0.2.12"))).await;
        mirrored.keys.write("node1/x1", "{}");
        mirrored.keys.write("node1/dns-xdp-1", "{}");
        until(&mirrored.keys, |value| value.is_some_and(|value| value.contains("192.0.2.12"))).await;
        let gone = [("node1/dns-xdp-1".to_owned(), None)].into();
        mirrored.keys.change(BTreeMap::new(), gone).await.unwrap();
        until(&mirrored.keys, |value| value.is_some_and(|value| value.contains("192.0.2.12"))).await;
        assert_eq!(mirrored.keys.value("node1/x1").as_deref(), Some("{}"));
    }

    #[tokio::test(start_paused = true)]
    async fn keys_whose_watch_has_fallen_silent_are_put_right_all_the_same() {
        let mirrored = start(&Memory::new(), "node1", &["node1"], zone(11));
        until(&mirrored.keys, |value| value.is_some_and(|value| value.contains("192.0.2.11"))).await;
        sleep(Duration::from_secs(1)).await;
        mirrored.keys.silence_watches();
        mirrored.keys.write("node1/dns-xdp-1", "{}");
        until(&mirrored.keys, |value| value.is_some_and(|value| value.contains("192.0.2.11"))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_server_writes_and_the_next_takes_over() {
        let keys = Memory::new();
        let first = start(&keys, "node1", &["node1", "node2"], zone(11));
        let second = start(&keys, "node2", &["node1", "node2"], zone(22));
        until(&keys, |value| value.is_some_and(|value| value.contains("192.0.2.11"))).await;
        let written = keys.list().await.unwrap().revision;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(keys.list().await.unwrap().revision, written, "the other keeps quiet");
        first.seen.send_replace(seen(Mode::Alone, &["node1", "node2"]));
        second.seen.send_replace(seen(Mode::Joined, &["node2"]));
        until(&keys, |value| value.is_some_and(|value| value.contains("192.0.2.22"))).await;
        let written = keys.list().await.unwrap().revision;
        sleep(Duration::from_secs(5)).await;
        assert_eq!(keys.list().await.unwrap().revision, written, "and so does a lone server");
    }
}
