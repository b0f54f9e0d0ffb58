//! Gives up privileges that are not needed. Linux keeps capabilities for each thread, so each thread gives up its own.
use std::cell::Cell;
use std::fs;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::prctl;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_capabilities_secure_bits,
};

use super::{filter, needed};
use crate::config::Config;

/// The flags that permanently keep executed programs from gaining capabilities by being root.
const SECURE: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

/// How often the threads are checked, and the pause between two checks.
const LOOKS: usize = 50;
const LOOK: Duration = Duration::from_millis(200);

/// The capabilities that the threads of the running daemon keep.
static KEPT: OnceLock<CapabilitySet> = OnceLock::new();

thread_local! {
    static SETTLED: Cell<bool> = const { Cell::new(false) };
}

/// Denies capabilities to every program that this process executes from now on. This includes programs that run as
/// root, setuid programs and programs with file capabilities. Call it while there is one thread.
///
/// # Errors
/// The system refuses, which is not expected.
pub(crate) fn close_to_programs() -> anyhow::Result<()> {
    close().context("cannot keep privileges from the programs that are executed")
}

fn close() -> anyhow::Result<()> {
    prctl::set_no_new_privs().context("PR_SET_NO_NEW_PRIVS")?;
    clear_ambient_capability_set().context("PR_CAP_AMBIENT")?;
    let sets = capabilities(None)?;
    set_capabilities(None, CapabilitySets { inheritable: CapabilitySet::empty(), ..sets })?;
    if !sets.effective.contains(CapabilitySet::SETPCAP) {
        // Without new privileges, a program of a user other than root can gain no capability.
        return Ok(());
    }
    set_capabilities_secure_bits(SECURE).context("PR_SET_SECUREBITS")?;
    for capability in (0..u64::BITS).filter_map(|bit| CapabilitySet::from_bits(1 << bit)) {
        // The kernel returns an error for capabilities that it does not know.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability).context("PR_CAPBSET_DROP")?;
        }
    }
    Ok(())
}

/// Decides which capabilities the threads of the daemon keep. Call it before the first thread starts.
///
/// Each thread gives up the rest by [`drop_thread_privileges`] when it starts. Only 2 threads have the privileges of
/// the start until [`drop_privileges`]: the main thread, which binds the sockets, and the publisher, which loads the
/// program.
pub(crate) fn decide(config: &Config) {
    KEPT.get_or_init(|| needed(config));
}

/// Gives up the privileges of the start in the main thread, which has to call it. Installs the system call filter in
/// all threads.
pub(crate) fn drop_privileges(config: &Config) {
    decide(config);
    drop_thread_privileges();
    if let Err(error) = filter::install(config.xdp.mode) {
        tracing::warn!("running without a filter for system calls: {error}");
    }
}

/// Warns if a thread still has capabilities that are not needed. Waits some seconds for threads of the start that read
/// a file or look a name up.
pub(crate) async fn look_at_threads() {
    let Some(kept) = KEPT.get() else { return };
    for _look in 0..LOOKS {
        if threads_keep(*kept) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
    tracing::warn!("a thread still has more capabilities than the configuration needs");
}

/// Gives up a new thread's capabilities that are not needed. Its parent may have the privileges of the start.
pub(crate) fn drop_thread_privileges() {
    let Some(kept) = KEPT.get() else { return };
    if !SETTLED.replace(true)
        && let Err(error) = keep(*kept)
    {
        tracing::warn!(%error, "a thread cannot give up its capabilities");
    }
}

/// Reduces this thread's effective and permitted sets to these capabilities.
fn keep(kept: CapabilitySet) -> anyhow::Result<()> {
    let permitted = capabilities(None)?.permitted & kept;
    let sets = CapabilitySets { effective: permitted, permitted, inheritable: CapabilitySet::empty() };
    Ok(set_capabilities(None, sets)?)
}

/// Whether no thread of this process has other capabilities.
fn threads_keep(kept: CapabilitySet) -> bool {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut permitted = threads.filter_map(|thread| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let set = status.lines().find_map(|line| line.strip_prefix("CapPrm:"))?;
        Some(CapabilitySet::from_bits_retain(u64::from_str_radix(set.trim(), 16).ok()?))
    });
    permitted.all(|permitted| kept.contains(permitted))
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use super::*;

    /// Returns a field of proc_pid_status(5).
    fn field(status: &str, name: &str) -> u64 {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }

    #[test]
    fn what_is_kept_is_kept_and_programs_get_nothing() {
        // A separate thread, because the changes last as long as their thread.
        let (own, child) = thread::spawn(|| {
            close().unwrap();
            keep(CapabilitySet::BPF).unwrap();
            let own = fs::read_to_string("/proc/thread-self/status").unwrap();
            let child = Command::new("/bin/cat").arg("/proc/self/status").output().unwrap();
            (own, String::from_utf8(child.stdout).unwrap())
        })
        .join()
        .unwrap();
        assert_eq!(field(&own, "CapPrm") & !CapabilitySet::BPF.bits(), 0, "{own}");
        assert_eq!((field(&own, "CapInh"), field(&own, "CapAmb"), field(&own, "NoNewPrivs")), (0, 0, 1));
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(field(&child, set), 0, "{child}");
        }
        assert_eq!(field(&child, "NoNewPrivs"), 1);
    }
}
