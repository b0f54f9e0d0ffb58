//! Whether a watch still tells what happens: the view beside the store, now and again. Pure.
use crate::store::{Listing, Revision};

/// What distinguishes a view that is up to date from one that is not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extent {
    /// When what is there was changed last.
    pub newest: Revision,
    /// How many keys there are: of those that are gone nothing else tells.
    pub keys: usize,
}

impl Extent {
    /// Of what has been seen.
    pub fn of(listing: &Listing) -> Extent {
        let newest = listing.entries.values().map(|entry| entry.revision).max().unwrap_or(0);
        Extent { newest, keys: listing.entries.len() }
    }
}

/// What the last comparison found missing. A watch is given the time from one comparison to the next.
#[derive(Debug, Clone, Default)]
pub struct WatchLag {
    missing: Option<Extent>,
}

impl WatchLag {
    /// Compares; `true`: what was missing at the last comparison is missing still.
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
