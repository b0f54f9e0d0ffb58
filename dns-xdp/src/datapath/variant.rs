//! The variants of the program: a feature that is off is not loaded.
use std::fmt;

/// One of the programs that answer. All variants give the same answers; each has only the features that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Variant {
    /// Whether it has cookies and limits.
    pub guarded: bool,
    /// Whether it takes fragmented frames, which a large MTU allows (`xdp.frags`, Linux 5.18).
    pub frags: bool,
}

impl Variant {
    /// Every variant. The first is the variant that most clusters run.
    pub const ALL: [Variant; 4] = [
        Variant { guarded: false, frags: false },
        Variant { guarded: true, frags: false },
        Variant { guarded: false, frags: true },
        Variant { guarded: true, frags: true },
    ];

    /// Returns the program's name in the object.
    pub const fn program(self) -> &'static str {
        match (self.guarded, self.frags) {
            (false, false) => "dns_xdp",
            (true, false) => "dns_xdp_guarded",
            (false, true) => "dns_xdp_frags",
            (true, true) => "dns_xdp_guarded_frags",
        }
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match (self.guarded, self.frags) {
            (false, false) => "plain",
            (true, false) => "guarded",
            (false, true) => "plain, fragments",
            (true, true) => "guarded, fragments",
        })
    }
}

#[cfg(test)]
mod tests {
    use dns_xdp_ebpf::table::RESPONDER;

    use super::*;

    #[test]
    fn every_variant_is_a_program_of_its_own_that_is_known_by_its_name() {
        let object = aya_obj::Object::parse(super::super::program::OBJECT).unwrap();
        for (nth, variant) in Variant::ALL.iter().enumerate() {
            assert!(object.programs.contains_key(variant.program()), "{}", variant.program());
            assert!(variant.program().starts_with(RESPONDER));
            assert!(Variant::ALL[nth + 1..].iter().all(|other| other.program() != variant.program()));
        }
    }
}
