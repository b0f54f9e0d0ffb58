//! The oracle of frames: the expected result for every frame, and the check of the actual one, in each state of a
//! server.
//!
//! The oracle parses the frame with its own code ([`crate::oracle::frames::read`]) and asks the responder. It therefore
//! finds both faults: a frame that is answered and must not be, and a frame that is not answered and could be.
use std::net::IpAddr;

use dns_xdp::responder::{Arrival, Response, Transport, respond};
use dns_xdp::zone::{Addresses, Lookup, Zone};
use dns_xdp_ebpf::outcome::{Action, Outcome};
use dns_xdp_ebpf::table::{FloodPolicy, SOA_MAX};
use hickory_proto::rr::{Name, RData};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use crate::oracle::frames::message::{CD, IN, Message, Opt, RD};
use crate::oracle::frames::{Checksum, Datagram, read, reply};
use crate::oracle::host::Server;
use crate::oracle::meaning::Meaning;
use crate::oracle::table::zone::{
    CENTURIES, COOKIES, LARGE_CAPACITY, PORT, SERVER, SERVER_MAC, places, serves_behind,
};
use crate::oracle::zones;

/// The time of day.
const SECONDS: u32 = COOKIES.0;

const QR: u16 = 0x8000;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
/// Flags that a query may have: AA, RD, RA, Z, AD and CD. Only RD and CD have a meaning.
const QUERY_FLAGS: u16 = 0x05f0;
const NXDOMAIN: u16 = 3;
const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;
const NSID: u16 = 3;
const COOKIE: u16 = 10;
/// Octets of a header, of an OPT record without options, and of an option with a whole cookie.
const HEADER: usize = 12;
const OPT: usize = 11;
const COOKIE_OPTION: usize = 28;
/// The shortest query: header, root, type and class. The longest message over UDP here, in or out.
const MESSAGE_MIN: usize = 17;
const MESSAGE_MAX: usize = 1232;
/// The longest answer without EDNS (RFC 1035, section 4.2.1).
const PLAIN_MAX: usize = 512;
/// The most options that are read, and the most addresses of one family in an answer.
const OPTIONS_MAX: usize = 8;
const ADDRESSES_MAX: usize = 16;

/// The expected result for a frame on a server with a zone, a lease, and room for the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// The frame goes to the stack unchanged.
    Passed,
    /// A response, which is dropped.
    Dropped,
    /// The frame is answered.
    Answered(Box<Exchange>),
}

/// A query, and the responder's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    datagram: Datagram,
    query: Message,
    response: Vec<u8>,
}

impl Expected {
    /// Returns the expected result for this frame.
    pub fn to(zone: &Zone, frame: &[u8]) -> Expected {
        let served = |datagram: &Datagram| {
            is_served(datagram) && (MESSAGE_MIN..=MESSAGE_MAX).contains(&datagram.message.len())
        };
        match read::datagram(frame).filter(served) {
            None => Expected::Passed,
            Some(datagram) if datagram.message[2] & 0x80 != 0 => Expected::Dropped,
            Some(datagram) => Exchange::of(zone, datagram).map_or(Expected::Passed, Expected::Answered),
        }
    }

    /// Checks the actual result for the frame. Returns its kind.
    ///
    /// # Errors
    /// The difference from the expected result.
    pub fn check(&self, frame: &[u8], action: Action, after: &[u8]) -> Result<String, String> {
        match (self, action) {
            (Expected::Answered(exchange), Action::Transmit) => exchange.check(after),
            (Expected::Passed, Action::Pass) if after == frame => Ok("passed".to_owned()),
            (Expected::Dropped, Action::Drop) if after == frame => Ok("dropped".to_owned()),
            (Expected::Passed, Action::Pass) | (Expected::Dropped, Action::Drop) => {
                Err(format!("the frame was changed to {after:02x?}"))
            }
            _ => Err(format!("{action:?}, but expected is {self:?}")),
        }
    }
}

impl Exchange {
    /// The expected exchange after a datagram to the server; `None`: only the responder answers the query.
    fn of(zone: &Zone, datagram: Datagram) -> Option<Box<Exchange>> {
        let query = Message::read(&datagram.message)?;
        let (qtype, qclass) = query.type_and_class()?;
        // The program does not distinguish a zero octet within a label from the name's end.
        let zeros = query.question[..query.question.len() - 4].iter().filter(|octet| **octet == 0);
        let plain = query.flags & !QUERY_FLAGS == 0 && zeros.count() == 1 && qclass == IN && !is_meta(qtype);
        let plain = plain
            && query.opt.as_ref().is_none_or(|opt| is_plain(zone, opt))
            && !is_reserved(zone, &query, qtype);
        let arrival = Arrival {
            transport: Transport::Udp,
            client: datagram.source,
            port: datagram.source_port,
            seconds: SECONDS,
        };
        let response = respond(&datagram.message, arrival, Some(zone), b"node1").filter(|_| plain);
        let response = response.map(Response::encode)?;
        let flags = u16::from_be_bytes([*response.get(2)?, *response.get(3)?]);
        // Answers about names outside the zone are not authoritative.
        let response = (flags & AA != 0).then_some(response)?;
        Some(Box::new(Exchange { datagram, query, response }))
    }

