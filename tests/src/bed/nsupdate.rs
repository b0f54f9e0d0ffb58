//! Real clients of DNS UPDATE, in the client's namespace: BIND's `nsupdate`, and the plugin of `certbot`.
use std::fs;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::bed::netns::Namespace;
use crate::bed::plan::ZONE;

/// The secret of the keys of [`KEYS`], in Base64.
pub const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A key for certificates, and one as ExternalDNS has it.
pub const KEYS: &str = "\
[[key]]
name = \"certbot\"
secret = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"
[[key.grant]]
names = [\"_acme-challenge.*\"]
types = [\"TXT\"]
records = 20
[[key]]
name = \"externaldns\"
algorithm = \"hmac-sha512\"
secret = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"
[[key.grant]]
names = [\"*.apps\"]
types = [\"A\", \"AAAA\", \"CNAME\", \"TXT\"]
";

/// How `nsupdate` signs.
#[derive(Debug, Clone, Copy)]
pub struct Signer {
    /// The key's name.
    pub name: &'static str,
    /// The algorithm.
    pub algorithm: &'static str,
    /// The secret in Base64.
    pub secret: &'static str,
}

/// The key for certificates.
pub const CERTBOT: Signer = Signer { name: "certbot", algorithm: "hmac-sha256", secret: SECRET };
/// The key of ExternalDNS.
pub const EXTERNAL_DNS: Signer = Signer { name: "externaldns", algorithm: "hmac-sha512", secret: SECRET };

/// Sends an update of these lines to `server` with `nsupdate`, over TCP if wanted. `None`: it is not signed. Returns what
/// `nsupdate` says; empty: the update was made.
///
/// # Errors
/// `nsupdate` cannot be run.
pub fn nsupdate(
    from: &Namespace,
    server: IpAddr,
    signer: Option<Signer>,
    lines: &str,
    over_tcp: bool,
) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let (script, key) = (directory.path().join("script"), directory.path().join("key"));
    fs::write(&script, format!("server {server}\nzone {ZONE}\n{lines}\nsend\n"))?;
    // It waits 3 s for an answer over UDP, and then sends the same message again.
    let mut command = Command::new("nsupdate");
    command.args(["-t", "20"]);
    if over_tcp {
        command.arg("-v");
    }
    if let Some(Signer { name, algorithm, secret }) = signer {
        fs::write(&key, format!("key \"{name}\" {{ algorithm {algorithm}; secret \"{secret}\"; }};\n"))?;
        command.arg("-k").arg(&key);
    }
    let output = from.output(command.arg(&script))?;
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).trim().to_owned();
    ensure!(output.status.success() == told.is_empty(), "{}: {told}", output.status);
    Ok(told)
}

/// Lets certbot's plugin add (`add`) or delete (`del`) a TXT record, as it does for a certificate.
///
/// # Errors
/// The plugin reports an error.
pub fn certbot(from: &Namespace, server: IpAddr, verb: &str, name: &str, text: &str) -> Result<()> {
    const PROGRAM: &str = "\
import sys
import dns.tsig
from certbot_dns_rfc2136._internal.dns_rfc2136 import _RFC2136Client
verb, server, secret, name, text = sys.argv[1:]
client = _RFC2136Client(server, 53, 'certbot', secret, dns.tsig.HMAC_SHA256)
if verb == 'add':
    client.add_txt_record(name, text, 60)
else:
    client.del_txt_record(name, text)
";
    // Debian's interpreter has Debian's plugin.
    let mut command = Command::new("/usr/bin/python3");
    command.args(["-c", PROGRAM, verb, &server.to_string(), SECRET, name, text]);
    from.succeed(&mut command).map(drop)
}
