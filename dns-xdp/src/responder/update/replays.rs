//! Remembers the signatures of the last minutes with their results, so that no update is made twice.
//!
//! A client that has not got its answer sends the same message again. It then gets the answer of the first one. The same
//! happens to a stranger that repeats a message of somebody else.
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hickory_proto::rr::Name;

use crate::update::Failure;

/// The most signatures of a key. With a fudge of 300 s they are enough for 13 updates a second.
const REMEMBERED: usize = 4096;

/// The signatures of messages that would still be accepted, by key and MAC. Each key has places of its own, so that no
/// key takes those of another.
#[derive(Debug, Default)]
pub(super) struct Replays(Mutex<HashMap<Name, HashMap<Vec<u8>, Seen>>>);

#[derive(Debug)]
struct Seen {
    /// The last second at which such a message is accepted.
    expires: u64,
    /// The result; `None`: the update is under way.
    result: Option<Result<(), Failure>>,
}

/// What is known of a signature.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// It is new, and is remembered now.
    New,
    /// Its update is under way.
    UnderWay,
    /// Its update has this result.
    Done(Result<(), Failure>),
    /// Nothing, because there are too many others.
    Full,
}

impl Replays {
    /// Looks a MAC of a key up, and remembers a new one. `now` and `expires` are in seconds since 1970.
    pub(super) fn begin(&self, key: &Name, mac: &[u8], expires: u64, now: u64) -> Memory {
        let mut keys = self.lock();
        let seen = keys.entry(key.clone()).or_default();
        if let Some(known) = seen.get(mac) {
            return known.result.clone().map_or(Memory::UnderWay, Memory::Done);
        }
        if seen.len() >= REMEMBERED {
            seen.retain(|_, known| known.expires >= now);
        }
        if seen.len() >= REMEMBERED {
            return Memory::Full;
        }
        seen.insert(mac.to_vec(), Seen { expires, result: None });
        Memory::New
    }

    /// Remembers the result of an update.
    pub(super) fn end(&self, key: &Name, mac: &[u8], result: &Result<(), Failure>) {
        if let Some(seen) = self.lock().get_mut(key).and_then(|seen| seen.get_mut(mac)) {
            seen.result = Some(result.clone());
        }
    }

    /// Forgets an update that was given up without a result.
    pub(super) fn forget(&self, key: &Name, mac: &[u8]) {
        if let Some(seen) = self.lock().get_mut(key) {
            seen.remove(mac);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, HashMap<Vec<u8>, Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn an_update_is_made_once_and_its_repetition_gets_the_same_result() {
        let (replays, key) = (Replays::default(), key("a."));
        assert_eq!(replays.begin(&key, b"one", 300, 0), Memory::New);
        assert_eq!(replays.begin(&key, b"one", 300, 1), Memory::UnderWay);
        let result = Err(Failure::refused("no"));
        replays.end(&key, b"one", &result);
        assert_eq!(replays.begin(&key, b"one", 300, 2), Memory::Done(result));
        assert_eq!(replays.begin(&key, b"two", 300, 2), Memory::New);
        replays.forget(&key, b"two");
        assert_eq!(replays.begin(&key, b"two", 300, 2), Memory::New, "it was given up");
    }

    #[test]
    fn a_full_memory_forgets_only_what_would_not_be_accepted_any_more() {
        let (replays, key, other) = (Replays::default(), key("a."), key("b."));
        for number in 0..REMEMBERED as u64 {
            assert_eq!(replays.begin(&key, &number.to_be_bytes(), 300 + number % 2, 0), Memory::New);
        }
        assert_eq!(replays.begin(&key, b"more", 600, 300), Memory::Full);
        assert_eq!(replays.begin(&other, b"more", 600, 300), Memory::New, "another key has its own places");
        assert_eq!(replays.begin(&key, b"more", 600, 301), Memory::New);
        let still = replays.begin(&key, &1_u64.to_be_bytes(), 301, 301);
        assert_eq!(still, Memory::UnderWay, "it is still accepted");
    }
}