    fn check(&self, after: &[u8]) -> Result<String, String> {
        let answer = reply::message(&self.datagram, after)?;
        self.check_octets(&answer).map_err(|error| format!("{error}: {answer:02x?}"))?;
        let (ours, theirs) = (Meaning::of(&answer)?, Meaning::of(&self.response)?);
        if ours != theirs {
            return Err(format!("the program says {ours:#?}, the responder {theirs:#?}"));
        }
        Ok(ours.kind())
    }

    /// Checks the rules for every answer, of the program or of the responder.
    fn check_octets(&self, answer: &[u8]) -> Result<(), String> {
        let Exchange { query, .. } = self;
        let number = |at: usize| answer.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
        let (id, flags) = (number(0), number(2));
        if id != query.id {
            return Err(format!("id {id:#06x} instead of {:#06x}", query.id));
        }
        let copied = RD | CD;
        let said = flags & !(copied | TC);
        if said != QR | AA && said != QR | AA | NXDOMAIN || flags & copied != query.flags & copied {
            return Err(format!("flags {flags:#06x} to a query with {:#06x}", query.flags));
        }
        if number(4) != 1 || answer.get(HEADER..HEADER + query.question.len()) != Some(&query.question) {
            return Err("the question is another".to_owned());
        }
        if number(10) != u16::from(query.opt.is_some()) {
            return Err("OPT where the query has none, or the other way round".to_owned());
        }
        let limit = query.opt.as_ref().map_or(PLAIN_MAX, |opt| usize::from(opt.size));
        let limit = limit.clamp(PLAIN_MAX, MESSAGE_MAX);
        if answer.len() > limit {
            return Err(format!("{} octets for a client that takes {limit}", answer.len()));
        }
        Ok(())
    }
}

/// Whether a datagram is to the server, and from an address that queries come from.
fn is_served(datagram: &Datagram) -> bool {
    let Datagram { source, destination, checksum, .. } = datagram;
    let to_us = datagram.destination_mac == SERVER_MAC
        && SERVER.contains(destination)
        && datagram.destination_port == PORT
        && serves_behind(&datagram.tags);
    let from_elsewhere = source != destination && datagram.source_port != 0;
    let from_a_client = match source {
        IpAddr::V4(source) => !matches!(source.octets()[0], 0 | 127 | 224..),
        // Over IPv6 every datagram has a checksum (RFC 8200, section 8.1).
        IpAddr::V6(source) => {
            source.segments()[..4] != [0; 4] && !source.is_multicast() && *checksum != Checksum::Zero
        }
    };
    to_us && from_elsewhere && from_a_client
}

/// Whether only the responder answers a type: 0, NS, SOA, OPT, and 128 to 255 (RFC 6895, section 3.1).
fn is_meta(qtype: u16) -> bool {
    matches!(qtype, 0 | 2 | 6 | 41 | 128..=255)
}

fn is_plain(zone: &Zone, opt: &Opt) -> bool {
    let cookie_behind = |codes: &[u16]| {
        zone.flood_policy().secret_count != 0 && codes.iter().skip(1).any(|code| *code == COOKIE)
    };
    let plain = |codes: &[u16]| codes.len() <= OPTIONS_MAX && !codes.contains(&NSID) && !cookie_behind(codes);
    opt.version == 0 && opt.codes().is_some_and(|codes| plain(&codes))
}

/// Whether the program does not have the answer to a query.
fn is_reserved(zone: &Zone, query: &Message, qtype: u16) -> bool {
    let Ok(qname) = Name::read(&mut BinDecoder::new(&query.question)) else { return false };
    let qname = qname.to_lowercase();
    let lookup = zone.lookup(&qname, qtype.into(), 0);
    let is_negative = matches!(lookup, Lookup::NoData | Lookup::NxDomain);
    // The program finds a wildcard only beside the name: the name above has to exist.
    let is_missing = |name: &Name| zone.addresses(name).is_none();
    let may_be_wildcard = zone.has_wildcard() && is_missing(&qname) && is_missing(&qname.base_name());
    let source = zone.source_name(&qname).unwrap_or(&qname);
    // The program knows the types of a name by their last four bits.
    let types = zone.records().at(source).iter().map(|set| u16::from(set.rtype));
    let mut types = types.filter(|known| ![A, AAAA].contains(known));
    let is_alias = types.clone().any(|known| known == CNAME);
    let is_address = [A, AAAA].contains(&qtype) && !is_negative;
    let is_of_record = !is_address && types.any(|known| known % 16 == qtype % 16);
    if may_be_wildcard || is_alias || is_of_record {
        return true;
    }
    // The program has the SOA record of the zone's own apex only.
    if is_negative && !zone.apex().zone_of(&qname) {
        return true;
    }
    let is_left = |addresses: &Addresses| {
        let answered = addresses.ipv4.len().max(addresses.ipv6.len()).min(addresses.answers_max);
        addresses.refused || addresses.nodata_ttl_seconds.is_some() || answered > ADDRESSES_MAX
    };
    zone.addresses(source).is_some_and(is_left) || is_negative && soa_octets(zone) > SOA_MAX
}

