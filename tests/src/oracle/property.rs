//! A run of the property tests about answers: random queries in zones of every shape. The seed repeats a run.
use std::cell::RefCell;
use std::collections::BTreeMap;

use dns_xdp::zone::Zone;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

use crate::oracle::queries;
use crate::oracle::table::zone::{COOKIES, zone, zone_with_cookies, zone_with_wildcards};
use crate::oracle::zones::{self, NAME_MAX};
use crate::rng::{Rng, SEED, seed};

/// The kinds of results. At least one case in [`ONE_IN`] has to be of each kind, otherwise the run proves little about
/// that kind.
const KINDS: [&str; 6] = ["truncated", "NoError with answers", "NoError", "NXDomain", "passed", "dropped"];
const ONE_IN: u32 = 100;

/// Returns the kind of a frame's result, or how it breaks the property.
pub type Property<'p> = dyn Fn(&[u8]) -> Result<String, String> + 'p;

/// A run, which can be repeated with its seed.
#[derive(Debug)]
pub struct PropertyRun {
    seed: u64,
    rng: Rng,
    cases: u32,
    seen: BTreeMap<String, u32>,
}

impl PropertyRun {
    /// A run of this many cases, half of them in one zone; `PROPTEST_CASES` sets another number.
    ///
    /// # Panics
    /// When the seed in the environment is no number.
    pub fn new(cases: u32) -> PropertyRun {
        let cases =
            std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
        let seed = seed().expect("a seed is a number");
        PropertyRun { seed, rng: Rng(seed), cases, seen: BTreeMap::new() }
    }

    /// Returns the zones with their numbers of cases. The zones are the packet table's zone without cookies, with them
    /// and with wildcards, and a random zone for every length of an apex.
    pub fn zones(&mut self) -> Vec<(Zone, u32)> {
        let (plain, random) = (self.cases / 4, self.cases / 2 / NAME_MAX as u32);
        let mut zones = vec![
            (zone(), plain),
            (zone_with_cookies(COOKIES.1), plain / 2),
            (zone_with_wildcards(), plain - plain / 2),
        ];
        zones.extend((1..=NAME_MAX).map(|octets| (zones::zone(&mut self.rng, octets), random)));
        zones
    }

    /// Checks the property with `cases` queries about the zone.
    ///
    /// # Panics
    /// When a query breaks the property: the test has failed.
    pub fn hold(&mut self, zone: &Zone, cases: u32, property: &Property<'_>) {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let seed: Vec<u8> = (0..4).flat_map(|_| self.rng.next_number().to_ne_bytes()).collect();
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let seen = RefCell::new(&mut self.seen);
        let result = TestRunner::new_with_rng(config, random).run(&queries::datagrams(zone), |query| {
            let kind = property(&query.frame()).map_err(TestCaseError::fail)?;
            *seen.borrow_mut().entry(kind).or_insert(0) += 1;
            Ok(())
        });
        if let Err(error) = result {
            panic!("{SEED}={:#x} plays this again: {error}\nin {zone:?}", self.seed);
        }
    }

    /// Checks that the run has seen enough cases of every kind.
    ///
    /// # Panics
    /// The run has seen too few cases of a kind: the test has failed.
    pub fn judge(self) {
        println!("{SEED}={:#x}: {:?}", self.seed, self.seen);
        let cases: u32 = self.seen.values().sum();
        for kind in KINDS {
            let count = self.seen.get(kind).copied().unwrap_or_default();
            assert!(count >= cases / ONE_IN, "few cases of {kind}: {:?}", self.seen);
        }
    }
}
