//! `exec`: an operator's command judges the node.
//!
//! | the command | is read as |
//! |---|---|
//! | exits with 0 | success |
//! | exits with 75 (EX_TEMPFAIL, sysexits.h) | a failure, on a host that is not visible |
//! | exits with 126 or 127, cannot be started, is killed by another process | this server's own trouble: no result |
//! | exits with another code | a failure, on a host that is visible |
//! | takes longer than the timeout | a failure, on a host that is not visible |
//!
//! The last line of its output is the reason. The command has a process group of its own. The daemon kills the whole
//! group when the command ends, for any reason.
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::time::Instant;

use super::{Fault, Peer, unseen, wrong};
use crate::cluster::Exec;
use crate::health::Subject;
use crate::subprocess::{self, Leftovers};

/// The exit code of a temporary failure (sysexits.h).
const EX_TEMPFAIL: i32 = 75;
/// The exit codes of a shell for a command that it cannot execute, and for one that it cannot find.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;
/// The most characters of the reason.
const REASON: usize = 200;

pub(super) async fn ask(exec: &Exec, peer: Peer<'_>, deadline: Instant) -> Result<(), Fault> {
    let [program, arguments @ ..] = exec.command.as_slice() else {
        return Err(Fault::Ours("there is no command to run".to_owned()));
    };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("DNS_XDP_ADDRESS", peer.address.to_string())
        .env("DNS_XDP_NODE", node(peer.subject))
        .env("DNS_XDP_SERVICE", service(peer.subject))
        .env("DNS_XDP_ZONE", exec.zone.to_string());
    let limit = deadline.duration_since(Instant::now());
    let ended = subprocess::run(command, b"", limit, Leftovers::Kill).await;
    let ended = ended.map_err(|error| Fault::Ours(format!("cannot run {program}: {error}")))?;
    let line: String = ended.last_line.chars().take(REASON).collect();
    ended.status.map_or_else(|| Err(unseen("timeout")), |status| judge(status, &line))
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

/// Returns the service's name. It is empty unless the node is probed as a member of a service.
fn service(subject: &Subject) -> &str {
    match subject {
        Subject::Member { service, .. } => service,
        Subject::Node(_) | Subject::Witness(_) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::Name;
    use std::net::Ipv4Addr;
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
    async fn a_long_line_is_a_short_reason() {
        let line = "x".repeat(1000);
        assert_eq!(verdict(&format!("echo {line}; exit 1")).await, Err(wrong("x".repeat(REASON))));
    }

    #[tokio::test]
    async fn a_command_that_hangs_is_a_host_that_is_not_visible() {
        let started = Instant::now();
        assert_eq!(
            run(&shell("echo busy; sleep 1000"), Duration::from_millis(300)).await,
            Err(unseen("timeout"))
        );
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind_is_killed() {
        let started = Instant::now();
        let Err(Fault::Theirs(failure)) = verdict("sleep 1000 & echo $!; exit 1").await else {
            panic!("it failed")
        };
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "it does not wait for processes that hold the output"
        );
        let stat = format!("/proc/{}/stat", failure.reason);
        let lives = || std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
        while lives() {
            assert!(started.elapsed() < Duration::from_secs(20), "it is dead");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
