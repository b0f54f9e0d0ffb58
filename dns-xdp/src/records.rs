//! The static records of a zone: their data, their presentation form, and the rules of wildcards.
//!
//! Records are part of the configuration. Neither health nor failover changes them. `words` splits presentation
//! form. `data` and `service_binding` read and write the data of a record, and `layout` checks their octets. `refusal`
//! has the types that are refused. `repeat` repeats records under suffixes. `zone_file` reads the records of a zone file.
mod data;
mod layout;
mod octets;
mod refusal;
mod repeat;
mod service_binding;
mod words;
mod zone_file;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dns_xdp_ebpf::table::Types;
use hickory_proto::rr::{Name, RData, RecordType};

pub use data::{canonical, data, from_octets, octets_of_data, presentation};
pub use octets::{absolute, full_name, relative, wire};
pub use refusal::refusal;
pub use repeat::{suffix_of, under};
pub use words::zone_file_text;
pub use zone_file::{Skipped, ZoneRecord, records_of_zone_file};

/// The label that matches names that do not exist (RFC 4592, section 2.1.1).
const WILDCARD: &[u8] = b"*";

/// One RRset: the records of a name with the same type (RFC 2181, section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    /// The owner name, fully qualified and in lower case.
    pub owner: Name,
    /// The type.
    pub rtype: RecordType,
    /// TTL of each record.
    pub ttl_seconds: u32,
    /// The data of the records, in the order of the configuration; not empty, unique.
    pub data: Vec<RData>,
}

/// All static records of a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records {
    sets: BTreeMap<Name, Vec<RecordSet>>,
}

impl Records {
    /// Collects RRsets, each with its own name and type.
    pub fn new(sets: impl IntoIterator<Item = RecordSet>) -> Self {
        let mut records = Records::default();
        for set in sets {
            records.sets.entry(set.owner.clone()).or_default().push(set);
        }
        records
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Returns the RRsets at a name (in lower case).
    pub fn at(&self, owner: &Name) -> &[RecordSet] {
        self.sets.get(owner).map_or(&[], Vec::as_slice)
    }

    /// Returns the RRset of a type at a name (in lower case).
    pub fn set(&self, owner: &Name, rtype: RecordType) -> Option<&RecordSet> {
        self.at(owner).iter().find(|set| set.rtype == rtype)
    }

    /// Returns the types that the responder has for a name besides addresses.
    pub fn types(&self, owner: &Name) -> Types {
        let types = self.at(owner).iter().map(|set| set.rtype);
        let others = types.filter(|rtype| !matches!(rtype, RecordType::A | RecordType::AAAA));
        others.fold(Types::NONE, |types, rtype| types.with(rtype.into()))
    }

    /// Returns the target of the name's CNAME record, in lower case.
    pub fn alias(&self, owner: &Name) -> Option<(&RecordSet, Name)> {
        let set = self.set(owner, RecordType::CNAME)?;
        match set.data.first() {
            Some(RData::CNAME(target)) => Some((set, target.0.to_lowercase())),
            _ => None,
        }
    }

    /// Returns all RRsets, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &RecordSet> {
        self.sets.values().flatten()
    }

    /// Returns the names that have records.
    pub fn owners(&self) -> impl Iterator<Item = &Name> {
        self.sets.keys()
    }
}

/// Whether a name begins with the label `*`.
pub fn is_wildcard(name: &Name) -> bool {
    name.iter().next() == Some(WILDCARD)
}

/// Returns these names and all names above them, down from the apex. Each of them exists (RFC 4592, section 2.2.2).
pub fn with_names_above(names: impl IntoIterator<Item = Name>, apex: &Name) -> BTreeSet<Name> {
    let mut existing = BTreeSet::new();
    for mut name in names {
        while apex.zone_of(&name) && existing.insert(name.clone()) && name != *apex {
            name = name.base_name();
        }
    }
    existing
}

/// Returns the name of the wildcard that may match `qname`, which does not exist: `*` below the closest encloser. That
/// is the longest existing name above `qname` (RFC 4592, section 3.3.1). The apex always exists.
pub fn source_of_synthesis(qname: &Name, apex: &Name, exists: impl Fn(&Name) -> bool) -> Option<Name> {
    let above = apex.iter().len()..qname.iter().len();
    let encloser =
        above.rev().map(|labels| qname.trim_to(labels)).find(|name| name == apex || exists(name))?;
    encloser.prepend_label(WILDCARD).ok()
}

/// Returns the record's target in lower case, if the additional section has the target's addresses (RFC 1035, section
/// 3.3.9; RFC 2782; RFC 9460, section 4.1).
pub fn target(owner: &Name, rdata: &RData) -> Option<Name> {
    const SRV_NUMBERS: usize = 6;
    const SVCB_PRIORITY: usize = 2;
    let target = match rdata {
        RData::MX(mx) => mx.exchange.clone(),
        RData::Unknown { code, rdata } => {
            let numbers = match code {
                RecordType::SRV => SRV_NUMBERS,
                RecordType::SVCB | RecordType::HTTPS => SVCB_PRIORITY,
                _ => return None,
            };
            let target = octets::Reader::new(rdata.anything.get(numbers..)?).name()?;
            // In service mode the root stands for the owner (RFC 9460, section 2.5.2).
            let is_service = *code != RecordType::SRV && rdata.anything.get(..SVCB_PRIORITY) != Some(&[0, 0]);
            if target.is_root() && is_service { owner.clone() } else { target }
        }
        _ => return None,
    };
    Some(target.to_lowercase())
}

