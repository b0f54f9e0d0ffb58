//! What each choice looks like in two answers to one query; answers without it are alike in this.
use std::collections::BTreeSet;
use std::sync::LazyLock;

use dns_xdp::zone::Lookup;
use dns_xdp_tests::meaning::Meaning;
use dns_xdp_tests::table::zone::{within, zone_with_name_servers};
use hickory_proto::op::ResponseCode::{self, BADSIG, FormErr, NXDomain, NoError, NotAuth, NotImp, Refused};
use hickory_proto::rr::rdata::opt::EdnsCode;
use hickory_proto::rr::{Name, Record, RecordType};

use super::{NAME_SERVERS, Query};

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

/// As hickory calls 16, which in an OPT is BADVERS.
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

pub(super) fn extended_errors(_: &Query, _: &mut Meaning, theirs: &mut Meaning) -> bool {
    const EXTENDED_ERROR: EdnsCode = EdnsCode::Unknown(15);
    let Some(opt) = &mut theirs.edns else { return false };
    let occurs = opt.option(EXTENDED_ERROR).is_some();
    opt.options_mut().remove(EXTENDED_ERROR);
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
    alike(other_version && rcode(ours) == FormErr && rcode(theirs) == BADVERS, ours, theirs)
}

pub(super) fn meaningless_records(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let records = !has_plain_counts(query)
        || query.records.iter().any(|record| record.rtype != OPT || record.compressed);
    alike(records && rcode(ours) != FormErr && rcode(theirs) == FormErr, ours, theirs)
}

pub(super) fn signature(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let signed = query.records.iter().any(|record| record.rtype == TSIG);
    alike(signed && rcode(theirs) == NotAuth, ours, theirs)
}

pub(super) fn rcode_of_the_query(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    alike(query.has(RCODE) && rcode(ours) != FormErr && rcode(theirs) == FormErr, ours, theirs)
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
    alike(
        meta && rcode(ours) == NotImp && !is_error(query, theirs) && theirs.answers.is_empty(),
        ours,
        theirs,
    )
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
    alike(query.qclass == ANY && rcode(ours) == Refused && answered, ours, theirs)
}

pub(super) fn authority_over_chaos(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let (our, their) = (ours.metadata.authoritative, &mut theirs.metadata.authoritative);
    let occurs = query.qclass == CH && query.qtype == TXT && our && !*their;
    *their |= occurs;
    occurs
}

pub(super) fn any_of_chaos(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let answered = !is_error(query, theirs) && !theirs.answers.is_empty();
    alike(query.qclass == CH && query.qtype == ANY && rcode(ours) == Refused && answered, ours, theirs)
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

pub(super) fn name_servers(_: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let (servers, glue) = &*SERVERS_AND_GLUE;
    let answered = !ours.answers.is_empty() && ours.answers == theirs.answers;
    let more = ours.authorities != theirs.authorities || ours.additionals != theirs.additionals;
    let occurs = answered
        && more
        && ours.authorities.is_empty()
        && lower_case(&theirs.authorities).is_subset(servers)
        && lower_case(&theirs.additionals).is_subset(glue);
    if occurs {
        theirs.authorities.clone_from(&ours.authorities);
        theirs.additionals.clone_from(&ours.additionals);
    }
    occurs
}

pub(super) fn any(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let hinfo = matches!(&*ours.answers, [only] if only.ends_with(" IN HINFO RFC8482 "));
    let occurs = query.qtype == ANY && hinfo && rcode(theirs) == NoError && theirs.metadata.authoritative;
    alike(occurs, ours, theirs)
}

pub(super) fn withheld(query: &Query, ours: &mut Meaning, theirs: &mut Meaning) -> bool {
    let name = Name::from_ascii(within("withheld")).expect("the zone has the name");
    let asked = query.qname.as_ref().is_some_and(|qname| qname.eq_ignore_root(&name));
    alike(asked && rcode(ours) == Refused && !theirs.answers.is_empty(), ours, theirs)
}

/// Where the whole answer is another, nothing is left to compare.
fn alike(occurs: bool, ours: &Meaning, theirs: &mut Meaning) -> bool {
    if occurs {
        theirs.clone_from(ours);
    }
    occurs
}

fn rcode(answer: &Meaning) -> ResponseCode {
    answer.metadata.response_code
}

/// To what is no query there is nothing but errors.
fn is_error(query: &Query, answer: &Meaning) -> bool {
    query.opcode() != QUERY || !matches!(rcode(answer), NoError | NXDomain)
}

/// One question, and nothing or one record behind it.
fn has_plain_counts(query: &Query) -> bool {
    matches!(query.counts, [1, 0, 0, 0 | 1])
}

fn lower_case(records: &[String]) -> BTreeSet<String> {
    records.iter().map(|record| record.to_lowercase()).collect()
}

/// The zone's NS set and the servers' addresses, in lower case.
static SERVERS_AND_GLUE: LazyLock<(BTreeSet<String>, BTreeSet<String>)> = LazyLock::new(|| {
    let zone = zone_with_name_servers(NAME_SERVERS);
    let texts = |records: &[Record]| records.iter().map(|record| record.to_string().to_lowercase()).collect();
    match zone.lookup(zone.apex(), RecordType::NS, 0) {
        Lookup::Found { answers, additionals } => (texts(&answers), texts(&additionals)),
        other => panic!("the zone has no name servers: {other:?}"),
    }
});
