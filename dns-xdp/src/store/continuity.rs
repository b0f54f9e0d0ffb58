//! Decides whether a store continues the state seen last, or is an older or another store. This module is pure.
//!
//! Within one store the revision of a key never goes down. A store that was restored from an older backup breaks this
//! rule, and so does another store. An operator then decides: `cluster accept` writes an [`Accepted`] into the store.
//! Every server obeys the newest one.
use serde::{Deserialize, Serialize};

use super::documents::{CONCERNS, Documents, INTENT};
use super::{Listing, Revision};

/// The key of an operator's last acceptance.
pub const ACCEPTED: &str = "accepted";

/// Identifies a store: its cluster, and how often an operator has accepted an older or another store in its place.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The identifier of the store's cluster; `None`: it is not known.
    #[serde(default)]
    pub cluster: Option<u64>,
    /// The generation of the last acceptance.
    #[serde(default)]
    pub generation: u64,
}

/// The last state that was seen of a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The documents in force.
    pub documents: Documents,
    /// The store's revision at that time.
    pub revision: Revision,
    /// The identity of the store.
    pub origin: Origin,
}

/// An operator's acceptance of the store's documents. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// A number that is greater than the numbers of all earlier acceptances.
    pub generation: u64,
    /// The store's cluster at the acceptance. A backup that is restored elsewhere contains the acceptance too.
    #[serde(default)]
    pub cluster: Option<u64>,
    /// The cluster that was trusted until then.
    #[serde(default)]
    pub instead_of: Option<u64>,
    /// The server that took the operator's acceptance.
    #[serde(default)]
    pub by: String,
}

impl Origin {
    /// Returns the origin after the store of this listing is trusted.
    #[must_use]
    pub fn next(self, listing: &Listing) -> Origin {
        let accepted = accepted(listing).map_or(0, |accepted| accepted.generation);
        Origin { cluster: listing.cluster.or(self.cluster), generation: self.generation.max(accepted) }
    }
}

impl Accepted {
    /// The next acceptance: the documents of this listing count, although other ones were seen before.
    pub fn next(known: Origin, listing: &Listing, by: &str) -> Accepted {
        let generation = known.next(listing).generation + 1;
        Accepted { generation, cluster: listing.cluster, instead_of: known.cluster, by: by.to_owned() }
    }
}

/// The acceptance in a listing.
fn accepted(listing: &Listing) -> Option<Accepted> {
    serde_json::from_slice(&listing.entries.get(ACCEPTED)?.value).ok()
}

/// Whether an operator has accepted the documents of this listing in place of the known ones.
pub fn is_accepted(known: Origin, listing: &Listing) -> bool {
    let Some(accepted) = accepted(listing) else { return false };
    // The cluster is not known if an earlier version wrote the copy.
    let is_for_us =
        [listing.cluster, accepted.instead_of].contains(&known.cluster) || known.cluster.is_none();
    accepted.generation > known.generation && accepted.cluster == listing.cluster && is_for_us
}

/// Why the documents of a listing are not trusted; `None`: they are trusted.
///
/// A missing document is not a reason: see [`Documents::keep_deleted`]. The store's history tells whether it ever had
/// the document: see [`replaced`].
pub fn doubt(known: &Known, listing: &Listing) -> Option<String> {
    let Known { documents, revision, origin } = known;
    if documents.revisions.is_empty() || is_accepted(*origin, listing) {
        return None;
    }
    let found = |key: &str| listing.entries.get(key).map(|entry| entry.revision);
    let keys = || CONCERNS.iter().map(|(key, _)| *key).chain([INTENT]);
    let is_other = origin.cluster.zip(listing.cluster).is_some_and(|(known, found)| known != found);
    if is_other {
        return of_another_cluster(documents, listing);
    }
    let is_older = |(key, known): (&String, &Revision)| found(key).is_some_and(|found| found < *known);
    if documents.revisions.iter().any(is_older) {
        let epoch = keys().filter_map(found).max().unwrap_or(0);
        return Some(format!(
            "the store is at epoch {epoch}, but epoch {} was seen before: it was restored from an older copy; {REMEDY}",
            documents.epoch()
        ));
    }
    let is_changed = keys().any(|key| found(key) != documents.revisions.get(key).copied());
    let remedy = if holds_cluster(listing) { REMEDY } else { FOUND };
    (is_changed && listing.revision < *revision).then(|| {
        format!(
            "the store is at revision {}, but revision {revision} was seen before: it was restored from an older copy; {remedy}",
            listing.revision
        )
    })
}

/// Returns key and revision of the newest document seen, if a listing has a later one or none in its place. The history
/// of the same store has that document. The history of an older backup does not have it, however high the backup's
/// revision is.
pub fn replaced(known: &Known, listing: &Listing) -> Option<(String, Revision)> {
    let Known { documents, origin, .. } = known;
    let is_same_store = origin.cluster.is_some() && origin.cluster == listing.cluster;
    let (key, revision) = documents.revisions.iter().max_by_key(|(_, revision)| **revision)?;
    let is_there = listing.entries.get(key).is_some_and(|entry| entry.revision == *revision);
    let is_asked = is_same_store && !is_there && !is_accepted(*origin, listing);
    is_asked.then(|| (key.clone(), *revision))
}

