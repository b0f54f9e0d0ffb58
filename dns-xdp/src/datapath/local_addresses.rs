//! Lays the served addresses out as the program's table.
use std::collections::{BTreeSet, HashMap};
use std::mem::offset_of;

use dns_xdp_ebpf::table::{
    self, LOCAL_ADDRESSES_BUCKETS, LOCAL_ADDRESSES_SLOTS, Local, LocalAddresses, Tags,
};

use super::perfect_hash;
use crate::network::{Place, VlanProtocol, VlanTag};

/// The most addresses on interfaces in the table: half of its slots, so that the search soon finds a free slot.
pub(super) const LOCALS_MAX: usize = LOCAL_ADDRESSES_SLOTS / 2;
/// The most seeds that are tried. The first one works, unless two addresses have the same hash.
const SEEDS_MAX: u64 = 32;

/// The octets of a [`LocalAddresses`].
pub(super) type LocalAddressesBytes = [u8; size_of::<LocalAddresses>()];

/// The served addresses, each in its slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddressesLayout {
    seed: u64,
    displacements: Vec<u16>,
    /// The used slots.
    slots: HashMap<usize, Local>,
}

/// Returns the table's entry for an address on an interface.
pub fn local(place: &Place, is_generic: bool) -> Local {
    Local::new(place.interface, tags(&place.tags), place.address, place.mac, is_generic)
}

fn tags(tags: &[VlanTag]) -> Tags {
    let with = |tags: Tags, tag: &VlanTag| tags.with(tag.protocol == VlanProtocol::Dot1Ad, tag.id);
    tags.iter().take(Tags::MAX).fold(Tags::NONE, with)
}

impl LocalAddressesLayout {
    /// Lays these addresses out. Leaves out addresses beyond `LOCALS_MAX`, and addresses with the key of an earlier
    /// address.
    pub fn new(locals: &[Local]) -> LocalAddressesLayout {
        let mut keys = BTreeSet::new();
        let mut distinct: Vec<&Local> = locals
            .iter()
            .filter(|local| keys.insert((local.interface, local.tags.0, local.address)))
            .collect();
        distinct.truncate(LOCALS_MAX);
        loop {
            // If no seed works for all addresses, the program serves fewer. The responder serves the others.
            if let Some(layout) =
                (0..SEEDS_MAX).find_map(|seed| LocalAddressesLayout::with_seed(seed, &distinct))
            {
                return layout;
            }
            distinct.pop();
        }
    }

    /// Lays the addresses out with this seed; `None`: two addresses have the same hash.
    fn with_seed(seed: u64, locals: &[&Local]) -> Option<LocalAddressesLayout> {
        let hashes = locals.iter().map(|local| Local::hash(seed, local.interface, local.tags, local.address));
        let displacements =
            perfect_hash::displacements(hashes, LOCAL_ADDRESSES_BUCKETS, LOCAL_ADDRESSES_SLOTS as u32)?;
        let mut layout = LocalAddressesLayout { seed, displacements, slots: HashMap::new() };
        layout.slots = locals
            .iter()
            .map(|local| (layout.slot(local.interface, local.tags, local.address), **local))
            .collect();
        Some(layout)
    }

    /// Returns how many addresses it holds.
    pub(super) fn held(&self) -> usize {
        self.slots.len()
    }

    fn slot(&self, interface: u32, tags: Tags, address: [u64; 2]) -> usize {
        let hash = Local::hash(self.seed, interface, tags, address);
        let displacement = self.displacements[table::bucket(hash, LOCAL_ADDRESSES_BUCKETS)];
        table::slot(hash, displacement, LOCAL_ADDRESSES_SLOTS as u32) as usize
    }

    /// Returns the contents of the slot of an address on an interface, as [`LocalAddresses::in_slot`] finds it.
    pub fn in_slot(&self, interface: u32, tags: Tags, address: [u64; 2]) -> &Local {
        self.slots.get(&self.slot(interface, tags, address)).unwrap_or(&Local::EMPTY)
    }

