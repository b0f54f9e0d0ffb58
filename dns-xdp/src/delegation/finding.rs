//! What a check of the live delegation found, and what to do about it.
use std::fmt;

use serde::Serialize;

/// How bad it is, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// As it has to be.
    Ok,
    /// It works; something is not as it should be, or could not be looked at.
    Warn,
    /// Clients are answered wrongly, late or not at all.
    Fail,
}

/// What was looked at, in the order in which a resolver meets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// There are at least two name servers (RFC 1034, section 4.1).
    Servers,
    /// A server of the parent zone is known and answers.
    ParentServer,
    /// It refers to the configured name servers and to no other.
    ParentNs,
    /// The referral has the configured address of each of them (RFC 9471).
    ParentGlue,
    /// What resolvers keep of the referral they do not keep longer than the zone's own NS set.
    ParentTtl,
    /// A name server answers over UDP, with authority and the configuration's SOA.
    ServerUdp,
    /// The same over TCP (RFC 7766).
    ServerTcp,
    /// It names the configured name servers.
    ServerNs,
    /// Its answers are kept no longer than configured.
    ServerTtl,
    /// It gives the zone away to nobody.
    ServerAxfr,
    /// It resolves for nobody.
    ServerRecursion,
    /// A client's resolver finds a node.
    Resolver,
    /// It keeps what it found no longer than configured.
    ResolverTtl,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it is.
    pub verdict: Verdict,
    /// What was looked at.
    pub check: Check,
    /// Where: a name, or an address, or both.
    pub subject: String,
    /// What was seen there.
    pub detail: String,
    /// What to do; none when all is well.
    pub remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: Check, subject: impl fmt::Display, detail: impl Into<String>) -> Self {
        let (subject, detail) = (subject.to_string(), detail.into());
        Finding { verdict: Verdict::Ok, check, subject, detail, remedy: None }
    }

    pub(super) fn warn(
        check: Check,
        subject: impl fmt::Display,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let remedy = Some(remedy.into());
        Finding { verdict: Verdict::Warn, remedy, ..Finding::ok(check, subject, detail) }
    }

    pub(super) fn fail(
        check: Check,
        subject: impl fmt::Display,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Finding { verdict: Verdict::Fail, ..Finding::warn(check, subject, detail, remedy) }
    }
}

/// The verdict over all of them.
pub fn worst(findings: &[Finding]) -> Verdict {
    findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
}

impl Verdict {
    /// As it is printed.
    pub const fn text(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "fail",
        }
    }
}

impl Check {
    /// As it is printed, and as JSON has it.
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
        let ok = Finding::ok(Check::Servers, "a", "b");
        let warn = Finding::warn(Check::Resolver, "a", "b", "c");
        let fail = Finding::fail(Check::ParentNs, "a", "b", "c");
        assert_eq!(worst(&[]), Verdict::Ok);
        assert_eq!(worst(&[ok.clone(), warn.clone()]), Verdict::Warn);
        assert_eq!(worst(&[fail, warn, ok]), Verdict::Fail);
    }

    #[test]
    fn json_has_the_printed_words() {
        let json =
            serde_json::to_value(Finding::fail(Check::ServerRecursion, "ns1", "RA", "stop it")).unwrap();
        assert_eq!(json["check"], Check::ServerRecursion.text());
        assert_eq!(json["verdict"], Verdict::Fail.text());
    }
}
