//! Tests of large zones, and of messages that are as expensive as possible.
use std::net::Ipv4Addr;

use super::*;
use crate::zone::EncodedNameServers;

/// Returns a zone of `count` nodes with one address each. They are its name servers and the members of its apex.
fn large_zone(apex: &str, count: u32, answers_max: usize) -> Zone {
    let below = |label: String| name(&label).append_domain(&name(apex)).unwrap();
    let ns = |n| below(format!("ns{n}"));
    let address = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n));
    let origin = Origin {
        apex: name(apex),
        contact: below("hostmaster".to_owned()),
        serial: 7,
        ns_ttl_seconds: 60,
        negative_ttl_seconds: 300,
        name_servers: (1..=count).map(ns).collect(),
    };
    let members = Addresses::new(5, (1..=count).map(address));
    let mut names = vec![(name(apex), Addresses { rotate: true, answers_max, ..members })];
    names.extend((1..=count).map(|n| (ns(n), Addresses::new(5, [address(n)]))));
    Zone::new(origin, names)
}

const LONG_APEX: &str = "a-name-of-a-cluster-that-is-rather-long.of-an-enterprise.example.";

fn over_tcp(zone: &Zone, query: &Wire) -> Message {
    Message::from_vec(&answer(Some(zone), Transport::Tcp, query).unwrap()).unwrap()
}

#[test]
fn over_tcp_nothing_is_truncated_that_fits_65_535_octets() {
    for (apex, count) in [(LONG_APEX, 1500), ("demo.example.com.", 1500)] {
        let zone = large_zone(apex, count, usize::MAX);
        let ns = over_tcp(&zone, &ask(apex, NS));
        assert!(!ns.metadata.truncation);
        assert_eq!((ns.answers.len(), ns.additionals.len()), (1500, 1500));
        assert_eq!(ns.answers[1499].data.to_string(), format!("ns1500.{apex}"));
        assert_eq!(ns.additionals[1499].to_string(), format!("ns1500.{apex} 5 IN A 10.0.5.220"));
        let all = over_tcp(&zone, &ask(apex, A));
        assert_eq!((all.answers.len(), all.metadata.truncation), (1500, false));
    }
}

#[test]
fn name_servers_are_encoded_once_whatever_the_spelling_and_the_size_that_is_asked() {
    let zone = large_zone("demo.example.com.", 20, 8);
    let over_udp = |text: &str, size: u16| {
        let query = ask(text, NS).opt(size, 0, &[]);
        Message::from_vec(&answer(Some(&zone), Transport::Udp, &query).unwrap()).unwrap()
    };
    for (text, size, glue) in [("demo.example.com.", 512, 0), ("DEMO.example.COM.", 1232, 20)] {
        let answer = over_udp(text, size);
        assert_eq!((answer.answers.len(), answer.additionals.len()), (20, glue));
        assert_eq!(answer.queries[0].name().to_ascii(), text);
        assert!(answer.answers.iter().all(|record| record.name == name("demo.example.com.")));
        let RData::NS(target) = &answer.answers[19].data else { panic!("{answer}") };
        assert_eq!(target.0, name("ns20.demo.example.com."));
    }
    let mut calls = 0;
    let mut encode = |_: &[Record], _: &[Record]| {
        calls += 1;
        EncodedNameServers { octets: Vec::new(), answers_length: 0, answers: 0, additionals: 0 }
    };
    assert_eq!(zone.encoded_name_servers(&zone.authorities()[0], &mut encode).answers, 20);
    let changed = large_zone("demo.example.com.", 21, 8);
    assert_eq!(changed.encoded_name_servers(&changed.authorities()[0], &mut encode).answers, 0);
    assert_eq!(calls, 1);
}

#[test]
fn an_answer_about_the_apex_has_so_many_members_and_each_as_often_as_any_other() {
    let zone = large_zone("demo.example.com.", 50, 8);
    let mut seen = BTreeMap::<String, usize>::new();
    let mut query = ask("demo.example.com.", A).bytes();
    for id in 0..5000_u16 {
        query[..2].copy_from_slice(&id.to_be_bytes());
        let response = respond(&query, arrival(Transport::Udp), Some(&zone), b"").unwrap();
        let response = Message::from_vec(&response.encode()).unwrap();
        assert_eq!(response.answers.len(), 8);
        for record in &response.answers {
            *seen.entry(record.data.to_string()).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), 50);
    // 800 of 5,000 answers, within 5 standard deviations.
    assert!(seen.values().all(|count| (670..=930).contains(count)), "{seen:?}");
}

