//! The walk over an uncompressed name; lower-casing; the key.
//!
//! The program does not check a name's labels if the bytes up to the first zero equal a name of the zone: then the
//! labels are that name's. Only a name that is not found is walked label by label (RFC 1035, section 3.1).
use crate::checksum::Sum;
use crate::frame::{Cursor, Field, Frame, Region};
use crate::message::TYPE_CLASS_LENGTH;
use crate::outcome::{OrRefuse, Outcome};
use crate::table::{ENTRY_WORDS, NAME_MAX, NAME_WORDS, NameEntry, NameOverflow, NameWords, mix_name};
use crate::verifier::widen_offset;

/// A name in a frame. Its octets are read as little-endian words of eight: the first octet is the lowest.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// Offset of its first octet.
    pub from: usize,
    /// Octets with the final zero.
    pub length: usize,
    /// Without regard to case.
    pub hash: u64,
    /// Octets in the words before the last.
    whole: usize,
    /// The last word, with zeros behind the name.
    last: u64,
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
    pub fn read(frame: Frame<'_>, from: usize, message_end: usize, seed: u64) -> Result<Self, Outcome> {
        let mut hash = seed;
        let mut words = frame.fixed_cursor(from);
        let mut whole = 0;
        let (word, zeros) = 'last: {
            // Written out as often as makes an entry's part of a name.
            'words: for _ in 0..NAME_WORDS.div_ceil(ENTRY_WORDS) {
                for _ in 0..ENTRY_WORDS {
                    let Some(word) = words.take() else { break 'words };
                    let zeros = zero_octets(word);
                    if zeros != 0 {
                        break 'last (word, zeros);
                    }
                    hash = mix_name(hash, word);
                    whole += 8;
                }
            }
            let at = from + widen_offset(whole, hash);
            let word = octets_before(frame, at, frame.length()).or_refuse(Outcome::Name)?;
            (word, zero_octets(word))
        };
        if zeros == 0 {
            return Outcome::Name.refuse();
        }
        // The lowest mark is exact, those above it need not be. Below it are seven bits of the zero octet and all
        // bits of the octets before it.
        let name = (zeros & zeros.wrapping_neg()) - 1;
        let octets = (name & LOWEST_BITS).wrapping_mul(LOWEST_BITS) >> 56;
        let whole = widen_offset(whole, word);
        let length = whole + octets as usize;
        if length > NAME_MAX || from + length + TYPE_CLASS_LENGTH > message_end {
            return Outcome::Name.refuse();
        }
        let last = word & name;
        Ok(Name { from, length, hash: mix_name(hash, last), whole, last })
    }

    /// Offset behind the name.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.from + self.length
    }

    /// If this is, in any case, the name of the entry, the rest of which is in `overflow`: the sum of the name as it came.
    #[inline(always)]
    pub fn sum_if_equal<'t>(
        &self,
        frame: Frame<'_>,
        entry: &NameEntry,
        overflow: impl Fn() -> Option<&'t NameOverflow>,
    ) -> Option<Sum> {
        let mut comparison = Comparison::new(frame.fixed_cursor(self.from), self.whole, self.last);
        let same = self.length == usize::from(entry.length)
            && match comparison.run(&entry.name) {
                Some(same) => same,
                None => comparison.run(&overflow()?.name)?,
            };
        same.then(|| Sum::from_folded(entry.name_sum).take_away(comparison.lowered))
    }

    /// The sum of the name as it came, for a name that has no entry to know it from.
    #[inline(always)]
    pub fn sum(&self, frame: Frame<'_>) -> Option<Sum> {
        let (mut words, mut left) = (frame.fixed_cursor(self.from), widen_offset(self.whole, self.hash));
        let mut sum = Sum::ZERO.add_u64(self.last);
        for _ in 0..NAME_WORDS {
            if left == 0 {
                break;
            }
            sum = sum.add_u64(words.take()?);
            left -= 8;
        }
        Some(sum)
    }

    /// Whether the octets from `skipped` on are, in any case, the `length` octets in `words`.
    #[inline(always)]
    fn ends_in(&self, frame: Frame<'_>, skipped: usize, words: &NameWords, length: usize) -> bool {
        let at = self.from + widen_offset(skipped, self.hash);
        let left = length.wrapping_sub(1) & !7;
        let Some(last) = octets_before(frame, at + left, self.end()) else { return false };
        Comparison::new(frame.cursor(at), left, last).run(words).unwrap_or(false)
    }

    /// Walks the labels: whether the name lies below the apex of `apex_length` octets in `apex`.
    #[inline(always)]
    pub fn below(&self, frame: Frame<'_>, apex: &NameWords, apex_length: usize) -> Result<(), Outcome> {
        let mut at = 0;
        for _ in 0..LABELS_MAX {
            if self.length - at == apex_length {
                return if self.ends_in(frame, at, apex, apex_length) {
                    Ok(())
                } else {
                    Outcome::ForeignName.refuse()
                };
            }
            let label: Region<'_, 1> = frame.region(self.from + at).or_refuse(Outcome::Name)?;
            let label = label.read(OCTET);
            if label == 0 {
                return Outcome::ForeignName.refuse();
            }
            at = widen_offset(at + 1 + usize::from(label), self.hash);
            if label > LABEL_MAX || at >= self.length {
                return Outcome::Name.refuse();
            }
        }
        Outcome::Name.refuse()
    }
}

/// A name against the words of another, which are lower case.
struct Comparison<'f> {
    octets: Cursor<'f>,
    /// Octets before the last word.
    left: usize,
    last: u64,
    /// Sum of what lower-casing has added to the octets.
    lowered: Sum,
}

impl<'f> Comparison<'f> {
    #[inline(always)]
    const fn new(octets: Cursor<'f>, left: usize, last: u64) -> Self {
        Comparison { octets, left, last, lowered: Sum::ZERO }
    }

    /// Whether they are the same in any case; `None` when they are so far, and the name goes on behind `words`.
    #[inline(always)]
    fn run(&mut self, words: &[u64]) -> Option<bool> {
        for word in words {
            if self.left == 0 {
                return Some(self.same(self.last, *word));
            }
            let Some(octets) = self.octets.take() else { return Some(false) };
            if !self.same(octets, *word) {
                return Some(false);
            }
            self.left -= 8;
        }
        None
    }

    /// Whether octets in any case are those of a lower-case word.
    #[inline(always)]
    fn same(&mut self, octets: u64, word: u64) -> bool {
        if octets == word {
            return true;
        }
        let lower = lower_case(octets);
        self.lowered = self.lowered.add_u64(lower ^ octets);
        lower == word
    }
}

/// The octets from `at` to `end`, of which there are one to eight, with zeros behind them. They are read with those
/// before them, for behind them the frame may end; before them are at least the headers.
#[inline(always)]
fn octets_before(frame: Frame<'_>, at: usize, end: usize) -> Option<u64> {
    let missing = (at + 8).wrapping_sub(end);
    if missing >= 8 {
        return None;
    }
    let region: Region<'_, 8> = frame.region(end - 8)?;
    Some(region.read(WORD) >> (8 * missing))
}

/// Marks the highest bit of the first zero octet, and perhaps of others above it.
#[inline(always)]
const fn zero_octets(word: u64) -> u64 {
    word.wrapping_sub(LOWEST_BITS) & !word & HIGHEST_BITS
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
