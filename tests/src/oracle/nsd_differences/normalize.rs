//! Removes each intended difference from two answers to one query, so that the rest can be compared.
use std::collections::BTreeSet;

use crate::oracle::meaning::Meaning;
use dns_xdp::zone::CHAIN_MAX;
use hickory_proto::op::ResponseCode::{self, BADSIG, FormErr, NXDomain, NoError, NotAuth, NotImp, Refused};
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::{Query, Served};

const AA: u16 = 0x0400;
const TC: u16 = 0x0200;
const RD: u16 = 0x0100;
const RA: u16 = 0x0080;
const CD: u16 = 0x0010;
const RCODE: u16 = 0x000f;

const QUERY: u16 = 0;
const NOTIFY: u16 = 4;
const UPDATE: u16 = 5;

const TXT: u16 = 16;
const OPT: u16 = 41;
const TSIG: u16 = 250;
const IXFR: u16 = 251;
const AXFR: u16 = 252;
const ANY: u16 = 255;
const CH: u16 = 3;

/// Hickory's name for 16, which in an OPT is BADVERS.
const BADVERS: ResponseCode = BADSIG;

pub(super) fn checking_disabled(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let (our, their) = (&mut ours.metadata.checking_disabled, &mut theirs.metadata.checking_disabled);
    let occurs = query.has(CD) && *our && !*their;
    *their |= occurs;
    occurs
}

pub(super) fn flags_of_errors(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    if !is_error(query, theirs) {
        return false;
    }
    let mut occurs = false;
    let (our, their) = (&ours.metadata, &mut theirs.metadata);
    for (flag, our, their) in [
        (AA, our.authoritative, &mut their.authoritative),
        (TC, our.truncation, &mut their.truncation),
        (RA, our.recursion_available, &mut their.recursion_available),
    ] {
        if query.has(flag) && !our && *their {
            *their = false;
            occurs = true;
        }
    }
    occurs
}

pub(super) fn recursion_desired(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let (our, their) = (ours.metadata.recursion_desired, &mut theirs.metadata.recursion_desired);
    let occurs = !has_plain_counts(query) && query.has(RD) && our && !*their;
    *their |= occurs;
    occurs
}

pub(super) fn question_of_errors(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let occurs = is_error(query, theirs) && theirs.question.is_empty() && !ours.question.is_empty();
    if occurs {
        theirs.question.clone_from(&ours.question);
    }
    occurs
}

pub(super) fn extended_errors(_: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    const EXTENDED_ERROR: EdnsCode = EdnsCode::Unknown(15);
    let (Some(our), Some(their)) = (&mut ours.edns, &mut theirs.edns) else { return false };
    let occurs = our.option(EXTENDED_ERROR) != their.option(EXTENDED_ERROR);
    for opt in [our, their] {
        opt.options_mut().remove(EXTENDED_ERROR);
    }
    occurs
}

pub(super) fn idle_timeout(_: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let (Some(our), Some(their)) = (&mut ours.edns, &theirs.edns) else { return false };
    let occurs = our.option(EdnsCode::Keepalive).is_some() && their.option(EdnsCode::Keepalive).is_none();
    if occurs {
        our.options_mut().remove(EdnsCode::Keepalive);
    }
    occurs
}

pub(super) fn dnssec_ok(_: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let badvers = rcode(ours) == BADVERS && rcode(theirs) == BADVERS;
    let (Some(our), Some(their)) = (&ours.edns, &mut theirs.edns) else { return false };
    let occurs = badvers && our.flags().dnssec_ok && !their.flags().dnssec_ok;
    if occurs {
        their.set_dnssec_ok(true);
    }
    occurs
}

pub(super) fn opt_of_errors(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let occurs = is_error(query, theirs)
        && query.opts().next().is_some()
        && ours.edns.is_some()
        && theirs.edns.is_none();
    if occurs {
        theirs.edns.clone_from(&ours.edns);
    }
    occurs
}

