//! What is pinned, where, and under which name.
//!
//! ```text
//!  /sys/fs/bpf/dns-xdp/program          the program
//!                      link-eth0        its link to an interface, which keeps it attached
//!                      maps-v5-5120/    its maps: version of their layout, and slots in a half of the table;
//!                                       head-0 and head-1 are the zones that were published last
//! ```
//!
//! A BPF filesystem refuses names with a dot, so a dot is written `%2e` and a percent sign `%25`: `link-eth0%2e5` is the
//! link to `eth0.5`.
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use aya::programs::links::PinnedLink;
use dns_xdp_ebpf::table::{LAYOUT, ZONE};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::Error;
use super::maps::Heads;

const BPFFS: &str = "/sys/fs/bpf";
const PROGRAM: &str = "program";
const LINK: &str = "link-";
const MAPS: &str = "maps-";

/// A predecessor that gives way ends within this.
const GIVING_WAY: Duration = Duration::from_secs(5);
const GIVING_WAY_POLL: Duration = Duration::from_millis(20);

/// The pin directory of one daemon, which holds it alone for as long as this lives.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    directory: PathBuf,
    half: u32,
    lock: Arc<Flock<File>>,
}

impl Pins {
    /// Makes the directory, and mounts the BPF filesystem where it belongs if nobody has.
    pub(super) fn create(directory: &Path, half: u32) -> Result<Self, Error> {
        let directory = place(directory);
        let lock = Arc::new(make_and_lock(&directory)?);
        Ok(Pins { directory, half, lock })
    }

    /// The directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the directory that was made is still there, with all that is pinned of the maps.
    pub(super) fn has_maps(&self, names: &[&str]) -> bool {
        self.is_there() && names.iter().all(|name| self.map(name).exists())
    }

    /// Makes the directory anew if somebody has removed it.
    pub(super) fn made_anew(&self) -> Result<Self, Error> {
        if self.is_there() { Ok(self.clone()) } else { Pins::create(&self.directory, self.half) }
    }

    fn is_there(&self) -> bool {
        is(&self.lock, &self.directory)
    }

    /// Makes the directory of the maps; `true` when it was there.
    pub(super) fn adopt_maps(&self) -> Result<bool, Error> {
        let maps = self.maps();
        match fs::create_dir(&maps) {
            Ok(()) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
            Err(error) => Err(Error::new(format!("cannot make {}", maps.display())).because(error)),
        }
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Where the heads of the table's halves are pinned, beside the maps.
    pub(super) fn heads(&self) -> Heads {
        Heads { zone: self.map(ZONE), halves: ["head-0", "head-1"].map(|head| self.map(head)) }
    }

    /// Removes the maps of this layout.
    pub(super) fn remove_maps(&self) {
        remove(&self.maps());
    }

    /// Removes the maps of other layouts, which no attached program uses any more.
    pub(super) fn remove_other_maps(&self) {
        let ours = self.maps();
        for path in entries(&self.directory).filter(|path| starts_with(path, MAPS) && *path != ours) {
            remove(&path);
        }
    }

    /// Where the program is pinned.
    pub(super) fn program(&self) -> PathBuf {
        self.directory.join(PROGRAM)
    }

    /// Where an interface's link is pinned.
    pub(super) fn link(&self, interface: &str) -> PathBuf {
        self.directory.join(format!("{LINK}{}", encoded(interface)))
    }

    /// The interfaces that a link is pinned for.
    pub(super) fn linked(&self) -> Vec<String> {
        let links = entries(&self.directory).filter(|path| starts_with(path, LINK));
        links.filter_map(|path| Some(decoded(path.file_name()?.to_str()?.strip_prefix(LINK)?))).collect()
    }

    fn maps(&self) -> PathBuf {
        self.directory.join(format!("{MAPS}v{LAYOUT}-{}", self.half))
    }
}

/// Where a daemon with this `[xdp] pin` pins its program.
pub(super) fn program(pin: &Path) -> PathBuf {
    place(pin).join(PROGRAM)
}

/// Where a daemon with this `[xdp] pin` pins an interface's link.
pub(super) fn link(pin: &Path, interface: &str) -> PathBuf {
    place(pin).join(format!("{LINK}{}", encoded(interface)))
}

/// The directory that `[xdp] pin` names. What is below the BPF filesystem's root, and is not there as it is written, is
/// encoded.
fn place(pin: &Path) -> PathBuf {
    let existing = pin.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let below = pin.strip_prefix(existing).unwrap_or(Path::new(""));
    if existing == pin || (!on_bpffs(existing) && !existing.starts_with(BPFFS)) {
        return pin.to_owned();
    }
    let encoded = below.components().map(|part| encoded(&part.as_os_str().to_string_lossy()));
    existing.join(encoded.collect::<PathBuf>())
}

fn encoded(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2e")
}

fn decoded(name: &str) -> String {
    name.replace("%2e", ".").replace("%25", "%")
}

/// The maps that a daemon pinned, for whoever reads them beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedMaps {
    directory: PathBuf,
    half: u32,
}

