//! Tests of the answers to queries of every kind.
use std::collections::BTreeMap;
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption, NSIDPayload};
use hickory_proto::serialize::binary::BinEncodable;

use proptest::collection;
use proptest::prelude::*;

use super::*;
use crate::zone::{Addresses, Origin};

mod large;
mod records;

const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const ANY: u16 = 255;

const IN: u16 = 1;
const CH: u16 = 3;

const RD: u16 = 0x0100;
const CD: u16 = 0x0010;
const DO: u32 = 0x8000;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn zone(nodes: u8) -> Zone {
    let origin = Origin {
        apex: name("demo.example.com."),
        contact: name("hostmaster.example.com."),
        serial: 7,
        ns_ttl_seconds: 60,
        negative_ttl_seconds: 300,
        name_servers: (1..=nodes).map(|n| name(&format!("ns{n}.demo.example.com."))).collect(),
    };
    let address =
        |n: u8| -> [IpAddr; 2] { [[192, 0, 2, n].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()].into()] };
    let apex = Addresses { rotate: true, ..Addresses::new(5, (1..=nodes).flat_map(address)) };
    let mut names = vec![(name("demo.example.com."), apex)];
    for n in 1..=nodes {
        names.push((name(&format!("ns{n}.demo.example.com.")), Addresses::new(5, address(n))));
        names.push((name(&format!("node{n}.demo.example.com.")), Addresses::new(5, address(n))));
    }
    names.push((name("legacy.demo.example.com."), Addresses::new(5, [IpAddr::from([192, 0, 2, 1])])));
    names.push((name("db.prod.demo.example.com."), Addresses::new(5, address(1))));
    let withheld = Addresses { refused: true, ..Addresses::new(5, address(1)) };
    let lacking =
        Addresses { nodata_ttl_seconds: Some(5), ..Addresses::new(5, [IpAddr::from([192, 0, 2, 1])]) };
    names.push((name("lacking.demo.example.com."), lacking));
    names.push((name("withheld.demo.example.com."), withheld));
    Zone::new(origin, names)
}

/// A query under construction.
#[derive(Debug, Clone)]
struct Wire {
    flags: u16,
    counts: [u16; 4],
    body: Vec<u8>,
}

fn header(flags: u16) -> Wire {
    Wire { flags, counts: [0; 4], body: Vec::new() }
}

fn ask(qname: &str, qtype: u16) -> Wire {
    header(0).question(qname, qtype, IN)
}

impl Wire {
    fn question(mut self, qname: &str, qtype: u16, qclass: u16) -> Wire {
        self.counts[0] += 1;
        self.body.extend(name(qname).to_bytes().unwrap());
        self.body.extend(qtype.to_be_bytes());
        self.body.extend(qclass.to_be_bytes());
        self
    }

    fn record(mut self, section: usize, owner: &str, rtype: u16, class: u16, ttl: u32, rdata: &[u8]) -> Wire {
        self.counts[section] += 1;
        self.body.extend(name(owner).to_bytes().unwrap());
        self.body.extend(rtype.to_be_bytes());
        self.body.extend(class.to_be_bytes());
        self.body.extend(ttl.to_be_bytes());
        self.body.extend(u16::try_from(rdata.len()).unwrap().to_be_bytes());
        self.body.extend(rdata);
        self
    }

    fn opt(self, payload_size: u16, ttl: u32, options: &[u8]) -> Wire {
        self.record(3, ".", 41, payload_size, ttl, options)
    }

    fn flags(self, flags: u16) -> Wire {
        Wire { flags, ..self }
    }