pub(super) fn version_of_a_broken_opt(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let other_version = query.opts().any(|opt| opt.version > 0);
    let occurs = other_version && rcode(ours) == FormErr && rcode(theirs) == BADVERS;
    if occurs {
        make_error(FormErr, theirs);
        // The answer to an OPT that cannot be read has no OPT.
        theirs.edns = None;
    }
    occurs
}

pub(super) fn meaningless_records(query: &Query, ours: &Meaning, theirs: &Meaning) -> bool {
    let records = !has_plain_counts(query)
        || query.records.iter().any(|record| record.rtype != OPT || record.compressed);
    records && query.has_question() && rcode(ours) != FormErr && rcode(theirs) == FormErr
}

pub(super) fn signature(query: &Query, _: &Meaning, theirs: &Meaning) -> bool {
    let signed = query.records.iter().any(|record| record.rtype == TSIG);
    signed && query.has_question() && rcode(theirs) == NotAuth
}

pub(super) fn rcode_of_the_query(query: &Query, ours: &Meaning, theirs: &Meaning) -> bool {
    query.has(RCODE) && query.has_question() && rcode(ours) != FormErr && rcode(theirs) == FormErr
}

pub(super) fn opcodes(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let opcode = matches!(query.opcode(), NOTIFY | UPDATE);
    let occurs = opcode && rcode(ours) == Refused && is_error(query, theirs) && rcode(theirs) != Refused;
    if occurs {
        theirs.metadata.response_code = Refused;
    }
    occurs
}

pub(super) fn meta_queries(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let meta = matches!(query.qtype, OPT | 248..=250 | 253 | 254);
    let occurs = meta && rcode(ours) == NotImp && !is_error(query, theirs) && has_only_aliases(theirs);
    make_error_where(occurs, NotImp, theirs)
}

pub(super) fn transfers(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let transfer = matches!(query.qtype, IXFR | AXFR);
    let occurs = transfer && rcode(ours) == Refused && is_error(query, theirs) && rcode(theirs) != Refused;
    if occurs {
        theirs.metadata.response_code = Refused;
    }
    occurs
}

pub(super) fn class_any(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let answered = !is_error(query, theirs) && !theirs.metadata.authoritative;
    make_error_where(query.qclass == ANY && rcode(ours) == Refused && answered, Refused, theirs)
}

pub(super) fn authority_over_chaos(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let (our, their) = (ours.metadata.authoritative, &mut theirs.metadata.authoritative);
    let occurs = query.qclass == CH && query.qtype == TXT && our && !*their;
    *their |= occurs;
    occurs
}

pub(super) fn any_of_chaos(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let answered = !is_error(query, theirs) && !theirs.answers.is_empty();
    let occurs = query.qclass == CH && query.qtype == ANY && rcode(ours) == Refused && answered;
    make_error_where(occurs, Refused, theirs)
}

pub(super) fn answers_max(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let Some((members, most)) = members(query) else { return false };
    let split = |answer: &Meaning| -> (BTreeSet<String>, BTreeSet<String>) {
        lower_case(&answer.answers).into_iter().partition(|record| record.contains(" cname "))
    };
    let ((our_aliases, our), (their_aliases, their)) = (split(ours), split(theirs));
    let all = their == members || theirs.metadata.truncation && their.is_empty();
    // The right number of records, none twice.
    let count = ours.answers.len() - our_aliases.len();
    let some = count == most && our.len() == most && our.is_subset(&members);
    let same_aliases = our_aliases == their_aliases || theirs.metadata.truncation && their_aliases.is_empty();
    let occurs = members.len() > most && all && some && same_aliases;
    if occurs {
        theirs.answers.clone_from(&ours.answers);
        theirs.metadata.truncation = false;
    }
    occurs
}

