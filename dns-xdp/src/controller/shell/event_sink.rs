//! The one way in which the daemon tells what happened: to its log, its journal, and the on-event command.
use std::sync::Arc;

use jiff::Timestamp;

use super::on_event::{Notified, Notifier};
use crate::config;
use crate::event::{Journal, Occurrence};

/// Where occurrences go; a clone is the same. Telling never waits for anybody.
#[derive(Debug, Clone)]
pub(super) struct EventSink {
    journal: Arc<Journal>,
    notifier: Arc<Notifier>,
}

impl EventSink {
    /// Needs a tokio runtime.
    pub(super) fn new(config: &config::Events) -> Self {
        let journal = Arc::new(Journal::new(Timestamp::now()));
        EventSink { journal, notifier: Arc::new(Notifier::start(config)) }
    }

    /// Tells what happened.
    pub(super) fn tell(&self, what: Occurrence) {
        if what.kind.is_grave() {
            tracing::warn!("{what}");
        } else {
            tracing::info!("{what}");
        }
        let event = self.journal.append(Timestamp::now(), what);
        self.notifier.offer(event);
    }

    /// What the control socket reads.
    pub(super) fn journal(&self) -> Arc<Journal> {
        Arc::clone(&self.journal)
    }

    /// Obeys another configuration from the next event on.
    pub(super) fn configure(&self, config: &config::Events) {
        self.notifier.configure(config);
    }

    /// Events told.
    pub(super) fn count(&self) -> u64 {
        self.journal.newest()
    }

    /// What became of the on-event command's runs.
    pub(super) fn notified(&self) -> Notified {
        self.notifier.notified()
    }

    /// Lets the on-event command hear the last ones, for a moment. Nothing reaches it afterwards.
    pub(super) async fn finish(&self) {
        self.notifier.finish().await;
    }
}
