//! The initramfs: busybox for the start, the programs under test with their libraries, the modules in load order.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::modules::Module;
use crate::cargo::command;

/// The program that starts the machine: the kernel runs it as process 1.
const INIT: &str = include_str!("init.sh");
/// The programs of the workspace.
const BINARIES: [&str; 3] = ["dns-xdp", "guest", "database"];
/// The programs of this machine.
const TOOLS: [&str; 4] = ["busybox", "ip", "nsenter", "ethtool"];
/// The guest's directory of programs.
const BIN: &str = "/bin";

/// The modules that the guest's checks load.
///
/// # Errors
/// The guest cannot be run.
pub(crate) fn modules(binaries: &Path) -> Result<Vec<String>> {
    let output =
        command(text(&binaries.join("guest"))?).arg("modules").output().context("cannot run the guest")?;
    ensure!(output.status.success(), "the guest does not say which modules it needs");
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Returns the files that are the same for every kernel.
///
/// # Errors
/// A program or a library cannot be read.
pub(crate) fn userland(binaries: &Path) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "run", "tmp", "etc", "root"] {
        archive.directory(Path::new(directory))?;
    }
    archive.file(Path::new("init"), INIT.as_bytes())?;
    let mut programs: Vec<PathBuf> = BINARIES.iter().map(|name| binaries.join(name)).collect();
    for tool in TOOLS {
        programs.push(on_path(tool)?);
    }
    let mut libraries = BTreeSet::new();
    for program in programs {
        let name = program.file_name().with_context(|| format!("{} is no program", program.display()))?;
        archive.file(&Path::new(BIN).join(name), &stripped(&program)?)?;
        libraries.extend(libraries_of(&program)?);
    }
    for library in libraries {
        archive.file(&library, &read(&library)?)?;
    }
    Ok(archive.finish()?)
}

/// Writes an initramfs with these modules: the kernel unpacks two consecutive archives.
///
/// # Errors
/// The initramfs cannot be written.
pub(crate) fn write(path: &Path, userland: &[u8], modules: &[Module]) -> Result<()> {
    let mut archive = Archive::default();
    let mut order = String::new();
    for module in modules {
        writeln!(order, "{}", module.name)?;
        archive.file(&Path::new("modules").join(&module.name), &module.bytes)?;
    }
    archive.file(Path::new("modules/order"), order.as_bytes())?;
    let mut file = File::create(path)?;
    file.write_all(userland)?;
    Ok(file.write_all(&archive.finish()?)?)
}

/// Returns the program without its debug information.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let file = tempfile(program)?;
    let output = command("strip").arg("--strip-debug").arg("-o").arg(&file).arg(program).output();
    output.context("cannot start strip, which the C compiler comes with")?;
    // A file that is no object for `strip`, such as a script, is taken unchanged.
    let bytes = if file.exists() { read(&file)? } else { read(program)? };
    fs::remove_file(&file).ok();
    Ok(bytes)
}

fn tempfile(program: &Path) -> Result<PathBuf> {
    let directory = crate::cargo::root().join(super::DIRECTORY);
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory.join(format!("{}.stripped", program.file_name().unwrap_or_default().display())))
}

/// The libraries of a program by their paths; none for a statically linked one.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = command("ldd").arg(program).output().context("cannot start ldd")?;
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`; the loader has no name in front.
    let text = String::from_utf8_lossy(&output.stdout);
    let paths = text.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':'));
    Ok(paths.map(PathBuf::from).collect())
}

fn on_path(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    let found = directories.map(|directory| directory.join(program)).find(|path| path.is_file());
    found.with_context(|| format!("{program} is not installed"))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the target directory's name is not UTF-8")
}

/// An archive in the format of `cpio -H newc`, as in Linux's
/// `Documentation/driver-api/early-userspace/buffer-format.rst`.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    directories: BTreeSet<PathBuf>,
}

impl Archive {
    /// A directory and those above it, each once.
    fn directory(&mut self, path: &Path) -> io::Result<()> {
        if let Some(parent) = path.parent().filter(|parent| !is_root(parent)) {
            self.directory(parent)?;
        }
        if !is_root(path) && self.directories.insert(path.to_owned()) {
            self.entry(path, 0o040_755, &[])?;
        }
        Ok(())
    }

    /// A file that every user may execute.
    fn file(&mut self, path: &Path, content: &[u8]) -> io::Result<()> {
        let path = path.strip_prefix("/").unwrap_or(path);
        if let Some(parent) = path.parent() {
            self.directory(parent)?;
        }
        self.entry(path, 0o100_755, content)
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        self.entry(Path::new("TRAILER!!!"), 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) -> io::Result<()> {
        self.inode += 1;
        let name = path.as_os_str().as_encoded_bytes();
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        // Inode, mode, user, group, links, time, size, two devices of two numbers, octets of the name, checksum.
        let fields = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08x}")?;
        }
        self.bytes.extend(name);
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty() || path == Path::new("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_begins_at_a_multiple_of_four_octets() {
        let mut archive = Archive::default();
        archive.file(Path::new("/lib/a"), b"12345").unwrap();
        archive.file(Path::new("/lib/b"), b"").unwrap();
        let bytes = archive.finish().unwrap();
        let starts: Vec<usize> = bytes
            .windows(6)
            .enumerate()
            .filter(|(_, six)| six == b"070701")
            .map(|(start, _)| start)
            .collect();
        // lib once, a, b, and the end.
        assert_eq!(starts.len(), 4);
        assert!(starts.iter().all(|start| start % 4 == 0), "{starts:?}");
    }
}
