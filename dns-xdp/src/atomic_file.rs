//! Writes a file so that a reader, or a crash, meets the old text or the new one.
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::Path;

use atomic_write_file::AtomicWriteFile;
use atomic_write_file::unix::OpenOptionsExt as _;

/// A file's new text, which takes effect when it is told to. Dropped before, it is gone.
#[derive(Debug)]
pub struct Replacement(AtomicWriteFile);

impl Replacement {
    /// Writes the new text durably, with the mode and owner that the file has. What keeps a file from being written
    /// (a full disk, a file system that is read-only) shows here.
    pub fn write(path: &Path, text: &str) -> io::Result<Self> {
        // A symbolic link stays one; what it points at is replaced.
        let path = path.canonicalize()?;
        let model = fs::metadata(&path)?;
        let mut new = AtomicWriteFile::options().preserve_mode(true).preserve_owner(false).open(&path)?;
        have_owner_of(new.as_file(), &model)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        Ok(Replacement(new))
    }

    /// Puts it in the file's place, at once and durably.
    pub fn take_effect(self) -> io::Result<()> {
        self.0.commit()
    }
}

/// Replaces the file at `path`, or creates it and its directory. The file has the mode and owner of any new file.
pub(crate) fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut new = AtomicWriteFile::options().preserve_mode(false).preserve_owner(false).open(path)?;
    new.write_all(octets)?;
    new.commit()
}

/// Unlike the crate's own way, it is no error for root without `CAP_CHOWN`, who stays the owner.
fn have_owner_of(file: &File, model: &Metadata) -> io::Result<()> {
    match fchown(file, Some(model.uid()), Some(model.gid())) {
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_mode_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dns-xdp.toml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let link = directory.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Replacement::write(&link, "new").unwrap().take_effect().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_replacement_that_does_not_take_effect_leaves_the_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dns-xdp.toml");
        fs::write(&path, "old").unwrap();
        drop(Replacement::write(&path, "new").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_that_was_not_there_is_made_with_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/state.json");
        replace(&path, b"first").unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }
}
