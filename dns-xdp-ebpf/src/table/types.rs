//! The types of a name that the program does not have.

/// A set of types in 16 bits. The last 4 bits of a type's number are the number of its bit. Several types therefore share
/// a bit, and the set may seem to have more types than it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Types(u16);

impl Types {
    /// No type.
    pub const NONE: Types = Types(0);
    /// Every type.
    pub const ALL: Types = Types(u16::MAX);

    /// Returns these types and one more.
    #[must_use]
    pub const fn with(self, qtype: u16) -> Types {
        Types(self.0 | 1 << (qtype & 15))
    }

    /// Whether the set may have this type. If not, it certainly lacks the type.
    #[inline(always)]
    pub const fn may_have(self, qtype: u16) -> bool {
        self.0 >> (qtype & 15) & 1 != 0
    }

    /// Returns the set as the map holds it.
    pub const fn bits(self) -> u16 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_its_types_and_those_that_share_their_bits() {
        const TXT: u16 = 16;
        const SRV: u16 = 33;
        let types = Types::NONE.with(TXT).with(SRV);
        assert!(types.may_have(TXT) && types.may_have(SRV) && types.may_have(TXT + 16));
        assert!(!types.may_have(15) && !types.may_have(28));
        assert!((0..=u16::MAX).all(|qtype| !Types::NONE.may_have(qtype) && Types::ALL.may_have(qtype)));
    }
}
