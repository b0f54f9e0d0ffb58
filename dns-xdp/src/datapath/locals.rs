//! The served addresses as the program's table of them.
use std::collections::BTreeSet;
use std::mem::offset_of;

use dns_xdp_ebpf::table::{LOCALS_CAPACITY, Local, Locals, Tags};

use crate::network::{Place, VlanProtocol, VlanTag};

/// As many addresses on interfaces find a seed without collision soon.
pub(super) const LOCALS_MAX: usize = 256;
/// Seeds that are tried. For [`LOCALS_MAX`] one in some three thousand does.
const SEEDS_MAX: u64 = 1 << 20;

/// The octets of a [`Locals`].
pub(super) type LocalsBytes = [u8; size_of::<Locals>()];

/// An address where the program answers for it, as it is in the table.
pub fn local(place: &Place, is_generic: bool) -> Local {
    Local::new(place.interface, tags(&place.tags), place.address, place.mac, is_generic)
}

fn tags(tags: &[VlanTag]) -> Tags {
    tags.iter()
        .take(Tags::MAX)
        .enumerate()
        .fold(Tags::NONE, |tags, (nth, tag)| tags.with(nth, tag.protocol == VlanProtocol::Dot1Ad, tag.id))
}

/// The table of these addresses. Of more than [`LOCALS_MAX`] the rest is left out, and what has the same key as another.
/// Also returns how many are in it.
pub(super) fn table(locals: &[Local]) -> (Box<LocalsBytes>, usize) {
    let mut keys = BTreeSet::new();
    let mut distinct: Vec<&Local> =
        locals.iter().filter(|local| keys.insert((local.interface, local.tags.0, local.address))).collect();
    distinct.truncate(LOCALS_MAX);
    let seed = loop {
        // Without a seed for all of them fewer are served here; the responder has the others.
        if let Some(seed) = (0..SEEDS_MAX).find(|seed| is_free_of_collisions(*seed, &distinct)) {
            break seed;
        }
        distinct.pop();
    };
    let mut octets = bytes();
    octets[..8].copy_from_slice(&seed.to_ne_bytes());
    for local in &distinct {
        let at = offset_of!(Locals, slots) + slot(seed, local) * size_of::<Local>();
        octets[at..at + size_of::<Local>()].copy_from_slice(&local.to_bytes());
    }
    (octets, distinct.len())
}

fn bytes() -> Box<LocalsBytes> {
    let octets = vec![0; size_of::<Locals>()].into_boxed_slice();
    octets.try_into().unwrap_or_else(|_| unreachable!("the slice is as long as the array"))
}

fn slot(seed: u64, local: &Local) -> usize {
    Local::slot(seed, local.interface, local.tags, local.address)
}

fn is_free_of_collisions(seed: u64, locals: &[&Local]) -> bool {
    let mut taken = [false; LOCALS_CAPACITY];
    locals.iter().all(|local| !std::mem::replace(&mut taken[slot(seed, local)], true))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn locals(count: u32) -> Vec<Local> {
        let address = |nth| IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + nth));
        (0..count).map(|nth| Local::new(1 + nth % 7, Tags::NONE, address(nth), [2; 6], false)).collect()
    }

    fn is_in(octets: &LocalsBytes, local: &Local) -> bool {
        let seed = u64::from_ne_bytes(*octets.first_chunk().unwrap());
        let at = offset_of!(Locals, slots) + slot(seed, local) * size_of::<Local>();
        octets[at..at + size_of::<Local>()] == local.to_bytes()
    }

    #[test]
    fn every_address_lies_in_its_slot() {
        for count in [0, 1, 33, 100, LOCALS_MAX as u32] {
            let locals = locals(count);
            let (octets, held) = table(&locals);
            assert_eq!(held, locals.len());
            assert!(locals.iter().all(|local| is_in(&octets, local)), "{count}");
        }
    }

    #[test]
    fn the_same_address_twice_is_in_the_table_once() {
        let twice = [locals(3), locals(3)].concat();
        assert_eq!(table(&twice).1, 3);
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let (octets, held) = table(&locals(LOCALS_MAX as u32 + 9));
        assert!(held == LOCALS_MAX && is_in(&octets, &locals(1)[0]));
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
