//! `strace`, which lists the calls of a program and can make the kernel refuse one of them.
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A `bpf()` call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// `BPF_MAP_CREATE`
    pub command: String,
    /// The line of the trace.
    pub line: String,
}

/// Returns the arguments that make the calls with these numbers fail, counted from 1: `3`, or `3+` for all calls from
/// the third on.
pub fn injecting(error: &str, numbers: &str) -> Vec<String> {
    vec!["-e".to_owned(), format!("inject=bpf:error={error}:when={numbers}")]
}

/// Returns the command that starts a daemon under strace. The tracer runs beside the daemon, so the daemon's parent
/// stays the same.
pub fn wrapper(trace: &Path, arguments: &[String]) -> Vec<String> {
    let own = ["strace", "-D", "-f", "-e", "trace=bpf", "-o"].map(String::from);
    own.into_iter().chain([trace.display().to_string()]).chain(arguments.iter().cloned()).collect()
}

/// A tracer of a program that runs already. A drop detaches the tracer.
#[derive(Debug)]
pub struct Attached {
    child: Child,
    /// Strace writes a line here for each new thread, and would end if the pipe were closed.
    stderr: BufReader<ChildStderr>,
}

impl Attached {
    /// Attaches to all threads of a process.
    ///
    /// # Errors
    /// strace is not installed, or is not permitted to trace the process.
    pub fn to(pid: &str, trace: &Path, arguments: &[String]) -> Result<Self> {
        let mut command = Command::new("strace");
        command.args(["-f", "-e", "trace=bpf", "-p", pid, "-o"]).arg(trace).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start strace")?;
        let stderr = BufReader::new(child.stderr.take().context("strace has a stderr")?);
        let mut attached = Attached { child, stderr };
        let mut line = String::new();
        attached.stderr.read_line(&mut line).context("cannot read the output of strace")?;
        ensure!(line.contains("attached"), "strace does not attach: {line}");
        Ok(attached)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap_or_default());
        // A tracer that has ended with the program counts as ended.
        kill(pid, Signal::SIGTERM).ok();
        self.child.wait().ok();
    }
}

/// The calls in a trace, made by the thread of the first call.
///
/// # Errors
/// There is no trace.
pub fn calls(trace: &Path) -> Result<Vec<Call>> {
    let text = fs::read(trace).with_context(|| format!("cannot read {}", trace.display()))?;
    let text = String::from_utf8_lossy(&text);
    let call = |line: &str| {
        let (thread, call) = line.split_once(' ')?;
        let command = call.trim_start().strip_prefix("bpf(")?.split_once(',')?.0;
        Some((thread.to_owned(), Call { command: command.to_owned(), line: line.to_owned() }))
    };
    let all: Vec<(String, Call)> = text.lines().filter_map(call).collect();
    let first = all.first().map(|(thread, _)| thread.clone());
    Ok(all.into_iter().filter(|(thread, _)| Some(thread) == first.as_ref()).map(|(_, call)| call).collect())
}

/// The call that was made to fail, if there was one.
///
/// # Errors
/// There is no trace.
pub fn injected(trace: &Path) -> Result<Option<Call>> {
    Ok(calls(trace)?.into_iter().find(|call| call.line.ends_with("(INJECTED)")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_are_those_of_the_first_thread() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let trace = "7 bpf(BPF_MAP_CREATE, {map_type=BPF_MAP_TYPE_ARRAY}, 152) = 5\n\
                     8 bpf(BPF_OBJ_GET, {}, 152) = 6\n\
                     7 --- SIGINT ---\n\
                     7 bpf(BPF_OBJ_PIN, {}, 152) = -1 EPERM (Operation not permitted) (INJECTED)\n";
        fs::write(file.path(), trace).unwrap();
        let commands = calls(file.path()).unwrap().into_iter().map(|call| call.command);
        assert_eq!(commands.collect::<Vec<_>>(), ["BPF_MAP_CREATE", "BPF_OBJ_PIN"]);
        assert_eq!(injected(file.path()).unwrap().unwrap().command, "BPF_OBJ_PIN");
    }
}
