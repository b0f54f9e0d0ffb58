//! Running other programs, with errors that name them.
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use anyhow::{Context, Result, ensure};

/// Runs `command` to its end with `input` on its stdin.
///
/// # Errors
/// The program cannot be started. The caller judges its exit code.
pub fn output(command: &mut Command, input: &str) -> Result<Output> {
    let line = line(command);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{line}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).with_context(|| format!("cannot write to `{line}`"))?;
    }
    child.wait_with_output().with_context(|| format!("cannot wait for `{line}`"))
}

/// Runs `command`, which has to succeed, and returns what it wrote to stdout.
///
/// # Errors
/// The program cannot be started, or fails. The error holds its stderr.
pub fn succeed(command: &mut Command, input: &str) -> Result<String> {
    let output = output(command, input)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{}` failed: {}", line(command), stderr.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The last `lines` lines of a log file; a missing file has none.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The path of a binary of this workspace, built into the same directory as the running one.
///
/// # Errors
/// The binary has not been built.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot tell where the running program is")?;
    let directory = this.parent().context("the running program has no directory")?;
    // Test programs live in target/<profile>/deps, one below the binaries.
    let directory =
        if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    let path = directory.join(name);
    ensure!(path.exists(), "{} is not built: run `cargo build --workspace --bins`", path.display());
    Ok(path)
}

/// Returns the exit code of a program, and prints an error to stderr in one line.
pub fn exit_code(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing >&2; exit 3"]);
        let error = succeed(&mut command, "").expect_err("it exits with 3").to_string();
        assert!(error.contains("sh -c") && error.ends_with("no such thing"), "{error}");
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "a\nb\nc\n").unwrap();
        assert_eq!(tail(file.path(), 2), "b\nc");
        assert_eq!(tail(Path::new("/nonexistent"), 2), "");
    }
}
