//! The path of a query, and the only control flow. One part reads and refuses; the other writes the answer.
use crate::cookie::CookieKeys;
use crate::edns::{Edns, OPT_LENGTH};
use crate::frame::Frame;
use crate::host::{Host, Packet};
use crate::link::{Link, Version};
use crate::name::Name;
use crate::outcome::{OrRefuse, Outcome};
use crate::question::{Header, Question, qtype};
use crate::reply::{Members, Rcode, Records, Reply};
use crate::table::{ADDRESSES_MAX, FloodPolicy, NameEntry, ZoneHeader, chunk_step, first_member, turn};
use crate::verifier::{widen, widen_offset};

/// Answers the frame, or leaves it untouched. The outcome says which, and why.
#[inline(always)]
pub fn respond<P: Packet, H: Host>(packet: &mut P, host: &H) -> Outcome {
    match Link::read(packet.frame()) {
        // Each IP version has its own copy of the path. The length of its header is a constant in this copy.
        Ok(link) => match link.version {
            Version::V4 => respond_to(packet, host, link, Version::V4),
            Version::V6 => respond_to(packet, host, link, Version::V6),
        },
        Err(outcome) => outcome,
    }
}

#[inline(always)]
fn respond_to<P: Packet, H: Host>(packet: &mut P, host: &H, link: Link, version: Version) -> Outcome {
    let written = match read(packet, host, link, version) {
        // The commonest answer has its own copy of the writing code.
        Ok(reply) if let Records::One(entry) = reply.records => {
            Reply { records: Records::One(entry), ..reply }.write(packet)
        }
        Ok(reply) => reply.write(packet),
        Err(outcome) => Err(outcome),
    };
    match written {
        Ok(outcome) => outcome,
        Err(outcome) => pass_up(packet, host, link.of_version(version), outcome),
    }
}

/// Returns the outcome of a frame that goes up. A query for the responder is dropped above the limit.
#[inline(always)]
fn pass_up<P: Packet, H: Host>(packet: &P, host: &H, link: Link, outcome: Outcome) -> Outcome {
    let outcome = outcome.widened(link.unknown());
    if !outcome.is_for_the_responder() {
        return outcome;
    }
    let Some(ZoneHeader { flood_policy, .. }) = host.head() else { return outcome };
    if flood_policy.fallback.interval == 0 {
        return outcome;
    }
    let prefix = flood_policy.prefix(link.source(packet).unwrap_or_default());
    if host.admit_fallback(prefix, flood_policy) { outcome } else { Outcome::FallbackLimited }
}

/// Reads the headers from the link on. Ends at the first thing that it does not understand. Writes nothing.
#[inline(always)]
fn read<'h, P: Packet, H: Host>(
    packet: &P,
    host: &'h H,
    link: Link,
    version: Version,
) -> Result<Reply<'h>, Outcome> {
    let datagram = link.datagram(packet, host, version)?;
    // Reload the packet pointers in each reader; otherwise the verifier forks a state for every name length.
    let frame = || datagram.frame(packet);
    let header = Header::read(frame(), &datagram)?;
    if !host.lease_lives() {
        return Outcome::LeaseExpired.refuse();
    }
    let head = host.head().or_refuse(Outcome::NoZone)?;
    let question = Question::read(frame, &datagram, head.seed)?;
    let cookie_option = if H::GUARDED { head.flood_policy.cookie_option } else { FloodPolicy::NO_OPTION };
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
            let (secrets, count) = (&head.flood_policy.secrets, head.flood_policy.secret_count);
            let keys = || CookieKeys { secrets, count, now: host.seconds() };
            edns.verify_or_renew(frame(), options, cookie_option, keys, || datagram.source(frame()))?;
        }
    }
    let edns = edns.merge_verifier_states::<H>(question.type_class.into());
    let slot = head.slot(question.name.hash);
    let entry = host.entry(slot).or_refuse(Outcome::NoZone)?;
    let (records, name_sum) = 'found: {
        let (entry, slot, sum) = match question.name.sum_if_equal(frame(), entry, || host.overflow(slot)) {
            Some(sum) => (entry, slot, sum),
            None => {
                // The sum comes first; otherwise the verifier follows it once for each way through the labels.
                let sum = question.name.sum(frame()).or_refuse(Outcome::Name)?;
                let source = source(host, head, frame, &question.name, datagram.end);
                if let Source::Wildcard(entry, slot) = source {
                    (entry, slot, sum)
                } else {
                    // A name whose source is known needs no check. With it, the verifier follows the rest once.
                    question.name.below(frame(), &head.apex, usize::from(head.apex_length))?;
                    let goes_up = matches!(source, Source::Unknown);
                    break 'found (negative(head, Rcode::NxDomain, goes_up)?, sum);
                }
            }
        };
        let turn = || {
            let (port, address) = (datagram.source_port(frame())?, datagram.source(frame())?);
            Some(turn(u16::from_be(header.id), port, address))
        };
        (entry_records(host, head, entry, slot, question.qtype, turn)?, sum)
    };
    let reply = Reply { datagram, header, question, name_sum, edns, records }.fitted();
    if !H::GUARDED || head.flood_policy.answers.interval == 0 || edns.cookie_valid {
        return Ok(reply);
    }
    let address = datagram.source(frame()).or_refuse(Outcome::Length)?;
    if limited(host, &head.flood_policy, address)? {
        return Ok(Reply { records: reply.records.truncated(Outcome::Slipped), ..reply });
    }
    Ok(reply)
}

