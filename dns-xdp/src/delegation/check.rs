//! The results of checking the live delegation, with remedies.
use std::fmt;

use serde::Serialize;

use crate::severity::Severity;

/// The checks. A resolver depends on them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// There are at least two name servers (RFC 1034, section 4.1).
    Servers,
    /// A server of the parent zone is known and answers.
    ParentServer,
    /// The parent's server refers to exactly the configured name servers.
    ParentNs,
    /// The referral has the configured addresses of each name server (RFC 9471).
    ParentGlue,
    /// Resolvers keep the referral no longer than the zone's own NS set.
    ParentTtl,
    /// A name server answers over UDP, with authority and the configuration's SOA.
    ServerUdp,
    /// A name server answers over TCP (RFC 7766).
    ServerTcp,
    /// A name server names the configured name servers.
    ServerNs,
    /// The TTLs of a name server's answers are at most the configured TTLs.
    ServerTtl,
    /// A name server refuses zone transfers.
    ServerAxfr,
    /// A name server refuses recursion.
    ServerRecursion,
    /// A client's resolver finds a node.
    Resolver,
    /// The resolver keeps answers no longer than configured.
    ResolverTtl,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// The verdict.
    pub verdict: Severity,
    /// The check.
    pub check: Check,
    /// The checked name, address, or both.
    pub subject: String,
    /// The finding.
    pub detail: String,
    /// The remedy; `None`: nothing is wrong.
    pub remedy: Option<String>,
}

impl CheckResult {
    pub(super) fn ok(check: Check, subject: impl fmt::Display, detail: impl Into<String>) -> Self {
        let (subject, detail) = (subject.to_string(), detail.into());
        CheckResult { verdict: Severity::Ok, check, subject, detail, remedy: None }
    }

    pub(super) fn warn(
        check: Check,
        subject: impl fmt::Display,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into());
        CheckResult { verdict: Severity::Warn, remedy, ..CheckResult::ok(check, subject, detail) }
    }

    pub(super) fn fail(
        check: Check,
        subject: impl fmt::Display,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        CheckResult { verdict: Severity::Fail, ..CheckResult::warn(check, subject, detail, remedy) }
    }
}

/// Returns the worst verdict of all.
pub fn worst(findings: &[CheckResult]) -> Severity {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Severity::Ok)
}

impl Check {
    /// Returns the word in the output and in JSON.
    pub const fn text(self) -> &'static str {
        match self {
            Check::Servers => "servers",
            Check::ParentServer => "parent-server",
            Check::ParentNs => "parent-ns",
            Check::ParentGlue => "parent-glue",
            Check::ParentTtl => "parent-ttl",
            Check::ServerUdp => "server-udp",
            Check::ServerTcp => "server-tcp",
            Check::ServerNs => "server-ns",
            Check::ServerTtl => "server-ttl",
            Check::ServerAxfr => "server-axfr",
            Check::ServerRecursion => "server-recursion",
            Check::Resolver => "resolver",
            Check::ResolverTtl => "resolver-ttl",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_finding_is_the_verdict() {
        let ok = CheckResult::ok(Check::Servers, "a", "b");
        let warn = CheckResult::warn(Check::Resolver, "a", "b", "c");
        let fail = CheckResult::fail(Check::ParentNs, "a", "b", "c");
        assert_eq!(worst(&[]), Severity::Ok);
        assert_eq!(worst(&[ok.clone(), warn.clone()]), Severity::Warn);
        assert_eq!(worst(&[fail, warn, ok]), Severity::Fail);
    }

    #[test]
    fn json_has_the_printed_words() {
        let json =
            serde_json::to_value(CheckResult::fail(Check::ServerRecursion, "ns1", "RA", "stop it")).unwrap();
        assert_eq!(json["check"], Check::ServerRecursion.text());
        assert_eq!(json["verdict"], Severity::Fail.text());
    }
}
