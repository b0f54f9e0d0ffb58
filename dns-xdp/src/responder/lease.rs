//! The responder's lease. A daemon that hangs does not renew it, and the responder falls silent.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A lease. It has no end until it is renewed for a time. Clones share it.
#[derive(Debug, Clone)]
pub struct Lease {
    origin: Instant,
    /// Milliseconds since the origin.
    end: Arc<AtomicU64>,
}

impl Default for Lease {
    fn default() -> Self {
        Lease { origin: Instant::now(), end: Arc::new(AtomicU64::new(u64::MAX)) }
    }
}

impl Lease {
    /// Lets the lease end after `time` from now; `None`: never.
    pub fn renew(&self, time: Option<Duration>) {
        let end = time.map(|time| (self.origin.elapsed() + time).as_millis());
        let end = end.and_then(|end| u64::try_from(end).ok()).unwrap_or(u64::MAX);
        self.end.store(end, Ordering::Relaxed);
    }

    /// Whether its time is over.
    pub fn is_over(&self) -> bool {
        let end = self.end.load(Ordering::Relaxed);
        end != u64::MAX && self.origin.elapsed() >= Duration::from_millis(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_at_its_time_and_is_renewed_by_any_of_its_clones() {
        let lease = Lease::default();
        assert!(!lease.is_over());
        let other = lease.clone();
        other.renew(Some(Duration::ZERO));
        assert!(lease.is_over());
        other.renew(Some(Duration::from_secs(3600)));
        assert!(!lease.is_over());
        other.renew(None);
        assert!(!lease.is_over());
    }
}
