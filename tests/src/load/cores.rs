//! Cores: which threads have one, and how long they have run.
use std::fs::{self, File};
use std::io::ErrorKind;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::{Pid, getsid, gettid};

use crate::bed::netns::Namespace;
use crate::bed::process::succeed;
use crate::bed::wait;

/// The core of the generator, and of the counter of returning frames.
pub const GENERATOR: usize = 0;
/// The core of the name server.
pub const SERVER: usize = 1;

/// The load average of a machine that does nothing else.
const QUIET: f64 = 0.5;
/// The nice value above all programs except the kernel's own threads.
const NICE: &str = "-20";

/// Checks that generator and server can each have a core. Warns if other programs use them too.
///
/// # Errors
/// The machine has too few cores.
pub fn check() -> Result<()> {
    let cores = std::thread::available_parallelism().context("cannot count the cores")?.get();
    ensure!(cores > SERVER, "this takes two cores, one for the generator and one for the server");
    let load = fs::read_to_string("/proc/loadavg").context("cannot read /proc/loadavg")?;
    let load = load.split(' ').next().and_then(|minute| minute.parse().ok()).unwrap_or(0.0);
    if load > QUIET {
        eprintln!("other programs are running (load average {load}): they take away from what is measured");
    }
    Ok(())
}

/// Keeps a thread on a core, with priority over other programs there.
///
/// # Errors
/// The kernel refuses.
pub fn claim(core: usize, thread: Pid) -> Result<()> {
    keep(core, thread)?;
    rank(thread, NICE)
}

/// Gives a thread this nice value, -20 to 19.
///
/// # Errors
/// The kernel refuses.
pub fn rank(thread: Pid, nice: &str) -> Result<()> {
    succeed(Command::new("renice").args(["-n", nice, "-p", &thread.to_string()]), "").map(drop)
}

fn keep(core: usize, thread: Pid) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(thread, &cores).with_context(|| format!("cannot keep thread {thread} on core {core}"))
}

/// Starts a program in a namespace, on a core, in its own session; it writes into `log`.
///
/// If the scheduler groups by session (autogroup in sched(7)), a session has the weight of one thread, shared among all
/// cores. A server would then get less of its core than the NAPI thread beside it, which is in no session.
///
/// # Errors
/// The program cannot be started.
pub fn spawn(namespace: &Namespace, core: usize, command: &Command, log: File) -> Result<Child> {
    let program = command.get_program();
    let mut session = Command::new("setsid");
    session.arg(program).args(command.get_args());
    session.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mut child = namespace.enter(|| {
        // The started program inherits the core and the priority.
        claim(core, gettid())?;
        session.spawn().with_context(|| format!("cannot start {}", program.display()))
    })?;
    let raised = raise(Pid::from_raw(child.id().try_into()?));
    if raised.is_err() {
        child.kill().and_then(|()| child.wait()).ok();
    }
    raised.with_context(|| format!("cannot raise the session of {}", program.display()))?;
    Ok(child)
}

/// Waits until a process has its own session, and raises the priority of that session.
fn raise(process: Pid) -> Result<()> {
    wait::until("it has a session", Duration::from_secs(2), || {
        ensure!(getsid(Some(process))? == process, "it is in another's");
        Ok(())
    })?;
    match fs::write(format!("/proc/{process}/autogroup"), NICE) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// The threads that work on the server's core: the thread of its NAPI, and the threads of the server's processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workers(Vec<Pid>);

impl Workers {
    /// Brings every thread of a namespace's processes to the server's core, because some servers choose a core
    /// themselves.
    ///
    /// # Errors
    /// A thread cannot be moved.
    pub fn gather(namespace: &Namespace, napi: Pid) -> Result<Self> {
        let mut threads = vec![napi];
        for process in namespace.pids()? {
            let tasks = format!("/proc/{process}/task");
            for task in fs::read_dir(&tasks).with_context(|| format!("cannot list {tasks}"))? {
                let thread = task?.file_name().to_str().and_then(|number| number.parse().ok());
                let thread = Pid::from_raw(thread.with_context(|| format!("{tasks} has no numbers"))?);
                keep(SERVER, thread)?;
                threads.push(thread);
            }
        }
        Ok(Workers(threads))
    }

    /// The sum of their run times. A thread that has ended counts 0.
    pub fn run_time(&self) -> Duration {
        self.0.iter().filter_map(|thread| run_time(*thread)).sum()
    }
}

/// The first number of /proc/…/schedstat: nanoseconds on a core.
fn run_time(thread: Pid) -> Option<Duration> {
    let text = fs::read_to_string(format!("/proc/{thread}/schedstat")).ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_has_run_and_one_that_is_not_there_has_not() {
        let before = run_time(gettid()).unwrap();
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(20) {}
        let after = Workers(vec![gettid(), Pid::from_raw(i32::MAX)]).run_time();
        assert!(after > before, "{before:?} {after:?}");
    }
}
