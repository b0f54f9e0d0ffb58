//! Finds out why a node does not, or would not, answer. Collects facts about the machine, and derives findings.
//!
//! `gather` collects the facts from `host`, `features`, `daemon` and the folders below. `examine` derives the findings
//! and is pure. `remedy` has the commands to type. Nothing here changes the machine.
mod daemon;
mod examine;
pub mod facts;
mod features;
mod gather;
mod host;
mod remedy;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use examine::findings;
pub use gather::gather;
pub use remedy::{Kind, Remedy};

use crate::severity::Severity;

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The severity.
    pub level: Severity,
    /// The subject: `kernel`, `eth0 queues`.
    pub what: String,
    /// The finding as text.
    pub text: String,
    /// The remedy. `None`: there is nothing to do, or no command for it.
    pub remedy: Option<Remedy>,
}

impl Finding {
    fn ok(what: impl Into<String>, text: impl Into<String>) -> Self {
        Finding { level: Severity::Ok, what: what.into(), text: text.into(), remedy: None }
    }

    fn warn(what: impl Into<String>, text: impl Into<String>, remedy: impl Into<Option<Remedy>>) -> Self {
        Finding { level: Severity::Warn, what: what.into(), text: text.into(), remedy: remedy.into() }
    }

    fn fail(what: impl Into<String>, text: impl Into<String>, remedy: impl Into<Option<Remedy>>) -> Self {
        Finding { level: Severity::Fail, what: what.into(), text: text.into(), remedy: remedy.into() }
    }
}
