//! Reads a message: its header, then the question and the OPT as far as they are well formed.
//!
//! Only the question and the OPT of a query have a meaning for this server. It skips other records, and bytes after the
//! last record. The records have to match the header's counts, and there may be only a few. The reader never goes back:
//! it follows no compression pointer, so the cost of a message is bounded by its length.
use dns_xdp_ebpf::cookie::{self, Cookie};
use dns_xdp_ebpf::message::{HEADER_LENGTH, OPTION_NSID};
use dns_xdp_ebpf::table::NAME_MAX;
use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

/// The most records in a query. OPT, TSIG and the SOA of an IXFR are three.
pub(super) const RECORDS_MAX: u32 = 8;
/// The most records in an update. It bounds the work for a message that no key has signed.
pub(super) const UPDATE_RECORDS_MAX: u32 = 1000;

/// The option with a connection's idle timeout (RFC 7828, section 3.1).
pub(super) const OPTION_KEEPALIVE: u16 = 11;

/// The most octets of a label (RFC 1035, section 2.3.4).
const LABEL_MAX: u8 = 63;
/// Octets of a question after its name: type and class.
const QUESTION_REST: usize = 4;
/// The first bits of a compression pointer (RFC 1035, section 4.1.4).
const POINTER: u8 = 0xc0;

/// A query, or its readable parts.
#[derive(Debug)]
pub(super) struct Request {
    /// Id, opcode and flags.
    pub(super) metadata: Metadata,
    /// The question; `None`: there is not exactly one, or it is not readable.
    pub(super) question: Option<Query>,
    /// The OPT; `None`: there is no readable OPT.
    pub(super) opt: Option<Opt>,
    /// Whether the message was readable to the end of its last record, with at most one question and at most one OPT.
    pub(super) well_formed: bool,
    /// Parts that were read: labels, records, options.
    pub(super) steps: usize,
}

/// The contents of an OPT record (RFC 6891, section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opt {
    /// The requestor's payload size in bytes, as sent.
    pub(super) payload_size: u16,
    /// The EDNS version.
    pub(super) version: u8,
    /// Whether the DO bit is set.
    pub(super) dnssec_ok: bool,
    /// Whether the requestor asks for the server's identity.
    pub(super) nsid: bool,
    /// Whether the requestor asks how long a connection may be idle (RFC 7828).
    pub(super) keepalive: bool,
    /// The requestor's cookie.
    pub(super) cookie: Option<Asked>,
}

/// A COOKIE option (RFC 7873, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The option does not have the length of a cookie.
    Malformed,
    /// A cookie. The server's part is empty if it cannot be this cluster's.
    Cookie {
        /// The cookie that was sent.
        cookie: Cookie,
        /// Whether a server's part was sent.
        has_server_part: bool,
    },
}

/// The error that stops the reading: the message ends too early, or a part of it is malformed.
#[derive(Debug)]
pub(super) struct Malformed;

impl Request {
    /// Reads a message. `None`: the message gets no answer. It has no whole header, or it is a response: if servers
    /// answered responses, two servers could answer each other forever.
    pub(super) fn read(message: &[u8]) -> Option<Request> {
        Request::read_up_to(message, RECORDS_MAX)
    }

    /// Like [`Request::read`], for a message of up to `records_max` records.
    pub(super) fn read_up_to(message: &[u8], records_max: u32) -> Option<Request> {
        let Header { metadata, counts } = Header::read(&mut BinDecoder::new(message)).ok()?;
        if metadata.message_type == MessageType::Response {
            return None;
        }
        let mut request = Request { metadata, question: None, opt: None, well_formed: false, steps: 0 };
        let mut reader = Reader::new(message);
        request.well_formed = request.read_sections(&mut reader, counts, records_max).is_ok();
        request.steps = reader.steps;
        Some(request)
    }

    fn read_sections(
        &mut self,
        reader: &mut Reader<'_>,
        counts: HeaderCounts,
        records_max: u32,
    ) -> Result<(), Malformed> {
        let passed_over = u32::from(counts.answers) + u32::from(counts.authorities);
        if counts.queries > 1 || passed_over + u32::from(counts.additionals) > records_max {
            return Err(Malformed);
        }
        if counts.queries == 1 {
            self.question = Some(reader.question()?);
        }
        for _ in 0..passed_over {
            reader.record()?;
        }
        for _ in 0..counts.additionals {
            let record = reader.record()?;
            if record.rtype == RecordType::OPT {
                if self.opt.is_some() {
                    return Err(Malformed);
                }
                self.opt = Some(record.opt(&mut reader.steps)?);
            }
        }
        Ok(())
    }
}

/// Goes through a message from front to back.
pub(super) struct Reader<'a> {
    message: &'a [u8],
    at: usize,
    steps: usize,
}

