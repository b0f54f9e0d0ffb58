//! The common parts of the import task and the export task: the handle, the pause between tries, the alarm, and the
//! comparison with the store.
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::store::client::repeated_ends::RepeatedEnds;
use crate::store::client::watch_lag::{Extent, WatchLag};
use crate::store::{Error, Listing, Store};

/// The pause between two tries of a task.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// The number of failed tries in a row that raises the alarm.
const TRIES: u32 = 10;

/// The time between two comparisons of a task's listing with the store.
const COMPARISON_INTERVAL: Duration = Duration::from_secs(3);

/// Compares a task's listing with the store from time to time. This detects a silent watch and a dead connection.
#[derive(Debug)]
pub(super) struct Comparison {
    next: Instant,
    watch_lag: WatchLag,
}

impl Comparison {
    /// Starts the comparison with a listing that was just taken.
    pub(super) fn new() -> Self {
        Comparison { next: Instant::now() + COMPARISON_INTERVAL, watch_lag: WatchLag::default() }
    }

    /// Waits until the next comparison. Cancel safe.
    pub(super) async fn due(&self) {
        sleep_until(self.next).await;
    }

    /// Compares the listing with the store.
    ///
    /// # Errors
    /// The store does not answer, or the watch has missed something since the last comparison.
    pub(super) async fn compare<S: Store>(&mut self, store: &S, listing: &Listing) -> Result<(), Error> {
        let extent = store.extent().await?;
        self.next = Instant::now() + COMPARISON_INTERVAL;
        if self.watch_lag.is_behind(extent, Extent::of(listing)) {
            let newest = extent.newest;
            let text = format!("the watch is silent, and the store has changed at revision {newest}");
            return Err(Error::Unreachable(text));
        }
        Ok(())
    }
}

/// A task that runs until this is dropped.
#[derive(Debug)]
pub struct Task {
    trouble: watch::Receiver<Option<String>>,
    handle: JoinHandle<()>,
}

impl Task {
    /// Starts a task, which reports its [`Trouble`]. Needs a tokio runtime.
    pub(super) fn start<T: Future<Output = ()> + Send + 'static>(run: impl FnOnce(Trouble) -> T) -> Task {
        let (sender, trouble) = watch::channel(None);
        Task { trouble, handle: tokio::spawn(run(Trouble { sender, ends: RepeatedEnds::default() })) }
    }

    /// Whether the task has ended. It ends only by a defect, or with the session of the store.
    pub fn has_ended(&self) -> bool {
        self.handle.is_finished()
    }

    /// Why the task cannot do its work; `None`: it can.
    pub fn alarm(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Waits for an alarm that satisfies `holds`.
    #[cfg(test)]
    pub(super) async fn alarm_that(&mut self, fits: impl Fn(Option<&str>) -> bool) -> Option<String> {
        let alarm = self.trouble.wait_for(|alarm| fits(alarm.as_deref())).await;
        alarm.expect("the task lives").clone()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// The trouble of a task. Each change is logged once.
#[derive(Debug)]
pub(super) struct Trouble {
    sender: watch::Sender<Option<String>>,
    /// The ends of connections that had worked until then.
    ends: RepeatedEnds,
}

impl Trouble {
    /// Counts a failed try. Ten in a row, or a refusal of the store, raise the alarm.
    pub(super) fn failed(&mut self, failures: &mut u32, what: &str, error: &Error) {
        tracing::debug!("{what}: {error}");
        if *failures == 0
            && let Some(ends) = self.ends.count(Instant::now())
        {
            tracing::warn!(
                "{what}: {ends} connections have ended within a minute, this one because of: {error}"
            );
        }
        *failures += 1;
        let is_known = self.sender.borrow().is_some();
        if !is_known && (*failures >= TRIES || matches!(error, Error::Denied(_))) {
            self.set(Some(format!("{what}: {error}")));
        }
    }

    /// Raises the alarm, or ends it.
    pub(super) fn set(&self, trouble: Option<String>) {
        self.sender.send_if_modified(|before| {
            if *before == trouble {
                return false;
            }
            match &trouble {
                Some(trouble) => tracing::error!("{trouble}"),
                None => tracing::info!("no longer: {}", before.as_deref().unwrap_or_default()),
            }
            *before = trouble;
            true
        });
    }
}
