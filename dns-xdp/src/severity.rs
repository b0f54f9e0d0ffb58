//! The severity of a finding: `doctor` has findings about this machine, `delegation verify` about the DNS.
use std::fmt;

use serde::Serialize;

/// The severities, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// There is nothing to do.
    Ok,
    /// The subject works but could work better, or it could not be checked.
    Warn,
    /// The subject does not work, or clients get wrong or late answers.
    Fail,
}

impl Severity {
    /// The word in the output and in JSON.
    pub const fn text(self) -> &'static str {
        match self {
            Severity::Ok => "ok",
            Severity::Warn => "warn",
            Severity::Fail => "fail",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}