impl PinnedMaps {
    /// The maps pinned under `[xdp] pin`, whatever capacity they were made for; `None`: there are none.
    ///
    /// # Errors
    /// Their layout is another version's.
    pub fn find(pin: &Path) -> Result<Option<Self>, Error> {
        let pin = &place(pin);
        let mut all: Vec<PathBuf> = entries(pin).filter(|path| starts_with(path, MAPS)).collect();
        all.sort();
        let ours = format!("{MAPS}v{LAYOUT}-");
        let half = |path: &Path| path.file_name()?.to_str()?.strip_prefix(&ours)?.parse().ok();
        let mut found =
            all.iter().filter_map(|path| Some(PinnedMaps { half: half(path)?, directory: path.clone() }));
        match (found.next(), all.first()) {
            (None, Some(other)) => Err(Error::new(format!(
                "{} is of another version of dns-xdp: use the one that runs, or let this one take over with \
                 dns-xdp run --replace",
                other.display()
            ))),
            (found, _) => Ok(found),
        }
    }

    /// Their directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the daemon's program is pinned.
    pub(super) fn program(&self) -> Option<PathBuf> {
        Some(self.directory.parent()?.join(PROGRAM))
    }

    /// Slots in a half of the table.
    pub(super) fn half(&self) -> u32 {
        self.half
    }

    /// Where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn make(directory: &Path) -> Result<(), Error> {
    let existing = directory.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    if !on_bpffs(existing) && directory.starts_with(BPFFS) {
        tracing::info!("mounting the BPF filesystem on {BPFFS}");
        let none: Option<&str> = None;
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none).map_err(|errno| {
            Error::new(format!("cannot mount the BPF filesystem: as root, mount -t bpf bpf {BPFFS}"))
                .because(errno.into())
        })?;
    }
    let cannot = || {
        let what = directory.display();
        Error::new(format!(
            "cannot make the pin directory {what}: it has to be the daemon's own, on the way to which it may pass through"
        ))
    };
    fs::create_dir_all(directory).map_err(|error| cannot().because(error))?;
    if on_bpffs(directory) {
        return Ok(());
    }
    fs::remove_dir(directory).map_err(|error| cannot().because(error))?;
    Err(Error::new(format!(
        "[xdp] pin = \"{}\" is not on a BPF filesystem: mount -t bpf bpf {BPFFS}, or choose a place on one",
        directory.display()
    )))
}

/// Two daemons over the same maps would undo each other's zones. A predecessor that ends may take the directory with
/// it, so what was locked has to be what is there.
fn make_and_lock(directory: &Path) -> Result<Flock<File>, Error> {
    let what = directory.display();
    let mut waited = Duration::ZERO;
    loop {
        make(directory)?;
        let file = File::open(directory)
            .map_err(|error| Error::new(format!("cannot open {what}")).because(error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) if is(&lock, directory) => return Ok(lock),
            Err(_) if waited >= GIVING_WAY => {
                return Err(Error::new(format!(
                    "another dns-xdp holds the pins in {what}: stop it, or give one of them another [xdp] pin"
                )));
            }
            _ => {
                sleep(GIVING_WAY_POLL);
                waited += GIVING_WAY_POLL;
            }
        }
    }
}

fn is(file: &File, path: &Path) -> bool {
    let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|metadata| metadata.ino()).ok();
    inode(file.metadata()) == inode(fs::metadata(path))
}

/// Detaches and unpins everything in a pin directory; says what that was.
///
/// # Errors
/// It is on no BPF filesystem, so that whatever is in it is not ours; or a link cannot be unpinned. What can be removed
/// is removed all the same.
pub(super) fn remove_all(pin: &Path) -> io::Result<Vec<String>> {
    let directory = &place(pin);
    if directory.exists() && !on_bpffs(directory) {
        return Err(io::Error::other(
            "it is on no BPF filesystem, and nothing in it is ours: correct [xdp] pin",
        ));
    }
    let mut removed = Vec::new();
    for path in entries(directory).collect::<Vec<_>>() {
        if starts_with(&path, LINK) {
            // Whoever holds the last reference detaches; another process may hold one for a moment yet.
            if let Ok(link) = PinnedLink::from_pin(&path) {
                drop(link.unpin()?);
            } else {
                fs::remove_file(&path)?;
            }
        } else {
            remove(&path);
        }
        removed.push(path.display().to_string());
    }
    match fs::remove_dir(directory) {
        Err(error) if !may_stay(&error) => Err(error),
        _ => Ok(removed),
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

fn starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
}

/// Removes a file or a directory with all that is in it; what cannot be removed is told.
pub(super) fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// Removes a pin directory that holds nothing attached.
pub(super) fn remove_directory(directory: &Path) {
    entries(directory).for_each(|path| remove(&path));
    if let Err(error) = fs::remove_dir(directory)
        && !may_stay(&error)
    {
        tracing::warn!("cannot remove {}: {error}", directory.display());
    }
}

/// An empty directory is as good as none, where what it is in is another user's: then somebody has made it for the daemon.
fn may_stay(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
}

fn on_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|filesystem| filesystem.filesystem_type() == BPF_FS_MAGIC)
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
    fn pinned_maps_are_found_by_their_version_whatever_their_size() {
        let pin = tempfile::tempdir().unwrap();
        assert_eq!(PinnedMaps::find(pin.path()).unwrap(), None);
        assert_eq!(PinnedMaps::find(&pin.path().join("missing")).unwrap(), None);
        fs::create_dir(pin.path().join(format!("maps-v{}-9", LAYOUT + 1))).unwrap();
        let message = PinnedMaps::find(pin.path()).unwrap_err().to_string();
        assert!(message.contains("another version"), "{message}");
        fs::create_dir(pin.path().join(format!("maps-v{LAYOUT}-36"))).unwrap();
        let found = PinnedMaps::find(pin.path()).unwrap().unwrap();
        assert_eq!((found.half(), found.map("ZONE")), (36, found.directory().join("ZONE")));
    }
}
