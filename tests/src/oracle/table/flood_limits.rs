//! Rows about the limits against floods: cookies, limits of answers, limits of passed-up queries.
use std::net::IpAddr;

use dns_xdp_ebpf::outcome::Outcome;
use dns_xdp_ebpf::table::SOA_MAX;

use super::answer::{NO_ERROR, NX_DOMAIN, a, aaaa, negative, negative_of, positive, truncated, truncated_as};
use super::link::GROUP_MACS;
use super::zone::{EXEMPT, LONGEST_CONTACT, ask, in_turn, ipv4, ipv6, over_ipv4, over_ipv6, sized};
use super::{Row, State};
use crate::oracle::frames::message::{A, AAAA, DO, IN, Message, Opt, name, option};
use crate::oracle::frames::{Datagram, TAG};

/// Octets of a message's header, and of an OPT record without options.
const HEADER: usize = 12;
const OPT: usize = 11;
const COOKIE: u16 = 10;
const NSID: u16 = 3;
const PADDING: u16 = 12;
const NS: u16 = 2;

/// From RFC 9018, appendix A.1 and A.2: a client, its cookie, the server's cookie, and one that the server made 40
/// minutes ago.
const OWNER: &str = "198.51.100.100";
const CLIENT: [u8; 8] = 0x2464_c4ab_cf10_c957_u64.to_be_bytes();
const SERVER: [u8; 16] = 0x0100_0000_5cf7_9f11_1f81_30c3_eee2_9480_u128.to_be_bytes();
/// From appendix A.4: a cookie by the old secret, and its replacement.
const IPV6_OWNER: &str = "2001:db8:220:1:59de:d0f4:8769:82b8";
const IPV6_CLIENT: [u8; 8] = 0x2268_1ab9_7d52_c298_u64.to_be_bytes();
const IPV6_BEFORE: [u8; 16] = 0x0100_0000_5cf7_c579_2655_6bd0_934c_72f8_u128.to_be_bytes();
const IPV6_AFTER: [u8; 16] = 0x0100_0000_5cf7_c609_a6bb_79d1_6625_507a_u128.to_be_bytes();

pub(super) fn rows() -> Vec<Row> {
    [
        answered_with_a_cookie(),
        longest(),
        in_the_way(),
        malformed(),
        new_secret(),
        limited(),
        flooded(),
        flooded_without_room(),
    ]
    .concat()
}

fn from(client: &str, query: &Message) -> Datagram {
    let source: IpAddr = client.parse().expect("an address");
    let datagram = if source.is_ipv4() { over_ipv4(query) } else { over_ipv6(query) };
    Datagram { source, ..datagram }
}

fn with_options(query: Message, options: Vec<u8>) -> Message {
    query.with(Opt { options, ..Opt::of_size(1232) })
}

fn cookie(parts: &[&[u8]]) -> Vec<u8> {
    option(COOKIE, &parts.concat())
}

/// An answer with these options in its OPT record.
fn and(mut answer: Vec<u8>, options: &[u8]) -> Vec<u8> {
    let length = u16::try_from(options.len()).expect("few options").to_be_bytes();
    let at = answer.len() - 2;
    answer[at..].copy_from_slice(&length);
    answer.extend(options);
    answer
}

/// Each kind of answer with the cookie that the RFC computes, with every cookie that the client may have.
fn answered_with_a_cookie() -> Vec<Row> {
    let ours = cookie(&[&CLIENT, &SERVER]);
    let long = Message::query(&name(&sized(255)), AAAA, IN);
    let one = |query: &Message| positive(query, &[a(ipv4(1))]);
    let turned = |query: &Message| {
        let members = in_turn(&from(OWNER, query), query.id, 3, 3);
        positive(query, &members.map(ipv6).map(aaaa).collect::<Vec<_>>())
    };
    let no_type = |query: &Message| negative(query, NO_ERROR);
    let no_name = |query: &Message| negative(query, NX_DOMAIN);
    type Expected<'e> = (&'static str, Message, Outcome, &'e dyn Fn(&Message) -> Vec<u8>);
    let kinds: [Expected<'_>; 6] = [
        ("A", ask("node3", A), Outcome::Answered, &one),
        ("A at an odd offset", ask("db.prod", A), Outcome::Answered, &one),
        ("AAAA", ask("service", AAAA), Outcome::Answered, &turned),
        ("no such type", ask("node1", AAAA), Outcome::NoData, &no_type),
        ("no such name", ask("node9", A), Outcome::NxDomain, &no_name),
        ("too large", long, Outcome::Truncated, &truncated),
    ];
    let knows: [(&str, &[&[u8]]); 5] = [
        ("the client's alone", &[&CLIENT]),
        ("a whole one", &[&CLIENT, &SERVER]),
        ("a forged one", &[&CLIENT, &[1; 16]]),
        ("one with a server's part of another length", &[&CLIENT, &SERVER[..8]]),
        ("one with a server's part of 32 octets", &[&CLIENT, &SERVER, &SERVER]),
    ];
    let mut rows = Vec::new();
    for (what, query, outcome, answer) in kinds {
        for (known, parts) in knows {
            let size = if outcome == Outcome::Truncated { 512 } else { 1232 };
            let opt = Opt { options: cookie(parts), flags: DO, ..Opt::of_size(size) };
            let query = query.clone().with(opt);
            let answer = and(answer(&query), &ours);
            let row = Row::answered(format!("{what}, {known}"), outcome, from(OWNER, &query), answer);
            rows.push(row.in_state(State::Cookies));
        }
    }
    rows
}

