//! Rows about link, IP and UDP: foreign packets, malformed packets, and packets that no client sends.
use std::net::IpAddr;

use dns_xdp_ebpf::outcome::Outcome;

use super::zone::{SERVER, SERVER_MAC, ask, ipv4, over_ipv4, over_ipv6};
use super::{Row, answer};
use crate::oracle::frames::message::{A, Opt, option};
use crate::oracle::frames::{Datagram, MORE_FRAGMENTS, Mac, SERVICE_TAG, TAG};

/// MAC addresses of groups: all stations, mDNS over IPv4, all nodes over IPv6, and the server's own with the group's bit.
pub(super) const GROUP_MACS: [Mac; 4] = [
    [0xff; 6],
    [0x01, 0x00, 0x5e, 0x00, 0x00, 0xfb],
    [0x33, 0x33, 0x00, 0x00, 0x00, 0x01],
    [SERVER_MAC[0] | 1, SERVER_MAC[1], SERVER_MAC[2], SERVER_MAC[3], SERVER_MAC[4], SERVER_MAC[5]],
];
/// The largest message that is parsed, in octets.
const MESSAGE_MAX: usize = 1232;

pub(super) fn rows() -> Vec<Row> {
    [ethernet(), ip(), sources(), lengths(), cut_frames()].concat()
}

/// The two queries that the rows vary.
fn queries() -> [Datagram; 2] {
    [over_ipv4(&ask("node3", A)), over_ipv6(&ask("node3", A))]
}

fn ethernet() -> Vec<Row> {
    let mut rows = Vec::new();
    for query in queries() {
        let tagged = |tags: &[(u16, u16)]| Datagram { tags: tags.to_vec(), ..query.clone() };
        let three = [(SERVICE_TAG, 1), (TAG, 2), (TAG, 3)];
        rows.push(Row::untouched("three VLAN tags", Outcome::NotForUs, &tagged(&three)));
        for foreign in [
            vec![(TAG, 6)],
            vec![(SERVICE_TAG, 5)],
            vec![(TAG, 7), (SERVICE_TAG, 6)],
            vec![(TAG, 6), (TAG, 7)],
            vec![(SERVICE_TAG, 6)],
            vec![(TAG, 5), (TAG, 7)],
            vec![(TAG, 0), (TAG, 6)],
            vec![(TAG, 6), (SERVICE_TAG, 0)],
            vec![(SERVICE_TAG, 0), (TAG, 7)],
        ] {
            let what = format!("a VLAN that is not served: {foreign:x?}");
            rows.push(Row::untouched(what, Outcome::ForeignAddress, &tagged(&foreign)));
        }
        for ethertype in [0x0806, 0x8847, 0x88cc, 0x0000, 0xffff] {
            let query = Datagram { ethertype: Some(ethertype), ..query.clone() };
            rows.push(Row::untouched(format!("EtherType {ethertype:#06x}"), Outcome::NotForUs, &query));
        }
        for (what, octet, value) in [
            ("the MAC address of another station", 5, 0x54),
            ("a MAC address that differs in its first octet", 0, 0x06),
        ] {
            let mut query = query.clone();
            query.destination_mac[octet] = value;
            rows.push(Row::untouched(what, Outcome::ForeignMac, &query));
        }
        for destination_mac in GROUP_MACS {
            let query = Datagram { destination_mac, ..query.clone() };
            rows.push(Row::untouched(format!("to {destination_mac:02x?}"), Outcome::GroupMac, &query));
            let foreign = if query.source.is_ipv4() { "192.0.2.54" } else { "2001:db8::54" };
            let foreign = Datagram { destination: address(foreign), ..query };
            rows.push(Row::untouched("the same to another address", Outcome::ForeignAddress, &foreign));
        }
        let other = if query.source.is_ipv4() { "192.0.2.54" } else { "2001:db8::54" };
        let group = if query.source.is_ipv4() { "224.0.0.251" } else { "ff02::fb" };
        let mut foreign = [other, group].map(address).to_vec();
        // A multicast address with the octets that the served IPv4 address has in the program's table.
        foreign.extend(query.source.is_ipv6().then(|| {
            let IpAddr::V4(served) = SERVER[0] else { unreachable!("the first is IPv4") };
            let [high, low] = [[0xff; 8], (u64::from(served.to_bits()) << 32).to_be_bytes()];
            IpAddr::from(<[u8; 16]>::try_from([high, low].concat()).expect("both are halves"))
        }));
        for destination in foreign {
            let query = Datagram { destination, ..query.clone() };
            rows.push(Row::untouched(format!("to {destination}"), Outcome::ForeignAddress, &query));
        }
    }
    rows
}

