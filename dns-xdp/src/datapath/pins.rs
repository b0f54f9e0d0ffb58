//! The pins: the pinned objects, and their names.
//!
//! ```text
//!  /sys/fs/bpf/dns-xdp/program          the program
//!                      link-eth0        its link to an interface, which keeps it attached
//!                      maps-v8-5120/    its maps: version of their layout, and slots in a bank of the table;
//!                                       head-0 and head-1 are the zones that were published last
//! ```
//!
//! The rules for the names and the directory are in [`crate::pin_directory`].
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

use super::Error;
use super::maps::ZoneHeaders;
use crate::pin_directory::{
    self, BPFFS, LINK, MAPS, PROGRAM, RemoveError, Unfit, decoded, encoded, entries, existing, file_name,
    is_link, is_maps, on_bpffs, remove_own,
};

/// The longest time until a predecessor that gives way has ended.
const GIVING_WAY: Duration = Duration::from_secs(5);
const GIVING_WAY_POLL: Duration = Duration::from_millis(20);
/// What to do if another daemon has the directory: for a daemon that starts, and for `unload`.
const TAKE_ANOTHER: &str = "stop it, or give one of them another [xdp] pin";
const NAME_ITS_SOCKET: &str = "name its control socket with --socket, or stop it";

/// The pin directory of one daemon. It is locked while this value lives.
#[derive(Debug, Clone)]
pub(super) struct Pins {
    directory: PathBuf,
    bank_slots: u32,
    lock: Arc<Flock<File>>,
}

impl Pins {
    /// Makes and locks the directory. Mounts the BPF filesystem at its usual place if it is not mounted.
    ///
    /// # Errors
    /// The directory cannot be the daemon's own, another daemon has it, or it cannot be made.
    pub(super) fn create(pin: &Path, bank_slots: u32) -> Result<Self, Error> {
        pin_directory::fit(pin).map_err(|unfit| refused(&unfit))?;
        let directory = pin_directory::directory(pin);
        let lock = Arc::new(make_and_lock(&directory, GIVING_WAY)?);
        Ok(Pins { directory, bank_slots, lock })
    }

    /// Returns the slots in a bank of the table.
    pub(super) fn bank_slots(&self) -> u32 {
        self.bank_slots
    }

    /// Returns the same directory, for a table of another size.
    pub(super) fn with_bank_slots(&self, bank_slots: u32) -> Self {
        Pins { bank_slots, ..self.clone() }
    }

    /// Returns the same directory for the pinned table, if a bank of that table has at least this many slots.
    pub(super) fn of_at_least(self, bank_slots: u32) -> Self {
        match PinnedMaps::find(&self.directory) {
            Ok(Some(pinned)) if pinned.bank_slots > bank_slots => self.with_bank_slots(pinned.bank_slots),
            _ => self,
        }
    }

    /// Returns why the next start would be refused: another program has put entries beside the daemon's.
    pub(super) fn foreign(&self) -> Option<Unfit> {
        let foreign = pin_directory::foreign_entries(&self.directory);
        let (pin, first) = (self.directory.clone(), foreign.first()?.clone());
        Some(Unfit::Foreign { pin, first, more: foreign.len() - 1 })
    }

    /// Returns the directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the directory that was made is still there, with these maps.
    pub(super) fn has_maps(&self, names: &[&str]) -> bool {
        self.is_there() && names.iter().all(|name| self.map(name).exists())
    }

    /// Makes the directory again if another process has removed it. Does not wait for another daemon, unlike
    /// [`Pins::create`].
    pub(super) fn made_anew(&self) -> Result<Self, Error> {
        if self.is_there() {
            return Ok(self.clone());
        }
        let lock = Arc::new(make_and_lock(&self.directory, Duration::ZERO)?);
        Ok(Pins { lock, ..self.clone() })
    }

    /// Whether the directory that was made is still there.
    fn is_there(&self) -> bool {
        is(&self.lock, &self.directory)
    }

