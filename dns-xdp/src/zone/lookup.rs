//! Looks a question up in the zone: the algorithm of RFC 1034, section 4.3.2, with wildcards as in RFC 4592.
use std::borrow::Cow;
use std::collections::HashSet;

use dns_xdp_ebpf::table;
use hickory_proto::rr::rdata::{A, AAAA, HINFO};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use super::{Addresses, Authority, Zone};
use crate::records::{RecordSet, source_of_synthesis, target};

/// The most CNAME records that one answer follows within the zone. A longer chain ends there, and the resolver asks on.
pub const CHAIN_MAX: usize = 8;

/// Octets of an A record with a pointer as its owner: owner, type, class, TTL, length, address. An AAAA record has 12
/// more.
const ADDRESS_RECORD_MIN: usize = 2 + 2 + 2 + 4 + 2 + 4;

/// The zone's answer to a question of class IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Records, and the addresses for the additional section.
    Found {
        /// The CNAME records of a chain, then the RRset. There is no RRset if the chain leaves the zone, is too long, or
        /// ends at a refused name. Owner names are in lower case.
        answers: Vec<Record>,
    },
    /// The name exists, the type does not (RFC 2308, section 2.2).
    NoData,
    /// The name does not exist, nor anything below it (RFC 8020).
    NxDomain,
    /// A chain of CNAME records ends without an answer (RFC 6604, section 2.1).
    Dangling {
        /// The CNAME records.
        answers: Vec<Record>,
        /// The name that the chain ends at.
        last: Name,
        /// Whether this name exists.
        exists: bool,
    },
    /// The name exists, but is refused at present.
    Refused,
    /// The name is not at or below the apex.
    NotInZone,
}

/// The name that a question is answered from: the asked name, or a wildcard.
pub(super) struct Source<'z> {
    name: &'z Name,
    pub(super) addresses: &'z Addresses,
}

/// One step of a look-up.
enum Step {
    End(Lookup),
    /// A CNAME record and its target.
    Alias(Box<Record>, Name),
}

impl Zone {
    /// Returns the answer to `qname` (in lower case) and `qtype`. `turn` is the query's [`table::turn`].
    pub fn lookup(&self, qname: &Name, qtype: RecordType, turn: u32) -> Lookup {
        let mut chain: Vec<Record> = Vec::new();
        let mut name = Cow::Borrowed(qname);
        let end = loop {
            match self.step(&name, qtype, turn) {
                Step::End(end) => break end,
                Step::Alias(..) if chain.len() == CHAIN_MAX => break Lookup::NotInZone,
                Step::Alias(record, target) => {
                    chain.push(*record);
                    if self.apex_of(&target) != self.apex_of(&name) {
                        // A resolver asks again for a name of another zone, even if this server has that zone.
                        break Lookup::NotInZone;
                    }
                    name = Cow::Owned(target);
                }
            }
        };
        if chain.is_empty() {
            return end;
        }
        match end {
            Lookup::Found { answers } => {
                chain.extend(answers);
                Lookup::Found { answers: chain }
            }
            Lookup::NoData | Lookup::NxDomain | Lookup::Dangling { .. } => {
                let exists = end == Lookup::NoData;
                Lookup::Dangling { answers: chain, last: name.into_owned(), exists }
            }
            Lookup::Refused | Lookup::NotInZone => Lookup::Found { answers: chain },
        }
    }

    /// Returns the name that has the answers about `qname` (in lower case): the name itself or a wildcard. `None`: there
    /// is no such name.
    pub fn source_name(&self, qname: &Name) -> Option<&Name> {
        self.source(qname).map(|source| source.name)
    }

