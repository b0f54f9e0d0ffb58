//! The pin directory of one daemon: checks that a directory is fit for it, and recognises the daemon's entries.
//!
//! Only the entries that [`is_own`] recognises are ever removed. [`fit`] refuses the root of a mount and a directory
//! with other entries, because other programs use these too.
//!
//! A BPF filesystem refuses names with a dot, so a dot is written `%2e` and a percent sign `%25`: `link-eth0%2e5` is
//! the link to `eth0.5`.
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

/// The mount point of the BPF filesystem.
pub const BPFFS: &str = "/sys/fs/bpf";
/// The pin of the program.
pub const PROGRAM: &str = "program";
/// The beginning of a link's pin. The interface's name follows.
pub const LINK: &str = "link-";
/// The beginning of a directory of maps. The version of their layout and the slots in a bank of the table follow.
pub const MAPS: &str = "maps-v";

/// Why a directory cannot be `[xdp] pin`. The text continues a sentence that begins with the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The path has `..`, which may lead anywhere.
    #[error("is `{}`; write the path without `..`", .0.display())]
    Upwards(PathBuf),
    /// The root of a mount. Other programs pin there too.
    #[error(
        "is `{}`, the root of a mount, which other programs use too; write a directory that only dns-xdp uses, such as \"{BPFFS}/dns-xdp\"{}",
        pin.display(),
        removal(own)
    )]
    MountRoot {
        /// The path as it is written.
        pin: PathBuf,
        /// Entries that look like the daemon's.
        own: Vec<PathBuf>,
    },
    /// A file, or a symbolic link that leads nowhere.
    #[error("is `{}`, which is no directory; remove it, or write another path", .0.display())]
    NotADirectory(PathBuf),
    /// The directory is not on a BPF filesystem, so nothing can be pinned there.
    #[error(
        "is `{}`, which is not on a BPF filesystem; write a directory below {BPFFS}, or mount -t bpf bpf on the way to it",
        .0.display()
    )]
    NotBpf(PathBuf),
    /// Other programs use the directory.
    #[error(
        "is `{}`, which has entries that are not dns-xdp's: {}{}; remove them, or write a directory that only dns-xdp uses",
        pin.display(),
        first.display(),
        and_more(*more)
    )]
    Foreign {
        /// The path as it is written.
        pin: PathBuf,
        /// The first of the entries.
        first: PathBuf,
        /// How many others there are.
        more: usize,
    },
}

fn and_more(more: usize) -> String {
    if more == 0 { String::new() } else { format!(" and {more} more") }
}

/// Returns how to remove pins that no verb removes. Leaves out names with characters that are special to a shell.
fn removal(own: &[PathBuf]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-%".contains(c);
    let words = own.iter().filter_map(|path| path.to_str()).filter(|path| path.chars().all(is_plain));
    let words: Vec<&str> = words.collect();
    if words.is_empty() {
        return String::new();
    }
    format!("; if an earlier dns-xdp has pinned there: rm -r {}", words.join(" "))
}

/// Why an entry of a pin directory could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// Its name is not one of the daemon's.
    #[error("it is not dns-xdp's")]
    Foreign,
    /// Another filesystem is mounted on it.
    #[error("another filesystem is mounted there")]
    Mounted,
    /// The system refused.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Whether this is the name of a daemon's entry in a pin directory.
pub fn is_own(name: &str) -> bool {
    name == PROGRAM || is_link(name) || is_maps(name)
}

/// Whether this is the name of a link's pin: `link-eth0`.
pub fn is_link(name: &str) -> bool {
    name.strip_prefix(LINK).is_some_and(|interface| !interface.is_empty())
}

/// Whether this is the name of a directory of maps: `maps-v8-5120`.
pub fn is_maps(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|digit| digit.is_ascii_digit());
    let numbers = name.strip_prefix(MAPS).and_then(|numbers| numbers.split_once('-'));
    numbers.is_some_and(|(layout, slots)| is_number(layout) && is_number(slots))
}

/// Checks that a path may be written as `[xdp] pin`, without looking at the machine.
///
/// # Errors
/// The path has `..`.
pub fn check_path(pin: &Path) -> Result<(), Unfit> {
    if pin.components().any(|part| part == Component::ParentDir) {
        return Err(Unfit::Upwards(pin.to_owned()));
    }
    Ok(())
}

/// Checks that the daemon's entries may be removed from `pin`. Its other entries do not matter.
///
/// # Errors
/// The path has `..`, is the root of a mount, or is not a directory.
pub fn removable(pin: &Path) -> Result<(), Unfit> {
    check_path(pin)?;
    if pin == Path::new(BPFFS) || is_mount_root(pin) {
        let own = entries(pin).unwrap_or_default().into_iter();
        let mut own: Vec<PathBuf> = own.filter(|path| file_name(path).is_some_and(is_own)).collect();
        own.sort();
        return Err(Unfit::MountRoot { pin: pin.to_owned(), own });
    }
    let directory = directory(pin);
    if directory.symlink_metadata().is_ok() && !directory.is_dir() {
        return Err(Unfit::NotADirectory(pin.to_owned()));
    }
    Ok(())
}