#[test]
fn glue_is_left_out_as_a_whole_and_thirteen_servers_fit_512_octets_with_it() {
    let zone = large_zone("demo.example.com.", 13, 8);
    let ns = Message::from_vec(&answer(Some(&zone), Transport::Udp, &ask("demo.example.com.", NS)).unwrap());
    let ns = ns.unwrap();
    assert_eq!((ns.answers.len(), ns.additionals.len(), ns.metadata.truncation), (13, 13, false));
    let zone = large_zone("demo.example.com.", 20, 8);
    let ns = Message::from_vec(&answer(Some(&zone), Transport::Udp, &ask("demo.example.com.", NS)).unwrap());
    let ns = ns.unwrap();
    assert_eq!((ns.answers.len(), ns.additionals.len(), ns.metadata.truncation), (20, 0, false));
}

/// Returns a pointer to this offset (RFC 1035, section 4.1.4).
fn pointer(offset: usize) -> [u8; 2] {
    (0xc000 | u16::try_from(offset).unwrap()).to_be_bytes()
}

/// Returns a record with this owner and no data.
fn owned_by(owner: &[u8]) -> Vec<u8> {
    [owner, &[0, 1, 0, 1, 0, 0, 0, 0, 0, 0][..]].concat()
}

/// Returns messages of up to 65,535 octets that are as expensive as possible.
fn worst() -> Vec<(&'static str, Vec<u8>)> {
    let question = ask("node1.demo.example.com.", A);
    let start = question.bytes().len();
    // Pointers, each to the previous pointer, as far as pointers reach.
    let chain: Vec<u8> =
        (0..8170).flat_map(|nth| pointer((start + 2 * nth).saturating_sub(2).max(12))).collect();
    let end = pointer(start + 11 + 2 * 8168);
    let mut messages = Vec::new();
    for section in 1..=3 {
        let mut in_rdata = question.clone().record(section, ".", 1, 1, 0, &chain);
        for _ in 0..4096 {
            in_rdata = in_rdata.raw(&owned_by(&end));
        }
        messages.push(("pointers in RDATA", in_rdata.clone().count(section, 4097).bytes()));
        messages.push(("few records, pointers in RDATA", in_rdata.count(section, 8).bytes()));
        let owners = question.clone().raw(&owned_by(&chain));
        messages.push(("pointers in owners", owners.clone().count(section, u16::MAX).bytes()));
        messages.push((
            "a pointer to itself",
            question.clone().raw(&owned_by(&pointer(start))).count(section, 1).bytes(),
        ));
        let labels = [1, b'a'].repeat(127);
        let names = owned_by(&[&labels[..], &[0]].concat()).repeat(240);
        messages.push(("long owners", question.clone().raw(&names).count(section, 240).bytes()));
        messages.push(("counts", question.clone().count(section, u16::MAX).bytes()));
    }
    messages.push(("questions", header(0).raw(&ask(".", A).body.repeat(13_000)).count(0, 13_000).bytes()));
    for length in [0_usize, 1, 8, 24, 255] {
        let option = [&[0, 9][..], &u16::try_from(length).unwrap().to_be_bytes(), &vec![0; length]].concat();
        let options = option.repeat(65_000 / option.len());
        messages.push(("options", question.clone().opt(1232, 0, &options).bytes()));
    }
    let all_counts = (0..4).fold(question, |message, section| message.count(section, u16::MAX));
    messages.push(("all counts", all_counts.raw(&[0; 65_000]).bytes()));
    messages
}

#[test]
fn no_message_takes_more_steps_than_it_has_room_for_records_and_options() {
    let zone = large_zone(LONG_APEX, 1000, 8);
    for (what, message) in worst() {
        for transport in [Transport::Udp, Transport::Tcp] {
            let response = respond(&message, arrival(transport), Some(&zone), b"node1").unwrap();
            // An option has at least 4 octets. There are 9 names of at most 128 labels.
            let steps_max = message.len() / 4 + 9 * 128;
            assert!(response.steps <= steps_max, "{what}: {} steps", response.steps);
        }
    }
}

