//! The walk over an uncompressed name; lower-casing; the key.
//!
//! A name's labels need no look when the bytes up to the first zero equal a name of the zone: then the labels are
//! that name's labels. Only a name that is not found is walked label by label (RFC 1035, section 3.1).
use crate::checksum::Sum;
use crate::frame::{Field, Frame, Region, forget};
use crate::outcome::Outcome;
use crate::question::TYPE_CLASS_LENGTH;
use crate::table::{NAME_MAX, NAME_WORDS, NameWords, mix_name};

/// A name in a frame. Its octets are read as little-endian words of eight: the first octet is the lowest.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// Offset of its first octet.
    pub from: usize,
    /// Octets with the final zero.
    pub length: usize,
    /// Without regard to case.
    pub hash: u64,
    /// Of the name as it came.
    pub sum: Sum,
}

#[cfg(target_endian = "big")]
compile_error!("names are read as little-endian words");

const WORD: Field<u64, 0> = Field::new();
const OCTET: Field<u8, 0> = Field::new();
const LOWEST_BITS: u64 = 0x0101_0101_0101_0101;
const HIGHEST_BITS: u64 = 0x8080_8080_8080_8080;
/// A label has at most 63 octets; what is above is a compression pointer (RFC 1035, section 4.1.4) or reserved.
const LABEL_MAX: u8 = 63;
/// A name of 255 octets has at most 127 labels and the root.
const LABELS_MAX: usize = 128;

impl Name {
    /// Reads up to the first zero octet.
    #[inline(always)]
    pub fn read(frame: Frame, from: usize, message_end: usize, seed: u64) -> Result<Self, Outcome> {
        let mut hash = seed;
        let mut sum = Sum::ZERO;
        let mut at = forget(from, seed);
        let (start, end) = (at, forget(message_end, seed));
        let word = 'last: {
            for _ in 0..NAME_WORDS {
                if at + 8 > end {
                    break;
                }
                let region: Region<8> = frame.region(at).ok_or(Outcome::Name)?;
                let word = region.read(WORD);
                if zero_octets(word) != 0 {
                    break 'last word;
                }
                hash = mix_name(hash, word);
                sum = sum.add_u64(word);
                at += 8;
            }
            octets_before(frame, forget(at, hash), forget(end, hash)).ok_or(Outcome::Name)?
        };
        // The lowest mark is exact, those above it need not be. Below it are seven bits of the zero octet and all
        // bits of the octets before it.
        let zeros = zero_octets(word);
        if zeros == 0 {
            return Err(Outcome::Name);
        }
        let name = (zeros & zeros.wrapping_neg()) - 1;
        let octets = (name & LOWEST_BITS).wrapping_mul(LOWEST_BITS) >> 56;
        let length = forget(at - start + octets as usize, word);
        if length > NAME_MAX || from + length + TYPE_CLASS_LENGTH > message_end {
            return Err(Outcome::Name);
        }
        let word = word & name;
        let (hash, sum) = (mix_name(hash, word), sum.add_u64(word));
        Ok(Name { from, length, hash, sum })
    }

    /// Offset behind the name.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.from + self.length
    }

    /// Whether this is, in any case, the name of `length` octets in `words`, which are lower case.
    #[inline(always)]
    pub fn is(&self, frame: Frame, words: &NameWords, length: usize) -> bool {
        self.length == length && self.ends_in(frame, 0, words)
    }

    /// Whether the octets from `skipped` on are, in any case, those in `words`.
    #[inline(always)]
    fn ends_in(&self, frame: Frame, skipped: usize, words: &NameWords) -> bool {
        let mut at = forget(self.from + skipped, self.hash);
        let end = forget(self.end(), self.hash);
        for word in words {
            let octets = if at + 8 <= end {
                let Some(region): Option<Region<8>> = frame.region(at) else { return false };
                region.read(WORD)
            } else {
                let (at, end) = (forget(at, self.hash), forget(end, self.hash));
                let Some(octets) = octets_before(frame, at, end) else { return at == end };
                return same(octets, *word);
            };
            if !same(octets, *word) {
                return false;
            }
            at += 8;
        }
        false
    }

    /// Walks the labels: whether the name lies below the apex of `apex_length` octets in `apex`.
    #[inline(always)]
    pub fn below(&self, frame: Frame, apex: &NameWords, apex_length: usize) -> Result<(), Outcome> {
        let mut at = 0;
        for _ in 0..LABELS_MAX {
            if self.length - at == apex_length {
                return if self.ends_in(frame, at, apex) { Ok(()) } else { Err(Outcome::ForeignName) };
            }
            let label: Region<1> = frame.region(self.from + at).ok_or(Outcome::Name)?;
            let label = label.read(OCTET);
            if label == 0 {
                return Err(Outcome::ForeignName);
            }
            at = forget(at + 1 + usize::from(label), self.hash);
            if label > LABEL_MAX || at >= self.length {
                return Err(Outcome::Name);
            }
        }
        Err(Outcome::Name)
    }
}

/// The octets from `at` to `end`, of which there are one to seven, with zeros behind them. They are read with those
/// before them, for behind them the frame may end; before them are at least the headers.
#[inline(always)]
fn octets_before(frame: Frame, at: usize, end: usize) -> Option<u64> {
    let missing = (at + 8).wrapping_sub(end);
    if missing == 0 || missing >= 8 {
        return None;
    }
    let region: Region<8> = frame.region(end - 8)?;
    Some(region.read(WORD) >> (8 * missing))
}

/// Marks the highest bit of the first zero octet, and perhaps of others above it.
#[inline(always)]
const fn zero_octets(word: u64) -> u64 {
    word.wrapping_sub(LOWEST_BITS) & !word & HIGHEST_BITS
}

/// Whether octets in any case are those of a lower-case word.
#[inline(always)]
const fn same(octets: u64, word: u64) -> bool {
    octets == word || lower_case(octets) == word
}

/// Lower-cases the ASCII letters of eight octets (RFC 4343). Lengths of labels are no letters.
#[inline(always)]
pub const fn lower_case(word: u64) -> u64 {
    let low = word & !HIGHEST_BITS;
    let above_z = low + (0x7f - b'Z' as u64) * LOWEST_BITS;
    let from_a = low + (0x80 - b'A' as u64) * LOWEST_BITS;
    let upper = !word & (from_a ^ above_z) & HIGHEST_BITS;
    word | upper >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_ascii_letters_are_lower_cased_in_every_position() {
        for octet in 0..=u8::MAX {
            for position in 0..8 {
                let mut octets = *b"Zz[@`{A\x80";
                octets[position] = octet;
                let lower = octets.map(|o| o.to_ascii_lowercase());
                assert_eq!(lower_case(u64::from_le_bytes(octets)), u64::from_le_bytes(lower));
            }
        }
    }
}
