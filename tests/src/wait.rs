//! Waiting for something to come true, with a deadline and an error that says what was seen last.
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

/// From one look to the next.
pub const POLL: Duration = Duration::from_millis(20);

/// Looks every [`POLL`] until `look` succeeds, and returns what it saw with the time that it took.
///
/// # Errors
/// The last error of `look` when `limit` has passed.
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

fn late(what: &str, limit: Duration, error: &Error) -> Error {
    anyhow!("{what}: not within {limit:?}: {error:#}")
}

#[cfg(test)]
mod tests {
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
    fn what_does_not_come_true_is_named_with_what_was_seen() {
        let error = until("rain", Duration::ZERO, || -> Result<()> { Err(anyhow!("sun")) }).unwrap_err();
        assert_eq!(error.to_string(), "rain: not within 0ns: sun");
    }
}