/// Checks that a daemon can start with `pin` as its directory.
///
/// # Errors
/// [`removable`] refuses the directory, it is not on a BPF filesystem, or it has foreign entries.
pub fn fit(pin: &Path) -> Result<(), Unfit> {
    removable(pin)?;
    let directory = directory(pin);
    if !on_bpffs(existing(&directory)) && !is_to_be_mounted(&directory) {
        return Err(Unfit::NotBpf(pin.to_owned()));
    }
    let foreign = foreign_entries(&directory);
    match foreign.first() {
        Some(first) => {
            Err(Unfit::Foreign { pin: pin.to_owned(), first: first.clone(), more: foreign.len() - 1 })
        }
        None => Ok(()),
    }
}

/// Whether a directory is below the usual place of the BPF filesystem, which the daemon still has to mount.
pub fn is_to_be_mounted(directory: &Path) -> bool {
    directory.starts_with(BPFFS) && !on_bpffs(Path::new(BPFFS))
}

/// Returns the entries of a directory that are not the daemon's, in order; none if the directory cannot be read.
pub fn foreign_entries(directory: &Path) -> Vec<PathBuf> {
    let entries = entries(directory).unwrap_or_default().into_iter();
    let mut foreign: Vec<PathBuf> = entries.filter(|path| !file_name(path).is_some_and(is_own)).collect();
    foreign.sort();
    foreign
}

/// Returns the entries of a directory, in no order; none if there is no directory.
///
/// # Errors
/// The directory cannot be read.
pub fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Returns the nearest existing directory above a path.
pub fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

/// Returns the last part of a path, if it is UTF-8.
pub fn file_name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// Returns the directory that `[xdp] pin` names. Below the root of the BPF filesystem, encodes the parts that do not
/// exist as written.
pub fn directory(pin: &Path) -> PathBuf {
    let existing = existing(pin);
    let below = pin.strip_prefix(existing).unwrap_or(Path::new(""));
    if existing == pin || (!on_bpffs(existing) && !existing.starts_with(BPFFS)) {
        return pin.to_owned();
    }
    let encoded = below.components().map(|part| encoded(&part.as_os_str().to_string_lossy()));
    existing.join(encoded.collect::<PathBuf>())
}

/// Returns an interface's name in the form of a pin.
pub fn encoded(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2e")
}

/// Returns the name that was [`encoded`].
pub fn decoded(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

/// Whether a path is on a BPF filesystem.
pub fn on_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|filesystem| filesystem.filesystem_type() == BPF_FS_MAGIC)
}

/// Whether a directory and its parent are on different filesystems.
fn is_mount_root(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let device = |path: &Path| fs::metadata(path).ok().map(|metadata| metadata.dev());
    path.parent().is_none_or(|parent| device(&path).is_some() && device(&path) != device(parent))
}

/// Removes one of the daemon's entries ([`is_own`]): a pin, or a directory of maps with its pins. Follows neither
/// symbolic links nor mounts, and removes nothing deeper. A missing entry is not an error.
///
/// # Errors
/// The entry is not the daemon's, or the system refuses.
pub fn remove_own(path: &Path) -> Result<(), RemoveError> {
    let name = file_name(path).unwrap_or_default();
    if !is_own(name) {
        return Err(RemoveError::Foreign);
    }
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_dir() => fs::remove_file(path),
        Ok(metadata) if is_maps(name) => return remove_maps(path, &metadata),
        Ok(_) => fs::remove_dir(path),
        Err(error) => Err(error),
    };
    Ok(unless_gone(removed)?)
}

fn remove_maps(directory: &Path, metadata: &Metadata) -> Result<(), RemoveError> {
    let around = directory.parent().map(fs::metadata).transpose()?;
    if around.is_none_or(|around| around.dev() != metadata.dev()) {
        return Err(RemoveError::Mounted);
    }
    for map in entries(directory)? {
        unless_gone(fs::remove_file(&map))?;
    }
    Ok(unless_gone(fs::remove_dir(directory))?)
}