/// The longest negative answers, which exceed 512 octets only with a cookie. When they are truncated, the response code
/// stays.
fn longest() -> Vec<Row> {
    let ours = cookie(&[&CLIENT, &SERVER]);
    let contact = sized(LONGEST_CONTACT);
    let mut absent = name(&sized(255));
    absent[1] = b'-';
    let whole = (HEADER + 255 + 4 + SOA_MAX + OPT + ours.len()) as u16;
    let mut rows = Vec::new();
    for (what, qname, rcode, outcome) in [
        ("no such name", absent, NX_DOMAIN, Outcome::NxDomain),
        ("no such type", name(&sized(255)), NO_ERROR, Outcome::NoData),
    ] {
        for size in [0, 512, whole - 1, whole, 1232] {
            let opt = Opt { options: cookie(&[&CLIENT]), ..Opt::of_size(size) };
            let query = Message::query(&qname, A, IN).with(opt);
            let (outcome, answer) = if size < whole {
                (Outcome::Truncated, truncated_as(&query, rcode))
            } else {
                (outcome, negative_of(&query, rcode, &contact))
            };
            let what = format!("{what}, size {size}, the longest SOA");
            rows.push(Row::answered(what, outcome, from(OWNER, &query), and(answer, &ours)));
        }
    }
    rows.into_iter().map(|row| row.in_state(State::LongestSoa)).collect()
}

/// Other contents of a query, beside its cookie or instead of it.
fn in_the_way() -> Vec<Row> {
    let query = || ask("node3", A);
    let ours = cookie(&[&CLIENT, &SERVER]);
    let padding = || option(PADDING, &[0; 3]);
    let first = with_options(query(), [cookie(&[&CLIENT]), padding(), padding()].concat());
    let answer = and(positive(&first, &[a(ipv4(1))]), &ours);
    let mut rows =
        vec![Row::answered("a cookie before other options", Outcome::Answered, from(OWNER, &first), answer)];
    let places = [
        ("behind another option", [padding(), cookie(&[&CLIENT])].concat()),
        ("before a second", [cookie(&[&CLIENT]), cookie(&[&[9; 8]])].concat()),
        ("before a malformed one", [cookie(&[&CLIENT]), cookie(&[&[9; 3]])].concat()),
        ("as the eighth option", [option(PADDING, &[]).repeat(7), cookie(&[&CLIENT])].concat()),
    ];
    for (what, options) in places {
        rows.push(Row::passed(format!("a cookie {what}"), Outcome::Cookie, &with_options(query(), options)));
    }
    for (what, query) in [("no OPT record", query()), ("no cookie", with_options(query(), padding()))] {
        let answer = positive(&query, &[a(ipv4(1))]);
        rows.push(Row::answered(what, Outcome::Answered, from(OWNER, &query), answer));
    }
    let nsid = with_options(query(), [cookie(&[&CLIENT]), option(NSID, &[])].concat());
    rows.push(Row::passed("NSID behind a cookie", Outcome::Nsid, &nsid));
    rows.into_iter().map(|row| row.in_state(State::Cookies)).collect()
}

fn malformed() -> Vec<Row> {
    let row = |length: usize| {
        let query = with_options(ask("node3", A), cookie(&[&vec![1; length]]));
        Row::passed(format!("a cookie of {length} octets"), Outcome::Opt, &query).in_state(State::Cookies)
    };
    [0, 1, 7, 9, 15, 41, 300].map(row).to_vec()
}

