//! Tells which part answers a query of class IN: the program in the kernel, or the responder.
use dns_xdp_ebpf::question::qtype::{META_FIRST, META_LAST};
use dns_xdp_ebpf::table::{ADDRESSES_MAX, SOA_MAX};
use hickory_proto::rr::{Name, RecordType};

use crate::program_features::ProgramFeatures;
use crate::zone::{Addresses, Zone};

/// The part that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The program, if it is attached.
    Xdp,
    /// The responder, for this reason.
    Responder(&'static str),
}

impl AnsweredBy {
    /// Its name in `query` and `check`.
    pub const fn text(self) -> &'static str {
        match self {
            AnsweredBy::Xdp => "xdp",
            AnsweredBy::Responder(_) => "responder",
        }
    }
}

/// Returns which part answers a plain UDP query for `qname` (in lower case) and `qtype`.
pub fn answered_by(zone: &Zone, qname: &Name, qtype: RecordType) -> AnsweredBy {
    if zone.authority(qname).is_none() {
        return AnsweredBy::Responder("the program knows its own zone only");
    }
    let is_further = !zone.apex().zone_of(qname);
    match qtype {
        RecordType::NS | RecordType::SOA | RecordType::OPT | RecordType::ZERO => {
            return AnsweredBy::Responder("the program does not answer this type");
        }
        other if (META_FIRST..=META_LAST).contains(&u16::from(other)) => {
            return AnsweredBy::Responder("the program does not answer this type");
        }
        _ => {}
    }
    if zone.has_wildcard() && zone.addresses(qname).is_none() {
        if !ProgramFeatures::of(zone).wildcards {
            return AnsweredBy::Responder("with cookies or limits the program knows no wildcards");
        }
        if zone.addresses(&qname.base_name()).is_none() {
            return AnsweredBy::Responder("the program knows a wildcard only where the name above exists");
        }
    }
    let source = zone.source_name(qname).unwrap_or(qname);
    if zone.records().alias(source).is_some() {
        return AnsweredBy::Responder("the program follows no alias");
    }
    match zone.addresses(source) {
        Some(addresses) if addresses.refused => AnsweredBy::Responder("the program refuses nothing"),
        Some(addresses) if addresses.nodata_ttl_seconds.is_some() => {
            AnsweredBy::Responder("the name lacks a family of addresses while it is failed over")
        }
        Some(addresses)
            if addresses.ipv4.len().max(addresses.ipv6.len()).min(addresses.answers_max) > ADDRESSES_MAX =>
        {
            AnsweredBy::Responder("the name has more addresses than the program answers")
        }
        addresses if is_negative(addresses, qtype) && zone.records().types(source).may_have(qtype.into()) => {
            AnsweredBy::Responder("the program does not have the records of this type")
        }
        addresses if is_further && is_negative(addresses, qtype) => {
            AnsweredBy::Responder("the program has the SOA record of the zone, and not that of the suffix")
        }
        addresses if zone.soa_octets() > SOA_MAX && is_negative(addresses, qtype) => {
            AnsweredBy::Responder("the SOA record is longer than the program holds")
        }
        _ => AnsweredBy::Xdp,
    }
}

/// Whether the answer has no records.
fn is_negative(addresses: Option<&Addresses>, qtype: RecordType) -> bool {
    match qtype {
        RecordType::A => addresses.is_none_or(|addresses| addresses.ipv4.is_empty()),
        RecordType::AAAA => addresses.is_none_or(|addresses| addresses.ipv6.is_empty()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;
    use crate::zone::Origin;

    #[test]
    fn the_program_answers_addresses_and_their_absence_and_nothing_else() {
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let origin = |contact| Origin {
            apex: name("example.com."),
            contact,
            serial: 1,
            ns_ttl_seconds: 60,
            negative_ttl_seconds: 300,
            name_servers: vec![name("ns1.example.com.")],
        };
        let many =
            |count| Addresses::new(5, (0..count).map(|last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))));
        let withheld = Addresses { refused: true, ..Addresses::default() };
        let zone = Zone::new(
            origin(name("hostmaster.example.com.")),
            [
                (name("a.example.com."), many(16)),
                (name("b.example.com."), many(17)),
                (name("few-of-many.example.com."), Addresses { answers_max: 8, ..many(17) }),
                (name("c.example.com."), withheld),
                (name("d.example.com."), Addresses { nodata_ttl_seconds: Some(5), ..many(1) }),
            ],
        );
        let cases = [
            ("a.example.com.", RecordType::A, "xdp"),
            ("a.example.com.", RecordType::AAAA, "xdp"),
            ("a.example.com.", RecordType::TXT, "xdp"),
            ("a.example.com.", RecordType::ANY, "responder"),
            ("b.example.com.", RecordType::A, "responder"),
            ("few-of-many.example.com.", RecordType::A, "xdp"),
            ("c.example.com.", RecordType::A, "responder"),
            ("d.example.com.", RecordType::AAAA, "responder"),
            ("nobody.example.com.", RecordType::A, "xdp"),
            ("example.com.", RecordType::SOA, "responder"),
            ("example.org.", RecordType::A, "responder"),
        ];
        for (qname, qtype, expected) in cases {
            assert_eq!(answered_by(&zone, &name(qname), qtype).text(), expected, "{qname} {qtype}");
        }
        let long = format!("{0}.{0}.{0}.example.com.", "l".repeat(63));
        let of_long_soa = Zone::new(origin(name(&long)), [(name("a.example.com."), many(1))]);
        let cases = [(RecordType::A, "xdp"), (RecordType::AAAA, "responder"), (RecordType::TXT, "responder")];
        for (qtype, expected) in cases {
            assert_eq!(answered_by(&of_long_soa, &name("a.example.com."), qtype).text(), expected, "{qtype}");
        }
    }

    #[test]
    fn the_program_answers_the_addresses_of_a_further_zone_and_the_responder_their_absence() {
        let zone = crate::zone::further::zone();
        let by = |qname: &str, qtype| answered_by(&zone, &Name::from_ascii(qname).unwrap(), qtype);
        assert_eq!(by("node1.demo.corp.test.", RecordType::A), AnsweredBy::Xdp);
        assert_eq!(by("node1.demo.example.com.", RecordType::A), AnsweredBy::Xdp);
        for (qname, qtype) in
            [("node1.demo.corp.test.", RecordType::AAAA), ("nobody.demo.corp.test.", RecordType::A)]
        {
            assert!(matches!(by(qname, qtype), AnsweredBy::Responder(_)), "{qname}");
        }
    }
}
