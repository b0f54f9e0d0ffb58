//! The answer to one message: a pure function of its bytes, its source and time, the zone and the identity.
//!
//! `request` reads the message, and `wire` encodes the answer.
use std::net::IpAddr;

use dns_xdp_ebpf::cookie::{self, Cookie, CookieKeys};
use dns_xdp_ebpf::message::{HEADER_LENGTH, OPTION_NSID, UDP_SIZE_MIN};
use dns_xdp_ebpf::table::{FloodPolicy, UDP_SIZE, address_words, turn};
use hickory_proto::op::{Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::IDLE_TIMEOUT;
use super::counters::{Rcode, Transport};
use super::extended_error::{self, ExtendedError};
use super::request::{Asked, OPTION_KEEPALIVE, Opt, Request};
use super::wire::{Outgoing, OutgoingOpt, Records, encode_name_servers};
use crate::zone::{Lookup, Zone};

/// Octets of the shortest NS record: owner, type, class, TTL, length, and a label followed by a pointer.
const NS_LENGTH_MIN: usize = 2 + 2 + 2 + 4 + 2 + 2 + 2;

/// The most targets that get addresses in one message over UDP. It limits the work for a query with a forged source.
const TARGETS_MAX_UDP: usize = 16;
/// The same over TCP.
const TARGETS_MAX_TCP: usize = 64;

/// The idle timeout as a client is told it: in units of 100 ms (RFC 7828, section 3.1).
const IDLE_TIMEOUT_UNITS: u16 = (IDLE_TIMEOUT.as_millis() / 100) as u16;

/// QTYPEs of zone transfers, IXFR and AXFR (RFC 1995, RFC 5936).
const TRANSFERS: std::ops::RangeInclusive<u16> = 251..=252;

/// QTYPEs of other meta-queries, among them TKEY, TSIG and MAILA. The zone answers ANY, which is 255.
const META_QUERIES: std::ops::RangeInclusive<u16> = 248..=254;

/// The circumstances of a message's arrival.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// The transport.
    pub transport: Transport,
    /// The source address, which may be forged over UDP.
    pub client: IpAddr,
    /// The sender's port.
    pub port: u16,
    /// Seconds since 1970, modulo 2^32.
    pub seconds: u32,
}

/// A finished answer.
#[derive(Debug)]
pub struct Response {
    /// The rcode, for the counter.
    pub rcode: Rcode,
    /// Whether the client has returned a cookie of this cluster, which proves its address.
    pub cookie_valid: bool,
    message: Outgoing,
    limit: usize,
    /// Parts of the message that were read: labels, records, options.
    pub steps: usize,
}

impl Response {
    /// Returns the message in wire form, without TCP's length.
    pub fn encode(self) -> Vec<u8> {
        self.message.write(self.limit)
    }

    /// Reduces the answer to question and OPT with TC set, so that the client asks over TCP.
    pub fn truncate(&mut self) {
        self.message.metadata.truncation = true;
        self.message.records = Records::NONE;
    }
}

/// Answers `message` from `zone`, or with REFUSED while there is no zone. `None`: the message gets no answer.
pub fn respond(message: &[u8], arrival: Arrival, zone: Option<&Zone>, identity: &[u8]) -> Option<Response> {
    let request = Request::read(message)?;
    let asked = request.opt.and_then(|opt| opt.cookie).filter(|_| flood_policy(zone).secret_count != 0);
    let (cookie, cookie_valid) = match asked {
        Some(Asked::Cookie { cookie, .. }) => {
            let (cookie, cookie_valid) = verify_or_renew(flood_policy(zone), cookie, arrival);
            (Some(cookie), cookie_valid)
        }
        _ => (None, false),
    };
    let limit = usize::from(match arrival.transport {
        Transport::Udp => udp_limit(request.opt),
        Transport::Tcp => u16::MAX,
    });
    let turn = turn(request.metadata.id, arrival.port, address_words(arrival.client));
    let answer = match asked {
        Some(Asked::Malformed) if request.metadata.op_code == OpCode::Query => Rcode::FormErr.into(),
        Some(Asked::Cookie { has_server_part, .. }) if asks_for_cookie(&request) => {
            if has_server_part && !cookie_valid { Rcode::BadCookie.into() } else { Rcode::NoError.into() }
        }
        _ => decide(&request, zone, identity, turn, limit),
    };
    let (rcode, steps) = (answer.rcode, request.steps);
    let message = assemble(request, answer, arrival.transport, identity, cookie);
    Some(Response { rcode, cookie_valid, message, limit, steps })
}

fn flood_policy(zone: Option<&Zone>) -> &FloodPolicy {
    zone.map_or(&FloodPolicy::NONE, Zone::flood_policy)
}

/// Returns the answer's cookie, and whether the received cookie is valid (RFC 7873, section 5.2).
fn verify_or_renew(flood_policy: &FloodPolicy, mut cookie: Cookie, arrival: Arrival) -> (Cookie, bool) {
    let keys =
        CookieKeys { secrets: &flood_policy.secrets, count: flood_policy.secret_count, now: arrival.seconds };
    let cookie_valid = keys.verify_or_renew(&mut cookie, address_words(arrival.client));
    (cookie, cookie_valid)
}

