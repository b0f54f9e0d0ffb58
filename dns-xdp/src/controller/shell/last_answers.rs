//! The file with the last answers, by the names of nodes. A start without a quorum begins with them.
use std::fs;
use std::io;
use std::path::Path;

use crate::atomic_file;
use crate::failover::LastAnswers;

/// Reads the last answers; `None`: there is no such file, or it cannot be read, which is logged.
pub(super) fn load(path: &Path) -> Option<LastAnswers> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!("cannot read the last answers in {}: {error}", path.display());
            return None;
        }
    };
    let read = serde_json::from_slice(&text);
    read.inspect_err(|error| tracing::warn!("{} does not hold last answers: {error}", path.display())).ok()
}

/// Replaces the file.
pub(super) fn store(path: &Path, answers: &LastAnswers) -> io::Result<()> {
    atomic_file::replace(path, &serde_json::to_vec(answers)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_and_what_cannot_be_read_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.answers.json");
        assert_eq!(load(&path), None);
        let nodes = [("node1".to_owned(), Some("node2".to_owned())), ("node2".to_owned(), None)].into();
        let answers = LastAnswers { nodes, ..LastAnswers::default() };
        store(&path, &answers).unwrap();
        assert_eq!(load(&path), Some(answers));
        fs::write(&path, "{").unwrap();
        assert_eq!(load(&path), None);
    }
}
