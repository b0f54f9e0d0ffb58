//! A store that the simulated servers share: revisions, a compare-and-swap, leases that run out, and a majority that
//! can be lost.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::store::client::watch_lag::Extent;
use crate::store::documents::INTENT;
use crate::store::{Batch, Documents, Entry, Error, Lease as Granted, Listing, Revision, Swap};

/// The writes and removals, each with its revision.
type History = Vec<(Revision, String, Option<Entry>)>;

/// The state of the whole store.
#[derive(Debug, Default)]
pub(super) struct StoreModel {
    pub(super) listing: Listing,
    /// Whether the majority is lost. Then no client is answered, and no lease ends.
    pub(super) lost: bool,
    history: History,
    leases: BTreeMap<i64, Lease>,
    granted: i64,
    /// The counts of its work.
    pub(super) counts: Counts,
    backup: Option<(Listing, BTreeMap<i64, Lease>, History)>,
    /// The time when the store was last restored from a backup.
    pub(super) restored: Option<Duration>,
}

/// The counts of the requests to the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) writes: u64,
    pub(super) bytes_written: u64,
    pub(super) kept: u64,
}

#[derive(Debug, Clone)]
struct Lease {
    time: Duration,
    runs_out: Duration,
    keys: BTreeSet<String>,
}

impl StoreModel {
    /// A store with these documents.
    pub(super) fn of(documents: &Documents) -> StoreModel {
        let mut store = StoreModel::default();
        store.listing.cluster = Some(1);
        store.write(documents.texts.iter().map(|(key, text)| (key.clone(), Some(text.clone().into_bytes()))));
        store.counts = Counts::default();
        store
    }

    pub(super) fn revision(&self) -> Revision {
        self.listing.revision
    }

    fn write(&mut self, writes: impl IntoIterator<Item = (String, Option<Vec<u8>>)>) -> Revision {
        let revision = self.listing.revision + 1;
        let mut changes = Vec::new();
        for (key, value) in writes {
            self.counts.writes += 1;
            self.counts.bytes_written += (key.len() + value.as_ref().map_or(0, Vec::len)) as u64;
            let entry = value.map(|value| Entry { value, revision });
            self.history.push((revision, key.clone(), entry.clone()));
            changes.push((key, entry));
        }
        self.listing.apply(Batch { revision, changes });
        revision
    }

    /// Removes a key as another client of the store.
    pub(super) fn delete(&mut self, key: &str) {
        self.write([(key.to_owned(), None)]);
    }

    /// Writes the documents that the store lacks, as another client of the store.
    pub(super) fn write_missing(&mut self, documents: &Documents) {
        let intents = serde_json::to_string(&documents.intents).expect("intents are JSON");
        let intents = (!documents.intents.is_empty()).then(|| (INTENT.to_owned(), intents));
        let all = documents.texts.clone().into_iter().chain(intents);
        let missing = all.filter(|(key, _)| !self.listing.entries.contains_key(key));
        let missing: Vec<_> = missing.map(|(key, text)| (key, Some(text.into_bytes()))).collect();
        if !missing.is_empty() {
            self.write(missing);
        }
    }

    pub(super) fn save(&mut self) {
        self.backup = Some((self.listing.clone(), self.leases.clone(), self.history.clone()));
    }

    /// Returns to the [saved](StoreModel::save) state of the store. Every session with the store is over.
    pub(super) fn restore(&mut self, now: Duration) -> bool {
        let Some((listing, leases, history)) = self.backup.clone() else { return false };
        (self.listing, self.leases, self.history, self.lost) = (listing, leases, history, true);
        self.restored = Some(now);
        self.find_majority(now);
        true
    }

    /// The changes after a revision, and their times.
    pub(super) fn since(&self, revision: Revision) -> Batch {
        let first = self.history.partition_point(|(of, ..)| *of <= revision);
        let changes = self.history[first..].iter().map(|(_, key, entry)| (key.clone(), entry.clone()));
        Batch { revision: self.revision(), changes: changes.collect() }
    }

    /// Whether a key was written at a revision.
    pub(super) fn had(&self, key: &str, revision: Revision) -> bool {
        let first = self.history.partition_point(|(of, ..)| *of < revision);
        let at_that = self.history[first..].iter().take_while(|(of, ..)| *of == revision);
        at_that.into_iter().any(|(_, of, entry)| of == key && entry.is_some())
    }

    pub(super) fn extent(&self) -> Extent {
        Extent::of(&self.listing)
    }

    fn expect(&self, expected: &BTreeMap<String, Revision>) -> Result<(), Error> {
        let revision = |key: &String| self.listing.entries.get(key).map_or(0, |entry| entry.revision);
        let is_changed = expected.iter().any(|(key, expected)| revision(key) != *expected);
        if is_changed { Err(Error::Conflict) } else { Ok(()) }
    }

    pub(super) fn swap(&mut self, swap: Swap) -> Result<Revision, Error> {
        self.expect(&swap.expected)?;
        Ok(self.write(swap.writes.into_iter().map(|(key, value)| (key, Some(value)))))
    }

    pub(super) fn lease(&mut self, time: Duration, now: Duration) -> Granted {
        self.granted += 1;
        self.leases.insert(self.granted, Lease { time, runs_out: now + time, keys: BTreeSet::new() });
        Granted { id: self.granted, time }
    }

    pub(super) fn keep_alive(&mut self, lease: i64, now: Duration) -> Result<(), Error> {
        self.counts.kept += 1;
        let lease = self.leases.get_mut(&lease).ok_or(Error::LeaseLost)?;
        lease.runs_out = now + lease.time;
        Ok(())
    }

    pub(super) fn put(
        &mut self,
        expected: &BTreeMap<String, Revision>,
        writes: BTreeMap<String, Vec<u8>>,
        lease: i64,
    ) -> Result<Revision, Error> {
        self.expect(expected)?;
        if !self.leases.contains_key(&lease) {
            return Err(Error::LeaseLost);
        }
        for (id, of) in &mut self.leases {
            for key in writes.keys() {
                if *id == lease {
                    of.keys.insert(key.clone());
                } else {
                    of.keys.remove(key);
                }
            }
        }
        Ok(self.write(writes.into_iter().map(|(key, value)| (key, Some(value)))))
    }

    pub(super) fn revoke(&mut self, lease: i64) {
        if let Some(Lease { keys, .. }) = self.leases.remove(&lease)
            && !keys.is_empty()
        {
            self.write(keys.into_iter().map(|key| (key, None)));
        }
    }

    /// The time when the next lease ends.
    pub(super) fn next(&self) -> Option<Duration> {
        self.leases.values().map(|lease| lease.runs_out).min().filter(|_| !self.lost)
    }

    /// Ends the leases whose time is over.
    pub(super) fn expire(&mut self, now: Duration) {
        if self.lost {
            return;
        }
        while let Some((&id, _)) = self.leases.iter().find(|(_, lease)| lease.runs_out <= now) {
            self.revoke(id);
        }
    }

    /// Restores the majority. The new leader gives every lease its whole time again, as in etcd.
    pub(super) fn find_majority(&mut self, now: Duration) {
        if std::mem::take(&mut self.lost) {
            for lease in self.leases.values_mut() {
                lease.runs_out = now + lease.time;
            }
        }
    }
}
