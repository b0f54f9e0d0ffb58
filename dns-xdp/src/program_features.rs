//! The features that a program has, and that a zone needs.
use dns_xdp_ebpf::table::FloodPolicy;

use crate::zone::Zone;

/// The features that a zone needs, besides answers to names that exist.
///
/// No program has both: the verifier would follow more than 1,000,000 instructions. With cookies or limits, the queries
/// that a wildcard may answer go up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ProgramFeatures {
    /// Cookies and limits on answers.
    pub guarded: bool,
    /// Wildcards. Without this feature the queries that a wildcard may answer go up.
    pub wildcards: bool,
}

impl ProgramFeatures {
    /// Returns these features, without wildcards beside cookies and limits.
    pub const fn new(guarded: bool, wildcards: bool) -> ProgramFeatures {
        ProgramFeatures { guarded, wildcards: wildcards && !guarded }
    }

    /// Returns the features that a zone needs.
    pub fn of(zone: &Zone) -> ProgramFeatures {
        let FloodPolicy { answers, secret_count, .. } = zone.flood_policy();
        Self::new(answers.interval != 0 || *secret_count != 0, zone.has_wildcard())
    }

    /// Returns the features that the zones of both need.
    #[must_use]
    pub fn and(self, other: ProgramFeatures) -> ProgramFeatures {
        Self::new(self.guarded || other.guarded, self.wildcards || other.wildcards)
    }

    /// Whether these features include the others.
    pub fn cover(self, others: ProgramFeatures) -> bool {
        (self.guarded || !others.guarded) && (self.wildcards || !others.wildcards)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_cover_what_they_have() {
        let [plain, guarded, wildcards] = [(false, false), (true, true), (false, true)]
            .map(|(guarded, wild)| ProgramFeatures::new(guarded, wild));
        assert!(guarded.cover(plain) && wildcards.cover(plain) && wildcards.cover(wildcards));
        assert!(!guarded.cover(wildcards) && !wildcards.cover(guarded) && !plain.cover(guarded));
        assert_eq!(guarded.and(wildcards), guarded, "no program has both");
    }
}