    /// Returns the name that a question about `qname` is answered from; `None`: the name does not exist.
    pub(super) fn source(&self, qname: &Name) -> Option<Source<'_>> {
        if let Some((name, addresses)) = self.names.get_key_value(qname) {
            return Some(Source { name, addresses });
        }
        if !self.has_wildcard {
            return None;
        }
        let wildcard =
            source_of_synthesis(qname, self.apex_of(qname)?, |name| self.names.contains_key(name))?;
        let (name, addresses) = self.names.get_key_value(&wildcard)?;
        Some(Source { name, addresses })
    }

    fn apex_of(&self, name: &Name) -> Option<&Name> {
        self.authority(name).map(Authority::apex)
    }

    /// Answers from one name. The owner of the records is `qname`, even if a wildcard has them (RFC 4592, section 3.3.2).
    fn step(&self, qname: &Name, qtype: RecordType, turn: u32) -> Step {
        let Some(authority) = self.authority(qname) else { return Step::End(Lookup::NotInZone) };
        let Some(Source { name, addresses }) = self.source(qname) else {
            return Step::End(Lookup::NxDomain);
        };
        if let Some((set, target)) = self.records.alias(name)
            && !matches!(qtype, RecordType::CNAME | RecordType::ANY)
            && let Some(record) = records_of(qname, set).next()
        {
            return Step::Alias(Box::new(record), target);
        }
        let apex = *qname == *authority.apex();
        let set = |rtype| self.records.set(name, rtype);
        let answers = match qtype {
            RecordType::A | RecordType::AAAA if addresses.refused => return Step::End(Lookup::Refused),
            RecordType::A | RecordType::AAAA => address_records(qname, addresses, qtype, turn),
            RecordType::SOA if apex => vec![self.soa_of(authority)],
            RecordType::NS if apex => self.ns_records(authority),
            // No name has a HINFO beside a CNAME, so the CNAME is the answer (RFC 8482, section 4.2).
            RecordType::ANY => match set(RecordType::CNAME).or_else(|| set(RecordType::HINFO)) {
                Some(set) => records_of(qname, set).collect(),
                None if !apex && self.is_empty_non_terminal(name, addresses) => Vec::new(),
                None => {
                    let hinfo = HINFO::new("RFC8482".to_owned(), String::new());
                    vec![Record::from_rdata(qname.clone(), self.negative_ttl_seconds, RData::HINFO(hinfo))]
                }
            },
            _ => set(qtype).map(|set| records_of(qname, set).collect()).unwrap_or_default(),
        };
        Step::End(if answers.is_empty() { Lookup::NoData } else { Lookup::Found { answers } })
    }

    /// Whether a name below the apex exists only because names below it exist.
    fn is_empty_non_terminal(&self, name: &Name, addresses: &Addresses) -> bool {
        let lacks_addresses = addresses.iter().next().is_none() && addresses.nodata_ttl_seconds.is_none();
        lacks_addresses && !addresses.refused && self.records.at(name).is_empty()
    }

    /// Returns the additional section: the addresses of name servers (RFC 9471) and of the targets of records. It has
    /// addresses of at most `targets_max` names, and leaves out each RRset that exceeds the `room` in octets.
    pub fn additionals(
        &self,
        answers: &[Record],
        turn: u32,
        mut room: usize,
        targets_max: usize,
    ) -> Vec<Record> {
        let target = |record: &Record| match &record.data {
            RData::NS(server) => Some(server.0.to_lowercase()),
            rdata => target(&record.name, rdata),
        };
        let mut seen: HashSet<Name> = HashSet::new();
        let mut records = Vec::new();
        // Resolvers ignore addresses from another zone than that of the question.
        let zone = answers.first().and_then(|record| self.apex_of(&record.name));
        let targets = answers.iter().filter_map(target).filter(|target| self.apex_of(target) == zone);
        for target in targets {
            if seen.len() == targets_max || room < ADDRESS_RECORD_MIN {
                break;
            }
            if seen.contains(&target) {
                continue;
            }
            if let Some(Source { addresses, .. }) = self.source(&target)
                && !addresses.refused
            {
                for (rtype, count, octets) in [
                    (RecordType::A, addresses.ipv4.len(), ADDRESS_RECORD_MIN),
                    (RecordType::AAAA, addresses.ipv6.len(), ADDRESS_RECORD_MIN + 12),
                ] {
                    if let Some(left) = room.checked_sub(count.min(addresses.answers_max) * octets) {
                        room = left;
                        records.extend(address_records(&target, addresses, rtype, turn));
                    }
                }
            }
            seen.insert(target);
        }
        records
    }
}

fn records_of<'s>(owner: &'s Name, set: &'s RecordSet) -> impl Iterator<Item = Record> + 's {
    set.data.iter().map(move |rdata| Record::from_rdata(owner.clone(), set.ttl_seconds, rdata.clone()))
}

/// Returns the A records and the AAAA records of a name.
pub(super) fn all_addresses(owner: &Name, addresses: &Addresses, turn: u32) -> impl Iterator<Item = Record> {
    let of = |rtype| address_records(owner, addresses, rtype, turn);
    of(RecordType::A).into_iter().chain(of(RecordType::AAAA))
}

