//! How bad a finding is: `doctor` says it of this machine, `delegation --verify` of the DNS.
use std::fmt;

use serde::Serialize;

/// From good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it has to be: nothing to do.
    Ok,
    /// It works; it could work better, or could not be looked at.
    Warn,
    /// It does not work, or clients are answered wrongly or late.
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
