//! Writes the answer behind the question: flags and counts, records, OPT, lengths and sums.
//!
//! ```text
//!  Ethernet [tags] IP UDP | header | question as it came | records | OPT |
//!                                                         ^ all that the query had here is overwritten
//! ```
use crate::checksum::Sum;
use crate::edns::Edns;
use crate::frame::{Field, Frame, Region};
use crate::host::Packet;
use crate::link::Datagram;
use crate::message::HEADER_LENGTH;
use crate::outcome::Outcome;
use crate::question::{AA, COUNTS, FLAGS, Header, ID, QR, Question, TC, qtype};
use crate::table::{ADDRESSES_MAX, NameEntry, NameOverflow, ZoneHeader};
use crate::verifier::{element, widen_offset};

/// An answer that is ready to be written.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'t> {
    /// The query's datagram, which the answer replaces.
    pub datagram: Datagram,
    /// From the query's header.
    pub header: Header,
    /// The question.
    pub question: Question,
    /// Sum of the question's name.
    pub name_sum: Sum,
    /// From the query's OPT record.
    pub edns: Edns,
    /// The records.
    pub records: Records<'t>,
}

/// The records of an answer.
#[derive(Debug, Clone, Copy)]
pub enum Records<'t> {
    /// The A RRset of a name that has one address.
    One(&'t NameEntry),
    /// Members of the A RRset of a name.
    A(&'t NameEntry, Members<'t>),
    /// Members of the AAAA RRset of a name.
    Aaaa(&'t NameEntry, Members<'t>),
    /// The SOA of a negative answer, with its response code (RFC 2308, section 2).
    Soa(&'t ZoneHeader, Rcode),
    /// No records, because they exceed the client's size or its rate. Has the outcome to count and the response code.
    Truncated(Outcome, Rcode),
}

/// The members of an RRset that one answer has, as a range in a [`NameOverflow`].
#[derive(Debug, Clone, Copy)]
pub struct Members<'t> {
    /// Holds the members.
    pub overflow: &'t NameOverflow,
    /// The first.
    pub index: usize,
    /// The index behind the last member. There the rotation continues with index 0.
    pub end: usize,
}

/// The response codes that are answered here (RFC 1035, section 4.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// NOERROR
    NoError = 0,
    /// NXDOMAIN
    NxDomain = 3,
}

/// Octets of an A record: owner, type, class, TTL, length and address.
const A_LENGTH: usize = 2 + 2 + 2 + 4 + 2 + 4;
const AAAA_LENGTH: usize = A_LENGTH + 12;
/// A pointer to a name (RFC 1035, section 4.1.4).
const POINTER: u16 = 0xc000;
const CLASS_IN: u16 = 1;

const OCTETS_0_TO_7: Field<u64, 0> = Field::new();
const OCTETS_8_TO_15: Field<u64, 8> = Field::new();
const OWNER: Field<u16, 0> = Field::new();

/// Returns an A record whose owner is the question's name; `ttl` and `address` in network order.
#[inline(always)]
pub const fn a_record(ttl: u32, address: u32) -> [u64; 2] {
    let [first, second] = record_head(qtype::A, ttl, 4);
    [first, second | (address as u64) << 32]
}

/// Returns the sum of an [`a_record`].
#[inline(always)]
pub const fn a_sum(ttl: u32, address: u32) -> Sum {
    let [first, second] = record_head(qtype::A, 0, 4);
    Sum::ZERO.add_u64(first).add_u64(second).add_u32(ttl).add_u32(address)
}

/// Returns an AAAA record whose owner is the question's name; `ttl` and `address` in network order.
#[inline(always)]
pub const fn aaaa_record(ttl: u32, address: [u64; 2]) -> ([u64; 3], u32) {
    let [first, second] = record_head(qtype::AAAA, ttl, 16);
    let [high, low] = address;
    ([first, second | high << 32, high >> 32 | low << 32], (low >> 32) as u32)
}

/// Returns owner, type, class, TTL and length, and 4 octets of zero.
#[inline(always)]
const fn record_head(rtype: u16, ttl: u32, length: u16) -> [u64; 2] {
    let owner = (POINTER | HEADER_LENGTH as u16).to_be() as u64;
    let type_class = (rtype.to_be() as u64) << 16 | (CLASS_IN.to_be() as u64) << 32;
    [owner | type_class | (ttl as u64) << 48, (ttl >> 16) as u64 | (length.to_be() as u64) << 16]
}

