//! The zone under test, its server and a client.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dns_xdp::datapath;
use dns_xdp::flood_limits::{FloodLimits, Network, RateLimit};
use dns_xdp::network::{Place, VlanProtocol, VlanTag};
use dns_xdp::records::{RecordSet, Records, data, full_name, record_type};
use dns_xdp::zone::{Addresses, FurtherApex, Origin, Zone};
use dns_xdp_ebpf::cookie::Secret;
use dns_xdp_ebpf::table::limit::Rate;
use dns_xdp_ebpf::table::{self, address_words};
use hickory_proto::rr::{Name, RecordType};

use crate::oracle::frames::message::{self, IN, Message};
use crate::oracle::frames::{Checksum, Datagram, Mac, SERVICE_TAG, TAG, UDP};

/// The apex.
pub const APEX: &str = "demo.example.com";
/// Octets of the apex in wire form.
pub const APEX_LENGTH: usize = 18;
/// The TTL of every address, in seconds; no two of its octets are equal.
pub const TTL: u32 = 0x0102_0304;
/// The TTL of the SOA record, in seconds.
pub const NEGATIVE_TTL: u32 = 0x0506_0708;
/// The SOA's serial.
pub const SERIAL: u32 = 0x1112_1314;

/// The server's addresses. All are served.
pub const SERVER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53))];
/// The server's interface.
pub const SERVER_MAC: Mac = [0x02, 0x00, 0x5e, 0x10, 0x00, 0x53];
/// The server's port.
pub const PORT: u16 = 53;
/// The VLANs of the server's addresses: EtherTypes and ids of the tags, the outer first. The addresses are served
/// without a VLAN too.
pub const VLANS: [&[(u16, u16)]; 5] = [
    &[(TAG, 5)],
    &[(TAG, 10)],
    &[(SERVICE_TAG, 6), (TAG, 7)],
    &[(SERVICE_TAG, 0x123), (TAG, 0xfff)],
    &[(TAG, 1), (TAG, 2)],
];
/// The number of names that the server's table has to hold.
pub const CAPACITY: u32 = 512;
/// The same, if the table needs room for the addresses of every RRset.
pub const LARGE_CAPACITY: u32 = 16_384;

/// A name of the zone with every letter, and with octets that differ from a letter's neighbour by the same bit.
pub const LETTERS: &str = "abcdefghijklmnopqrstuvwxyz-0123456789-`{|}~";

const CLIENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0x1, 0xe, 0x2, 0xf, 0x7)),
];
const CLIENT_MAC: Mac = [0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee];

/// The places of the server's addresses.
pub fn places() -> Vec<Place> {
    let tag = |(ethertype, id): &(u16, u16)| VlanTag {
        protocol: if *ethertype == SERVICE_TAG { VlanProtocol::Dot1Ad } else { VlanProtocol::Dot1Q },
        id: *id,
    };
    let untagged = datapath::places(&SERVER, SERVER_MAC);
    let tagged = VLANS.iter().flat_map(|vlan| {
        let place = |place: &Place| Place { tags: vlan.iter().map(tag).collect(), ..place.clone() };
        untagged.iter().map(place).collect::<Vec<_>>()
    });
    untagged.iter().cloned().chain(tagged).collect()
}

/// Whether the server's addresses are served behind these tags: EtherTypes and control information.
pub fn serves_behind(tags: &[(u16, u16)]) -> bool {
    let vlan = tags.iter().map(|(ethertype, control)| (*ethertype, control & 0x0fff));
    // A tag with the id 0 has a priority only, in any position (IEEE 802.1Q, 9.6).
    let vlan: Vec<(u16, u16)> = vlan.filter(|(_, id)| *id != 0).collect();
    vlan.is_empty() || VLANS.contains(&&*vlan)
}

/// The nth A record of a name.
pub fn ipv4(nth: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, nth)
}

/// The nth AAAA record of a name.
pub fn ipv6(nth: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x1122, 0x3344, 0x5566, 0x7788, 0x99aa, 0xbb00 | u16::from(nth))
}

/// A name of this many octets in wire form: the zone's apex, or 20 to 255 octets. Shorter names are suffixes of longer
/// names.
pub fn sized(octets: usize) -> String {
    let mut labels = vec![APEX.to_owned()];
    let mut left = octets - APEX_LENGTH;
    while left > 0 {
        // A label has at least one octet besides its length.
        let label = if left == 65 { 63 } else { left.min(64) };
        labels.insert(0, "l".repeat(label - 1));
        left -= label;
    }
    labels.join(".")
}