    /// Makes the directory of the maps; `true` if it was there.
    pub(super) fn adopt_maps(&self) -> Result<bool, Error> {
        let maps = self.maps();
        match fs::create_dir(&maps) {
            Ok(()) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(true),
            Err(error) => Err(Error::new(format!("cannot make {}", maps.display())).because(error)),
        }
    }

    /// Returns where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Returns where the heads of the table's banks are pinned, beside the maps.
    pub(super) fn heads(&self) -> ZoneHeaders {
        ZoneHeaders { zone: self.map(ZONE), banks: ["head-0", "head-1"].map(|head| self.map(head)) }
    }

    /// Removes the maps of this layout.
    pub(super) fn remove_maps(&self) {
        remove(&self.maps());
    }

    /// Removes the daemon's own entries, and the directory if it is empty then. The daemon holds the lock meanwhile.
    /// Does not touch a directory that has replaced the daemon's.
    ///
    /// # Errors
    /// The error names the entries that could not be removed. All other entries are removed.
    pub(super) fn remove_all(&self) -> Result<(), Error> {
        if self.is_there() { empty(&self.directory).map(drop) } else { Ok(()) }
    }

    /// Like [`Pins::remove_all`], for a start that failed. Logs entries that it cannot remove.
    pub(super) fn abandon(&self) {
        if let Err(error) = self.remove_all() {
            tracing::warn!("{error}");
        }
    }

    /// Removes the maps of other layouts, which no attached program uses any more.
    pub(super) fn remove_other_maps(&self) {
        let ours = self.maps();
        for path in named(&self.directory, is_maps).iter().filter(|path| **path != ours) {
            remove(path);
        }
    }

    /// Returns where the program is pinned.
    pub(super) fn program(&self) -> PathBuf {
        self.directory.join(PROGRAM)
    }

    /// Returns where an interface's link is pinned.
    pub(super) fn link(&self, interface: &str) -> PathBuf {
        self.directory.join(format!("{LINK}{}", encoded(interface)))
    }

    /// Returns the interfaces with a pinned link.
    pub(super) fn linked(&self) -> Vec<String> {
        let links = named(&self.directory, is_link);
        links.iter().filter_map(|path| Some(decoded(file_name(path)?.strip_prefix(LINK)?))).collect()
    }

    fn maps(&self) -> PathBuf {
        self.directory.join(format!("{MAPS}{LAYOUT}-{}", self.bank_slots))
    }
}

/// Returns where a daemon with this `[xdp] pin` pins its program.
pub(super) fn program(pin: &Path) -> PathBuf {
    pin_directory::directory(pin).join(PROGRAM)
}

/// Returns where a daemon with this `[xdp] pin` pins an interface's link.
pub(super) fn link(pin: &Path, interface: &str) -> PathBuf {
    pin_directory::directory(pin).join(format!("{LINK}{}", encoded(interface)))
}

/// The maps that a daemon has pinned, for another process to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinnedMaps {
    directory: PathBuf,
    bank_slots: u32,
}

impl PinnedMaps {
    /// Returns the maps pinned under `[xdp] pin`, whatever their capacity; `None`: there are none.
    ///
    /// # Errors
    /// The maps have the layout of another version.
    pub fn find(pin: &Path) -> Result<Option<Self>, Error> {
        let all = named(&pin_directory::directory(pin), is_maps);
        let ours = format!("{MAPS}{LAYOUT}-");
        let bank_slots = |path: &Path| path.file_name()?.to_str()?.strip_prefix(&ours)?.parse().ok();
        let mut found = all
            .iter()
            .filter_map(|path| Some(PinnedMaps { bank_slots: bank_slots(path)?, directory: path.clone() }));
        match (found.next(), all.first()) {
            (None, Some(other)) => Err(Error::new(format!(
                "{} is of another version of dns-xdp: use the one that runs, or let this one take over with \
                 dns-xdp run --replace",
                other.display()
            ))),
            (found, _) => Ok(found),
        }
    }

