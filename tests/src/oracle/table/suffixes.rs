//! Rows about suffixes: names below one, and names of a suffix that is a zone of its own.
use dns_xdp_ebpf::outcome::Outcome;

use super::answer::{NO_ERROR, NX_DOMAIN, a, aaaa, negative, positive};
use super::zone::{FURTHER, ask, ipv4, ipv6, over_ipv4};
use super::{Row, State};
use crate::oracle::frames::message::{self, A, AAAA, IN, Message};

const TXT: u16 = 16;

pub(super) fn rows() -> Vec<Row> {
    let rows = [below_the_zone(), a_zone_of_its_own()].concat();
    rows.into_iter().map(|row| row.in_state(State::Suffixes)).collect()
}

/// A question about a name in the further zone.
fn ask_further(relative: &str, qtype: u16) -> Message {
    let name = if relative == "@" { FURTHER.to_owned() } else { format!("{relative}.{FURTHER}") };
    Message::query(&message::name(&name), qtype, IN)
}

/// The names below a suffix are names of the zone like all others.
fn below_the_zone() -> Vec<Row> {
    let (address, both) = (ask("node1.internal", A), ask("Node3.INTERNAL", AAAA));
    let (no_data, nobody) = (ask("node1.internal", TXT), ask("nobody.internal", A));
    let answered = |what: &str, outcome, query: &Message, message| {
        Row::answered(what, outcome, over_ipv4(query), message)
    };
    vec![
        answered("a node under a suffix", Outcome::Answered, &address, positive(&address, &[a(ipv4(101))])),
        answered("the same in upper case", Outcome::Answered, &both, positive(&both, &[aaaa(ipv6(103))])),
        answered("no such type", Outcome::NoData, &no_data, negative(&no_data, NO_ERROR)),
        answered("no such name", Outcome::NxDomain, &nobody, negative(&nobody, NX_DOMAIN)),
        Row::passed("a record under a suffix", Outcome::Reserved, &ask("alias.internal", A)),
    ]
}

/// The program has the addresses of a further zone. Negative answers, which have another SOA record, go up.
fn a_zone_of_its_own() -> Vec<Row> {
    let (address, both) = (ask_further("node1", A), ask_further("NODE3", AAAA));
    let apex = ask_further("@", A);
    let answered = |what: &str, query: &Message, records: &[Vec<u8>]| {
        Row::answered(what, Outcome::Answered, over_ipv4(query), positive(query, records))
    };
    let mut rows = vec![
        answered("a node of a further zone", &address, &[a(ipv4(101))]),
        answered("the same in upper case", &both, &[aaaa(ipv6(103))]),
        answered("the apex of a further zone", &apex, &[a(ipv4(101))]),
    ];
    for (qname, qtype) in
        [("node1", AAAA), ("node1", TXT), ("@", AAAA), ("prod", A), ("www", A), ("www", TXT)]
    {
        let what = format!("type {qtype} of {qname} in a further zone");
        rows.push(Row::passed(what, Outcome::Reserved, &ask_further(qname, qtype)));
    }
    for qname in ["nobody", "x.node1", "a.b.prod"] {
        let what = format!("{qname} in a further zone");
        rows.push(Row::passed(what, Outcome::ForeignName, &ask_further(qname, A)));
    }
    rows
}
