//! Refuses, with EPERM, system calls that neither the daemon nor the operator's commands need.
//!
//! This is a list of refused calls, not of allowed calls. Commands inherit the filter. The calls of an ordinary
//! program, of its C library and of the runtime change from version to version. A list of allowed calls would break
//! them one day. The unit also has a list of allowed calls, in systemd's sets, which follow the system that the unit
//! runs on. The filter kills no process: a refused call returns an error.
use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::config::Mode;

/// The refused calls, grouped by what they could be abused for.
const REFUSED: [&[c_long]; 7] = [
    // Start another kernel, or change the machine.
    &[
        libc::SYS_init_module,
        libc::SYS_finit_module,
        libc::SYS_delete_module,
        libc::SYS_kexec_load,
        libc::SYS_kexec_file_load,
        libc::SYS_reboot,
    ],
    // Access other processes, above all the daemon that has started a command: its memory and its descriptors.
    &[
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_process_madvise,
        libc::SYS_kcmp,
        libc::SYS_pidfd_getfd,
    ],
    // Change the view of the files.
    &[
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_move_mount,
        libc::SYS_open_tree,
        libc::SYS_fsopen,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fspick,
        libc::SYS_mount_setattr,
        libc::SYS_open_by_handle_at,
        libc::SYS_name_to_handle_at,
    ],
    // Enter other namespaces. A user may be root there.
    &[libc::SYS_unshare, libc::SYS_setns],
    // Use large interfaces of the kernel.
    &[
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_fanotify_init,
    ],
    // Change shared state: clock, names, swap, quotas, accounts, the kernel's log.
    &[
        libc::SYS_settimeofday,
        libc::SYS_clock_settime,
        libc::SYS_clock_adjtime,
        libc::SYS_adjtimex,
        libc::SYS_sethostname,
        libc::SYS_setdomainname,
        libc::SYS_swapon,
        libc::SYS_swapoff,
        libc::SYS_quotactl,
        libc::SYS_acct,
        libc::SYS_syslog,
        libc::SYS_vhangup,
    ],
    // Use the kernel's keys.
    &[libc::SYS_add_key, libc::SYS_keyctl, libc::SYS_request_key],
];

/// Installs the filter in every thread of this process, permanently.
///
/// # Errors
/// The filter does not support this architecture, or the kernel does not support filters.
pub(super) fn install(mode: Mode) -> Result<(), seccompiler::Error> {
    seccompiler::apply_filter_all_threads(&compile(mode)?)
}

fn compile(mode: Mode) -> Result<BpfProgram, seccompiler::Error> {
    let refused = REFUSED.into_iter().flatten().copied();
    let bpf = (mode == Mode::Off).then_some(libc::SYS_bpf);
    // Without a condition: a call is refused whatever its arguments.
    let rules: BTreeMap<i64, Vec<_>> = refused.chain(bpf).map(|call| (call, Vec::new())).collect();
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, eperm, architecture)?.try_into()?)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    fn what_is_of_no_use_is_refused_and_an_ordinary_command_runs() {
        // A separate thread, because the filter lasts as long as its thread.
        let (refused, output) = thread::spawn(|| {
            nix::sys::prctl::set_no_new_privs().unwrap();
            seccompiler::apply_filter(&compile(Mode::Auto).unwrap()).unwrap();
            let script =
                "echo begin; cat /proc/self/status | sort | head -1 > /dev/null; unshare -r true || echo end";
            (
                unshare(CloneFlags::CLONE_NEWUSER),
                Command::new("/bin/sh").args(["-c", script]).output().unwrap(),
            )
        })
        .join()
        .unwrap();
        assert_eq!(refused, Err(Errno::EPERM));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "begin\nend\n");
    }

    #[test]
    fn bpf_is_refused_where_there_is_no_xdp() {
        assert!(compile(Mode::Off).unwrap().len() > compile(Mode::Native).unwrap().len());
    }
}