/// A cookie by the old secret is valid and is replaced.
fn new_secret() -> Vec<Row> {
    let row = |(what, server): (&str, &[u8])| {
        let query = with_options(ask("node3", A), cookie(&[&IPV6_CLIENT, server]));
        let answer = and(positive(&query, &[a(ipv4(1))]), &cookie(&[&IPV6_CLIENT, &IPV6_AFTER]));
        Row::answered(what, Outcome::Answered, from(IPV6_OWNER, &query), answer).in_state(State::NewSecret)
    };
    let cookies: [(&str, &[u8]); 3] =
        [("no cookie yet", &[]), ("the old secret's", &IPV6_BEFORE), ("the new secret's", &IPV6_AFTER)];
    cookies.map(row).to_vec()
}

/// The first query of each prefix is answered. The answers to later queries depend on the sender.
fn limited() -> Vec<Row> {
    let plain = ask("node3", A);
    let known = with_options(ask("node3", A), cookie(&[&CLIENT, &SERVER]));
    let unknown = with_options(ask("node3", A), cookie(&[&CLIENT]));
    let found = |query: &Message| positive(query, &[a(ipv4(1))]);
    let ours = cookie(&[&CLIENT, &SERVER]);
    let row = |what: &str, outcome, query, message| Row::answered(what, outcome, query, message);
    let first = || {
        vec![
            row("the first of a prefix", Outcome::Answered, from(OWNER, &plain), found(&plain)),
            row("the first of another", Outcome::Answered, from(IPV6_OWNER, &plain), found(&plain)),
            row("an exempt neighbour", Outcome::Answered, from(&EXEMPT.to_string(), &plain), found(&plain)),
            row("one with a cookie", Outcome::Answered, from(OWNER, &known), and(found(&known), &ours)),
            Row::passed("one for the responder", Outcome::Type, &ask("node3", NS)),
        ]
    };
    let more =
        [(OWNER, &plain), ("198.51.100.1", &plain), (IPV6_OWNER, &plain), ("2001:db8:220:ff::1", &plain)];
    let slipping = more.map(|(client, query)| {
        let what = format!("more from {client}");
        Row::answered(what, Outcome::Slipped, from(client, query), truncated(query))
    });
    let learning = and(truncated(&unknown), &ours);
    let learning = row("one that learns its cookie", Outcome::Slipped, from(OWNER, &unknown), learning);
    let held = more.map(|(client, query)| {
        Row::untouched(format!("more from {client}"), Outcome::RateLimited, &from(client, query))
    });
    // Other queries slip with their own response code.
    let no_type = |client: &str, query: &Message| {
        let what = format!("more of another type from {client}");
        Row::answered(what, Outcome::Slipped, from(client, query), truncated(query))
    };
    let no_name = |client: &str, query: &Message| {
        let what = format!("more of a name that does not exist from {client}");
        Row::answered(what, Outcome::Slipped, from(client, query), truncated_as(query, NX_DOMAIN))
    };
    let (missing, deep) = (ask("node9", A), ask("a.b.node9", AAAA));
    let with_opt = Message { opt: Some(Opt { flags: DO, ..Opt::of_size(512) }), ..missing.clone() };
    let mut others = vec![no_type(OWNER, &ask("node1", AAAA)), no_type(IPV6_OWNER, &ask("prod", A))];
    for client in [OWNER, IPV6_OWNER] {
        others.extend([&missing, &deep, &with_opt].map(|query| no_name(client, query)));
    }
    let unanswered = [(OWNER, ask("node1", AAAA)), (OWNER, missing), (IPV6_OWNER, deep), (OWNER, with_opt)];
    let unanswered = unanswered.map(|(client, query)| {
        Row::untouched(format!("nothing for {client}"), Outcome::RateLimited, &from(client, &query))
    });
    let slipping = first().into_iter().chain(slipping).chain([learning]).chain(others);
    let held = first().into_iter().chain(held).chain(unanswered);
    let slipping = slipping.map(|row| row.in_state(State::Slipping));
    slipping.chain(held.map(|row| row.in_state(State::Holding))).collect()
}

