//! Another program, run to its end or to a time limit: what it leaves behind and what it says are bounded.
use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Bytes kept of a line.
const LONGEST_LINE: usize = 512;
/// For what is still in the pipe when the program has ended. A child of its own may hold the pipe open for ever.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `None`: it took too long, and its process group was killed.
    pub status: Option<ExitStatus>,
    /// The last line with something in it that it wrote to stdout or stderr; empty: it wrote none.
    pub last_line: String,
}

impl Ended {
    /// Whether it ended by itself with 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Runs `command` with `input` on its stdin, in a process group of its own. The group is killed after `limit`, and
/// when the future is dropped before its end.
///
/// # Errors
/// It could not be started.
pub async fn run(mut command: Command, input: &[u8], limit: Duration) -> io::Result<Ended> {
    let (output, ends) = io::pipe()?;
    command.stdin(Stdio::piped()).stdout(ends.try_clone()?).stderr(ends).process_group(0);
    let mut child = command.spawn()?;
    // It holds our copies of the pipe's other end.
    drop(command);
    let group = Group::of(&child);
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
    let mut lines = Lines::default();
    let stdin = child.stdin.take();
    let conversation = async {
        let told = async {
            if let Some(mut stdin) = stdin {
                // A program need not read what it is told.
                stdin.write_all(input).await.ok();
            }
        };
        tokio::join!(told, lines.read(&mut output));
        std::future::pending().await
    };
    let ended = timeout(limit, async {
        tokio::select! {
            status = child.wait() => status,
            never = conversation => never,
        }
    });
    let status = match ended.await {
        Ok(status) => {
            group.spare();
            Some(status?)
        }
        Err(_elapsed) => {
            drop(group);
            None
        }
    };
    // What is not read by then is not waited for.
    timeout(LAST_WORDS, lines.read(&mut output)).await.ok();
    Ok(Ended { status, last_line: lines.last() })
}

/// The process group of a child that has not been waited for, so that its number is not another's. Killed on drop.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|pid| i32::try_from(pid).ok());
        Group(leader.map(Pid::from_raw))
    }

    fn spare(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Whoever has ended meanwhile is as good as killed.
            killpg(group, Signal::SIGKILL).ok();
        }
    }
}

/// Text as it comes in, of which only the last line is wanted.
#[derive(Debug, Default)]
struct Lines {
    whole: Vec<u8>,
    begun: Vec<u8>,
}

impl Lines {
    async fn read(&mut self, output: &mut pipe::Receiver) {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer).await {
            self.take(&buffer[..count]);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                self.end_line();
            } else if self.begun.len() < LONGEST_LINE {
                self.begun.push(byte);
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.begun);
        if !line.trim_ascii().is_empty() {
            self.whole = line;
        }
    }

    fn last(mut self) -> String {
        self.end_line();
        String::from_utf8_lossy(self.whole.trim_ascii()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nix::errno::Errno;
    use nix::sys::signal::kill;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    async fn sh(script: &str, input: &[u8], limit: Duration) -> Ended {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        run(command, input, limit).await.unwrap()
    }

    #[tokio::test]
    async fn the_last_line_of_either_output_is_kept() {
        let ended = sh("echo first; echo second >&2; echo; exit 3", b"", LONG).await;
        assert_eq!((ended.status.and_then(|status| status.code()), &*ended.last_line), (Some(3), "second"));
        assert!(!ended.success());
        assert!(sh("exit 0", b"", LONG).await.success());
    }

    #[tokio::test]
    async fn input_is_read_whole_or_not_at_all() {
        let input = [vec![b'x'; 300_000], b"\nlast".to_vec()].concat();
        assert_eq!(sh("cat", &input, LONG).await.last_line, "last");
        assert!(sh("exit 0", &input, LONG).await.success());
    }

    #[tokio::test]
    async fn more_output_than_a_pipe_holds_holds_nobody_up() {
        let ended = sh("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end", b"", LONG).await;
        assert!(ended.success() && ended.last_line == "end", "{ended:?}");
        assert_eq!(
            sh("head -c 1000000 /dev/zero | tr '\\0' x", b"", LONG).await.last_line.len(),
            LONGEST_LINE
        );
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_its_children() {
        let start = Instant::now();
        let ended = sh("sleep 300 & echo $!; wait", b"", Duration::from_millis(300)).await;
        assert!(start.elapsed() < LONG && ended.status.is_none(), "{ended:?}");
        assert_gone(ended.last_line.parse().unwrap()).await;
    }

    #[tokio::test]
    async fn a_run_that_is_given_up_is_killed_too() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 300", file.display());
        let running = tokio::spawn(async move { sh(&script, b"", LONG).await });
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.abort();
        running.await.unwrap_err();
        assert_gone(std::fs::read_to_string(&file).unwrap().trim().parse().unwrap()).await;
    }

    #[tokio::test]
    async fn a_child_that_goes_on_in_the_background_is_not_waited_for() {
        let start = Instant::now();
        let ended = sh("sleep 3 & echo done", b"", LONG).await;
        assert!(ended.success() && ended.last_line == "done" && start.elapsed() < Duration::from_secs(2));
    }

    /// A killed process is gone once somebody has waited for it.
    async fn assert_gone(pid: i32) {
        for _ in 0..500 {
            let is_zombie =
                std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "));
            if is_zombie || kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{pid} lives");
    }
}