    /// Returns the directory of the maps.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Returns where the daemon's program is pinned.
    pub(super) fn program(&self) -> Option<PathBuf> {
        Some(self.directory.parent()?.join(PROGRAM))
    }

    /// Returns the slots in a bank of the table.
    pub(super) fn bank_slots(&self) -> u32 {
        self.bank_slots
    }

    /// Returns where a map is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn refused(unfit: &Unfit) -> Error {
    Error::new(format!("[xdp] pin {unfit}"))
}

/// Returns the entries of a directory whose names are of one kind, in order; none if it cannot be read.
fn named(directory: &Path, is: fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = entries(directory).unwrap_or_default().into_iter();
    let mut named: Vec<PathBuf> = entries.filter(|path| file_name(path).is_some_and(is)).collect();
    named.sort();
    named
}

/// Makes the directory, but only on a BPF filesystem.
fn make(directory: &Path) -> Result<(), Error> {
    if pin_directory::is_to_be_mounted(directory) {
        tracing::info!("mounting the BPF filesystem on {BPFFS}");
        let none: Option<&str> = None;
        mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), none).map_err(|errno| {
            Error::new(format!("cannot mount the BPF filesystem: as root, mount -t bpf bpf {BPFFS}"))
                .because(errno.into())
        })?;
    }
    if !on_bpffs(existing(directory)) {
        return Err(refused(&Unfit::NotBpf(directory.to_owned())));
    }
    fs::create_dir_all(directory).map_err(|error| {
        let what = directory.display();
        Error::new(format!(
            "cannot make the pin directory {what}: the daemon needs a directory of its own, and may have to pass through all directories above"
        ))
        .because(error)
    })
}

/// Makes and locks the directory, because two daemons over the same maps would overwrite each other's zones. A
/// predecessor that ends may remove the directory, so the locked directory has to be the present one. Waits up to
/// `patience` for that predecessor.
fn make_and_lock(directory: &Path, patience: Duration) -> Result<Flock<File>, Error> {
    let mut waited = Duration::ZERO;
    loop {
        make(directory)?;
        if let Some(lock) = try_lock(directory)? {
            return Ok(lock);
        }
        wait(directory, &mut waited, patience, TAKE_ANOTHER)?;
    }
}

/// Locks an existing directory; `None`: there is none, or it has gone.
fn lock_existing(directory: &Path, remedy: &str) -> Result<Option<Flock<File>>, Error> {
    let mut waited = Duration::ZERO;
    while is_there(directory)? {
        if let Some(lock) = try_lock(directory)? {
            return Ok(Some(lock));
        }
        wait(directory, &mut waited, GIVING_WAY, remedy)?;
    }
    Ok(None)
}

/// Whether the directory exists. A directory that this process may not look at is an error, and does not count as
/// missing.
fn is_there(directory: &Path) -> Result<bool, Error> {
    let unseen = |error| {
        Error::new(format!("cannot look at {}: run this as root", directory.display())).because(error)
    };
    directory.try_exists().map_err(unseen)
}

/// Tries to lock the directory; `None`: another process has locked or removed it.
fn try_lock(directory: &Path) -> Result<Option<Flock<File>>, Error> {
    let file = match File::open(directory) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::new(format!("cannot open {}", directory.display())).because(error)),
    };
    let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).ok();
    Ok(lock.filter(|lock| is(lock, directory)))
}

/// Waits a moment for a predecessor that gives way.
fn wait(directory: &Path, waited: &mut Duration, patience: Duration, remedy: &str) -> Result<(), Error> {
    if *waited >= patience {
        return Err(Error::new(format!(
            "another dns-xdp holds the pins in {}: {remedy}",
            directory.display()
        )));
    }
    sleep(GIVING_WAY_POLL);
    *waited += GIVING_WAY_POLL;
    Ok(())
}

fn is(file: &File, path: &Path) -> bool {
    let inode = |metadata: io::Result<fs::Metadata>| metadata.map(|metadata| metadata.ino()).ok();
    inode(file.metadata()) == inode(fs::metadata(path))
}

