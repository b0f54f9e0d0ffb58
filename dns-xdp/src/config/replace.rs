//! Writes a file so that a reader, or a crash, meets the old text or the new one.
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

/// A file's new text, which lies beside it until it takes effect. Dropped before, it is removed.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    new: PathBuf,
}

impl Replacement {
    /// Writes the new text durably, with the mode and owner that the file has. What keeps a file from being written
    /// (a full disk, a file system that is read-only) shows here.
    pub fn write(path: &Path, text: &str) -> io::Result<Self> {
        // A symbolic link stays one; what it points at is replaced.
        let path = path.canonicalize()?;
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let new = path.with_file_name(format!(".{}.new", name.to_string_lossy()));
        let replacement = Replacement { path, new };
        write_like(&replacement.path, &replacement.new, text)?;
        Ok(replacement)
    }

    /// Puts it in the file's place, at once and durably.
    pub fn take_effect(self) -> io::Result<()> {
        std::fs::rename(&self.new, &self.path)?;
        let directory = self.path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        File::open(directory)?.sync_all()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // Nothing is there once it has taken effect; what is left over otherwise is removed next time.
        std::fs::remove_file(&self.new).ok();
    }
}

fn write_like(model: &Path, new: &Path, text: &str) -> io::Result<()> {
    let model = std::fs::metadata(model)?;
    match std::fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    match fchown(&file, Some(model.uid()), Some(model.gid())) {
        // Who may not give a file away keeps it, with the mode that lets others read it or not.
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
        _ => {}
    }
    file.set_permissions(model.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_mode_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dns-xdp.toml");
        std::fs::write(&path, "old").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::fs::write(directory.path().join(".dns-xdp.toml.new"), "left by a crash").unwrap();
        let link = directory.path().join("link.toml");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        Replacement::write(&link, "new").unwrap().take_effect().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_replacement_that_does_not_take_effect_leaves_the_file_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dns-xdp.toml");
        std::fs::write(&path, "old").unwrap();
        drop(Replacement::write(&path, "new").unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
