//! What the task of the import and that of the export share: the handle, the pause between tries, the alarm.
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::store::Error;

/// The pause between two tries of a task.
pub(super) const PAUSE: Duration = Duration::from_millis(200);
/// So many failed tries in a row raise the alarm.
const TRIES: u32 = 10;

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
        Task { trouble, handle: tokio::spawn(run(Trouble(sender))) }
    }

    /// Whether the task has ended. It ends only by a defect, or with the session of the store.
    pub fn has_ended(&self) -> bool {
        self.handle.is_finished()
    }

    /// Why the task cannot do its work; `None`: it can.
    pub fn alarm(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Waits for an alarm that fits.
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

/// What is wrong with a task. Each change is logged once.
#[derive(Debug)]
pub(super) struct Trouble(watch::Sender<Option<String>>);

impl Trouble {
    /// Counts a failed try. Ten in a row, or a refusal of the store, raise the alarm.
    pub(super) fn failed(&self, failures: &mut u32, what: &str, error: &Error) {
        *failures += 1;
        tracing::debug!("{what}: {error}");
        let is_known = self.0.borrow().is_some();
        if !is_known && (*failures >= TRIES || matches!(error, Error::Denied(_))) {
            self.set(Some(format!("{what}: {error}")));
        }
    }

    /// Raises the alarm, or ends it.
    pub(super) fn set(&self, trouble: Option<String>) {
        self.0.send_if_modified(|before| {
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
