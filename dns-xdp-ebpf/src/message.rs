//! The numbers of a DNS message that its readers and writers share. `question` and `edns` explain them.

/// Octets of the header (RFC 1035, section 4.1.1).
pub const HEADER_LENGTH: usize = 12;
/// Octets of a question's type and class (RFC 1035, section 4.1.2).
pub const TYPE_CLASS_LENGTH: usize = 4;
/// The largest message without EDNS (RFC 1035, section 4.2.1), and the smallest size that an OPT can offer (RFC 6891,
/// section 6.2.5).
pub const UDP_SIZE_MIN: u16 = 512;
/// The code of the EDNS option NSID (RFC 5001).
pub const OPTION_NSID: u16 = 3;
/// The code of the EDNS option COOKIE (RFC 7873, section 4).
pub const OPTION_COOKIE: u16 = 10;
