//! Waits for a condition, with a deadline and an error that has the last observation.
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

/// The time between two calls.
pub const POLL: Duration = Duration::from_millis(20);

/// Calls `look` every [`POLL`] until it succeeds. Returns its result and the time that passed.
///
/// # Errors
/// `look` does not succeed within `limit`. The error is its last one.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(seen) => return Ok((seen, start.elapsed())),
            Err(error) if start.elapsed() > limit => return Err(late(what, limit, &error)),
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Calls `each` repeatedly, on its own thread, while `change` is made.
///
/// # Errors
/// `change` fails, or `each` fails. After its first error, `each` is not called again.
pub fn meanwhile(
    mut each: impl FnMut() -> Result<()> + Send,
    change: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                each()?;
            }
            Ok(())
        });
        let changed = change();
        is_over.store(true, Ordering::Relaxed);
        let seen = client.join().expect("what is called meanwhile does not panic");
        changed.and(seen)
    })
}

fn late(what: &str, limit: Duration, error: &Error) -> Error {
    anyhow!("{what}: not within {limit:?}: {error:#}")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn what_comes_true_is_returned() {
        let mut looks = 0;
        let look = || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(anyhow!("only {looks}")) }
        };
        assert_eq!(until("three looks", Duration::from_secs(5), look).unwrap().0, 3);
    }

    #[test]
    fn what_fails_meanwhile_is_told_when_the_change_is_made() {
        let (failing, failed) = mpsc::channel();
        let mut calls = 0;
        let each = || {
            calls += 1;
            if calls < 3 {
                return Ok(());
            }
            failing.send(())?;
            Err(anyhow!("call {calls}"))
        };
        let change = || Ok(failed.recv()?);
        assert_eq!(meanwhile(each, change).unwrap_err().to_string(), "call 3");
    }

    #[test]
    fn what_does_not_come_true_is_named_with_what_was_seen() {
        let error = until("rain", Duration::ZERO, || -> Result<()> { Err(anyhow!("sun")) }).unwrap_err();
        assert_eq!(error.to_string(), "rain: not within 0ns: sun");
    }
}
