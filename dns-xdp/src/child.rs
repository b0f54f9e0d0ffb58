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
use tokio::time::sleep;

/// Bytes kept of a line: its beginning.
const LONGEST_LINE: usize = 512;
/// pipe(7): a pipe holds 16 pages.
const PAGE: usize = 4096;
const PAGES: usize = 16;

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `None`: it took too long, and its process group was killed.
    pub status: Option<ExitStatus>,
    /// What a person can read of the last line with something in it that it wrote to stdout or stderr; empty: it
    /// wrote none.
    pub last_line: String,
}

impl Ended {
    /// Whether it ended by itself with 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// What becomes of those that a program started and that are in its process group when it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// They are killed.
    Kill,
    /// They go on.
    Spare,
}

/// Runs `command` with `input` on its stdin, in the directory / and in a process group of its own. The group is killed
/// after `limit`, and when the future is dropped before its end. Whoever goes on and holds the output is not waited for.
///
/// # Errors
/// It could not be started.
pub async fn run(command: Command, input: &[u8], limit: Duration, leftovers: Leftovers) -> io::Result<Ended> {
    run_until(command, input, sleep(limit), leftovers).await
}

/// As [`run`], with any other end of its time.
async fn run_until(
    mut command: Command,
    input: &[u8],
    limit: impl Future<Output = ()>,
    leftovers: Leftovers,
) -> io::Result<Ended> {
    let (output, ends) = io::pipe()?;
    command
        // The daemon's readiness is its own to tell.
        .env_remove("NOTIFY_SOCKET")
        .current_dir("/")
        .stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() })
        .stdout(ends.try_clone()?)
        .stderr(ends)
        .process_group(0);
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
    let status = tokio::select! {
        biased;
        status = child.wait() => Some(status?),
        () = limit => None,
        never = conversation => never,
    };
    if status.is_some() && leftovers == Leftovers::Spare {
        group.spare();
    } else {
        drop(group);
    }
    lines.read_rest(&output);
    Ok(Ended { status, last_line: lines.last() })
}