/// The records of the queried name and type, in lower case, and the most that an answer has. If the name is an alias,
/// they are those at the end of its chain.
fn members(query: &Query) -> Option<(BTreeSet<String>, usize)> {
    let zone = &query.served.zone;
    let mut owner = query.qname.as_ref()?.to_lowercase();
    for _ in 0..CHAIN_MAX {
        let Some((_, target)) = zone.source_name(&owner).and_then(|source| zone.records().alias(source))
        else {
            break;
        };
        owner = target;
    }
    let addresses = zone.addresses(zone.source_name(&owner)?)?;
    let texts: Vec<String> = match RecordType::from(query.qtype) {
        RecordType::A => addresses.ipv4.iter().map(|address| format!("in a {address}")).collect(),
        RecordType::AAAA => addresses.ipv6.iter().map(|address| format!("in aaaa {address}")).collect(),
        _ => return None,
    };
    let record = |text: &String| format!("{owner} {} {text}", addresses.ttl_seconds);
    Some((texts.iter().map(record).collect(), addresses.answers_max))
}

pub(super) fn aliases_of_truncated(_: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let occurs = ours.metadata.truncation
        && theirs.metadata.truncation
        && ours.answers.is_empty()
        && !theirs.answers.is_empty()
        && has_only_aliases(theirs);
    if occurs {
        theirs.answers.clear();
        theirs.authorities.clear();
        theirs.additionals.clear();
    }
    occurs
}

pub(super) fn spelling(_: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let mut occurs = false;
    for (ours, theirs) in [
        (&ours.answers, &mut theirs.answers),
        (&ours.authorities, &mut theirs.authorities),
        (&ours.additionals, &mut theirs.additionals),
    ] {
        if ours != theirs && ours.len() == theirs.len() && lower_case(ours) == lower_case(theirs) {
            theirs.clone_from(ours);
            occurs = true;
        }
    }
    occurs
}

pub(super) fn name_servers(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let Served { servers, targets, .. } = &*query.served;
    let answered = !ours.answers.is_empty() && ours.answers == theirs.answers;
    let more = ours.authorities != theirs.authorities || ours.additionals != theirs.additionals;
    let occurs = answered
        && more
        && ours.authorities.is_empty()
        && lower_case(&theirs.authorities).is_subset(servers)
        && lower_case(&ours.additionals).is_subset(targets)
        && lower_case(&theirs.additionals).is_subset(targets);
    if occurs {
        theirs.authorities.clone_from(&ours.authorities);
        theirs.additionals.clone_from(&ours.additionals);
    }
    occurs
}

pub(super) fn any(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let occurs = query.qtype == ANY
        && !ours.answers.is_empty()
        && rcode(theirs) == NoError
        && theirs.metadata.authoritative;
    if occurs {
        let zone = &query.served.zone;
        let source = query.qname.as_ref().and_then(|qname| zone.source_name(&qname.to_lowercase()));
        let has =
            |rtype: RecordType| source.is_some_and(|source| zone.records().set(source, rtype).is_some());
        match [RecordType::CNAME, RecordType::HINFO].into_iter().find(|rtype| has(*rtype)) {
            Some(own) => theirs.answers.retain(|answer| answer.contains(&format!(" IN {own} "))),
            None => {
                let spelt = Name::read(&mut BinDecoder::new(&theirs.question)).map(|qname| qname.to_string());
                let ttl_seconds = zone.soa().ttl;
                let spelt = spelt.unwrap_or_default();
                theirs.answers = vec![format!("{spelt} {ttl_seconds} IN HINFO RFC8482 ")];
            }
        }
        theirs.metadata.truncation = false;
        theirs.authorities.clear();
        theirs.additionals.clear();
    }
    occurs
}

pub(super) fn withheld(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let addresses = query.qname.as_ref().and_then(|qname| query.served.zone.addresses(qname));
    let is_withheld = addresses.is_some_and(|addresses| addresses.refused);
    // An empty answer about a family that the name lacks counts too.
    let is_answered = !theirs.answers.is_empty()
        || theirs.metadata.truncation
        || is_for_addresses(query) && rcode(theirs) == NoError;
    make_error_where(is_withheld && rcode(ours) == Refused && is_answered, Refused, theirs)
}

