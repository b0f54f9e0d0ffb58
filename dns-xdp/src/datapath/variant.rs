//! The variants of the program: a feature that is off is not loaded.
use std::fmt;

use crate::config::Config;
use crate::program_features::ProgramFeatures;

/// Returns the features that the zone of a configuration needs.
pub fn features_of(config: &Config) -> ProgramFeatures {
    // A name between such a name and the apex may be a wildcard, too.
    let services = &config.cluster.services;
    let wildcards = services.iter().any(|service| service.name.split('.').any(|label| label == "*"))
        || config.records.owners().any(|owner| owner.iter().any(|label| label == b"*"));
    ProgramFeatures::new(config.flood_limits.takes_guarded_program(), wildcards)
}

/// One of the programs that answer. For a zone that needs only common features, 2 variants give the same answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Variant {
    /// The features that it has.
    pub features: ProgramFeatures,
    /// Whether it takes fragmented frames, which a large MTU allows (`xdp.frags`, Linux 5.18).
    pub frags: bool,
}

impl Variant {
    /// Every variant. The first is the variant that most clusters run.
    pub const ALL: [Variant; 6] = [
        Variant::new(false, false, false),
        Variant::new(true, false, false),
        Variant::new(false, true, false),
        Variant::new(false, false, true),
        Variant::new(true, false, true),
        Variant::new(false, true, true),
    ];

    const fn new(guarded: bool, wildcards: bool, frags: bool) -> Variant {
        Variant { features: ProgramFeatures::new(guarded, wildcards), frags }
    }

    /// Returns the program's name in the object.
    pub const fn program(self) -> &'static str {
        let ProgramFeatures { guarded, wildcards } = self.features;
        match (guarded, wildcards, self.frags) {
            (true, _, false) => "dns_xdp_guarded",
            (true, _, true) => "dns_xdp_guarded_frags",
            (false, true, false) => "dns_xdp_wild",
            (false, true, true) => "dns_xdp_wild_frags",
            (false, false, false) => "dns_xdp",
            (false, false, true) => "dns_xdp_frags",
        }
    }

    /// Returns the variant without fragments whose program the kernel knows by this name. The kernel keeps 15 octets.
    pub fn named(name: &str) -> Option<Variant> {
        let kept = |variant: &Variant| variant.program().get(..15).unwrap_or(variant.program());
        Variant::ALL.into_iter().find(|variant| !variant.frags && kept(variant) == name)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProgramFeatures { guarded, wildcards } = self.features;
        f.pad(match (guarded, wildcards, self.frags) {
            (true, _, false) => "guarded",
            (true, _, true) => "guarded, fragments",
            (false, true, false) => "wildcards",
            (false, true, true) => "wildcards, fragments",
            (false, false, false) => "plain",
            (false, false, true) => "plain, fragments",
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

    #[test]
    fn the_kernel_keeps_enough_of_a_name_to_tell_the_variants_apart() {
        for variant in Variant::ALL.into_iter().filter(|variant| !variant.frags) {
            let kept = variant.program().get(..15).unwrap_or(variant.program());
            assert_eq!(Variant::named(kept), Some(variant));
        }
        assert_eq!(Variant::named("another"), None);
    }

    #[test]
    fn a_configuration_needs_the_features_that_its_zone_needs() {
        let text = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n[[node]]\nname = \"node1\"\n\
                    ipv4 = \"192.0.2.1\"\n";
        let service = "[[service]]\nname = \"*.db\"\nnodes = [\"node1\"]\n";
        let record = "[[record]]\nname = \"*\"\ntype = \"TXT\"\nvalue = \"x\"\n";
        let cookies = "[rate-limit]\nanswers-per-second = 10\n";
        for more in [
            String::new(),
            service.to_owned(),
            record.to_owned(),
            cookies.to_owned(),
            format!("{cookies}{record}"),
        ] {
            let config = Config::parse(&format!("{text}{more}"), std::path::Path::new("f")).unwrap();
            let zone = crate::failover::healthy_zone(&config);
            assert_eq!(features_of(&config), ProgramFeatures::of(&zone), "{more}");
        }
    }
}