/// The process group of a child. Killed on drop.
///
/// The number of a group is not given away while a process of the group is left, or its leader has not been waited for;
/// where none is left, there is no time for another to have got it.
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
    /// The leader is reaped by the runtime.
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
        let mut buffer = [0; PAGE];
        while let Ok(count @ 1..) = output.read(&mut buffer).await {
            self.take(&buffer[..count]);
        }
    }

    /// What a program has written is in the pipe when it ends, whether the runtime knows it yet or not.
    fn read_rest(&mut self, output: &pipe::Receiver) {
        let mut buffer = [0; PAGE];
        for _page in 0..PAGES {
            let Ok(count @ 1..) = nix::unistd::read(output, &mut buffer) else {
                return;
            };
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
        let text = String::from_utf8_lossy(&self.whole);
        let readable: String = text.chars().filter(|letter| !letter.is_control()).collect();
        readable.trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::time::Instant;

    use super::*;

    /// What has not come by then does not come.
    const LONG: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    async fn told(script: &str, input: &[u8]) -> Ended {
        run(sh(script), input, LONG, Leftovers::Spare).await.unwrap()
    }

    /// Files by which a test and a script tell each other how far they are. No time has to be guessed.
    struct Signs(tempfile::TempDir);

    impl Signs {
        fn new() -> Signs {
            Signs(tempfile::tempdir().unwrap())
        }

        fn path(&self, sign: &str) -> PathBuf {
            self.0.path().join(sign)
        }

        /// Runs a script in which `@` is the directory of the signs. Its time is over once it has given the sign `ready`.
        async fn run(&self, script: &str, leftovers: Leftovers) -> Ended {
            let ready = self.path("ready");
            let script = script.replace('@', &self.0.path().display().to_string());
            let limit = wait_until("the script is ready", || ready.exists());
            run_until(sh(&script), b"", limit, leftovers).await.unwrap()
        }
    }

    #[tokio::test]
    async fn the_last_line_of_either_output_is_kept() {
        let ended = told("echo first; echo second >&2; echo; exit 3", b"").await;
        assert_eq!((ended.status.and_then(|status| status.code()), &*ended.last_line), (Some(3), "second"));
        assert!(!ended.success());
        assert!(told("exit 0", b"").await.success());
    }

    #[test]
    fn of_a_line_is_kept_what_a_person_can_read() {
        let mut lines = Lines::default();
        lines.take(b"first\n \x1b[31mred\xff\t\n \n");
        assert_eq!(lines.last(), "[31mred\u{fffd}");
    }

    #[tokio::test]
    async fn input_is_read_whole_or_not_at_all() {
        let input = [vec![b'x'; 300_000], b"\nlast".to_vec()].concat();
        assert_eq!(told("cat", &input).await.last_line, "last");
        assert!(told("exit 0", &input).await.success());
        let nothing = told("cat; echo end", b"").await;
        assert_eq!(nothing.last_line, "end");
    }

    #[tokio::test]
    async fn a_program_runs_in_the_root_and_cannot_tell_that_we_are_ready() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $PWD $NOTIFY_SOCKET"]).env("NOTIFY_SOCKET", "/run/notify");
        assert_eq!(run(command, b"", LONG, Leftovers::Spare).await.unwrap().last_line, "/");
    }

    #[tokio::test]
    async fn more_output_than_a_pipe_holds_holds_nobody_up() {
        let ended = told("head -c 1000000 /dev/zero | tr '\\0' x; echo; echo end", b"").await;
        assert!(ended.success() && ended.last_line == "end", "{ended:?}");
        let line = told("head -c 1000000 /dev/zero | tr '\\0' x", b"").await.last_line;
        assert_eq!(line.len(), LONGEST_LINE);
        for leftovers in [Leftovers::Kill, Leftovers::Spare] {
            let ended = Signs::new().run("yes | head -c 1000000; : > @/ready; exec yes", leftovers).await;
            assert!(ended.status.is_none(), "{ended:?}");
            assert_eq!(ended.last_line, "y");
        }
    }

    #[tokio::test]
    async fn a_program_has_the_time_that_it_is_given() {
        let ended = run(sh("exec sleep 300"), b"", Duration::ZERO, Leftovers::Kill).await.unwrap();
        assert!(ended.status.is_none(), "{ended:?}");
    }

    #[tokio::test]
    async fn what_takes_too_long_is_killed_with_its_children() {
        for leftovers in [Leftovers::Kill, Leftovers::Spare] {
            let ended = Signs::new().run("sleep 300 & echo $$ $!; : > @/ready; wait", leftovers).await;
            assert!(ended.status.is_none(), "{ended:?}");
            let (leader, child) = ended.last_line.split_once(' ').unwrap();
            wait_until("the child is dead", || !lives(child)).await;
            wait_until("nothing is left of the leader", || !exists(leader)).await;
        }
    }

    #[tokio::test]
    async fn a_run_that_is_given_up_is_killed_too() {
        let signs = Signs::new();
        let file = signs.path("pid");
        let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 300", file.display());
        let running = tokio::spawn(async move { told(&script, b"").await });
        wait_until("it runs", || file.exists()).await;
        running.abort();
        running.await.unwrap_err();
        let pid = std::fs::read_to_string(&file).unwrap();
        wait_until("nothing is left of it", || !exists(pid.trim())).await;
    }

    #[tokio::test]
    async fn a_child_that_goes_on_is_not_waited_for_and_spared_or_killed() {
        // It gives an answer when it is asked.
        let script =
            "{ until [ -e @/asked ]; do sleep 0.01; done; : > @/answered; exec sleep 300; } & echo $!";
        for leftovers in [Leftovers::Kill, Leftovers::Spare] {
            let signs = Signs::new();
            // The sign `ready` is never given: the program ends by itself.
            let ended = signs.run(script, leftovers).await;
            assert!(ended.success(), "{ended:?}");
            let child = &ended.last_line;
            match leftovers {
                Leftovers::Kill => wait_until("it is dead", || !lives(child)).await,
                Leftovers::Spare => {
                    std::fs::write(signs.path("asked"), "").unwrap();
                    wait_until("it answers", || signs.path("answered").exists()).await;
                    nix::sys::signal::kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL).unwrap();
                }
            }
        }
    }

    /// Dead or alive: it has not been waited for.
    fn exists(pid: &str) -> bool {
        Path::new("/proc").join(pid).exists()
    }

    /// A child of a child is waited for by whoever has inherited it, perhaps never.
    fn lives(pid: &str) -> bool {
        std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
    }

    async fn wait_until(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + LONG;
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}
