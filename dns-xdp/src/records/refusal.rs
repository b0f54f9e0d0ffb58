//! The types that no configuration may have.
use hickory_proto::rr::RecordType;

/// Returns why no record of a type can be configured.
pub fn refusal(rtype: RecordType) -> Option<&'static str> {
    /// Types that only queries have (RFC 6895, section 3.1).
    const META: std::ops::RangeInclusive<u16> = 128..=255;
    /// NXT, ZONEMD, TA and DLV, which hickory does not know.
    const OF_SIGNED_ZONES: [u16; 4] = [30, 63, 32_768, 32_769];
    match rtype {
        RecordType::SOA => Some("the zone makes its SOA record from [zone]"),
        RecordType::NS => Some("the zone makes its NS records from the nodes, and it delegates no names"),
        RecordType::DS
        | RecordType::RRSIG
        | RecordType::SIG
        | RecordType::NSEC
        | RecordType::NSEC3
        | RecordType::NSEC3PARAM
        | RecordType::DNSKEY
        | RecordType::KEY
        | RecordType::CDS
        | RecordType::CDNSKEY => Some("the zone is not signed"),
        other if OF_SIGNED_ZONES.contains(&u16::from(other)) => Some("the zone is not signed"),
        RecordType::DNAME => {
            Some("dns-xdp does not redirect the names below a name; write a CNAME record for each")
        }
        RecordType::ANAME => Some("there is no such type in the DNS; write a [[service]], or a CNAME record"),
        RecordType::OPT | RecordType::ZERO => Some("no zone has records of this type"),
        other if META.contains(&u16::from(other)) => Some("no zone has records of this type"),
        _ => None,
    }
}
