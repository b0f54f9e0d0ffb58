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

use std::fmt;

use serde::Serialize;

pub use examine::findings;
pub use gather::gather;
pub use remedy::{Kind, Remedy};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Nothing to do.
    Ok,
    /// It works, and could work better.
    Warn,
    /// It does not work.
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "fail",
        })
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What was looked at: `kernel`, `eth0 queues`.
    pub what: String,
    /// What was found.
    pub text: String,
    /// What to do. `None`: nothing is to be done, or nothing that this machine knows.
    pub remedy: Option<Remedy>,
}

impl Finding {
    fn ok(what: impl Into<String>, text: impl Into<String>) -> Self {
        Finding { level: Level::Ok, what: what.into(), text: text.into(), remedy: None }
    }

    fn warn(what: impl Into<String>, text: impl Into<String>, remedy: impl Into<Option<Remedy>>) -> Self {
        Finding { level: Level::Warn, what: what.into(), text: text.into(), remedy: remedy.into() }
    }

    fn fail(what: impl Into<String>, text: impl Into<String>, remedy: impl Into<Option<Remedy>>) -> Self {
        Finding { level: Level::Fail, what: what.into(), text: text.into(), remedy: remedy.into() }
    }
}
