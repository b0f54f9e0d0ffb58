//! Replaces a file's text. A reader sees either the old text or the new text, even after a crash.
use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// A file's new text, in a file beside it until it takes effect. If dropped before, it is removed.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    new: NamedTempFile,
}

impl Replacement {
    /// Writes the new text durably, with the file's mode and owner. A full disk or a read-only file system makes this
    /// call fail, before the old file has changed.
    pub fn write(path: &Path, text: &str) -> io::Result<Self> {
        // A symbolic link stays a link; the file that it points at is replaced.
        let path = path.canonicalize()?;
        let model = fs::metadata(&path)?;
        // No other user can read the new file before it has the old file's mode.
        Replacement::beside(path, text.as_bytes(), 0o600, |new| make_alike(new, &model))
    }

    /// Writes the octets to a new file beside `path`. Calls `prepare` while the file is still empty.
    fn beside(
        path: PathBuf,
        octets: &[u8],
        mode: u32,
        prepare: impl FnOnce(&File) -> io::Result<()>,
    ) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        let new_name = format!(".{}.new", name.to_string_lossy());
        // A crash may have left an old file.
        match fs::remove_file(directory(&path).join(&new_name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(&new_name).rand_bytes(0).permissions(Permissions::from_mode(mode));
        let mut new = builder.tempfile_in(directory(&path))?;
        prepare(new.as_file())?;
        new.write_all(octets)?;
        new.as_file().sync_all()?;
        Ok(Replacement { path, new })
    }

    /// Puts the new text in the file's place, atomically and durably.
    pub fn take_effect(self) -> io::Result<()> {
        let directory = File::open(directory(&self.path))?;
        self.new.persist(&self.path).map_err(|error| error.error)?;
        // The rename is durable only after the directory is synced. The new text is in force even if that fails.
        if let Err(error) = directory.sync_all() {
            tracing::warn!("{} is written, but may be lost in a power failure: {error}", self.path.display());
        }
        Ok(())
    }
}

/// Replaces the file at `path`, or creates it and its directory. A new file has mode 0600. An existing file keeps its
/// mode, which an operator may have chosen.
pub(crate) fn replace(path: &Path, octets: &[u8]) -> io::Result<()> {
    fs::create_dir_all(directory(path))?;
    let permissions = match fs::metadata(path) {
        Ok(model) => Some(model.permissions()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let prepare = |new: &File| permissions.map_or(Ok(()), |permissions| new.set_permissions(permissions));
    Replacement::beside(path.to_owned(), octets, 0o600, prepare)?.take_effect()
}

fn make_alike(file: &File, model: &Metadata) -> io::Result<()> {
    match fchown(file, Some(model.uid()), Some(model.gid())) {
        // A process without CAP_CHOWN stays the owner. The mode is still set below.
        Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
        _ => {}
    }
    file.set_permissions(model.permissions())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_mode_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dns-xdp.toml");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        fs::write(directory.path().join(".dns-xdp.toml.new"), "left by a crash").unwrap();
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
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(mode(), 0o644);
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_take_the_files_place_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"new").is_err(), "a directory is in its place");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
