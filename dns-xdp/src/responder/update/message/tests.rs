//! Tests of the sections of an UPDATE message, and of what no message may have.
use super::*;
use crate::records::{data, full_name, octets_of_data, record_type};

fn apex() -> Name {
    full_name("demo.example.com.", &Name::root()).unwrap()
}

fn name(text: &str) -> Name {
    full_name(text, &apex()).unwrap()
}

/// A record as it is in a message: owner, type, class, TTL and data.
struct Raw(&'static str, &'static str, u16, u32, Vec<u8>);

impl Raw {
    fn octets(&self) -> Vec<u8> {
        let Raw(owner, rtype, class, ttl, data) = self;
        [
            &wire(&name(owner))[..],
            &u16::from(record_type(rtype).unwrap()).to_be_bytes(),
            &class.to_be_bytes(),
            &ttl.to_be_bytes(),
            &(data.len() as u16).to_be_bytes(),
            data,
        ]
        .concat()
    }
}

fn octets(rtype: &str, text: &str) -> Vec<u8> {
    octets_of_data(&data(record_type(rtype).unwrap(), text, &apex()).unwrap())
}

fn message(zone: &[u8], zones: u8, prerequisites: &[Raw], changes: &[Raw]) -> Vec<u8> {
    let mut message =
        vec![0, 1, 0x28, 0, 0, zones, 0, prerequisites.len() as u8, 0, changes.len() as u8, 0, 0];
    message.extend(zone);
    prerequisites.iter().chain(changes).for_each(|record| message.extend(record.octets()));
    message
}

fn zone_section() -> Vec<u8> {
    [&wire(&apex())[..], &[0, 6, 0, 1]].concat()
}

fn outcome(prerequisites: &[Raw], changes: &[Raw]) -> Result<Update, ResponseCode> {
    update(&message(&zone_section(), 1, prerequisites, changes), &apex()).map_err(|failure| failure.rcode)
}

#[test]
fn section_2_3_the_zone_section_names_the_zone() {
    let with = |zone: &[u8], zones| {
        let message = message(zone, zones, &[], &[]);
        update(&message, &apex()).map(drop).map_err(|failure| failure.rcode)
    };
    assert_eq!(with(&zone_section(), 1), Ok(()));
    let upper = zone_section().to_ascii_uppercase();
    assert_eq!(with(&upper, 1), Ok(()), "names have no case");
    assert_eq!(with(&[], 0), Err(ResponseCode::FormErr));
    assert_eq!(with(&[zone_section(), zone_section()].concat(), 2), Err(ResponseCode::FormErr));
    let of_type = |rtype: u8| [&wire(&apex())[..], &[0, rtype, 0, 1]].concat();
    assert_eq!(with(&of_type(1), 1), Err(ResponseCode::FormErr));
    let of_class = |class: u8| [&wire(&apex())[..], &[0, 6, 0, class]].concat();
    assert_eq!(with(&of_class(3), 1), Err(ResponseCode::NotAuth));
    for other in ["example.com.", "x.demo.example.com.", "example.org.", "."] {
        let zone = [&wire(&name(other))[..], &[0, 6, 0, 1]].concat();
        assert_eq!(with(&zone, 1), Err(ResponseCode::NotAuth), "{other}");
    }
}

#[test]
fn section_2_4_each_class_and_type_is_a_prerequisite() {
    let one = octets("TXT", "one");
    let all = [
        Raw("a", "TXT", ANY, 0, Vec::new()),
        Raw("B", "TXT", IN, 0, one.clone()),
        Raw("c", "TXT", NONE, 0, Vec::new()),
        Raw("d", "ANY", ANY, 0, Vec::new()),
        Raw("e", "ANY", NONE, 0, Vec::new()),
    ];
    let expected = vec![
        Prerequisite::SetExists(name("a"), RecordType::TXT),
        Prerequisite::SetHas(name("b"), data(RecordType::TXT, "one", &apex()).unwrap()),
        Prerequisite::SetAbsent(name("c"), RecordType::TXT),
        Prerequisite::NameInUse(name("d")),
        Prerequisite::NameNotInUse(name("e")),
    ];
    assert_eq!(outcome(&all, &[]).unwrap().prerequisites, expected);
}

