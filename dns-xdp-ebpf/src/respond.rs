//! The path of a query: the only control flow. A reading half that refuses, and a writing half that answers.
use crate::edns::Edns;
use crate::host::Host;
use crate::link::{Link, Version};
use crate::outcome::{OrRefuse, Outcome};
use crate::question::{Header, Question, qtype};
use crate::reply::{Rcode, Records, Reply};
use crate::table::{Entry, Head, More};

/// Answers the frame, or leaves it untouched; the outcome says which, and why.
#[inline(always)]
pub fn respond<H: Host>(host: &H) -> Outcome {
    match Link::read(host.frame()) {
        // Each version has the path for itself, in which the length of its header is a constant.
        Ok(link) => match link.version {
            Version::V4 => respond_to(host, link, Version::V4),
            Version::V6 => respond_to(host, link, Version::V6),
        },
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn respond_to<H: Host>(host: &H, link: Link, version: Version) -> Outcome {
    match read(host, link, version) {
        // The commonest answer has the writing half for itself.
        Ok(reply) if let Records::One(entry) = reply.records => {
            Reply { records: Records::One(entry), ..reply }.write(host)
        }
        Ok(reply) => reply.write(host),
        Err(outcome) => outcome,
    }
}

/// Reads inward from the link; the first thing that is not understood ends it. Writes nothing.
#[inline(always)]
fn read<H: Host>(host: &H, link: Link, version: Version) -> Result<Reply<'_>, Outcome> {
    let datagram = link.datagram(host, version)?;
    // Another for each that reads, or the verifier goes on with what it learns of the frame from each length of a name.
    let frame = || datagram.frame(host);
    let header = Header::read(frame(), &datagram)?;
    if !host.lease_lives() {
        return Outcome::LeaseExpired.refuse();
    }
    let head = host.head().or_refuse(Outcome::NoZone)?;
    let question = Question::read(frame, &datagram, head.seed)?;
    let edns = if header.additional {
        Edns::read(frame(), question.end(), datagram.end)?
    } else if question.end() == datagram.end {
        Edns::NONE
    } else {
        return Outcome::Trailing.refuse();
    };
    let slot = head.slot(question.name.hash);
    let entry = host.entry(slot).or_refuse(Outcome::NoZone)?;
    let (records, name_sum) = match question.name.sum_as(frame(), entry, || host.more(slot)) {
        Some(sum) => (entry_records(head, entry, || host.more(slot), question.qtype)?, sum),
        None => {
            // First, or the verifier follows it once for each way through the labels.
            let sum = question.name.sum(frame()).or_refuse(Outcome::Name)?;
            question.name.below(frame(), &head.apex, usize::from(head.apex_length))?;
            (negative(head, Rcode::NxDomain)?, sum)
        }
    };
    Ok(Reply { datagram, header, question, name_sum, edns, records }.fitted())
}

/// The records of a name that exists.
#[inline(always)]
fn entry_records<'t>(
    head: &'t Head,
    entry: &'t Entry,
    more: impl Fn() -> Option<&'t More>,
    qtype: u16,
) -> Result<Records<'t>, Outcome> {
    if entry.flags & Entry::RESERVED != 0 {
        return Outcome::Reserved.refuse();
    }
    match (qtype, entry.ipv4_count, entry.ipv6_count) {
        (qtype::A, 1, _) => Ok(Records::One(entry)),
        (qtype::A, 2.., _) => Ok(Records::A(entry, more().or_refuse(Outcome::NoZone)?)),
        (qtype::AAAA, _, 1..) => Ok(Records::Aaaa(entry, more().or_refuse(Outcome::NoZone)?)),
        _ => negative(head, Rcode::NoError),
    }
}

#[inline(always)]
fn negative(head: &Head, rcode: Rcode) -> Result<Records<'_>, Outcome> {
    if head.soa_length == 0 { Outcome::Reserved.refuse() } else { Ok(Records::Soa(head, rcode)) }
}