/// The name of [`sized`], relative to the apex.
fn relative(octets: usize) -> String {
    sized(octets).trim_end_matches(APEX).trim_end_matches('.').to_owned()
}

/// The zone under test.
pub fn zone() -> Zone {
    made_of("hostmaster", 1, names()).with_records(Arc::new(Records::new(records())))
}

/// The static records of the zone under test: owner, type and data.
const RECORDS: [(&str, &str, &str); 16] = [
    ("texted", "TXT", "a text beside an address"),
    ("printed", "SSHFP", "1 1 dd465c09cfa51fb45020cc83316fff21b9ec74ac"),
    ("_redis._tcp", "SRV", "0 5 6379 node3"),
    ("mail", "MX", "10 Node3"),
    ("mail", "CAA", "0 issue letsencrypt.org"),
    ("bound", "HTTPS", "1 . alpn=h2"),
    ("static", "A", "203.0.113.77"),
    ("static", "TXT", "\"of a\" \"static name\""),
    ("alias", "CNAME", "node3"),
    ("chain", "CNAME", "Alias"),
    ("away", "CNAME", "www.example.org."),
    ("dangling", "CNAME", "nothing.prod"),
    ("to-prod", "CNAME", "prod"),
    ("to-sixteen", "CNAME", "sixteen"),
    ("pointer", "PTR", "node1"),
    ("unknown", "TYPE65280", "\\# 3 010203"),
];

fn records() -> Vec<RecordSet> {
    RECORDS.iter().map(|(owner, rtype, text)| record(owner, rtype, text)).collect()
}

/// A static record. Its owner and the names in its data are relative to the apex.
pub fn record(owner: &str, rtype: &str, text: &str) -> RecordSet {
    let (apex, rtype) = (absolute("@"), record_type(rtype).expect("the tests' types are types"));
    let data = vec![data(rtype, text, &apex).expect("the tests' data are valid")];
    let owner = full_name(owner, &apex).expect("the tests' names are names").to_lowercase();
    RecordSet { owner, rtype, ttl_seconds: TTL, data }
}

/// The same zone with wildcards.
pub fn zone_with_wildcards() -> Zone {
    let wildcards = [
        ("*", "TXT", "for every name"),
        ("*", "A", "203.0.113.88"),
        ("*.prod", "CNAME", "node3"),
        ("*.service", "MX", "10 node3"),
    ];
    let wildcards = wildcards.iter().map(|(owner, rtype, text)| record(owner, rtype, text));
    let records = records().into_iter().chain(wildcards);
    made_of("hostmaster", 1, names()).with_records(Arc::new(Records::new(records)))
}

/// A suffix of the zone that is a zone of its own.
pub const FURTHER: &str = "demo.corp.test";

/// The same zone with a suffix below it, and with a further zone.
pub fn zone_with_suffixes() -> Zone {
    let further = |relative: &str| {
        let name = if relative == "@" { FURTHER.to_owned() } else { format!("{relative}.{FURTHER}") };
        Name::from_labels(name.split('.').map(str::as_bytes)).expect("the tests' names are names")
    };
    let both = |nth: u8| Addresses::new(TTL, [ipv4(nth).into(), ipv6(nth).into()]);
    let one = |nth: u8| Addresses::new(TTL, [ipv4(nth).into()]);
    let below = [("node1.internal", one(101)), ("node3.internal", both(103)), ("internal", one(101))];
    let below = below.map(|(name, addresses)| (absolute(name), addresses));
    let beside = [
        ("@", one(101)),
        ("ns1", both(103)),
        ("node1", one(101)),
        ("node3", both(103)),
        ("db.prod", one(101)),
    ];
    let beside = beside.map(|(name, addresses)| (further(name), addresses));
    let own = names().into_iter().map(|(name, addresses)| (absolute(&name), addresses));
    let apex = FurtherApex { apex: further("@"), name_servers: vec![further("ns1")] };
    let alias = |owner: Name, target: &str| {
        let data = vec![data(RecordType::CNAME, target, &absolute("@")).expect("the tests' data are valid")];
        RecordSet { owner, rtype: RecordType::CNAME, ttl_seconds: TTL, data }
    };
    let aliases =
        [alias(absolute("alias.internal"), "node3.internal"), alias(further("www"), "node1.demo.corp.test.")];
    let zone = Zone::with_further(origin("hostmaster", 1), [apex], own.chain(below).chain(beside));
    zone.with_records(Arc::new(Records::new(records().into_iter().chain(aliases))))
}

