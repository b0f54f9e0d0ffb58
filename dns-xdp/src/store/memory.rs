//! A store in memory for tests. It has revisions, leases that end on request, and a switch that cuts it off.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use super::client::watch_lag::Extent;
use super::{Batch, Entry, Error, Lease, Listing, Revision, Store, Swap, Watch};

#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    revision: Revision,
    entries: BTreeMap<String, Entry>,
    /// The keys written under each lease.
    leased: BTreeMap<i64, Vec<String>>,
    history: Vec<(Revision, String, Option<Entry>)>,
    changed: watch::Sender<Revision>,
    is_cut_off: bool,
    /// Whether writes under a lease get no answer.
    puts_hang: bool,
    /// Watches that began before this revision report nothing any more.
    silenced: Revision,
    /// The number of lease renewals.
    kept: u64,
    shortest_lease: Duration,
}

impl Memory {
    pub(super) fn new() -> Self {
        Memory(Arc::new(Mutex::new(State {
            revision: 1,
            entries: BTreeMap::new(),
            leased: BTreeMap::new(),
            history: Vec::new(),
            changed: watch::Sender::new(1),
            is_cut_off: false,
            puts_hang: false,
            silenced: 0,
            kept: 0,
            shortest_lease: Duration::ZERO,
        })))
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        let state = self.0.lock().unwrap();
        if state.is_cut_off { Err(Error::Unreachable("cut off".to_owned())) } else { Ok(state) }
    }

    /// Writes a key as another client.
    pub(super) fn write(&self, key: &str, value: &str) -> Revision {
        let mut state = self.0.lock().unwrap();
        state.write([(key.to_owned(), Some(value.as_bytes().to_vec()))])
    }

    pub(super) fn value(&self, key: &str) -> Option<String> {
        let state = self.0.lock().unwrap();
        state.entries.get(key).map(|entry| String::from_utf8(entry.value.clone()).unwrap())
    }

    /// Cuts the store off, or ends this. Watches get an error meanwhile.
    pub(super) fn cut_off(&self, is_cut_off: bool) {
        let mut state = self.0.lock().unwrap();
        state.is_cut_off = is_cut_off;
        state.changed.send_modify(|_| {});
    }

    pub(super) fn hang_puts(&self, hang: bool) {
        self.0.lock().unwrap().puts_hang = hang;
    }

    /// Sets the shortest lease that the store grants.
    pub(super) fn grant_at_least(&self, time: Duration) {
        self.0.lock().unwrap().shortest_lease = time;
    }

    /// Removes a key as another client.
    pub(super) fn delete(&self, key: &str) -> Revision {
        self.0.lock().unwrap().write([(key.to_owned(), None)])
    }

    /// Makes the present watches silent: they report nothing any more, and do not end either.
    pub(super) fn silence_watches(&self) {
        let mut state = self.0.lock().unwrap();
        state.silenced = state.revision + 2;
    }

    /// The number of lease renewals.
    pub(super) fn kept(&self) -> u64 {
        self.0.lock().unwrap().kept
    }

    /// Replaces the store by an older copy.
    pub(super) fn restore(&self, older: &Memory) {
        let older = older.0.lock().unwrap();
        let mut state = self.0.lock().unwrap();
        (state.revision, state.entries) = (older.revision, older.entries.clone());
        state.history.clone_from(&older.history);
    }

    /// Returns a copy of the present state.
    pub(super) fn copy(&self) -> Memory {
        let copy = Memory::new();
        copy.restore(self);
        copy
    }
}

impl State {
    fn expect(&self, expected: &BTreeMap<String, Revision>) -> Result<(), Error> {
        let revision = |key: &String| self.entries.get(key).map_or(0, |entry| entry.revision);
        let is_changed = expected.iter().any(|(key, expected)| revision(key) != *expected);
        if is_changed { Err(Error::Conflict) } else { Ok(()) }
    }

