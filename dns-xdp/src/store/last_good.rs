//! The last good copy of the shared documents on this server's disk. The server starts from it when the store is away,
//! and compares the store with it at a start.
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::continuity::{Known, Origin};
use super::{Documents, Revision, Shared};
use crate::atomic_file;
use crate::intent::Intents;

/// The contents of the file. Unknown fields are ignored; fields that an earlier version did not write have a default.
#[derive(Debug, Serialize, Deserialize)]
struct Copy {
    /// The store's revision when the copy was made.
    revision: Revision,
    texts: Shared,
    intents: Intents,
    revisions: BTreeMap<String, Revision>,
    /// The prefix of the keys.
    #[serde(default)]
    prefix: Option<String>,
    #[serde(flatten)]
    origin: Origin,
}

/// Reads the known state of the store with the keys below `prefix`; `None`: there is no copy of it.
///
/// # Errors
/// The copy exists and cannot be read.
pub fn load(path: &Path, prefix: &str) -> io::Result<Option<Known>> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Copy { revision, texts, intents, revisions, prefix: copied, origin } = serde_json::from_slice(&text)?;
    // Another prefix is another cluster, which an operator has configured on purpose.
    let is_ours = copied.is_none_or(|copied| copied == prefix);
    let documents = Documents { texts, intents, revisions, ..Documents::default() };
    Ok(is_ours.then_some(Known { documents, revision, origin }))
}

/// Renames an unreadable copy, so that the next copy does not replace it. Returns the new name. Replaces an earlier
/// unreadable copy.
///
/// # Errors
/// The copy cannot be moved.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".unreadable");
    std::fs::rename(path, &aside)?;
    Ok(aside.into())
}

/// Replaces the copy.
///
/// # Errors
/// The file cannot be written; the old copy stays unchanged.
pub fn store(path: &Path, prefix: &str, known: &Known) -> io::Result<()> {
    let Known { documents, revision, origin } = known.clone();
    // Documents that were deleted from the store stay in force. The next start finds the deletion again.
    let Documents { texts, intents, revisions, deleted: _ } = documents;
    let copy = Copy { revision, texts, intents, revisions, prefix: Some(prefix.to_owned()), origin };
    let mut text = serde_json::to_vec_pretty(&copy)?;
    text.push(b'\n');
    atomic_file::replace(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/dns-xdp/demo.example.com";

    #[test]
    fn what_was_copied_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.store.json");
        assert!(load(&path, PREFIX).unwrap().is_none());
        let texts = Shared::from([("config/zone".to_owned(), "[zone]\n".to_owned())]);
        let revisions = [("config/zone".to_owned(), 7)].into();
        let documents = Documents { texts, revisions, ..Documents::default() };
        let known =
            Known { documents, revision: 9, origin: Origin { cluster: Some(u64::MAX), generation: 2 } };
        store(&path, PREFIX, &known).unwrap();
        assert_eq!(load(&path, PREFIX).unwrap(), Some(known));
        assert_eq!(load(&path, "/elsewhere").unwrap(), None, "it is of another cluster");
        std::fs::write(&path, "{").unwrap();
        assert!(load(&path, PREFIX).is_err());
        let aside = set_aside(&path).unwrap();
        assert_eq!(std::fs::read(aside).unwrap(), b"{");
        assert_eq!(load(&path, PREFIX).unwrap(), None);
    }

    #[test]
    fn copies_of_other_versions_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.store.json");
        let earlier = "{\"revision\": 9, \"texts\": {\"config/zone\": \"[zone]\\n\"}, \"intents\": {}, \
                       \"revisions\": {\"config/zone\": 7}}";
        std::fs::write(&path, earlier).unwrap();
        let known = load(&path, PREFIX).unwrap().unwrap();
        assert_eq!((known.documents.epoch(), known.origin), (7, Origin::default()));
        let later = earlier.replace("{\"revision\"", "{\"more\": [1], \"generation\": 3, \"revision\"");
        std::fs::write(&path, later).unwrap();
        assert_eq!(load(&path, PREFIX).unwrap().unwrap().origin.generation, 3);
    }
}
