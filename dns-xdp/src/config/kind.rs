//! Reads the kind of a probe. Each kind has its own keys, and refuses the keys of other kinds.
mod redis;
mod tcp;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Instant;

use hickory_proto::rr::Name;
use hyper::http::uri::PathAndQuery;
use regex::bytes::Regex;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use toml::de::DeValue;

use super::diagnostic::{At, values};
use super::field::{self, Codes, Read};
use super::spec::NO_PROBE;
use super::table_reader::TableReader;
use super::{check, resolve};
use crate::cluster::{Authorities, Dns, Elsewhere, Exec, Http, Pattern, ProbeKind, Trust};

/// The default port of `http` (RFC 9110, section 4.2).
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;
const REDIS_PORT: u16 = 6379;
/// The default `codes`. HAProxy and Route 53 also accept these.
const CODES: Codes = 200..=399;

/// Other values of the file that the kinds need.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// The zone.
    pub(super) apex: Name,
    /// The port of its name servers.
    pub(super) dns_port: u16,
    /// The deadline for looking names up.
    pub(super) patience: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Redis,
    Http,
    Https,
    Icmp,
    Dns,
    Exec,
}

const KINDS: [(&str, Kind); 7] = [
    ("tcp", Kind::Tcp),
    ("redis", Kind::Redis),
    ("http", Kind::Http),
    ("https", Kind::Https),
    ("icmp", Kind::Icmp),
    ("dns", Kind::Dns),
    ("exec", Kind::Exec),
];

/// Each key, with the kinds that have it.
const KEYS: [(&str, &[Kind]); 16] = [
    ("port", &[Kind::Tcp, Kind::Redis, Kind::Http, Kind::Https, Kind::Dns]),
    ("send", &[Kind::Tcp]),
    ("expect", &[Kind::Tcp]),
    ("expect-regex", &[Kind::Tcp]),
    ("user", &[Kind::Redis]),
    ("password-file", &[Kind::Redis]),
    ("role", &[Kind::Redis]),
    ("tls", &[Kind::Redis]),
    ("path", &[Kind::Http, Kind::Https]),
    ("host", &[Kind::Http, Kind::Https, Kind::Redis]),
    ("codes", &[Kind::Http, Kind::Https]),
    ("body", &[Kind::Http, Kind::Https]),
    ("ca", &[Kind::Https, Kind::Redis]),
    ("verify", &[Kind::Https, Kind::Redis]),
    ("name", &[Kind::Dns]),
    ("command", &[Kind::Exec]),
];

impl Kind {
    fn of(kind: &ProbeKind) -> Self {
        match kind {
            ProbeKind::Tcp { .. } | ProbeKind::TcpDialogue(_) => Kind::Tcp,
            ProbeKind::Redis(_) => Kind::Redis,
            ProbeKind::Http(Http { tls: None, .. }) => Kind::Http,
            ProbeKind::Http(Http { tls: Some(_), .. }) => Kind::Https,
            ProbeKind::Icmp => Kind::Icmp,
            ProbeKind::Dns(_) => Kind::Dns,
            ProbeKind::Exec(_) => Kind::Exec,
        }
    }

    fn text(self) -> &'static str {
        KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(text, _)| text)
    }
}

/// Reads the kind of a probe and its settings. If it has the usual kind, a missing key has the usual value. With
/// another kind, a missing key has that kind's default.
pub(super) fn kind(section: &mut TableReader<'_>, usual: &ProbeKind, around: &Surroundings) -> ProbeKind {
    let Some(wanted) = wanted(section, Kind::of(usual)) else {
        // Report only the wrong kind: the keys may be right for the kind that was meant.
        KEYS.iter().for_each(|(key, _)| _ = section.has(key));
        return usual.clone();
    };
    for (key, kinds) in KEYS.iter().filter(|(_, kinds)| !kinds.contains(&wanted)) {
        let kinds: Vec<String> = kinds.iter().map(|kind| format!("\"{}\"", kind.text())).collect();
        let (kinds, text) = (kinds.join(" or "), wanted.text());
        section.refuse(key, format!("`{key}` is for probe = {kinds}, and this one is \"{text}\"; remove it"));
    }
    match wanted {
        Kind::Tcp => tcp::tcp(section, usual),
        Kind::Redis => redis::redis(section, usual),
        Kind::Http | Kind::Https => ProbeKind::Http(http(section, wanted == Kind::Https, usual)),
        Kind::Icmp => ProbeKind::Icmp,
        Kind::Dns => {
            let default = Dns { port: around.dns_port, name: around.apex.clone() };
            let usual = if let ProbeKind::Dns(dns) = usual { dns.clone() } else { default };
            ProbeKind::Dns(Dns {
                port: section.value("port", field::port).unwrap_or(usual.port),
                name: section.value("name", field::zone_name).unwrap_or(usual.name),
            })
        }
        Kind::Exec => exec(section, usual, around),
    }
}

