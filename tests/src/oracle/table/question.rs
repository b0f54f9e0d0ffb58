//! Rows about the DNS header and the question that go up to the responder.
use dns_xdp_ebpf::outcome::Outcome;

use super::Row;
use super::zone::{APEX, ask, over_ipv4, over_ipv6, sized};
use crate::oracle::frames::message::{A, AAAA, IN, Message, Opt, name};
use crate::oracle::frames::{Datagram, octets};

pub(super) fn rows() -> Vec<Row> {
    [headers(), types(), foreign_names(), reserved_names(), malformed_names(), cut_messages()].concat()
}

fn headers() -> Vec<Row> {
    let mut rows = Vec::new();
    for flags in [0x8000, 0x8400, 0x8180, 0xffff] {
        let query = Message { flags, ..ask("node3", A) };
        rows.push(Row::passed(format!("a response, flags {flags:#06x}"), Outcome::Response, &query));
    }
    for opcode in 1..16 {
        let query = Message { flags: opcode << 11, ..ask("node3", A) };
        rows.push(Row::passed(format!("opcode {opcode}"), Outcome::Opcode, &query));
    }
    for flags in [0x0200, 0x0001, 0x0005, 0x000f, 0x0300] {
        let query = Message { flags, ..ask("node3", A) };
        rows.push(Row::passed(format!("flags {flags:#06x}"), Outcome::Flags, &query));
    }
    let none = [0; 4];
    for (section, count) in [
        (0, 0),
        (0, 2),
        (0, 0x0101),
        (1, 1),
        (1, 0x0100),
        (2, 1),
        (2, 0xffff),
        (3, 2),
        (3, 0x0100),
        (3, 0xffff),
    ] {
        let mut counts = [1, 0, 0, 0];
        counts[section] = count;
        let query = Message { counts: Some(counts), ..ask("node3", A) };
        rows.push(Row::passed(format!("counts {counts:?}"), Outcome::Counts, &query));
    }
    let query = Message { counts: Some(none), question: Vec::new(), trailing: vec![0; 9], ..ask("node3", A) };
    rows.push(Row::passed("no question at all", Outcome::Counts, &query));
    rows
}

fn types() -> Vec<Row> {
    let mut rows = Vec::new();
    for qtype in [0, 2, 6, 41].into_iter().chain(128..=255) {
        for qname in ["node3", "@", "node9"] {
            let query = ask(qname, qtype);
            rows.push(Row::passed(format!("type {qtype} of {qname}"), Outcome::Type, &query));
        }
    }
    for qclass in [0, 2, 3, 4, 254, 255, 0x0100, 0x8001, 0xffff] {
        let query = Message::query(&name(&format!("node3.{APEX}")), A, qclass);
        rows.push(Row::passed(format!("class {qclass}"), Outcome::Class, &query));
    }
    rows
}

fn foreign_names() -> Vec<Row> {
    let mut qnames: Vec<(String, Vec<u8>)> = [
        "",
        "com",
        "example.com",
        "emo.example.com",
        "xdemo.example.com",
        "demo.example.org",
        "demo.example.com.org",
        "demo.example.comx",
        "node3",
        "node3.demo",
        "demo-example.com",
        "demo.examplf.com",
        "node3.example.com",
        "demo.example.com.demo.example.cox",
    ]
    .iter()
    .map(|text| ((*text).to_owned(), name(text)))
    .collect();
    // The apex as octets within a label.
    let within_label = [&[6, b'x'], &name(APEX)[..]].concat();
    qnames.push(("the apex not on a label's boundary".to_owned(), within_label));
    let last_label = [&[18, b'x'], &name(APEX)[..], &[0]].concat();
    qnames.push(("the apex and its root within a label".to_owned(), last_label));
    for octets in 20..=255 {
        let mut foreign = name(&sized(octets));
        foreign[octets - 2] = b'n';
        qnames.push((format!("{octets} octets that end in con"), foreign));
    }
    let mut rows = Vec::new();
    for (what, qname) in qnames {
        let zero_within = qname[..qname.len() - 1].contains(&0);
        let outcome = if zero_within { Outcome::Class } else { Outcome::ForeignName };
        for opt in [None, Some(Opt::of_size(1232))] {
            let query = Message { opt, ..Message::query(&qname, A, IN) };
            rows.push(Row::passed(&what, outcome, &query));
        }
    }
    rows
}

