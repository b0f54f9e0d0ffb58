//! The last state of the store that a server has seen. It is read once; after that, only changes are read.
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::continuity::{Known, Origin, is_accepted};
use super::documents::{CONCERNS, INTENT};
use super::votes::{Verdicts, VoteCount};
use super::{Documents, Listing, Revision, SERVERS, Server, VERDICTS};

/// The last state of the store that this server has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// The revision of the view: it has no later change.
    pub revision: Revision,
    /// The last documents that could be read.
    pub documents: Arc<Documents>,
    /// The store that the documents come from.
    pub origin: Origin,
    /// The verdicts of each server.
    pub verdicts: BTreeMap<String, Read<Verdicts>>,
    /// The counted verdicts of all servers.
    pub tally: Arc<VoteCount>,
    /// The live servers.
    pub servers: BTreeMap<String, Read<Server>>,
    /// Why newer documents could not be read.
    pub malformed: Option<String>,
    /// The version of the inputs of decisions.
    pub judged: InputsVersion,
}

/// The version of a decision's inputs: documents and verdicts. Each write raises the revision. Between writes entries
/// can only expire, which lowers their number. Two servers with the same revision and number therefore have the same
/// entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InputsVersion {
    /// The revision of the entry that was written last.
    pub revision: Revision,
    /// The number of entries.
    pub entries: usize,
}

/// A value that was read from an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<T> {
    revision: Revision,
    value: Arc<T>,
}

impl<T> Deref for Read<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl View {
    /// The view of a listing, made from the view of an earlier one: unchanged entries are not read again. If a document
    /// cannot be read, the previous documents stay.
    pub fn read(listing: &Listing, before: &View) -> View {
        View::with(documents(listing, before), listing, before)
    }

    /// Like [`View::read`], but reads every entry. A session begins with it, because a restored store may use the same
    /// revisions again.
    pub fn anew(listing: &Listing, before: &View) -> View {
        let of_nothing = View { origin: before.origin, ..View::default() };
        View::with(readable(listing, before), listing, &of_nothing)
    }

    /// The view before anything of the store was seen.
    pub fn known(known: Known) -> View {
        let Known { documents, revision, origin } = known;
        View { revision, documents: Arc::new(documents), origin, ..View::default() }
    }

    /// The known state that a later state of the store is compared with.
    pub fn as_known(&self) -> Known {
        let documents = Documents::clone(&self.documents);
        Known { documents, revision: self.revision, origin: self.origin }
    }

    fn with(
        (documents, malformed): (Arc<Documents>, Option<String>),
        listing: &Listing,
        before: &View,
    ) -> View {
        let verdicts = below(listing, VERDICTS, &before.verdicts);
        let tally = counted(&verdicts, before);
        View {
            revision: listing.revision,
            documents,
            origin: before.origin.next(listing),
            verdicts,
            tally,
            servers: below(listing, SERVERS, &before.servers),
            malformed,
            judged: judged(listing),
        }
    }

    /// Whether this view and another one lead to the same decisions. The servers' status is only for operators.
    pub fn decides_as(&self, other: &View) -> bool {
        self.judged == other.judged
            && self.malformed == other.malformed
            && self.documents == other.documents
            && self.servers.keys().eq(other.servers.keys())
    }

    /// A value that is in no store.
    #[cfg(test)]
    pub(crate) fn of(
        verdicts: impl IntoIterator<Item = (String, Verdicts)>,
        servers: impl IntoIterator<Item = String>,
    ) -> View {
        let mut listing = Listing { revision: 1, ..Listing::default() };
        let mut put = |key: String, value: Vec<u8>| {
            listing.entries.insert(key, super::Entry { value, revision: 1 });
        };
        for (server, verdicts) in verdicts {
            put(format!("{VERDICTS}{server}"), serde_json::to_vec(&verdicts).unwrap());
        }
        for server in servers {
            put(format!("{SERVERS}{server}"), serde_json::to_vec(&Server::default()).unwrap());
        }
        View::anew(&listing, &View::default())
    }
}

fn documents(listing: &Listing, before: &View) -> (Arc<Documents>, Option<String>) {
    let keys = CONCERNS.iter().map(|(key, _)| *key).chain([INTENT]);
    let found = |key| listing.entries.get(key).map_or(0, |entry| entry.revision);
    let same = |key| found(key) == before.documents.stored(key);
    let is_accepted = !before.documents.deleted.is_empty() && is_accepted(before.origin, listing);
    if before.malformed.is_none() && !is_accepted && keys.into_iter().all(same) {
        return (Arc::clone(&before.documents), None);
    }
    readable(listing, before)
}