/// The result of `unload` in a pin directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// The daemon's entries, which were removed.
    pub removed: Vec<PathBuf>,
    /// Entries of other programs, which were left.
    pub foreign: Vec<PathBuf>,
}

/// Detaches and unpins the daemon's own entries in the directory that `[xdp] pin` names, under its lock.
///
/// # Errors
/// A daemon cannot use the directory, another daemon has it, or an entry cannot be removed. In the last case all other
/// entries are removed.
pub(super) fn remove_all(pin: &Path) -> Result<Removal, Error> {
    remove_pins(pin, NAME_ITS_SOCKET)
}

/// Removes the daemon's entries. `remedy` says what to do about another daemon.
fn remove_pins(pin: &Path, remedy: &str) -> Result<Removal, Error> {
    pin_directory::removable(pin).map_err(|unfit| refused(&unfit))?;
    let directory = &pin_directory::directory(pin);
    if is_there(directory)? && !on_bpffs(directory) {
        return Err(refused(&Unfit::NotBpf(pin.to_owned())));
    }
    match lock_existing(directory, remedy)? {
        // The lock is held to the end, so that no daemon pins there meanwhile.
        Some(_lock) => empty(directory),
        None => Ok(Removal::default()),
    }
}

/// Like [`remove_all`], for a start without XDP. Ignores a directory that no daemon may use, or that this process may
/// not read.
///
/// # Errors
/// Another daemon has the directory, or an entry cannot be removed.
pub(super) fn remove_left(pin: &Path) -> Result<Removal, Error> {
    let directory = pin_directory::directory(pin);
    let is_ours = pin_directory::removable(pin).is_ok() && on_bpffs(&directory);
    if is_ours { remove_pins(pin, TAKE_ANOTHER) } else { Ok(Removal::default()) }
}

/// Removes the daemon's own entries in a locked directory, and the directory if it is empty then.
fn empty(directory: &Path) -> Result<Removal, Error> {
    let unread = |error| Error::new(format!("cannot read {}", directory.display())).because(error);
    let all = entries(directory).map_err(unread)?.into_iter();
    let (mut own, mut foreign): (Vec<PathBuf>, Vec<PathBuf>) =
        all.partition(|path| file_name(path).is_some_and(pin_directory::is_own));
    own.sort();
    foreign.sort();
    let (mut removed, mut failed) = (Vec::new(), Vec::new());
    for path in own {
        match unpin(&path) {
            Ok(()) => removed.push(path),
            Err(error) => failed.push(format!("{}: {error}", path.display())),
        }
    }
    if failed.is_empty()
        && foreign.is_empty()
        && let Err(error) = fs::remove_dir(directory)
        && !may_stay(&error)
    {
        failed.push(format!("{}: {error}", directory.display()));
    }
    if failed.is_empty() {
        return Ok(Removal { removed, foreign });
    }
    Err(Error::new(format!("cannot remove {}; everything else of dns-xdp is removed", failed.join(", "))))
}

/// Removes one of the daemon's entries. The program of a link is detached at once, unless another process still holds
/// the link.
fn unpin(path: &Path) -> Result<(), RemoveError> {
    let is_link = file_name(path).is_some_and(is_link);
    let link = is_link.then(|| PinnedLink::from_pin(path).ok()).flatten();
    remove_own(path)?;
    drop(link);
    Ok(())
}

