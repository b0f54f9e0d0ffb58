//! Reads the sections of an UPDATE message (RFC 2136, section 2), after its signature was verified.
use hickory_proto::op::{Header, HeaderCounts, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};

use crate::records::{from_octets, refusal, wire};
use crate::update::{Change, Failure, Prerequisite, Update};

/// Classes (RFC 1035, section 3.2.4; RFC 2136, section 1.3).
const IN: u16 = 1;
const NONE: u16 = 254;
const ANY: u16 = 255;
/// The types from TKEY to ANY, which only queries and transactions have (RFC 6895, section 3.1).
const META: std::ops::RangeInclusive<u16> = 249..=255;

/// Returns the update of a message to the zone of `apex`.
///
/// # Errors
/// FORMERR: the message is malformed, or a class does not fit its record. NOTAUTH: it is about another zone. NOTZONE: a
/// name is outside the zone.
pub(super) fn update(message: &[u8], apex: &Name) -> Result<Update, Failure> {
    let mut decoder = BinDecoder::new(message);
    let Header { counts, .. } = Header::read(&mut decoder).map_err(|_| malformed("the header"))?;
    // The sections of an update: zone, prerequisites, updates (RFC 2136, section 2.2).
    let HeaderCounts { queries: zones, answers: prerequisites, authorities: changes, .. } = counts;
    zone(&mut decoder, zones, apex)?;
    let mut update = Update::default();
    for _ in 0..prerequisites {
        update.prerequisites.push(prerequisite(&record(message, &mut decoder, apex)?)?);
    }
    for _ in 0..changes {
        update.changes.push(change(record(message, &mut decoder, apex)?)?);
    }
    Ok(update)
}

/// Checks the zone section (RFC 2136, section 3.1).
fn zone(decoder: &mut BinDecoder<'_>, zones: u16, apex: &Name) -> Result<(), Failure> {
    const WRONG: &str = "the zone section has not the one zone, with the type SOA";
    if zones != 1 {
        return Err(malformed(WRONG));
    }
    let name = Name::read(decoder).map_err(|_| malformed("the zone section"))?;
    let (rtype, class) = (number(decoder)?, number(decoder)?);
    if RecordType::from(rtype) != RecordType::SOA {
        return Err(malformed(WRONG));
    }
    if class != IN || name.to_lowercase() != *apex {
        let reason =
            format!("this server has the zone {apex}, not {name}; name {apex} as the zone of the update");
        return Err(Failure::new(ResponseCode::NotAuth, reason));
    }
    Ok(())
}

/// A record of the prerequisite or the update section.
struct Record {
    owner: Name,
    rtype: RecordType,
    class: u16,
    ttl_seconds: u32,
    /// Whether there are no data.
    is_empty: bool,
    /// The data, if they are data of the type.
    data: Result<RData, String>,
}

impl Record {
    fn is_any(&self) -> bool {
        self.rtype == RecordType::ANY
    }

    /// Whether the type is only of queries, other than ANY.
    fn is_meta(&self) -> bool {
        (META.contains(&self.rtype.into()) && !self.is_any()) || self.rtype == RecordType::OPT
    }
}

/// Reads a record. Names may be compressed.
fn record(message: &[u8], decoder: &mut BinDecoder<'_>, apex: &Name) -> Result<Record, Failure> {
    let owner = Name::read(decoder).map_err(|_| malformed("a name"))?.to_lowercase();
    let (rtype, class) = (RecordType::from(number(decoder)?), number(decoder)?);
    let ttl_seconds = (u32::from(number(decoder)?) << 16) | u32::from(number(decoder)?);
    let length = usize::from(number(decoder)?);
    let at = decoder.index();
    decoder.read_slice(length).map_err(|_| malformed("the data of a record"))?;
    if !apex.zone_of(&owner) {
        return Err(Failure::new(ResponseCode::NotZone, format!("{owner} is outside the zone {apex}")));
    }
    let data = data(message, rtype, at, length);
    Ok(Record { owner, rtype, class, ttl_seconds, is_empty: length == 0, data })
}