/// Reads the documents. Removed documents stay in force, unless an operator has accepted their removal.
fn readable(listing: &Listing, before: &View) -> (Arc<Documents>, Option<String>) {
    match Documents::read(listing) {
        Ok(documents) if is_accepted(before.origin, listing) => (Arc::new(documents), None),
        Ok(documents) => (Arc::new(documents.keep_deleted(&before.documents)), None),
        Err(problem) => (Arc::clone(&before.documents), Some(problem)),
    }
}

fn judged(listing: &Listing) -> InputsVersion {
    let counts = listing.entries.iter().filter(|(key, _)| !key.starts_with(SERVERS));
    counts.fold(InputsVersion::default(), |moment, (_, entry)| InputsVersion {
        revision: moment.revision.max(entry.revision),
        entries: moment.entries + 1,
    })
}

/// Reads the entries below a prefix. Entries that cannot be read are ignored.
fn below<T: DeserializeOwned>(
    listing: &Listing,
    prefix: &str,
    before: &BTreeMap<String, Read<T>>,
) -> BTreeMap<String, Read<T>> {
    let of_server = |(key, entry): (&String, &super::Entry)| {
        let server = key.strip_prefix(prefix)?;
        let known = before.get(server).filter(|known| known.revision == entry.revision);
        let value = match known {
            Some(known) => Arc::clone(&known.value),
            None => Arc::new(serde_json::from_slice(&entry.value).ok()?),
        };
        Some((server.to_owned(), Read { revision: entry.revision, value }))
    };
    listing
        .entries
        .range(prefix.to_owned()..)
        .take_while(|(key, _)| key.starts_with(prefix))
        .filter_map(of_server)
        .collect()
}

/// The count of the votes, made from the earlier view's count and the changed verdicts.
fn counted(verdicts: &BTreeMap<String, Read<Verdicts>>, before: &View) -> Arc<VoteCount> {
    let mut tally = Arc::clone(&before.tally);
    for (server, known) in &before.verdicts {
        if verdicts.get(server).is_none_or(|now| !Arc::ptr_eq(&now.value, &known.value)) {
            Arc::make_mut(&mut tally).take_back(known);
        }
    }
    for (server, now) in verdicts {
        if before.verdicts.get(server).is_none_or(|known| !Arc::ptr_eq(&now.value, &known.value)) {
            Arc::make_mut(&mut tally).add(now);
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Entry};
    use super::*;
    use proptest::prelude::*;

    fn changes() -> impl Strategy<Value = Vec<(String, Option<String>)>> {
        let key = prop_oneof!["verdicts/node[1-3]", "servers/node[1-3]", Just("intent".to_owned())];
        let said = |sets: &str, node: u8| format!("{{\"{sets}\": [\"node{node}\"]}}");
        let value = prop_oneof![
            (1u8..4).prop_map(move |node| Some(said("up", node))),
            (1u8..4).prop_map(move |node| Some(said("gone", node))),
            Just(Some("{}".to_owned())),
            Just(Some("{".to_owned())),
            Just(None),
        ];
        proptest::collection::vec((key, value), 0..30)
    }

    proptest! {
        #[test]
        fn a_view_that_is_kept_up_to_date_is_what_reading_anew_gives(changes in changes()) {
            let mut listing = Listing { revision: 1, ..Listing::default() };
            let mut view = View::default();
            for (revision, (key, value)) in (2..).zip(changes) {
                let value = value.map(|value| Entry { value: value.into_bytes(), revision });
                listing.apply(Batch { revision, changes: vec![(key, value)] });
                let anew = View::anew(&listing, &view);
                view = View::read(&listing, &view);
                prop_assert_eq!(&view, &anew);
                prop_assert_eq!(&*view.tally, &VoteCount::of(view.verdicts.values().map(|said| &**said)));
            }
        }
    }

    #[test]
    fn verdicts_that_go_are_another_moment() {
        let said = |servers: &[&str]| {
            View::of(servers.iter().map(|&name| (name.to_owned(), Verdicts::default())), [])
        };
        let (both, one) = (said(&["node1", "node2"]), said(&["node1"]));
        assert_eq!(both.judged.revision, one.judged.revision);
        assert!(both.judged != one.judged && !both.decides_as(&one));
    }
}