impl<'t> Reply<'t> {
    /// Fits the records to the client's limit.
    #[inline(always)]
    pub fn fitted(mut self) -> Self {
        if self.length() > self.edns.limit {
            self.records = self.records.truncated(Outcome::Truncated);
        }
        self
    }

    /// Octets of the message.
    #[inline(always)]
    fn length(&self) -> usize {
        self.question.end() - self.datagram.message() + self.records.length() + self.edns.length()
    }

    /// Makes room and writes the answer. Nothing has been written before. Without room it writes nothing, and the frame
    /// goes up as it came.
    ///
    /// Makes room in front if it can, so that the answer ends where the query did. That costs less, because the kernel
    /// clears the octets that it adds at the tail. All headers are written again; only the question moves.
    #[inline(always)]
    pub fn write<P: Packet>(&self, packet: &mut P) -> Result<Outcome, Outcome> {
        let length = self.length();
        let delta = (self.datagram.message() + length) as i32 - self.datagram.frame(packet).length() as i32;
        let moved = if delta > 0 && packet.prepend(delta) {
            delta as usize
        } else if delta == 0 || packet.resize(delta) {
            0
        } else {
            return Outcome::NoRoom.refuse();
        };
        Ok(match self.write_into(packet, moved, length) {
            Some(()) => self.records.outcome(),
            None => Outcome::Spoiled,
        })
    }

    /// Writes the answer. The frame's old contents lie `moved` octets further back.
    #[inline(always)]
    fn write_into<P: Packet>(&self, packet: &P, moved: usize, length: usize) -> Option<()> {
        let Reply { datagram, question, edns, .. } = self;
        let start = packet.frame();
        // The new headers end before the old question begins. The question is moved afterwards.
        datagram.turn_link_round(start.from(moved), start)?;
        let frame = start.from(datagram.tags_length);
        let from = frame.from(moved);
        let turned = datagram.turn_round(from, frame, length)?;
        if moved != 0 {
            question.move_down(from, frame)?;
        }
        // Reload the packet pointers; otherwise the verifier forks a state for every name length.
        let frame = datagram.frame(packet);
        let records_at = question.end();
        let opt_at = records_at + self.records.length();
        // All headers before the message have even lengths, so an offset is even in the message exactly when it is even
        // in the frame.
        let mut sum = turned.sum.add(self.write_header(turned.message)).add(self.name_sum);
        sum = sum.add_at(records_at, Sum::ZERO.add_u32(question.type_class));
        sum = sum.add_at(records_at, self.write_records(frame, records_at)?);
        if edns.present() {
            sum = sum.add_at(opt_at, edns.sum());
            edns.write(frame, opt_at)?;
        }
        turned.seal(length, sum);
        Some(())
    }

    /// Writes flags and counts; returns the header's sum.
    #[inline(always)]
    fn write_header(&self, header: Region<'_, HEADER_LENGTH>) -> Sum {
        let (answers, authorities, flags) = match self.records {
            Records::One(_) => (1, 0, 0),
            Records::A(entry, _) => (u64::from(entry.ipv4_count), 0, 0),
            Records::Aaaa(entry, _) => (u64::from(entry.ipv6_count), 0, 0),
            Records::Soa(_, rcode) => (0, 1, rcode as u16),
            Records::Truncated(_, rcode) => (0, 0, TC | rcode as u16),
        };
        let counts = (1 << 48 | answers << 32 | authorities << 16 | u64::from(self.edns.present())).to_be();
        let flags = (flags | QR | AA | self.header.copied_flags).to_be();
        header.write(ID, self.header.id);
        header.write(FLAGS, flags);
        header.write(COUNTS, counts);
        Sum::ZERO.add_u16(self.header.id).add_u16(flags).add_u64(counts)
    }

