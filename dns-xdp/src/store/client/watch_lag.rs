//! Detects a silent watch by comparing the view with the store from time to time. This module is pure.
use crate::store::{Listing, Revision};

/// The extent of a store or a view. Equal extents mean that the view is up to date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// The revision of the last change of a present key.
    pub newest: Revision,
    /// The number of keys: only this shows that a key was removed.
    pub keys: usize,
}

impl Extent {
    /// Returns the extent of a listing.
    pub fn of(listing: &Listing) -> Extent {
        let newest = listing.entries.values().map(|entry| entry.revision).max().unwrap_or(0);
        Extent { newest, keys: listing.entries.len() }
    }
}

/// The difference that the last comparison found. The watch has the time until the next comparison to report it.
#[derive(Debug, Clone, Default)]
pub struct WatchLag {
    missing: Option<Extent>,
}

impl WatchLag {
    /// Compares the store with the view. Returns `true` if changes that were missing at the last comparison are still
    /// missing.
    pub fn is_behind(&mut self, store: Extent, view: Extent) -> bool {
        let still_missing = self.missing.is_some_and(|missing| {
            view.newest < missing.newest || store == missing && view.keys != missing.keys
        });
        self.missing = (view.newest < store.newest || view.keys != store.keys).then_some(store);
        still_missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(comparisons: &[([u64; 2], [u64; 2])]) -> Vec<bool> {
        let mut abreast = WatchLag::default();
        let extent = |[newest, keys]: [u64; 2]| Extent { newest, keys: usize::try_from(keys).unwrap() };
        comparisons.iter().map(|(store, view)| abreast.is_behind(extent(*store), extent(*view))).collect()
    }

    #[test]
    fn a_watch_is_silent_when_what_was_missing_is_missing_at_the_next_comparison() {
        let missing = ([9, 3], [7, 3]);
        assert_eq!(course(&[missing, missing]), [false, true]);
        assert_eq!(course(&[missing, ([12, 3], [8, 3])]), [false, true]);
        assert_eq!(course(&[missing, ([12, 3], [9, 3]), ([12, 3], [12, 3])]), [false; 3], "it is only late");
    }

    #[test]
    fn keys_that_are_gone_are_missed_too() {
        let gone = ([7, 2], [7, 3]);
        assert_eq!(course(&[gone, gone]), [false, true]);
        assert_eq!(course(&[gone, ([7, 2], [7, 2])]), [false; 2]);
        assert_eq!(course(&[gone, ([9, 3], [9, 3])]), [false; 2]);
    }
}
