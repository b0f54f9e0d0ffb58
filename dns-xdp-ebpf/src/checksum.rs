//! The internet checksum: the ones' complement sum of RFC 1071.
//!
//! Words are summed in the machine's byte order. The sum then has that byte order too (RFC 1071, section 2(B)), so no
//! word is ever swapped.
use crate::verifier::widen;

/// A ones' complement sum before folding. It has 48 bits: room for 65,536 words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The empty sum.
    pub const ZERO: Sum = Sum(0);

    /// A multiple of 0xffff, which is zero in ones' complement. Lower-casing adds less than this to a name's words: at
    /// most 0x20 for each octet.
    const NOTHING: u64 = 0xffff << 20;

    /// Returns a sum that was folded and stored.
    #[inline(always)]
    pub const fn from_folded(folded: u16) -> Self {
        Sum(folded as u64)
    }

    /// Adds two bytes that lie at an even offset.
    #[inline(always)]
    pub const fn add_u16(self, word: u16) -> Self {
        Sum(self.0 + word as u64)
    }

    /// Adds four bytes that lie at an even offset.
    #[inline(always)]
    pub const fn add_u32(self, word: u32) -> Self {
        Sum(self.0 + word as u64)
    }

    /// Adds eight bytes that lie at an even offset.
    #[inline(always)]
    pub const fn add_u64(self, word: u64) -> Self {
        Sum(self.0 + (word & 0xffff_ffff) + (word >> 32))
    }

    /// Adds another sum.
    #[inline(always)]
    pub const fn add(self, other: Sum) -> Self {
        Sum(self.0 + other.0)
    }

    /// Subtracts a sum that is part of this one and less than `Sum::NOTHING`. The result is not zero, so that it folds
    /// as the sum of the other words does.
    #[inline(always)]
    pub const fn take_away(self, other: Sum) -> Self {
        Sum(self.0 + (Self::NOTHING - other.0))
    }

    /// Adds the sum of bytes that begin at `offset` here, but were summed as if they began at an even one.
    #[inline(always)]
    pub const fn add_at(self, offset: usize, other: Sum) -> Self {
        // Summing at an odd offset rotates by 8 bits. A sum of so few words has room for that without being folded.
        Sum(self.0 + (other.0 << (8 * (offset & 1))))
    }

    /// Returns the same sum, with a value that the verifier no longer knows. Otherwise the verifier forks a state for
    /// every round of a loop over the sum. `unknown` is as for [`widen`].
    #[inline(always)]
    pub fn widened(self, unknown: u64) -> Self {
        Sum(widen(self.0, unknown))
    }

    /// Adds bytes that begin at an even offset.
    pub fn add_bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self;
        for pair in bytes.chunks(2) {
            sum = sum.add_u16(u16::from_ne_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        sum
    }

    /// Returns the sum in 16 bits.
    #[inline(always)]
    pub const fn fold(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        // The multiplication adds both halves twice, side by side, so that the carry of the lower addition goes into
        // the upper. `sum` may have a 33rd bit, which is added there too. It causes no second carry, because the
        // unfolded sum has only 48 bits.
        (sum.wrapping_mul(0x0001_0001_0001) >> 32) as u16
    }

    /// Returns the checksum as it is stored in an IPv4 header.
    #[inline(always)]
    pub const fn checksum(self) -> u16 {
        !self.fold()
    }

    /// Returns the checksum as it is stored in a UDP header. A stored zero means no checksum (RFC 768).
    #[inline(always)]
    pub const fn udp_checksum(self) -> u16 {
        match self.checksum() {
            0 => 0xffff,
            checksum => checksum,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_section_3_comes_out() {
        let sum = Sum::ZERO.add_bytes(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.fold().to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn a_sum_folds_to_what_its_words_leave_when_divided_by_0xffff() {
        const EDGES: [u64; 7] = [0, 1, 2, 0x7fff, 0x8000, 0xfffe, 0xffff];
        for nth in 0..EDGES.len().pow(3) {
            let [high, middle, low] = [49, 7, 1].map(|of| EDGES[nth / of % 7]);
            let sum = high << 32 | middle << 16 | low;
            let rest = (sum % 0xffff) as u16;
            let folded = Sum(sum).fold();
            assert_eq!(folded, if rest == 0 && sum != 0 { 0xffff } else { rest }, "{sum:#x}");
        }
    }

    #[test]
    fn words_of_any_width_sum_alike() {
        let bytes: Vec<u8> = (0..64).map(|i| (i * 37 + 11) as u8).collect();
        let by_bytes = Sum::ZERO.add_bytes(&bytes).fold();
        let eights = bytes.chunks(8).map(|c| u64::from_ne_bytes(c.try_into().unwrap()));
        assert_eq!(eights.fold(Sum::ZERO, Sum::add_u64).fold(), by_bytes);
        let fours = bytes.chunks(4).map(|c| u32::from_ne_bytes(c.try_into().unwrap()));
        assert_eq!(fours.fold(Sum::ZERO, Sum::add_u32).fold(), by_bytes);
    }

    #[test]
    fn a_part_at_an_odd_offset_is_swapped_in() {
        let bytes: Vec<u8> = (0..31).map(|i| (i * 91 + 5) as u8).collect();
        for split in 0..bytes.len() {
            let head = Sum::ZERO.add_bytes(&bytes[..split]);
            let tail = Sum::ZERO.add_bytes(&bytes[split..]);
            assert_eq!(
                head.add_at(split, tail).fold(),
                Sum::ZERO.add_bytes(&bytes).fold(),
                "split at {split}"
            );
        }
    }

    #[test]
    fn what_is_taken_away_is_as_if_it_had_not_been_added() {
        let words: Vec<u64> = (0..64).map(|i| (0x2020_0020_2000_2020_u64).rotate_left(i)).collect();
        let case =
            words.iter().take(32).fold(Sum::ZERO, |sum, word| sum.add_u64(*word & 0x2020_2020_2020_2020));
        let most = [0x2020_2020_2020_2020; 32].into_iter().fold(Sum::ZERO, Sum::add_u64);
        for taken in [Sum::ZERO, case, most] {
            for rest in [1, 0x1234, 0xffff, 0xffff_fffe] {
                let rest = Sum::ZERO.add_u32(rest);
                assert_eq!(rest.add(taken).take_away(taken).fold(), rest.fold());
                assert_eq!(Sum::from_folded(rest.add(taken).fold()).take_away(taken).fold(), rest.fold());
            }
        }
    }

    #[test]
    fn a_udp_checksum_is_never_zero() {
        assert_eq!(Sum::from_folded(0xffff).udp_checksum(), 0xffff);
        assert_eq!(Sum::from_folded(0xffff).checksum(), 0);
    }
}
