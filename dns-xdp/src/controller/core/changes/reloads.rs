//! Reloads: those without a waiting client, and files that are held back.
//!
//! A file that lacks many nodes may be the first part of one that a program has not finished writing.
use std::time::Duration;

use super::super::source::Removed;
use super::super::{Core, occurrences};
use super::{Asker, What};
use crate::control::{Refusal, RefusalKind};

/// The pause between the beginnings of two reloads that no client waits for.
const UNASKED_PAUSE: Duration = Duration::from_secs(1);
/// The most names in a message.
const NAMED: usize = 5;

/// Reloads that no client waits for: by SIGHUP, or because the watched file has changed.
#[derive(Debug, Default)]
pub(super) struct Unasked {
    /// When the last one began.
    began: Option<Duration>,
    /// Whether another reload has to begin after the pause.
    is_due: bool,
    /// Whether the file is held back.
    is_held_back: bool,
}

impl Unasked {
    pub(super) fn begin(&mut self, now: Duration) {
        self.began = Some(now);
    }
}

impl Core {
    /// Queues a reload that no client waits for, unless one is queued already. Many signals or changes of the file
    /// cause at most one reload per [`UNASKED_PAUSE`].
    pub(in crate::controller::core) fn reload_unasked(&mut self) {
        let unasked = &mut self.changes.unasked;
        unasked.is_due = unasked.began.is_some_and(|began| self.now.elapsed < began + UNASKED_PAUSE);
        let is_reload = |(asker, ..): &(Asker, What, Duration)| *asker == Asker::NoClient;
        if !self.changes.unasked.is_due && !self.changes.waiting.iter().any(is_reload) {
            self.change(Asker::NoClient, What::Reload { force: false, text: None });
        }
    }

    /// Begins a reload that was asked for too soon after another.
    pub(in crate::controller::core) fn reload_if_due(&mut self) {
        if self.changes.unasked.is_due {
            self.reload_unasked();
        }
    }

    /// Takes a new text of the watched file.
    pub(in crate::controller::core) fn file_settled(&mut self, text: &Result<String, String>) {
        if text.as_ref().is_ok_and(|text| self.source.is_filed(text)) {
            self.nothing_is_refused();
        } else if self.is_live() {
            // The file is read again when the reload's turn comes: an earlier change may write the file.
            self.reload_unasked();
        }
    }

    /// The refusal of a file that removes more than half of the nodes, or this server's own.
    pub(in crate::controller::core) fn held_back(&self, removed: &Removed) -> Option<Refusal> {
        let why = if removed.names.contains(&self.identity) {
            format!("this server's own node, `{}`", self.identity)
        } else if removed.names.len() * 2 > removed.of {
            format!("{} of {} nodes, more than half", removed.names.len(), removed.of)
        } else {
            return None;
        };
        let mut names: Vec<&str> = removed.names.iter().map(String::as_str).collect();
        let more = names.len().saturating_sub(NAMED);
        names.truncate(NAMED);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        let message = format!(
            "{} would remove {why} ({}{more}): nothing was changed. If the file is complete and that is wanted: dns-xdp reload \
             --force",
            self.source.path().display(),
            names.join(", "),
        );
        Some(Refusal::new(RefusalKind::Conflict, message))
    }

    /// Reports that a reload without a client is held back. The report is made once, until a reload is not held back.
    pub(super) fn hold_back(&mut self, asker: Asker, refusal: &Refusal) {
        if asker == Asker::NoClient && !self.changes.unasked.is_held_back {
            self.changes.unasked.is_held_back = true;
            self.emit(occurrences::held_back(&refusal.message));
        }
    }

    /// Clears the refusal: the file is in force, or its refusal no longer holds.
    pub(super) fn nothing_is_refused(&mut self) {
        self.refused = None;
        if std::mem::take(&mut self.changes.unasked.is_held_back) {
            self.emit(occurrences::no_longer_held_back());
        }
    }
}
