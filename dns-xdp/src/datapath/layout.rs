//! Lays a zone out as the kernel's table, with every name in the only slot that it may have.
//!
//! `perfect_hash` finds the slots. If a seed gives none, the next seed is tried. A zone with the same names as before
//! keeps their slots, so that a failover does not wait for the search.
use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use dns_xdp_ebpf::table::{
    self, BUCKETS, NameEntry, NameOverflow, NameWords, SOA_MAX, Slot, Types, ZoneHeader,
};
use hickory_proto::rr::{Name, RData, RecordType};

use super::perfect_hash;
use crate::config::Capacity;
use crate::records::{is_wildcard, wire};
use crate::zone::{Addresses, Zone};

/// The most seeds that are tried before a zone counts as too large.
const SEEDS_MAX: u64 = 32;

/// A zone laid out for one bank of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The hash that maps names to slots of the bank.
    pub perfect_hash: PerfectHash,
    /// The used slots, by their index in the bank.
    pub slots: HashMap<u32, Slot>,
    /// The chunks of large RRsets.
    pub chunks: Vec<NameOverflow>,
}

impl Layout {
    /// Makes the layout of a bank without names.
    pub fn empty() -> Self {
        Layout { perfect_hash: PerfectHash::new(0), slots: HashMap::new(), chunks: Vec::new() }
    }
}

/// A perfect hash: maps a name to the index of its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerfectHash {
    /// The seed of the hashes.
    pub seed: u64,
    /// The displacement of each bucket.
    pub displacements: Vec<u16>,
}

impl PerfectHash {
    /// Makes a hash without displacements.
    pub fn new(seed: u64) -> Self {
        PerfectHash { seed, displacements: vec![0; BUCKETS] }
    }

    /// Returns the index of a name's slot in a bank of `bank_slots`.
    fn index(&self, slot: &Slot, bank_slots: u32) -> u32 {
        let hash = self.hash(slot);
        table::slot(hash, self.displacements[table::bucket(hash, BUCKETS)], bank_slots)
    }

    fn hash(&self, slot: &Slot) -> u64 {
        table::hash(self.seed, &slot.name(), slot.entry.length)
    }
}

/// Returns the slots in one bank of the table for this many names. At most 4/5 are used, so that the search soon finds
/// a free slot.
pub fn bank_slots(capacity: u32) -> u32 {
    capacity.div_ceil(4) * 5
}

/// The smallest capacity of a table that grows.
const GROWS_FROM: u32 = 4096;

/// Returns the capacity of a growing table that has room for this many names.
pub fn grown(names: usize) -> u32 {
    let names = u32::try_from(names).unwrap_or(u32::MAX).clamp(GROWS_FROM, Capacity::MAX);
    names.next_power_of_two()
}

/// Returns how many names a bank holds.
pub fn capacity(bank_slots: u32) -> u32 {
    bank_slots / 5 * 4
}

/// Lays the zone's names out over `bank_slots` slots. Keeps the previous zone's hash if it fits; otherwise keeps the
/// seed of that hash if possible.
///
/// # Errors
/// The number of names, if they do not fit.
pub fn lay_out(zone: &Zone, bank_slots: u32, before: &PerfectHash) -> Result<Layout, usize> {
    let mut chunks = Chunks { all: Vec::new(), room: table::chunk_room(bank_slots) as usize };
    let names = zone.names();
    let slots: Vec<Slot> = names.map(|(name, addresses)| slot(zone, name, addresses, &mut chunks)).collect();
    let chunks = chunks.all;
    if slots.len() > capacity(bank_slots) as usize {
        return Err(slots.len());
    }
    let layout = |(perfect_hash, mut slots)| {
        link_wildcards(zone, &perfect_hash, bank_slots, &mut slots);
        Layout { perfect_hash, slots, chunks }
    };
    if let Some(kept) = put(&slots, bank_slots, before.clone()) {
        return Ok(layout(kept));
    }
    let mut seeds = (0..SEEDS_MAX).map(|nth| before.seed.wrapping_add(nth));
    let found = seeds.find_map(|seed| put(&slots, bank_slots, search(&slots, bank_slots, seed)?));
    found.map(layout).ok_or(slots.len())
}

/// Tells the name above each wildcard where the wildcard is.
fn link_wildcards(zone: &Zone, hash: &PerfectHash, bank_slots: u32, slots: &mut HashMap<u32, Slot>) {
    if !zone.has_wildcard() {
        return;
    }
    let index = |name: &Name| {
        let (words, length) = words(name);
        hash.index(&Slot::new(&words, length, 0, 0), bank_slots)
    };
    for (name, _) in zone.names().filter(|(name, _)| is_wildcard(name)) {
        if let Some(above) = slots.get_mut(&index(&name.base_name())) {
            above.entry.flags |= NameEntry::ABOVE_WILDCARD;
            above.overflow.wildcard = index(name);
        }
    }
}

/// Puts every name in its slot; `None` if two names have the same slot.
fn put(
    slots: &[Slot],
    bank_slots: u32,
    perfect_hash: PerfectHash,
) -> Option<(PerfectHash, HashMap<u32, Slot>)> {
    let mut taken = HashMap::with_capacity(slots.len());
    let free = slots.iter().all(|slot| taken.insert(perfect_hash.index(slot, bank_slots), *slot).is_none());
    free.then_some((perfect_hash, taken))
}

