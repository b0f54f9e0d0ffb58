//! Parses any frame: its datagram and the query in it, if they are complete and plain.
use std::net::IpAddr;

use super::message::{Message, OPT, Opt};
use super::{Checksum, Datagram, SERVICE_TAG, TAG, UDP};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// The most VLAN tags that are read.
const TAGS_MAX: usize = 2;
/// More fragments, and the offset.
const FRAGMENT: u16 = 0x3fff;
/// RFC 1035, section 2.3.4.
const LABEL_MAX: u8 = 63;
const NAME_MAX: usize = 255;

/// The datagram in a frame; `None`: there is none, or it has options, is a fragment, or has contradictory lengths.
/// Fields that no answer depends on are not read. Only the presence of the checksum is read, not its value.
pub fn datagram(frame: &[u8]) -> Option<Datagram> {
    let mut rest = frame;
    let (destination_mac, source_mac) = (take(&mut rest)?, take(&mut rest)?);
    let mut tags = Vec::new();
    let mut ethertype = number(&mut rest)?;
    while [TAG, SERVICE_TAG].contains(&ethertype) && tags.len() < TAGS_MAX {
        tags.push((ethertype, number(&mut rest)?));
        ethertype = number(&mut rest)?;
    }
    let (source, destination, length) = match ethertype {
        IPV4 => ipv4(&mut rest)?,
        IPV6 => ipv6(&mut rest)?,
        _ => return None,
    };
    let (source_port, destination_port) = (number(&mut rest)?, number(&mut rest)?);
    if usize::from(number(&mut rest)?) != length {
        return None;
    }
    let checksum = if number(&mut rest)? == 0 { Checksum::Zero } else { Checksum::Whole };
    let (message, padding) = rest.split_at_checked(length.checked_sub(8)?)?;
    Some(Datagram {
        destination_mac,
        source_mac,
        tags,
        ethertype: None,
        source,
        destination,
        version: None,
        ip_options: Vec::new(),
        fragment: 0,
        protocol: UDP,
        ttl: 0,
        ip_length: None,
        source_port,
        destination_port,
        udp_length: None,
        checksum,
        message: message.to_vec(),
        padding: padding.to_vec(),
    })
}

/// Source, destination, and octets behind the header.
fn ipv4(rest: &mut &[u8]) -> Option<(IpAddr, IpAddr, usize)> {
    let [version, _service] = take(rest)?;
    let (total, _identification, fragment) = (number(rest)?, number(rest)?, number(rest)?);
    let [_ttl, protocol, _, _] = take(rest)?;
    let (source, destination): ([u8; 4], [u8; 4]) = (take(rest)?, take(rest)?);
    let plain = version == 0x45 && fragment & FRAGMENT == 0 && protocol == UDP;
    let length = usize::from(total).checked_sub(20).filter(|_| plain)?;
    Some((source.into(), destination.into(), length))
}

/// See [`ipv4`].
fn ipv6(rest: &mut &[u8]) -> Option<(IpAddr, IpAddr, usize)> {
    let [version, _, _, _] = take(rest)?;
    let payload = number(rest)?;
    let [next_header, _hop_limit] = take(rest)?;
    let (source, destination): ([u8; 16], [u8; 16]) = (take(rest)?, take(rest)?);
    let plain = version >> 4 == 6 && next_header == UDP;
    plain.then_some((source.into(), destination.into(), usize::from(payload)))
}

impl Message {
    /// The query in wire form; `None`: it is not exactly one uncompressed question with at most an OPT record. It is
    /// the inverse of [`Message::bytes`].
    pub fn read(bytes: &[u8]) -> Option<Message> {
        let mut rest = bytes;
        let (id, flags) = (number(&mut rest)?, number(&mut rest)?);
        let additionals = match take(&mut rest)? {
            [0, 1, 0, 0, 0, 0, 0, additionals @ 0..=1] => additionals,
            _ => return None,
        };
        let mut question = qname(&mut rest)?;
        question.extend(take::<4>(&mut rest)?);
        let opt = if additionals == 0 { None } else { Some(opt(&mut rest)?) };
        rest.is_empty().then_some(Message { id, flags, counts: None, question, opt, trailing: Vec::new() })
    }

