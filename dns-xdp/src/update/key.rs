//! The keys of TSIG (RFC 8945): their names, algorithms and secrets.
use std::fmt;

use hickory_proto::rr::Name;

use super::Grant;

/// A key that signs updates, and the records that it may write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The name, fully qualified and in lower case.
    pub name: Name,
    /// The algorithm. A message with another one is not verified.
    pub algorithm: Algorithm,
    /// The secret that this server and its client share.
    pub secret: Secret,
    /// The names and types that the key may write. An update needs one grant for each of its records.
    pub grants: Vec<Grant>,
}

/// The algorithms that this server verifies (RFC 8945, section 6). Those with MD5 and SHA-1 are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-384.
    HmacSha384,
    /// HMAC with SHA-512.
    HmacSha512,
}

impl Algorithm {
    /// Every algorithm, by its text.
    pub const ALL: [(&'static str, Algorithm); 3] = [
        ("hmac-sha256", Algorithm::HmacSha256),
        ("hmac-sha384", Algorithm::HmacSha384),
        ("hmac-sha512", Algorithm::HmacSha512),
    ];

    /// Returns its name, as messages and files write it.
    pub fn text(self) -> &'static str {
        match self {
            Algorithm::HmacSha256 => "hmac-sha256",
            Algorithm::HmacSha384 => "hmac-sha384",
            Algorithm::HmacSha512 => "hmac-sha512",
        }
    }

    /// The octets of its MAC, and of a good secret.
    pub fn octets(self) -> usize {
        match self {
            Algorithm::HmacSha256 => 32,
            Algorithm::HmacSha384 => 48,
            Algorithm::HmacSha512 => 64,
        }
    }
}

/// The octets of a secret. They appear in no text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// The fewest octets. RFC 8945, section 8, wants as many as the MAC has; older keys of 128 bits are accepted.
    pub const OCTETS_MIN: usize = 16;
    /// The most octets: longer secrets are hashed first, so they are no better (RFC 2104, section 3).
    pub const OCTETS_MAX: usize = 512;

    /// Reads a secret in Base64.
    ///
    /// # Errors
    /// The text is no secret. The message is the reason, without its subject and without the text.
    pub fn from_base64(text: &str) -> Result<Self, String> {
        const REMEDY: &str = "write what `dns-xdp key generate NAME` prints";
        let octets = data_encoding::BASE64.decode(text.trim().as_bytes());
        let octets = octets.map_err(|_| format!("is not Base64; {REMEDY}"))?;
        match octets.len() {
            Secret::OCTETS_MIN..=Secret::OCTETS_MAX => Ok(Secret(octets)),
            0..Secret::OCTETS_MIN => Err(format!(
                "has {} octets, and such a short secret can be guessed; {REMEDY}, at least {} octets",
                octets.len(),
                Secret::OCTETS_MIN
            )),
            length => Err(format!("has {length} octets; write at most {}", Secret::OCTETS_MAX)),
        }
    }

    /// Returns the octets.
    pub fn octets(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_base64_of_enough_octets_and_is_never_shown() {
        let text = data_encoding::BASE64.encode(&[7; 32]);
        let secret = Secret::from_base64(&format!(" {text}\n")).unwrap();
        assert_eq!((secret.octets(), format!("{secret:?}").as_str()), (&[7; 32][..], "Secret"));
        for (wrong, part) in [
            ("not base64!", "is not Base64"),
            ("c2hvcnQ=", "has 5 octets"),
            ("", "has 0 octets"),
            (&data_encoding::BASE64.encode(&[7; 513]), "at most 512"),
        ] {
            let error = Secret::from_base64(wrong).unwrap_err();
            assert!(error.contains(part) && (wrong.is_empty() || !error.contains(wrong)), "{error}");
        }
    }

    #[test]
    fn every_algorithm_is_in_the_list() {
        assert!(Algorithm::ALL.iter().all(|(text, algorithm)| algorithm.text() == *text));
    }
}
