//! The shared documents in the store: read from a listing, and the writes that replace them.
use std::collections::BTreeMap;

use super::Listing;
pub use crate::config::shared::{CONCERNS, Documents, INTENT, Revision, Shared, join, split};

impl Documents {
    /// Reads the documents of a listing.
    ///
    /// # Errors
    /// A document cannot be read. The error has the document's key and the reason.
    pub fn read(listing: &Listing) -> Result<Documents, String> {
        let mut documents = Documents::default();
        for (key, _) in CONCERNS {
            let Some(entry) = listing.entries.get(key) else { continue };
            let text = String::from_utf8(entry.value.clone()).map_err(|_| format!("{key} is no text"))?;
            documents.texts.insert(key.to_owned(), text);
            documents.revisions.insert(key.to_owned(), entry.revision);
        }
        if let Some(entry) = listing.entries.get(INTENT) {
            documents.intents =
                serde_json::from_slice(&entry.value).map_err(|error| format!("{INTENT}: {error}"))?;
            documents.revisions.insert(INTENT.to_owned(), entry.revision);
        }
        Ok(documents)
    }

    /// The revisions of the configuration's documents, for a swap that must not overlook a change.
    pub fn expected(&self) -> BTreeMap<String, Revision> {
        CONCERNS.iter().map(|(key, _)| ((*key).to_owned(), self.stored(key))).collect()
    }

    /// Returns these documents, and the documents of `before` that the store has lost.
    #[must_use]
    pub fn keep_deleted(mut self, before: &Documents) -> Documents {
        for (key, revision) in &before.revisions {
            if self.revisions.contains_key(key) {
                continue;
            }
            self.deleted.insert(key.clone());
            self.revisions.insert(key.clone(), *revision);
            if key == INTENT {
                self.intents.clone_from(&before.intents);
            } else if let Some(text) = before.texts.get(key) {
                self.texts.insert(key.clone(), text.clone());
            }
        }
        self
    }

    /// The message about documents that are no longer in the store; `None`: all are there.
    pub fn deletion(&self) -> Option<String> {
        let deleted: Vec<&str> = self.deleted.iter().map(String::as_str).collect();
        let again = match &deleted[..] {
            [] => return None,
            [INTENT] => "write it again with any `dns-xdp node` command",
            all if all.contains(&INTENT) => {
                "write it again with `dns-xdp cluster import`, and intent with any `dns-xdp node` command"
            }
            _ => "write it again with `dns-xdp cluster import`",
        };
        Some(format!(
            "the store has lost {}, its last contents stay in force: {again}, or accept its end with `dns-xdp cluster \
             accept`",
            deleted.join(" and ")
        ))
    }

    /// Returns the writes that replace the shared part by `shared`. A document that `shared` lacks becomes empty.
    pub fn writes(&self, shared: &Shared) -> BTreeMap<String, Vec<u8>> {
        let differs = |key: &&str| {
            let [old, new] = [&self.texts, shared].map(|texts| texts.get(*key).map_or("", String::as_str));
            old != new || self.deleted.contains(*key) && !new.is_empty()
        };
        let keys = CONCERNS.iter().map(|(key, _)| *key).filter(differs);
        keys.map(|key| (key.to_owned(), shared.get(key).cloned().unwrap_or_default().into_bytes())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Entry;

    fn listing(entries: &[(&str, &str, Revision)]) -> Listing {
        let entry = |value: &str, revision| Entry { value: value.as_bytes().to_vec(), revision };
        let entries =
            entries.iter().map(|(key, value, revision)| ((*key).to_owned(), entry(value, *revision)));
        Listing { revision: 99, entries: entries.collect(), ..Listing::default() }
    }

    #[test]
    fn the_epoch_is_the_last_change_of_a_document_and_of_nothing_else() {
        let listing =
            listing(&[("config/zone", "[zone]\n", 3), ("intent", "{}", 7), ("verdicts/node1", "{}", 50)]);
        let documents = Documents::read(&listing).unwrap();
        assert_eq!(documents.epoch(), 7);
        assert_eq!(documents.expected()["config/zone"], 3);
        assert_eq!(documents.expected()["config/nodes"], 0);
        let shared = Shared::from([("config/nodes".to_owned(), "[[node]]\n".to_owned())]);
        let writes = documents.writes(&shared);
        assert_eq!(writes.len(), 2);
        assert!(writes["config/zone"].is_empty() && !writes["config/nodes"].is_empty());
    }

    #[test]
    fn a_document_that_cannot_be_read_is_named() {
        let error = Documents::read(&listing(&[("intent", "{", 1)])).unwrap_err();
        assert!(error.starts_with("intent: "), "{error}");
    }
}
