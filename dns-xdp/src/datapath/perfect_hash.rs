//! Gives each key a slot of its own, by hash and displace (Belazzougui, Botelho and Dietzfelbinger, 2009).
//!
//! Keys are gathered in buckets by their hash. Each bucket, the fullest first, takes the first displacement that
//! spreads its keys over free slots.
use std::cmp::Reverse;

use dns_xdp_ebpf::table;

/// Returns the displacement of each bucket, so that each key with these hashes has one of `slots` slots. `None` if a
/// bucket has no such displacement; another seed gives other hashes.
pub(super) fn displacements(
    hashes: impl IntoIterator<Item = u64>,
    buckets: usize,
    slots: u32,
) -> Option<Vec<u16>> {
    let mut displacements = vec![0; buckets];
    let mut gathered: Vec<(usize, Vec<u64>)> = (0..buckets).map(|bucket| (bucket, Vec::new())).collect();
    for hash in hashes {
        gathered[table::bucket(hash, buckets)].1.push(hash);
    }
    gathered.sort_by_key(|(_, hashes)| Reverse(hashes.len()));
    let mut taken = vec![false; slots as usize];
    for (bucket, hashes) in gathered {
        let mut take = |displacement: &u16| {
            let indexes = hashes.iter().map(|hash| table::slot(*hash, *displacement, slots) as usize);
            let first_met = indexes.clone().position(|index| std::mem::replace(&mut taken[index], true));
            if let Some(met) = first_met {
                // Free the slots that this displacement has taken.
                indexes.take(met).for_each(|index| taken[index] = false);
            }
            first_met.is_none()
        };
        displacements[bucket] = (0..=u16::MAX).find(&mut take)?;
    }
    Some(displacements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_slot_of_its_own_until_there_is_none() {
        let hashes = |count: u64| (1..=count).map(|key| table::mix(7, key));
        for (count, slots) in [(0, 1), (1, 1), (64, 64), (500, 1024)] {
            let displacements = displacements(hashes(count), 64, slots).unwrap();
            let mut taken: Vec<u32> = hashes(count)
                .map(|hash| table::slot(hash, displacements[table::bucket(hash, 64)], slots))
                .collect();
            taken.sort_unstable();
            taken.dedup();
            assert_eq!(taken.len() as u64, count);
        }
        assert_eq!(displacements(hashes(65), 64, 64), None);
        assert_eq!(displacements([1, 1], 64, 64), None);
    }
}
