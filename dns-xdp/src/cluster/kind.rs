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
    /// A GET request in the clear or over TLS, and the response that is wanted.
    Http(Http),
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
            ProbeKind::Tcp { .. } => "tcp",
            ProbeKind::Http(Http { tls: None, .. }) => "http",
            ProbeKind::Http(Http { tls: Some(_), .. }) => "https",
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
            ProbeKind::Http(http) => write!(f, " port {} {}", http.port, http.path),
            ProbeKind::Icmp => Ok(()),
            ProbeKind::Dns(dns) => write!(f, " port {} SOA {}", dns.port, dns.name),
            ProbeKind::Exec(exec) => write!(f, " {}", exec.command.join(" ")),
        }
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