/// The length of the SOA record in a negative answer; its owner is a pointer and nothing else is compressed.
fn soa_octets(zone: &Zone) -> usize {
    let RData::SOA(soa) = zone.soa().data else { unreachable!("the data are those of an SOA record") };
    zones::SOA_REST + zones::wire(&soa.mname).len() + zones::wire(&soa.rname).len()
}

/// A server in every state that matters for a frame.
#[derive(Debug)]
pub struct States {
    zone: Zone,
    serving: Server,
    in_front: Server,
    at_tail: Server,
    no_room: Server,
    expired: Server,
    unpublished: Server,
    /// Allows one answer to each prefix, then all slip; allows one query for the responder.
    slipping: Server,
    /// Allows one answer to each prefix.
    holding: Server,
    /// The same, and a frame cannot be resized.
    holding_no_room: Server,
}

impl States {
    /// Servers with this zone.
    pub fn of(zone: Zone) -> States {
        let unpublished = || Server::new(&places(), false, PORT);
        let with = |zone: &Zone, change: fn(&mut Server)| {
            let mut server = unpublished();
            server.publish_in(zone, LARGE_CAPACITY);
            server.seconds = SECONDS;
            change(&mut server);
            server
        };
        let serving_but = |change| with(&zone, change);
        let limited = |slip, change| {
            let rates = FloodPolicy { answers: CENTURIES, fallback: CENTURIES, slip, ..*zone.flood_policy() };
            with(&zone.clone().guarded(rates), change)
        };
        States {
            serving: serving_but(|server| server.headroom = true),
            in_front: serving_but(|server| (server.room, server.headroom) = (false, true)),
            at_tail: serving_but(|_| ()),
            no_room: serving_but(|server| server.room = false),
            expired: serving_but(|server| server.lease_lives = false),
            unpublished: unpublished(),
            slipping: limited(1, |server| server.headroom = true),
            holding: limited(0, |server| server.headroom = true),
            holding_no_room: limited(0, |server| server.room = false),
            zone,
        }
    }

    /// Checks a frame against the oracle in every state. Returns the kind of the result.
    ///
    /// # Errors
    /// The difference from the expected result.
    pub fn hold(&self, frame: &[u8]) -> Result<String, String> {
        let (outcome, after) = self.serving.run(frame);
        let kind = Expected::to(&self.zone, frame).check(frame, outcome.action(), &after)?;
        check_counter(frame, outcome, &kind)?;

        let (longer, shorter) = (after.len() > frame.len(), after.len() < frame.len());
        let rooms = [
            ("in front", &self.in_front, shorter),
            ("at the tail", &self.at_tail, false),
            ("nowhere", &self.no_room, longer || shorter),
        ];
        for (room, server, lacks_room) in rooms {
            let (there, after_there) = server.run(frame);
            let expected = if lacks_room { (Outcome::NoRoom, frame) } else { (outcome, &after[..]) };
            if (there, &after_there[..]) != expected {
                return Err(format!("with room {room}, {}: {after_there:02x?}", there.text()));
            }
        }
        for (server, reason) in [(&self.expired, Outcome::LeaseExpired), (&self.unpublished, Outcome::NoZone)]
        {
            let (there, after_there) = server.run(frame);
            let passed = match outcome.action() {
                Action::Transmit => there == reason,
                action => there.action() == action,
            };
            if !passed || after_there != frame {
                return Err(format!("{} for {}: {after_there:02x?}", there.text(), reason.text()));
            }
        }
        self.hold_limits(frame, outcome, &after)?;
        if longer || shorter {
            self.hold_limits_without_room(frame)?;
        }
        Ok(kind)
    }