#[test]
fn section_3_2_what_is_no_prerequisite_is_malformed() {
    let one = || octets("TXT", "one");
    for wrong in [
        Raw("a", "TXT", ANY, 1, Vec::new()),
        Raw("a", "TXT", IN, 1, one()),
        Raw("a", "TXT", ANY, 0, one()),
        Raw("a", "TXT", NONE, 0, one()),
        Raw("a", "ANY", IN, 0, Vec::new()),
        Raw("a", "TXT", 3, 0, Vec::new()),
        Raw("a", "AXFR", ANY, 0, Vec::new()),
        Raw("a", "A", IN, 0, vec![1, 2, 3]),
    ] {
        assert_eq!(outcome(&[wrong], &[]), Err(ResponseCode::FormErr));
    }
    assert_eq!(outcome(&[Raw("a.example.org.", "TXT", ANY, 0, Vec::new())], &[]), Err(ResponseCode::NotZone));
}

#[test]
fn section_2_5_each_class_and_type_is_a_change() {
    let one = || octets("TXT", "one");
    let all = [
        Raw("A", "TXT", IN, 60, one()),
        Raw("b", "TXT", ANY, 0, Vec::new()),
        Raw("c", "ANY", ANY, 0, Vec::new()),
        Raw("d", "TXT", NONE, 0, one()),
        Raw("@", "SOA", ANY, 0, Vec::new()),
    ];
    let data = data(RecordType::TXT, "one", &apex()).unwrap();
    let expected = vec![
        Change::Add { owner: name("a"), ttl_seconds: 60, data: data.clone() },
        Change::RemoveSet { owner: name("b"), rtype: RecordType::TXT },
        Change::RemoveName { owner: name("c") },
        Change::Remove { owner: name("d"), data },
        Change::RemoveSet { owner: apex(), rtype: RecordType::SOA },
    ];
    assert_eq!(outcome(&[], &all).unwrap().changes, expected);
}

#[test]
fn section_3_4_1_what_is_no_change_is_malformed() {
    let one = || octets("TXT", "one");
    for wrong in [
        Raw("a", "ANY", IN, 60, Vec::new()),
        Raw("a", "AXFR", IN, 60, Vec::new()),
        Raw("a", "TXT", ANY, 60, Vec::new()),
        Raw("a", "TXT", ANY, 0, one()),
        Raw("a", "TYPE254", ANY, 0, Vec::new()),
        Raw("a", "TXT", NONE, 60, one()),
        Raw("a", "ANY", NONE, 0, Vec::new()),
        Raw("a", "TXT", 3, 0, one()),
        Raw("a", "TXT", IN, 60, Vec::new()),
        Raw("a", "TYPE41", IN, 60, Vec::new()),
        Raw("a", "AAAA", NONE, 0, vec![1]),
    ] {
        assert_eq!(outcome(&[], &[wrong]), Err(ResponseCode::FormErr));
    }
    assert_eq!(outcome(&[], &[Raw("a.example.org.", "TXT", IN, 60, one())]), Err(ResponseCode::NotZone));
}

#[test]
fn names_may_be_compressed() {
    // The owner and the target point to the zone section, and the exchange to the first owner.
    const ZONE: [u8; 2] = [0xc0, 12];
    let mx = |preference: u8| {
        [&[4][..], b"mail", &ZONE, &[0, 15, 0, 1, 0, 0, 0, 60, 0, 4, 0, preference]].concat()
    };
    let mut message = vec![0, 1, 0x28, 0, 0, 1, 0, 0, 0, 2, 0, 0];
    message.extend(zone_section());
    message.extend([&mx(10)[..], &ZONE].concat());
    let first = 12 + zone_section().len() as u8;
    message.extend([&mx(20)[..], &[0xc0, first]].concat());
    let targets: Vec<String> = update(&message, &apex())
        .unwrap()
        .changes
        .into_iter()
        .map(|change| match change {
            Change::Add { owner, data: RData::MX(mx), .. } => {
                format!("{owner} {} {}", mx.preference, mx.exchange)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let expected =
        ["mail.demo.example.com. 10 demo.example.com.", "mail.demo.example.com. 20 mail.demo.example.com."];
    assert_eq!(targets, expected);
}

#[test]
fn half_a_message_is_malformed_wherever_it_ends() {
    let whole = message(
        &zone_section(),
        1,
        &[Raw("a", "ANY", ANY, 0, Vec::new())],
        &[Raw("b", "SRV", IN, 60, octets("SRV", "0 0 6379 node1"))],
    );
    assert!(update(&whole, &apex()).is_ok());
    for length in 0..whole.len() {
        assert!(update(&whole[..length], &apex()).is_err(), "{length}");
    }
    // A name that points to itself.
    let mut loops = message(&zone_section(), 1, &[], &[]);
    loops[9] = 1;
    let at = loops.len() as u8;
    loops.extend([0xc0, at, 0, 16, 0, 1, 0, 0, 0, 0, 0, 0]);
    assert!(update(&loops, &apex()).is_err());
}