    /// Writes the records; returns their sum as if they began at an even offset.
    #[inline(always)]
    fn write_records(&self, frame: Frame<'_>, at: usize) -> Option<Sum> {
        match self.records {
            Records::One(entry) => {
                let [first, second] = a_record(entry.ttl, entry.ipv4);
                let record: Region<A_LENGTH> = frame.region(at)?;
                record.write(OCTETS_0_TO_7, first);
                record.write(OCTETS_8_TO_15, second);
                Some(a_sum(entry.ttl, entry.ipv4))
            }
            Records::A(entry, members) => write_a(frame, at, entry, members),
            Records::Aaaa(entry, members) => write_aaaa(frame, at, entry, members),
            Records::Soa(head, _) => {
                let apex = HEADER_LENGTH + self.question.name.length - usize::from(head.apex_length);
                let owner = (POINTER | apex as u16).to_be();
                write_soa(frame, at, head, owner)?;
                Some(Sum::from_folded(head.soa_sum).add_u16(owner))
            }
            Records::Truncated(..) => Some(Sum::ZERO),
        }
    }
}

impl Records<'_> {
    #[inline(always)]
    fn length(&self) -> usize {
        match self {
            Records::One(_) => A_LENGTH,
            Records::A(entry, _) => usize::from(entry.ipv4_count) * A_LENGTH,
            Records::Aaaa(entry, _) => usize::from(entry.ipv6_count) * AAAA_LENGTH,
            Records::Soa(head, _) => usize::from(head.soa_length),
            Records::Truncated(..) => 0,
        }
    }

    #[inline(always)]
    fn outcome(&self) -> Outcome {
        match self {
            Records::One(_) | Records::A(..) | Records::Aaaa(..) => Outcome::Answered,
            Records::Soa(_, Rcode::NoError) => Outcome::NoData,
            Records::Soa(_, Rcode::NxDomain) => Outcome::NxDomain,
            Records::Truncated(outcome, _) => *outcome,
        }
    }

    /// Replaces these records by none, and keeps their response code.
    #[inline(always)]
    pub fn truncated(&self, outcome: Outcome) -> Self {
        let rcode = match self {
            Records::Soa(_, rcode) | Records::Truncated(_, rcode) => *rcode,
            Records::One(_) | Records::A(..) | Records::Aaaa(..) => Rcode::NoError,
        };
        Records::Truncated(outcome, rcode)
    }
}

impl Members<'_> {
    /// Moves on to the next member.
    #[inline(always)]
    fn step(&mut self, unknown: u64) {
        let index = if self.index + 1 < self.end { self.index + 1 } else { 0 };
        self.index = widen_offset(index, unknown);
    }
}

/// Writes as many A records as the entry says; returns their sum.
#[inline(always)]
fn write_a(frame: Frame<'_>, at: usize, entry: &NameEntry, mut members: Members<'_>) -> Option<Sum> {
    let mut to = frame.cursor(at);
    let mut sum = Sum::ZERO;
    for _ in 0..usize::from(entry.ipv4_count).min(ADDRESSES_MAX) {
        let [first, second] = a_record(entry.ttl, *element(&members.overflow.ipv4, members.index));
        to.put(first)?;
        to.put(second)?;
        sum = sum.add_u64(first).add_u64(second).widened(second);
        members.step(second);
    }
    Some(sum)
}

#[inline(always)]
fn write_aaaa(frame: Frame<'_>, at: usize, entry: &NameEntry, mut members: Members<'_>) -> Option<Sum> {
    let mut to = frame.cursor(at);
    let mut sum = Sum::ZERO;
    for _ in 0..usize::from(entry.ipv6_count).min(ADDRESSES_MAX) {
        let (words, last) = aaaa_record(entry.ttl, *element(&members.overflow.ipv6, members.index));
        for word in words {
            to.put(word)?;
            sum = sum.add_u64(word);
        }
        to.put(last)?;
        sum = sum.add_u32(last).widened(last.into());
        members.step(last.into());
    }
    Some(sum)
}

/// Writes the SOA record in words of 8 octets, and its owner. The last word overlaps the one before it.
#[inline(always)]
fn write_soa(frame: Frame<'_>, at: usize, head: &ZoneHeader, owner: u16) -> Option<()> {
    let last = at + usize::from(head.soa_length) - 8;
    let mut to = at;
    for word in &head.soa {
        if to >= last {
            break;
        }
        let region: Region<'_, 8> = frame.region(to)?;
        region.write(OCTETS_0_TO_7, *word);
        to += 8;
    }
    let region: Region<'_, 8> = frame.region(last)?;
    region.write(OCTETS_0_TO_7, head.soa_last);
    let region: Region<'_, 2> = frame.region(at)?;
    region.write(OWNER, owner);
    Some(())
}