/// Whether this is a query without a question, which asks only for a cookie (RFC 7873, section 5.4).
fn asks_for_cookie(request: &Request) -> bool {
    let is_whole = request.well_formed && request.question.is_none();
    is_whole && request.metadata.op_code == OpCode::Query && request.opt.is_some_and(|opt| opt.version == 0)
}

/// The contents of an answer, before it is a message.
struct Answer {
    rcode: Rcode,
    authoritative: bool,
    /// Whether there are more records than can fit. They were not made.
    truncated: bool,
    records: Records,
    extended_error: Option<ExtendedError>,
}

impl Answer {
    fn authoritative(rcode: Rcode) -> Answer {
        Answer { authoritative: true, ..Answer::from(rcode) }
    }

    fn refused(extended_error: ExtendedError) -> Answer {
        Answer { extended_error: Some(extended_error), ..Answer::from(Rcode::Refused) }
    }
}

impl From<Rcode> for Answer {
    fn from(rcode: Rcode) -> Self {
        Answer { rcode, authoritative: false, truncated: false, records: Records::NONE, extended_error: None }
    }
}

/// Decides on the answer. Checks the opcode first, because the meaning of the rest depends on it; then form, EDNS
/// version and class.
fn decide(request: &Request, zone: Option<&Zone>, identity: &[u8], turn: u32, limit: usize) -> Answer {
    match request.metadata.op_code {
        OpCode::Query => {}
        OpCode::Notify | OpCode::Update => return Answer::refused(ExtendedError::NotSupported),
        _ => return Rcode::NotImp.into(),
    }
    let Some(question) = request.question.as_ref().filter(|_| request.well_formed) else {
        return Rcode::FormErr.into();
    };
    if request.opt.is_some_and(|opt| opt.version > 0) {
        return Rcode::BadVers.into();
    }
    match (question.query_class(), zone) {
        (DNSClass::IN, Some(zone)) => internet(question, zone, turn, limit),
        (DNSClass::CH, _) => chaos(question, identity),
        (DNSClass::IN, None) => Answer::refused(ExtendedError::NotReady),
        _ => Answer::refused(ExtendedError::NotSupported),
    }
}

/// Returns the answer to a question of class IN: the rcode, the records and the TTL. Without records, the TTL is the
/// SOA's.
pub fn answer(zone: &Zone, qname: Name, qtype: RecordType) -> (Rcode, Vec<Record>, Option<u32>) {
    let Answer { rcode, records, .. } = records_of(&Query::query(qname, qtype), zone, 0, usize::MAX);
    let (answers, authorities) = match records {
        Records::Plain { answers, authorities, .. } => (answers, authorities),
        Records::NameServers(_) => Default::default(),
    };
    let ttl_seconds = answers.iter().chain(&authorities).map(|record| record.ttl).next();
    (rcode, answers, ttl_seconds)
}

fn internet(question: &Query, zone: &Zone, turn: u32, limit: usize) -> Answer {
    let of_an_apex = || {
        let qname = question.name().to_lowercase();
        zone.authorities().iter().find(|authority| *authority.apex() == qname)
    };
    let is_ns = question.query_type() == RecordType::NS;
    let Some(authority) = is_ns.then(of_an_apex).flatten() else {
        return records_of(question, zone, turn, limit);
    };
    let answer = Answer::authoritative(Rcode::NoError);
    if authority.name_server_count() * NS_LENGTH_MIN > limit {
        return Answer { truncated: true, ..answer };
    }
    let encode = |records: &[Record], glue: &[Record]| encode_name_servers(question, records, glue);
    let encoded = zone.encoded_name_servers(authority, encode);
    Answer { records: Records::NameServers(encoded), ..answer }
}

/// Returns the records of the answer from the zone. Returns none if the answer section exceeds `limit` octets.
fn records_of(question: &Query, zone: &Zone, turn: u32, limit: usize) -> Answer {
    let (qname, qtype) = (question.name(), question.query_type());
    let lookup = zone.lookup(&qname.to_lowercase(), qtype, turn);
    let meta = META_QUERIES.contains(&qtype.into()) || qtype == RecordType::OPT;
    match lookup {
        Lookup::NotInZone => Answer::refused(ExtendedError::NotAuthoritative),
        Lookup::Refused => Answer::refused(ExtendedError::NoReachableAuthority),
        _ if TRANSFERS.contains(&qtype.into()) => Answer::refused(ExtendedError::Prohibited),
        // RFC 8906, section 3.1.2: unknown types are NODATA, but meta-queries may be NOTIMP.
        _ if meta => Rcode::NotImp.into(),
        Lookup::Found { answers } => {
            let written = HEADER_LENGTH + qname.len() + answers.iter().map(octets_min).sum::<usize>();
            let Some(room) = limit.checked_sub(written) else {
                return Answer { truncated: true, ..Answer::authoritative(Rcode::NoError) };
            };
            let targets_max = if limit > usize::from(UDP_SIZE) { TARGETS_MAX_TCP } else { TARGETS_MAX_UDP };
            let additionals = zone.additionals(&answers, turn, room, targets_max);
            let answers = spelt_as(qname, answers);
            let records = Records::Plain { answers, authorities: Vec::new(), additionals };
            Answer { records, ..Answer::authoritative(Rcode::NoError) }
        }
        Lookup::NoData => negative(Rcode::NoError, qname, Vec::new(), qname, zone),
        Lookup::NxDomain => negative(Rcode::NxDomain, qname, Vec::new(), qname, zone),
        // RFC 6604, section 3: the rcode is that of the end of the chain.
        Lookup::Dangling { answers, last, exists } => {
            let rcode = if exists { Rcode::NoError } else { Rcode::NxDomain };
            negative(rcode, qname, spelt_as(qname, answers), &last, zone)
        }
    }
}

