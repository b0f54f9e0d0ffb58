//! Running cargo, and what it has built, from the workspace's root.
use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The root of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is a member of the workspace")
}

/// A command that finds what `cargo install` has installed, wherever the caller's PATH leads.
pub(crate) fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(root()).env("PATH", path());
    command
}

/// Runs cargo with these arguments.
///
/// # Errors
/// When it fails.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(command("cargo").args(arguments))
}

/// Builds every binary with optimisations and returns a command for one of them.
///
/// # Errors
/// When the build fails.
pub(crate) fn built(binary: &str) -> Result<Command> {
    cargo(&["build", "--quiet", "--release", "--workspace", "--bins"])?;
    let this = env::current_exe().context("cannot tell where xtask is")?;
    let target = this.ancestors().nth(2).context("xtask is not in a target directory")?;
    let path = target.join("release").join(binary);
    let path = path.to_str().context("the target directory's name is not UTF-8")?;
    Ok(command(path))
}

/// Runs a command that has to succeed; its output is shown as it comes.
///
/// # Errors
/// When it cannot be started or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let status = command.status().with_context(|| format!("cannot start `{line}`"))?;
    ensure!(status.success(), "`{line}` failed ({status})");
    Ok(())
}

fn path() -> OsString {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let inherited = env::var_os("PATH").unwrap_or_default();
    let directories = home.map(|home| home.join("bin")).into_iter().chain(env::split_paths(&inherited));
    env::join_paths(directories).unwrap_or(inherited)
}
