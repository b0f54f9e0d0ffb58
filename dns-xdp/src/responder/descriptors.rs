//! The number of TCP connections that the descriptor limit allows beside the daemon's other descriptors.
use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The wanted limit: room for the most connections, for the program's maps, and for as many probes and commands.
const WANTED: u64 = 4096;
/// The number of open descriptors to assume if the system does not report it.
const OPEN: usize = 48;

/// Returns the most connections at a time: half of the free descriptors, at most `most`. Probes, the control socket and
/// the metrics need descriptors, too. Raises the soft limit if the hard limit allows it.
pub(super) fn room(most: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return most };
    let wanted = soft.max(WANTED.min(hard));
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        Ok(()) => wanted,
        Err(_) => soft,
    };
    let open = fs::read_dir("/proc/self/fd").map_or(OPEN, Iterator::count);
    let room = room_of(usize::try_from(limit).unwrap_or(usize::MAX), open, most);
    if room < most {
        tracing::warn!(
            "room for {room} tcp connections at a time, because the limit of open files is {limit} (LimitNOFILE): \
             {WANTED} make room for {most}"
        );
    }
    room
}

fn room_of(limit: usize, open: usize, most: usize) -> usize {
    (limit.saturating_sub(open) / 2).clamp(1, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_half_of_the_free_descriptors_to_others() {
        assert_eq!(room_of(4096, 40, 1024), 1024);
        assert_eq!(room_of(1024, 40, 1024), 492);
        assert_eq!(room_of(64, 40, 1024), 12);
        assert_eq!(room_of(40, 64, 1024), 1, "somebody has to be served");
    }

    /// Limits belong to a process, and other tests share this one. The test therefore runs again in a process of its
    /// own.
    #[test]
    fn the_soft_limit_is_raised_and_open_descriptors_are_taken_from_it() {
        const ALONE: &str = "DNS_XDP_TEST_ALONE";
        const NAME: &str =
            "responder::descriptors::tests::the_soft_limit_is_raised_and_open_descriptors_are_taken_from_it";
        if std::env::var_os(ALONE).is_none() {
            let limited = "ulimit -S -n 64 && ulimit -H -n 200 && exec \"$0\" \"$@\"";
            let mut command = std::process::Command::new("/bin/sh");
            command.args(["-c", limited]).arg(std::env::current_exe().unwrap());
            let output = command.args(["--exact", NAME]).env(ALONE, "1").output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && told.contains(" 1 passed"), "{told}");
            return;
        }
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((64, 200)));
        let _files = [(); 40].map(|()| fs::File::open("/dev/null").unwrap());
        let open = fs::read_dir("/proc/self/fd").unwrap().count();
        assert!(open > 40, "{open}");
        assert_eq!(room(1024), (200 - open) / 2);
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok((200, 200)), "the soft limit is as it was");
        assert_eq!(room(10), 10);
    }
}
