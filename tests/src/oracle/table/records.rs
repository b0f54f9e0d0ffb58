//! Rows about names with static records, aliases and wildcards.
use std::net::Ipv4Addr;

use dns_xdp_ebpf::outcome::Outcome;

use super::answer::{NO_ERROR, NX_DOMAIN, a, aaaa, negative, positive};
use super::zone::{ask, in_turn, ipv4, ipv6, over_ipv4};
use super::{Row, State};
use crate::oracle::frames::message::{A, AAAA, Message};

const CNAME: u16 = 5;
const PTR: u16 = 12;
const MX: u16 = 15;
const TXT: u16 = 16;
const SRV: u16 = 33;
const SSHFP: u16 = 44;
const HTTPS: u16 = 65;
const CAA: u16 = 257;

pub(super) fn rows() -> Vec<Row> {
    [addresses(), types(), aliases(), wildcards()].concat()
}

fn found(what: &str, query: &Message, records: &[Vec<u8>]) -> Row {
    Row::answered(what, Outcome::Answered, over_ipv4(query), positive(query, records))
}

fn no_data(qname: &str, qtype: u16) -> Row {
    let query = ask(qname, qtype);
    let message = negative(&query, NO_ERROR);
    Row::answered(format!("type {qtype} of {qname}"), Outcome::NoData, over_ipv4(&query), message)
}

/// The addresses of a name stay in the program, whatever other records it has.
fn addresses() -> Vec<Row> {
    let bound = ask("bound", A);
    let datagram = over_ipv4(&bound);
    let members = in_turn(&datagram, bound.id, 3, 3).map(|nth| a(ipv4(nth))).collect::<Vec<_>>();
    vec![
        found("an address beside a text", &ask("texted", A), &[a(ipv4(1))]),
        found("an address beside a fingerprint", &ask("printed", AAAA), &[aaaa(ipv6(1))]),
        found("members beside a binding", &bound, &members),
        found("a static address", &ask("static", A), &[a(Ipv4Addr::new(203, 0, 113, 77))]),
        found("a static address in upper case", &ask("STATIC", A), &[a(Ipv4Addr::new(203, 0, 113, 77))]),
    ]
}

/// Types that the name has go up, and types that share their bit. Others are NODATA.
fn types() -> Vec<Row> {
    let mut rows = Vec::new();
    for (qname, qtype) in [
        ("texted", TXT),
        ("texted", 64),
        ("printed", SSHFP),
        ("printed", PTR),
        ("_redis._tcp", SRV),
        ("_redis._tcp", A),
        ("mail", MX),
        ("mail", CAA),
        ("mail", A),
        ("bound", HTTPS),
        ("static", TXT),
        ("pointer", PTR),
        ("pointer", AAAA),
        ("unknown", 65_280),
    ] {
        rows.push(Row::passed(format!("type {qtype} of {qname}"), Outcome::Reserved, &ask(qname, qtype)));
    }
    for (qname, qtype) in [
        ("texted", AAAA),
        ("texted", MX),
        ("texted", SRV),
        ("printed", TXT),
        ("_redis._tcp", AAAA),
        ("_redis._tcp", TXT),
        ("_tcp", SRV),
        ("mail", AAAA),
        ("static", AAAA),
        ("pointer", A),
        ("unknown", A),
    ] {
        rows.push(no_data(qname, qtype));
    }
    rows
}

fn aliases() -> Vec<Row> {
    let mut rows = Vec::new();
    for qname in ["alias", "chain", "CHAIN", "away", "dangling"] {
        for qtype in [A, AAAA, CNAME, TXT, 65_280] {
            rows.push(Row::passed(format!("type {qtype} of {qname}"), Outcome::Reserved, &ask(qname, qtype)));
        }
    }
    rows
}

/// With a wildcard, a name that the table does not have is answered if the name above exists. A name that it has is
/// answered as ever.
fn wildcards() -> Vec<Row> {
    const WILD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 88);
    let mut rows = vec![
        found("an address", &ask("node1", A), &[a(ipv4(1))]),
        found("the wildcard itself", &ask("*", A), &[a(WILD)]),
        found("a name of the wildcard", &ask("node9", A), &[a(WILD)]),
        found("a name of the wildcard in upper case", &ask("NODE9", A), &[a(WILD)]),
        found("a long name of the wildcard", &ask(&"m".repeat(63), A), &[a(WILD)]),
        no_data("node1", MX),
        no_data("prod", A),
        no_data("node9", AAAA),
        no_data("node9", MX),
        no_data("x.service", A),
        Row::passed("a foreign name", Outcome::ForeignName, &Message::query(&[0], A, 1)),
    ];
    for qname in ["x.node1", "x.*", "*.node1", "x.alias"] {
        let query = ask(qname, A);
        let message = negative(&query, NX_DOMAIN);
        let what = format!("type A of {qname}, whose closest encloser has no wildcard");
        rows.push(Row::answered(what, Outcome::NxDomain, over_ipv4(&query), message));
    }
    for (qname, qtype) in [
        ("node9", TXT),
        ("a.b.c", A),
        ("y.node9", A),
        ("y.x.node1", A),
        ("x.prod", A),
        ("*.prod", A),
        ("x.service", MX),
    ] {
        rows.push(Row::passed(format!("type {qtype} of {qname}"), Outcome::Reserved, &ask(qname, qtype)));
    }
    rows.into_iter().map(|row| row.in_state(State::Wildcards)).collect()
}
