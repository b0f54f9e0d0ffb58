//! Zones of every shape: apexes and SOA records of every length, names of every kind, with cookies and without.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use dns_xdp::records::{RecordSet, Records, absolute, data, record_type};
use dns_xdp::zone::{Addresses, FurtherApex, Origin, Zone};
use dns_xdp_ebpf::cookie::Secret;
use dns_xdp_ebpf::table::{FloodPolicy, SOA_MAX};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};

use crate::oracle::table::zone::COOKIES;
use crate::rng::Rng;

/// Octets of the longest name, its final zero among them (RFC 1035, section 2.3.4).
pub const NAME_MAX: usize = 255;
/// Octets of the SOA record of a negative answer besides its names: a pointer, type, class, TTL, length and five
/// numbers.
pub const SOA_REST: usize = 32;
/// The numbers of addresses of one family that a name has.
const COUNTS: [usize; 12] = [0, 1, 1, 1, 2, 3, 16, 16, 16, 16, 17, 100];
/// One name in [`RARELY`] has this many addresses: more than [`Frame::MAX_LENGTH`](dns_xdp_ebpf::frame::Frame::MAX_LENGTH).
const LARGE: usize = 3000;
const RARELY: usize = 40;
/// The limits of addresses of one family in an answer.
const ANSWERS_MAX: [usize; 6] = [1, 2, 8, 16, 16, usize::MAX];
/// The octets of apexes. All other names also have octets that differ from a letter only by the case bit.
const LETTERS_OF_APEX: &[u8] = b"abcdefghijklmnopqrstuvwxyz-0123456789";
const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz-0123456789_`{|}~";

/// Returns a random zone whose apex has `apex_octets` octets in wire form, from 1 to 255.
pub fn zone(rng: &mut Rng, apex_octets: usize) -> Zone {
    made_of(rng, apex_octets, |_| true)
}

/// The same without features that a zone file cannot have: names without an address, and cookies.
pub fn zone_of_file(rng: &mut Rng, apex_octets: usize) -> Zone {
    made_of(rng, apex_octets, |addresses| addresses.iter().next().is_some()).guarded(FloodPolicy::NONE)
}

/// `holds`: whether the zone has a name with these addresses.
fn made_of(rng: &mut Rng, apex_octets: usize, holds: fn(&Addresses) -> bool) -> Zone {
    let apex = random_name(rng, apex_octets, LETTERS_OF_APEX);
    let name_server = prefixed(b"ns1", &apex).unwrap_or_else(|| apex.clone());
    let origin = Origin {
        contact: contact(rng, wire(&name_server).len()),
        serial: rng.next_number() as u32,
        ns_ttl_seconds: 60,
        negative_ttl_seconds: rng.number().into(),
        name_servers: vec![name_server.clone()],
        apex: apex.clone(),
    };
    let mut names = vec![apex.clone(), name_server];
    names.extend((0..8).filter_map(|_| within(rng, &apex)));
    names.extend(repeated(&apex));
    let addressed = names.into_iter().map(|name| (name, addresses(rng)));
    let addressed: Vec<(Name, Addresses)> = addressed.filter(|(_, addresses)| holds(addresses)).collect();
    let mut flood_policy = FloodPolicy::NONE;
    if rng.below(2) == 0 {
        flood_policy.set_secrets(&COOKIES.1.map(|secret| Secret::new(secret.to_be_bytes())));
    }
    flood_policy.set_prefixes(24, 56);
    let mut records = records(rng, &apex, &addressed);
    let (further, of_further) = further(rng, &apex, holds).unzip();
    let of_further: Vec<(Name, Addresses)> = of_further.unwrap_or_default();
    if let Some(FurtherApex { apex, .. }) = &further {
        records.extend(self::records(rng, apex, &of_further));
    }
    Zone::with_further(origin, further, addressed.into_iter().chain(of_further))
        .with_records(Arc::new(Records::new(records)))
        .guarded(flood_policy)
}

/// One zone in [`WITH_FURTHER`] has a further apex: a suffix that is a zone of its own.
const WITH_FURTHER: usize = 3;

/// A further apex with its names; `None`: the zone has none, or the random apex is above or below the zone's.
fn further(
    rng: &mut Rng,
    apex: &Name,
    holds: fn(&Addresses) -> bool,
) -> Option<(FurtherApex, Vec<(Name, Addresses)>)> {
    if rng.below(WITH_FURTHER) != 0 {
        return None;
    }
    let octets = 3 + rng.below(60);
    let further = random_name(rng, octets, LETTERS_OF_APEX);
    if apex.zone_of(&further) || further.zone_of(apex) {
        return None;
    }
    let name_server = prefixed(b"ns1", &further)?;
    let mut names = vec![further.clone(), name_server.clone()];
    names.extend((0..4).filter_map(|_| within(rng, &further)));
    let addressed = names.into_iter().map(|name| (name, addresses(rng)));
    let addressed = addressed.filter(|(_, addresses)| holds(addresses)).collect();
    Some((FurtherApex { apex: further, name_servers: vec![name_server] }, addressed))
}

/// Types and data of random records; `@` stands for the name of the target.
const DATA: [(&str, &str); 9] = [
    ("TXT", "\"one\" \"two;\\255\""),
    ("TXT", "x"),
    ("MX", "10 @"),
    ("SRV", "1 2 3 @"),
    ("CAA", "0 issue ca.example"),
    ("HTTPS", "1 @ alpn=h2 port=8443"),
    ("PTR", "@"),
    ("SSHFP", "1 1 00ff"),
    ("TYPE65280", "\\# 2 00ff"),
];

/// Records at some names with addresses and at names of their own, among them aliases and wildcards.
fn records(rng: &mut Rng, apex: &Name, addressed: &[(Name, Addresses)]) -> Vec<RecordSet> {
    let mut sets: Vec<RecordSet> = Vec::new();
    // The answer about another target would differ from that of a server with the zone file.
    let is_plain = |addresses: &Addresses| {
        let most = addresses.ipv4.len().max(addresses.ipv6.len());
        !addresses.refused && addresses.nodata_ttl_seconds.is_none() && most <= addresses.answers_max.min(16)
    };
    let targets: Vec<&Name> =
        addressed.iter().filter(|(_, addresses)| is_plain(addresses)).map(|(name, _)| name).collect();
    let foreign = Name::from_ascii("www.foreign.test.").expect("a name");
    let target = |rng: &mut Rng| match targets.get(rng.below(targets.len() + 1)) {
        Some(target) => (*target).clone(),
        None => foreign.clone(),
    };
    let mut add = |owner: &Name, rtype: &str, text: &str| {
        let rtype = record_type(rtype).expect("the tests' types are types");
        let is_taken =
            addressed.iter().any(|(name, _)| name == owner) || sets.iter().any(|set| set.owner == *owner);
        let is_alias = rtype == RecordType::CNAME;
        let is_beside = sets
            .iter()
            .any(|set| set.owner == *owner && (set.rtype == rtype || set.rtype == RecordType::CNAME));
        if is_beside || is_alias && is_taken || is_alias && owner == apex {
            return;
        }
        let data = vec![data(rtype, text, apex).expect("the tests' data are valid")];
        sets.push(RecordSet { owner: owner.clone(), rtype, ttl_seconds: 60, data });
    };
    let mut owners: Vec<Name> = addressed.iter().map(|(name, _)| name.clone()).collect();
    owners.extend((0..4).filter_map(|_| within(rng, apex)));
    if rng.below(3) == 0 {
        let above = owners[rng.below(owners.len())].clone();
        owners.extend([apex, &above].into_iter().filter_map(|above| prefixed(b"*", above)));
    }
    // An alias comes first, because no name has other data beside it.
    for label in ["alias", "chain", "dangling"] {
        let Some(owner) = prefixed(label.as_bytes(), apex) else { continue };
        let text = match label {
            "chain" => prefixed(b"alias", apex).map(|name| absolute(&name)),
            "dangling" => prefixed(b"no-such-name", apex).map(|name| absolute(&name)),
            _ => Some(absolute(&target(rng))),
        };
        add(&owner, "CNAME", &text.unwrap_or_else(|| absolute(&foreign)));
    }
    for owner in &owners {
        if rng.below(8) == 0 {
            add(owner, "CNAME", &absolute(&target(rng)));
        }
        for _ in 0..rng.below(3) {
            let (rtype, text) = DATA[rng.below(DATA.len())];
            add(owner, rtype, &text.replace('@', &absolute(&target(rng))));
        }
        if rng.below(8) == 0 && !addressed.iter().any(|(name, _)| name == owner) {
            add(owner, "A", "203.0.113.99");
        }
    }
    sets
}

/// A mailbox of any length. In about half of the cases the SOA record is about as long as the program can hold.
fn contact(rng: &mut Rng, name_server_octets: usize) -> Name {
    let fitting = (SOA_MAX + 3).saturating_sub(SOA_REST + name_server_octets + rng.below(8));
    let octets = if rng.below(2) == 0 { fitting } else { 1 + rng.below(NAME_MAX) };
    random_name(rng, octets, LETTERS)
}

/// A name below the apex, short or as long as names can be; `None`: there is no room for one.
fn within(rng: &mut Rng, apex: &Name) -> Option<Name> {
    let room = NAME_MAX - wire(apex).len();
    let most = if rng.below(2) == 0 { room } else { room.min(20) };
    // A label has two octets at least; without one, the name is the apex.
    let octets = if rng.below(3) == 0 { most } else { rng.below(most + 1) };
    random_name(rng, octets + 1, LETTERS).append_domain(apex).ok()
}

/// Names that end twice in a suffix of the apex.
fn repeated(apex: &Name) -> Vec<Name> {
    let labels = 1..=apex.num_labels().into();
    labels.filter_map(|count| apex.trim_to(count).append_domain(apex).ok()).collect()
}

fn addresses(rng: &mut Rng) -> Addresses {
    let mut count = || if rng.below(RARELY) == 0 { LARGE } else { COUNTS[rng.below(COUNTS.len())] };
    let [ipv4, ipv6] = [count(), count()];
    let answers_max = ANSWERS_MAX[rng.below(ANSWERS_MAX.len())];
    let all_ipv4 = (0..ipv4).map(|nth| IpAddr::from(Ipv4Addr::from_bits(0xcb00_7100 + nth as u32)));
    let all_ipv6 = (0..ipv6).map(|nth| IpAddr::from(Ipv6Addr::from_bits((0x2001_0db8 << 96) + nth as u128)));
    Addresses {
        rotate: rng.below(2) == 0,
        // A larger limit would need as many elements of the kernel's table as the name has addresses.
        answers_max: if ipv4.max(ipv6) == LARGE { answers_max.min(8) } else { answers_max },
        refused: rng.below(16) == 0,
        nodata_ttl_seconds: (rng.below(16) == 0).then(|| rng.number().into()),
        ..Addresses::new(rng.next_number() as u32 >> 1, all_ipv4.chain(all_ipv6))
    }
}

/// Returns a random name of `octets` octets in wire form. No name has 2 octets; such a name gets 3.
fn random_name(rng: &mut Rng, octets: usize, letters: &[u8]) -> Name {
    let octets = if octets == 2 { 3 } else { octets.max(1) };
    let (mut wire, mut left) = (Vec::new(), octets - 1);
    while left > 0 {
        let mut label = 2 + rng.below(left.min(64) - 1);
        if left - label == 1 {
            // A label has at least one octet besides its length.
            label = if label == 64 { 63 } else { label + 1 };
        }
        wire.push((label - 1) as u8);
        let start = wire.len();
        wire.extend((1..label).map(|_| letters[rng.below(letters.len())]));
        // Names that begin with a hyphen have no text form that hickory reads.
        if wire[start] == b'-' {
            wire[start] = b'x';
        }
        left -= label;
    }
    wire.push(0);
    Name::from_bytes(&wire).expect("the labels are labels")
}

/// The name with one more label; `None`: it would be too long.
fn prefixed(label: &[u8], above: &Name) -> Option<Name> {
    above.prepend_label(label).ok()
}

/// A name in wire form.
pub fn wire(name: &Name) -> Vec<u8> {
    name.to_bytes().expect("names have a wire form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_the_apex_that_is_asked_for_and_soa_records_of_all_lengths() {
        let mut rng = Rng(1);
        let (mut lengths, mut around) = (Vec::new(), 0);
        for octets in 1..=NAME_MAX {
            let zone = zone(&mut rng, octets);
            let length = wire(zone.apex()).len();
            assert!(length == octets || octets == 2, "{octets}: {}", zone.apex());
            assert!(zone.names().len() < 512, "{}", zone.names().len());
            lengths.push(length % 8);
            around += usize::from(!zone.names().all(|(name, _)| name.num_labels() < 4));
        }
        assert!((0..8).all(|residue| lengths.contains(&residue)), "{lengths:?}");
        assert!(around > 100, "{around} zones have names of several labels");
    }
}