/// The time of day in seconds since 1970, and the secrets in force: RFC 9018, appendix A.1.
pub const COOKIES: (u32, [u128; 2]) = (1_559_731_985, [0xe5e9_73e5_a6b2_a43f_48e7_dc84_9e37_bfcf, 0x0707]);
/// The same from appendix A.4. There, a new secret precedes the secret of the old cookies.
pub const NEW_SECRET: (u32, [u128; 2]) =
    (1_559_741_961, [0x4455_36bc_d251_3298_075a_5d37_9663_c962, 0xdd3b_df93_44b6_78b1_85a6_f5cb_60fc_a715]);

/// The same zone with these secrets.
pub fn zone_with_cookies(secrets: [u128; 2]) -> Zone {
    zone().guarded(cookies(secrets).table())
}

fn cookies(secrets: [u128; 2]) -> FloodLimits {
    let secrets = secrets.map(|secret| Secret::new(secret.to_be_bytes())).to_vec();
    FloodLimits { secrets, ..FloodLimits::default() }
}

/// The same with cookies, and one answer to a prefix in several centuries; one in `slip` further answers slips.
pub fn zone_with_limits(slip: u32) -> Zone {
    let exempt = vec![Network { address: EXEMPT, length: 32 }];
    let rate_limit = RateLimit { slip, exempt, ipv4_prefix: 24, ipv6_prefix: 56, ..RateLimit::default() };
    let mut flood_policy = FloodLimits { rate_limit, ..cookies(COOKIES.1) }.table();
    flood_policy.answers = CENTURIES;
    zone().guarded(flood_policy)
}

/// A client that is exempt from limits, in the same prefix as the others.
pub const EXEMPT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 200));

/// The same with one query to the responder in several centuries.
pub fn zone_with_fallback_limit() -> Zone {
    let mut flood_policy = FloodLimits::default().table();
    flood_policy.set_prefixes(24, 56);
    zone().guarded(table::FloodPolicy { fallback: CENTURIES, ..flood_policy })
}

/// A rate of one in several centuries.
pub const CENTURIES: Rate = Rate { interval: u64::MAX / 4, tolerance: 0 };

/// The same with this many name servers, from `ns1` on.
pub fn zone_with_name_servers(count: u8) -> Zone {
    let servers = (1..=count)
        .map(|nth| (format!("ns{nth}"), Addresses::new(TTL, [ipv4(nth).into(), ipv6(nth).into()])));
    let zone = made_of("hostmaster", count, names().into_iter().chain(servers));
    zone.with_records(Arc::new(Records::new(records())))
}

/// Every name of the zone under test, relative to its apex, with its addresses.
fn names() -> Vec<(String, Addresses)> {
    let both = |count: u8| (1..=count).flat_map(|nth| [ipv4(nth).into(), ipv6(nth).into()]);
    let rotating = |count| Addresses { rotate: true, ..Addresses::new(TTL, both(count)) };
    let mut names = vec![
        ("@".to_owned(), rotating(2)),
        ("node1".to_owned(), Addresses::new(TTL, [ipv4(1).into()])),
        ("node2".to_owned(), Addresses::new(TTL, [ipv6(2).into()])),
        ("node3".to_owned(), Addresses::new(TTL, both(1))),
        ("ns1".to_owned(), Addresses::new(TTL, both(1))),
        ("service".to_owned(), rotating(3)),
        ("sixteen".to_owned(), rotating(16)),
        ("seventeen".to_owned(), rotating(17)),
        ("eight".to_owned(), Addresses { answers_max: 8, ..rotating(16) }),
        ("many".to_owned(), Addresses { answers_max: 8, ..rotating(40) }),
        ("all-but".to_owned(), Addresses { answers_max: 16, ..rotating(17) }),
        ("one-of-three".to_owned(), Addresses { answers_max: 1, ..rotating(3) }),
        ("one-of-many".to_owned(), Addresses { answers_max: 1, ..rotating(100) }),
        ("ordered".to_owned(), Addresses { rotate: false, answers_max: 2, ..rotating(33) }),
        ("db.prod".to_owned(), Addresses::new(TTL, both(1))),
        ("texted".to_owned(), Addresses::new(TTL, [ipv4(1).into()])),
        ("printed".to_owned(), Addresses::new(TTL, both(1))),
        ("bound".to_owned(), rotating(3)),
        ("withheld".to_owned(), Addresses { refused: true, ..Addresses::new(TTL, both(1)) }),
        (
            "failed-over".to_owned(),
            Addresses { nodata_ttl_seconds: Some(TTL), ..Addresses::new(TTL, [ipv4(1).into()]) },
        ),
        ("x".repeat(63), Addresses::new(TTL, both(1))),
        (LETTERS.to_owned(), Addresses::new(TTL, both(1))),
    ];
    for octets in APEX_LENGTH + 2..=255 {
        names.push((relative(octets), rotating(if octets == 255 { 16 } else { 1 })));
    }
    names
}

