//! Notices that this machine was stopped: it was suspended, or it is a virtual machine that was paused and continued.
//!
//! The daemon's clock stands still during the stop, so nothing looks late afterwards. Another clock goes on: the clock
//! that counts suspends, the hardware clock or, without a hardware clock, the wall clock. Once a second the clocks are
//! compared.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

use super::Done;
use crate::controller::core::Input;
use crate::privileges;

/// The time between two looks at the clocks.
const INTERVAL: Duration = Duration::from_secs(1);
/// The shortest stop that is noticed: the hardware clock counts whole seconds.
const LEAST: Duration = Duration::from_secs(3);
/// The hardware clock in seconds since 1970. Reading the file asks the hardware.
const HARDWARE_CLOCK: &str = "/sys/class/rtc/rtc0/since_epoch";

/// The clocks at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    /// The daemon's own clock, which stands still while the machine is stopped.
    own: Duration,
    /// The clock that also counts suspends.
    with_suspends: Duration,
    /// The clock that goes on even while the machine is stopped.
    outside: Duration,
}

impl Look {
    /// How long the machine was stopped between an earlier look and this one; `None`: it was not.
    fn stopped_since(&self, before: &Look) -> Option<Duration> {
        let own = self.own.saturating_sub(before.own);
        let others = [(self.with_suspends, before.with_suspends), (self.outside, before.outside)];
        // A clock that was set back tells nothing.
        let went = others.map(|(now, before)| now.saturating_sub(before));
        let stopped = went.into_iter().max()?.saturating_sub(own);
        (stopped >= LEAST).then_some(stopped)
    }
}

/// The clock that goes on while the machine is stopped.
enum Outside {
    Hardware(File),
    Wall,
}

impl Outside {
    fn open() -> Outside {
        let hardware = File::open(HARDWARE_CLOCK).ok().filter(|file| seconds(file).is_ok());
        hardware.map_or(Outside::Wall, Outside::Hardware)
    }

    fn look(&self, origin: Instant) -> io::Result<Look> {
        let outside = match self {
            Outside::Hardware(file) => seconds(file)?,
            Outside::Wall => Duration::try_from(Timestamp::now().as_duration()).map_err(io::Error::other)?,
        };
        let with_suspends = clock_gettime(ClockId::CLOCK_BOOTTIME)?.into();
        Ok(Look { own: origin.elapsed(), with_suspends, outside })
    }
}

fn seconds(file: &File) -> io::Result<Duration> {
    let mut text = [0; 32];
    let length = file.read_at(&mut text, 0)?;
    let text = str::from_utf8(&text[..length]).map_err(io::Error::other)?;
    text.trim().parse().map(Duration::from_secs).map_err(io::Error::other)
}

/// Watches the clocks, until the receiver is dropped. It has its own thread, because some hardware clocks are slow.
///
/// # Errors
/// A thread cannot be started.
pub(super) fn watch(tell: mpsc::UnboundedSender<Done>) -> io::Result<()> {
    let watched = thread::Builder::new().name("clocks".to_owned()).spawn(move || {
        privileges::drop_thread_privileges();
        let (outside, origin) = (Outside::open(), Instant::now());
        let mut before = None;
        while !tell.is_closed() {
            // A clock that cannot be read this time is read the next time.
            let look = outside.look(origin).ok();
            let stopped =
                look.zip(before).and_then(|(look, before): (Look, Look)| look.stopped_since(&before));
            if let Some(stopped) = stopped {
                tell.send(Done::Input(Input::WasStopped(stopped))).ok();
            }
            before = look.or(before);
            thread::sleep(INTERVAL);
        }
    })?;
    drop(watched);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(own: u64, with_suspends: u64, outside: u64) -> Look {
        let [own, with_suspends, outside] = [own, with_suspends, outside].map(Duration::from_secs);
        Look { own, with_suspends, outside }
    }

    #[test]
    fn a_machine_that_was_stopped_is_noticed_by_the_clock_that_went_on() {
        let before = look(100, 100, 1_000_000);
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(look(101, 101, 1_003_601).stopped_since(&before), seconds(3600), "paused");
        assert_eq!(look(101, 161, 1_000_061).stopped_since(&before), seconds(60), "suspended");
        assert_eq!(
            look(101, 161, 1_000_001).stopped_since(&before),
            seconds(60),
            "suspended, no other clock"
        );
    }

    #[test]
    fn neither_a_busy_machine_nor_a_coarse_clock_nor_one_that_is_set_back_is_a_stop() {
        let before = look(100, 100, 1_000_000);
        for now in [
            look(101, 101, 1_000_001),
            look(101, 101, 1_000_003),
            look(130, 130, 1_000_030),
            look(101, 101, 996_400),
            look(101, 101, 1_000_000),
        ] {
            assert_eq!(now.stopped_since(&before), None, "{now:?}");
        }
    }
}