fn unless_gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_bpf_filesystem_refuses_are_encoded_and_read_back() {
        for (name, expected) in [("eth0.5", "eth0%2e5"), ("bond0", "bond0"), ("a%2e.", "a%252e%2e")] {
            assert_eq!(encoded(name), expected);
            assert_eq!(decoded(expected), name);
        }
    }

    #[test]
    fn entries_are_own_by_their_whole_name() {
        for own in ["program", "link-eth0", "link-eth0%2e5", "maps-v5-5120", "maps-v12-20"] {
            assert!(is_own(own), "{own}");
        }
        for foreign in [
            "programs",
            "link-",
            "link",
            "maps-vpn",
            "maps-v5",
            "maps-v5-",
            "maps-v-5",
            "maps-v5-5a",
            "tc",
            "",
        ] {
            assert!(!is_own(foreign), "{foreign}");
        }
    }

    #[test]
    fn foreign_entries_are_counted_and_the_first_is_named() {
        let pin = tempfile::tempdir().unwrap();
        for own in ["program", "link-eth0", "maps-v5-20"] {
            fs::write(pin.path().join(own), "").unwrap();
        }
        assert!(
            foreign_entries(pin.path()).is_empty() && foreign_entries(&pin.path().join("missing")).is_empty()
        );
        for foreign in ["tc", "maps-vpn"] {
            fs::create_dir(pin.path().join(foreign)).unwrap();
        }
        let foreign = foreign_entries(pin.path());
        let text =
            Unfit::Foreign { pin: pin.path().to_owned(), first: foreign[0].clone(), more: 1 }.to_string();
        assert!(text.contains("/maps-vpn and 1 more; remove them"), "{text}");
    }

    #[test]
    fn a_place_that_is_on_no_bpf_filesystem_is_unfit_to_pin_in() {
        let directory = tempfile::tempdir().unwrap();
        for pin in [directory.path().to_owned(), directory.path().join("a/b"), "/sys/fs/bfp/dns-xdp".into()] {
            assert_eq!(fit(&pin), Err(Unfit::NotBpf(pin.clone())));
            // A directory that does not exist needs no removal.
            removable(&pin).unwrap();
        }
    }

    #[test]
    fn a_symbolic_link_may_lead_to_a_directory_and_not_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let (file, link, broken) =
            (directory.path().join("file"), directory.path().join("link"), directory.path().join("broken"));
        fs::write(&file, "").unwrap();
        fs::create_dir(directory.path().join("there")).unwrap();
        std::os::unix::fs::symlink(directory.path().join("there"), &link).unwrap();
        std::os::unix::fs::symlink("/nonexistent/there", &broken).unwrap();
        assert_eq!(removable(&link), Ok(()));
        for pin in [file, broken] {
            assert_eq!(removable(&pin), Err(Unfit::NotADirectory(pin.clone())));
        }
    }

    #[test]
    fn the_root_of_a_mount_is_refused_however_its_path_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        for root in [Path::new("/"), Path::new("/proc"), Path::new("/proc/"), Path::new(BPFFS), &link] {
            assert!(matches!(removable(root), Err(Unfit::MountRoot { .. })), "{root:?}");
        }
        assert_eq!(removable(directory.path()), Ok(()));
        assert_eq!(removable(Path::new("/sys/fs/bpf/dns-xdp")), Ok(()));
        assert!(matches!(check_path(Path::new("/sys/fs/bpf/a/..")), Err(Unfit::Upwards(_))));
    }

    #[test]
    fn pins_in_the_root_of_a_mount_come_with_the_command_that_removes_them() {
        let own = ["/sys/fs/bpf/link-eth0", "/sys/fs/bpf/link-$(x)", "/sys/fs/bpf/program"];
        let unfit = |own: &[&str]| {
            let own = own.iter().map(PathBuf::from).collect();
            Unfit::MountRoot { pin: BPFFS.into(), own }.to_string()
        };
        let text = unfit(&own);
        assert!(text.ends_with(": rm -r /sys/fs/bpf/link-eth0 /sys/fs/bpf/program"), "{text}");
        assert!(unfit(&[]).ends_with("such as \"/sys/fs/bpf/dns-xdp\""), "{}", unfit(&[]));
    }

    #[test]
    fn only_what_is_ours_is_removed_and_nothing_behind_a_link_or_too_deep() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let is_there = |name: &str| path(name).symlink_metadata().is_ok();
        fs::create_dir_all(path("elsewhere/a")).unwrap();
        std::os::unix::fs::symlink(path("elsewhere"), path("maps-v1-1")).unwrap();
        fs::create_dir_all(path("maps-v1-2")).unwrap();
        fs::write(path("maps-v1-2/ZONE"), "").unwrap();
        fs::create_dir_all(path("maps-v1-3/deep")).unwrap();
        fs::create_dir_all(path("link-a/full")).unwrap();
        for name in ["maps-v1-1", "maps-v1-2", "missing-is-foreign", "link-missing"] {
            assert_eq!(remove_own(&path(name)).is_ok(), is_own(name), "{name}");
            assert!(!is_there(name), "{name}");
        }
        for name in ["elsewhere", "maps-v1-3", "link-a"] {
            remove_own(&path(name)).unwrap_err();
        }
        assert!(is_there("elsewhere/a") && is_there("maps-v1-3/deep") && is_there("link-a/full"));
    }
}
