//! Runs another program to its end or to a time limit. Bounds its output and the processes that it leaves behind.
mod supervisor;

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::sleep;

use supervisor::Supervised;

pub use supervisor::enter;

/// The most bytes of a line that are kept, from its beginning.
const LONGEST_LINE: usize = 512;
/// Octets of a page. A pipe holds 16 pages (pipe(7)).
const PAGE: usize = 4096;
const PAGES: usize = 16;

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The exit status; `None`: it took too long, and was killed with its process group.
    pub status: Option<ExitStatus>,
    /// The readable characters of the last non-empty line on stdout or stderr; empty: there was no such line.
    pub last_line: String,
}

impl Ended {
    /// Whether it ended by itself with 0.
    pub fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }
}

/// Whether the processes that a program has started continue to run after the program has ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// They are killed, even if they have left the process group (setsid) or have lost their parent (a double fork).
    Kill,
    /// They continue to run.
    Spare,
}

/// Runs `command` with `input` on its stdin, in the directory / and in a process group of its own. The group is killed
/// after `limit`, and if the future is dropped before its end. [`Leftovers::Kill`] also kills processes that have left
/// the group; it needs a daemon that has called [`enter`], and an empty input. A process that continues and holds the
/// output is not waited for.
///
/// # Errors
/// The program could not be started.
pub async fn run(command: Command, input: &[u8], limit: Duration, leftovers: Leftovers) -> io::Result<Ended> {
    run_until(command, input, sleep(limit), leftovers).await
}

/// Like [`run`], but the time ends when a future completes.
async fn run_until(
    mut command: Command,
    input: &[u8],
    limit: impl Future<Output = ()>,
    leftovers: Leftovers,
) -> io::Result<Ended> {
    let (output, ends) = io::pipe()?;
    command
        // Only the daemon itself may report its readiness.
        .env_remove("NOTIFY_SOCKET")
        .current_dir("/")
        .process_group(0);
    let is_told = !input.is_empty();
    let is_supervised = leftovers == Leftovers::Kill && !is_told && supervisor::is_available();
    // Starting waits until the kernel has read the program's file, and the disk may hang. Therefore a thread starts it.
    // The thread then drops the command, which holds this process's copies of the pipe's other end. A program that is
    // given up meanwhile is killed once it has started.
    let start = tokio::task::spawn_blocking(move || {
        if is_supervised {
            return Ok(Running::Supervised(Supervised::start(&command, ends.into())?));
        }
        command
            .stdin(if is_told { Stdio::piped() } else { Stdio::null() })
            .stdout(ends.try_clone()?)
            .stderr(ends);
        let child = command.spawn()?;
        Ok(Running::Direct { group: Group::of(&child), child })
    });
    let mut running = start.await.unwrap_or_else(|defect| Err(io::Error::other(defect)))?;
    let mut output = pipe::Receiver::from_owned_fd(OwnedFd::from(output))?;
    let mut lines = Lines::default();
    let stdin = running.stdin();
    let conversation = async {
        let told = async {
            if let Some(mut stdin) = stdin {
                // A program need not read its input.
                stdin.write_all(input).await.ok();
            }
        };
        tokio::join!(told, lines.read(&mut output));
        std::future::pending().await
    };
    let status = tokio::select! {
        biased;
        status = running.ended() => Some(status?),
        () = limit => None,
        never = conversation => never,
    };
    if status.is_some() && leftovers == Leftovers::Spare {
        running.spare();
    } else {
        drop(running);
    }
    lines.read_rest(&output);
    Ok(Ended { status, last_line: lines.last() })
}

/// A running program. It is killed on drop.
enum Running {
    /// A child, and its process group.
    Direct { child: Child, group: Group },
    /// The child of a supervisor.
    Supervised(Supervised),
}

impl Running {
    fn stdin(&mut self) -> Option<ChildStdin> {
        match self {
            Running::Direct { child, .. } => child.stdin.take(),
            Running::Supervised(_) => None,
        }
    }

    async fn ended(&mut self) -> io::Result<ExitStatus> {
        match self {
            Running::Direct { child, .. } => child.wait().await,
            Running::Supervised(supervised) => supervised.ended().await,
        }
    }

    /// Does not kill the group of a child.
    fn spare(self) {
        if let Running::Direct { group, .. } = self {
            group.spare();
        }
    }
}

/// The process group of a child. Killed on drop.
///
/// The kernel does not reuse the number of a group while a process of the group exists, or its leader has not been
/// waited for. After that, the group is killed or spared at once, before another group can get the number.
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
    /// Kills the group. The runtime reaps the leader.
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // A process that has ended meanwhile needs no kill.
            killpg(group, Signal::SIGKILL).ok();
        }
    }
}