fn is_for_addresses(query: &Query) -> bool {
    matches!(RecordType::from(query.qtype), RecordType::A | RecordType::AAAA)
}

pub(super) fn absence_of_a_family(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let Some(qname) = &query.qname else { return false };
    let zone = &query.served.zone;
    let of = |soa: &Record| BTreeSet::from([soa.to_string().to_lowercase()]);
    let (short, usual) = (of(&zone.negative_soa(qname)), of(&soa(query)));
    let occurs = short != usual
        && theirs.answers.is_empty()
        && rcode(theirs) == NoError
        && lower_case(&ours.authorities) == short
        && lower_case(&theirs.authorities) == usual;
    if occurs {
        theirs.authorities.clone_from(&ours.authorities);
    }
    occurs
}

pub(super) fn whole_soa(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    const LEAST_LIMIT: usize = 512;
    const HEADER: usize = 12;
    /// An OPT with a cookie and an NSID.
    const OPT_MAX: usize = 11 + 28 + 9;
    let soa = soa(query);
    let RData::SOA(data) = &soa.data else { return false };
    // A pointer, type, class, TTL and length before the data, and five numbers in it.
    let soa_octets = 12 + data.mname.len() + data.rname.len() + 20;
    // A text is longer than its record.
    let aliases_octets: usize = theirs.answers.iter().map(String::len).sum();
    let occurs = ours.metadata.truncation
        && !theirs.metadata.truncation
        && ours.answers.is_empty()
        && has_only_aliases(theirs)
        && theirs.authorities.len() == 1
        && lower_case(&theirs.authorities) == BTreeSet::from([soa.to_string().to_lowercase()])
        && HEADER + query.question.len() + aliases_octets + soa_octets + OPT_MAX > LEAST_LIMIT;
    if occurs {
        theirs.metadata.truncation = true;
        theirs.answers.clear();
        theirs.authorities.clear();
    }
    occurs
}

/// The SOA record of the apex above the question's name, or else of the zone's own.
fn soa(query: &Query) -> Record {
    let zone = &query.served.zone;
    let authority = query.qname.as_ref().and_then(|qname| zone.authority(&qname.to_lowercase()));
    authority.map_or_else(|| zone.soa(), |authority| zone.soa_of(authority))
}

fn make_error_where(occurs: bool, rcode: ResponseCode, theirs: &mut Meaning) -> bool {
    if occurs {
        make_error(rcode, theirs);
    }
    occurs
}

/// Turns an answer into this error: without records, authority and truncation. Id, the query's flags, question and OPT
/// stay as expected.
fn make_error(rcode: ResponseCode, theirs: &mut Meaning) {
    theirs.metadata.response_code = rcode;
    theirs.metadata.authoritative = false;
    theirs.metadata.truncation = false;
    for section in [&mut theirs.answers, &mut theirs.authorities, &mut theirs.additionals] {
        section.clear();
    }
}

fn rcode(answer: &Meaning) -> ResponseCode {
    answer.metadata.response_code
}

/// Whether the answer section has nothing but CNAME records.
fn has_only_aliases(answer: &Meaning) -> bool {
    answer.answers.iter().all(|record| record.contains(" CNAME "))
}

/// A message that is no query gets only errors.
fn is_error(query: &Query, answer: &Meaning) -> bool {
    query.opcode() != QUERY || !matches!(rcode(answer), NoError | NXDomain)
}

/// Whether a query has one question, and at most one record after it.
fn has_plain_counts(query: &Query) -> bool {
    matches!(query.counts, [1, 0, 0, 0 | 1])
}

fn lower_case(records: &[String]) -> BTreeSet<String> {
    records.iter().map(|record| record.to_lowercase()).collect()
}