    fn write(&mut self, writes: impl IntoIterator<Item = (String, Option<Vec<u8>>)>) -> Revision {
        self.revision += 1;
        for (key, value) in writes {
            let entry = value.map(|value| Entry { value, revision: self.revision });
            match &entry {
                Some(entry) => self.entries.insert(key.clone(), entry.clone()),
                None => self.entries.remove(&key),
            };
            self.history.push((self.revision, key, entry));
        }
        self.changed.send_replace(self.revision);
        self.revision
    }
}

impl Store for Memory {
    type Watch = Watching;

    async fn list(&self) -> Result<Listing, Error> {
        let state = self.state()?;
        Ok(Listing { revision: state.revision, cluster: Some(1), entries: state.entries.clone() })
    }

    async fn extent(&self) -> Result<Extent, Error> {
        let state = self.state()?;
        let newest = state.entries.values().map(|entry| entry.revision).max().unwrap_or(0);
        Ok(Extent { newest, keys: state.entries.len() })
    }

    async fn had(&self, key: &str, revision: Revision) -> Result<Option<bool>, Error> {
        let state = self.state()?;
        let is_it = |(at, of, entry): &(Revision, String, Option<Entry>)| {
            *at == revision && of == key && entry.is_some()
        };
        Ok(Some(state.history.iter().any(is_it)))
    }

    async fn watch(&self, from: Revision) -> Result<Watching, Error> {
        let changed = self.state()?.changed.subscribe();
        Ok(Watching { store: self.clone(), changed, from, seen: from - 1 })
    }

    async fn swap(&self, swap: Swap) -> Result<Revision, Error> {
        self.change(swap.expected, swap.writes.into_iter().map(|(key, value)| (key, Some(value))).collect())
            .await
    }

    async fn change(
        &self,
        expected: BTreeMap<String, Revision>,
        changes: BTreeMap<String, Option<Vec<u8>>>,
    ) -> Result<Revision, Error> {
        let mut state = self.state()?;
        state.expect(&expected)?;
        Ok(state.write(changes))
    }

    async fn lease(&self, time: Duration) -> Result<Lease, Error> {
        let mut state = self.state()?;
        let id = i64::try_from(state.leased.len()).unwrap() + 1;
        state.leased.insert(id, Vec::new());
        Ok(Lease { id, time: time.max(state.shortest_lease) })
    }

    async fn keep_alive(&self, lease: i64) -> Result<(), Error> {
        let mut state = self.state()?;
        state.kept += 1;
        if state.leased.contains_key(&lease) { Ok(()) } else { Err(Error::LeaseLost) }
    }

    async fn revoke(&self, lease: i64) -> Result<(), Error> {
        let mut state = self.state()?;
        let keys = state.leased.remove(&lease).unwrap_or_default();
        state.write(keys.into_iter().map(|key| (key, None)));
        Ok(())
    }

    async fn put(
        &self,
        expected: BTreeMap<String, Revision>,
        writes: BTreeMap<String, Vec<u8>>,
        lease: i64,
    ) -> Result<Revision, Error> {
        if self.state()?.puts_hang {
            return std::future::pending().await;
        }
        let mut state = self.state()?;
        state.expect(&expected)?;
        let keys = writes.keys().cloned();
        state.leased.get_mut(&lease).ok_or(Error::LeaseLost)?.extend(keys);
        Ok(state.write(writes.into_iter().map(|(key, value)| (key, Some(value)))))
    }
}

#[derive(Debug)]
pub(super) struct Watching {
    store: Memory,
    changed: watch::Receiver<Revision>,
    from: Revision,
    seen: Revision,
}

impl Watch for Watching {
    async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            self.changed.borrow_and_update();
            if self.from < self.store.state()?.silenced {
                return std::future::pending().await;
            }
            {
                let state = self.store.state()?;
                let news = state.history.iter().filter(|(revision, ..)| *revision > self.seen);
                let changes: Vec<_> = news.map(|(_, key, entry)| (key.clone(), entry.clone())).collect();
                if !changes.is_empty() {
                    self.seen = state.revision;
                    return Ok(Batch { revision: state.revision, changes });
                }
            }
            self.changed.changed().await.map_err(|_| Error::LeaseLost)?;
        }
    }
}
