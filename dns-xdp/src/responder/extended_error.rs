//! Extended DNS errors (RFC 8914): why a query was refused, for the people and programs behind a resolver.

/// The EDNS option (RFC 8914, section 2).
pub(super) const OPTION: u16 = 15;

/// An error's INFO-CODE (RFC 8914, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtendedError {
    /// None of the others; the text says what.
    Other = 0,
    /// The server has no zone yet.
    NotReady = 14,
    /// The server never gives this answer, such as a zone transfer, or a key may not change this.
    Prohibited = 18,
    /// The name is in another zone.
    NotAuthoritative = 20,
    /// The opcode or the class has no meaning for the server.
    NotSupported = 21,
    /// No node of the name is healthy, and `all-down = "refused"` keeps its addresses back.
    NoReachableAuthority = 22,
}

impl ExtendedError {
    /// Returns the option's data: the code, and no text.
    pub(super) fn octets(self) -> Vec<u8> {
        (self as u16).to_be_bytes().to_vec()
    }

    /// Returns the data of the option with this text. A text of more than 200 octets is cut.
    pub(super) fn octets_with(self, text: &str) -> Vec<u8> {
        const LONGEST: usize = 200;
        let end = (0..=LONGEST.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let text = text.get(..end).unwrap_or_default();
        [&self.octets(), text.as_bytes()].concat()
    }
}