impl<'a> Reader<'a> {
    /// Begins behind the header of a message.
    pub(super) fn new(message: &'a [u8]) -> Self {
        Reader { message, at: HEADER_LENGTH, steps: 0 }
    }

    /// The place of the next octet.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Whether no octet is left.
    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.message.len()
    }

    /// Moves past a question.
    pub(super) fn pass_question(&mut self) -> Result<(), Malformed> {
        self.pass_name()?;
        self.take(QUESTION_REST).map(drop)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let octets = self.message.get(self.at..).and_then(|rest| rest.get(..length)).ok_or(Malformed)?;
        self.at += length;
        Ok(octets)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// Moves past a name without following pointers. Returns whether the name ends in a pointer.
    fn pass_name(&mut self) -> Result<bool, Malformed> {
        let start = self.at;
        loop {
            self.steps += 1;
            let [length] = self.array()?;
            match length {
                0 => break,
                1..=LABEL_MAX => self.take(length.into())?,
                POINTER.. => {
                    self.take(1)?;
                    return Ok(true);
                }
                _ => return Err(Malformed),
            };
            if self.at - start > NAME_MAX {
                return Err(Malformed);
            }
        }
        if self.at - start > NAME_MAX { Err(Malformed) } else { Ok(false) }
    }

    /// Reads the question. Refuses a compressed name, because only the header is before it.
    fn question(&mut self) -> Result<Query, Malformed> {
        let start = self.at;
        if self.pass_name()? {
            return Err(Malformed);
        }
        let mut name = BinDecoder::new(self.message.get(start..self.at).ok_or(Malformed)?);
        let name = Name::read(&mut name).map_err(|_| Malformed)?;
        let mut question = Query::query(name, RecordType::from(self.u16()?));
        question.set_query_class(DNSClass::from(self.u16()?));
        Ok(question)
    }

    /// Reads a record, without its owner.
    pub(super) fn record(&mut self) -> Result<RawRecord<'a>, Malformed> {
        let start = self.at;
        self.pass_name()?;
        let is_root = self.at - start == 1;
        let (rtype, class) = (RecordType::from(self.u16()?), self.u16()?);
        let ttl = self.array()?;
        let length = self.u16()?;
        let rdata = self.take(length.into())?;
        Ok(RawRecord { is_root, rtype, class, ttl, rdata })
    }
}

/// A record whose data is not parsed yet.
pub(super) struct RawRecord<'a> {
    /// Whether the owner is the root.
    is_root: bool,
    pub(super) rtype: RecordType,
    pub(super) class: u16,
    pub(super) ttl: [u8; 4],
    pub(super) rdata: &'a [u8],
}

impl RawRecord<'_> {
    fn opt(&self, steps: &mut usize) -> Result<Opt, Malformed> {
        if !self.is_root {
            return Err(Malformed);
        }
        let [_extended_rcode, version, flags, _] = self.ttl;
        // An unknown version may have another form of options.
        let options = if version == 0 { options(self.rdata, steps)? } else { Options::default() };
        let Options { nsid, keepalive, cookie } = options;
        let dnssec_ok = flags & 0x80 != 0;
        Ok(Opt { payload_size: self.class, version, dnssec_ok, nsid, keepalive, cookie })
    }
}

#[derive(Default)]
struct Options {
    nsid: bool,
    keepalive: bool,
    cookie: Option<Asked>,
}

/// Reads the options (RFC 6891, section 6.1.2), which all have to lie within `rdata`. The first of several cookies
/// counts (RFC 7873, section 5.2).
fn options(mut rdata: &[u8], steps: &mut usize) -> Result<Options, Malformed> {
    let mut options = Options::default();
    while let [code_high, code_low, length_high, length_low, rest @ ..] = rdata {
        *steps += 1;
        let length = u16::from_be_bytes([*length_high, *length_low]);
        let (data, behind) = rest.split_at_checked(usize::from(length)).ok_or(Malformed)?;
        match u16::from_be_bytes([*code_high, *code_low]) {
            OPTION_NSID => options.nsid = true,
            OPTION_KEEPALIVE => options.keepalive = true,
            cookie::OPTION => options.cookie = options.cookie.or(Some(Asked::read(data))),
            _ => {}
        }
        rdata = behind;
    }
    if rdata.is_empty() { Ok(options) } else { Err(Malformed) }
}

impl Asked {
    fn read(data: &[u8]) -> Asked {
        let word = |at: usize| data.get(at..at + 8)?.first_chunk().map(|word| u64::from_ne_bytes(*word));
        let server = |at| word(at).filter(|_| data.len() == cookie::LENGTH).unwrap_or(0);
        match word(0).filter(|_| cookie::well_formed(data.len())) {
            Some(client) => {
                let cookie = Cookie { client, head: server(8), hash: server(16) };
                Asked::Cookie { cookie, has_server_part: data.len() > cookie::CLIENT_LENGTH }
            }
            None => Asked::Malformed,
        }
    }
}