fn ip() -> Vec<Row> {
    let mut rows = Vec::new();
    for query in queries() {
        for protocol in [0, 1, 6, 44, 58, 132] {
            let query = Datagram { protocol, ..query.clone() };
            rows.push(Row::untouched(format!("protocol {protocol}"), Outcome::NotForUs, &query));
        }
        for destination_port in [0, 52, 54, 0x3500] {
            let query = Datagram { destination_port, ..query.clone() };
            rows.push(Row::untouched(format!("to port {destination_port}"), Outcome::NotForUs, &query));
        }
        let query = Datagram { source_port: 0, ..query };
        rows.push(Row::untouched("from port 0", Outcome::SourcePort, &query));
    }
    let [query, over_ipv6] = queries();
    for fragment in [MORE_FRAGMENTS, 1, 0x1fff, MORE_FRAGMENTS | 185] {
        let query = Datagram { fragment, ..query.clone() };
        // A later fragment does not contain its port.
        let outcome = if fragment == MORE_FRAGMENTS { Outcome::Fragment } else { Outcome::NotForUs };
        rows.push(Row::untouched(format!("fragment {fragment:#06x}"), outcome, &query));
    }
    for fragment in [0x4000, 0x8000] {
        let query = Datagram { fragment, ..query.clone() };
        let message = answer::positive(&ask("node3", A), &[answer::a(ipv4(1))]);
        rows.push(Row::answered(format!("flags {fragment:#06x}"), Outcome::Answered, query, message));
    }
    let router_alert = Datagram { ip_options: vec![0x94, 4, 0, 0], ..query.clone() };
    rows.push(Row::untouched("IPv4 options", Outcome::IpHeader, &router_alert));
    for version in [0x00, 0x44, 0x46, 0x4f, 0x55, 0x65] {
        let query = Datagram { version: Some(version), ..query.clone() };
        rows.push(Row::untouched(format!("IPv4 begins with {version:#04x}"), Outcome::NotForUs, &query));
    }
    for version in [0x0a, 0x4a, 0x5a, 0x7a, 0xea] {
        let query = Datagram { version: Some(version), ..over_ipv6.clone() };
        rows.push(Row::untouched(format!("IPv6 begins with {version:#04x}"), Outcome::NotForUs, &query));
    }
    for (what, next_header, extension, outcome) in [
        ("hop-by-hop options", 0, [17, 0, 1, 4, 0, 0, 0, 0], Outcome::IpHeader),
        ("a fragment header", 44, [17, 0, 0, 1, 0, 0, 0, 9], Outcome::Fragment),
        ("a later fragment's header", 44, [17, 0, 0, 9, 0, 0, 0, 9], Outcome::NotForUs),
        ("options before TCP", 60, [6, 0, 1, 4, 0, 0, 0, 0], Outcome::NotForUs),
    ] {
        let query = Datagram { protocol: next_header, ip_options: extension.to_vec(), ..over_ipv6.clone() };
        rows.push(Row::untouched(format!("IPv6 with {what}"), outcome, &query));
    }
    rows
}

/// Source addresses and ports that no query has.
fn sources() -> Vec<Row> {
    let [ipv4, ipv6] = queries();
    let ipv4_sources =
        ["0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.0.9", "224.0.0.1", "239.1.2.3", "240.0.0.1"];
    let ipv6_sources = ["::", "::1", "::ffff:192.0.2.1", "::192.0.2.1", "ff02::1", "ff0e::9"];
    let ipv4_sources = ipv4_sources.map(address).into_iter().chain([SERVER[0], address("255.255.255.255")]);
    let ipv6_sources = ipv6_sources.map(address).into_iter().chain([SERVER[1]]);
    let from = |query: Datagram| move |source| (source, Datagram { source, ..query.clone() });
    let queries = ipv4_sources.map(from(ipv4)).chain(ipv6_sources.map(from(ipv6)));
    queries
        .map(|(source, query)| Row::untouched(format!("from {source}"), Outcome::SourceAddress, &query))
        .collect()
}

/// Lengths that contradict each other, or that no query has.
fn lengths() -> Vec<Row> {
    let mut rows = Vec::new();
    for query in queries() {
        let udp = u16::try_from(8 + query.message.len()).expect("the query is small");
        let ip = if query.source.is_ipv4() { 20 + udp } else { udp };
        for udp_length in [0, 7, 8, 8 + 16, udp - 1, udp + 1, 8 + MESSAGE_MAX as u16 + 1, u16::MAX] {
            let query = Datagram { udp_length: Some(udp_length), ..query.clone() };
            rows.push(Row::untouched(format!("UDP length {udp_length}"), Outcome::Length, &query));
        }
        for ip_length in [0, 1, 19, 20, 27, 28, ip - 1, ip + 1, u16::MAX] {
            let query = Datagram { ip_length: Some(ip_length), ..query.clone() };
            rows.push(Row::untouched(format!("IP length {ip_length}"), Outcome::Length, &query));
        }
        let both = |more: u16| Datagram {
            udp_length: Some(udp + more),
            ip_length: Some(ip + more),
            ..query.clone()
        };
        rows.push(Row::untouched("a datagram longer than its frame", Outcome::Length, &both(1)));
        let padded = Datagram { padding: vec![0], ..both(1) };
        rows.push(Row::untouched("padding that counts as message", Outcome::Trailing, &padded));
    }
    for (octets, fits) in [(MESSAGE_MAX, true), (MESSAGE_MAX + 1, false)] {
        let mut query = ask("node3", A).with(Opt::of_size(1232));
        let padding = vec![0; octets - query.bytes().len() - 4];
        query.opt = Some(Opt { options: option(12, &padding), ..Opt::of_size(1232) });
        let what = format!("a message of {octets} octets");
        let message = answer::positive(&query, &[answer::a(ipv4(1))]);
        for datagram in [over_ipv4(&query), over_ipv6(&query)] {
            rows.push(if fits {
                Row::answered(&what, Outcome::Answered, datagram, message.clone())
            } else {
                Row::untouched(&what, Outcome::Length, &datagram)
            });
        }
    }
    rows
}

/// The first octets of a query, without the rest.
fn cut_frames() -> Vec<Row> {
    let mut rows = Vec::new();
    for query in queries() {
        let headers = if query.source.is_ipv4() { 14 + 20 + 8 } else { 14 + 40 + 8 };
        let whole = query.frame();
        for octets in 0..whole.len() {
            let outcome = if octets < headers { Outcome::NotForUs } else { Outcome::Length };
            let what = format!("{octets} octets of a frame from {}", query.source);
            rows.push(Row { frame: whole[..octets].to_vec(), ..Row::untouched(what, outcome, &query) });
        }
    }
    rows
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("the tests' addresses are addresses")
}