    fn count(mut self, section: usize, count: u16) -> Wire {
        self.counts[section] = count;
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Wire {
        self.body.extend(bytes);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = 0x1234_u16.to_be_bytes().to_vec();
        bytes.extend(self.flags.to_be_bytes());
        bytes.extend(self.counts.iter().flat_map(|count| count.to_be_bytes()));
        bytes.extend(&self.body);
        bytes
    }
}

fn arrival(transport: Transport) -> Arrival {
    Arrival { transport, client: "198.51.100.100".parse().unwrap(), port: 4096, seconds: 1_559_731_985 }
}

fn answer(zone: Option<&Zone>, transport: Transport, query: &Wire) -> Option<Vec<u8>> {
    respond(&query.bytes(), arrival(transport), zone, b"node1").map(Response::encode)
}

fn parsed(query: &Wire) -> Message {
    Message::from_vec(&answer(Some(&zone(3)), Transport::Udp, query).unwrap()).unwrap()
}

/// Returns an answer in one line: rcode, flags, records in answer/authority/additional, and the OPT.
fn summary(message: &[u8]) -> String {
    let message = Message::from_vec(message).unwrap();
    let Metadata { id, message_type, .. } = message.metadata;
    assert_eq!((id, message_type), (0x1234, MessageType::Response));
    let mut line = format!("{:?}", message.metadata.response_code).to_uppercase();
    // hickory uses another name for 16.
    if message.metadata.response_code == ResponseCode::BADSIG {
        line = "BADVERS".to_owned();
    }
    for (set, text) in [
        (message.metadata.authoritative, " aa"),
        (message.metadata.truncation, " tc"),
        (message.metadata.recursion_desired, " rd"),
        (message.metadata.recursion_available, " ra"),
        (message.metadata.authentic_data, " ad"),
        (message.metadata.checking_disabled, " cd"),
    ] {
        line += if set { text } else { "" };
    }
    let sections = [&message.answers, &message.authorities, &message.additionals].map(Vec::len);
    line += &format!(" {}/{}/{}", sections[0], sections[1], sections[2]);
    if message.queries.is_empty() {
        line += " no-question";
    }
    if let Some(opt) = &message.edns {
        line += &format!(" opt={},{}", opt.version(), opt.max_payload());
        line += if opt.flags().dnssec_ok { ",do" } else { "" };
        line += if opt.options().as_ref().is_empty() { "" } else { ",options" };
    }
    line
}

#[test]
fn every_query_gets_its_answer() {
    let node1 = "node1.demo.example.com.";
    let apex = "demo.example.com.";
    let cookie = b"\x00\x0a\x00\x08abcdefgh";
    let cases: Vec<(&str, Wire, &str)> = vec![
        // the zone
        ("an address", ask(node1, A), "NOERROR aa 1/0/0"),
        ("an address of the other family", ask(node1, AAAA), "NOERROR aa 1/0/0"),
        ("the apex's addresses", ask(apex, A), "NOERROR aa 3/0/0"),
        ("the name servers with their glue", ask(apex, NS), "NOERROR aa 3/0/6"),
        ("the SOA", ask(apex, SOA), "NOERROR aa 1/0/0"),
        ("no address of this family", ask("legacy.demo.example.com.", AAAA), "NOERROR aa 0/1/0"),
        ("an unknown type", ask(node1, 1000), "NOERROR aa 0/1/0"),
        ("type 0", ask(node1, 0), "NOERROR aa 0/1/0"),
        ("NS of a node", ask(node1, NS), "NOERROR aa 0/1/0"),
        ("DS of the apex, which the parent has", ask(apex, 43), "NOERROR aa 0/1/0"),
        ("an empty non-terminal", ask("prod.demo.example.com.", A), "NOERROR aa 0/1/0"),
        ("a name that is not there", ask("node9.demo.example.com.", A), "NXDOMAIN aa 0/1/0"),
        (
            "an unknown type of a name that is not there",
            ask("x.demo.example.com.", 1000),
            "NXDOMAIN aa 0/1/0",
        ),
        ("a name below a node", ask("x.node1.demo.example.com.", A), "NXDOMAIN aa 0/1/0"),
        ("everything", ask(node1, ANY), "NOERROR aa 1/0/0"),
        ("everything of a name that is not there", ask("x.demo.example.com.", ANY), "NXDOMAIN aa 0/1/0"),
        ("addresses that are withheld", ask("withheld.demo.example.com.", A), "REFUSED 0/0/0"),
        // other zones, classes and services
        ("another zone", ask("example.org.", A), "REFUSED 0/0/0"),
        ("the parent zone", ask("example.com.", NS), "REFUSED 0/0/0"),
        ("the root", ask(".", NS), "REFUSED 0/0/0"),
        ("a name that ends like the zone", ask("xdemo.example.com.", A), "REFUSED 0/0/0"),
        ("class ANY", header(0).question(node1, A, 255), "REFUSED 0/0/0"),
        ("an unknown class", header(0).question(node1, A, 4321), "REFUSED 0/0/0"),
        ("AXFR", ask(apex, 252), "REFUSED 0/0/0"),
        ("AXFR of another zone", ask("example.org.", 252), "REFUSED 0/0/0"),
        ("IXFR with its SOA", ask(apex, 251).record(2, apex, SOA, IN, 0, &[0; 22]), "REFUSED 0/0/0"),
        ("the meta-query MAILB", ask(apex, 253), "NOTIMP 0/0/0"),
        ("the meta-query TKEY", ask(apex, 249), "NOTIMP 0/0/0"),
        ("a query for OPT", ask(node1, 41), "NOTIMP 0/0/0"),
        ("who answers", header(0).question("id.server.", TXT, CH), "NOERROR aa 1/0/0"),
        ("who answers, BIND's name", header(0).question("HOSTNAME.bind.", TXT, CH), "NOERROR aa 1/0/0"),
        ("the software", header(0).question("version.bind.", TXT, CH), "REFUSED 0/0/0"),
        ("the software, another name", header(0).question("version.server.", TXT, CH), "REFUSED 0/0/0"),
        ("another type of class CH", header(0).question("id.server.", A, CH), "REFUSED 0/0/0"),
        // opcodes and flags
        ("NOTIFY", ask(apex, SOA).flags(4 << 11), "REFUSED 0/0/0"),
        ("UPDATE", ask(apex, SOA).flags(5 << 11), "REFUSED 0/0/0"),
        (
            "UPDATE that deletes",
            ask(apex, SOA).flags(5 << 11).record(2, node1, A, 255, 0, &[]),
            "REFUSED 0/0/0",
        ),
        ("UPDATE of another zone", ask("example.org.", SOA).flags(5 << 11), "REFUSED 0/0/0"),
        ("IQUERY", header(1 << 11), "NOTIMP 0/0/0 no-question"),
        ("an unknown opcode", ask(node1, A).flags(15 << 11).opt(1232, 0, &[]), "NOTIMP 0/0/0 opt=0,1232"),
        ("RD and CD", ask(node1, A).flags(RD | CD), "NOERROR aa rd cd 1/0/0"),
        ("every other flag", ask(node1, A).flags(0x06ef), "NOERROR aa 1/0/0"),
        ("RD to another zone", ask("example.org.", A).flags(RD), "REFUSED rd 0/0/0"),
        // EDNS
        ("EDNS", ask(node1, A).opt(4096, 0, &[]), "NOERROR aa 1/0/0 opt=0,1232"),
        ("EDNS with DO", ask(node1, A).opt(4096, DO, &[]), "NOERROR aa 1/0/0 opt=0,1232,do"),
        ("EDNS with a Z bit", ask(node1, A).opt(4096, 0x4000, &[]), "NOERROR aa 1/0/0 opt=0,1232"),
        ("EDNS with size 0", ask(node1, A).opt(0, 0, &[]), "NOERROR aa 1/0/0 opt=0,1232"),
        ("a cookie", ask(node1, A).opt(1232, 0, cookie), "NOERROR aa 1/0/0 opt=0,1232"),
        ("NSID", ask(node1, A).opt(1232, 0, &[0, 3, 0, 0]), "NOERROR aa 1/0/0 opt=0,1232,options"),
        (
            "NSID from another zone",
            ask(".", A).opt(1232, 0, &[0, 3, 0, 0]),
            "REFUSED 0/0/0 opt=0,1232,options",
        ),
        (
            "a client subnet of no known form",
            ask(node1, A).opt(1232, 0, &[0, 8, 0, 1, 9]),
            "NOERROR aa 1/0/0 opt=0,1232",
        ),
        ("EDNS version 1", ask(node1, A).opt(4096, 0x1_0000 | DO, &[]), "BADVERS 0/0/0 opt=0,1232,do"),
        (
            "EDNS version 1, options of another form",
            ask(node1, A).opt(4096, 0xff_0000, &[1]),
            "BADVERS 0/0/0 opt=0,1232",
        ),
        ("EDNS, REFUSED", ask("example.org.", A).opt(4096, 0, &[]), "REFUSED 0/0/0 opt=0,1232,options"),
        ("EDNS, NXDOMAIN", ask("x.demo.example.com.", A).opt(4096, 0, &[]), "NXDOMAIN aa 0/1/0 opt=0,1232"),
        ("two OPTs", ask(node1, A).opt(4096, 0, &[]).opt(4096, 0, &[]), "FORMERR 0/0/0 opt=0,1232"),
        ("an OPT of an owner", ask(node1, A).record(3, "x.", 41, 1232, 0, &[]), "FORMERR 0/0/0"),
        ("an option longer than its OPT", ask(node1, A).opt(1232, 0, &[0, 10, 0, 8, 1]), "FORMERR 0/0/0"),
        ("half an option", ask(node1, A).opt(1232, 0, &[0, 10]), "FORMERR 0/0/0"),
        // form
        ("no question", header(0), "FORMERR 0/0/0 no-question"),
        ("no question, EDNS", header(0).opt(1232, 0, cookie), "FORMERR 0/0/0 no-question opt=0,1232"),
        ("two questions", ask(node1, A).question(node1, AAAA, IN), "FORMERR 0/0/0 no-question"),
        ("a question that is not there", header(0).count(0, 1), "FORMERR 0/0/0 no-question"),
        ("as many questions as can be counted", ask(node1, A).count(0, 65535), "FORMERR 0/0/0 no-question"),
        ("a name without an end", header(0).count(0, 1).raw(b"\x05node1"), "FORMERR 0/0/0 no-question"),
        ("a name and no type", header(0).count(0, 1).raw(b"\x05node1\x00\x00"), "FORMERR 0/0/0 no-question"),
        ("a label of 64 bytes", header(0).count(0, 1).raw(&[64; 70]), "FORMERR 0/0/0 no-question"),
        ("a name of 256 bytes", header(0).count(0, 1).raw(&[1; 260]), "FORMERR 0/0/0 no-question"),
        (
            "a name that points to itself",
            header(0).count(0, 1).raw(&[0xc0, 12, 0, 1, 0, 1]),
            "FORMERR 0/0/0 no-question",
        ),
        (
            "a name that points to the header",
            header(0).count(0, 1).raw(&[0xc0, 4, 0, 1, 0, 1]),
            "FORMERR 0/0/0 no-question",
        ),
        ("a record that is not there", ask(node1, A).count(3, 1), "FORMERR 0/0/0"),
        (
            "a record in the answer section",
            ask(node1, A).record(1, node1, A, IN, 5, &[192, 0, 2, 9]),
            "NOERROR aa 1/0/0",
        ),
        (
            "a TSIG, which nobody reads",
            ask(node1, A).record(3, "key.", 250, 255, 0, &[0; 5]),
            "NOERROR aa 1/0/0",
        ),
        ("bytes behind the message", ask(node1, A).raw(&[0xff; 9]), "NOERROR aa 1/0/0"),
    ];
    let zone = zone(3);
    for (what, query, expected) in cases {
        for transport in [Transport::Udp, Transport::Tcp] {
            let answer = answer(Some(&zone), transport, &query).unwrap_or_else(|| panic!("{what}: silence"));
            assert_eq!(summary(&answer), expected, "{what}, {transport:?}");
        }
    }
}

#[test]
fn responses_and_fragments_of_a_header_are_met_with_silence() {
    let zone = zone(3);
    let response = ask("node1.demo.example.com.", A).flags(0x8000);
    let broken_response = header(0x8000).count(0, 1).raw(b"\x05node");
    assert!(answer(Some(&zone), Transport::Udp, &response).is_none());
    assert!(answer(Some(&zone), Transport::Udp, &broken_response).is_none());
    for length in 0..12 {
        assert!(respond(&header(0).bytes()[..length], arrival(Transport::Udp), Some(&zone), b"").is_none());
    }
}

#[test]
fn before_the_zone_is_published_queries_are_refused() {
    let query = ask("node1.demo.example.com.", A);
    assert_eq!(summary(&answer(None, Transport::Udp, &query).unwrap()), "REFUSED 0/0/0");
    let chaos = header(0).question("id.server.", TXT, CH);
    assert_eq!(summary(&answer(None, Transport::Udp, &chaos).unwrap()), "NOERROR aa 1/0/0");
}

#[test]
fn the_question_comes_back_in_its_own_spelling_and_owners_point_to_it() {
    for (qname, owner_at) in [("nOdE1.DeMo.eXample.CoM.", 12), ("nope.DeMo.eXample.CoM.", 12 + 5)] {
        let query = ask(qname, A);
        let bytes = answer(Some(&zone(3)), Transport::Udp, &query).unwrap();
        let end = 12 + query.body.len();
        assert_eq!(bytes[12..end], query.body);
        assert_eq!(bytes[end..end + 2], [0xc0, owner_at]);
    }
}

#[test]
fn a_negative_answer_carries_the_soa_with_the_negative_ttl() {
    let response = parsed(&ask("nope.demo.example.com.", A));
    assert_eq!(response.authorities, [zone(3).soa()]);
    assert_eq!(response.authorities[0].ttl, 300);
}

#[test]
fn a_name_that_lacks_a_family_for_a_while_says_so_for_its_own_ttl() {
    for qname in ["lacking.demo.example.com.", "LackinG.demo.example.com."] {
        let response = parsed(&ask(qname, AAAA));
        let [soa] = response.authorities.as_slice() else { panic!("{response:?}") };
        let RData::SOA(data) = &soa.data else { panic!("{soa}") };
        assert_eq!((response.answers.len(), soa.ttl, data.minimum), (0, 5, 5), "{qname}");
    }
}

#[test]
fn any_answers_a_hinfo() {
    let response = parsed(&ask("node1.demo.example.com.", ANY));
    assert_eq!(response.answers[0].record_type(), RecordType::HINFO);
}

#[test]
fn the_identity_is_given_by_nsid_and_by_class_ch() {
    let nsid = parsed(&ask("node1.demo.example.com.", A).opt(1232, 0, &[0, 3, 0, 0]));
    let expected = EdnsOption::NSID(NSIDPayload::new("node1").unwrap());
    assert_eq!(nsid.edns.unwrap().option(EdnsCode::NSID), Some(&expected));
    let chaos = parsed(&header(0).question("id.server.", TXT, CH));
    assert_eq!(chaos.answers[0].to_string(), "id.server. 0 CH TXT node1");
}

#[test]
fn a_client_gets_every_address_of_a_rotating_rrset_first_whatever_its_ids_are() {
    let firsts = |queries: &[(u16, u16)]| {
        let mut firsts = BTreeMap::<String, usize>::new();
        for (id, port) in queries {
            let mut query = ask("demo.example.com.", A).bytes();
            query[..2].copy_from_slice(&id.to_be_bytes());
            let arrival = Arrival { port: *port, ..arrival(Transport::Udp) };
            let response = respond(&query, arrival, Some(&zone(3)), b"").unwrap();
            let first = Message::from_vec(&response.encode()).unwrap().answers[0].data.to_string();
            *firsts.entry(first).or_default() += 1;
        }
        firsts
    };
    let small_ids: Vec<_> = (1..=300).map(|id| (id, 4096)).collect();
    let no_ids: Vec<_> = (1..=300).map(|port| (0, 1024 + port)).collect();
    for queries in [small_ids, no_ids] {
        let firsts = firsts(&queries);
        assert_eq!(firsts.len(), 3);
        assert!(firsts.values().all(|count| (70..=130).contains(count)), "{firsts:?}");
    }
    assert_eq!(firsts(&[(7, 4096); 100]).len(), 1);
}

#[test]
fn what_does_not_fit_into_a_datagram_is_truncated_to_the_question_and_glue_is_left_out() {
    let zone = zone(20);
    let ns = ask("demo.example.com.", NS);
    let aaaa = ask("demo.example.com.", AAAA);
    // 20 AAAA records of 28 bytes, 34 bytes of header and question, 11 of an OPT.
    let whole = 34 + 20 * 28 + 11;
    let cases = [
        (aaaa.clone(), "NOERROR aa tc 0/0/0"),
        (aaaa.clone().opt(512, 0, &[]), "NOERROR aa tc 0/0/0 opt=0,1232"),
        (aaaa.clone().opt(whole - 1, 0, &[]), "NOERROR aa tc 0/0/0 opt=0,1232"),
        (aaaa.clone().opt(whole, 0, &[]), "NOERROR aa 20/0/0 opt=0,1232"),
        // The glue alone is 20 * 44 bytes.
        (ns.clone(), "NOERROR aa 20/0/0"),
        (ns.clone().opt(65535, 0, &[]), "NOERROR aa 20/0/0 opt=0,1232"),
    ];
    for (query, expected) in cases {
        let bytes = answer(Some(&zone), Transport::Udp, &query).unwrap();
        assert_eq!(summary(&bytes), expected);
    }
    let many = answer(Some(&self::zone(40)), Transport::Udp, &ns).unwrap();
    assert_eq!(summary(&many), "NOERROR aa tc 0/0/0");
    let bytes = answer(Some(&zone), Transport::Tcp, &ns).unwrap();
    assert_eq!(summary(&bytes), "NOERROR aa 20/0/40");
}

/// Returns queries with some bytes replaced, and with the end cut off or extended.
fn disturbed_query() -> impl Strategy<Value = Vec<u8>> {
    let options = [0, 3, 0, 0, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let query = ask("node1.demo.example.com.", A).record(2, "demo.example.com.", SOA, IN, 0, &[0; 22]);
    let query = query.opt(1232, DO, &options).bytes();
    let replacements = collection::vec((0..query.len(), any::<u8>()), 0..6);
    (replacements, 0..query.len() + 8).prop_map(move |(replacements, length)| {
        let mut query = query.clone();
        for (at, byte) in replacements {
            query[at] = byte;
        }
        query.resize(length, 0);
        query
    })
}

proptest! {
    #[test]
    fn a_disturbed_query_gets_one_readable_answer_that_fits(query in disturbed_query()) {
        let is_query = query.len() >= 12 && query[2] & 0x80 == 0;
        let response = respond(&query, arrival(Transport::Udp), Some(&zone(3)), b"node1");
        prop_assert_eq!(response.is_some(), is_query);
        if let Some(response) = response {
            let message = response.encode();
            prop_assert_eq!(&message[..2], &query[..2]);
            prop_assert!(message.len() <= usize::from(UDP_SIZE));
            prop_assert!(Message::from_vec(&message).is_ok());
        }
    }

    #[test]
    fn arbitrary_bytes_never_make_it_fail(bytes in collection::vec(any::<u8>(), 0..600)) {
        drop(respond(&bytes, arrival(Transport::Tcp), Some(&zone(1)), b"node1"));
    }
}

fn with_secrets() -> Zone {
    let secret =
        [0xe5, 0xe9, 0x73, 0xe5, 0xa6, 0xb2, 0xa4, 0x3f, 0x48, 0xe7, 0xdc, 0x84, 0x9e, 0x37, 0xbf, 0xcf];
    let secrets = vec![cookie::Secret::new(secret)];
    zone(3).guarded(
        crate::flood_limits::FloodLimits { secrets, ..crate::flood_limits::FloodLimits::default() }.table(),
    )
}

const CLIENT: [u8; 8] = [0x24, 0x64, 0xc4, 0xab, 0xcf, 0x10, 0xc9, 0x57];
const SERVER: [u8; 16] =
    [0x01, 0, 0, 0, 0x5c, 0xf7, 0x9f, 0x11, 0x1f, 0x81, 0x30, 0xc3, 0xee, 0xe2, 0x94, 0x80];

fn with_cookie(cookie: &[u8]) -> Vec<u8> {
    let length = u16::try_from(cookie.len()).unwrap().to_be_bytes();
    ask("node1.demo.example.com.", A).opt(1232, 0, &[&[0, 10], &length, cookie].concat()).bytes()
}

#[test]
fn a_cookie_is_answered_with_the_servers_own_and_knows_its_client_again() {
    let zone = with_secrets();
    let forged = [&CLIENT[..], &[1; 16]].concat();
    let short = [&CLIENT[..], &SERVER[..8]].concat();
    let ours = [CLIENT.as_slice(), &SERVER].concat();
    for (cookie, cookie_valid) in [(&CLIENT[..], false), (&ours, true), (&forged, false), (&short, false)] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let response = respond(&with_cookie(cookie), arrival(transport), Some(&zone), b"").unwrap();
            assert_eq!(response.cookie_valid, cookie_valid, "{cookie:02x?}");
            let message = Message::from_vec(&response.encode()).unwrap();
            assert_eq!(message.answers.len(), 1);
            let answered = EdnsOption::Unknown(10, ours.clone());
            assert_eq!(message.edns.unwrap().option(EdnsCode::Cookie), Some(&answered), "{cookie:02x?}");
        }
    }
}