/// The source of the answer about a name that the table does not have (RFC 4592, section 3.3.1).
#[derive(Debug, Clone, Copy)]
enum Source<'h> {
    /// This wildcard and its slot.
    Wildcard(&'h NameEntry, u32),
    /// No name: the name above exists and has no wildcard, so this one does not exist.
    None,
    /// The program does not know.
    Unknown,
}

/// Returns the source of the answer about a name that the table does not have. Goes up by one label: if that name does
/// not exist either, the source is unknown.
#[inline(always)]
fn source<'h, 'f, H: Host>(
    host: &'h H,
    head: &ZoneHeader,
    frame: impl Fn() -> Frame<'f>,
    name: &Name,
    message_end: usize,
) -> Source<'h> {
    if head.has_wildcard == 0 {
        return Source::None;
    }
    if !H::WILDCARDS {
        return Source::Unknown;
    }
    let Some(above) = name.above(frame(), message_end, head.seed) else { return Source::Unknown };
    let slot = head.slot(above.hash);
    let Some(entry) = host.entry(slot) else { return Source::Unknown };
    if !above.is(frame(), entry, || host.overflow(slot)) {
        return Source::Unknown;
    }
    if entry.flags & NameEntry::ABOVE_WILDCARD == 0 {
        return Source::None;
    }
    let Some(overflow) = host.overflow(slot) else { return Source::Unknown };
    let slot = head.bank_start + overflow.wildcard;
    host.entry(slot).map_or(Source::Unknown, |entry| Source::Wildcard(entry, slot))
}

/// Applies the limit on answers. Returns whether the answer slips (goes out truncated); refuses it as
/// [`Outcome::RateLimited`] if the client gets none.
#[inline(always)]
fn limited<H: Host>(host: &H, flood_policy: &FloodPolicy, address: [u64; 2]) -> Result<bool, Outcome> {
    if flood_policy.exempts(address) || host.admit(flood_policy.prefix(address), &flood_policy.answers) {
        return Ok(false);
    }
    if flood_policy.slip == 0 || !host.random().is_multiple_of(flood_policy.slip) {
        return Outcome::RateLimited.refuse();
    }
    Ok(true)
}

/// Returns the records of a name that exists.
#[inline(always)]
fn entry_records<'h, H: Host>(
    host: &'h H,
    head: &'h ZoneHeader,
    entry: &'h NameEntry,
    slot: u32,
    qtype: u16,
    turn: impl Fn() -> Option<u32>,
) -> Result<Records<'h>, Outcome> {
    if entry.flags & NameEntry::RESERVED != 0 {
        return Outcome::Reserved.refuse();
    }
    let members = |family| members(host, head, entry, slot, family, &turn).or_refuse(Outcome::NoZone);
    match (qtype, entry.ipv4_count, entry.ipv6_count) {
        (qtype::A, 1, _) if entry.ipv4 != 0 => Ok(Records::One(entry)),
        (qtype::A, 1.., _) => Ok(Records::A(entry, members(Version::V4)?)),
        (qtype::AAAA, _, 1..) => Ok(Records::Aaaa(entry, members(Version::V6)?)),
        _ => negative(head, Rcode::NoError, entry.types.may_have(qtype)),
    }
}

/// Returns where the answer's addresses of a family are. `turn` selects the first of them.
#[inline(always)]
fn members<'h, H: Host>(
    host: &'h H,
    head: &ZoneHeader,
    entry: &NameEntry,
    slot: u32,
    family: Version,
    turn: impl Fn() -> Option<u32>,
) -> Option<Members<'h>> {
    let overflow = host.overflow(slot)?;
    let (count, members) = match family {
        Version::V4 => (entry.ipv4_count, usize::from(overflow.ipv4_members)),
        Version::V6 => (entry.ipv6_count, usize::from(overflow.ipv6_members)),
    };
    let first = if entry.flags & NameEntry::ROTATE == 0 { 0 } else { first_member(turn()?, members) };
    // The index is widened, so that the verifier follows one answer for all names.
    let first = widen(first as u64, entry.ttl.into()) as usize;
    if members <= ADDRESSES_MAX {
        return Some(Members { overflow, index: first, end: widen_offset(members, entry.ttl.into()) });
    }
    let step = chunk_step(count);
    let first = first as u32;
    let overflow = host.overflow(head.chunks + overflow.chunks + first / step)?;
    let index = widen_offset((first % step) as usize, entry.ttl.into());
    Some(Members { overflow, index, end: widen_offset(ADDRESSES_MAX, entry.ttl.into()) })
}

/// Returns the SOA record of a negative answer. Refuses the query if the zone's SOA does not fit, or if it `goes_up`.
#[inline(always)]
fn negative(head: &ZoneHeader, rcode: Rcode, goes_up: bool) -> Result<Records<'_>, Outcome> {
    // One branch for both reasons. With 2 branches the verifier follows the rest of the program once more for each.
    if (head.soa_length == 0) | goes_up { Outcome::Reserved.refuse() } else { Ok(Records::Soa(head, rcode)) }
}