    /// QTYPE and QCLASS of a message that was read.
    pub fn type_and_class(&self) -> Option<(u16, u16)> {
        let mut behind = self.question.get(self.question.len().checked_sub(4)?..)?;
        Some((number(&mut behind)?, number(&mut behind)?))
    }
}

fn qname(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    loop {
        let [length] = take(rest)?;
        name.push(length);
        if length > LABEL_MAX || name.len() + usize::from(length) > NAME_MAX {
            return None;
        }
        if length == 0 {
            return Some(name);
        }
        let (label, behind) = rest.split_at_checked(length.into())?;
        name.extend(label);
        *rest = behind;
    }
}

fn opt(rest: &mut &[u8]) -> Option<Opt> {
    let [owner] = take(rest)?;
    let (rtype, size) = (number(rest)?, number(rest)?);
    let [extended_rcode, version] = take(rest)?;
    let (flags, length) = (number(rest)?, number(rest)?);
    let (options, behind) = rest.split_at_checked(length.into())?;
    *rest = behind;
    let options = options.to_vec();
    let record =
        Opt { owner: vec![owner], rtype, size, extended_rcode, version, flags, length: None, options };
    (owner == 0 && rtype == OPT).then_some(record)
}

impl Opt {
    /// The codes of the options; `None`: they do not end at the end of the record.
    pub fn codes(&self) -> Option<Vec<u16>> {
        let mut rest = &self.options[..];
        let mut codes = Vec::new();
        while !rest.is_empty() {
            codes.push(number(&mut rest)?);
            let length = usize::from(number(&mut rest)?);
            rest = rest.get(length..)?;
        }
        Some(codes)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*first)
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    take(rest).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::super::message::{A, option};
    use super::super::octets;
    use super::*;
    use crate::oracle::table::zone::{ask, over_ipv4, over_ipv6};

    fn query() -> Message {
        ask("node3", A).with(Opt { options: option(10, b"client c").repeat(2), ..Opt::of_size(4096) })
    }

    #[test]
    fn a_datagram_is_read_as_it_was_built() {
        for query in [over_ipv4(&query()), over_ipv6(&query())] {
            for tags in [vec![], vec![(TAG, 5)], vec![(SERVICE_TAG, 6), (TAG, 7)]] {
                let query = Datagram { tags, padding: vec![1; 9], ttl: 0, ..query.clone() };
                assert_eq!(datagram(&query.frame()), Some(query));
            }
        }
    }

    #[test]
    fn a_datagram_that_is_cut_off_or_no_plain_one_is_not_read() {
        let query = over_ipv4(&query());
        let frame = query.frame();
        for octets in 0..frame.len() {
            assert_eq!(datagram(&frame[..octets]), None, "{octets} octets");
        }
        for not_plain in [
            Datagram { tags: vec![(TAG, 1); 3], ..query.clone() },
            Datagram { ip_options: vec![1; 4], ..query.clone() },
            Datagram { fragment: 1, ..query.clone() },
            Datagram { protocol: 6, ..query.clone() },
            Datagram { ip_length: Some(40), ..query.clone() },
            Datagram { udp_length: Some(40), ..query.clone() },
            Datagram { version: Some(0x46), ..query },
        ] {
            assert_eq!(datagram(&not_plain.frame()), None);
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_built_or_not_at_all() {
        let query = query();
        let bytes = query.bytes();
        assert_eq!(query.type_and_class(), Some((A, 1)));
        assert_eq!(query.opt.as_ref().and_then(Opt::codes), Some(vec![10, 10]));
        assert_eq!(Message::read(&bytes), Some(query));
        assert_eq!(Message::read(&[&bytes[..], &octets(&[0])].concat()), None, "something behind it");
        for cut in 0..bytes.len() {
            assert_eq!(Message::read(&bytes[..cut]), None, "{cut} octets");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x40;
            assert!(Message::read(&changed).is_none_or(|message| message.bytes() == changed), "octet {at}");
        }
    }
}
