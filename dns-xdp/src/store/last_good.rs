//! The last good copy of the shared documents on this server's disk: what it starts from when the store is away.
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Documents, Revision};
use crate::atomic_file;
use crate::intent::Intents;

#[derive(Debug, Serialize, Deserialize)]
struct Copy {
    /// The store had come so far.
    revision: Revision,
    texts: super::Shared,
    intents: Intents,
    revisions: std::collections::BTreeMap<String, Revision>,
}

/// The documents, and how far the store had come; `None`: there is no copy.
///
/// # Errors
/// It is there and cannot be read.
pub fn load(path: &Path) -> io::Result<Option<(Documents, Revision)>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Copy { revision, texts, intents, revisions } = serde_json::from_slice(&text)?;
    Ok(Some((Documents { texts, intents, revisions }, revision)))
}

/// Replaces the copy.
///
/// # Errors
/// The file cannot be written; the old one is as it was.
pub fn store(path: &Path, documents: &Documents, revision: Revision) -> io::Result<()> {
    let Documents { texts, intents, revisions } = documents.clone();
    let mut text = serde_json::to_vec_pretty(&Copy { revision, texts, intents, revisions })?;
    text.push(b'\n');
    atomic_file::replace(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Shared;

    #[test]
    fn what_was_copied_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.store.json");
        assert!(load(&path).unwrap().is_none());
        let texts = Shared::from([("config/zone".to_owned(), "[zone]\n".to_owned())]);
        let revisions = [("config/zone".to_owned(), 7)].into();
        let documents = Documents { texts, revisions, ..Documents::default() };
        store(&path, &documents, 9).unwrap();
        assert_eq!(load(&path).unwrap(), Some((documents, 9)));
        std::fs::write(&path, "{").unwrap();
        assert!(load(&path).is_err());
    }
}
