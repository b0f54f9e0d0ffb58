//! What the kinds of probe ask, each with what it takes to ask it.
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use hickory_proto::rr::Name;
use regex::bytes::Regex;
use rustls::pki_types::CertificateDer;

/// The kinds of probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeKind {
    /// A TCP connection that is established is a success.
    Tcp {
        /// Destination port.
        port: u16,
    },
    /// A reply over a TCP connection that has in it what is expected is a success.
    TcpDialogue(TcpDialogue),
    /// A GET request in the clear or over TLS, and the response that is wanted.
    Http(Http),
    /// A Redis server that answers PING with PONG is a success.
    Redis(Redis),
    /// An echo that is answered is a success (RFC 792, RFC 4443).
    Icmp,
    /// A name server that answers with authority is a success.
    Dns(Dns),
    /// A command that exits with 0 is a success.
    Exec(Exec),
}

impl ProbeKind {
    /// As the configuration calls it.
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

/// What is sent over a TCP connection, and what is expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpDialogue {
    /// Destination port.
    pub port: u16,
    /// What is sent first; `None`: the server greets.
    pub send: Option<String>,
    /// What the reply must have in it.
    pub expect: Expect,
}

/// What is looked for in the first octets of a reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// These octets, anywhere; not empty.
    Text(String),
    /// A match.
    Pattern(Pattern),
}

impl Expect {
    /// Whether it is found.
    pub fn is_in(&self, reply: &[u8]) -> bool {
        match self {
            Expect::Text(text) => reply.windows(text.len().max(1)).any(|window| window == text.as_bytes()),
            Expect::Pattern(Pattern(pattern)) => pattern.is_match(reply),
        }
    }
}

impl fmt::Display for Expect {
    /// As the configuration has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expect::Text(text) => write!(f, "expect {text:?}"),
            Expect::Pattern(Pattern(pattern)) => write!(f, "expect-regex {:?}", pattern.as_str()),
        }
    }
}

/// What a Redis server is asked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redis {
    /// Destination port.
    pub port: u16,
    /// Whom to trust; `None`: in the clear.
    pub tls: Option<Trust>,
    /// The name that the certificate has to be for; `None`: the address that is probed.
    pub host: Option<String>,
    /// The user of AUTH; `None`: the default user.
    pub user: Option<String>,
    /// The password of AUTH; `None`: no AUTH.
    pub password: Option<PasswordFile>,
    /// What the server has to be.
    pub role: Role,
}

/// What a Redis server has to be for a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Any that answers.
    Any,
    /// A master.
    Master,
}

/// The password of a file, as it was when the configuration was read.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordFile {
    /// The file.
    pub path: PathBuf,
    /// Its first line; not empty.
    pub password: String,
}

impl fmt::Debug for PasswordFile {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the password in {}", self.path.display())
    }
}

/// A GET request, and the response that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// Destination port.
    pub port: u16,
    /// Whom to trust; `None`: in the clear.
    pub tls: Option<Trust>,
    /// The Host header, and the name that the certificate has to be for; `None`: the address that is probed.
    pub host: Option<String>,
    /// With the query, if any; begins with a slash.
    pub path: String,
    /// The status codes that are a success; not empty.
    pub codes: Vec<RangeInclusive<u16>>,
    /// What has to be found in the first octets of the body.
    pub body: Option<Pattern>,
}

/// Whose certificates are good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those that this machine trusts.
    System,
    /// Those of the authorities in a file.
    Authorities(Authorities),
    /// Anybody's.
    Anybody,
}

/// The certificates of a file, as they were when the configuration was read.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities {
    /// The file.
    pub path: PathBuf,
    /// Not empty.
    pub certificates: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.certificates.len(), self.path.display())
    }
}

/// A regular expression; equal when it is written the same.
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
    /// The zone's apex, of which the server has to be an authority.
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
