//! Tests of answers with static records, aliases and wildcards.
use std::sync::Arc;

use super::super::{Records as Sections, TARGETS_MAX_TCP, TARGETS_MAX_UDP, records_of};
use super::*;
use crate::records::{RecordSet, Records, data, full_name, record_type};

/// Returns the zone with these records, each as name, type and data.
fn with(records: &[(&str, &str, &str)]) -> Zone {
    let apex = name("demo.example.com.");
    let set = |(owner, rtype, text): &(&str, &str, &str)| {
        let rtype = record_type(rtype).unwrap();
        let data = vec![data(rtype, text, &apex).unwrap()];
        RecordSet { owner: full_name(owner, &apex).unwrap(), rtype, ttl_seconds: 60, data }
    };
    zone(3).with_records(Arc::new(Records::new(records.iter().map(set))))
}

fn udp(zone: &Zone, query: &Wire) -> Message {
    Message::from_vec(&answer(Some(zone), Transport::Udp, query).unwrap()).unwrap()
}

fn texts(records: &[Record]) -> Vec<String> {
    records.iter().map(ToString::to_string).collect()
}

#[test]
fn an_alias_comes_with_what_it_leads_to() {
    let zone = with(&[("www", "CNAME", "web"), ("web", "CNAME", "legacy"), ("dead", "CNAME", "nothing")]);
    let found = udp(&zone, &ask("WWW.demo.example.com.", A));
    assert_eq!(
        texts(&found.answers),
        [
            "WWW.demo.example.com. 60 IN CNAME web.demo.example.com.",
            "web.demo.example.com. 60 IN CNAME legacy.demo.example.com.",
            "legacy.demo.example.com. 5 IN A 192.0.2.1",
        ]
    );
    assert!(found.metadata.authoritative && found.authorities.is_empty());
    let no_data = udp(&zone, &ask("www.demo.example.com.", AAAA));
    assert_eq!((no_data.metadata.response_code, no_data.answers.len()), (ResponseCode::NoError, 2));
    assert_eq!(no_data.authorities[0].record_type(), RecordType::SOA);
    let dead = udp(&zone, &ask("dead.demo.example.com.", A));
    assert_eq!((dead.metadata.response_code, dead.answers.len()), (ResponseCode::NXDomain, 1));
    assert_eq!(dead.authorities[0].name, name("demo.example.com."));
}

#[test]
fn a_chain_that_leaves_the_zone_or_is_refused_ends_there() {
    let zone = with(&[("away", "CNAME", "www.example.org."), ("gone", "CNAME", "withheld")]);
    for qname in ["away.demo.example.com.", "gone.demo.example.com."] {
        let answer = udp(&zone, &ask(qname, A));
        assert_eq!(
            (answer.metadata.response_code, answer.answers.len()),
            (ResponseCode::NoError, 1),
            "{qname}"
        );
        assert!(answer.authorities.is_empty() && answer.metadata.authoritative);
    }
}

#[test]
fn names_within_old_types_are_compressed_and_those_of_new_types_are_not() {
    let zone =
        with(&[("mail", "MX", "10 node1"), ("_x._tcp", "SRV", "1 2 3 node1"), ("_x._tcp", "TXT", "a")]);
    let length = |qname: &str, qtype| {
        let octets = answer(Some(&zone), Transport::Udp, &ask(qname, qtype)).unwrap();
        let message = Message::from_vec(&octets).unwrap();
        assert_eq!(message.additionals.len(), 2, "{message}");
        octets.len()
    };
    const HEADER: usize = 12;
    const ADDRESSES: usize = 12 + 4 + 12 + 16;
    let question = |qname: &str| qname.len() + 1 + 4;
    let mail = "mail.demo.example.com.";
    // The target is a label and a pointer. The owners of its addresses are pointers to it.
    assert_eq!(length(mail, 15), HEADER + question(mail) + 12 + 2 + (1 + 5 + 2) + ADDRESSES);
    let srv = "_x._tcp.demo.example.com.";
    // The target is whole. The first owner is a label and a pointer to the question, the second a pointer.
    assert_eq!(length(srv, 33), HEADER + question(srv) + 12 + 6 + (1 + 5 + 18) + (ADDRESSES + 1 + 5));
}

