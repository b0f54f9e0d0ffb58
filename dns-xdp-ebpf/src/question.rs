//! The DNS header and the one question (RFC 1035, sections 4.1.1 and 4.1.2).
use crate::frame::{Field, Frame, Region};
use crate::link::Datagram;
use crate::message::{HEADER_LENGTH, TYPE_CLASS_LENGTH};
use crate::name::Name;
use crate::outcome::{OrRefuse, Outcome};
use crate::table::NAME_WORDS;
use crate::verifier::widen_offset;

/// The header's second word: flags, opcode and response code.
pub const FLAGS: Field<u16, 2> = Field::new();
/// The four counts.
pub const COUNTS: Field<u64, 4> = Field::new();
/// The identification.
pub const ID: Field<u16, 0> = Field::new();
const WORD: Field<u64, 0> = Field::new();
/// Type and class of the question.
pub const TYPE_CLASS: Field<u32, 0> = Field::new();

/// QR: this is a response.
pub const QR: u16 = 0x8000;
/// AA: the answer is authoritative.
pub const AA: u16 = 0x0400;
/// TC: the answer is truncated.
pub const TC: u16 = 0x0200;
/// RD: recursion is desired.
pub const RD: u16 = 0x0100;
/// CD: checking is disabled (RFC 4035, section 3.2.2).
pub const CD: u16 = 0x0010;
const OPCODE: u16 = 0x7800;
const RCODE: u16 = 0x000f;
const ONE_QUESTION: u64 = 1 << 48;
const CLASS_IN: u16 = 1;

/// The query types that the program distinguishes.
pub mod qtype {
    /// A host address.
    pub const A: u16 = 1;
    /// An authoritative name server.
    pub const NS: u16 = 2;
    /// The start of a zone of authority.
    pub const SOA: u16 = 6;
    /// An IPv6 host address.
    pub const AAAA: u16 = 28;
    /// The EDNS pseudo record, which is no valid question.
    pub const OPT: u16 = 41;
    /// The first of the meta types and question types (RFC 6895, section 3.1): 128 to 255.
    pub const META_FIRST: u16 = 128;
    /// The last of them: ANY.
    pub const META_LAST: u16 = 255;
}

/// The fields of a query's header that the answer depends on.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// The identification, in network order.
    pub id: u16,
    /// RD and CD as the query has them.
    pub copied_flags: u16,
    /// There is an additional record.
    pub additional: bool,
}

/// A question, as offsets and values.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// The type.
    pub qtype: u16,
    /// Type and class as they lie in the message, for the checksum.
    pub type_class: u32,
}

impl Header {
    /// Reads the header, and refuses everything but a plain query.
    #[inline(always)]
    pub fn read(frame: Frame<'_>, datagram: &Datagram) -> Result<Self, Outcome> {
        let header: Region<'_, HEADER_LENGTH> = frame.fixed(datagram.message()).or_refuse(Outcome::Length)?;
        let flags = u16::from_be(header.read(FLAGS));
        if flags & QR != 0 {
            return Outcome::Response.refuse();
        }
        if flags & OPCODE != 0 {
            return Outcome::Opcode.refuse();
        }
        if flags & (TC | RCODE) != 0 {
            return Outcome::Flags.refuse();
        }
        let additionals = u64::from_be(header.read(COUNTS)).wrapping_sub(ONE_QUESTION);
        if additionals > 1 {
            return Outcome::Counts.refuse();
        }
        let id = header.read(ID);
        Ok(Header { id, copied_flags: flags & (RD | CD), additional: additionals == 1 })
    }
}

impl Question {
    /// Reads the question; `seed` starts the hash of its name.
    #[inline(always)]
    pub fn read<'f>(frame: impl Fn() -> Frame<'f>, datagram: &Datagram, seed: u64) -> Result<Self, Outcome> {
        let name = Name::read(frame(), datagram.message() + HEADER_LENGTH, datagram.end, seed)?;
        let behind: Region<'_, TYPE_CLASS_LENGTH> = frame().region(name.end()).or_refuse(Outcome::Name)?;
        let type_class = behind.read(TYPE_CLASS);
        let both = u32::from_be(type_class);
        if both as u16 != CLASS_IN {
            return Outcome::Class.refuse();
        }
        let qtype = (both >> 16) as u16;
        match qtype {
            0 | qtype::NS | qtype::SOA | qtype::OPT | qtype::META_FIRST..=qtype::META_LAST => {
                Outcome::Type.refuse()
            }
            _ => Ok(Question { name, qtype, type_class }),
        }
    }

    /// Moves the question in words of 8 octets. The last word overlaps the one before it, or the header if the name is
    /// very short.
    #[inline(always)]
    pub fn move_down(&self, from: Frame<'_>, to: Frame<'_>) -> Option<()> {
        let (start, last) = (self.name.from, self.end() - 8);
        let last_from: Region<'_, 8> = from.region(last)?;
        let last_word = last_from.read(WORD);
        let (mut from, mut words) = (from.fixed_cursor(start), to.fixed_cursor(start));
        let mut at = widen_offset(start, last_word);
        for _ in 0..NAME_WORDS + 1 {
            if at >= last {
                break;
            }
            let word: u64 = from.take()?;
            words.put(word)?;
            at += 8;
        }
        let last_to: Region<'_, 8> = to.region(last)?;
        last_to.write(WORD, last_word);
        Some(())
    }

    /// Returns the offset behind the question.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.name.end() + TYPE_CLASS_LENGTH
    }
}