    /// Returns the table as the map holds it.
    pub(super) fn to_bytes(&self) -> Box<LocalAddressesBytes> {
        let mut octets: Box<LocalAddressesBytes> = bytes();
        let mut put = |at: usize, value: &[u8]| octets[at..at + value.len()].copy_from_slice(value);
        put(offset_of!(LocalAddresses, seed), &self.seed.to_ne_bytes());
        for (bucket, displacement) in self.displacements.iter().enumerate() {
            let at = offset_of!(LocalAddresses, displacements) + bucket * size_of::<u16>();
            put(at, &displacement.to_ne_bytes());
        }
        for (slot, local) in &self.slots {
            put(offset_of!(LocalAddresses, slots) + slot * size_of::<Local>(), &local.to_bytes());
        }
        octets
    }
}

fn bytes() -> Box<LocalAddressesBytes> {
    let octets = vec![0; size_of::<LocalAddresses>()].into_boxed_slice();
    octets.try_into().unwrap_or_else(|_| unreachable!("the slice is as long as the array"))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn locals(count: u32) -> Vec<Local> {
        let address = |nth| IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + nth));
        (0..count).map(|nth| Local::new(1 + nth % 7, Tags::NONE, address(nth), [2; 6], false)).collect()
    }

    fn is_in(layout: &LocalAddressesLayout, local: &Local) -> bool {
        layout.in_slot(local.interface, local.tags, local.address) == local
    }

    #[test]
    fn every_address_lies_in_its_slot() {
        for count in [0, 1, 33, 256, LOCALS_MAX as u32] {
            let locals = locals(count);
            let layout = LocalAddressesLayout::new(&locals);
            assert_eq!(layout.held(), locals.len());
            assert!(locals.iter().all(|local| is_in(&layout, local)), "{count}");
        }
    }

    #[test]
    fn addresses_that_differ_as_their_interfaces_do_have_slots_of_their_own() {
        let address = |first: u32| IpAddr::V4(Ipv4Addr::from_bits(first << 24 | 1));
        let on = |first: u32| {
            (1..=32).map(move |interface| Local::new(interface, Tags::NONE, address(first), [2; 6], false))
        };
        let locals: Vec<Local> = (1..=64).flat_map(on).collect();
        let layout = LocalAddressesLayout::new(&locals);
        assert_eq!((layout.held(), locals.len()), (LOCALS_MAX, LOCALS_MAX));
    }

    #[test]
    fn the_map_holds_what_was_laid_out() {
        let locals = locals(300);
        let layout = LocalAddressesLayout::new(&locals);
        let octets = layout.to_bytes();
        assert_eq!(octets.first_chunk().copied().map(u64::from_ne_bytes), Some(layout.seed));
        for local in &locals {
            let slot = layout.slot(local.interface, local.tags, local.address);
            let at = offset_of!(LocalAddresses, slots) + slot * size_of::<Local>();
            assert_eq!(octets[at..at + size_of::<Local>()], local.to_bytes());
        }
        for (bucket, displacement) in layout.displacements.iter().enumerate() {
            let at = offset_of!(LocalAddresses, displacements) + 2 * bucket;
            assert_eq!(octets[at..at + 2], displacement.to_ne_bytes());
        }
    }

    #[test]
    fn the_same_address_twice_is_in_the_table_once() {
        let twice = [locals(3), locals(3)].concat();
        assert_eq!(LocalAddressesLayout::new(&twice).held(), 3);
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let layout = LocalAddressesLayout::new(&locals(LOCALS_MAX as u32 + 9));
        assert!(layout.held() == LOCALS_MAX && is_in(&layout, &locals(1)[0]));
    }

    #[test]
    fn tags_are_told_apart_by_id_kind_and_place() {
        let tag = |protocol, id| VlanTag { protocol, id };
        let (plain, service) = (tag(VlanProtocol::Dot1Q, 5), tag(VlanProtocol::Dot1Ad, 5));
        let other = tag(VlanProtocol::Dot1Q, 6);
        let all =
            [vec![], vec![plain], vec![service], vec![other], vec![service, plain], vec![plain, service]];
        let all: BTreeSet<u32> = all.iter().map(|each| tags(each).0).collect();
        assert_eq!(all.len(), 6);
    }
}
