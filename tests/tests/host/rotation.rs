//! Tests rotation for clients with constant or small ids: the program and the responder begin with the same member.
use std::collections::BTreeMap;

use dns_xdp::responder::{Arrival, Response, Transport, respond};
use dns_xdp_tests::oracle::frames::Datagram;
use dns_xdp_tests::oracle::frames::message::{Message, Opt};
use dns_xdp_tests::oracle::frames::reply;
use dns_xdp_tests::oracle::host::Server;
use dns_xdp_tests::oracle::meaning::Meaning;
use dns_xdp_tests::oracle::table::zone::{PORT, ask, over_ipv4, over_ipv6, places, zone};

const A: u16 = 1;
const QUERIES: u16 = 20;

/// How often each member comes first in the answers to these queries, equally in both paths.
fn firsts(queries: &[Datagram]) -> BTreeMap<String, usize> {
    let mut server = Server::new(&places(), false, PORT);
    server.publish(&zone());
    let mut firsts = BTreeMap::new();
    for query in queries {
        let (_, after) = server.run(&query.frame());
        let answers = |message: &[u8]| Meaning::of(message).expect("an answer can be read").answers;
        let of_program = answers(&reply::message(query, &after).expect("the program answers"));
        let arrival =
            Arrival { transport: Transport::Udp, client: query.source, port: query.source_port, seconds: 0 };
        let of_responder = respond(&query.message, arrival, Some(&zone()), b"node1").map(Response::encode);
        assert_eq!(of_program, answers(&of_responder.expect("the responder answers")));
        *firsts.entry(of_program[0].clone()).or_default() += 1;
    }
    firsts
}

/// Queries of one client with one id; `port` returns the port of the nth query.
fn queries(over: fn(&Message) -> Datagram, port: impl Fn(u16) -> u16) -> Vec<Datagram> {
    let query = Message { id: 0, opt: Some(Opt::of_size(1232)), ..ask("service", A) };
    (0..QUERIES).map(|nth| Datagram { source_port: port(nth), ..over(&query) }).collect()
}

#[test]
fn a_client_whose_ids_are_all_zero_gets_every_member_first() {
    for over in [over_ipv4, over_ipv6] {
        for step in [1, 2, 97, 256] {
            let firsts = firsts(&queries(over, |nth| 32_768 + nth * step));
            assert!(firsts.len() == 3 && firsts.values().all(|count| *count >= 3), "step {step}: {firsts:?}");
        }
    }
}

#[test]
fn a_client_whose_id_and_port_never_change_gets_the_same_member_first_in_both_paths() {
    for over in [over_ipv4, over_ipv6] {
        assert_eq!(firsts(&queries(over, |_| 32_768)).len(), 1);
    }
}
