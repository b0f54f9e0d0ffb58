//! A filesystem for one run, which can be frozen as a machine's snapshot does: writes to it then wait.
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, umount2};

use crate::bed::process;

/// The size of the filesystem: enough for the files of a daemon, and for ext4.
const SIZE: u64 = 16 << 20;

/// An ext4 filesystem in a file, mounted below a run's directory. A drop thaws and unmounts the filesystem.
#[derive(Debug)]
pub struct Filesystem {
    mount: PathBuf,
}

impl Filesystem {
    /// Makes a filesystem and mounts it at `name` in `directory`.
    ///
    /// # Errors
    /// The machine has no loop device or no ext4.
    pub fn mount(directory: &Path, name: &str) -> Result<Self> {
        let (image, mount) = (directory.join(format!("{name}.img")), directory.join(name));
        let file = File::create(&image).with_context(|| format!("cannot write {}", image.display()))?;
        file.set_len(SIZE)?;
        fs::create_dir(&mount).with_context(|| format!("cannot make {}", mount.display()))?;
        process::succeed(Command::new("mkfs.ext4").arg("-q").arg(&image), "")?;
        process::succeed(Command::new("mount").args(["-o", "loop"]).args([&image, &mount]), "")?;
        Ok(Filesystem { mount })
    }

    /// The directory where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Freezes the filesystem: every write to it waits.
    ///
    /// # Errors
    /// The filesystem is frozen already.
    pub fn freeze(&self) -> Result<()> {
        process::succeed(Command::new("fsfreeze").arg("--freeze").arg(&self.mount), "")?;
        Ok(())
    }

    /// Thaws the filesystem: waiting writes continue.
    ///
    /// # Errors
    /// The filesystem is not frozen.
    pub fn thaw(&self) -> Result<()> {
        process::succeed(Command::new("fsfreeze").arg("--unfreeze").arg(&self.mount), "")?;
        Ok(())
    }
}

impl Drop for Filesystem {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.mount) {
            eprintln!("{}: {error:#}", self.mount.display());
        }
    }
}

/// Thaws and unmounts every filesystem below a directory. A frozen filesystem would block the removal for ever.
///
/// # Errors
/// A filesystem cannot be unmounted.
pub fn unmount_below(directory: &Path) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    mounts_below(&mounts, directory).iter().rev().try_for_each(|mount| unmount(mount))
}

/// Returns the mount points below a directory: the second word of each line.
fn mounts_below(mounts: &str, directory: &Path) -> Vec<PathBuf> {
    let mounts = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    mounts.filter(|mount| mount.starts_with(directory)).collect()
}

fn unmount(mount: &Path) -> Result<()> {
    // The filesystem need not be frozen.
    process::output(Command::new("fsfreeze").arg("--unfreeze").arg(mount), "")?;
    // The unmount succeeds even if a process has an open file there.
    umount2(mount, MntFlags::MNT_DETACH).with_context(|| format!("cannot unmount {}", mount.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_a_directory_is_unmounted() {
        let mounts = "proc /proc proc rw 0 0\n\
                      /dev/loop0 /run/dns-xdp-41-0/disk ext4 rw 0 0\n\
                      /dev/loop1 /run/dns-xdp-41-01/disk ext4 rw 0 0\n";
        let below = mounts_below(mounts, Path::new("/run/dns-xdp-41-0"));
        assert_eq!(below, [Path::new("/run/dns-xdp-41-0/disk")]);
    }
}
