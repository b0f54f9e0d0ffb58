//! The newest events, in a bounded ring with one writer and many readers.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Event, Occurrence};

/// The most events that are kept.
pub const EVENTS: usize = 1_024;
/// The most names and addresses in all kept answers, some 5 MB. Beyond this number the oldest events are dropped.
const WORDS: usize = 65_536;

/// The daemon's events. Appending never waits for a reader.
#[derive(Debug)]
pub struct Journal {
    started: Timestamp,
    ring: Mutex<Ring>,
    newest: watch::Sender<u64>,
}

/// Some events in their order, with the numbers that a reader needs to continue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// When the daemon started. Each daemon numbers its events from 1.
    pub started: Timestamp,
    /// The events in the order of their numbers, from the one after the requested number.
    pub events: Vec<Event>,
    /// How many events after that number are no longer kept.
    pub lost: u64,
    /// The number of the newest event, on this page or not; 0: there is none.
    pub newest: u64,
}

#[derive(Debug, Default)]
struct Ring {
    /// The kept events. Their numbers are consecutive, and the last is `newest`.
    events: VecDeque<Arc<Event>>,
    newest: u64,
    words: usize,
}

impl Journal {
    /// Makes an empty journal. Its first event has number 1.
    pub fn new(started: Timestamp) -> Self {
        Journal { started, ring: Mutex::default(), newest: watch::Sender::new(0) }
    }

    /// Numbers and keeps an occurrence, and wakes waiting readers.
    pub fn append(&self, at: Timestamp, what: Occurrence) -> Arc<Event> {
        let event = self.ring().append(at, what);
        self.newest.send_replace(event.seq);
        event
    }

    /// Returns the first `limit` events after a number. If `started` is another daemon's start, the number counts as 0.
    pub fn page(&self, started: Option<Timestamp>, after: u64, limit: usize) -> Page {
        let after = self.place(started, after);
        let (events, lost, newest) = {
            let ring = self.ring();
            (ring.after(after, limit), ring.oldest().saturating_sub(after.saturating_add(1)), ring.newest)
        };
        // Copy outside of the lock, because the daemon's loop may wait for it.
        let events = events.iter().map(|event| Event::clone(event)).collect();
        Page { started: self.started, events, lost, newest }
    }

    /// Waits for an event after a number, as [`Journal::page`] counts. Cancel safe.
    pub async fn appended(&self, started: Option<Timestamp>, after: u64) {
        let after = self.place(started, after);
        let mut newest = self.newest.subscribe();
        // `self` holds the sender, so this cannot fail.
        newest.wait_for(|newest| *newest > after).await.ok();
    }

    /// Returns the number of the newest event; 0: there is none.
    pub fn newest(&self) -> u64 {
        *self.newest.borrow()
    }

    fn place(&self, started: Option<Timestamp>, after: u64) -> u64 {
        if started.is_some_and(|started| started != self.started) { 0 } else { after }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn append(&mut self, at: Timestamp, what: Occurrence) -> Arc<Event> {
        self.newest += 1;
        self.words += what.words();
        let event = Arc::new(Event { seq: self.newest, at, grave: what.kind.is_grave(), what });
        self.events.push_back(Arc::clone(&event));
        while self.events.len() > EVENTS || self.words > WORDS {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.words -= oldest.what.words();
        }
        event
    }

    /// Returns the number of the oldest kept event; without events, the next number.
    fn oldest(&self) -> u64 {
        self.events.front().map_or(self.newest + 1, |event| event.seq)
    }

    fn after(&self, after: u64, limit: usize) -> Vec<Arc<Event>> {
        let skipped = after.saturating_add(1).saturating_sub(self.oldest());
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        self.events.iter().skip(skipped).take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::event::Kind;
    use crate::event::tests::moved;

    fn journal(events: usize) -> Journal {
        let journal = Journal::new(Timestamp::UNIX_EPOCH);
        for _ in 0..events {
            journal.append(Timestamp::UNIX_EPOCH, Occurrence::new(Kind::Suspect));
        }
        journal
    }

    fn numbers(page: &Page) -> Vec<u64> {
        page.events.iter().map(|event| event.seq).collect()
    }

    #[test]
    fn events_are_numbered_from_1_and_read_from_any_number_on() {
        let journal = journal(5);
        assert_eq!(numbers(&journal.page(None, 0, 100)), [1, 2, 3, 4, 5]);
        assert_eq!(numbers(&journal.page(None, 2, 2)), [3, 4]);
        for after in [5, 6, u64::MAX] {
            let page = journal.page(None, after, 100);
            assert_eq!((numbers(&page).len(), page.lost, page.newest), (0, 0, 5), "{after}");
        }
        let page = Journal::new(Timestamp::UNIX_EPOCH).page(None, 0, 100);
        assert_eq!((page.events.len(), page.lost, page.newest), (0, 0, 0));
    }

    #[test]
    fn the_oldest_go_first_and_a_reader_hears_how_many() {
        let journal = journal(EVENTS + 10);
        let page = journal.page(None, 3, usize::MAX);
        assert_eq!((page.events.len(), page.events[0].seq, page.lost), (EVENTS, 11, 7));
        assert_eq!(journal.page(None, 10, 1).lost, 0);
        let nothing = journal.page(None, 3, 0);
        assert_eq!((nothing.events.len(), nothing.lost), (0, 7));
    }

    #[test]
    fn events_with_many_answers_take_the_room_of_others() {
        let journal = journal(EVENTS);
        let names: Vec<_> = (0..2_000).map(|_| moved("node1.", "192.0.2.11", "192.0.2.12")).collect();
        for _ in 0..EVENTS {
            journal.append(
                Timestamp::UNIX_EPOCH,
                Occurrence::new(Kind::Failover).with(names.iter().cloned().collect()),
            );
        }
        let ring = journal.ring();
        assert!(ring.words <= WORDS && ring.events.len() >= 10, "{} {}", ring.words, ring.events.len());
        assert_eq!(ring.words, ring.events.iter().map(|event| event.what.words()).sum::<usize>());
    }

    #[test]
    fn who_has_read_another_daemons_events_begins_anew() {
        let journal = journal(3);
        let other = Timestamp::from_second(60).unwrap();
        assert_eq!(numbers(&journal.page(Some(other), 57, 100)), [1, 2, 3]);
        assert!(journal.page(Some(Timestamp::UNIX_EPOCH), 57, 100).events.is_empty());
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_the_next_event_and_not_by_an_old_one() {
        let journal = Arc::new(journal(1));
        journal.appended(None, 0).await;
        let waiting = tokio::spawn({
            let journal = Arc::clone(&journal);
            async move { journal.appended(None, 1).await }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished());
        journal.append(Timestamp::UNIX_EPOCH, Occurrence::new(Kind::Down));
        waiting.await.unwrap();
    }
}
