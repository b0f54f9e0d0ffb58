//! The readable parts of a query, for the differences.
use std::sync::Arc;

use hickory_proto::op::Header;
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, DecodeError};

use super::Served;

const OPT: u16 = 41;
const NSID: u16 = 3;
const HEADER: usize = 12;
const RCODE: u16 = 0x000f;

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Over UDP and IPv4.
    UdpOverIpv4,
    /// Over UDP and IPv6.
    UdpOverIpv6,
    /// Over TCP and IPv4.
    Tcp,
}

impl Path {
    /// Every way to send a message.
    pub const ALL: [Path; 3] = [Path::UdpOverIpv4, Path::UdpOverIpv6, Path::Tcp];
}

/// The readable parts of a message.
#[derive(Debug)]
pub struct Query {
    /// The queried zone.
    pub served: Arc<Served>,
    /// Octets of the message.
    pub length: usize,
    /// The second word of the header: flags, opcode and rcode.
    pub flags: u16,
    /// Questions, answers, authorities and additionals.
    pub counts: [u16; 4],
    /// The name in the first question, in lower case.
    pub qname: Option<Name>,
    /// The type in the first question.
    pub qtype: u16,
    /// The class in the first question.
    pub qclass: u16,
    /// The records behind the first question.
    pub records: Vec<Record>,
    /// The first question, as in the message.
    pub question: Vec<u8>,
}

/// A record of a query.
#[derive(Debug)]
pub struct Record {
    /// The type.
    pub rtype: u16,
    /// The owner is a pointer to another name.
    pub compressed: bool,
    /// The version, if the record is an OPT.
    pub version: u8,
    rdata: Vec<u8>,
    /// Type, class, TTL, length and data, as in the message.
    octets: Vec<u8>,
}

impl Query {
    /// Reads as much of a message as can be read.
    pub fn of(message: &[u8], served: &Arc<Served>) -> Query {
        let mut query = Query {
            served: Arc::clone(served),
            length: message.len(),
            flags: 0,
            counts: [0; 4],
            qname: None,
            qtype: 0,
            qclass: 0,
            records: Vec::new(),
            question: Vec::new(),
        };
        // As many octets as there are.
        query.read(message).ok();
        query
    }

    fn read(&mut self, message: &[u8]) -> Result<(), DecodeError> {
        let mut decoder = BinDecoder::new(message);
        let counts = Header::read(&mut decoder)?.counts;
        self.flags = u16::from_be_bytes([message[2], message[3]]);
        self.counts = [counts.queries, counts.answers, counts.authorities, counts.additionals];
        self.qname = Some(Name::read(&mut decoder)?.to_lowercase());
        self.qtype = u16::read(&mut decoder)?;
        self.qclass = u16::read(&mut decoder)?;
        self.question = message[HEADER..decoder.index()].to_vec();
        while !decoder.is_empty() {
            let compressed = decoder.peek().is_some_and(|first| first.unverified() >= 0xc0);
            pass_owner(&mut decoder)?;
            let start = decoder.index();
            let [rtype, _class] = [u16::read(&mut decoder)?, u16::read(&mut decoder)?];
            let [_, version, _, _] = u32::read(&mut decoder)?.to_be_bytes();
            let length = usize::from(u16::read(&mut decoder)?).min(decoder.len());
            let rdata = decoder.read_slice(length)?.unverified().to_vec();
            let octets = message[start..decoder.index()].to_vec();
            self.records.push(Record { rtype, compressed, version, rdata, octets });
        }
        Ok(())
    }

    /// Whether there is a question.
    pub fn has_question(&self) -> bool {
        !self.question.is_empty()
    }

    /// The same query without its meaningless parts: the rcode, and all records except the OPT. The OPT's owner is
    /// written out. An OPT in another section, or after the last counted record, is removed too.
    pub fn plain(&self, id: u16) -> Vec<u8> {
        let [_, answers, authorities, additionals] = self.counts.map(usize::from);
        let mut additionals = self.records.iter().skip(answers + authorities).take(additionals);
        let opt = additionals.find(|record| record.rtype == OPT);
        let counts = [1, 0, 0, u16::from(opt.is_some())];
        let header = [&[id, self.flags & !RCODE][..], &counts].concat();
        let mut message: Vec<u8> = header.into_iter().flat_map(u16::to_be_bytes).collect();
        message.extend(&self.question);
        message.extend(opt.into_iter().flat_map(|opt| [&[0], &*opt.octets].concat()));
        message
    }

    /// The opcode.
    pub fn opcode(&self) -> u16 {
        self.flags >> 11 & 0xf
    }

    /// Whether the header has this flag.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// The OPT records of all sections.
    pub fn opts(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| record.rtype == OPT)
    }

    /// How often the server's identity is asked for.
    pub fn nsids(&self) -> usize {
        self.opts().flat_map(|opt| opt.options()).filter(|code| *code == NSID).count()
    }
}

/// Moves behind an owner name. Its pointer may lead out of the message.
fn pass_owner(decoder: &mut BinDecoder<'_>) -> Result<(), DecodeError> {
    loop {
        match decoder.read_u8()?.unverified() {
            0 => return Ok(()),
            0xc0.. => return decoder.read_u8().map(|_| ()),
            length => decoder.read_slice(usize::from(length)).map(|_| ())?,
        }
    }
}

impl Record {
    fn options(&self) -> Vec<u16> {
        let mut codes = Vec::new();
        let mut rest = &self.rdata[..];
        while let [code_high, code_low, length_high, length_low, behind @ ..] = rest {
            codes.push(u16::from_be_bytes([*code_high, *code_low]));
            let length = usize::from(u16::from_be_bytes([*length_high, *length_low]));
            rest = behind.get(length..).unwrap_or_default();
        }
        codes
    }
}
