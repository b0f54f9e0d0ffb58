//! A query as the frame that a client sends.
use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RecordType};

use crate::records::wire;

/// The route of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The addresses of the client and the server.
    pub between: Between,
    /// The server's MAC address.
    pub mac: [u8; 6],
    /// The served port.
    pub port: u16,
}

/// Client and server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// Over IPv4.
    Ipv4([Ipv4Addr; 2]),
    /// Over IPv6.
    Ipv6([Ipv6Addr; 2]),
}

/// The part of a query after its question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edns {
    /// Nothing.
    None,
    /// An OPT record, as most resolvers send it.
    Opt,
    /// An OPT record with a client cookie (RFC 7873), as BIND and dig send it.
    Cookie,
    /// An OPT record with a client and a server cookie, as BIND and dig send it from the second query on.
    WholeCookie([u8; 16]),
}

/// A question of class IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query<'a> {
    /// The name that is asked for, in any case.
    pub qname: &'a Name,
    /// The type that is asked for.
    pub qtype: RecordType,
    /// The part after the question.
    pub edns: Edns,
}

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const CLIENT_COOKIE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
const CLIENT_PORT: u16 = 49_152;
const RECURSION_DESIRED: u16 = 0x0100;
const UDP: u8 = 17;
const HOPS: u8 = 64;

impl Route {
    /// Octets before the DNS message, in the query and in its answer.
    pub(super) const fn headers(&self) -> usize {
        match self.between {
            Between::Ipv4(_) => 14 + 20 + 8,
            Between::Ipv6(_) => 14 + 40 + 8,
        }
    }

    /// The text for the operator, which follows the kind of query.
    pub(super) const fn text(&self) -> &'static str {
        match self.between {
            Between::Ipv4(_) => "",
            Between::Ipv6(_) => ", over IPv6",
        }
    }
}

impl Edns {
    /// An OPT record: the root, type 41, 1232 octets, version 0, no flags, the length of the options, and the options.
    fn record(self) -> Vec<u8> {
        const HEAD: [u8; 9] = [0, 0, 41, 4, 208, 0, 0, 0, 0];
        match self {
            Edns::None => Vec::new(),
            Edns::Opt => [&HEAD[..], &[0, 0]].concat(),
            Edns::Cookie => [&HEAD[..], &[0, 12, 0, 10, 0, 8], &CLIENT_COOKIE].concat(),
            Edns::WholeCookie(server) => {
                [&HEAD[..], &[0, 28, 0, 10, 0, 24], &CLIENT_COOKIE, &server].concat()
            }
        }
    }
}

impl Query<'_> {
    /// The frame of this query. Its checksums are wrong; the program does not verify them.
    pub fn frame(&self, route: &Route) -> Vec<u8> {
        let message = self.message();
        let length = 8 + message.len() as u16;
        let mut frame = [route.mac, CLIENT_MAC].concat();
        match route.between {
            Between::Ipv4(ends) => {
                frame.extend([8, 0, 0x45, 0]);
                frame.extend((20 + length).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, HOPS, UDP, 0, 0]);
                frame.extend(ends.map(|end| end.octets()).as_flattened());
            }
            Between::Ipv6(ends) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                frame.extend(length.to_be_bytes());
                frame.extend([UDP, HOPS]);
                frame.extend(ends.map(|end| end.octets()).as_flattened());
            }
        }
        // IPv6 demands a UDP checksum, but the program does not verify its value.
        frame.extend([CLIENT_PORT, route.port, length, 0xbeef].into_iter().flat_map(u16::to_be_bytes));
        frame.extend(message);
        frame
    }

    fn message(&self) -> Vec<u8> {
        let additionals = u16::from(self.edns != Edns::None);
        let header = [0x1234, RECURSION_DESIRED, 1, 0, 0, additionals];
        let mut message: Vec<u8> = header.into_iter().flat_map(u16::to_be_bytes).collect();
        message.extend(wire(self.qname));
        message.extend([u16::from(self.qtype), 1].into_iter().flat_map(u16::to_be_bytes));
        message.extend(self.edns.record());
        message
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Message;
    use hickory_proto::rr::rdata::opt::EdnsCode;

    use super::*;

    #[test]
    fn the_message_is_the_query_that_it_says() {
        let qname = Name::from_ascii("nOde1.demo.example.com.").unwrap();
        let route = Route {
            between: Between::Ipv6([Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED]),
            mac: [2, 0, 0, 0, 0, 1],
            port: 5353,
        };
        let frame = Query { qname: &qname, qtype: RecordType::HTTPS, edns: Edns::Cookie }.frame(&route);
        let (headers, message) = frame.split_at(route.headers());
        assert_eq!(headers[..6], route.mac);
        assert_eq!(usize::from(u16::from_be_bytes([headers[18], headers[19]])), 8 + message.len());
        assert_eq!(headers[56..58], 5353_u16.to_be_bytes());
        let message = Message::from_vec(message).unwrap();
        assert_eq!(message.queries[0].name().to_string(), "nOde1.demo.example.com.");
        assert_eq!(message.queries[0].query_type(), RecordType::HTTPS);
        let edns = message.edns.unwrap();
        assert_eq!((edns.version(), edns.max_payload()), (0, 1232));
        assert!(edns.option(EdnsCode::Cookie).is_some());
    }
}