/// Returns the fewest octets that a record may take: those with its names as pointers.
fn octets_min(record: &Record) -> usize {
    const OWNER_TO_LENGTH: usize = 2 + 2 + 2 + 4 + 2;
    let data = match &record.data {
        RData::Unknown { rdata, .. } => rdata.anything.len(),
        RData::A(_) => 4,
        // The exchange may be the root.
        RData::MX(_) => 3,
        RData::AAAA(_) => 16,
        _ => 0,
    };
    OWNER_TO_LENGTH + data
}

/// Returns the records with the question's spelling of its name.
fn spelt_as(qname: &Name, mut records: Vec<Record>) -> Vec<Record> {
    for record in records.iter_mut().filter(|record| record.name == *qname) {
        record.name = qname.clone();
    }
    records
}

/// Returns a negative answer about `last`, the name at the end of a chain of `answers`, or the question's name. Its SOA
/// says how long caches may keep it (RFC 2308, section 3).
fn negative(rcode: Rcode, qname: &Name, answers: Vec<Record>, last: &Name, zone: &Zone) -> Answer {
    let mut soa = zone.negative_soa(&last.to_lowercase());
    // Use the question's spelling of the apex, so that the owner is a pointer as in the program's answers.
    soa.name = qname.trim_to(soa.name.iter().len());
    let records = Records::Plain { answers, authorities: vec![soa], additionals: Vec::new() };
    Answer { records, ..Answer::authoritative(rcode) }
}

/// Answers class CH: the server's identity (RFC 4892), but not its software.
fn chaos(question: &Query, identity: &[u8]) -> Answer {
    let qname = question.name().to_lowercase().to_ascii();
    if question.query_type() != RecordType::TXT || !matches!(&*qname, "id.server." | "hostname.bind.") {
        return Answer::refused(ExtendedError::NotSupported);
    }
    let text = RData::TXT(TXT::from_bytes(vec![identity]));
    let mut record = Record::from_rdata(question.name().clone(), 0, text);
    record.dns_class = DNSClass::CH;
    let records = Records::Plain { answers: vec![record], authorities: Vec::new(), additionals: Vec::new() };
    Answer { records, ..Answer::authoritative(Rcode::NoError) }
}

/// Makes the message. RD and CD are the request's; RA, AD and Z are 0. It has an OPT exactly if the request has one.
fn assemble(
    request: Request,
    answer: Answer,
    transport: Transport,
    identity: &[u8],
    cookie: Option<Cookie>,
) -> Outgoing {
    let Answer { rcode, authoritative, truncated, records, extended_error } = answer;
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.authoritative = authoritative;
    metadata.truncation = truncated;
    let rcode: ResponseCode = rcode.into();
    metadata.response_code = rcode;
    let opt = request.opt.map(|opt| {
        let mut options = our_options(opt, transport, identity, cookie);
        options.extend(extended_error.map(|error| (extended_error::OPTION, error.octets())));
        OutgoingOpt { payload_size: UDP_SIZE, rcode_high: rcode.high(), dnssec_ok: opt.dnssec_ok, options }
    });
    Outgoing { metadata, question: request.question, records, opt }
}

fn our_options(
    asked: Opt,
    transport: Transport,
    identity: &[u8],
    cookie: Option<Cookie>,
) -> Vec<(u16, Vec<u8>)> {
    let mut options = Vec::new();
    if asked.nsid {
        options.push((OPTION_NSID, identity.to_vec()));
    }
    if let Some(Cookie { client, head, hash }) = cookie {
        options.push((cookie::OPTION, [client, head, hash].map(u64::to_ne_bytes).concat()));
    }
    // Over UDP the option has no meaning (RFC 7828, section 3.3.2).
    if asked.keepalive && transport == Transport::Tcp {
        options.push((OPTION_KEEPALIVE, IDLE_TIMEOUT_UNITS.to_be_bytes().to_vec()));
    }
    options
}

/// Returns the most octets of an answer over UDP.
pub(super) fn udp_limit(opt: Option<Opt>) -> u16 {
    opt.map_or(UDP_SIZE_MIN, |opt| opt.payload_size.clamp(UDP_SIZE_MIN, UDP_SIZE))
}

#[cfg(test)]
mod tests;
