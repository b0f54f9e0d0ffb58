//! What an operator would look at by hand before, and when, a node does not answer: facts, and the findings they amount to.
mod device;
mod examine;
pub mod facts;
mod features;
mod gather;
mod host;
#[cfg(test)]
mod tests;

use std::fmt;

use serde::Serialize;

pub use examine::findings;
pub use gather::gather;

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
    /// A command to type, or a line to write. `None` when nothing is to be done.
    pub remedy: Option<String>,
}

impl Finding {
    fn ok(what: impl Into<String>, text: impl Into<String>) -> Self {
        Finding { level: Level::Ok, what: what.into(), text: text.into(), remedy: None }
    }

    fn warn(what: impl Into<String>, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Finding { level: Level::Warn, what: what.into(), text: text.into(), remedy }
    }

    fn fail(what: impl Into<String>, text: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Finding { level: Level::Fail, what: what.into(), text: text.into(), remedy }
    }
}
