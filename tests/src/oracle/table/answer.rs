//! The expected answers, written octet by octet.
use std::net::{Ipv4Addr, Ipv6Addr};

use super::zone::{APEX_LENGTH, NEGATIVE_TTL, SERIAL, TTL, within};
use crate::oracle::frames::message::{A, AAAA, CD, IN, Message, RD, name};
use crate::oracle::frames::octets;

const QR: u16 = 0x8000;
const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
/// The server's own EDNS size.
const UDP_SIZE: u16 = 1232;
const SOA: u16 = 6;
const OPT: u16 = 41;
/// A pointer to the question's name.
const QNAME: u16 = 0xc00c;

/// NOERROR.
pub(super) const NO_ERROR: u16 = 0;
/// NXDOMAIN.
pub(super) const NX_DOMAIN: u16 = 3;

/// An answer with these records.
pub(super) fn positive(query: &Message, records: &[Vec<u8>]) -> Vec<u8> {
    answer(query, NO_ERROR, records, &[])
}

/// A negative answer, with the SOA record.
pub(super) fn negative(query: &Message, rcode: u16) -> Vec<u8> {
    negative_of(query, rcode, &within("hostmaster"))
}

/// The same in a zone with another mailbox.
pub(super) fn negative_of(query: &Message, rcode: u16, contact: &str) -> Vec<u8> {
    let qname_length = query.question.len() - 4;
    let apex = QNAME + u16::try_from(qname_length - APEX_LENGTH).expect("a name has at most 255 octets");
    answer(query, rcode, &[], &[soa(apex, contact)])
}

/// A truncated answer without the records, which do not fit.
pub(super) fn truncated(query: &Message) -> Vec<u8> {
    truncated_as(query, NO_ERROR)
}

/// The same with a response code.
pub(super) fn truncated_as(query: &Message, rcode: u16) -> Vec<u8> {
    answer(query, TC | rcode, &[], &[])
}

/// An A record of the question's name.
pub(super) fn a(address: Ipv4Addr) -> Vec<u8> {
    record(QNAME, A, TTL, &address.octets())
}

/// An AAAA record of the question's name.
pub(super) fn aaaa(address: Ipv6Addr) -> Vec<u8> {
    record(QNAME, AAAA, TTL, &address.octets())
}

fn answer(query: &Message, flags: u16, answers: &[Vec<u8>], authorities: &[Vec<u8>]) -> Vec<u8> {
    let flags = flags | QR | AA | query.flags & (RD | CD);
    let count = |records: &[Vec<u8>]| u16::try_from(records.len()).expect("an answer has few records");
    let opt = query.opt.as_ref().map(|opt| {
        // Root, type, size; no extended response code, version 0, DO as in the query; no options.
        [&[0], &octets(&[OPT, UDP_SIZE, 0, opt.flags & 0x8000, 0])[..]].concat()
    });
    let additionals = u16::from(opt.is_some());
    let mut bytes = octets(&[query.id, flags, 1, count(answers), count(authorities), additionals]);
    bytes.extend(&query.question);
    bytes.extend(answers.concat());
    bytes.extend(authorities.concat());
    bytes.extend(opt.into_iter().flatten());
    bytes
}

/// The data of the SOA record (RFC 1035, section 3.3.13); the timers are the zone's.
fn soa(owner: u16, contact: &str) -> Vec<u8> {
    let (refresh, retry, expire): (u32, u32, u32) = (14_400, 3_600, 604_800);
    let mut rdata = [name(&within("ns1")), name(contact)].concat();
    for number in [SERIAL, refresh, retry, expire, NEGATIVE_TTL] {
        rdata.extend(number.to_be_bytes());
    }
    record(owner, SOA, NEGATIVE_TTL, &rdata)
}

fn record(owner: u16, rtype: u16, ttl: u32, rdata: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rdata.len()).expect("the tests' records are small").to_be_bytes();
    [&octets(&[owner, rtype, IN])[..], &ttl.to_be_bytes(), &length, rdata].concat()
}
