//! Tests of zones with further apexes: each name belongs to the apex above it.
use std::net::Ipv4Addr;
use std::sync::Arc;

use hickory_proto::rr::{Name, RData, RecordType};

use super::{Addresses, FurtherApex, Lookup, Origin, Zone, zone_file, zone_file_of};
use crate::records::{RecordSet, Records, data, record_type};

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

/// `demo.example.com.` with the further apex `demo.corp.test.`
pub(crate) fn zone() -> Zone {
    let origin = Origin {
        apex: name("demo.example.com."),
        contact: name("hostmaster.example.com."),
        serial: 7,
        ns_ttl_seconds: 60,
        negative_ttl_seconds: 30,
        name_servers: vec![name("ns1.demo.example.com.")],
    };
    let further =
        FurtherApex { apex: name("demo.corp.test."), name_servers: vec![name("ns2.demo.corp.test.")] };
    let address = |last: u8| Addresses::new(5, [Ipv4Addr::new(192, 0, 2, last).into()]);
    let names = [
        ("node1.demo.example.com.", 1),
        ("ns1.demo.example.com.", 1),
        ("node1.demo.corp.test.", 101),
        ("ns2.demo.corp.test.", 102),
        ("db.prod.demo.corp.test.", 103),
    ];
    let records = [
        ("away.demo.example.com.", "CNAME", "node1.demo.corp.test."),
        ("www.demo.corp.test.", "CNAME", "node1.demo.corp.test."),
        ("gone.demo.corp.test.", "CNAME", "nobody.demo.corp.test."),
        ("*.wild.demo.corp.test.", "TXT", "any"),
        ("demo.corp.test.", "MX", "10 node1.demo.corp.test."),
        ("mail.demo.corp.test.", "MX", "10 node1.demo.example.com."),
    ];
    let sets = records.map(|(owner, rtype, text)| {
        let rtype = record_type(rtype).unwrap();
        RecordSet {
            owner: name(owner),
            rtype,
            ttl_seconds: 9,
            data: vec![data(rtype, text, &Name::root()).unwrap()],
        }
    });
    let names = names.map(|(owner, last)| (name(owner), address(last)));
    Zone::with_further(origin, [further], names).with_records(Arc::new(Records::new(sets)))
}

fn found(qname: &str, qtype: RecordType) -> Vec<String> {
    match zone().lookup(&name(qname), qtype, 0) {
        Lookup::Found { answers } => answers.iter().map(ToString::to_string).collect(),
        other => panic!("{qname} {qtype}: {other:?}"),
    }
}

#[test]
fn each_apex_has_its_own_soa_and_name_servers() {
    let mname = |qname: &str| {
        let Lookup::Found { answers } = zone().lookup(&name(qname), RecordType::SOA, 0) else { panic!() };
        let RData::SOA(soa) = &answers[0].data else { panic!() };
        (answers[0].name.to_string(), soa.mname.to_string(), soa.serial)
    };
    let expected = |apex: &str, server: &str| (apex.to_owned(), format!("{server}.{apex}"), 7);
    assert_eq!(mname("demo.example.com."), expected("demo.example.com.", "ns1"));
    assert_eq!(mname("demo.corp.test."), expected("demo.corp.test.", "ns2"));
    assert_eq!(found("demo.corp.test.", RecordType::NS), ["demo.corp.test. 60 IN NS ns2.demo.corp.test."]);
    assert_eq!(zone().lookup(&name("node1.demo.corp.test."), RecordType::SOA, 0), Lookup::NoData);
}

#[test]
fn negative_answers_have_the_soa_of_the_apex_above_the_name() {
    let zone = zone();
    for (qname, apex) in [
        ("nobody.demo.example.com.", "demo.example.com."),
        ("nobody.demo.corp.test.", "demo.corp.test."),
        ("prod.demo.corp.test.", "demo.corp.test."),
        ("demo.corp.test.", "demo.corp.test."),
    ] {
        assert_eq!(zone.negative_soa(&name(qname)).name, name(apex), "{qname}");
    }
    let lookup = |qname: &str| zone.lookup(&name(qname), RecordType::AAAA, 0);
    assert_eq!(lookup("nobody.demo.corp.test."), Lookup::NxDomain);
    assert_eq!(lookup("prod.demo.corp.test."), Lookup::NoData, "an empty non-terminal");
    assert_eq!(lookup("corp.test."), Lookup::NotInZone);
    assert_eq!(lookup("x.corp.test."), Lookup::NotInZone);
}

#[test]
fn a_chain_of_aliases_ends_at_the_edge_of_its_zone() {
    assert_eq!(found("away.demo.example.com.", RecordType::A).len(), 1);
    assert_eq!(found("www.demo.corp.test.", RecordType::A).len(), 2);
    let gone = zone().lookup(&name("gone.demo.corp.test."), RecordType::A, 0);
    assert!(matches!(gone, Lookup::Dangling { exists: false, .. }), "{gone:?}");
    let wild = found("x.wild.demo.corp.test.", RecordType::TXT);
    assert!(wild.len() == 1 && wild[0].starts_with("x.wild.demo.corp.test. 9 IN TXT"), "{wild:?}");
}

#[test]
fn additional_addresses_come_from_the_zone_of_the_question() {
    let count = |qname: &str| {
        let Lookup::Found { answers } = zone().lookup(&name(qname), RecordType::MX, 0) else { panic!() };
        zone().additionals(&answers, 0, 512, 16).len()
    };
    assert_eq!([count("demo.corp.test."), count("mail.demo.corp.test.")], [1, 0]);
}

#[test]
fn each_apex_has_a_zone_file_of_its_own() {
    let zone = zone();
    let main = zone_file(&zone);
    assert!(main.contains("node1.demo.example.com.") && !main.contains("\nnode1.demo.corp.test."), "{main}");
    let further = zone_file_of(&zone, &name("demo.corp.test."));
    let soa = "demo.corp.test. 30 IN SOA ns2.demo.corp.test. hostmaster.example.com. 7 14400 3600 604800 30\n\
               demo.corp.test. 60 IN NS ns2.demo.corp.test.\n";
    assert!(further.starts_with(soa), "{further}");
    assert!(further.contains("\ndb.prod.demo.corp.test. 5 IN A 192.0.2.103\n"), "{further}");
}