/// Reads a prerequisite (RFC 2136, sections 2.4 and 3.2).
fn prerequisite(record: &Record) -> Result<Prerequisite, Failure> {
    let Record { owner, rtype, class, ttl_seconds, is_empty, data } = record;
    if *ttl_seconds != 0 || record.is_meta() {
        return Err(malformed("a prerequisite with a TTL, or of a type that no zone has"));
    }
    let owner = owner.clone();
    Ok(match (*class, record.is_any()) {
        (ANY, true) if *is_empty => Prerequisite::NameInUse(owner),
        (ANY, false) if *is_empty => Prerequisite::SetExists(owner, *rtype),
        (NONE, true) if *is_empty => Prerequisite::NameNotInUse(owner),
        (NONE, false) if *is_empty => Prerequisite::SetAbsent(owner, *rtype),
        (IN, false) => {
            Prerequisite::SetHas(owner, data.clone().map_err(|problem| wrong_data(&record.owner, &problem))?)
        }
        _ => return Err(malformed("a prerequisite whose class does not fit its type and data")),
    })
}

/// Reads a change (RFC 2136, sections 2.5 and 3.4.1).
fn change(record: Record) -> Result<Change, Failure> {
    let (is_any, is_meta) = (record.is_any(), record.is_meta());
    let Record { owner, rtype, class, ttl_seconds, is_empty, data } = record;
    if is_meta {
        return Err(malformed("a change of a type that no zone has"));
    }
    let deletes = ttl_seconds == 0;
    Ok(match (class, is_any) {
        (IN, false) => {
            let data = data.map_err(|problem| wrong_data(&owner, &problem))?;
            Change::Add { owner, ttl_seconds, data }
        }
        (ANY, true) if deletes && is_empty => Change::RemoveName { owner },
        (ANY, false) if deletes && is_empty => Change::RemoveSet { owner, rtype },
        (NONE, false) if deletes => {
            let data = data.map_err(|problem| wrong_data(&owner, &problem))?;
            Change::Remove { owner, data }
        }
        _ => return Err(malformed("a change whose class does not fit its type, TTL and data")),
    })
}

/// Returns the data in `length` octets at `at`, without compression.
fn data(message: &[u8], rtype: RecordType, at: usize, length: usize) -> Result<RData, String> {
    const SHORT: &str = "is shorter than its fields";
    let end = at + length;
    let octets = message.get(at..end).unwrap_or_default();
    let raw = |octets: Vec<u8>| {
        let rdata = if octets.is_empty() { NULL::new() } else { NULL::with(octets) };
        RData::Unknown { code: rtype, rdata }
    };
    let Some((fixed, names)) = compressible(rtype) else {
        // The zone has no record of a refused type, so its data do not matter.
        return if refusal(rtype).is_some() {
            Ok(raw(octets.to_vec()))
        } else {
            from_octets(rtype, octets.to_vec())
        };
    };
    let mut whole = octets.get(..fixed).ok_or(SHORT)?.to_vec();
    let mut next = at + fixed;
    for _ in 0..names {
        let mut decoder = BinDecoder::new(message).clone(u16::try_from(next).map_err(|_| SHORT)?);
        let name = Name::read(&mut decoder).map_err(|error| format!("has a wrong name: {error}"))?;
        whole.extend(wire(&name));
        next = decoder.index();
    }
    if next > end {
        return Err(SHORT.to_owned());
    }
    whole.extend(message.get(next..end).unwrap_or_default());
    if rtype == RecordType::SOA { Ok(raw(whole)) } else { from_octets(rtype, whole) }
}

/// Returns the octets before the names, and the number of names, in data whose names may be compressed (RFC 3597, section
/// 4).
fn compressible(rtype: RecordType) -> Option<(usize, usize)> {
    match u16::from(rtype) {
        // NS, CNAME, MB, MG, MR, PTR
        2 | 5 | 7 | 8 | 9 | 12 => Some((0, 1)),
        // SOA, MINFO, RP
        6 | 14 | 17 => Some((0, 2)),
        // MX, AFSDB, RT
        15 | 18 | 21 => Some((2, 1)),
        // PX
        26 => Some((2, 2)),
        // SRV
        33 => Some((6, 1)),
        _ => None,
    }
}

fn number(decoder: &mut BinDecoder<'_>) -> Result<u16, Failure> {
    let number = decoder.read_u16().map_err(|_| malformed("a record"))?;
    Ok(number.unverified())
}

fn malformed(what: &str) -> Failure {
    Failure::new(ResponseCode::FormErr, format!("the message is malformed: {what}"))
}

fn wrong_data(owner: &Name, problem: &str) -> Failure {
    Failure::new(ResponseCode::FormErr, format!("the data of a record of {owner} {problem}"))
}

#[cfg(test)]
mod tests;
