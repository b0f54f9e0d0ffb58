//! The law: an answer of the program means what the responder's answer to the same message means.
use std::cell::RefCell;
use std::collections::BTreeMap;

use dns_xdp::datapath::{Unattached, Variant};
use dns_xdp::zone::Zone;
use dns_xdp_tests::kernel;
use dns_xdp_tests::law::{Due, States};
use dns_xdp_tests::queries;
use dns_xdp_tests::table::zone::{CAPACITY, COOKIES, PORT, places, zone, zone_with_cookies};
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// Cases of a plain run; `PROPTEST_CASES` sets another number.
const CASES: u32 = 20_000;
const KERNEL_CASES: u32 = 5_000;
/// What becomes of queries; a run that has seen little of one proves little.
const KINDS: [&str; 6] = ["truncated", "NoError with answers", "NoError", "NXDomain", "passed", "dropped"];

/// Tells what became of a frame, or how that breaks the law.
type Law<'l> = dyn Fn(&[u8]) -> Result<String, String> + 'l;

#[test]
fn host_an_answer_means_what_the_responder_means() {
    for zone in zones() {
        let states = States::of(zone);
        holds(CASES / 2, &|frame| states.hold(frame));
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test kernel"]
fn kernel_an_answer_means_what_the_responder_means() {
    let mut program = Unattached::load(Variant::ALL[1], &places(), PORT, CAPACITY).unwrap();
    program.renew(None, COOKIES.0.into()).unwrap();
    for zone in zones() {
        program.publish(&zone).unwrap();
        holds(KERNEL_CASES / 2, &|frame| {
            let (action, after) = kernel::run(&program, frame)?;
            Due::to(&zone, frame).check(frame, action, &after)
        });
    }
}

/// Without cookies, and with them.
fn zones() -> [Zone; 2] {
    [zone(), zone_with_cookies(COOKIES.1)]
}

fn holds(cases: u32, law: &Law<'_>) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let seen = RefCell::new(BTreeMap::new());
    let result = TestRunner::new(config).run(&queries::datagrams(&zone()), |query| {
        let kind = law(&query.frame()).map_err(TestCaseError::fail)?;
        *seen.borrow_mut().entry(kind).or_insert(0) += 1;
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let seen = seen.into_inner();
    println!("{seen:?}");
    for kind in KINDS {
        let share = cases / 1000;
        assert!(seen.get(kind).is_some_and(|count| *count >= share), "few cases of {kind}: {seen:?}");
    }
}