/// Returns the address of an A or AAAA record, or the address hints of an SVCB or HTTPS record.
pub fn addresses_within(rdata: &RData) -> Vec<IpAddr> {
    match rdata {
        RData::Unknown { code: RecordType::SVCB | RecordType::HTTPS, rdata } => {
            service_binding::hints(&rdata.anything)
        }
        other => other.ip_addr().into_iter().collect(),
    }
}

/// Returns a type by its mnemonic or as `TYPE1234` (RFC 3597, section 5), in upper or lower case.
pub fn record_type(text: &str) -> Option<RecordType> {
    /// The mnemonics that hickory does not know, with their numbers. Their data are written in the form of RFC 3597.
    const OTHERS: [(&str, u16); 25] = [
        ("MB", 7),
        ("MG", 8),
        ("MR", 9),
        ("MINFO", 14),
        ("RP", 17),
        ("AFSDB", 18),
        ("X25", 19),
        ("ISDN", 20),
        ("RT", 21),
        ("PX", 26),
        ("LOC", 29),
        ("KX", 36),
        ("APL", 42),
        ("IPSECKEY", 45),
        ("DHCID", 49),
        ("ZONEMD", 63),
        ("SPF", 99),
        ("NID", 104),
        ("L32", 105),
        ("L64", 106),
        ("LP", 107),
        ("EUI48", 108),
        ("EUI64", 109),
        ("URI", 256),
        ("AMTRELAY", 260),
    ];
    let text = text.to_ascii_uppercase();
    if let Some(number) = text.strip_prefix("TYPE") {
        let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
        return number.parse::<u16>().ok().filter(|_| is_number).map(RecordType::from);
    }
    let other = || OTHERS.iter().find(|(known, _)| *known == text).map(|(_, number)| (*number).into());
    text.parse().ok().or_else(other)
}

/// Returns the text of a type: its mnemonic, or `TYPE1234`.
pub fn type_text(rtype: RecordType) -> String {
    let number = u16::from(rtype);
    let text = rtype.to_string();
    let is_known = text.parse::<RecordType>().is_ok_and(|known| u16::from(known) == number);
    if is_known { text } else { format!("TYPE{number}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn the_closest_encloser_decides_which_wildcard_matches() {
        let apex = name("example.");
        let existing = ["*.example.", "host1.example.", "_ssh._tcp.host1.example.", "_tcp.host1.example."];
        let source = |qname: &str| {
            let exists = |name: &Name| existing.iter().any(|known| *name == self::name(known));
            source_of_synthesis(&name(qname), &apex, exists).unwrap().to_string()
        };
        // RFC 4592, section 2.2.1.
        assert_eq!(source("host3.example."), "*.example.");
        assert_eq!(source("foo.bar.example."), "*.example.");
        assert_eq!(source("_telnet._tcp.host1.example."), "*._tcp.host1.example.");
        assert_eq!(source("_dns._udp.host1.example."), "*.host1.example.");
        assert_eq!(source("ghost.*.example."), "*.*.example.");
    }

    #[test]
    fn types_are_known_by_mnemonic_and_by_number() {
        let number = |text: &str| record_type(text).map(u16::from);
        assert_eq!(number("txt"), Some(16));
        assert_eq!(number("TYPE65280"), Some(65_280));
        assert_eq!(number("type16"), Some(16));
        assert_eq!(number("LOC"), Some(29));
        for wrong in ["TYPE", "TYPE65536", "TYPE+1", "NONSENSE", ""] {
            assert_eq!(number(wrong), None, "{wrong}");
        }
        assert_eq!(type_text(RecordType::from(65_280)), "TYPE65280");
        assert_eq!(type_text(RecordType::HTTPS), "HTTPS");
        assert_eq!(type_text(RecordType::from(29)), "TYPE29");
    }

    #[test]
    fn the_addresses_of_a_target_come_with_the_record() {
        let (owner, origin) = (name("_x._tcp.example."), name("example."));
        let target = |rtype: &str, text: &str| {
            let data = data(record_type(rtype).unwrap(), text, &origin).unwrap();
            target(&owner, &data).map(|name| name.to_string())
        };
        assert_eq!(target("MX", "10 Mail").as_deref(), Some("mail.example."));
        assert_eq!(target("SRV", "0 0 53 node1").as_deref(), Some("node1.example."));
        assert_eq!(target("SRV", "0 0 0 .").as_deref(), Some("."));
        assert_eq!(target("HTTPS", "1 .").as_deref(), Some("_x._tcp.example."));
        assert_eq!(target("SVCB", "0 node2").as_deref(), Some("node2.example."));
        assert_eq!(target("TXT", "node1"), None);
    }
}
