//! The only place that reports occurrences: to the log, the journal and the on-event command.
use std::sync::Arc;

use jiff::Timestamp;

use super::on_event::{Notified, Notifier};
use crate::config;
use crate::event::{Journal, Occurrence};

/// The destination of all occurrences; clones share it. Reporting never waits.
#[derive(Debug, Clone)]
pub(super) struct EventSink {
    journal: Arc<Journal>,
    notifier: Arc<Notifier>,
}

impl EventSink {
    /// Creates the sink. Needs a tokio runtime.
    pub(super) fn new(config: &config::Events) -> Self {
        let journal = Arc::new(Journal::new(Timestamp::now()));
        EventSink { journal, notifier: Arc::new(Notifier::start(config)) }
    }

    /// Reports an occurrence.
    pub(super) fn tell(&self, what: Occurrence) {
        if what.kind.is_grave() {
            tracing::warn!("{what}");
        } else {
            tracing::info!("{what}");
        }
        let event = self.journal.append(Timestamp::now(), what);
        self.notifier.offer(event);
    }

    /// The journal that the control socket reads.
    pub(super) fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// Uses this configuration from the next event on.
    pub(super) fn configure(&self, config: &config::Events) {
        self.notifier.configure(config);
    }

    /// The number of events reported.
    pub(super) fn count(&self) -> u64 {
        self.journal.newest()
    }

    /// The counters of the on-event command's runs.
    pub(super) fn notified(&self) -> Notified {
        self.notifier.notified()
    }

    /// Gives the on-event command some time for the last events. The command gets no event afterwards.
    pub(super) async fn finish(&self) {
        self.notifier.finish().await;
    }
}
