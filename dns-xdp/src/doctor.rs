//! What an operator would look at by hand before, and when, a node does not answer: facts, and the findings they amount to.
//!
//! `gather` collects the facts, from `host`, `features`, `daemon` and the folders below; `examine` turns them into findings
//! and is pure; `remedy` is what to type. Nothing here changes the machine.
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
    /// How bad it is.
    pub level: Severity,
    /// What was looked at: `kernel`, `eth0 queues`.
    pub what: String,
    /// What was found.
    pub text: String,
    /// What to do. `None`: nothing is to be done, or nothing that this machine knows.
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
