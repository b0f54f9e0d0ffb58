//! The path of a query: the only control flow. A reading half that refuses, and a writing half that answers.
use crate::cookie::Mint;
use crate::edns::{Edns, OPT_LENGTH};
use crate::host::Host;
use crate::link::{Link, Version};
use crate::outcome::{OrRefuse, Outcome};
use crate::question::{Header, Question, qtype};
use crate::reply::{Rcode, Records, Reply};
use crate::table::{Entry, Guard, Head, More};

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
        Err(outcome) if outcome.is_for_the_responder() => pass_up(host, outcome),
        Err(outcome) => outcome,
    }
}

/// A query for the responder, unless that has more than it may.
#[inline(always)]
fn pass_up<H: Host>(host: &H, outcome: Outcome) -> Outcome {
    match host.head() {
        Some(Head { guard, .. }) if guard.fallback.interval != 0 && !host.admit_fallback(&guard.fallback) => {
            Outcome::FallbackLimited
        }
        _ => outcome,
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
    let cookie_option = if H::GUARDED { head.guard.cookie_option } else { Guard::NO_OPTION };
    let mut edns = if header.additional {
        Edns::read(frame(), question.end(), datagram.end, cookie_option)?
    } else if question.end() == datagram.end {
        Edns::NONE
    } else {
        return Outcome::Trailing.refuse();
    };
    if H::GUARDED {
        let options = question.end() + OPT_LENGTH;
        if options < datagram.end {
            let (secrets, count) = (&head.guard.secrets, head.guard.secret_count);
            let mint = || Mint { secrets, count, now: host.seconds() };
            edns.examine(frame(), options, cookie_option, mint, || datagram.source(frame()))?;
        }
    }
    let edns = edns.merge_verifier_states::<H>(question.type_class.into());
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
    let reply = Reply { datagram, header, question, name_sum, edns, records }.fitted();
    if !H::GUARDED || head.guard.answers.interval == 0 || edns.genuine {
        return Ok(reply);
    }
    let address = datagram.source(frame()).or_refuse(Outcome::Length)?;
    if limited(host, &head.guard, address)? {
        return Ok(Reply { records: Records::Truncated(Outcome::Slipped), ..reply });
    }
    Ok(reply)
}

/// Whether the answer to a client slips; it may be none at all, for its prefix may have only so many.
#[inline(always)]
fn limited<H: Host>(host: &H, guard: &Guard, address: [u64; 2]) -> Result<bool, Outcome> {
    if host.admit(guard.prefix(address), &guard.answers) || guard.exempts(address) {
        return Ok(false);
    }
    if guard.slip == 0 || !host.random().is_multiple_of(guard.slip) {
        return Outcome::RateLimited.refuse();
    }
    Ok(true)
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