/// A zone whose SOA record is larger than the program holds: a mailbox of 250 octets.
pub fn zone_with_long_soa() -> Zone {
    let node1 = Addresses::new(TTL, [ipv4(1).into()]);
    made_of(&relative(250), 1, [("node1".to_owned(), node1)])
}

/// Octets of the mailbox in [`zone_with_longest_soa`].
pub const LONGEST_CONTACT: usize = 170;

/// A zone with cookies and the largest SOA record that the program holds in a negative answer. One name of 255 octets has
/// no address.
pub fn zone_with_longest_soa() -> Zone {
    let longest = (relative(255), Addresses::default());
    made_of(&relative(LONGEST_CONTACT), 1, [longest]).guarded(cookies(COOKIES.1).table())
}

/// A zone with these names, relative to the apex or `@`, with one name server.
pub fn zone_of(names: impl IntoIterator<Item = (String, Addresses)>) -> Zone {
    made_of("hostmaster", 1, names)
}

fn made_of(contact: &str, servers: u8, names: impl IntoIterator<Item = (String, Addresses)>) -> Zone {
    let names = names.into_iter().map(|(name, addresses)| (absolute(&name), addresses));
    Zone::new(origin(contact, servers), names)
}

fn origin(contact: &str, servers: u8) -> Origin {
    Origin {
        apex: absolute("@"),
        contact: absolute(contact),
        serial: SERIAL,
        ns_ttl_seconds: 60,
        negative_ttl_seconds: NEGATIVE_TTL,
        name_servers: (1..=servers).map(|nth| absolute(&format!("ns{nth}"))).collect(),
    }
}

fn absolute(relative: &str) -> Name {
    let labels = within(relative);
    Name::from_labels(labels.split('.').map(str::as_bytes)).expect("the tests' names are names")
}

/// A name relative to the apex, or `@`, in full.
pub fn within(relative: &str) -> String {
    if relative == "@" { APEX.to_owned() } else { format!("{relative}.{APEX}") }
}

/// The members, counted from 1, in an answer of `count` out of `members` to a query with this id.
pub fn in_turn(
    datagram: &Datagram,
    id: u16,
    members: u8,
    count: u8,
) -> impl Iterator<Item = u8> + Clone + use<> {
    let turn = table::turn(id, datagram.source_port, address_words(datagram.source));
    let first = table::first_member(turn, members.into()) as u8;
    (0..count).map(move |nth| (first + nth) % members + 1)
}

/// A question about a name of the zone, relative to the apex or `@`.
pub fn ask(relative: &str, qtype: u16) -> Message {
    Message::query(&message::name(&within(relative)), qtype, IN)
}

/// The message from the client to the server over IPv4.
pub fn over_ipv4(message: &Message) -> Datagram {
    over(0, message.bytes())
}

/// The same over IPv6.
pub fn over_ipv6(message: &Message) -> Datagram {
    over(1, message.bytes())
}

fn over(family: usize, message: Vec<u8>) -> Datagram {
    Datagram {
        destination_mac: SERVER_MAC,
        source_mac: CLIENT_MAC,
        tags: Vec::new(),
        ethertype: None,
        source: CLIENT[family],
        destination: SERVER[family],
        version: None,
        ip_options: Vec::new(),
        fragment: 0,
        protocol: UDP,
        ttl: 57,
        ip_length: None,
        source_port: 40_961,
        destination_port: PORT,
        udp_length: None,
        checksum: Checksum::Whole,
        message,
        padding: Vec::new(),
    }
}
