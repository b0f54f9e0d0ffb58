//! What can be read of a message: its header, then as much of the question and the OPT as is well formed.
//!
//! Beside the question and the OPT nothing in a query has a meaning for this server. Records in any section
//! and bytes behind the last record are passed over, but the records have to be what the header counts.
use dns_xdp_ebpf::cookie::{self, Cookie};
use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, Query};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder, BinEncodable, DecodeError};

/// NSID (RFC 5001, section 2.3).
const OPTION_NSID: u16 = 3;

/// A query, or what is left of one.
#[derive(Debug)]
pub(super) struct Request {
    /// Id, opcode and flags.
    pub(super) metadata: Metadata,
    /// The one question; none when it is not one, or not readable.
    pub(super) question: Option<Query>,
    /// The OPT; none when there is none that is readable.
    pub(super) opt: Option<Opt>,
    /// The message was readable to the end of its last record, with one question and at most one OPT.
    pub(super) well_formed: bool,
}

/// What an OPT says (RFC 6891, section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opt {
    /// The requestor's payload size in bytes, as sent.
    pub(super) payload_size: u16,
    /// The EDNS version.
    pub(super) version: u8,
    /// The DO bit.
    pub(super) dnssec_ok: bool,
    /// The requestor asks for the server's identity.
    pub(super) nsid: bool,
    /// The requestor's cookie.
    pub(super) cookie: Option<Asked>,
}

/// A COOKIE option (RFC 7873, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Of a length that no cookie has.
    Malformed,
    /// The server's part is empty when it cannot be ours.
    Cookie(Cookie),
}

/// Why reading stopped: the message ends too early, or a part of it is not what it has to be.
struct Malformed;

impl From<DecodeError> for Malformed {
    fn from(_: DecodeError) -> Self {
        Malformed
    }
}

impl Request {
    /// Reads a message. `None`: it is to be met with silence, because it has no whole header or because it
    /// is a response, to which an answer might go back and forth for ever.
    pub(super) fn read(message: &[u8]) -> Option<Request> {
        let mut decoder = BinDecoder::new(message);
        let Header { metadata, counts } = Header::read(&mut decoder).ok()?;
        if metadata.message_type == MessageType::Response {
            return None;
        }
        let mut request = Request { metadata, question: None, opt: None, well_formed: false };
        request.well_formed = request.read_sections(&mut decoder, counts).is_ok();
        Some(request)
    }

    fn read_sections(&mut self, decoder: &mut BinDecoder<'_>, counts: HeaderCounts) -> Result<(), Malformed> {
        for _ in 0..counts.queries {
            let question = read_question(decoder)?;
            if counts.queries == 1 {
                self.question = Some(question);
            }
        }
        for _ in 0..u32::from(counts.answers) + u32::from(counts.authorities) {
            read_record(decoder)?;
        }
        for _ in 0..counts.additionals {
            let record = read_record(decoder)?;
            if record.rtype == RecordType::OPT {
                if self.opt.is_some() {
                    return Err(Malformed);
                }
                self.opt = Some(record.opt()?);
            }
        }
        if self.question.is_some() { Ok(()) } else { Err(Malformed) }
    }
}

/// The first name of a message has nothing before it that it could point to but the header: a compressed
/// one is refused.
fn read_question(decoder: &mut BinDecoder<'_>) -> Result<Query, Malformed> {
    let start = decoder.index();
    let name = Name::read(decoder)?;
    let uncompressed = name.to_bytes().map_err(|_| Malformed)?;
    if decoder.slice_from(start)? != uncompressed {
        return Err(Malformed);
    }
    let mut question = Query::query(name, RecordType::read(decoder)?);
    question.set_query_class(BinDecodable::read(decoder)?);
    Ok(question)
}

/// A record as it lies there, its data unread.
struct RawRecord<'a> {
    owner: Name,
    rtype: RecordType,
    class: u16,
    ttl: u32,
    rdata: &'a [u8],
}

fn read_record<'a>(decoder: &mut BinDecoder<'a>) -> Result<RawRecord<'a>, Malformed> {
    let owner = Name::read(decoder)?;
    let rtype = RecordType::read(decoder)?;
    let class = decoder.read_u16()?.unverified(/* every value is a class */);
    let ttl = decoder.read_u32()?.unverified(/* every value is a TTL */);
    let rdata_length = decoder.read_u16()?.unverified(/* the next read verifies it */);
    let rdata = decoder.read_slice(usize::from(rdata_length))?.unverified(/* bytes of any value */);
    Ok(RawRecord { owner, rtype, class, ttl, rdata })
}

impl RawRecord<'_> {
    fn opt(&self) -> Result<Opt, Malformed> {
        if !self.owner.is_root() {
            return Err(Malformed);
        }
        let [_extended_rcode, version, flags, _] = self.ttl.to_be_bytes();
        // The options of a version that we do not know may be of another form.
        let options = if version == 0 { options(self.rdata)? } else { Options::default() };
        let Options { nsid, cookie } = options;
        Ok(Opt { payload_size: self.class, version, dnssec_ok: flags & 0x80 != 0, nsid, cookie })
    }
}

#[derive(Default)]
struct Options {
    nsid: bool,
    cookie: Option<Asked>,
}

/// Walks the options (RFC 6891, section 6.1.2); all of them have to lie within `rdata`. Of several cookies the first
/// counts (RFC 7873, section 5.2).
fn options(mut rdata: &[u8]) -> Result<Options, Malformed> {
    let mut options = Options::default();
    while let [code_high, code_low, length_high, length_low, rest @ ..] = rdata {
        let length = u16::from_be_bytes([*length_high, *length_low]);
        let (data, behind) = rest.split_at_checked(usize::from(length)).ok_or(Malformed)?;
        match u16::from_be_bytes([*code_high, *code_low]) {
            OPTION_NSID => options.nsid = true,
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
            Some(client) => Asked::Cookie(Cookie { client, head: server(8), hash: server(16) }),
            None => Asked::Malformed,
        }
    }
}
