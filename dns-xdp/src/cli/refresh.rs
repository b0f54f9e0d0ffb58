//! Asks the daemon periodically for a screen that shows its last answer.
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::control::CallError;

/// A daemon that does not answer within this time counts as gone.
pub(super) const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

/// Starts a task that asks periodically, and returns its answers. A daemon that does not answer therefore does not
/// block the keyboard. The task ends when the receiver is dropped.
pub(super) fn every<T, F>(
    interval: Duration,
    mut ask: impl FnMut() -> F + Send + 'static,
) -> mpsc::Receiver<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send,
{
    let (sender, answers) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if sender.send(ask().await).await.is_err() {
                return;
            }
        }
    });
    answers
}

/// Whether asking again can help. A daemon may come back. A daemon that has refused this user will refuse it again.
pub(super) fn is_passing(error: &CallError) -> bool {
    !matches!(error, CallError::Denied { .. })
}
