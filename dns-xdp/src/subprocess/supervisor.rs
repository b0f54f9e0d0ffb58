//! The supervisor, a process between the daemon and a command. When the command ends, the supervisor ends all processes
//! that the command has started.
//!
//! ```text
//!  dns-xdp ──lifeline── supervisor ── command ── …
//!                           └──────── what has lost its parent
//! ```
//!
//! The children of a command may leave its process group (setsid) and its children (a double fork). The supervisor is a
//! subreaper (prctl(2), PR_SET_CHILD_SUBREAPER): a descendant that loses its parent becomes its child. The kernel keeps
//! that attribute for a whole process, and the daemon has other children, which must continue. Therefore the supervisor
//! is a process of its own: this program, started again under the name [`NAME`].
//!
//! The lifeline is a pair of sockets. One of them is the supervisor's stdin. The supervisor reports through the
//! lifeline how the command ended. If the other end closes, the supervisor ends the command. The other end also closes
//! when the daemon dies.
use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream as Socket;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{self, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, fs, thread};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::Command;

/// The name that this program has as a supervisor (`argv[0]`).
const NAME: &str = "dns-xdp-supervisor";
/// The argument before the command's words.
const COMMAND: &str = "--";
/// The path of this program, valid even if its file was replaced.
const PROGRAM: &str = "/proc/self/exe";
/// The kinds of report. A number of 32 bits follows.
const ENDED: u8 = b'e';
const NOT_STARTED: u8 = b'n';
const REPORT: usize = 5;
/// The most rounds until all descendants have died, and the time of a round. A kill takes effect at once unless the
/// kernel delays the process.
const ROUNDS: usize = 1000;
const ROUND: Duration = Duration::from_millis(1);

/// Arguments that make the test program start `tests::entry`.
#[cfg(test)]
const ENTRY: &[&str] = &["--exact", "subprocess::supervisor::tests::entry", "--nocapture"];
#[cfg(not(test))]
const ENTRY: &[&str] = &[];

/// Whether this program has called [`enter`].
static ENTERED: AtomicBool = AtomicBool::new(cfg!(test));

/// Runs the supervisor and exits, if this process was started as one. Call it first in `main`.
pub fn enter() {
    let mut words = env::args_os();
    if words.next().is_some_and(|name| name == NAME) {
        supervise(words);
    }
    ENTERED.store(true, Ordering::Relaxed);
}

/// Whether commands can be supervised. That needs a program that has called [`enter`].
pub(super) fn is_available() -> bool {
    ENTERED.load(Ordering::Relaxed)
}

/// A supervised command. It is ended on drop.
pub(super) struct Supervised {
    lifeline: UnixStream,
}

impl Supervised {
    /// Starts `command` with its arguments, environment and directory. Its stdout and its stderr go to `output`.
    pub(super) fn start(command: &Command, output: OwnedFd) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = theirs.into_std()?;
        theirs.set_nonblocking(false)?;
        let command = command.as_std();
        let mut supervisor = Command::new(PROGRAM);
        supervisor.arg0(NAME).args(ENTRY).arg(COMMAND).arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => supervisor.env(key, value),
                None => supervisor.env_remove(key),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            supervisor.current_dir(directory);
        }
        supervisor.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(output).process_group(0);
        // The runtime waits for it after its end.
        drop(supervisor.spawn()?);
        Ok(Supervised { lifeline: ours })
    }

    /// Waits for the end of the command.
    ///
    /// # Errors
    /// The command could not be started, or the supervisor was killed.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let mut report = [0; REPORT];
        let read = self.lifeline.read_exact(&mut report).await;
        read.map_err(|_| io::Error::other("its supervisor was killed"))?;
        let [what, number @ ..] = report;
        let number = i32::from_ne_bytes(number);
        if what == ENDED {
            Ok(ExitStatus::from_raw(number))
        } else {
            Err(io::Error::from_raw_os_error(number))
        }
    }
}

/// Runs the command after [`COMMAND`], and exits when no process of it is left.
fn supervise(words: impl Iterator<Item = OsString>) -> ! {
    let mut words = words.skip_while(|word| word != COMMAND).skip(1);
    let reported = io::stdin().as_fd().try_clone_to_owned().map(Socket::from).and_then(|mut lifeline| {
        let report = match words.next() {
            Some(program) => run(&program, words, &mut lifeline),
            None => Err(Errno::EINVAL.into()),
        };
        let (what, number) = match report {
            Ok(status) => (ENDED, status.into_raw()),
            Err(error) => (NOT_STARTED, error.raw_os_error().unwrap_or(Errno::EIO as i32)),
        };
        let mut octets = vec![what];
        octets.extend(number.to_ne_bytes());
        lifeline.write_all(&octets)
    });
    end_descendants();
    process::exit(i32::from(reported.is_err()))
}

/// Runs a command until it ends or the lifeline is closed.
fn run(
    program: &OsString,
    arguments: impl Iterator<Item = OsString>,
    lifeline: &mut Socket,
) -> io::Result<ExitStatus> {
    // The kernel took the process name from the file. The kernel keeps 15 letters.
    prctl::set_name(c"dns-xdp-supervisor")?;
    prctl::set_child_subreaper(true)?;
    let output = io::stderr().as_fd().try_clone_to_owned()?;
    let mut command = process::Command::new(program);
    let mut child = command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(Stdio::inherit())
        .process_group(0)
        .spawn()?;
    let waited = i32::try_from(child.id()).map_err(io::Error::other).and_then(|pid| {
        let pid = Pid::from_raw(pid);
        let waited = wait_for_either(pid, lifeline);
        // The group has this number until its leader has been waited for.
        killpg(pid, Signal::SIGKILL).ok();
        waited
    });
    waited?;
    child.wait()
}

/// Waits until the child has ended, or the other end of the lifeline is closed. The other end sends nothing.
fn wait_for_either(child: Pid, lifeline: &mut Socket) -> io::Result<()> {
    let ours = lifeline.try_clone()?;
    let wait = move || {
        let end = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        while waitid(Id::Pid(child), end) == Err(Errno::EINTR) {}
        // This makes the read below return.
        ours.shutdown(Shutdown::Read).ok();
    };
    thread::Builder::new().spawn(wait)?;
    while lifeline.read(&mut [0]).is_ok_and(|count| count > 0) {}
    Ok(())
}

/// Kills all children until none is left. Children whose parents die become this process's children.
fn end_descendants() {
    for _round in 0..ROUNDS {
        if !reap() {
            return;
        }
        for child in children() {
            // A child keeps its number until this process has waited for it.
            kill(child, Signal::SIGKILL).ok();
        }
        thread::sleep(ROUND);
    }
}

/// Waits for the children that have ended. Returns whether others are left.
fn reap() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_none) => return false,
        }
    }
}

/// Returns the children of all threads of this process (proc_pid_task(5)).
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    let pids =
        |list: String| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>();
    lists.flat_map(pids).map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    /// The entry of the test program if it was started as a supervisor. This is not a test.
    #[test]
    fn entry() {
        if std::env::args().next().is_some_and(|name| name == super::NAME) {
            super::supervise(std::env::args_os());
        }
    }
}