/// Removes one of the daemon's entries. Logs a failure.
pub(super) fn remove(path: &Path) {
    if let Err(error) = remove_own(path) {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// Removes the pin of a map. Logs a failure.
pub(super) fn remove_map(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {}: {error}", path.display());
    }
}

/// Whether an empty directory may stay. An operator may have made it for the daemon in another user's directory, or at
/// the target of a symbolic link. A directory with a new entry stays too.
fn may_stay(error: &io::Error) -> bool {
    use io::ErrorKind::{DirectoryNotEmpty, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | PermissionDenied | NotADirectory | DirectoryNotEmpty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_maps_are_found_by_their_version_whatever_their_size() {
        let pin = tempfile::tempdir().unwrap();
        assert_eq!(PinnedMaps::find(pin.path()).unwrap(), None);
        assert_eq!(PinnedMaps::find(&pin.path().join("missing")).unwrap(), None);
        fs::create_dir(pin.path().join("maps-vpn")).unwrap();
        assert_eq!(PinnedMaps::find(pin.path()).unwrap(), None);
        fs::create_dir(pin.path().join(format!("maps-v{}-9", LAYOUT + 1))).unwrap();
        let message = PinnedMaps::find(pin.path()).unwrap_err().to_string();
        assert!(message.contains("another version"), "{message}");
        fs::create_dir(pin.path().join(format!("maps-v{LAYOUT}-36"))).unwrap();
        let found = PinnedMaps::find(pin.path()).unwrap().unwrap();
        assert_eq!((found.bank_slots(), found.map("ZONE")), (36, found.directory().join("ZONE")));
    }

    #[test]
    fn nothing_is_made_or_removed_where_no_bpf_filesystem_is() {
        let directory = tempfile::tempdir().unwrap();
        let empty = directory.path().join("spool");
        fs::create_dir(&empty).unwrap();
        for pin in [&empty, &directory.path().join("a/b")] {
            let message = make(pin).unwrap_err().to_string();
            assert!(message.contains("not on a BPF filesystem"), "{message}");
        }
        let left: Vec<PathBuf> = entries(directory.path()).unwrap();
        assert_eq!(left, [empty]);
    }

    #[test]
    fn own_entries_are_removed_beside_those_of_others_which_are_named() {
        let directory = tempfile::tempdir().unwrap();
        for entry in ["program", "link-eth0", "maps-v5-20", "maps-vpn", "tc"] {
            fs::create_dir(directory.path().join(entry)).unwrap();
        }
        let names = |paths: &[PathBuf]| -> Vec<String> {
            paths.iter().filter_map(|path| file_name(path).map(str::to_owned)).collect()
        };
        let Removal { removed, foreign } = empty(directory.path()).unwrap();
        assert_eq!(names(&removed), ["link-eth0", "maps-v5-20", "program"]);
        assert_eq!(names(&foreign), ["maps-vpn", "tc"]);
        assert!(foreign.iter().all(|path| path.exists()));
    }

    #[test]
    fn a_directory_behind_a_symbolic_link_is_emptied_and_stays() {
        let around = tempfile::tempdir().unwrap();
        let (there, link) = (around.path().join("there"), around.path().join("link"));
        fs::create_dir_all(there.join("program")).unwrap();
        std::os::unix::fs::symlink(&there, &link).unwrap();
        assert_eq!(empty(&link).unwrap().removed, [link.join("program")]);
        assert!(there.exists() && entries(&there).unwrap().is_empty());
    }

    #[test]
    fn a_directory_that_cannot_be_looked_at_is_not_taken_for_a_missing_one() {
        let around = tempfile::tempdir().unwrap();
        let file = around.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(!is_there(&around.path().join("missing")).unwrap());
        // ENOTDIR stands for EACCES here, because these tests may run as root.
        let message = is_there(&file.join("dns-xdp")).unwrap_err().to_string();
        assert!(message.contains("run this as root"), "{message}");
        empty(&file).unwrap_err();
        assert!(lock_existing(&file.join("dns-xdp"), TAKE_ANOTHER).is_err());
    }

    #[test]
    fn a_directory_that_another_daemon_has_comes_with_the_remedy_of_whoever_asks() {
        let directory = tempfile::tempdir().unwrap();
        let remedy = |remedy| {
            let mut waited = Duration::ZERO;
            wait(directory.path(), &mut waited, Duration::ZERO, remedy).unwrap_err().to_string()
        };
        assert!(remedy(TAKE_ANOTHER).contains("another [xdp] pin"));
        assert!(remedy(NAME_ITS_SOCKET).contains("--socket"));
    }
}