/// Searches for a hash that gives every name a slot of its own; `None` if this seed has none.
fn search(slots: &[Slot], bank_slots: u32, seed: u64) -> Option<PerfectHash> {
    let perfect_hash = PerfectHash::new(seed);
    let hashes = slots.iter().map(|slot| perfect_hash.hash(slot));
    let displacements = perfect_hash::displacements(hashes, BUCKETS, bank_slots)?;
    Some(PerfectHash { displacements, ..perfect_hash })
}

/// Returns the slot of one name. Answers that it cannot hold are left to the responder.
fn slot(zone: &Zone, name: &Name, addresses: &Addresses, chunks: &mut Chunks) -> Slot {
    let (words, length) = words(name);
    let rotate = if addresses.rotate { NameEntry::ROTATE } else { 0 };
    let mut slot = Slot::new(&words, length, rotate, addresses.ttl_seconds);
    let ipv4: Vec<[u8; 4]> = addresses.ipv4.iter().map(Ipv4Addr::octets).collect();
    let ipv6: Vec<[u8; 16]> = addresses.ipv6.iter().map(Ipv6Addr::octets).collect();
    let members = table::Addresses { ipv4: &ipv4, ipv6: &ipv6, most: addresses.answers_max };
    // The program has the SOA record of the zone's own apex only.
    let is_further = !zone.apex().zone_of(name);
    slot.entry.types = if is_further { Types::ALL } else { zone.records().types(name) };
    // The program follows no CNAME record. It has one SOA record, with the zone's negative TTL.
    let is_reserved = addresses.refused
        || addresses.nodata_ttl_seconds.is_some()
        || zone.records().set(name, RecordType::CNAME).is_some();
    if is_reserved || !slot.set_members(&members, chunks.all.len() as u32) || !chunks.add(members) {
        return Slot::new(&words, length, NameEntry::RESERVED, 0);
    }
    slot
}

/// The chunks of a bank.
struct Chunks {
    all: Vec<NameOverflow>,
    room: usize,
}

impl Chunks {
    /// Appends the chunks of these addresses; `false` if there is no room for them.
    fn add(&mut self, members: table::Addresses<'_>) -> bool {
        let chunks = members.chunks();
        let fits = self.all.len() + chunks.len() <= self.room;
        if fits {
            self.all.extend(chunks);
        }
        fits
    }
}

/// Returns the head of a zone that is laid out in the bank at `bank_start`.
pub fn head(zone: &Zone, layout: &Layout, bank_start: u32, bank_slots: u32) -> ZoneHeader {
    let (apex, length) = words(zone.apex());
    let mut head =
        ZoneHeader::new(layout.perfect_hash.seed, bank_start, bank_slots, &apex, length, &soa(zone));
    head.has_wildcard = u16::from(zone.has_wildcard());
    head.flood_policy = *zone.flood_policy();
    head.displacements.copy_from_slice(&layout.perfect_hash.displacements);
    head
}

/// Returns the SOA record of negative answers, with two zeros for its owner; empty if the head cannot hold it.
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

#[cfg(test)]
mod tests {
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
    fn every_name_lies_in_the_slot_that_the_head_gives() {
        for count in [1, 2, 100, 4096] {
            let bank_slots = bank_slots(count);
            let layout = lay_out(&zone(count, None), bank_slots, &PerfectHash::new(7)).unwrap();
            assert_eq!(layout.slots.len(), count as usize);
            let head = head(&zone(count, None), &layout, bank_slots, bank_slots);
            for (index, slot) in &layout.slots {
                let hash = layout.perfect_hash.hash(slot);
                assert_eq!(head.slot(hash), bank_slots + index);
            }
        }
    }

    #[test]
    fn the_largest_zone_fits_and_one_name_more_is_refused() {
        let bank_slots = bank_slots(65_536);
        assert!(lay_out(&zone(65_536, None), bank_slots, &PerfectHash::new(1)).is_ok());
        assert_eq!(lay_out(&zone(65_537, None), bank_slots, &PerfectHash::new(1)), Err(65_537));
    }

    #[test]
    fn a_table_that_grows_doubles_up_to_the_largest() {
        let grown = [0, 4096, 4097, 8192, 40_000, 65_536, 65_537].map(grown);
        assert_eq!(grown, [4096, 4096, 8192, 8192, 65_536, 65_536, 65_536]);
    }

    #[test]
    fn an_empty_slot_consists_of_zeros() {
        let octets = [&Slot::EMPTY.entry.to_bytes()[..], &Slot::EMPTY.overflow.to_bytes()].concat();
        assert!(octets.iter().all(|octet| *octet == 0), "a map that the kernel has made is not empty");
    }

    #[test]
    fn a_changed_address_changes_one_slot() {
        let bank_slots = bank_slots(1024);
        let before = lay_out(&zone(1000, None), bank_slots, &PerfectHash::new(3)).unwrap();
        let after = lay_out(&zone(1000, Some(500)), bank_slots, &before.perfect_hash).unwrap();
        let differing = before.slots.iter().filter(|(index, slot)| after.slots.get(index) != Some(slot));
        assert_eq!((differing.count(), after.perfect_hash), (1, before.perfect_hash));
    }

    #[test]
    fn names_that_come_and_go_find_their_places() {
        let bank_slots = bank_slots(1024);
        let mut perfect_hash = PerfectHash::new(3);
        for count in [2, 1000, 1024, 500, 1001] {
            let layout = lay_out(&zone(count, None), bank_slots, &perfect_hash).unwrap();
            assert_eq!(layout.slots.len(), count as usize);
            perfect_hash = layout.perfect_hash;
        }
    }
}