/// Names that only the responder answers.
fn reserved_names() -> Vec<Row> {
    let mut rows = Vec::new();
    for qname in ["withheld", "failed-over", "seventeen", "SEVENTEEN"] {
        for qtype in [A, AAAA, 16] {
            rows.push(Row::passed(format!("type {qtype} of {qname}"), Outcome::Reserved, &ask(qname, qtype)));
        }
    }
    rows
}

/// Invalid names, each with the octets that follow it in the message.
fn malformed_names() -> Vec<Row> {
    let type_class = octets(&[A, IN]);
    let apex = name(APEX);
    let long = |labels: usize, octets: u8| {
        let label = [vec![octets], vec![b'x'; usize::from(octets)]].concat();
        [label.repeat(labels), apex.clone(), type_class.clone()].concat()
    };
    let one = |length: u8| {
        [vec![length], vec![b'x'; usize::from(length)], apex.clone(), type_class.clone()].concat()
    };
    let mut malformed = vec![
        ("a name that points to itself", [&[0xc0, 12], &type_class[..]].concat(), Outcome::Name),
        ("a label and a pointer", [b"\x05node3\xc0\x0c", &type_class[..]].concat(), Outcome::Name),
        ("a pointer to zero, type A and class IN", [&[0xc0, 0], &type_class[..]].concat(), Outcome::Name),
        ("a pointer before a name's end", [&[0xc0, 12, 0], &type_class[..]].concat(), Outcome::Name),
        (
            "a label and a pointer before the end",
            [b"\x01x\xc0\x0c\x00", &type_class[..]].concat(),
            Outcome::Name,
        ),
        ("a label of 64 octets", one(64), Outcome::Name),
        ("a label of 128 octets", one(128), Outcome::Name),
        ("a label of 191 octets", one(191), Outcome::Name),
        ("a label that is longer than the name", [b"\x09abc\x00", &type_class[..]].concat(), Outcome::Name),
        ("a label that ends with the name", [b"\x04abc\x00", &type_class[..]].concat(), Outcome::Name),
        ("a name of 256 octets", long(14, 16), Outcome::Name),
        ("a name of 257 octets", [b"\x10aaaaaaaaaaaaaaaa", &long(13, 16)[..]].concat(), Outcome::Name),
        ("a name of 500 octets", long(241, 1), Outcome::Name),
        ("a name of 1000 octets", long(491, 1), Outcome::Name),
        ("a name without an end", vec![7; 40], Outcome::Name),
        ("a name of 255 octets without an end", vec![b'x'; 255], Outcome::Name),
        ("a zero octet within a label", [b"\x06no\x00de3", &apex[..], &type_class].concat(), Outcome::Class),
    ];
    // The label continues after its zero octet with octets like a type and a class.
    let question_within = [b"\x08no\x00\x00\x01\x00\x01e", &apex[..], &type_class].concat();
    malformed.push(("a zero octet within a label, a question behind it", question_within, Outcome::Trailing));
    let mut rows = Vec::new();
    for (what, question, outcome) in malformed {
        let query = Message { question, ..ask("@", A) };
        rows.push(Row::untouched(what, outcome, &over_ipv4(&query)));
        rows.push(Row::untouched(what, outcome, &over_ipv6(&query)));
    }
    rows
}

/// Messages that end too early. Some end at the end of the frame, others before padding. The lengths of IP and UDP are
/// right.
fn cut_messages() -> Vec<Row> {
    let query = ask("node3", A).with(Opt { options: vec![0, 10, 0, 2, 1, 2], ..Opt::of_size(1232) });
    let plain = Message { counts: Some([1, 0, 0, 0]), ..query.clone() };
    let question_end = 12 + query.question.len();
    let mut rows = Vec::new();
    for query in [query, plain] {
        let whole = query.bytes();
        let with_opt = query.counts.is_none();
        for octets in 0..whole.len() {
            let outcome = match octets {
                0..17 => Outcome::Length,
                _ if octets < question_end => Outcome::Name,
                _ if with_opt => Outcome::Opt,
                _ if octets == question_end => continue,
                _ => Outcome::Trailing,
            };
            for padding in [0, 60] {
                let mut datagram = Datagram { padding: vec![0; padding], ..over_ipv4(&query) };
                datagram.message.truncate(octets);
                let what = format!("{octets} octets of a message, {padding} of padding");
                rows.push(Row::untouched(what, outcome, &datagram));
            }
        }
    }
    rows
}
