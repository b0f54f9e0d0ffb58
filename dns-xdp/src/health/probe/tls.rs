//! The TLS part of `https`: the accepted certificates, and short reasons for refused ones.
use std::io;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{Fault, judge, wrong};
use crate::authorities::{self, NoAuthorities};
use crate::cluster::Trust;

/// Makes the TLS handshake with the host at the other end, which has to be `name`.
pub(super) async fn handshake(
    stream: TcpStream,
    trust: &Trust,
    name: &str,
) -> Result<TlsStream<TcpStream>, Fault> {
    let ours = |error: &dyn std::fmt::Display| Fault::Ours(format!("cannot speak tls: {error}"));
    let config = config(trust).await?;
    let server = ServerName::try_from(name.to_owned()).map_err(|error| ours(&error))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(server, stream).await;
    connected.map_err(|error| complaint(&error))
}

async fn config(trust: &Trust) -> Result<ClientConfig, Fault> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| Fault::Ours(format!("cannot speak tls: {error}")))?;
    let mut config = match trust {
        Trust::System => builder.with_root_certificates(system().await?).with_no_client_auth(),
        Trust::Authorities(authorities) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(authorities.certificates.iter().cloned());
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        Trust::Anybody => {
            let verifier = Arc::new(AnyCertificate(provider));
            builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
        }
    };
    // A resumed session shows no certificate.
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The machine's authorities. They are read once and in another thread, because there may be a few hundred files.
async fn system() -> Result<Arc<RootCertStore>, Fault> {
    static SYSTEM: OnceLock<Result<Arc<RootCertStore>, NoAuthorities>> = OnceLock::new();
    let read = || authorities::read().map(Arc::new);
    let roots = match SYSTEM.get() {
        Some(roots) => roots.clone(),
        None => tokio::task::spawn_blocking(move || SYSTEM.get_or_init(read).clone())
            .await
            .map_err(|error| Fault::Ours(format!("cannot read the machine's certificates: {error}")))?,
    };
    roots.map_err(|none| Fault::Ours(none.to_string()))
}

/// Finds the cause of an error of a TLS connection.
pub(super) fn complaint(error: &io::Error) -> Fault {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(error)) => wrong(format!("certificate: {}", flaw(error))),
        Some(rustls::Error::InvalidMessage(_)) => wrong("not tls"),
        Some(rustls::Error::AlertReceived(alert)) => wrong(format!("tls: the server says {alert:?}")),
        Some(error) => wrong(format!("tls: {}", error.to_string().to_lowercase())),
        None if error.kind() == io::ErrorKind::UnexpectedEof => wrong("closed"),
        None => match judge(error) {
            // The connection was established, so the host is visible.
            Fault::Theirs(failure) => wrong(failure.reason),
            ours @ Fault::Ours(_) => ours,
        },
    }
}

fn flaw(error: &CertificateError) -> String {
    let flaw = match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "not valid yet",
        CertificateError::Revoked => "revoked",
        CertificateError::UnknownIssuer => "unknown issuer",
        CertificateError::NotValidForNameContext { expected, .. } => {
            return format!("not for {}", expected.to_str());
        }
        CertificateError::BadEncoding => "badly encoded",
        CertificateError::BadSignature => "bad signature",
        error => return error.to_string().to_lowercase(),
    };
    flaw.to_owned()
}

/// A verifier that accepts every certificate.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