/// The reason why the documents of a listing are not trusted: the store's history lacks a document that was seen.
pub fn never_had(key: &str, revision: Revision, listing: &Listing) -> String {
    let remedy = if holds_cluster(listing) { REMEDY } else { FOUND };
    format!(
        "the store has never had the {key} that was seen at revision {revision}: it was restored from an older copy; \
         {remedy}"
    )
}

/// The remedy that messages about an older store name.
const REMEDY: &str =
    "`dns-xdp cluster accept --dry-run` shows what it would change, `dns-xdp cluster accept` accepts it";

/// The remedy if the store has nothing that could be accepted.
const FOUND: &str =
    "write a cluster there with `dns-xdp cluster init`, and then accept it with `dns-xdp cluster accept`";

/// The reason why another store is not trusted. A store that was moved with all its contents is trusted.
fn of_another_cluster(known: &Documents, listing: &Listing) -> Option<String> {
    let is_same = Documents::read(listing).is_ok_and(|found| {
        found.texts == known.texts && found.intents == known.intents && found.epoch() >= known.epoch()
    });
    let remedy = if holds_cluster(listing) { REMEDY } else { FOUND };
    (!is_same)
        .then(|| format!("`endpoints` lead to another store than before, with other documents; {remedy}"))
}

/// Whether a listing has documents that could be accepted.
pub fn holds_cluster(listing: &Listing) -> bool {
    listing.entries.keys().any(|key| key.starts_with("config/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Entry;
    use proptest::prelude::*;

    const NODES: &str = "config/nodes";

    fn listing(cluster: u64, revision: Revision, entries: &[(&str, &str, Revision)]) -> Listing {
        let entry = |(key, value, revision): &(&str, &str, Revision)| {
            ((*key).to_owned(), Entry { value: value.as_bytes().to_vec(), revision: *revision })
        };
        Listing { revision, cluster: Some(cluster), entries: entries.iter().map(entry).collect() }
    }

    fn known(listing: &Listing) -> Known {
        let documents = Documents::read(listing).unwrap();
        Known { documents, revision: listing.revision, origin: Origin::default().next(listing) }
    }

    fn with(listing: &Listing, accepted: &Accepted) -> Listing {
        let value = serde_json::to_vec(accepted).unwrap();
        let mut listing = listing.clone();
        listing.revision += 1;
        listing.entries.insert(ACCEPTED.to_owned(), Entry { value, revision: listing.revision });
        listing
    }

    #[test]
    fn a_store_goes_on_where_no_document_is_older() {
        let before = listing(1, 50, &[("config/zone", "[zone]\n", 3), (NODES, "[[node]]\n", 30)]);
        let known = known(&before);
        assert_eq!(doubt(&known, &before), None);
        let later = listing(1, 60, &[("config/zone", "[zone]\n", 3), (NODES, "", 51)]);
        assert_eq!(doubt(&known, &later), None);
        assert_eq!(doubt(&Known::default(), &before), None, "a server that knows none takes what there is");
    }

    #[test]
    fn a_restored_store_is_doubted_however_far_its_revision_has_come_since() {
        let known = known(&listing(1, 55, &[("config/zone", "[zone]\n", 3), (NODES, "[[node]]\n", 50)]));
        for revision in [40, 1_000] {
            let restored = listing(1, revision, &[("config/zone", "[zone]\n", 3), (NODES, "", 30)]);
            assert!(doubt(&known, &restored).unwrap().contains("cluster accept"));
        }
        let written_since = listing(1, 53, &[("config/zone", "[zone]\n", 3), (NODES, "", 52)]);
        assert!(doubt(&known, &written_since).is_some(), "the store has not come as far as was seen");
    }

    #[test]
    fn a_document_that_is_gone_is_no_restored_store() {
        let known = known(&listing(1, 50, &[("config/zone", "[zone]\n", 3), (NODES, "[[node]]\n", 50)]));
        assert_eq!(doubt(&known, &listing(1, 51, &[("config/zone", "[zone]\n", 3)])), None);
        let before_it = listing(1, 49, &[("config/zone", "[zone]\n", 3)]);
        assert!(doubt(&known, &before_it).is_some(), "it was restored from a time before the document");
    }

    #[test]
    fn the_history_is_asked_for_the_newest_document_unless_it_is_there() {
        let before = listing(1, 50, &[("config/zone", "[zone]\n", 3), (NODES, "[[node]]\n", 50)]);
        let known = known(&before);
        let newest = Some((NODES.to_owned(), 50));
        assert_eq!(replaced(&known, &before), None);
        assert_eq!(
            replaced(&known, &listing(1, 60, &[("config/zone", "[zone]\n", 55), (NODES, "", 50)])),
            None
        );
        assert_eq!(replaced(&known, &listing(1, 60, &[("config/zone", "[zone]\n", 3)])), newest);
        let later = listing(1, 60, &[("config/zone", "[zone]\n", 3), (NODES, "", 55)]);
        assert_eq!(replaced(&known, &later), newest);
        assert_eq!(replaced(&known, &with(&later, &Accepted::next(known.origin, &later, "node1"))), None);
        assert_eq!(
            replaced(&known, &Listing { cluster: Some(2), ..later.clone() }),
            None,
            "it has its own history"
        );
        assert_eq!(replaced(&Known::default(), &later), None);
        assert!(never_had(NODES, 50, &later).contains("cluster accept"));
    }

    #[test]
    fn another_store_is_trusted_only_with_the_same_documents() {
        let known = known(&listing(1, 50, &[(NODES, "[[node]]\n", 30)]));
        assert_eq!(doubt(&known, &listing(2, 90, &[(NODES, "[[node]]\n", 30)])), None, "it was moved");
        for other in [&[(NODES, "", 80)], &[(NODES, "[[node]]\n", 20)]] {
            assert!(doubt(&known, &listing(2, 90, other)).unwrap().contains("another store"));
        }
        assert!(doubt(&known, &listing(2, 90, &[])).unwrap().contains("cluster init"));
        let origin = Origin { cluster: None, ..known.origin };
        let of_an_earlier_version = Known { origin, ..known };
        assert_eq!(doubt(&of_an_earlier_version, &listing(2, 90, &[(NODES, "", 80)])), None);
    }

    #[test]
    fn an_acceptance_on_one_server_counts_for_all_that_rely_on_the_same_store() {
        let known = known(&listing(1, 50, &[(NODES, "[[node]]\n", 50)]));
        for cluster in [1, 2] {
            let found = listing(cluster, 40, &[(NODES, "", 30)]);
            let accepted = Accepted::next(known.origin, &found, "node1");
            let found = with(&found, &accepted);
            assert_eq!(doubt(&known, &found), None);
            let next = Known { origin: known.origin.next(&found), ..known.clone() };
            assert!(doubt(&next, &found).is_some(), "one acceptance does not cover later restores");
            let from_elsewhere =
                Known { origin: Origin { cluster: Some(7), generation: 0 }, ..known.clone() };
            assert!(doubt(&from_elsewhere, &found).is_some());
        }
    }

    #[test]
    fn an_acceptance_that_a_backup_brings_back_is_not_obeyed() {
        let found = listing(1, 40, &[(NODES, "", 30)]);
        let first =
            with(&found, &Accepted::next(Origin { cluster: Some(1), generation: 0 }, &found, "node1"));
        let known = Known {
            documents: Documents::read(&listing(1, 60, &[(NODES, "[[node]]\n", 55)])).unwrap(),
            revision: 60,
            origin: Origin::default().next(&first),
        };
        assert!(doubt(&known, &first).is_some());
        let elsewhere = Listing { cluster: Some(2), ..first };
        assert!(doubt(&known, &elsewhere).is_some());
        let again = with(&elsewhere, &Accepted::next(known.origin, &elsewhere, "node2"));
        assert_eq!(doubt(&known, &again), None);
    }

    #[test]
    fn an_acceptance_of_a_later_version_is_read() {
        let text = "{\"generation\": 3, \"cluster\": 1, \"instead_of\": 1, \"by\": \"node1\", \"because\": \"a test\"}";
        let found = listing(1, 9, &[(ACCEPTED, text, 9)]);
        assert!(is_accepted(Origin { cluster: Some(1), generation: 2 }, &found));
        assert!(!is_accepted(Origin { cluster: Some(1), generation: 3 }, &found));
        assert!(!is_accepted(Origin::default(), &listing(1, 9, &[(ACCEPTED, "{", 9)])));
    }

    proptest! {
        /// Keys are written and deleted in one store. A server that saw any earlier state trusts the store.
        #[test]
        fn a_store_that_goes_on_is_never_doubted(
            writes in proptest::collection::vec((0usize..4, any::<bool>()), 1..20), seen in any::<prop::sample::Index>(),
        ) {
            let keys = ["config/zone", NODES, "config/services", "verdicts/node1"];
            let mut now = listing(1, 1, &[]);
            let mut states = vec![now.clone()];
            for (key, is_written) in writes {
                now.revision += 1;
                if is_written {
                    let entry = Entry { value: b"[zone]\n".to_vec(), revision: now.revision };
                    now.entries.insert(keys[key].to_owned(), entry);
                } else {
                    now.entries.remove(keys[key]);
                }
                states.push(now.clone());
            }
            prop_assert_eq!(doubt(&known(seen.get(&states)), &now), None);
        }
    }
}