    /// Sends the frame twice to servers that allow each prefix one answer. The first is treated as without a limit. The
    /// second is above the limit, unless it has a valid cookie.
    fn hold_limits(&self, frame: &[u8], outcome: Outcome, after: &[u8]) -> Result<(), String> {
        let is_answered = outcome.action() == Action::Transmit;
        let datagram = read::datagram(frame).filter(|_| is_answered);
        let exchange = datagram.and_then(|datagram| {
            let query = Message::read(&datagram.message)?;
            Some(reply::message(&datagram, after).map(|answer| (datagram, query, answer)))
        });
        let exchange = exchange.transpose()?;
        let vouched = exchange.as_ref().is_some_and(|(_, query, answer)| {
            let (opt, cookie) = (query.opt.as_ref(), cookie(answer));
            opt.zip(cookie).is_some_and(|(opt, cookie)| opt.options.starts_with(cookie))
        });
        for (server, slips) in [(&self.slipping, true), (&self.holding, false)] {
            server.forget_clients();
            let first = server.run(frame);
            let (again, after_again) = server.run(frame);
            let wrong =
                |what: &str| Err(format!("{what}, slips: {slips}: {}: {after_again:02x?}", again.text()));
            if first != (outcome, after.to_vec()) {
                return wrong("the first of a prefix is treated otherwise");
            }
            match &exchange {
                Some((datagram, query, answer)) if slips && !vouched => {
                    let slipped = (again == Outcome::Slipped).then(|| reply::message(datagram, &after_again));
                    if slipped.transpose()? != Some(truncated(query, answer)) {
                        return wrong("what slips is not the answer without its records");
                    }
                }
                _ => {
                    let expected = match outcome {
                        _ if is_answered && !vouched => Outcome::RateLimited,
                        _ if outcome.action() == Action::Pass && reaches_the_responder(frame) => {
                            Outcome::FallbackLimited
                        }
                        _ if outcome.is_for_the_responder() => Outcome::FallbackLimited,
                        as_ever => as_ever,
                    };
                    let expected_after = if expected == outcome { after } else { frame };
                    if (again, &after_again[..]) != (expected, expected_after) {
                        return wrong("the second of a prefix");
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends the frame twice to a server that allows each prefix one answer and one query for the responder, and cannot
    /// resize the frame.
    fn hold_limits_without_room(&self, frame: &[u8]) -> Result<(), String> {
        let server = &self.holding_no_room;
        server.forget_clients();
        let expected = [Outcome::NoRoom, Outcome::FallbackLimited];
        for (nth, expected) in expected.into_iter().enumerate() {
            server.forget_answers();
            let (there, after) = server.run(frame);
            if (there, &after[..]) != (expected, frame) {
                return Err(format!("without room, query {nth}: {}: {after:02x?}", there.text()));
            }
        }
        Ok(())
    }
}

/// Whether the stack gives the datagram in a frame to the responder, if the program passes it. It delivers frames to
/// groups too.
fn reaches_the_responder(frame: &[u8]) -> bool {
    read::datagram(frame).is_some_and(|datagram| {
        let to_station = datagram.destination_mac == SERVER_MAC || datagram.destination_mac[0] & 1 == 1;
        let to_server = SERVER.contains(&datagram.destination) && datagram.destination_port == PORT;
        to_station && to_server && serves_behind(&datagram.tags)
    })
}

/// The cookie option at the end of an answer: the client's part and the server's (RFC 9018, section 4).
fn cookie(answer: &[u8]) -> Option<&[u8]> {
    let option = &answer[answer.len().checked_sub(COOKIE_OPTION)?..];
    option.starts_with(&[0, COOKIE as u8, 0, COOKIE_OPTION as u8 - 4]).then_some(option)
}

/// Returns the answer with TC and without its records, except OPT.
fn truncated(query: &Message, answer: &[u8]) -> Vec<u8> {
    let opt = query.opt.as_ref().map_or(0, |_| OPT + cookie(answer).map_or(0, <[u8]>::len));
    let (before, opt) = (&answer[..HEADER + query.question.len()], &answer[answer.len() - opt..]);
    let mut truncated = [before, opt].concat();
    truncated[2] |= (TC >> 8) as u8;
    // The counts of the answer and authority sections.
    truncated[6..10].fill(0);
    truncated
}

/// Whether the counter agrees with the frame's result.
fn check_counter(frame: &[u8], outcome: Outcome, kind: &str) -> Result<(), String> {
    let told = match outcome {
        Outcome::Answered => "NoError with answers",
        Outcome::NoData => "NoError",
        Outcome::NxDomain => "NXDomain",
        Outcome::Truncated => "truncated",
        Outcome::Response => "dropped",
        _ => "passed",
    };
    let to_port = read::datagram(frame).map(|datagram| datagram.destination_port == PORT);
    if told != kind || to_port.is_some_and(|to_port| to_port == (outcome == Outcome::NotForUs)) {
        return Err(format!("counted as {}: {kind}", outcome.text()));
    }
    Ok(())
}
