//! Reads a query's OPT record (size, DO, version, options) and writes the answer's, with a cookie (RFC 6891, section
//! 6.1).
use crate::checksum::Sum;
use crate::cookie::{self, Cookie, CookieKeys};
use crate::frame::{Field, Frame, Region};
use crate::host::Host;
use crate::message::{OPTION_COOKIE, OPTION_NSID, UDP_SIZE_MIN};
use crate::outcome::{OrRefuse, Outcome};
use crate::question::qtype;
use crate::table::UDP_SIZE;
use crate::verifier::{widen, widen_offset};

/// Octets of an OPT record without options.
pub const OPT_LENGTH: usize = 11;
/// The most options that are read. Queries have one or two.
const OPTIONS_MAX: usize = 8;
const OPTION_HEADER_LENGTH: usize = 4;
const DO: u16 = 0x8000;
/// Code and length of the answer's cookie.
const COOKIE_HEAD: u32 = {
    let [code_high, code_low] = OPTION_COOKIE.to_be_bytes();
    u32::from_ne_bytes([code_high, code_low, 0, cookie::LENGTH as u8])
};
/// Octets that a cookie adds to an OPT record.
const COOKIE_LENGTH: usize = OPTION_HEADER_LENGTH + cookie::LENGTH;
const WITH_COOKIE_LENGTH: usize = OPT_LENGTH + COOKIE_LENGTH;
/// The first 8 octets of the answer's OPT record: root owner, type, this server's size, response code 0, version 0, and
/// the first octet of the flags.
const HEAD: u64 = {
    let [type_high, type_low] = qtype::OPT.to_be_bytes();
    let [size_high, size_low] = UDP_SIZE.to_be_bytes();
    u64::from_ne_bytes([0, type_high, type_low, size_high, size_low, 0, 0, 0])
};

const OWNER: Field<u8, 0> = Field::new();
const TYPE: Field<u16, 1> = Field::new();
const SIZE: Field<u16, 3> = Field::new();
const VERSION: Field<u8, 6> = Field::new();
const FLAGS: Field<u16, 7> = Field::new();
const OPTIONS_LENGTH: Field<u16, 9> = Field::new();
const OPTION_CODE: Field<u16, 0> = Field::new();
const OPTION_LENGTH: Field<u16, 2> = Field::new();

const OPT_OCTETS_0_TO_7: Field<u64, 0> = Field::new();
const OPT_OCTETS_8_TO_9: Field<u16, 8> = Field::new();
const OPT_OCTET_10: Field<u8, 10> = Field::new();

const CLIENT: Field<u64, 0> = Field::new();
const SERVER_HEAD: Field<u64, 8> = Field::new();
const SERVER_HASH: Field<u64, 16> = Field::new();
const OUT_COOKIE_HEAD: Field<u32, 0> = Field::new();
const OUT_CLIENT: Field<u64, 4> = Field::new();
const OUT_SERVER_HEAD: Field<u64, 12> = Field::new();
const OUT_SERVER_HASH: Field<u64, 20> = Field::new();

/// The contents of a query's OPT record, or its absence.
#[derive(Debug, Clone, Copy)]
pub struct Edns {
    /// Octets of the answer's OPT record. 0: the answer has none.
    length: usize,
    /// The first eight octets of the answer's OPT record.
    head: u64,
    /// The largest answer, in octets.
    pub limit: usize,
    /// The answer's cookie.
    cookie: Cookie,
    /// The client has returned a cookie of this cluster, which proves its address.
    pub cookie_valid: bool,
}

impl Edns {
    /// A query without EDNS.
    pub const NONE: Edns =
        Edns { length: 0, head: 0, limit: UDP_SIZE_MIN as usize, cookie: Cookie::NONE, cookie_valid: false };

    /// Reads the OPT record at `at`, which has to end at `end`, the end of the message. If cookies are on, a query with
    /// a cookie behind another option goes to the responder.
    #[inline(always)]
    pub fn read(frame: Frame<'_>, at: usize, end: usize, cookie_option: u32) -> Result<Self, Outcome> {
        if at + OPT_LENGTH > end {
            return Outcome::Opt.refuse();
        }
        let opt: Region<'_, OPT_LENGTH> = frame.region(at).or_refuse(Outcome::Opt)?;
        if opt.read(OWNER) != 0 || opt.read(TYPE) != qtype::OPT.to_be() {
            return Outcome::Opt.refuse();
        }
        if opt.read(VERSION) != 0 {
            return Outcome::EdnsVersion.refuse();
        }
        let behind = at + OPT_LENGTH + usize::from(u16::from_be(opt.read(OPTIONS_LENGTH)));
        if behind > end {
            return Outcome::Opt.refuse();
        }
        if behind < end {
            return Outcome::Trailing.refuse();
        }
        read_options(frame, at + OPT_LENGTH, end, cookie_option)?;
        let size = u16::from_be(opt.read(SIZE)).clamp(UDP_SIZE_MIN, UDP_SIZE);
        // DO is copied (RFC 3225, section 3); its octet is the last of the eight.
        let dnssec_ok = u64::from(opt.read(FLAGS) & DO.to_be()) << 56;
        let (head, limit) = (HEAD | dnssec_ok, usize::from(size));
        Ok(Edns { length: OPT_LENGTH, head, limit, cookie: Cookie::NONE, cookie_valid: false })
    }

