//! The watch on the configuration file, which checks the file periodically if `[control] watch` is set.
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::privileges;

/// The time between two looks. A change counts after 2 looks have seen it.
const LOOK: Duration = Duration::from_secs(1);

/// Reports every change of a file. Polling also works where the kernel sends no notification: after a rename, through a
/// symbolic link, on a network filesystem. It has its own thread, because a hanging filesystem must not delay the
/// lease.
#[derive(Debug)]
pub(super) struct FileWatch {
    changes: mpsc::Receiver<io::Result<String>>,
}

impl FileWatch {
    /// Starts the watch. The first text is always reported, because the watch does not know an earlier text.
    pub(super) fn start(path: &Path) -> io::Result<Self> {
        let (sender, changes) = mpsc::channel(1);
        let path = path.to_owned();
        let thread = thread::Builder::new().name("file-watch".to_owned());
        // The thread ends by itself when its receiver is dropped, or with the process.
        drop(thread.spawn(move || {
            privileges::drop_thread_privileges();
            watch(&path, &sender, LOOK);
        })?);
        Ok(FileWatch { changes })
    }

    /// The next settled text of the file, or why it cannot be read; `None`: the thread has ended, which only a defect
    /// does. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<io::Result<String>> {
        self.changes.recv().await
    }
}

fn watch(path: &PathBuf, changes: &mpsc::Sender<io::Result<String>>, pause: Duration) {
    let mut settling = Settling::default();
    while !changes.is_closed() {
        let identity = fs::metadata(path).map(|metadata| Identity::of(&metadata)).ok();
        if settling.look(identity) && changes.blocking_send(fs::read_to_string(path)).is_err() {
            return;
        }
        thread::sleep(pause);
    }
}

/// The metadata that changes when a file changes. A file that cannot be looked at has none. A new text may have equal
/// size and an old time of modification (`cp -p`, `rsync -t`, `touch -r`). Then the inode or the time of the last
/// change differs. No program can set these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    fn of(metadata: &fs::Metadata) -> Self {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Waits until the writer of the file has finished.
#[derive(Debug, Default)]
struct Settling {
    last: Option<Option<Identity>>,
    told: Option<Option<Identity>>,
}

impl Settling {
    /// Returns whether the file has changed and then settled.
    fn look(&mut self, identity: Option<Identity>) -> bool {
        let rests = self.last.replace(identity) == Some(identity);
        if !rests || self.told == Some(identity) {
            return false;
        }
        self.told = Some(identity);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(modified: i64) -> Option<Identity> {
        Some(Identity { device: 1, inode: 2, size: 3, modified: (modified, 0), changed: (modified, 0) })
    }

    #[test]
    fn a_change_is_told_once_and_only_when_it_rests() {
        let mut settling = Settling::default();
        let looks = [1, 1, 1, 2, 3, 4, 4, 4].map(|modified| settling.look(identity(modified)));
        assert_eq!(looks, [false, true, false, false, false, false, true, false]);
    }

    #[test]
    fn a_file_that_flickers_is_no_change_and_one_that_stays_away_is() {
        let mut settling = Settling::default();
        let looks = [
            identity(1),
            identity(1),
            None,
            identity(1),
            identity(1),
            None,
            None,
            None,
            identity(1),
            identity(1),
        ];
        let told = looks.map(|identity| settling.look(identity));
        assert_eq!(told, [false, true, false, false, false, false, true, false, false, true]);
    }

    #[test]
    fn a_file_is_told_apart_from_its_successor_behind_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let [file, other, link] = ["f", "g", "link"].map(|name| directory.path().join(name));
        fs::write(&file, "one").unwrap();
        fs::write(&other, "two").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let identity = || Identity::of(&fs::metadata(&link).unwrap());
        let before = identity();
        assert_eq!(identity(), before);
        fs::rename(&other, &file).unwrap();
        assert_ne!(identity(), before);
    }

    #[test]
    fn another_text_of_equal_size_and_time_is_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let [path, next] = ["f", "next"].map(|name| directory.path().join(name));
        let identity = || Identity::of(&fs::metadata(&path).unwrap());
        fs::write(&path, "one").unwrap();
        let before = identity();
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let put_back =
            |path: &Path| fs::File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
        // The kernel's clock for file times may stand still for some milliseconds.
        thread::sleep(Duration::from_millis(50));
        fs::write(&path, "two").unwrap();
        put_back(&path);
        let written = identity();
        assert_eq!((written.size, written.modified), (before.size, before.modified));
        assert_ne!(written, before, "written in place");
        fs::write(&next, "six").unwrap();
        put_back(&next);
        fs::rename(&next, &path).unwrap();
        let replaced = identity();
        assert_eq!((replaced.size, replaced.modified), (before.size, before.modified));
        assert_ne!(replaced, written, "replaced");
    }

    #[test]
    fn the_text_of_a_changed_file_is_passed_on_until_the_receiver_is_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, "one").unwrap();
        let (sender, mut changes) = mpsc::channel(1);
        let watched = path.clone();
        let thread = thread::spawn(move || watch(&watched, &sender, Duration::from_millis(5)));
        assert_eq!(changes.blocking_recv().unwrap().unwrap(), "one");
        let new = directory.path().join("new");
        fs::write(&new, "three").unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!(changes.blocking_recv().unwrap().unwrap(), "three");
        fs::remove_file(&path).unwrap();
        assert_eq!(changes.blocking_recv().unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(changes);
        thread.join().unwrap();
    }
}