fn address_records(owner: &Name, addresses: &Addresses, rtype: RecordType, turn: u32) -> Vec<Record> {
    let rdata: Vec<RData> = if rtype == RecordType::A {
        addresses.ipv4.iter().map(|&address| RData::A(A(address))).collect()
    } else {
        addresses.ipv6.iter().map(|&address| RData::AAAA(AAAA(address))).collect()
    };
    let ttl = addresses.ttl_seconds;
    let record = |rdata| Record::from_rdata(owner.clone(), ttl, rdata);
    let first = if addresses.rotate { table::first_member(turn, rdata.len()) } else { 0 };
    let count = rdata.len().min(addresses.answers_max);
    rdata.iter().cycle().skip(first).take(count).cloned().map(record).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::super::Origin;
    use super::*;
    use crate::records::{Records, data, full_name, record_type};

    fn name(text: &str) -> Name {
        full_name(text, &Name::from_ascii("demo.example.com.").unwrap()).unwrap()
    }

    /// Makes a zone with node1, a service, and these records, each as name, type and data.
    fn zone(records: &[(&str, &str, &str)]) -> Zone {
        let apex = name("@");
        let origin = Origin {
            apex: apex.clone(),
            contact: name("hostmaster"),
            serial: 1,
            ns_ttl_seconds: 60,
            negative_ttl_seconds: 300,
            name_servers: vec![name("ns1")],
        };
        let address = |last: u8| Addresses::new(5, [Ipv4Addr::new(192, 0, 2, last).into()]);
        let refused = Addresses { refused: true, ..address(9) };
        let names = [("node1", address(1)), ("ns1", address(1)), ("db.prod", address(3)), ("down", refused)];
        let sets = records.iter().map(|(owner, rtype, text)| {
            let rtype = record_type(rtype).unwrap();
            let data = vec![data(rtype, text, &apex).unwrap()];
            RecordSet { owner: name(owner), rtype, ttl_seconds: 60, data }
        });
        let names = names.map(|(owner, addresses)| (name(owner), addresses));
        Zone::new(origin, names).with_records(Arc::new(Records::new(sets)))
    }

    fn texts(records: &[Record]) -> Vec<String> {
        let text = |record: &Record| {
            let data = crate::records::presentation(&record.data);
            format!(
                "{} {} {data}",
                record.name.to_string().trim_end_matches(".demo.example.com."),
                record.record_type()
            )
        };
        records.iter().map(text).collect()
    }

    fn found(zone: &Zone, qname: &str, qtype: RecordType) -> Vec<String> {
        match zone.lookup(&name(qname), qtype, 0) {
            Lookup::Found { answers, .. } => texts(&answers),
            other => panic!("{qname} {qtype}: {other:?}"),
        }
    }

    #[test]
    fn records_are_answered_beside_the_addresses_of_their_name() {
        let zone = zone(&[("node1", "TXT", "hello"), ("_acme.sub", "TXT", "x"), ("www", "A", "192.0.2.80")]);
        assert_eq!(found(&zone, "node1", RecordType::TXT), ["node1 TXT \"hello\""]);
        assert_eq!(found(&zone, "node1", RecordType::A), ["node1 A 192.0.2.1"]);
        assert_eq!(found(&zone, "www", RecordType::A), ["www A 192.0.2.80"]);
        assert_eq!(zone.lookup(&name("node1"), RecordType::MX, 0), Lookup::NoData);
        assert_eq!(zone.lookup(&name("sub"), RecordType::TXT, 0), Lookup::NoData, "an empty non-terminal");
        assert_eq!(zone.lookup(&name("_acme.sub"), RecordType::A, 0), Lookup::NoData);
        assert_eq!(zone.lookup(&name("other.sub"), RecordType::TXT, 0), Lookup::NxDomain);
    }

    #[test]
    fn the_addresses_of_targets_in_the_zone_come_along() {
        let records = [
            ("_redis._tcp", "SRV", "0 0 6379 node1"),
            ("@", "MX", "10 www.example.org."),
            ("x", "MX", "1 down"),
        ];
        let zone = zone(&records);
        let additionals = |qname: &str, qtype| match zone.lookup(&name(qname), qtype, 0) {
            Lookup::Found { answers } => texts(&zone.additionals(&answers, 0, 512, 16)),
            other => panic!("{other:?}"),
        };
        assert_eq!(additionals("_redis._tcp", RecordType::SRV), ["node1 A 192.0.2.1"]);
        assert_eq!(additionals("@", RecordType::MX), [""; 0]);
        assert_eq!(additionals("x", RecordType::MX), [""; 0], "its addresses are refused");
    }

    #[test]
    fn the_room_and_the_count_of_targets_limit_the_additional_section() {
        let zone = zone(&[]);
        let mx = |target: &str| {
            Record::from_rdata(
                name("@"),
                5,
                data(RecordType::MX, &format!("1 {target}"), &name("@")).unwrap(),
            )
        };
        let answers = ["nothing", "node1", "NODE1", "ns1", "db.prod"].map(mx);
        let count = |room, targets_max| zone.additionals(&answers, 0, room, targets_max).len();
        assert_eq!([count(512, 16), count(512, 2), count(512, 0)], [3, 1, 0], "a target counts once");
        assert_eq!([count(31, 16), count(32, 16), count(15, 16)], [1, 2, 0]);
    }

    #[test]
    fn any_has_the_alias_or_the_hinfo_of_the_name_and_nothing_at_an_empty_non_terminal() {
        let records = [
            ("www", "CNAME", "node1"),
            ("*.w", "CNAME", "node1"),
            ("h", "HINFO", "x y"),
            ("a.ent", "TXT", "x"),
        ];
        let zone = zone(&records);
        let any = |qname: &str| found(&zone, qname, RecordType::ANY);
        assert_eq!(any("www"), ["www CNAME node1.demo.example.com."]);
        assert_eq!(any("x.w"), ["x.w CNAME node1.demo.example.com."]);
        assert_eq!(any("h"), ["h HINFO \"x\" \"y\""]);
        assert_eq!(any("node1"), ["node1 HINFO RFC8482 "]);
        assert_eq!(any("down"), ["down HINFO RFC8482 "]);
        assert_eq!(any("@").len(), 1);
        for qname in ["ent", "w"] {
            assert_eq!(zone.lookup(&name(qname), RecordType::ANY, 0), Lookup::NoData, "{qname}");
        }
    }

    #[test]
    fn a_chain_of_aliases_is_followed_within_the_zone() {
        let zone = zone(&[
            ("www", "CNAME", "Web"),
            ("web", "CNAME", "node1"),
            ("away", "CNAME", "www.example.org."),
            ("dead", "CNAME", "nothing"),
            ("refused", "CNAME", "down"),
        ]);
        let chain =
            ["www CNAME Web.demo.example.com.", "web CNAME node1.demo.example.com.", "node1 A 192.0.2.1"];
        assert_eq!(found(&zone, "www", RecordType::A), chain);
        assert_eq!(found(&zone, "www", RecordType::CNAME), chain[..1]);
        assert_eq!(found(&zone, "away", RecordType::A), ["away CNAME www.example.org."]);
        assert_eq!(found(&zone, "refused", RecordType::A), ["refused CNAME down.demo.example.com."]);
        assert_eq!(found(&zone, "www", RecordType::ANY), chain[..1]);
        let end = |qname: &str, qtype| match zone.lookup(&name(qname), qtype, 0) {
            Lookup::Dangling { answers, last, exists } => (answers.len(), last, exists),
            other => panic!("{other:?}"),
        };
        assert_eq!(end("www", RecordType::TXT), (2, name("node1"), true));
        assert_eq!(end("dead", RecordType::A), (1, name("nothing"), false));
    }

    #[test]
    fn a_chain_is_followed_eight_times() {
        let owners: Vec<String> = (0..20).map(|nth| format!("a{nth}")).collect();
        let records: Vec<(&str, &str, &str)> =
            owners.windows(2).map(|pair| (pair[0].as_str(), "CNAME", pair[1].as_str())).collect();
        let zone = zone(&records);
        assert_eq!(found(&zone, "a0", RecordType::A).len(), CHAIN_MAX);
        assert_eq!(found(&zone, "a0", RecordType::CNAME).len(), 1);
    }

    #[test]
    fn a_wildcard_answers_for_names_that_do_not_exist() {
        let zone = zone(&[
            ("*", "TXT", "any"),
            ("*", "A", "192.0.2.99"),
            ("*.prod", "CNAME", "db.prod"),
            ("a.b", "TXT", "x"),
        ]);
        assert_eq!(found(&zone, "nothing", RecordType::TXT), ["nothing TXT \"any\""]);
        assert_eq!(found(&zone, "x.y.nothing", RecordType::A), ["x.y.nothing A 192.0.2.99"]);
        assert_eq!(found(&zone, "*", RecordType::A), ["* A 192.0.2.99"]);
        assert_eq!(zone.lookup(&name("nothing"), RecordType::MX, 0), Lookup::NoData);
        let chain = ["x.prod CNAME db.prod.demo.example.com.", "db.prod A 192.0.2.3"];
        assert_eq!(found(&zone, "x.prod", RecordType::A), chain);
        // A name or an empty non-terminal blocks the wildcard, also for names below it.
        for (qname, expected) in [
            ("node1", Lookup::NoData),
            ("b", Lookup::NoData),
            ("x.node1", Lookup::NxDomain),
            ("x.b", Lookup::NxDomain),
        ] {
            assert_eq!(zone.lookup(&name(qname), RecordType::TXT, 0), expected, "{qname}");
        }
        assert_eq!(
            zone.lookup(&name("x.*"), RecordType::TXT, 0),
            Lookup::NxDomain,
            "the closest encloser is *"
        );
    }
}
