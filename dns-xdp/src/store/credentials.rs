//! The credentials and authorities of a client of the store. They are read from the files that `[cluster]` names, and
//! again when the files change.
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustls::pki_types::TrustAnchor;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use super::etcd::MembersError;
use super::etcd::rpc::ConnectOptions;
use crate::authorities;
use crate::config::SharedStore;
use crate::privileges;

/// The contents of the files.
#[derive(Clone, Default, PartialEq, Eq)]
struct Contents {
    ca: Option<Vec<u8>>,
    identity: Option<[Vec<u8>; 2]>,
    password: Option<Vec<u8>>,
}

/// The credentials for connections. Clones share the last contents.
#[derive(Clone)]
pub(super) struct Credentials {
    config: Arc<SharedStore>,
    timeout: Duration,
    /// The authorities of this machine, read once; empty: they are not needed.
    roots: Arc<Vec<TrustAnchor<'static>>>,
    last: Arc<Mutex<Last>>,
    /// A semaphore with one permit, which the thread that reads the files takes.
    reading: Arc<Semaphore>,
}

struct Last {
    contents: Contents,
    /// Why the files could not be read again.
    trouble: Option<String>,
}

impl Last {
    /// Logs once why the files cannot be read.
    fn tell(&mut self, trouble: &str) {
        if self.trouble.as_deref() != Some(trouble) {
            tracing::warn!("{trouble}; new connections use the contents that were read before");
            self.trouble = Some(trouble.to_owned());
        }
    }
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// A file cannot be read, or no certificate of a member would be accepted.
    pub(super) fn read(config: &SharedStore, timeout: Duration) -> Result<Credentials, MembersError> {
        let contents = Contents::read(config)?;
        let needs_roots = speaks_tls(config) && config.ca.is_none();
        let roots = if needs_roots { authorities::read()?.roots } else { Vec::new() };
        let last = Arc::new(Mutex::new(Last { contents, trouble: None }));
        let (config, roots) = (Arc::new(config.clone()), Arc::new(roots));
        Ok(Credentials { config, timeout, roots, last, reading: Arc::new(Semaphore::new(1)) })
    }

    /// The options of the next connection. If files can no longer be read, their earlier contents stay.
    pub(super) async fn options(&self) -> ConnectOptions {
        let contents = match self.read_in_a_thread().await {
            Some(contents) => contents,
            None => self.last().contents.clone(),
        };
        self.options_of(&contents)
    }

    /// Reads the files. `None`: a thread still reads them, or cannot be started.
    async fn read_in_a_thread(&self) -> Option<Contents> {
        let permit = Arc::clone(&self.reading).try_acquire_owned().ok()?;
        let (tell, told) = oneshot::channel();
        let reader = self.clone();
        // The read needs its own thread: the threads of the command line's pool have no capabilities, and a key may
        // belong to another user.
        let thread = thread::Builder::new().name("credentials".to_owned()).spawn(move || {
            privileges::drop_thread_privileges();
            let contents = reader.read_again();
            drop(permit);
            tell.send(contents).ok();
        });
        drop(thread.ok()?);
        let Ok(read) = timeout(self.timeout, told).await else {
            self.last().tell("the credentials of [cluster] cannot be read in time: their filesystem hangs");
            return None;
        };
        read.ok()
    }

    fn last(&self) -> std::sync::MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the present contents of the files.
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
            Err(error) => last.tell(&error.to_string()),
        }
        last.contents.clone()
    }

    fn options_of(&self, contents: &Contents) -> ConnectOptions {
        let tls = speaks_tls(&self.config).then(|| {
            let tls = ClientTlsConfig::new();
            let tls = match &contents.ca {
                Some(ca) => tls.ca_certificate(Certificate::from_pem(ca)),
                None => tls.trust_anchors(self.roots.iter().cloned()),
            };
            match &contents.identity {
                Some([cert, key]) => tls.identity(Identity::from_pem(cert, key)),
                None => tls,
            }
        });
        let user = match (&self.config.user, &contents.password) {
            (Some((user, _)), Some(password)) => {
                Some((user.clone(), String::from_utf8_lossy(password).trim_end().to_owned()))
            }
            _ => None,
        };
        ConnectOptions { connect_timeout: self.timeout, tls, user }
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

    /// The threads of this process that read credentials.
    fn readers() -> usize {
        let tasks = fs::read_dir("/proc/self/task").unwrap().flatten();
        let names = tasks.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.filter(|name| name.trim() == "credentials").count()
    }

    #[tokio::test]
    async fn a_filesystem_that_hangs_holds_one_thread_however_many_connections_are_made() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        fs::write(&file, "old\n").unwrap();
        let credentials = credentials(directory.path()).unwrap();
        let credentials = Credentials { timeout: Duration::from_millis(20), ..credentials };
        // Opening a FIFO waits for a writer.
        fs::remove_file(&file).unwrap();
        nix::unistd::mkfifo(&file, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for _ in 0..5 {
            credentials.options().await;
        }
        assert_eq!(readers(), 1);
        assert!(credentials.last().trouble.as_ref().unwrap().contains("hangs"));
        fs::write(&file, "new\n").unwrap();
        fs::remove_file(&file).unwrap();
        fs::write(&file, "newest\n").unwrap();
        while credentials.last().contents.password.as_deref() != Some(b"newest\n") {
            credentials.options().await;
        }
        assert_eq!(credentials.last().trouble, None);
    }

    #[test]
    fn a_password_that_has_changed_is_read_again_and_one_that_is_gone_stays() {
        let directory = tempfile::tempdir().unwrap();
        assert!(credentials(directory.path()).is_err(), "a start reports a missing file");
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
