//! `exec`: a command of the operator's judges.
//!
//! | it | is read as |
//! |---|---|
//! | exits with 0 | success |
//! | exits with 75 (EX_TEMPFAIL, sysexits.h) | a failure, and no sign of life from the host |
//! | exits with 126 or 127, cannot be started, is killed by somebody else | our own trouble: nothing |
//! | exits with another code | a failure, on a host that is visible |
//! | takes longer than the timeout | a failure, and no sign of life from the host |
//!
//! The last line that it writes is the reason. It has a process group of its own, all of which is killed when it ends,
//! whichever way.
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use super::{Fault, Peer, unseen, wrong};
use crate::cluster::Exec;
use crate::health::Subject;

/// sysexits.h
const EX_TEMPFAIL: i32 = 75;
/// What a shell says of a command that it cannot execute, and of one that it cannot find.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// Letters of the reason.
const REASON: usize = 200;
/// Octets of the output that are kept: the end.
const TAIL: usize = 4096;

pub(super) async fn ask(exec: &Exec, peer: Peer<'_>, deadline: Instant) -> Result<(), Fault> {
    let (mut group, output) = Group::start(exec, peer).map_err(|error| {
        Fault::Ours(format!("cannot run {}: {error}", exec.command.first().map_or("", String::as_str)))
    })?;
    let mut tail = Tail::new();
    let ended = tokio::time::timeout_at(deadline, group.ended(&output, &mut tail)).await;
    drop(group);
    match ended {
        Ok(Ok(status)) => {
            // What it has written is there, whether the runtime knows it yet or not; a pipe holds 16 pages.
            for _page in 0..16 {
                tail.take(|buffer| Ok(nix::unistd::read(&output, buffer)?));
            }
            judge(status, &tail.last_line())
        }
        Ok(Err(error)) => Err(Fault::Ours(format!("cannot wait for the command: {error}"))),
        Err(_elapsed) => Err(unseen("timeout")),
    }
}

fn judge(status: ExitStatus, line: &str) -> Result<(), Fault> {
    let reason = |otherwise: String| if line.is_empty() { otherwise } else { line.to_owned() };
    match status.code() {
        Some(0) => Ok(()),
        Some(EX_TEMPFAIL) => Err(unseen(reason(format!("exit code {EX_TEMPFAIL}")))),
        Some(code @ (NOT_EXECUTABLE | NOT_FOUND)) => {
            Err(Fault::Ours(format!("cannot probe: {}", reason(format!("exit code {code}")))))
        }
        Some(code) => Err(wrong(reason(format!("exit code {code}")))),
        None => {
            let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
            let signal = signal.map_or("a signal", Signal::as_str);
            Err(Fault::Ours(format!("cannot probe: the command was killed by {signal}")))
        }
    }
}

fn node(subject: &Subject) -> String {
    match subject {
        Subject::Node(node) | Subject::Member { node, .. } => node.clone(),
        Subject::Witness(address) => address.to_string(),
    }
}

/// Empty unless the node is asked as a member of a service.
fn service(subject: &Subject) -> &str {
    match subject {
        Subject::Member { service, .. } => service,
        Subject::Node(_) | Subject::Witness(_) => "",
    }
}

/// A command and all that it starts. They do not outlive this value.
struct Group {
    child: Child,
    id: Option<Pid>,
}

impl Group {
    fn start(exec: &Exec, peer: Peer<'_>) -> io::Result<(Self, pipe::Receiver)> {
        let (reader, writer): (PipeReader, PipeWriter) = io::pipe()?;
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let [program, arguments @ ..] = exec.command.as_slice() else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no command"));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("DNS_XDP_ADDRESS", peer.address.to_string())
            .env("DNS_XDP_NODE", node(peer.subject))
            .env("DNS_XDP_SERVICE", service(peer.subject))
            .env("DNS_XDP_ZONE", exec.zone.to_string())
            // The daemon's readiness is its own to tell.
            .env_remove("NOTIFY_SOCKET")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok((Group { child, id }, output))
    }

    /// Waits for its first process, and reads what they all write meanwhile.
    async fn ended(&mut self, output: &pipe::Receiver, tail: &mut Tail) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                biased;
                status = self.child.wait() => return status,
                readable = output.readable(), if tail.more => {
                    readable?;
                    tail.take(|buffer| output.try_read(buffer));
                }
            }
        }
    }
}

impl Drop for Group {
    /// The number of a group is not given away while a process of the group is left; where none is left, there is
    /// no time for another to have got it. The child itself is reaped by the runtime.
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // Fails when nothing is left to kill.
            killpg(id, Signal::SIGKILL).ok();
        }
    }
}

/// The end of an output.
struct Tail {
    kept: Vec<u8>,
    more: bool,
}

impl Tail {
    fn new() -> Self {
        Tail { kept: Vec::new(), more: true }
    }

