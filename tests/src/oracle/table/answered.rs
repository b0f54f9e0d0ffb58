//! Rows that are answered: each kind of answer over each transport, each length of name, rotation, sizes.
use dns_xdp_ebpf::outcome::Outcome;

use super::Row;
use super::answer::{NO_ERROR, NX_DOMAIN, a, aaaa, negative, positive, truncated};
use super::zone::{APEX_LENGTH, LETTERS, ask, in_turn, ipv4, ipv6, over_ipv4, over_ipv6, sized};
use crate::oracle::frames::message::{A, AAAA, CD, DO, IN, Message, Opt, RD, name};
use crate::oracle::frames::{Checksum, Datagram, SERVICE_TAG, TAG};

pub(super) fn rows() -> Vec<Row> {
    [
        transports(),
        priority_tags(),
        lengths(),
        rotation(),
        same_ids(),
        sizes(),
        header(),
        names(),
        types(),
        zero_checksum(),
    ]
    .concat()
}

/// An answer to expect.
type Exchange = (&'static str, Message, Outcome, Vec<u8>);

fn exchanges(over: fn(&Message) -> Datagram) -> Vec<Exchange> {
    let both = || vec![a(ipv4(1))];
    let plain = ask("node3", A);
    let edns = ask("node3", A).with(Opt::of_size(1232));
    let dnssec = ask("service", AAAA).with(Opt { flags: DO, ..Opt::of_size(4096) });
    let nodata = ask("node1", AAAA);
    let nxdomain = ask("node9", A).with(Opt::of_size(1232));
    let large = Message::query(&name(&sized(255)), AAAA, IN);
    let turned = records(AAAA, in_turn(&over(&dnssec), dnssec.id, 3, 3));
    vec![
        ("A", plain.clone(), Outcome::Answered, positive(&plain, &both())),
        ("A with OPT", edns.clone(), Outcome::Answered, positive(&edns, &both())),
        ("AAAA with DO", dnssec.clone(), Outcome::Answered, positive(&dnssec, &turned)),
        ("no such type", nodata.clone(), Outcome::NoData, negative(&nodata, NO_ERROR)),
        ("no such name, OPT", nxdomain.clone(), Outcome::NxDomain, negative(&nxdomain, NX_DOMAIN)),
        ("too large", large.clone(), Outcome::Truncated, truncated(&large)),
    ]
}

/// Every combination of IP version, VLAN tags, UDP checksum and padding.
fn transports() -> Vec<Row> {
    // The second one has only a priority, which counts as no tag.
    let tags = [
        vec![],
        vec![(TAG, 0xe000)],
        vec![(TAG, 0xe00a)],
        vec![(SERVICE_TAG, 0x6123), (TAG, 0x0fff)],
        vec![(TAG, 1), (TAG, 2)],
    ];
    let mut rows = Vec::new();
    for over in [over_ipv4, over_ipv6] {
        for (what, message, outcome, answer) in exchanges(over) {
            let datagram = over(&message);
            for tags in &tags {
                for checksum in [Checksum::Whole, Checksum::Zero, Checksum::Partial] {
                    for padding in [0, 1, 18, 3000] {
                        let (tags, padding) = (tags.clone(), vec![0xee; padding]);
                        let what = format!(
                            "{what} from {}, {} tags, {checksum:?}, {} octets of padding",
                            datagram.source,
                            tags.len(),
                            padding.len()
                        );
                        let query = Datagram { tags, padding, checksum, ..datagram.clone() };
                        rows.push(if checksum == Checksum::Zero && query.source.is_ipv6() {
                            Row::untouched(what, Outcome::Checksum, &query)
                        } else {
                            Row::answered(what, outcome, query, answer.clone())
                        });
                    }
                }
            }
        }
    }
    rows
}

/// Tags with only a priority count as none, in any position. The answer has the same tags as the query.
fn priority_tags() -> Vec<Row> {
    let mut rows = Vec::new();
    for tags in [
        vec![(TAG, 0)],
        vec![(TAG, 0xf000)],
        vec![(SERVICE_TAG, 0xe000)],
        vec![(TAG, 0), (TAG, 0x2000)],
        vec![(SERVICE_TAG, 0x6000), (TAG, 0)],
        vec![(TAG, 0), (TAG, 0xe005)],
        vec![(SERVICE_TAG, 0xe000), (TAG, 10)],
        vec![(TAG, 5), (TAG, 0xa000)],
        vec![(TAG, 0x600a), (SERVICE_TAG, 0)],
    ] {
        for over in [over_ipv4, over_ipv6] {
            for (what, message, outcome, answer) in exchanges(over) {
                let query = Datagram { tags: tags.clone(), ..over(&message) };
                let what = format!("{what} from {} behind the tags {tags:x?}", query.source);
                rows.push(Row::answered(what, outcome, query, answer));
            }
        }
    }
    rows
}

/// Names of every length, existing and not existing.
fn lengths() -> Vec<Row> {
    let mut rows = Vec::new();
    for octets in APEX_LENGTH + 2..=255 {
        let qname = name(&sized(octets));
        let mut missing = qname.clone();
        missing[1] = b'-';
        for opt in [None, Some(Opt::of_size(1232))] {
            let edns = if opt.is_some() { ", OPT" } else { "" };
            let found = Message { opt: opt.clone(), ..Message::query(&qname, A, IN) };
            let missing = Message { opt, ..Message::query(&missing, AAAA, IN) };
            if octets < 255 {
                let (query, answer) = (over_ipv4(&found), positive(&found, &[a(ipv4(1))]));
                let what = format!("a name of {octets} octets{edns}");
                rows.push(Row::answered(what, Outcome::Answered, query, answer));
            }
            let (query, answer) = (over_ipv6(&missing), negative(&missing, NX_DOMAIN));
            let what = format!("no name of {octets} octets{edns}");
            rows.push(Row::answered(what, Outcome::NxDomain, query, answer));
        }
    }
    rows
}

/// Each query starts a rotating RRset at another member. An answer has at most `answers_max` members.
fn rotation() -> Vec<Row> {
    let mut rows = Vec::new();
    for (qname, members, count) in [
        ("service", 3, 3),
        ("eight", 16, 8),
        ("many", 40, 8),
        ("all-but", 17, 16),
        ("one-of-three", 3, 1),
        ("one-of-many", 100, 1),
    ] {
        for (id, source_port) in [(0, 1024), (0, 1025), (1, 1024), (0x5555, 40_961), (0xffff, 65_535)] {
            for qtype in [A, AAAA] {
                let query = Message { id, opt: Some(Opt::of_size(1232)), ..ask(qname, qtype) };
                for datagram in [over_ipv4(&query), over_ipv6(&query)] {
                    let datagram = Datagram { source_port, ..datagram };
                    let turned = in_turn(&datagram, id, members, count);
                    let what = format!("type {qtype} of {qname}, id {id:#06x}, port {source_port}");
                    let answer = positive(&query, &records(qtype, turned));
                    rows.push(Row::answered(what, Outcome::Answered, datagram, answer));
                }
            }
        }
    }
    let query = ask("ordered", A);
    let answer = positive(&query, &records(A, 1..=2));
    rows.push(Row::answered("two of many, in order", Outcome::Answered, over_ipv4(&query), answer));
    rows
}

/// 20 queries with one id. The client gets each member first about equally often while its port changes, and always the
/// same while its port is the same too.
fn same_ids() -> Vec<Row> {
    let mut rows = Vec::new();
    let query = Message { id: 0, ..ask("service", A) };
    for nth in 0..20 {
        for (ports, source_port) in [("changing ports", 50_000 + nth), ("one port", 50_000)] {
            for datagram in [over_ipv4(&query), over_ipv6(&query)] {
                let datagram = Datagram { source_port, ..datagram };
                let answer = positive(&query, &records(A, in_turn(&datagram, 0, 3, 3)));
                let what = format!("query {nth} with id 0 from {ports} of {}", datagram.source);
                rows.push(Row::answered(what, Outcome::Answered, datagram, answer));
            }
        }
    }
    rows
}

/// The members' records of a type.
fn records(qtype: u16, members: impl Iterator<Item = u8>) -> Vec<Vec<u8>> {
    if qtype == A { members.map(ipv4).map(a).collect() } else { members.map(ipv6).map(aaaa).collect() }
}

/// The client's size: 512 octets without EDNS, with it the announced size, at least 512 and at most 1232.
fn sizes() -> Vec<Row> {
    let mut rows = Vec::new();
    for (qname, qtype, size, fits) in [
        ("sixteen", A, None, true),
        ("sixteen", AAAA, None, true),
        ("sixteen", AAAA, Some(0), true),
        ("longest", A, None, false),
        ("longest", A, Some(0), false),
        ("longest", A, Some(512), false),
        // Header, question, sixteen records and an OPT record.
        ("longest", A, Some(12 + 259 + 16 * 16 + 11 - 1), false),
        ("longest", A, Some(12 + 259 + 16 * 16 + 11), true),
        ("longest", AAAA, Some(12 + 259 + 16 * 28 + 11 - 1), false),
        ("longest", AAAA, Some(12 + 259 + 16 * 28 + 11), true),
        ("longest", AAAA, Some(65_535), true),
    ] {
        let query = if qname == "longest" {
            Message::query(&name(&sized(255)), qtype, IN)
        } else {
            ask(qname, qtype)
        };
        let query = Message { id: 0, opt: size.map(Opt::of_size), ..query };
        let what = format!("sixteen records of type {qtype} for {qname}, size {size:?}");
        for datagram in [over_ipv4(&query), over_ipv6(&query)] {
            let sixteen = records(qtype, in_turn(&datagram, 0, 16, 16));
            let (outcome, answer) = if fits {
                (Outcome::Answered, positive(&query, &sixteen))
            } else {
                (Outcome::Truncated, truncated(&query))
            };
            rows.push(Row::answered(&what, outcome, datagram, answer));
        }
    }
    rows
}

/// Only RD and CD are copied.
fn header() -> Vec<Row> {
    let mut rows = Vec::new();
    for flags in [RD, CD, RD | CD, 0x0400, 0x0080, 0x0040, 0x0020, 0x05f0] {
        for opt in [None, Some(Opt { flags: 0x7fff, extended_rcode: 0xff, ..Opt::of_size(600) })] {
            let query = Message { flags, opt, ..ask("node1", A) };
            let (answer, query) = (positive(&query, &[a(ipv4(1))]), over_ipv4(&query));
            rows.push(Row::answered(format!("flags {flags:#06x}"), Outcome::Answered, query, answer));
        }
    }
    let query = Datagram { source_port: 53, ttl: 1, ..over_ipv4(&ask("node1", A)) };
    let answer = positive(&ask("node1", A), &[a(ipv4(1))]);
    rows.push(Row::answered("from port 53, on its last hop", Outcome::Answered, query, answer));
    rows
}

/// Positions of names in the zone, and their case.
fn names() -> Vec<Row> {
    let longest_label = "x".repeat(63);
    let letters = LETTERS.to_ascii_uppercase();
    let mut rows = Vec::new();
    for qname in ["node3", "NODE3", "nOdE3", "ns1", "db.prod", "dB.PrOd", &longest_label, LETTERS, &letters] {
        let query = ask(qname, A);
        let answer = positive(&query, &[a(ipv4(1))]);
        rows.push(Row::answered(qname, Outcome::Answered, over_ipv4(&query), answer));
    }
    let mut apex = ask("@", A);
    apex.question[..APEX_LENGTH].make_ascii_uppercase();
    let answer = positive(&apex, &[a(ipv4(2)), a(ipv4(1))]);
    rows.push(Row::answered("the apex in upper case", Outcome::Answered, over_ipv4(&apex), answer));
    let prod = ask("PROD", A);
    let answer = negative(&prod, NO_ERROR);
    rows.push(Row::answered("an empty non-terminal", Outcome::NoData, over_ipv4(&prod), answer));
    for qname in [
        "node4",
        "node",
        "node33",
        "x.node3",
        "x.prod",
        "x.db.prod",
        "x.seventeen",
        "x.withheld",
        "node3.node3",
        "@@",
        "[\\]^_`{|}~",
        "n\u{e9}",
        // Like the zone's LETTERS, except for an octet that only looks like a letter's other case.
        "abcdefghijklmnopqrstuvwxyz-0123456789-@{|}~",
        "abcdefghijklmnopqrstuvwxyz-0123456789-`[|}~",
        "abcdefghijklmnopqrstuvwxyz-0123456789-`{|}^",
        "abcdefghijklmnopqrstuvwxyz-\u{10}123456789-`{|}~",
        "4demo7example3com.demo.example.com",
    ] {
        let query = ask(qname, A);
        let answer = negative(&query, NX_DOMAIN);
        rows.push(Row::answered(qname, Outcome::NxDomain, over_ipv4(&query), answer));
    }
    rows
}

/// Types without data, for an existing name and for one that does not exist.
fn types() -> Vec<Row> {
    let mut rows = Vec::new();
    for qtype in
        [3, 5, 12, 13, 15, 16, 24, 25, 27, 29, 33, 40, 42, 43, 46, 48, 64, 65, 127, 256, 1000, 65_535]
    {
        for (qname, outcome, rcode) in [
            ("node3", Outcome::NoData, NO_ERROR),
            ("@", Outcome::NoData, NO_ERROR),
            ("x", Outcome::NxDomain, NX_DOMAIN),
        ] {
            let query = ask(qname, qtype);
            let answer = negative(&query, rcode);
            rows.push(Row::answered(format!("type {qtype} of {qname}"), outcome, over_ipv4(&query), answer));
        }
    }
    rows
}

/// A checksum of zero would mean no checksum, so it is sent as all ones.
fn zero_checksum() -> Vec<Row> {
    let exchange = |over: fn(&Message) -> Datagram, id| {
        let query = Message { id, ..ask("node1", A) };
        (over(&query), positive(&query, &[a(ipv4(1))]))
    };
    let row = |over| {
        // The id that makes the checksum zero is the checksum of the answer with id 0.
        let (query, message) = exchange(over, 0);
        let at = query.frame().len() - query.message.len() - 2;
        let frame = Datagram { message, ..query }.frame();
        let (query, message) = exchange(over, u16::from_be_bytes([frame[at], frame[at + 1]]));
        Row::answered("a checksum of zero", Outcome::Answered, query, message)
    };
    vec![row(over_ipv4), row(over_ipv6)]
}
