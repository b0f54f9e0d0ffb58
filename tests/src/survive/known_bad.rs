//! Messages that have harmed some name server, each in a few octets.
use crate::bed::plan::ZONE;
use crate::oracle::frames::message::{A, IN, Message, Opt, name, option};
use crate::oracle::frames::octets;

/// Octets of a header.
const HEADER: usize = 12;

/// All of these messages, with the fault of each. Their ids are equal.
pub fn messages() -> Vec<(String, Vec<u8>)> {
    let query = || Message::query(&name(&format!("node1.{ZONE}")), A, IN);
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for (what, qname) in names() {
        all.push((what.to_owned(), Message::query(&qname, A, IN).bytes()));
    }
    for counts in [
        [0, 0, 0, 0],
        [2, 0, 0, 0],
        [65_535, 0, 0, 0],
        [1, 65_535, 0, 0],
        [1, 0, 65_535, 0],
        [1, 0, 0, 65_535],
    ] {
        all.push((format!("counts {counts:?}"), Message { counts: Some(counts), ..query() }.bytes()));
    }
    for (what, opt) in opts() {
        all.push((what.to_owned(), query().with(opt).bytes()));
    }
    let opt = Message { question: Vec::new(), ..query().with(Opt::of_size(1232)) }.bytes()[HEADER..].to_vec();
    let behind = |counts, trailing| Message { counts: Some(counts), trailing, ..query() }.bytes();
    all.push(("two OPTs".to_owned(), behind([1, 0, 0, 2], opt.repeat(2))));
    all.push(("sixty OPTs".to_owned(), behind([1, 0, 0, 60], opt.repeat(60))));
    all.push(("an OPT as an answer".to_owned(), behind([1, 1, 0, 0], opt)));
    all.push(("octets behind it".to_owned(), Message { trailing: vec![0xff; 300], ..query() }.bytes()));
    all.push(("a datagram in fragments".to_owned(), Message { trailing: vec![0; 8000], ..query() }.bytes()));
    for opcode in 1..16 {
        all.push((format!("opcode {opcode}"), Message { flags: opcode << 11, ..query() }.bytes()));
    }
    all.push(("all flags but QR".to_owned(), Message { flags: 0x7fff, ..query() }.bytes()));
    for class in [0, 254, 255, 65_535] {
        let qname = name(&format!("node1.{ZONE}"));
        all.push((format!("class {class}"), Message::query(&qname, A, class).bytes()));
    }
    let whole = query().with(Opt { options: option(10, &[7; 8]), ..Opt::of_size(1232) }).bytes();
    all.extend((0..whole.len()).map(|length| (format!("cut at {length}"), whole[..length].to_vec())));
    all
}

/// Invalid names, and names with pointers.
fn names() -> Vec<(&'static str, Vec<u8>)> {
    let to = |offset: u16| octets(&[0xc000 | offset]);
    vec![
        ("a name that points to itself", to(HEADER as u16)),
        ("a name that points behind itself", to(HEADER as u16 + 2)),
        ("a name that points to the header", to(0)),
        ("a name that points out of the message", to(0x3fff)),
        ("a label and back again", [&[1, b'a'][..], &to(HEADER as u16)].concat()),
        ("two names that point to each other", [to(HEADER as u16 + 2), to(HEADER as u16)].concat()),
        ("a label that is longer than the message", [63, b'a', b'b'].to_vec()),
        ("a label of a reserved kind", [0x40, 1, 0].to_vec()),
        ("a label of another reserved kind", [0x80, 1, 0].to_vec()),
        ("a name without an end", [1, b'a'].repeat(100)),
        ("a name of 257 octets", [[1, b'a'].repeat(128), vec![0]].concat()),
        ("a name of 1,001 octets", [[1, b'a'].repeat(500), vec![0]].concat()),
        ("the root", vec![0]),
        ("zeros", vec![0; 200]),
    ]
}

fn opts() -> Vec<(&'static str, Opt)> {
    let sized = |size| Opt::of_size(size);
    vec![
        ("an OPT that is longer than the message", Opt { length: Some(65_535), ..sized(1232) }),
        (
            "an OPT that is shorter than its options",
            Opt { length: Some(2), options: option(10, &[7; 8]), ..sized(1232) },
        ),
        ("an option that is longer than its OPT", Opt { options: octets(&[10, 65_535]), ..sized(1232) }),
        ("half an option", Opt { options: vec![0, 10, 0], ..sized(1232) }),
        ("a hundred options", Opt { options: option(65_001, &[1]).repeat(100), ..sized(1232) }),
        ("an OPT with a name", Opt { owner: name("x"), ..sized(1232) }),
        ("an OPT whose name points to itself", Opt { owner: vec![0xc0, 40], ..sized(1232) }),
        ("a client that takes nothing", sized(0)),
        ("a client that takes all", sized(65_535)),
        ("EDNS version 255", Opt { version: 255, ..sized(1232) }),
        ("all flags of EDNS", Opt { flags: 0xffff, extended_rcode: 0xff, ..sized(1232) }),
        ("a cookie of one octet", Opt { options: option(10, &[7]), ..sized(1232) }),
        ("a cookie of 41 octets", Opt { options: option(10, &[7; 41]), ..sized(1232) }),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_is_bad_in_a_way_of_its_own() {
        let all = messages();
        let different: HashSet<&Vec<u8>> = all.iter().map(|(_, message)| message).collect();
        assert!(different.len() == all.len() && all.len() > 100, "{} of {}", different.len(), all.len());
    }
}