    /// Takes what there is to read, [`TAIL`] octets at most.
    fn take(&mut self, read: impl FnOnce(&mut [u8]) -> io::Result<usize>) {
        let mut buffer = [0; TAIL];
        match read(&mut buffer) {
            Ok(length) => {
                self.more = length > 0;
                self.kept.extend_from_slice(&buffer[..length]);
                self.kept.drain(..self.kept.len().saturating_sub(TAIL));
            }
            Err(error) => self.more = error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// What a person can read of the last line that is not empty.
    fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        line.chars().filter(|letter| !letter.is_control()).take(REASON).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Name;
    use std::net::Ipv4Addr;
    use std::path::Path;
    use std::time::Duration;

    fn command(words: &[&str]) -> Exec {
        let command = words.iter().map(|word| (*word).to_owned()).collect();
        Exec { command, zone: Name::from_ascii("demo.example.com.").unwrap() }
    }

    fn shell(script: &str) -> Exec {
        command(&["/bin/sh", "-c", script])
    }

    async fn run(exec: &Exec, timeout: Duration) -> Result<(), Fault> {
        let subject = Subject::Member { service: "db".to_owned(), node: "node1".to_owned() };
        let peer = Peer { subject: &subject, address: Ipv4Addr::new(192, 0, 2, 11).into() };
        ask(exec, peer, Instant::now() + timeout).await
    }

    async fn verdict(script: &str) -> Result<(), Fault> {
        run(&shell(script), Duration::from_secs(30)).await
    }

    /// Whether a process is there, dead or alive.
    fn exists(pid: &str) -> bool {
        Path::new("/proc").join(pid).exists()
    }

    async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        for _ in 0..200 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not in 4 s: {what}");
    }

    #[tokio::test]
    async fn the_exit_code_is_the_verdict_and_the_last_line_the_reason() {
        assert_eq!(verdict("echo fine").await, Ok(()));
        assert_eq!(verdict("exit 3").await, Err(wrong("exit code 3")));
        assert_eq!(
            verdict("echo first; echo '  lag is 9 s ' >&2; echo; exit 1").await,
            Err(wrong("lag is 9 s"))
        );
        assert_eq!(verdict("echo no route; exit 75").await, Err(unseen("no route")));
    }

    #[tokio::test]
    async fn the_node_is_in_the_environment() {
        let script = "echo $DNS_XDP_NODE $DNS_XDP_SERVICE $DNS_XDP_ADDRESS $DNS_XDP_ZONE; exit 1";
        assert_eq!(verdict(script).await, Err(wrong("node1 db 192.0.2.11 demo.example.com.")));
    }

    #[tokio::test]
    async fn a_command_that_cannot_run_is_our_own_trouble() {
        for exec in
            [command(&["/nonexistent/probe"]), shell("nonexistent-probe"), shell("kill -9 $$"), command(&[])]
        {
            let verdict = run(&exec, Duration::from_secs(10)).await;
            assert!(matches!(verdict, Err(Fault::Ours(_))), "{exec:?}: {verdict:?}");
        }
    }

    #[tokio::test]
    async fn a_flood_of_output_is_no_burden() {
        let line = "x".repeat(1000);
        assert_eq!(
            verdict(&format!("yes {line} | head -c 3003000; exit 1")).await,
            Err(wrong("x".repeat(REASON)))
        );
        let started = Instant::now();
        assert_eq!(run(&shell("yes"), Duration::from_millis(300)).await, Err(unseen("timeout")));
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_killed_with_all_that_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let script = format!("sleep 1000 & echo $$ $! > {}; wait", pids.display());
        assert_eq!(run(&shell(&script), Duration::from_secs(3)).await, Err(unseen("timeout")));
        let pids = std::fs::read_to_string(pids).unwrap();
        assert_eq!(pids.split_whitespace().count(), 2);
        wait_until("nothing is left, not even a zombie", || !pids.split_whitespace().any(exists)).await;
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind_is_killed_too() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}", pid.display());
        let started = Instant::now();
        assert_eq!(verdict(&script).await, Ok(()));
        assert!(started.elapsed() < Duration::from_secs(5), "it does not wait for those who hold the output");
        let pid = std::fs::read_to_string(pid).unwrap();
        wait_until("it is gone", || !exists(pid.trim())).await;
    }

    #[tokio::test]
    async fn a_probe_that_is_given_up_kills_its_command() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let exec = shell(&format!("echo $$ > {}; sleep 1000", pid.display()));
        let asking = tokio::spawn(async move { run(&exec, Duration::from_secs(100)).await });
        wait_until("it runs", || std::fs::read_to_string(&pid).is_ok_and(|text| text.ends_with('\n'))).await;
        asking.abort();
        let pid = std::fs::read_to_string(&pid).unwrap();
        wait_until("it is gone", || !exists(pid.trim())).await;
    }

    #[test]
    fn the_reason_is_one_short_line_of_text() {
        let mut tail = Tail::new();
        tail.take(|buffer| {
            let text = b"first\n\x1b[31mred\xff\t\n \n";
            buffer[..text.len()].copy_from_slice(text);
            Ok(text.len())
        });
        assert_eq!(tail.last_line(), "[31mred\u{fffd}");
    }
}