/// Collects output, and keeps only the last line.
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

    /// Reads the rest of the output. When the program ends, the rest is in the pipe, even if the runtime has not
    /// noticed it.
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
    use std::os::unix::process::ExitStatusExt as _;
    use std::path::{Path, PathBuf};
    use std::time::Instant;

    use super::*;

    /// A time limit that is long enough for every event of the tests.
    const LONG: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        command
    }

    async fn told(script: &str, input: &[u8]) -> Ended {
        run(sh(script), input, LONG, Leftovers::Spare).await.unwrap()
    }

    /// Files that a test and a script create to show each other their progress. No time has to be guessed.
    struct Signs(tempfile::TempDir);

    impl Signs {
        fn new() -> Signs {
            Signs(tempfile::tempdir().unwrap())
        }

        fn path(&self, sign: &str) -> PathBuf {
            self.0.path().join(sign)
        }

        /// Runs a script with the directory of the signs in place of `@`. Its time ends when it creates the sign
        /// `ready`.
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

    /// Starts a process that sleeps, has left its process group and lost its parent. Waits until it reports its number.
    const STRAY: &str = "(setsid sh -c 'echo $$ > @/new; mv @/new @/stray; exec sleep 300' &); until [ -e @/stray ]; do sleep 0.01; done";

    #[tokio::test]
    async fn what_has_left_the_group_ends_with_the_program() {
        for (rest, in_time) in [("exit 3", true), (": > @/ready; exec sleep 300", false)] {
            let signs = Signs::new();
            let ended = signs.run(&format!("{STRAY}; {rest}"), Leftovers::Kill).await;
            assert_eq!(ended.status.map(|status| status.code()), in_time.then_some(Some(3)), "{ended:?}");
            let stray = std::fs::read_to_string(signs.path("stray")).unwrap();
            wait_until("nothing is left of the stray", || !exists(stray.trim())).await;
        }
    }

    #[tokio::test]
    async fn what_has_left_the_group_ends_with_a_run_that_is_given_up() {
        let signs = Signs::new();
        let file = signs.path("stray");
        let running =
            tokio::spawn(async move { signs.run(&format!("{STRAY}; sleep 300"), Leftovers::Kill).await });
        wait_until("it runs", || file.exists()).await;
        let stray = std::fs::read_to_string(&file).unwrap();
        running.abort();
        running.await.unwrap_err();
        wait_until("nothing is left of the stray", || !exists(stray.trim())).await;
    }

    #[tokio::test]
    async fn other_children_keep_their_lives_and_their_exit_codes() {
        let signs = Signs::new();
        let mut other = sh("read line; exit 7").stdin(Stdio::piped()).spawn().unwrap();
        let spared = signs.run(STRAY, Leftovers::Spare).await;
        assert!(spared.success(), "{spared:?}");
        for code in 1..=3 {
            let ended = run(sh(&format!("(setsid sleep 300 &); exit {code}")), b"", LONG, Leftovers::Kill)
                .await
                .unwrap();
            assert_eq!(ended.status.and_then(|status| status.code()), Some(code));
        }
        let stray = std::fs::read_to_string(signs.path("stray")).unwrap();
        assert!(lives(stray.trim()), "it was spared");
        nix::sys::signal::kill(Pid::from_raw(stray.trim().parse().unwrap()), Signal::SIGKILL).unwrap();
        drop(other.stdin.take());
        assert_eq!(other.wait().await.unwrap().code(), Some(7));
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_or_is_killed_is_told_as_it_is() {
        let missing = run(Command::new("/nonexistent"), b"", LONG, Leftovers::Kill).await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let killed = run(sh("echo last; kill -9 $$"), b"", LONG, Leftovers::Kill).await.unwrap();
        assert_eq!(killed.status.and_then(|status| status.signal()), Some(9));
        assert_eq!(killed.last_line, "last");
        let orphaned = run(sh("kill -9 $PPID; sleep 1"), b"", LONG, Leftovers::Kill).await.unwrap_err();
        assert_eq!(orphaned.to_string(), "its supervisor was killed");
    }

    #[tokio::test]
    async fn a_child_that_goes_on_is_not_waited_for_and_spared_or_killed() {
        // The child creates the sign `answered` after the sign `asked`.
        let script =
            "{ until [ -e @/asked ]; do sleep 0.01; done; : > @/answered; exec sleep 300; } & echo $!";
        for leftovers in [Leftovers::Kill, Leftovers::Spare] {
            let signs = Signs::new();
            // The script never gives the sign `ready`, so it ends by itself.
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

    /// Whether the process exists. It may be dead, but not yet waited for.
    fn exists(pid: &str) -> bool {
        Path::new("/proc").join(pid).exists()
    }

    /// Whether the process is alive. A dead process does not count, even if its new parent never waits for it.
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
