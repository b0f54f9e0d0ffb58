//! The kinds of probe, each with its settings.
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use hickory_proto::rr::Name;
use regex::bytes::Regex;
use rustls::pki_types::CertificateDer;

/// The kinds of probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// An established TCP connection is a success.
    Tcp {
        /// Destination port.
        port: u16,
    },
    /// A TCP reply that contains the expected text is a success.
    TcpDialogue(TcpDialogue),
    /// The expected response to a GET request, with or without TLS, is a success.
    Http(Http),
    /// A Redis server that answers PING with PONG is a success.
    Redis(Redis),
    /// An echo reply is a success (RFC 792, RFC 4443).
    Icmp,
    /// An authoritative answer is a success.
    Dns(Dns),
    /// A command that exits with 0 is a success.
    Exec(Exec),
}

impl ProbeKind {
    /// Returns the name in the configuration.
    pub fn text(&self) -> &'static str {
        match self {
            ProbeKind::Tcp { .. } | ProbeKind::TcpDialogue(_) => "tcp",
            ProbeKind::Http(Http { tls: None, .. }) => "http",
            ProbeKind::Http(Http { tls: Some(_), .. }) => "https",
            ProbeKind::Redis(_) => "redis",
            ProbeKind::Icmp => "icmp",
            ProbeKind::Dns(_) => "dns",
            ProbeKind::Exec(_) => "exec",
        }
    }
}

impl fmt::Display for ProbeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())?;
        match self {
            ProbeKind::Tcp { port } => write!(f, " port {port}"),
            ProbeKind::TcpDialogue(tcp) => write!(f, " port {} {}", tcp.port, tcp.expect),
            ProbeKind::Redis(redis) => {
                write!(f, " port {}", redis.port)?;
                f.write_str(if redis.tls.is_some() { " over tls" } else { "" })?;
                f.write_str(if redis.role == Role::Master { " role master" } else { "" })
            }
            ProbeKind::Http(http) => write!(f, " port {} {}", http.port, http.path),
            ProbeKind::Icmp => Ok(()),
            ProbeKind::Dns(dns) => write!(f, " port {} SOA {}", dns.port, dns.name),
            ProbeKind::Exec(exec) => write!(f, " {}", exec.command.join(" ")),
        }
    }
}

/// The text that is sent over a TCP connection, and the expected reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpDialogue {
    /// Destination port.
    pub port: u16,
    /// The text that is sent; `None`: the server speaks first.
    pub send: Option<String>,
    /// The expected contents of the reply.
    pub expect: Expect,
}

/// The expected contents of the first octets of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// These octets, anywhere; not empty.
    Text(String),
    /// A match of a regular expression.
    Pattern(Pattern),
}

impl Expect {
    /// Whether the reply contains it.
    pub fn is_in(&self, reply: &[u8]) -> bool {
        match self {
            Expect::Text(text) => reply.windows(text.len().max(1)).any(|window| window == text.as_bytes()),
            Expect::Pattern(Pattern(pattern)) => pattern.is_match(reply),
        }
    }
}

impl fmt::Display for Expect {
    /// Writes the expected contents as in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Text(text) => write!(f, "expect {text:?}"),
            Expect::Pattern(Pattern(pattern)) => write!(f, "expect-regex {:?}", pattern.as_str()),
        }
    }
}

/// The settings of a Redis probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Destination port.
    pub port: u16,
    /// Which certificates are accepted; `None`: no TLS.
    pub tls: Option<Trust>,
    /// The name that the certificate has to be for; `None`: the address that is probed.
    pub host: Option<String>,
    /// The user of AUTH; `None`: the default user.
    pub user: Option<String>,
    /// The password of AUTH; `None`: no AUTH.
    pub password: Option<PasswordFile>,
    /// The role that the server has to have.
    pub role: Role,
}

/// The role that a Redis server needs for a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Any server that answers.
    Any,
    /// A master.
    Master,
}

/// The password from a file, read with the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordFile {
    /// The file.
    pub path: PathBuf,
    /// Its first line; not empty.
    pub password: String,
}

impl fmt::Debug for PasswordFile {
    /// Writes the path, but not the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the password in {}", self.path.display())
    }
}

/// A GET request, and the expected response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Destination port.
    pub port: u16,
    /// Which certificates are accepted; `None`: no TLS.
    pub tls: Option<Trust>,
    /// The Host header, and the name that the certificate has to be for; `None`: the address that is probed.
    pub host: Option<String>,
    /// The path with the query, if any; begins with a slash.
    pub path: String,
    /// The status codes that are a success; not empty.
    pub codes: Vec<RangeInclusive<u16>>,
    /// A pattern that the first octets of the body must match.
    pub body: Option<Pattern>,
}

/// Which certificates are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Certificates of the authorities that this machine trusts.
    System,
    /// Certificates of the authorities in a file.
    Authorities(Authorities),
    /// Any certificate: none is verified.
    Anybody,
}

/// The certificates from a file, read with the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities {
    /// The file.
    pub path: PathBuf,
    /// The certificates; not empty.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.certificates.len(), self.path.display())
    }
}

/// A regular expression. Two are equal if their text is equal.
#[derive(Debug, Clone)]
pub struct Pattern(pub Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for Pattern {}

/// A query for an SOA record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Destination port.
    pub port: u16,
    /// The apex of a zone. The server has to be authoritative for this zone.
    pub name: Name,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Path and arguments; not empty, the path is absolute.
    pub command: Vec<String>,
    /// The zone, for the command's environment.
    pub zone: Name,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_never_shown() {
        let password = PasswordFile { path: PathBuf::from("/etc/p"), password: "hunter2".to_owned() };
        let (tls, host, user) = (Some(Trust::Anybody), None, Some("probe".to_owned()));
        let redis = Redis { port: 6379, tls, host, user, password: Some(password), role: Role::Master };
        let kind = ProbeKind::Redis(redis);
        let (debug, text) = (format!("{kind:?}"), kind.to_string());
        assert!(debug.contains("the password in /etc/p") && !debug.contains("hunter2"), "{debug}");
        assert_eq!(text, "redis port 6379 over tls role master");
    }

    #[test]
    fn a_text_is_found_anywhere_in_a_reply() {
        let text = |text: &str| Expect::Text(text.to_owned());
        assert!(text("PONG").is_in(b"+PONG\r\n"));
        assert!(!text("PONG").is_in(b"+PON"));
        let pattern = Expect::Pattern(Pattern(Regex::new("^220 ").unwrap()));
        assert!(pattern.is_in(b"220 ready") && !pattern.is_in(b"x 220 "));
        assert_eq!(text("+PONG\r\n").to_string(), "expect \"+PONG\\r\\n\"");
        assert_eq!(pattern.to_string(), "expect-regex \"^220 \"");
    }
}