#[test]
fn what_cannot_be_a_cookie_is_malformed_where_cookies_are_used_and_ignored_elsewhere() {
    for length in [0, 7, 9, 15, 41] {
        let query = with_cookie(&vec![1; length]);
        let said = |zone: &Zone| {
            summary(&respond(&query, arrival(Transport::Udp), Some(zone), b"").unwrap().encode())
        };
        assert_eq!(said(&with_secrets()), "FORMERR 0/0/0 opt=0,1232", "{length}");
        assert_eq!(said(&zone(3)), "NOERROR aa 1/0/0 opt=0,1232", "{length}");
    }
}

#[test]
fn a_truncated_response_has_the_question_and_the_cookie_alone() {
    let zone = with_secrets();
    let mut response = respond(&with_cookie(&CLIENT), arrival(Transport::Udp), Some(&zone), b"").unwrap();
    response.truncate();
    let message = response.encode();
    assert_eq!(summary(&message), "NOERROR aa tc 0/0/0 opt=0,1232,options");
    let message = Message::from_vec(&message).unwrap();
    assert!(message.edns.unwrap().option(EdnsCode::Cookie).is_some());
}

/// The data of an option in the answer over a transport.
fn option(zone: Option<&Zone>, transport: Transport, query: &Wire, code: u16) -> Option<Vec<u8>> {
    let message = Message::from_vec(&answer(zone, transport, query).unwrap()).unwrap();
    let edns = message.edns?;
    let found = edns.options().as_ref().iter().find(|(known, _)| u16::from(*known) == code);
    found.map(|(_, option)| match option {
        EdnsOption::Unknown(_, data) => data.clone(),
        known => panic!("{known:?}"),
    })
}

