//! Reads an uncompressed name: its octets and labels, its lower case and its hash.
//!
//! If the bytes up to the first zero equal a name of the zone, the labels are that name's and need no check. The
//! program walks only a name that it does not find, label by label (RFC 1035, section 3.1).
use crate::checksum::Sum;
use crate::frame::{Cursor, Field, Frame, Region};
use crate::message::TYPE_CLASS_LENGTH;
use crate::outcome::{OrRefuse, Outcome};
use crate::table::{ENTRY_WORDS, NAME_MAX, NAME_WORDS, NameEntry, NameOverflow, NameWords, mix_name};
use crate::verifier::{widen, widen_offset};

/// A name in a frame. Its octets are read as little-endian words of 8: the first octet is the lowest.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// Offset of its first octet.
    pub from: usize,
    /// Octets with the final zero.
    pub length: usize,
    /// Hash of the name in lower case.
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
/// The most octets of a label. A larger length octet is a compression pointer (RFC 1035, section 4.1.4) or reserved.
const LABEL_MAX: u8 = 63;
/// A name of 255 octets has at most 127 labels and the root.
const LABELS_MAX: usize = 128;

impl Name {
    /// Reads up to the first zero octet.
    #[inline(always)]
    pub fn read(frame: Frame<'_>, from: usize, message_end: usize, seed: u64) -> Result<Self, Outcome> {
        Self::read_words(frame, frame.fixed_cursor(from), from, message_end, seed)
    }

    /// Reads the name above: this name without its first label. `None`: this is the root, or the label is none.
    #[inline(always)]
    pub fn above(&self, frame: Frame<'_>, message_end: usize, seed: u64) -> Option<Self> {
        let label: Region<'_, 1> = frame.fixed(self.from)?;
        let label = label.read(OCTET);
        // A name ends at its first zero octet, so a longer label has such an octet inside.
        if label == 0 || label > LABEL_MAX || 1 + usize::from(label) >= self.length {
            return None;
        }
        let from = self.from + widen_offset(1 + usize::from(label), self.hash);
        Self::read_words(frame, frame.cursor(from), from, message_end, seed).ok()
    }

    #[inline(always)]
    fn read_words(
        frame: Frame<'_>,
        mut words: Cursor<'_>,
        from: usize,
        message_end: usize,
        seed: u64,
    ) -> Result<Self, Outcome> {
        let mut hash = seed;
        let mut whole = 0;
        let (word, zeros) = 'last: {
            // Unrolled to the length of the name's part in an entry.
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
        // Only the lowest mark is exact. Below it are 7 bits of the zero octet and all bits of the octets before it.
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

    /// Returns the offset behind the name.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.from + self.length
    }

    /// If this is the entry's name without regard to case, returns the sum of the name as it came. `overflow` has the
    /// rest of a long name.
    #[inline(always)]
    pub fn sum_if_equal<'t>(
        &self,
        frame: Frame<'_>,
        entry: &NameEntry,
        overflow: impl Fn() -> Option<&'t NameOverflow>,
    ) -> Option<Sum> {
        let lowered = self.compare(frame.fixed_cursor(self.from), entry, overflow)?;
        Some(Sum::from_folded(entry.name_sum).take_away(lowered))
    }

    /// Whether this is the entry's name without regard to case. `overflow` is as in [`Name::sum_if_equal`].
    #[inline(always)]
    pub fn is<'t>(
        &self,
        frame: Frame<'_>,
        entry: &NameEntry,
        overflow: impl Fn() -> Option<&'t NameOverflow>,
    ) -> bool {
        let same = self.compare(frame.cursor(self.from), entry, overflow).is_some();
        // The verifier follows the rest once for each result, and not once for each word that differs.
        widen(same.into(), self.hash) != 0
    }

    /// If the octets are the entry's name without regard to case, returns the sum of what lower-casing adds to them.
    #[inline(always)]
    fn compare<'t>(
        &self,
        octets: Cursor<'_>,
        entry: &NameEntry,
        overflow: impl Fn() -> Option<&'t NameOverflow>,
    ) -> Option<Sum> {
        let mut comparison = Comparison::new(octets, self.whole, self.last);
        let same = self.length == usize::from(entry.length)
            && match comparison.run(&entry.name) {
                Some(same) => same,
                None => comparison.run(&overflow()?.name)?,
            };
        same.then_some(comparison.lowered)
    }

    /// Returns the sum of the name as it came, for a name without an entry.
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

    /// Whether the octets from `skipped` on equal the `length` octets in `words`, without regard to case.
    #[inline(always)]
    fn ends_in(&self, frame: Frame<'_>, skipped: usize, words: &NameWords, length: usize) -> bool {
        let at = self.from + widen_offset(skipped, self.hash);
        let left = length.wrapping_sub(1) & !7;
        let Some(last) = octets_before(frame, at + left, self.end()) else { return false };
        Comparison::new(frame.cursor(at), left, last).run(words).unwrap_or(false)
    }

    /// Walks the labels, and refuses a name that does not lie below the apex of `apex_length` octets in `apex`.
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

/// Compares a name with the lower-case words of another.
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

    /// Returns whether the names are equal without regard to case; `None` if they are equal so far, and the name
    /// continues behind `words`.
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

    /// Whether the octets in lower case equal a lower-case word.
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

/// Returns the 1 to 8 octets from `at` to `end`, with zeros behind them. They are read together with octets before
/// them, because the frame may end behind them. The headers precede them, so enough octets exist.
#[inline(always)]
fn octets_before(frame: Frame<'_>, at: usize, end: usize) -> Option<u64> {
    let missing = (at + 8).wrapping_sub(end);
    if missing >= 8 {
        return None;
    }
    let region: Region<'_, 8> = frame.region(end - 8)?;
    Some(region.read(WORD) >> (8 * missing))
}

/// Marks the highest bit of the first zero octet, and perhaps of octets above it.
#[inline(always)]
const fn zero_octets(word: u64) -> u64 {
    word.wrapping_sub(LOWEST_BITS) & !word & HIGHEST_BITS
}

/// Lower-cases the ASCII letters of eight octets (RFC 4343). The length octet of a label is never a letter.
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
