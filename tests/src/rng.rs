//! Pseudo-random numbers, the same for the same seed.
use std::env;

use anyhow::{Context, Result};

/// The environment variable with the seed of an earlier run, to repeat that run.
pub const SEED: &str = "DNS_XDP_SEED";

/// Returns the seed in the environment variable [`SEED`], or else a random seed. The caller prints it.
///
/// # Errors
/// The variable holds no hexadecimal number.
pub fn seed() -> Result<u64> {
    match env::var(SEED) {
        Ok(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16)
            .with_context(|| format!("{SEED} is no hexadecimal number: {text}")),
        Err(_) => Ok(fastrand::u64(..)),
    }
}

/// A generator of numbers by splitmix64.
#[derive(Debug, Clone)]
pub struct Rng(pub u64);

impl Rng {
    /// Any number.
    pub fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next_number() % bound as u64) as usize
    }

    /// Any number of 16 bits.
    pub fn number(&mut self) -> u16 {
        self.next_number() as u16
    }

    /// One of these, or sometimes none.
    pub fn one_of<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.below(all.len() * 4 / 3 + 1)).copied()
    }

    /// Returns 1 to `most` random octets.
    pub fn octets(&mut self, most: usize) -> Vec<u8> {
        (0..=self.below(most)).map(|_| self.next_number() as u8).collect()
    }

    /// Changes, doubles or leaves out some octets, or cuts the end off.
    pub fn disturb(&mut self, octets: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            let at = self.below(octets.len() + 1);
            match self.below(5) {
                0 => octets.truncate(at),
                1 if at < octets.len() => drop(octets.remove(at)),
                2 if at < octets.len() => octets.insert(at, octets[at]),
                3 => {
                    let more = self.octets(8);
                    octets.splice(at..at, more);
                }
                _ => octets.iter_mut().skip(at).take(1).for_each(|octet| *octet ^= 1 << self.below(8)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_each_time() {
        let disturbed = |seed| {
            let (mut rng, mut octets) = (Rng(seed), b"a query".to_vec());
            (0..100).for_each(|_| rng.disturb(&mut octets));
            octets
        };
        assert_eq!(disturbed(7), disturbed(7));
        assert_ne!(disturbed(7), disturbed(8));
    }

    #[test]
    fn there_is_nothing_that_cannot_be_disturbed() {
        let mut rng = Rng(1);
        for _ in 0..1000 {
            let mut octets = Vec::new();
            rng.disturb(&mut octets);
            assert!(octets.len() <= 4 * 9, "{octets:?}");
        }
    }
}
