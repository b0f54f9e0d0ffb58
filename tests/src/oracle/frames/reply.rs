//! Parses the frame of an answer strictly: everything around the message has to be right.
use hickory_proto::op::Message;

use super::{Datagram, UDP, address, length, octets, pseudo_header, sum};

/// TTL or hop limit of an answer.
const HOPS: u8 = 64;
/// Don't fragment.
const WHOLE: u16 = 0x4000;

/// The DNS message in the frame that answers `query`.
///
/// # Errors
/// The frame has a fault, or the message is invalid.
pub fn message(query: &Datagram, frame: &[u8]) -> Result<Vec<u8>, String> {
    let mut reply = Reading { rest: frame };
    reply.ethernet(query)?;
    if query.source.is_ipv4() {
        reply.ipv4(query)?;
    } else {
        reply.ipv6(query)?;
    }
    reply.udp(query)?;
    match Message::from_vec(reply.rest) {
        Ok(_) => Ok(reply.rest.to_vec()),
        Err(error) => Err(format!("the message cannot be read: {error}: {:02x?}", reply.rest)),
    }
}

/// The octets that are not read yet.
struct Reading<'f> {
    rest: &'f [u8],
}

impl Reading<'_> {
    fn ethernet(&mut self, query: &Datagram) -> Result<(), String> {
        self.expect("destination MAC", &query.source_mac)?;
        self.expect("source MAC", &query.destination_mac)?;
        for (ethertype, control) in &query.tags {
            self.expect("VLAN tag", &octets(&[*ethertype, *control]))?;
        }
        self.expect("EtherType", &query.ethertype().to_be_bytes())
    }

    fn ipv4(&mut self, query: &Datagram) -> Result<(), String> {
        let header = self.rest.get(..20).ok_or("the frame ends in the IPv4 header")?;
        if sum(&[header]) != 0xffff {
            return Err(format!("IPv4 header checksum: {header:02x?}"));
        }
        let total = length(self.rest.len());
        self.expect("version, header length, service", &[0x45, 0])?;
        self.expect("total length, which is that of the frame", &total.to_be_bytes())?;
        self.expect("identification, flags, fragment offset", &octets(&[0, WHOLE]))?;
        self.expect("TTL, protocol", &[HOPS, UDP])?;
        self.rest = &self.rest[2..];
        self.expect("source address", &address(query.destination))?;
        self.expect("destination address", &address(query.source))
    }

    fn ipv6(&mut self, query: &Datagram) -> Result<(), String> {
        let payload = self.rest.len().checked_sub(40).ok_or("the frame ends in the IPv6 header")?;
        self.expect("version, traffic class, flow label", &[0x60, 0, 0, 0])?;
        self.expect("payload length, which is that of the frame", &length(payload).to_be_bytes())?;
        self.expect("next header, hop limit", &[UDP, HOPS])?;
        self.expect("source address", &address(query.destination))?;
        self.expect("destination address", &address(query.source))
    }

    fn udp(&mut self, query: &Datagram) -> Result<(), String> {
        let datagram = self.rest;
        let pseudo = pseudo_header(query.destination, query.source, datagram.len());
        self.expect("ports", &octets(&[query.destination_port, query.source_port]))?;
        self.expect("UDP length", &length(datagram.len()).to_be_bytes())?;
        match self.rest {
            [0, 0, ..] => Err("UDP checksum: none".to_owned()),
            [_, _, message @ ..] if sum(&[&pseudo, datagram]) == 0xffff => {
                self.rest = message;
                Ok(())
            }
            _ => Err(format!("UDP checksum: {datagram:02x?}")),
        }
    }

    fn expect(&mut self, what: &str, expected: &[u8]) -> Result<(), String> {
        let found = &self.rest[..expected.len().min(self.rest.len())];
        if found != expected {
            return Err(format!("{what}: {found:02x?} instead of {expected:02x?}"));
        }
        self.rest = &self.rest[expected.len()..];
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Checksum, TAG};
    use super::*;
    use crate::oracle::table::zone::{ask, over_ipv4, over_ipv6};

    /// A query and its answer. The answer differs from the query only where it has to.
    fn exchange(query: Datagram) -> (Datagram, Vec<u8>) {
        let query = Datagram { tags: vec![(TAG, 7)], checksum: Checksum::Zero, ..query };
        let turned = Datagram {
            destination_mac: query.source_mac,
            source_mac: query.destination_mac,
            source: query.destination,
            destination: query.source,
            source_port: query.destination_port,
            destination_port: query.source_port,
            fragment: WHOLE,
            ttl: HOPS,
            checksum: Checksum::Whole,
            ..query.clone()
        };
        let mut frame = turned.frame();
        if query.source.is_ipv4() {
            // An answer has no identification. The checksum changes accordingly.
            let checksum = sum(&[&frame[28..30], &frame[22..24]]);
            frame[22..24].fill(0);
            frame[28..30].copy_from_slice(&checksum.to_be_bytes());
        } else {
            frame[18..22].copy_from_slice(&[0x60, 0, 0, 0]);
        }
        (query, frame)
    }

    #[test]
    fn a_true_answer_is_read_and_one_with_any_octet_changed_is_not() {
        let message_bytes = ask("node1", 1).bytes();
        for query in [over_ipv4(&ask("node1", 1)), over_ipv6(&ask("node1", 1))] {
            let (query, frame) = exchange(query);
            assert_eq!(message(&query, &frame), Ok(message_bytes.clone()));
            for at in 0..frame.len() {
                let mut changed = frame.clone();
                changed[at] ^= 0x40;
                assert!(message(&query, &changed).is_err(), "octet {at}");
            }
            for other in [&frame[..frame.len() - 1], &[&frame[..], &[0]].concat()] {
                assert!(message(&query, other).is_err(), "{} octets", other.len());
            }
        }
    }
}
