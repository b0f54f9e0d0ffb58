//! The file that preserves intents across a restart. It is small, and replaced as a whole.
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Intents, Local};
use crate::atomic_file;

/// Why intents could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file exists and cannot be read.
    #[error("cannot read the admin intent from {path}: {source}; make the file readable for the daemon")]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not what [`store`] writes.
    #[error(
        "{path} does not hold admin intent: {source}; correct it, or remove it and set the nodes' intent again \
         with `dns-xdp node down|up|drain`"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The place and the error.
        source: serde_json::Error,
    },
    /// The new file could not be put in place.
    #[error("cannot write the admin intent to {path}: {source}; the change would be lost with a restart")]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// Reads the file; a missing file has no intents.
pub fn load(path: &Path) -> Result<Intents, Error> {
    read(path)
}

/// Reads the file of a server's own decisions beside a store; a missing file has none.
pub fn load_local(path: &Path) -> Result<Local, Error> {
    read(path)
}

fn read<T: DeserializeOwned + Default>(path: &Path) -> Result<T, Error> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
        Err(source) => return Err(Error::Read { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&text).map_err(|source| Error::Malformed { path: path.to_owned(), source })
}

/// Replaces the file, and makes its directory if necessary. If the machine crashes meanwhile, the file has either the
/// old or the new intents. After the return it has the new intents.
pub fn store(path: &Path, intents: &Intents) -> Result<(), Error> {
    write(path, intents)
}

/// Like [`store`], for a server's own decisions beside a store.
pub fn store_local(path: &Path, local: &Local) -> Result<(), Error> {
    write(path, local)
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value).map_err(io::Error::from);
    let written = text.and_then(|mut text| {
        text.push(b'\n');
        atomic_file::replace(path, &text)
    });
    written.map_err(|source| Error::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, ToSpan as _};

    use super::super::Intent;
    use super::*;
    use crate::cluster::Admin;

    fn drained() -> Intents {
        let since: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let drained = Intent {
            reason: Some("new disk".to_owned()),
            by: Some("alice".to_owned()),
            until: Some(since + 1.hour()),
            ..Intent::new(Admin::Drain, since)
        };
        Intents::from([("node1".to_owned(), Intent::new(Admin::Up, since)), ("node2".to_owned(), drained)])
    }

    #[test]
    fn a_missing_file_is_no_intent() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load(&directory.path().join("state.json")).unwrap(), Intents::new());
    }

    #[test]
    fn what_was_stored_is_loaded_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/state.json");
        store(&path, &Intents::new()).unwrap();
        store(&path, &drained()).unwrap();
        assert_eq!(load(&path).unwrap(), drained());
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_from_before_intents_had_an_author_and_an_end_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        let text = r#"{"node1": {"admin": "drain", "reason": "new disk", "since": "2026-03-01T12:00:00Z"}}"#;
        fs::write(&path, text).unwrap();
        let intent = &load(&path).unwrap()["node1"];
        assert_eq!((intent.admin, &intent.by, intent.until), (Admin::Drain, &None, None));
    }

    #[test]
    fn what_another_version_has_written_is_kept() {
        let text = r#"{"node1":{"admin":"drain","since":"2026-03-01T12:00:00Z","ticket":"OPS-7"}}"#;
        let intents: Intents = serde_json::from_str(text).unwrap();
        assert_eq!(intents["node1"].admin, Admin::Drain);
        assert_eq!(serde_json::to_string(&intents).unwrap(), text);
    }

    #[test]
    fn a_malformed_file_is_named_with_the_place_and_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        fs::write(&path, "{\"node1\": {\"admin\": \"sideways\"}}").unwrap();
        let message = load(&path).unwrap_err().to_string();
        for part in [path.to_str().unwrap(), "sideways", "line 1 column", "remove it"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_replaced_stays_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        store(&path, &drained()).unwrap();
        fs::create_dir(directory.path().join(".state.json.new")).unwrap();
        assert!(matches!(store(&path, &Intents::new()), Err(Error::Write { .. })));
        assert_eq!(load(&path).unwrap(), drained());
    }
}
