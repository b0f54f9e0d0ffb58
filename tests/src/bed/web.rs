//! A web server on a node, whose page and certificate a scene changes while it runs.
use std::io::{Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::bed::netns::Namespace;
use crate::bed::wait;

/// The longest time that a silent client delays other clients.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

/// The page to serve.
#[derive(Debug, Clone)]
pub struct Page {
    /// The status code and phrase.
    pub status: &'static str,
    /// The body.
    pub body: &'static str,
    /// The TLS configuration; `None`: no TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

/// The server. A drop ends the server.
#[derive(Debug)]
pub struct Web {
    page: Arc<Mutex<Page>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    /// Serves every path on `port`, over IPv4 and IPv6.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(on: &Namespace, port: u16, page: Page) -> Result<Self> {
        let listener = on.enter(|| {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port));
            listener.with_context(|| format!("cannot listen on port {port}"))
        })?;
        listener.set_nonblocking(true)?;
        let (page, over) = (Arc::new(Mutex::new(page)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (page, over) = (page.clone(), over.clone());
            move || {
                while !over.load(Ordering::Relaxed) {
                    match listener.accept() {
                        Ok((stream, _)) => {
                            let page = page.lock().unwrap_or_else(PoisonError::into_inner).clone();
                            // A client may close its connection at any time.
                            answer(stream, page).ok();
                        }
                        Err(_) => thread::sleep(wait::POLL),
                    }
                }
            }
        });
        Ok(Web { page, over, thread: Some(thread) })
    }

    /// Serves another page from now on.
    pub fn show(&self, page: Page) {
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = page;
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn answer(stream: TcpStream, page: Page) -> Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let Page { status, body, tls } = page;
    match tls {
        None => speak(stream, status, body),
        Some(config) => speak(StreamOwned::new(ServerConnection::new(config)?, stream), status, body),
    }
}

fn speak(mut stream: impl Read + Write, status: &str, body: &str) -> Result<()> {
    let mut header = Vec::new();
    let mut octet = [0];
    while !header.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut octet)?;
        header.extend(octet);
    }
    write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    stream.flush()?;
    Ok(())
}

/// The authority for the certificates of a scene.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// Creates a random authority.
    ///
    /// # Errors
    /// The machine has no source of randomness.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key)?.pem();
        Ok(Authority { issuer: Issuer::new(params, key), pem })
    }

    /// Writes its own certificate, for `ca`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        std::fs::write(path, &self.pem).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Returns the TLS configuration of a server named `host`. The certificate may be expired.
    ///
    /// # Errors
    /// `host` is not a valid name.
    pub fn certify(&self, host: &str, expired: bool) -> Result<Arc<ServerConfig>> {
        let (certificate, key) = self.issue(&[host.to_owned()], expired)?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let chain = vec![certificate.der().clone()];
        Ok(Arc::new(config.with_no_client_auth().with_single_cert(chain, key)?))
    }

    /// Writes a certificate for all of `hosts`, and its key. The certificate may be expired.
    ///
    /// # Errors
    /// One of `hosts` is not a valid name, or a file cannot be written.
    pub fn write_identity(&self, hosts: &[String], expired: bool, cert: &Path, key: &Path) -> Result<()> {
        let (certificate, pair) = self.issue(hosts, expired)?;
        for (path, pem) in [(cert, certificate.pem()), (key, pair.serialize_pem())] {
            std::fs::write(path, pem).with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(())
    }

    fn issue(&self, hosts: &[String], expired: bool) -> Result<(Certificate, KeyPair)> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(hosts)?;
        if expired {
            params.not_after = date_time_ymd(2001, 1, 1);
        }
        Ok((params.signed_by(&key, &self.issuer)?, key))
    }
}
