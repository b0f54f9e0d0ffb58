//! The law: an answer of the program means what the responder's answer to the same message means.
use std::cell::RefCell;
use std::collections::BTreeMap;

use dns_xdp::datapath::{Unattached, Variant};
use dns_xdp::zone::Zone;
use dns_xdp_tests::dice::{Dice, SEED, seed};
use dns_xdp_tests::law::{Due, States};
use dns_xdp_tests::table::zone::{COOKIES, LARGE_CAPACITY, PORT, places, zone, zone_with_cookies};
use dns_xdp_tests::zones::{self, NAME_MAX};
use dns_xdp_tests::{kernel, queries};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

/// Cases of a plain run, half of them in one zone; `PROPTEST_CASES` sets another number.
const CASES: u32 = 20_000;
const KERNEL_CASES: u32 = 10_000;
/// The kinds of results. At least one case in [`ONE_IN`] has to be of each kind, or the run proves little about it.
const KINDS: [&str; 6] = ["truncated", "NoError with answers", "NoError", "NXDomain", "passed", "dropped"];
const ONE_IN: u32 = 100;

/// Tells what became of a frame, or how that breaks the law.
type Law<'l> = dyn Fn(&[u8]) -> Result<String, String> + 'l;

#[test]
fn host_an_answer_means_what_the_responder_means() {
    let mut run = Run::new(CASES);
    for (zone, cases) in zones(&mut run) {
        let states = States::of(zone.clone());
        run.hold(&zone, cases, &|frame| states.hold(frame));
    }
    run.judge();
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test kernel"]
fn kernel_an_answer_means_what_the_responder_means() {
    let mut program = Unattached::load(Variant::ALL[1], &places(), PORT, LARGE_CAPACITY).unwrap();
    program.renew(None, COOKIES.0.into()).unwrap();
    let mut run = Run::new(KERNEL_CASES);
    for (zone, cases) in zones(&mut run) {
        program.publish(&zone).unwrap();
        run.hold(&zone, cases, &|frame| {
            let (action, after) = kernel::run(&program, frame)?;
            Due::to(&zone, frame).check(frame, action, &after)
        });
    }
    run.judge();
}

/// Returns the zones with their numbers of cases: the packet table's zone without cookies and with them, and a random zone
/// for every length of an apex.
fn zones(run: &mut Run) -> Vec<(Zone, u32)> {
    let (plain, random) = (run.cases / 4, run.cases / 2 / NAME_MAX as u32);
    let mut zones = vec![(zone(), plain), (zone_with_cookies(COOKIES.1), plain)];
    zones.extend((1..=NAME_MAX).map(|octets| (zones::zone(&mut run.dice, octets), random)));
    zones
}

/// A run, which its seed repeats.
struct Run {
    seed: u64,
    dice: Dice,
    cases: u32,
    seen: BTreeMap<String, u32>,
}

impl Run {
    fn new(cases: u32) -> Run {
        let cases =
            std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
        let seed = seed().expect("a seed is a number");
        Run { seed, dice: Dice(seed), cases, seen: BTreeMap::new() }
    }

    /// Checks the law with `cases` queries about the zone.
    fn hold(&mut self, zone: &Zone, cases: u32, law: &Law<'_>) {
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        let seed: Vec<u8> = (0..4).flat_map(|_| self.dice.next_number().to_ne_bytes()).collect();
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let seen = RefCell::new(&mut self.seen);
        let result = TestRunner::new_with_rng(config, random).run(&queries::datagrams(zone), |query| {
            let kind = law(&query.frame()).map_err(TestCaseError::fail)?;
            *seen.borrow_mut().entry(kind).or_insert(0) += 1;
            Ok(())
        });
        if let Err(error) = result {
            panic!("{SEED}={:#x} plays this again: {error}\nin {zone:?}", self.seed);
        }
    }

    fn judge(self) {
        println!("{SEED}={:#x}: {:?}", self.seed, self.seen);
        let cases: u32 = self.seen.values().sum();
        for kind in KINDS {
            let count = self.seen.get(kind).copied().unwrap_or_default();
            assert!(count >= cases / ONE_IN, "few cases of {kind}: {:?}", self.seen);
        }
    }
}
