//! The zone as the kernel's table: every name in one of its two slots.
//!
//! The slots are chosen by cuckoo hashing (Pagh and Rodler, 2004): a name whose slots are taken moves the name that
//! is there to that name's other slot, and so on. Below half load a seed works almost surely; if one does not, the next
//! is tried.
use std::collections::HashMap;

use dns_xdp_ebpf::table::{self, Entry, Head, NameWords, SOA_MAX};
use hickory_proto::rr::{Name, RData};

use crate::zone::{Addresses, Zone};

/// Seeds that are tried before a zone counts as too large.
const SEEDS_MAX: u64 = 32;
/// Moves that are made for one name before a seed is given up.
const MOVES_MAX: usize = 500;

/// A zone laid out for one half of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Makes the slots.
    pub seed: u64,
    /// The slots that are taken, as indexes into the half.
    pub slots: HashMap<u32, Entry>,
}

/// Slots in one half of the table for this many names: filled to four ninths, where cuckoo hashing with two choices,
/// which begins to fail at one half, does not.
pub fn half(capacity: u32) -> u32 {
    capacity.div_ceil(4) * 9
}

/// Names that a half holds.
pub fn capacity(half: u32) -> u32 {
    half / 9 * 4
}

/// Lays the zone's names out over `half` slots, with `seed` if it can be.
///
/// # Errors
/// The number of names, when they do not fit.
pub fn lay_out(zone: &Zone, half: u32, seed: u64) -> Result<Layout, usize> {
    let entries: Vec<Entry> = zone.names().map(|(name, addresses)| entry(name, addresses)).collect();
    if entries.len() > capacity(half) as usize {
        return Err(entries.len());
    }
    let mut seeds = (0..SEEDS_MAX).map(|nth| seed.wrapping_add(nth));
    let fitting = seeds.find_map(|seed| Some(Layout { seed, slots: place(&entries, half, seed)? }));
    fitting.ok_or(entries.len())
}

fn place(entries: &[Entry], half: u32, seed: u64) -> Option<HashMap<u32, Entry>> {
    let mut slots = HashMap::with_capacity(entries.len());
    for entry in entries {
        let mut homeless = *entry;
        let mut left = None;
        for moves in 0.. {
            if moves == MOVES_MAX {
                return None;
            }
            let (first, second) = table::slots(table::hash(seed, &homeless.name, homeless.length), half);
            let free = [first, second].into_iter().find(|slot| !slots.contains_key(slot));
            let slot = free.unwrap_or(if left == Some(first) { second } else { first });
            let Some(displaced) = slots.insert(slot, homeless) else { break };
            (homeless, left) = (displaced, Some(slot));
        }
    }
    Some(slots)
}

/// The kernel's answers to one name. What it cannot hold it leaves to the responder.
fn entry(name: &Name, addresses: &Addresses) -> Entry {
    let (words, length) = words(name);
    let rotate = if addresses.rotate { Entry::ROTATE } else { 0 };
    let mut entry = Entry::new(&words, length, rotate, addresses.ttl_seconds);
    let ipv4_fit = addresses.ipv4.iter().all(|address| entry.push_ipv4(address.octets()));
    let ipv6_fit = addresses.ipv6.iter().all(|address| entry.push_ipv6(address.octets()));
    if addresses.refused || !ipv4_fit || !ipv6_fit {
        return Entry::new(&words, length, Entry::RESERVED, 0);
    }
    entry
}

/// The head of a zone laid out in the half that begins at `base`.
pub fn head(zone: &Zone, seed: u64, base: u32, half: u32) -> Head {
    let (apex, length) = words(zone.apex());
    Head::new(seed, base, half, &apex, length, &soa(zone))
}

/// The SOA record of negative answers with two zeros for its owner; nothing when the head cannot hold it.
fn soa(zone: &Zone) -> Vec<u8> {
    const TYPE_SOA_CLASS_IN: [u8; 4] = [0, 6, 0, 1];
    let record = zone.soa();
    let RData::SOA(soa) = &record.data else { return Vec::new() };
    let mut rdata = [wire(&soa.mname), wire(&soa.rname)].concat();
    rdata.extend(soa.serial.to_be_bytes());
    for timer in [soa.refresh, soa.retry, soa.expire] {
        rdata.extend(timer.to_be_bytes());
    }
    rdata.extend(soa.minimum.to_be_bytes());
    let length = u16::try_from(rdata.len()).unwrap_or(u16::MAX).to_be_bytes();
    let octets = [&[0, 0], &TYPE_SOA_CLASS_IN[..], &record.ttl.to_be_bytes(), &length, &rdata].concat();
    if octets.len() > SOA_MAX { Vec::new() } else { octets }
}

fn words(name: &Name) -> (NameWords, u8) {
    table::words(&wire(name)).expect("a domain name has at most 255 octets")
}

/// A name uncompressed (RFC 1035, section 3.1).
pub fn wire(name: &Name) -> Vec<u8> {
    let mut octets = Vec::with_capacity(name.len());
    for label in name {
        octets.push(u8::try_from(label.len()).expect("a label has at most 63 octets"));
        octets.extend(label);
    }
    octets.push(0);
    octets
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::zone::Origin;

    fn zone(count: u32, changed: Option<u32>) -> Zone {
        let apex = Name::from_ascii("demo.example.com.").unwrap();
        let name = |label: String| Name::from_ascii(label).unwrap().append_domain(&apex).unwrap();
        let origin = Origin {
            apex: apex.clone(),
            contact: name("hostmaster".to_owned()),
            serial: 1,
            ns_ttl_seconds: 60,
            negative_ttl_seconds: 300,
            name_servers: vec![name("ns1".to_owned())],
        };
        let address = |i| Ipv4Addr::from_bits(if changed == Some(i) { 0xcb00_7101 } else { 0xc000_0200 + i });
        let names = (1..count).map(|i| (name(format!("node{i}")), Addresses::new(5, [address(i).into()])));
        Zone::new(origin, names)
    }

    #[test]
    fn every_name_lies_in_one_of_its_two_slots() {
        for count in [1, 2, 100, 4096] {
            let half = half(count);
            let layout = lay_out(&zone(count, None), half, 7).unwrap();
            assert_eq!(layout.slots.len(), count as usize);
            for (slot, entry) in &layout.slots {
                let hash = table::hash(layout.seed, &entry.name, entry.length);
                let (first, second) = table::slots(hash, half);
                assert!(*slot == first || *slot == second);
            }
        }
    }

    #[test]
    fn the_largest_zone_fits_and_one_name_more_is_refused() {
        let half = half(65_536);
        assert!(lay_out(&zone(65_536, None), half, 1).is_ok());
        assert_eq!(lay_out(&zone(65_537, None), half, 1), Err(65_537));
    }

    #[test]
    fn a_changed_address_changes_one_slot() {
        let before = lay_out(&zone(1000, None), half(1024), 3).unwrap();
        let after = lay_out(&zone(1000, Some(500)), half(1024), 3).unwrap();
        let differing = before.slots.iter().filter(|(slot, entry)| after.slots.get(slot) != Some(entry));
        assert_eq!(differing.count(), 1);
    }
}