/// The first query for the responder goes up, and no later one. Queries that the program answers, and foreign packets,
/// are not limited.
fn flooded() -> Vec<Row> {
    let (ns, plain) = (ask("node3", NS), ask("node3", A));
    let foreign = Datagram { destination: [203, 0, 113, 1].into(), ..over_ipv4(&ns) };
    let with_options = Datagram { ip_options: vec![0x94, 4, 0, 0], ..over_ipv4(&ns) };
    let long = Datagram { message: [ns.bytes(), vec![0; 1250]].concat(), ..over_ipv4(&ns) };
    let fragment = Datagram { fragment: 0x2000, ..over_ipv4(&ns) };
    let extended =
        |protocol, header: &[u8]| Datagram { protocol, ip_options: header.to_vec(), ..over_ipv6(&ns) };
    let authenticated = [17, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // Truncated options, with further options or UDP after them.
    let cut_at = |next| {
        let headers = [60, 0, 0, 1, 0, 0, 0, 9, next, 9, 1, 4, 0, 0, 0, 0];
        Datagram { message: Vec::new(), udp_length: Some(0), ..extended(44, &headers) }
    };
    let (cut, udp_later) = (cut_at(60), cut_at(17));
    let greatest = |next: u8| [&[next, 255, 1, 4][..], &[0, 53].repeat(1022)].concat();
    let (longest, longest_of_another) = (extended(0, &greatest(60)), extended(0, &greatest(6)));
    let many = [[60, 0, 1, 4, 0, 0, 0, 0]; 6].concat();
    let to_group = GROUP_MACS.map(|destination_mac| {
        let plain = Datagram { destination_mac, ..over_ipv4(&plain) };
        Row::untouched(format!("to {destination_mac:02x?}"), Outcome::FallbackLimited, &plain)
    });
    let station = Datagram { destination_mac: [2, 0, 0, 0, 0, 9], ..over_ipv4(&ns) };
    let tagged = |tags: &[(u16, u16)]| Datagram { tags: tags.to_vec(), ..over_ipv4(&ns) };
    let rows = [
        Row::passed("the first", Outcome::Type, &ns),
        Row::passed("a type", Outcome::FallbackLimited, &ns),
        Row::untouched("IPv4 options", Outcome::FallbackLimited, &with_options),
        Row::untouched("a long message", Outcome::FallbackLimited, &long),
        Row::untouched("the first fragment", Outcome::FallbackLimited, &fragment),
        Row::untouched(
            "hop-by-hop options",
            Outcome::FallbackLimited,
            &extended(0, &[17, 0, 1, 4, 0, 0, 0, 0]),
        ),
        Row::untouched("an authentication header", Outcome::FallbackLimited, &extended(51, &authenticated)),
        Row::untouched(
            "the first fragment over IPv6",
            Outcome::FallbackLimited,
            &extended(44, &[17, 0, 0, 1, 0, 0, 0, 9]),
        ),
        Row::untouched("many extension headers", Outcome::FallbackLimited, &extended(0, &many)),
        Row::untouched(
            "another protocol's fragment",
            Outcome::NotForUs,
            &extended(44, &[6, 0, 0, 1, 0, 0, 0, 9]),
        ),
        Row::untouched("a later fragment", Outcome::NotForUs, &extended(44, &[17, 0, 0, 8, 0, 0, 0, 9])),
        Row::untouched("a chain that goes on in the next fragment", Outcome::FallbackLimited, &cut),
        Row::untouched("UDP in the next fragment", Outcome::FallbackLimited, &udp_later),
        Row::untouched("a header of the greatest length", Outcome::FallbackLimited, &longest),
        Row::untouched("another protocol behind such a one", Outcome::NotForUs, &longest_of_another),
        Row::passed("a name", Outcome::FallbackLimited, &Message::query(&[0], A, IN)),
        Row::untouched("DNS that passes through", Outcome::ForeignAddress, &foreign),
        Row::untouched("to another station", Outcome::ForeignMac, &station),
        Row::untouched("behind a priority", Outcome::FallbackLimited, &tagged(&[(TAG, 0xe000)])),
        Row::untouched("behind two", Outcome::FallbackLimited, &tagged(&[(TAG, 0), (TAG, 0)])),
        Row::untouched(
            "of a VLAN behind a priority",
            Outcome::FallbackLimited,
            &tagged(&[(TAG, 0), (TAG, 5)]),
        ),
        Row::answered("an answer", Outcome::Answered, over_ipv4(&plain), positive(&plain, &[a(ipv4(1))])),
    ];
    rows.into_iter().chain(to_group).map(|row| row.in_state(State::Flooded)).collect()
}

/// The same if a frame cannot be resized: answerable queries go up too, and count.
fn flooded_without_room() -> Vec<Row> {
    let (plain, missing) = (ask("node3", A), ask("node9", A));
    let rows = [
        Row::passed("the first", Outcome::NoRoom, &plain),
        Row::passed("an answer", Outcome::FallbackLimited, &plain),
        Row::passed("a name that does not exist", Outcome::FallbackLimited, &missing),
        Row::untouched("an answer over IPv6", Outcome::FallbackLimited, &over_ipv6(&plain)),
        Row::passed("a type", Outcome::FallbackLimited, &ask("node3", NS)),
    ];
    rows.map(|row| row.in_state(State::FloodedNoRoom)).to_vec()
}
