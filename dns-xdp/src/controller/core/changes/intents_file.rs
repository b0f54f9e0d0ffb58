//! Writes of the intents in force that no change waits for. A failed write raises an alarm and is repeated.
use std::time::Duration;

use super::super::Core;
use super::super::input::{Effect, WorkId};
use super::WORK_TIMEOUT;

/// The pause between a failed write and the next one.
const RETRY: Duration = Duration::from_secs(5);

/// The writes that no change waits for.
#[derive(Debug, Default)]
pub(super) struct BackgroundWrites {
    /// The write under way, and when it began.
    under_way: Option<(WorkId, Duration)>,
    /// Why the file does not have the intents in force, and since when this is known.
    failed: Option<(String, Duration)>,
}

impl BackgroundWrites {
    /// Notes that the file has the intents in force, or that a later write is under way.
    pub(super) fn succeeded(&mut self) {
        self.failed = None;
    }

    /// Notes that the file does not have the intents in force.
    pub(super) fn failed(&mut self, error: String, now: Duration) {
        self.failed = Some((error, now));
    }
}

impl Core {
    /// Begins to write the intents in force to disk; a failed write is repeated. Beside a store, writes only the
    /// decisions that the store does not have.
    pub(in crate::controller::core) fn keep_intents(&mut self) {
        let work =
            if self.shared.is_some() { self.write_local(&self.local.clone()) } else { self.save_intents() };
        self.changes.background.under_way = Some((work, self.now.elapsed));
    }

    /// Takes the result of a write that no change waits for.
    pub(super) fn kept_intents(&mut self, work: WorkId, result: Result<(), String>) {
        let writes = &mut self.changes.background;
        if writes.under_way.take_if(|(own, _)| *own == work).is_none() {
            // A later write follows.
            return;
        }
        match result {
            Ok(()) => writes.succeeded(),
            Err(error) => {
                if writes.failed.as_ref().is_none_or(|(before, _)| *before != error) {
                    self.effects.push(Effect::Warn(error.clone()));
                }
                writes.failed(error, self.now.elapsed);
            }
        }
    }

    /// Repeats a failed write after a pause.
    pub(in crate::controller::core) fn keep_intents_again(&mut self) {
        let BackgroundWrites { under_way, failed } = &self.changes.background;
        let is_due = failed.as_ref().is_some_and(|(_, at)| self.now.elapsed >= *at + RETRY);
        if is_due && under_way.is_none() {
            self.keep_intents();
        }
    }

    /// The alarm that the file does not have the intents in force.
    pub(in crate::controller::core) fn unkept_alarm(&self) -> Option<String> {
        let BackgroundWrites { under_way, failed } = &self.changes.background;
        let hangs = under_way.is_some_and(|(_, began)| self.now.elapsed >= began + WORK_TIMEOUT);
        let hangs = hangs.then(|| format!("it is not written within {} s", WORK_TIMEOUT.as_secs()));
        let why = failed.as_ref().map(|(error, _)| error.clone()).or(hangs)?;
        let control = &self.health.config().control;
        let file = if self.shared.is_some() { control.local() } else { control.state.clone() };
        Some(format!(
            "{} does not have what operators want of the nodes now: {why}. A restart would bring back what has ended; make the \
             file writable, the daemon tries again every {} s",
            file.display(),
            RETRY.as_secs()
        ))
    }
}
