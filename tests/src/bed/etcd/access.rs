//! The access control of the store, and the files that a client needs.
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::ADDRESSES;
use crate::bed::web::Authority;

/// The servers' user, if the store demands authentication.
const USER: &str = "dns-xdp";
const PASSWORD: &str = "as good as any";
/// The user with all rights.
const ROOT: &str = "root:as good as any other";

/// The credentials that a client needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No credentials.
    Open,
    /// A user and its password.
    Password,
    /// A certificate, over TLS.
    Certificate,
}

/// The name of a file in the run's directory.
const CA: &str = "etcd-ca.pem";
const SERVER: [&str; 2] = ["etcd-server.pem", "etcd-server.key"];
const CLIENT: [&str; 2] = ["etcd-client.pem", "etcd-client.key"];
const GOOD: [&str; 2] = ["etcd-client-good.pem", "etcd-client-good.key"];
const EXPIRED: [&str; 2] = ["etcd-client-expired.pem", "etcd-client-expired.key"];
const PASSWORD_FILE: &str = "etcd.password";

impl Access {
    /// Returns the scheme of the URLs for clients.
    pub fn scheme(self) -> &'static str {
        if self == Access::Certificate { "https" } else { "http" }
    }

    /// Returns the access before users exist.
    pub(super) fn at_first(self) -> Access {
        if self == Access::Password { Access::Open } else { self }
    }

    /// Writes the credentials of members and clients.
    pub(super) fn prepare(self, directory: &Path) -> Result<()> {
        match self {
            Access::Open => return Ok(()),
            Access::Password => {}
            Access::Certificate => {
                let authority = Authority::new()?;
                authority.write(&directory.join(CA))?;
                let members: Vec<String> = ADDRESSES.iter().map(ToString::to_string).collect();
                let client = [USER.to_owned()];
                for (hosts, is_expired, files) in
                    [(&members[..], false, SERVER), (&client, false, GOOD), (&client, true, EXPIRED)]
                {
                    let [cert, key] = files.map(|file| directory.join(file));
                    authority.write_identity(hosts, is_expired, &cert, &key)?;
                }
            }
        }
        self.mend(directory)
    }

    /// Replaces the servers' credentials by ones that the store refuses.
    pub(super) fn spoil(self, directory: &Path) -> Result<()> {
        self.show(directory, "as bad as any", EXPIRED)
    }

    /// Restores the credentials that the store accepts.
    pub(super) fn mend(self, directory: &Path) -> Result<()> {
        self.show(directory, PASSWORD, GOOD)
    }

    fn show(self, directory: &Path, password: &str, identity: [&str; 2]) -> Result<()> {
        match self {
            Access::Open => Ok(()),
            Access::Password => {
                let file = directory.join(PASSWORD_FILE);
                fs::write(&file, format!("{password}\n"))
                    .with_context(|| format!("cannot write {}", file.display()))
            }
            Access::Certificate => identity.into_iter().zip(CLIENT).try_for_each(|(from, to)| {
                fs::copy(directory.join(from), directory.join(to))
                    .with_context(|| format!("cannot copy {from} to {to}"))
                    .map(drop)
            }),
        }
    }

    /// Returns the lines of `[cluster]`.
    pub fn lines(self, directory: &Path) -> String {
        let file = |name: &str| directory.join(name).display().to_string();
        match self {
            Access::Open => String::new(),
            Access::Password => {
                format!("user = \"{USER}\"\npassword-file = \"{}\"\n", file(PASSWORD_FILE))
            }
            Access::Certificate => {
                let [cert, key] = CLIENT.map(file);
                format!("ca = \"{}\"\ncert = \"{cert}\"\nkey = \"{key}\"\n", file(CA))
            }
        }
    }

    /// Returns the arguments of a member.
    pub(super) fn of_members(self, directory: &Path) -> Vec<String> {
        match self {
            Access::Open | Access::Password => Vec::new(),
            Access::Certificate => {
                let mut arguments = vec!["--client-cert-auth".to_owned()];
                arguments.extend(identity(
                    "--trusted-ca-file",
                    "--cert-file",
                    "--key-file",
                    SERVER,
                    directory,
                ));
                arguments
            }
        }
    }

    /// Returns the arguments of `etcdctl` with all rights.
    pub(super) fn credentials(self, directory: &Path) -> Vec<String> {
        match self {
            Access::Open => Vec::new(),
            Access::Password => vec!["--user".to_owned(), ROOT.to_owned()],
            Access::Certificate => identity("--cacert", "--cert", "--key", GOOD, directory),
        }
    }

    /// Returns the arguments of `etcdctl`, call by call. They make the servers' user, give it the keys below `prefix`,
    /// and switch authentication on.
    pub(super) fn users(self, prefix: &str) -> Vec<Vec<String>> {
        if self != Access::Password {
            return Vec::new();
        }
        let user = format!("{USER}:{PASSWORD}");
        let calls: [&[&str]; 7] = [
            &["user", "add", ROOT],
            &["user", "grant-role", "root", "root"],
            &["role", "add", USER],
            &["role", "grant-permission", USER, "--prefix=true", "readwrite", prefix],
            &["user", "add", &user],
            &["user", "grant-role", USER, USER],
            &["auth", "enable"],
        ];
        calls.iter().map(|call| call.iter().map(|word| (*word).to_owned()).collect()).collect()
    }
}

fn identity(ca: &str, cert: &str, key: &str, files: [&str; 2], directory: &Path) -> Vec<String> {
    let [cert_file, key_file] = files;
    let pairs = [(ca, CA), (cert, cert_file), (key, key_file)];
    let path = |file: &str| -> PathBuf { directory.join(file) };
    pairs.iter().flat_map(|(flag, file)| [(*flag).to_owned(), path(file).display().to_string()]).collect()
}
