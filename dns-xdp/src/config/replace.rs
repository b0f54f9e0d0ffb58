//! Writes a file so that a reader, or a crash, meets the old text or the new one.
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

/// Replaces the file at once and durably, with the mode and owner that it has.
pub fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    // A symbolic link stays one; what it points at is replaced.
    let path = path.canonicalize()?;
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let new = directory.join(format!(".{}.new", name.to_string_lossy()));
    let replaced = write_like(&path, &new, text).and_then(|()| std::fs::rename(&new, &path));
    if let Err(error) = replaced {
        // The first error is the one to report; what is left over is removed next time.
        std::fs::remove_file(&new).ok();
        return Err(error);
    }
    File::open(directory)?.sync_all()
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
        replace_file(&link, "new").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