/// Returns the kind that the section names; `None`: it is wrong.
fn wanted(section: &mut TableReader<'_>, usual: Kind) -> Option<Kind> {
    if !section.has("probe") {
        return Some(usual);
    }
    section.value("probe", |value| match value.as_str() {
        Some(NO_PROBE) => Err(format!(
            "is `{NO_PROBE}`, which is allowed only in a node's [node.health], without other keys"
        )),
        _ => field::one_of(value, &KINDS),
    })
}

fn http(section: &mut TableReader<'_>, tls: bool, usual: &ProbeKind) -> Http {
    let usual = match usual {
        ProbeKind::Http(http) if http.tls.is_some() == tls => http.clone(),
        _ => Http {
            port: if tls { HTTPS_PORT } else { HTTP_PORT },
            tls: tls.then_some(Trust::System),
            host: None,
            path: "/".to_owned(),
            codes: vec![CODES],
            body: None,
        },
    };
    let codes = values(&section.filled_list("codes", "[200, \"300-399\"]", field::codes));
    Http {
        port: section.value("port", field::port).unwrap_or(usual.port),
        host: section.value("host", host).or(usual.host),
        path: section.value("path", path).unwrap_or(usual.path),
        codes: if codes.is_empty() { usual.codes } else { codes },
        body: section.value("body", pattern).or(usual.body),
        tls: usual.tls.map(|usual| trust(section, usual)),
    }
}

fn trust(section: &mut TableReader<'_>, usual: Trust) -> Trust {
    let ca = section.located("ca", authorities);
    let verify = section.value("verify", field::boolean);
    match (ca, verify) {
        (Some(At { at, .. }), Some(false)) => {
            section.problem(at, "`ca` has no effect with verify = false; remove one of them");
            usual
        }
        (None, Some(false)) => Trust::Anybody,
        (Some(authorities), _) => Trust::Authorities(authorities.value),
        (None, Some(true)) if usual == Trust::Anybody => Trust::System,
        (None, _) => usual,
    }
}

fn exec(section: &mut TableReader<'_>, usual: &ProbeKind, around: &Surroundings) -> ProbeKind {
    if let (ProbeKind::Exec(exec), false) = (usual, section.has("command")) {
        return ProbeKind::Exec(exec.clone());
    }
    let words = section.required_list("command", "[\"/usr/local/bin/probe\", \"argument\"]", field::word);
    check::program("command", &words, section);
    ProbeKind::Exec(Exec { command: values(&words), zone: around.apex.clone() })
}

/// Reads the host that is probed instead of the node.
pub(super) fn target(section: &mut TableReader<'_>, around: &Surroundings) -> Option<Elsewhere> {
    let At { at, value: written } = section.located("target", field::target)?;
    match written.parse::<IpAddr>().map_or_else(|_| resolve::address(&written, around.patience), Ok) {
        Ok(address) => Some(Elsewhere { written, address }),
        Err(problem) => {
            section.problem(at, format!("`target` is `{written}`, which {problem}"));
            None
        }
    }
}

/// Reads a name for a Host header and a certificate.
fn host(value: &DeValue<'_>) -> Read<String> {
    let text = field::target(value)?;
    ServerName::try_from(text.as_str())
        .map_err(|_| format!("is `{text}`, which no certificate can be for"))?;
    Ok(text)
}

fn path(value: &DeValue<'_>) -> Read<String> {
    const WANTED: &str = "a path such as \"/health\"";
    let text = field::text(value, WANTED)?;
    if !text.starts_with('/') || text.contains('#') || PathAndQuery::try_from(text).is_err() {
        return Err(format!("is `{text}`; write {WANTED}"));
    }
    Ok(text.to_owned())
}

fn pattern(value: &DeValue<'_>) -> Read<Pattern> {
    let text = field::text(value, "a regular expression")?;
    if text.is_empty() {
        return Err("is empty, which matches every text; write a pattern, or leave it out".to_owned());
    }
    Regex::new(text).map(Pattern).map_err(|error| {
        // The last line gives the cause; any earlier lines show the place.
        let error = error.to_string();
        let cause = error.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("is `{text}`, which is no regular expression: {cause}")
    })
}

fn authorities(value: &DeValue<'_>) -> Read<Authorities> {
    let path: PathBuf = field::path(value)?;
    let shown = path.display();
    let pem = std::fs::read(&path).map_err(|error| format!("is {shown}, which cannot be read: {error}"))?;
    let certificates: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_slice_iter(&pem).collect();
    let certificates = certificates.map_err(|error| format!("is {shown}, which is no PEM file: {error}"))?;
    if certificates.is_empty() {
        return Err(format!("is {shown}, in which there is no certificate; it has to be in the PEM format"));
    }
    let mut roots = RootCertStore::empty();
    for (number, certificate) in (1..).zip(&certificates) {
        let added = roots.add(certificate.clone());
        added.map_err(|error| format!("is {shown}, whose certificate {number} is invalid: {error}"))?;
    }
    Ok(Authorities { path, certificates })
}

#[cfg(test)]
mod tests;
