//! Extended DNS errors (RFC 8914): why a query was refused, for the people and programs behind a resolver.

/// The EDNS option (RFC 8914, section 2).
pub(super) const OPTION: u16 = 15;

/// An error's INFO-CODE (RFC 8914, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExtendedError {
    /// The server has no zone yet.
    NotReady = 14,
    /// The server never gives this answer: a zone transfer.
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
}