#[test]
fn a_query_with_more_than_a_handful_of_records_is_malformed() {
    let with = |count| {
        let records = (0..count)
            .fold(ask("node1.demo.example.com.", A), |message, _| message.record(1, ".", 1, 1, 0, &[]));
        parsed(&records).metadata.response_code
    };
    assert_eq!((with(8), with(9)), (ResponseCode::NoError, ResponseCode::FormErr));
    let (_, chain) = worst().into_iter().next().unwrap();
    let response = respond(&chain, arrival(Transport::Tcp), Some(&zone(3)), b"").unwrap();
    assert_eq!(response.rcode, Rcode::FormErr);
}

#[test]
fn the_owners_of_records_are_not_looked_at() {
    let start = ask("node1.demo.example.com.", A).bytes().len();
    for owner in [&pointer(0)[..], &pointer(start), &pointer(0x3fff), &[1, b'a', 0xc0, 12]] {
        let message = ask("node1.demo.example.com.", A).raw(&owned_by(owner)).count(1, 1);
        assert_eq!(parsed(&message).metadata.response_code, ResponseCode::NoError, "{owner:?}");
    }
    for owner in [&[0x80, 0][..], &[0x40, 0]] {
        let message = ask("node1.demo.example.com.", A).raw(&owned_by(owner)).count(1, 1);
        assert_eq!(parsed(&message).metadata.response_code, ResponseCode::FormErr, "{owner:?}");
    }
}

mod cookie_queries {
    use dns_xdp_ebpf::cookie::Secret;

    use super::*;
    use crate::flood_limits;

    fn guarded() -> Zone {
        let flood_policy = flood_limits::FloodLimits {
            secrets: vec![Secret::new([7; 16])],
            ..flood_limits::FloodLimits::default()
        };
        zone(3).guarded(flood_policy.table())
    }

    fn cookie_of(message: &Message) -> Vec<u8> {
        match message.edns.as_ref().unwrap().option(EdnsCode::Cookie).unwrap() {
            EdnsOption::Unknown(_, octets) => octets.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn ask_cookie(cookie: &[u8], zone: &Zone) -> Message {
        let option = [&[0, 10, 0][..], &[u8::try_from(cookie.len()).unwrap()], cookie].concat();
        let query = header(0).opt(1232, 0, &option);
        Message::from_vec(&answer(Some(zone), Transport::Udp, &query).unwrap()).unwrap()
    }

    #[test]
    fn a_query_without_a_question_is_answered_with_a_cookie() {
        let zone = guarded();
        let fresh = ask_cookie(&[1; 8], &zone);
        assert_eq!((fresh.metadata.response_code, fresh.queries.len()), (ResponseCode::NoError, 0));
        let whole = cookie_of(&fresh);
        assert_eq!((whole.len(), &whole[..8]), (24, &[1; 8][..]));
        let confirmed = ask_cookie(&whole, &zone);
        assert_eq!(confirmed.metadata.response_code, ResponseCode::NoError);
        let foreign = ask_cookie(&[&[1; 8][..], &[2; 16]].concat(), &zone);
        assert_eq!(foreign.metadata.response_code, ResponseCode::BADCOOKIE);
        assert_eq!(cookie_of(&foreign).len(), 24);
        assert_eq!(ask_cookie(&[1; 7], &zone).metadata.response_code, ResponseCode::FormErr);
    }

    #[test]
    fn without_cookies_a_query_without_a_question_is_malformed() {
        assert_eq!(ask_cookie(&[1; 8], &zone(3)).metadata.response_code, ResponseCode::FormErr);
        assert_eq!(parsed(&header(0).opt(1232, 0, &[])).metadata.response_code, ResponseCode::FormErr);
        let zone = guarded();
        let bare = answer(Some(&zone), Transport::Udp, &header(0).opt(1232, 0, &[])).unwrap();
        assert_eq!(Message::from_vec(&bare).unwrap().metadata.response_code, ResponseCode::FormErr);
    }
}
