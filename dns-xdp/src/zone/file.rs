//! Writes a zone as a zone file (RFC 1035, section 5), so that a person can read it and another server can serve it.
use std::fmt::Write as _;

use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{Lookup, Zone};

/// Returns the zone's data as text, including the addresses of names that are refused at present, which a comment says.
/// The text does not have the order of rotating records. Names without data are not in it, because they follow from the
/// names below them.
pub fn zone_file(zone: &Zone) -> String {
    let mut records = vec![zone.soa()];
    if let Lookup::Found { answers, .. } = zone.lookup(zone.apex(), RecordType::NS, 0) {
        records.extend(answers);
    }
    let mut text: String = records.iter().map(line).collect();
    for (name, addresses) in zone.names() {
        let (owner, ttl) = (absolute(name), addresses.ttl_seconds);
        if addresses.refused {
            writeln!(text, "; {owner} is refused at present").expect("a String takes all");
        }
        for address in addresses.iter() {
            let rtype = if address.is_ipv4() { "A" } else { "AAAA" };
            writeln!(text, "{owner} {ttl} IN {rtype} {address}").expect("a String takes all");
        }
    }
    text
}

fn line(record: &Record) -> String {
    let rdata = match &record.data {
        RData::SOA(soa) => format!(
            "SOA {} {} {} {} {} {} {}",
            absolute(&soa.mname),
            absolute(&soa.rname),
            soa.serial,
            soa.refresh,
            soa.retry,
            soa.expire,
            soa.minimum
        ),
        RData::NS(target) => format!("NS {}", absolute(&target.0)),
        other => unreachable!("the apex has no {}", other.record_type()),
    };
    format!("{} {} IN {rdata}\n", absolute(&record.name), record.ttl)
}

/// Octets other than letters, digits and hyphens are written as `\DDD`, because some have a meaning in zone files.
fn absolute(name: &Name) -> String {
    if name.is_root() {
        return ".".to_owned();
    }
    let mut text = String::new();
    for octet in name.iter().flat_map(|label| label.iter().map(Some).chain([None])) {
        match octet {
            None => text.push('.'),
            Some(octet) if octet.is_ascii_alphanumeric() || *octet == b'-' => text.push(char::from(*octet)),
            Some(octet) => write!(text, "\\{octet:03}").expect("a String takes all"),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Addresses, Origin};
    use super::*;

    #[test]
    fn every_record_has_a_line_and_odd_octets_are_escaped() {
        let name = |labels: &[&[u8]]| Name::from_labels(labels.iter().copied()).unwrap();
        assert_eq!(absolute(&Name::root()), ".");
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