#[test]
fn additional_rrsets_that_do_not_fit_are_left_out_one_by_one() {
    let apex = name("demo.example.com.");
    let servers: Vec<RData> =
        (1..=3).map(|n| data(RecordType::MX, &format!("{n} node{n}"), &apex).unwrap()).collect();
    let text = data(RecordType::MX, &format!("9 {}", vec!["x".repeat(60); 3].join(".")), &apex).unwrap();
    for padding in 0..4 {
        let data = [servers.clone(), vec![text.clone(); padding]].concat();
        let set = RecordSet { owner: apex.clone(), rtype: RecordType::MX, ttl_seconds: 60, data };
        let zone = zone(3).with_records(Arc::new(Records::new([set])));
        let query = ask("demo.example.com.", 15);
        let octets = answer(Some(&zone), Transport::Udp, &query).unwrap();
        let message = Message::from_vec(&octets).unwrap();
        assert!(octets.len() <= 512 && !message.metadata.truncation, "{}", octets.len());
        assert_eq!(message.answers.len(), 3 + padding);
        // The repeated name is a pointer, so one such name takes most of the room.
        assert_eq!(message.additionals.len(), 6, "{padding}");
    }
    let addresses = (1..=200).map(|n| IpAddr::from([192, 0, 2, n]));
    let records = [("@", "MX", "10 big"), ("@", "TXT", "a")];
    let set = |(_, rtype, text): (&str, &str, &str)| {
        let rtype = record_type(rtype).unwrap();
        RecordSet {
            owner: apex.clone(),
            rtype,
            ttl_seconds: 60,
            data: vec![data(rtype, text, &apex).unwrap()],
        }
    };
    let big = RecordSet {
        owner: name("big.demo.example.com."),
        rtype: RecordType::A,
        ttl_seconds: 5,
        data: addresses.map(|address| data(RecordType::A, &address.to_string(), &apex).unwrap()).collect(),
    };
    let one = RecordSet {
        owner: name("big.demo.example.com."),
        rtype: RecordType::AAAA,
        ttl_seconds: 5,
        data: vec![data(RecordType::AAAA, "2001:db8::1", &apex).unwrap()],
    };
    let sets = records.map(set).into_iter().chain([big, one]);
    let zone = zone(3).with_records(Arc::new(Records::new(sets)));
    let message = udp(&zone, &ask("demo.example.com.", 15));
    assert_eq!(texts(&message.additionals), ["big.demo.example.com. 5 IN AAAA 2001:db8::1"]);
    assert!(!message.metadata.truncation);
}

#[test]
fn a_wildcard_answers_with_the_name_that_was_asked() {
    let zone = with(&[("*", "TXT", "any"), ("*.prod", "CNAME", "legacy")]);
    let found = udp(&zone, &ask("No.Such.demo.example.com.", TXT));
    assert_eq!(texts(&found.answers), ["No.Such.demo.example.com. 60 IN TXT any"]);
    let no_data = udp(&zone, &ask("no.such.demo.example.com.", A));
    assert_eq!(no_data.metadata.response_code, ResponseCode::NoError);
    assert_eq!(no_data.authorities.len(), 1);
    let alias = udp(&zone, &ask("x.prod.demo.example.com.", A));
    assert_eq!(alias.answers.len(), 2);
    let below = udp(&zone, &ask("x.node1.demo.example.com.", TXT));
    assert_eq!(below.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn a_set_that_does_not_fit_is_truncated_over_udp_and_whole_over_tcp() {
    let apex = name("demo.example.com.");
    let texts = (0..200).map(|n| data(RecordType::TXT, &format!("{n}{}", "x".repeat(200)), &apex).unwrap());
    let set =
        RecordSet { owner: apex.clone(), rtype: RecordType::TXT, ttl_seconds: 60, data: texts.collect() };
    let zone = zone(3).with_records(Arc::new(Records::new([set])));
    let query = ask("demo.example.com.", TXT);
    let over_udp = udp(&zone, &query);
    assert!(over_udp.metadata.truncation && over_udp.answers.is_empty());
    let over_tcp = Message::from_vec(&answer(Some(&zone), Transport::Tcp, &query).unwrap()).unwrap();
    assert_eq!((over_tcp.metadata.truncation, over_tcp.answers.len()), (false, 200));
}

#[test]
fn additional_records_are_made_only_for_an_answer_that_fits_and_for_few_targets() {
    let apex = name("demo.example.com.");
    let zone_of = |count: u8| {
        let target = |nth: u8| format!("t{nth:03}");
        let servers =
            (1..=count).map(|nth| data(RecordType::MX, &format!("1 {}", target(nth)), &apex).unwrap());
        let mx = RecordSet {
            owner: apex.clone(),
            rtype: RecordType::MX,
            ttl_seconds: 60,
            data: servers.collect(),
        };
        let address = |nth: u8| RecordSet {
            owner: full_name(&target(nth), &apex).unwrap(),
            rtype: RecordType::A,
            ttl_seconds: 5,
            data: vec![data(RecordType::A, &format!("192.0.2.{nth}"), &apex).unwrap()],
        };
        zone(3).with_records(Arc::new(Records::new((1..=count).map(address).chain([mx]))))
    };
    let made = |count: u8, limit: usize| {
        let question = Query::query(apex.clone(), RecordType::MX);
        let answer = records_of(&question, &zone_of(count), 0, limit);
        let Sections::Plain { answers, additionals, .. } = answer.records else { panic!("NS records") };
        (answer.truncated, answers.len(), additionals.len())
    };
    assert_eq!(made(200, 1232), (true, 0, 0));
    assert_eq!(made(20, 1232), (false, 20, TARGETS_MAX_UDP));
    assert_eq!(made(200, 65_535), (false, 200, TARGETS_MAX_TCP));
    assert_eq!(made(20, 450), (false, 20, 7), "the rest has no room");
}
