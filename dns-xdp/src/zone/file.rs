//! Writes a zone as a zone file (RFC 1035, section 5), so that a person can read it and another server can serve it.
use std::fmt::Write as _;

use hickory_proto::rr::{Name, Record, RecordType};

use super::{Lookup, Zone};
use crate::records::{absolute, presentation, type_text};

/// Returns the data of the zone's own apex as text; see [`zone_file_of`].
pub fn zone_file(zone: &Zone) -> String {
    zone_file_of(zone, zone.apex())
}

/// Returns the data of one apex as text, including the addresses of names that are refused at present, which a comment says.
/// The text does not have the order of rotating records. Names without data are not in it, because they follow from the
/// names below them.
pub fn zone_file_of(zone: &Zone, apex: &Name) -> String {
    let mut records = Vec::new();
    if let Lookup::Found { answers, .. } = zone.lookup(apex, RecordType::SOA, 0) {
        records.extend(answers);
    }
    if let Lookup::Found { answers, .. } = zone.lookup(apex, RecordType::NS, 0) {
        records.extend(answers);
    }
    let mut text: String = records.iter().map(line).collect();
    for (name, addresses) in zone.names().filter(|(name, _)| apex.zone_of(name)) {
        let (owner, ttl) = (absolute(name), addresses.ttl_seconds);
        if addresses.refused {
            writeln!(text, "; {owner} is refused at present").expect("a String takes all");
        }
        for address in addresses.iter() {
            let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
            writeln!(text, "{owner} {ttl} IN {rtype} {address}").expect("a String takes all");
        }
        let sets = zone.records().at(name).iter();
        for set in sets.filter(|set| !matches!(set.rtype, RecordType::A | RecordType::AAAA)) {
            for rdata in &set.data {
                let (ttl, rtype, data) = (set.ttl_seconds, type_text(set.rtype), presentation(rdata));
                writeln!(text, "{owner} {ttl} IN {rtype} {data}").expect("a String takes all");
            }
        }
    }
    text
}

fn line(record: &Record) -> String {
    let (owner, ttl, data) = (absolute(&record.name), record.ttl, presentation(&record.data));
    format!("{owner} {ttl} IN {} {data}\n", record.record_type())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Addresses, Origin};
    use super::*;
    use crate::records::{RecordSet, Records, data};

    #[test]
    fn every_record_has_a_line_and_odd_octets_are_escaped() {
        let name = |labels: &[&[u8]]| Name::from_labels(labels.iter().copied()).unwrap();
        let apex = name(&[b"example", b"com"]);
        let origin = Origin {
            apex: apex.clone(),
            contact: name(&[b"first.last", b"example", b"com"]),
            serial: 7,
            ns_ttl_seconds: 60,
            negative_ttl_seconds: 300,
            name_servers: vec![name(&[b"ns1", b"example", b"com"])],
        };
        let addresses = Addresses::new(5, [[192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap()]);
        let zone = Zone::new(origin, [(name(&[b"a;\xff", b"empty", b"example", b"com"]), addresses)]);
        assert_eq!(
            zone_file(&zone),
            "example.com. 300 IN SOA ns1.example.com. first\\046last.example.com. 7 14400 3600 604800 300\n\
             example.com. 60 IN NS ns1.example.com.\n\
             a\\059\\255.empty.example.com. 5 IN A 192.0.2.1\n\
             a\\059\\255.empty.example.com. 5 IN AAAA 2001:db8::1\n"
        );
    }

    #[test]
    fn static_records_are_in_the_file_in_presentation_form() {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let origin = Origin {
            apex: name("example.com."),
            contact: name("hostmaster.example.com."),
            serial: 7,
            ns_ttl_seconds: 60,
            negative_ttl_seconds: 300,
            name_servers: vec![name("ns1.example.com.")],
        };
        let set = |owner: &str, rtype, texts: &[&str]| {
            let data = texts.iter().map(|text| data(rtype, text, &name("example.com.")).unwrap()).collect();
            RecordSet { owner: name(owner), rtype, ttl_seconds: 9, data }
        };
        let records = [
            set("*.example.com.", RecordType::A, &["192.0.2.9"]),
            set("_x._tcp.example.com.", RecordType::SRV, &["0 0 53 a", "0 0 53 b"]),
            set("example.com.", RecordType::TXT, &["v=spf1 -all"]),
            set("t.example.com.", RecordType::from(65_280), &["\\# 2 0AFF"]),
        ];
        let text = zone_file(&Zone::new(origin, []).with_records(Arc::new(Records::new(records))));
        let lines: Vec<&str> = text.lines().skip(2).collect();
        let expected = [
            "example.com. 9 IN TXT \"v=spf1 -all\"",
            "*.example.com. 9 IN A 192.0.2.9",
            "_x._tcp.example.com. 9 IN SRV 0 0 53 a.example.com.",
            "_x._tcp.example.com. 9 IN SRV 0 0 53 b.example.com.",
            "t.example.com. 9 IN TYPE65280 \\# 2 0AFF",
        ];
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_name_that_is_refused_has_a_comment() {
        let name = |labels: &[&[u8]]| Name::from_labels(labels.iter().copied()).unwrap();
        let origin = Origin {
            apex: name(&[b"example", b"com"]),
            contact: name(&[b"hostmaster", b"example", b"com"]),
            serial: 7,
            ns_ttl_seconds: 60,
            negative_ttl_seconds: 300,
            name_servers: vec![name(&[b"ns1", b"example", b"com"])],
        };
        let refused = Addresses { refused: true, ..Addresses::new(5, []) };
        let text = zone_file(&Zone::new(origin, [(name(&[b"db", b"example", b"com"]), refused)]));
        assert!(text.ends_with("\n; db.example.com. is refused at present\n"), "{text}");
    }
}
