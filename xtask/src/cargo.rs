//! Runs cargo and built programs from the workspace's root.
use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a member of the workspace")
}

/// Builds everything that the tests use. Without `--tests` some crates have fewer features, so a command that names
/// single binaries builds these crates, and all above them, once more.
pub(crate) const BUILD_FOR_TESTS: [&str; 4] = ["build", "--workspace", "--bins", "--tests"];

/// What the names of the variables begin with that `cargo run` and `cargo test` set about the package they run.
const ABOUT_THE_PACKAGE: [&str; 3] = ["CARGO_MANIFEST_", "CARGO_PKG_", "OUT_DIR"];

/// A command whose PATH includes the programs of `cargo install`, whatever the caller's PATH is.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).env("PATH", path());
    // A build below `cargo xtask` has to see the variables of a build from a shell. The build script of `ring` depends
    // on them; otherwise each change between the two builds `ring` and everything above it again.
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| ABOUT_THE_PACKAGE.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs cargo with these arguments.
///
/// # Errors
/// Cargo fails.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(command("cargo").args(arguments))
}

/// Builds every binary with optimisations and returns a command for one of them.
///
/// # Errors
/// The build fails.
pub(crate) fn built(binary: &str) -> Result<Command> {
    cargo(&["build", "--quiet", "--release", "--workspace", "--bins"])?;
    program("release", binary)
}

/// Builds a binary and the daemon with the tests' profile, which is much quicker, and returns a command for the binary.
/// It shows the build's progress.
///
/// # Errors
/// The build fails.
pub(crate) fn built_quickly(binary: &str) -> Result<Command> {
    let mut build = command("cargo");
    // Built once from nothing. Only the simulation needs the optimisations of the tests' profile.
    build.env("CARGO_INCREMENTAL", "0").args([
        "build",
        "--config",
        "profile.dev.package.dns-xdp.opt-level=0",
    ]);
    build.args(["--package", "dns-xdp", "--package", "dns-xdp-tests", "--no-default-features"]);
    run(build.args(["--bin", "dns-xdp", "--bin", binary]))?;
    program("debug", binary)
}

/// A command for a binary in this directory of the target directory.
///
/// # Errors
/// The directory cannot be told.
pub(crate) fn program(profile: &str, binary: &str) -> Result<Command> {
    let this = env::current_exe().context("cannot tell where xtask is")?;
    let target = this.ancestors().nth(2).context("xtask is not in a target directory")?;
    let path = target.join(profile).join(binary);
    let path = path.to_str().context("the target directory's name is not UTF-8")?;
    Ok(command(path))
}

/// Runs a command that has to succeed; its output is shown as it comes.
///
/// # Errors
/// The command cannot be started, or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let line = line(command);
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}

/// Runs a command that has to succeed. Its stdout is passed through unchanged, and `on_line` gets each line of it.
///
/// # Errors
/// The command cannot be started, or fails.
pub(crate) fn run_reading(command: &mut Command, mut on_line: impl FnMut(&str)) -> Result<()> {
    let line = line(command);
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("cannot start `{line}`"))?;
    let mut output = child.stdout.take().context("the output is piped")?;
    let read = pass_through(&mut output, &mut io::stdout(), &mut on_line);
    drop(output);
    let status = child.wait().with_context(|| format!("cannot wait for `{line}`"))?;
    read.with_context(|| format!("cannot pass the output of `{line}` through"))?;
    ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}

/// Copies everything as it comes, even the beginning of an unfinished line.
fn pass_through(from: &mut impl Read, to: &mut impl Write, on_line: &mut impl FnMut(&str)) -> io::Result<()> {
    let (mut buffer, mut pending) = ([0; 8192], Vec::new());
    loop {
        let length = match from.read(&mut buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            length => length?,
        };
        to.write_all(&buffer[..length])?;
        to.flush()?;
        pending.extend_from_slice(&buffer[..length]);
        // Text after the last newline counts as a line only at the end.
        let whole = if length == 0 { pending.len() } else { end_of_lines(&pending) };
        let rest = pending.split_off(whole);
        String::from_utf8_lossy(&pending).lines().for_each(&mut *on_line);
        pending = rest;
        if length == 0 {
            return Ok(());
        }
    }
}

fn end_of_lines(text: &[u8]) -> usize {
    text.iter().rposition(|octet| *octet == b'\n').map_or(0, |at| at + 1)
}

/// The command as a person would type it.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn path() -> OsString {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let inherited = env::var_os("PATH").unwrap_or_default();
    let directories = home.map(|home| home.join("bin")).into_iter().chain(env::split_paths(&inherited));
    env::join_paths(directories).unwrap_or(inherited)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that returns one piece at a time, like a pipe.
    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn a_build_sees_no_variable_about_the_package_that_started_it() {
        assert!(env::var_os("CARGO_MANIFEST_DIR").is_some(), "cargo sets it for its tests");
        let output = command("env").output().unwrap();
        let variables = String::from_utf8(output.stdout).unwrap();
        let is_left = |line: &str| ABOUT_THE_PACKAGE.iter().any(|prefix| line.starts_with(prefix));
        assert_eq!(variables.lines().find(|line| is_left(line)), None);
    }

    #[test]
    fn output_is_passed_through_unchanged_and_read_line_by_line() {
        let pieces: [&[u8]; 4] = [b"test a ... ", b"ok\r\ntest b", b" ... \xff\n\n", b"the end"];
        let (mut passed, mut lines) = (Vec::new(), Vec::new());
        let mut on_line = |line: &str| lines.push(line.to_owned());
        pass_through(&mut Pieces(pieces.to_vec()), &mut passed, &mut on_line).unwrap();
        assert_eq!(passed, pieces.concat());
        assert_eq!(lines, ["test a ... ok", "test b ... \u{fffd}", "", "the end"]);
    }
}