#[test]
fn a_refusal_says_why_if_the_query_has_edns() {
    let zone = zone(3);
    let apex = "demo.example.com.";
    for (query, info_code) in [
        (ask("example.org.", A), Some(20)),
        (ask("withheld.demo.example.com.", A), Some(22)),
        (ask(apex, 252), Some(18)),
        (ask(apex, 251), Some(18)),
        (header(0).question("node1.demo.example.com.", A, 4321), Some(21)),
        (header(0).question("version.bind.", TXT, CH), Some(21)),
        (ask(apex, SOA).flags(5 << 11), Some(21)),
        (ask("node1.demo.example.com.", A), None),
        (ask("x.demo.example.com.", A), None),
    ] {
        let with_edns = query.clone().opt(1232, 0, &[]);
        let expected = info_code.map(|code: u16| code.to_be_bytes().to_vec());
        assert_eq!(option(Some(&zone), Transport::Udp, &with_edns, 15), expected, "{with_edns:?}");
        assert_eq!(option(Some(&zone), Transport::Udp, &query, 15), None, "no OPT was asked for");
    }
    let before_the_zone = ask("node1.demo.example.com.", A).opt(1232, 0, &[]);
    assert_eq!(option(None, Transport::Udp, &before_the_zone, 15), Some(vec![0, 14]));
}

#[test]
fn the_idle_timeout_is_told_over_tcp_to_clients_that_ask() {
    let zone = zone(3);
    let asking = ask("node1.demo.example.com.", A).opt(1232, 0, &[0, 11, 0, 0]);
    let of = |transport, query| option(Some(&zone), transport, query, 11);
    assert_eq!(of(Transport::Tcp, &asking), Some(vec![0, 100]), "10 s in units of 100 ms");
    assert_eq!(of(Transport::Udp, &asking), None);
    assert_eq!(of(Transport::Tcp, &ask("node1.demo.example.com.", A).opt(1232, 0, &[])), None);
}
