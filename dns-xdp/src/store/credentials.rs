//! What a client of the store shows and trusts: read from the files that `[cluster]` names, and again when they change.
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use etcd_client::{Certificate, ConnectOptions, Identity, TlsOptions};
use rustls::pki_types::TrustAnchor;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::etcd::MembersError;
use crate::authorities;
use crate::config::SharedStore;
use crate::privileges;

/// A connection that waits for its other end this long is pinged. It has to be well above the 5 s of etcd's
/// `--grpc-keepalive-min-time`: etcd closes a connection that is pinged more often and carries nothing else. A dead
/// connection is found out earlier, by the calls over it, each of which has its time.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The contents of the files.
#[derive(Clone, Default, PartialEq, Eq)]
struct Contents {
    ca: Option<Vec<u8>>,
    identity: Option<[Vec<u8>; 2]>,
    password: Option<Vec<u8>>,
}

/// How connections are made. Clones share what was read last.
#[derive(Clone)]
pub(super) struct Credentials {
    config: Arc<SharedStore>,
    timeout: Duration,
    /// The authorities of this machine, read once; empty: they are not needed.
    roots: Arc<Vec<TrustAnchor<'static>>>,
    last: Arc<Mutex<Last>>,
}

struct Last {
    contents: Contents,
    /// Why the files could not be read again.
    trouble: Option<String>,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read, or no certificate of a member would be good.
    pub(super) fn read(config: &SharedStore, timeout: Duration) -> Result<Credentials, MembersError> {
        let contents = Contents::read(config)?;
        let needs_roots = speaks_tls(config) && config.ca.is_none();
        let roots = if needs_roots { authorities::read()?.roots } else { Vec::new() };
        let last = Arc::new(Mutex::new(Last { contents, trouble: None }));
        Ok(Credentials { config: Arc::new(config.clone()), timeout, roots: Arc::new(roots), last })
    }

    /// For the next connection. Files that cannot be read any more leave what they said before.
    pub(super) async fn options(&self) -> ConnectOptions {
        let (tell, told) = oneshot::channel();
        let reader = self.clone();
        // A thread of the runtime's pool would keep the privileges of the start for as long as it idles.
        let thread = thread::Builder::new().name("credentials".to_owned()).spawn(move || {
            privileges::settle_thread();
            tell.send(reader.read_again()).ok();
        });
        let read = match thread {
            Ok(_) => timeout(self.timeout, told).await.ok().and_then(Result::ok),
            Err(_) => None,
        };
        let contents = read.unwrap_or_else(|| self.last().contents.clone());
        self.options_of(&contents)
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the files say now.
    fn read_again(&self) -> Contents {
        let read = Contents::read(&self.config);
        let mut last = self.last();
        match read {
            Ok(contents) => {
                if contents != last.contents {
                    tracing::info!("the credentials of [cluster] have changed: new connections use them");
                }
                *last = Last { contents, trouble: None };
            }
            Err(error) => {
                let trouble = error.to_string();
                if last.trouble.as_ref() != Some(&trouble) {
                    tracing::warn!("{trouble}; connections go on with what was read before");
                    last.trouble = Some(trouble);
                }
            }
        }
        last.contents.clone()
    }

    fn options_of(&self, contents: &Contents) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .with_connect_timeout(self.timeout)
            .with_keep_alive(PING_INTERVAL, PING_TIMEOUT)
            // Without a call or a watch, etcd allows one ping in two hours.
            .with_keep_alive_while_idle(false)
            .with_auto_token_refresh(true)
            .with_require_leader(true);
        if speaks_tls(&self.config) {
            let mut tls = TlsOptions::new();
            tls = match &contents.ca {
                Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
                None => tls.trust_anchors(self.roots.iter().cloned()),
            };
            if let Some([cert, key]) = &contents.identity {
                tls = tls.identity(Identity::from_pem(cert, key));
            }
            options = options.with_tls(tls);
        }
        if let (Some((user, _)), Some(password)) = (&self.config.user, &contents.password) {
            let password = String::from_utf8_lossy(password).trim_end().to_owned();
            options = options.with_user(user, password);
        }
        options
    }
}

impl Contents {
    fn read(config: &SharedStore) -> Result<Contents, MembersError> {
        let read = |what: &'static str, path: &Path| {
            let path = PathBuf::from(path);
            fs::read(&path).map_err(|source| MembersError::Unreadable { what, path, source })
        };
        let mut contents = Contents::default();
        if speaks_tls(config) {
            contents.ca = config.ca.as_deref().map(|ca| read("ca", ca)).transpose()?;
            if let Some((cert, key)) = &config.identity {
                contents.identity = Some([read("cert", cert)?, read("key", key)?]);
            }
        }
        if let Some((_, file)) = &config.user {
            contents.password = Some(read("password-file", file)?);
        }
        Ok(contents)
    }
}

fn speaks_tls(config: &SharedStore) -> bool {
    config.endpoints.iter().any(|endpoint| endpoint.starts_with("https:"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn credentials(directory: &Path) -> Result<Credentials, MembersError> {
        let file = directory.join("password");
        let text = format!(
            "[listen]\ninterfaces = [\"eth0\"]\n[zone]\nname = \"demo.example.com\"\n\
             [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n\
             [cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\n\
             user = \"dns-xdp\"\npassword-file = {file:?}\n"
        );
        let config = Config::parse(&text, Path::new("/etc/dns-xdp/dns-xdp.toml")).unwrap();
        Credentials::read(&config.store.unwrap(), Duration::from_secs(1))
    }

    #[test]
    fn a_password_that_has_changed_is_read_again_and_one_that_is_gone_stays() {
        let directory = tempfile::tempdir().unwrap();
        assert!(credentials(directory.path()).is_err(), "a start says what is missing");
        let file = directory.path().join("password");
        fs::write(&file, "old\n").unwrap();
        let credentials = credentials(directory.path()).unwrap();
        let shared = credentials.clone();
        fs::write(&file, "new\n").unwrap();
        assert_eq!(credentials.read_again().password.as_deref(), Some(&b"new\n"[..]));
        fs::remove_file(&file).unwrap();
        assert_eq!(shared.read_again().password.as_deref(), Some(&b"new\n"[..]));
        assert!(credentials.last().trouble.as_ref().unwrap().contains("password-file"));
        fs::write(&file, "newest").unwrap();
        assert_eq!(shared.read_again().password.as_deref(), Some(&b"newest"[..]));
        assert_eq!(credentials.last().trouble, None);
    }
}