    /// Verifies the cookie of the client at `address`, if the first option, at `at`, is a cookie.
    #[inline(always)]
    pub fn verify_or_renew<'m>(
        &mut self,
        frame: Frame<'_>,
        at: usize,
        cookie_option: u32,
        keys: impl Fn() -> CookieKeys<'m>,
        address: impl Fn() -> Option<[u64; 2]>,
    ) -> Result<(), Outcome> {
        let option: Region<'_, OPTION_HEADER_LENGTH> = frame.region(at).or_refuse(Outcome::Opt)?;
        if u32::from(option.read(OPTION_CODE)) != cookie_option {
            return Ok(());
        }
        let length = usize::from(u16::from_be(option.read(OPTION_LENGTH)));
        let at = at + OPTION_HEADER_LENGTH;
        if !cookie::well_formed(length) {
            return Outcome::Opt.refuse();
        }
        let part: Region<'_, { cookie::CLIENT_LENGTH }> = frame.region(at).or_refuse(Outcome::Opt)?;
        let mut cookie = Cookie { client: part.read(CLIENT), head: 0, hash: 0 };
        if length == cookie::LENGTH {
            let whole: Region<'_, { cookie::LENGTH }> = frame.region(at).or_refuse(Outcome::Opt)?;
            cookie.head = whole.read(SERVER_HEAD);
            cookie.hash = whole.read(SERVER_HASH);
        }
        self.cookie_valid = keys().verify_or_renew(&mut cookie, address().or_refuse(Outcome::Opt)?);
        self.cookie = cookie;
        self.length = WITH_COOKIE_LENGTH;
        Ok(())
    }

    /// Octets of the answer's OPT record.
    #[inline(always)]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Whether the answer has an OPT record.
    #[inline(always)]
    pub fn present(&self) -> bool {
        self.length != 0
    }

    /// Returns the same value, with an OPT record that the verifier no longer knows. The verifier then follows the
    /// writing code once, instead of once for every kind of OPT record.
    #[inline(always)]
    pub fn merge_verifier_states<H: Host>(self, unknown: u64) -> Self {
        let Edns { length, head, limit, mut cookie, mut cookie_valid } = self;
        if H::GUARDED {
            let Cookie { client, head, hash } = cookie;
            cookie = Cookie {
                client: widen(client, unknown),
                head: widen(head, unknown),
                hash: widen(hash, unknown),
            };
            cookie_valid = widen(cookie_valid.into(), unknown) != 0;
        }
        Edns {
            length: widen_offset(length, unknown),
            head: widen(head, unknown),
            limit: widen_offset(limit, unknown),
            cookie,
            cookie_valid,
        }
    }

    /// Returns the sum of the answer's OPT record, as if it began at an even offset.
    #[inline(always)]
    pub fn sum(&self) -> Sum {
        let sum = Sum::ZERO.add_u64(self.head);
        if self.length != WITH_COOKIE_LENGTH {
            return sum;
        }
        let Cookie { client, head, hash } = self.cookie;
        let cookie = Sum::ZERO.add_u32(COOKIE_HEAD).add_u64(client).add_u64(head).add_u64(hash);
        // The length's second octet is the record's octet 11.
        sum.add_u16(u16::from_ne_bytes([COOKIE_LENGTH as u8, 0])).add_at(OPT_LENGTH, cookie)
    }

    /// Writes the answer's OPT record.
    #[inline(always)]
    pub fn write(&self, frame: Frame<'_>, at: usize) -> Option<()> {
        let opt: Region<'_, OPT_LENGTH> = frame.region(at)?;
        opt.write(OPT_OCTETS_0_TO_7, self.head);
        opt.write(OPT_OCTETS_8_TO_9, 0);
        if self.length != WITH_COOKIE_LENGTH {
            opt.write(OPT_OCTET_10, 0);
            return Some(());
        }
        let Cookie { client, head, hash } = self.cookie;
        opt.write(OPT_OCTET_10, COOKIE_LENGTH as u8);
        let option: Region<'_, COOKIE_LENGTH> = frame.region(at + OPT_LENGTH)?;
        option.write(OUT_COOKIE_HEAD, COOKIE_HEAD);
        option.write(OUT_CLIENT, client);
        option.write(OUT_SERVER_HEAD, head);
        option.write(OUT_SERVER_HASH, hash);
        Some(())
    }
}

/// Reads the options from `at` to `end`, and refuses options that the responder has to answer.
#[inline(always)]
fn read_options(frame: Frame<'_>, mut at: usize, end: usize, cookie_option: u32) -> Result<(), Outcome> {
    for nth in 0..OPTIONS_MAX {
        if at == end {
            return Ok(());
        }
        if at + OPTION_HEADER_LENGTH > end {
            return Outcome::Opt.refuse();
        }
        let option: Region<'_, OPTION_HEADER_LENGTH> = frame.region(at).or_refuse(Outcome::Opt)?;
        let code = option.read(OPTION_CODE);
        if code == OPTION_NSID.to_be() {
            return Outcome::Nsid.refuse();
        }
        if nth > 0 && u32::from(code) == cookie_option {
            return Outcome::Cookie.refuse();
        }
        let length = u16::from_be(option.read(OPTION_LENGTH));
        // Compare before bounding; otherwise the mask could turn a length that is several KiB too large into one that
        // fits.
        let behind = at + OPTION_HEADER_LENGTH + usize::from(length);
        if behind > end {
            return Outcome::Opt.refuse();
        }
        at = widen_offset(behind, u64::from(length));
    }
    if at == end { Ok(()) } else { Outcome::OptionCount.refuse() }
}
