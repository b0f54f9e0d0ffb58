//! The certificate authorities that this machine trusts.
use rustls::RootCertStore;
use rustls_native_certs::CertificateResult;

/// The error that this machine trusts no authority, so that no certificate is valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine trusts no certificate authority{reason}: install ca-certificates and restart, or set `ca`"
)]
pub struct NoAuthorities {
    /// The error that prevented reading the authorities, in brackets.
    reason: String,
}

/// Reads the authorities of the system, or of `SSL_CERT_FILE` and `SSL_CERT_DIR`. There may be a few hundred files.
///
/// # Errors
/// There is no authority.
pub fn read() -> Result<RootCertStore, NoAuthorities> {
    of(rustls_native_certs::load_native_certs())
}

fn of(found: CertificateResult) -> Result<RootCertStore, NoAuthorities> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if !roots.is_empty() {
        return Ok(roots);
    }
    let reason = found.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
    Err(NoAuthorities { reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_authorities_says_so_and_how_to_get_some() {
        let none = of(CertificateResult::default()).unwrap_err().to_string();
        assert_eq!(
            none,
            "this machine trusts no certificate authority: install ca-certificates and restart, or set `ca`"
        );
    }

    #[test]
    fn a_certificate_that_is_none_is_no_authority() {
        let mut found = CertificateResult::default();
        found.certs.push(rustls::pki_types::CertificateDer::from(vec![1, 2, 3]));
        assert!(of(found).is_err());
    }
}
