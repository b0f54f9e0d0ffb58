//! The law: an answer of the program means what the responder's answer to the same message means.
use std::cell::RefCell;
use std::collections::BTreeMap;

use dns_xdp::datapath::Unattached;
use dns_xdp::responder::{Transport, respond};
use dns_xdp::zone::Zone;
use dns_xdp_ebpf::outcome::Action;
use dns_xdp_tests::frames::{Datagram, reply};
use dns_xdp_tests::host::Server;
use dns_xdp_tests::kernel;
use dns_xdp_tests::meaning::Meaning;
use dns_xdp_tests::queries;
use dns_xdp_tests::table::zone::{CAPACITY, PORT, SERVER, SERVER_MAC, zone};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use proptest::{prop_assert, prop_assert_eq};

/// Cases of a plain run; `PROPTEST_CASES` sets another number.
const CASES: u32 = 20_000;
const KERNEL_CASES: u32 = 5_000;
/// What becomes of queries; a run that has seen little of one proves little.
const KINDS: [&str; 6] = ["truncated", "NoError with answers", "NoError", "NXDomain", "passed", "dropped"];

/// What runs the path of a query over a frame.
type Path<'p> = dyn Fn(&[u8]) -> Result<(Action, Vec<u8>), String> + 'p;

#[test]
fn host_an_answer_means_what_the_responder_means() {
    let mut server = Server::new(&SERVER, SERVER_MAC, PORT);
    server.publish(&zone());
    holds(CASES, &KINDS, &zone(), &|frame| host_run(&server, frame));
}

#[test]
fn host_an_answer_with_room_in_front_means_it_too() {
    let mut server = Server::new(&SERVER, SERVER_MAC, PORT);
    server.publish(&zone());
    (server.room, server.headroom) = (false, true);
    // Without records an answer is seldom longer than its query: few are truncated.
    holds(CASES / 2, &KINDS[1..], &zone(), &|frame| host_run(&server, frame));
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test kernel"]
fn kernel_an_answer_means_what_the_responder_means() {
    let mut program = Unattached::load(&SERVER, SERVER_MAC, PORT, CAPACITY).unwrap();
    program.publish(&zone()).unwrap();
    holds(KERNEL_CASES, &KINDS, &zone(), &|frame| kernel::run(&program, frame));
}

fn host_run(server: &Server, frame: &[u8]) -> Result<(Action, Vec<u8>), String> {
    let (outcome, after) = server.run(frame);
    Ok((outcome.action(), after))
}

fn holds(cases: u32, kinds: &[&str], zone: &Zone, path: &Path<'_>) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(cases);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let seen = RefCell::new(BTreeMap::new());
    let result = TestRunner::new(config).run(&queries::datagrams(zone), |query| {
        let kind = hold(zone, &query, path)?;
        *seen.borrow_mut().entry(kind).or_insert(0) += 1;
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
    let seen = seen.into_inner();
    println!("{seen:?}");
    for kind in kinds {
        let share = cases / 1000;
        assert!(seen.get(*kind).is_some_and(|count| *count >= share), "few cases of {kind}: {seen:?}");
    }
}

/// Whether the law holds for one query; tells which kind of case it was.
fn hold(zone: &Zone, query: &Datagram, path: &Path<'_>) -> Result<String, TestCaseError> {
    let frame = query.frame();
    let (action, after) = path(&frame).map_err(TestCaseError::fail)?;
    let theirs = respond(&query.message, Transport::Udp, Some(zone), b"node1");
    match action {
        Action::Transmit => {
            let ours = reply::message(query, &after).and_then(|message| Meaning::of(&message));
            let ours = ours.map_err(TestCaseError::fail)?;
            let theirs = theirs.ok_or_else(|| TestCaseError::fail("the responder keeps silent"))?;
            let theirs = Meaning::of(&theirs.message).map_err(TestCaseError::fail)?;
            prop_assert_eq!(&ours, &theirs);
            Ok(ours.kind())
        }
        Action::Pass => {
            prop_assert_eq!(after, frame);
            Ok("passed".to_owned())
        }
        Action::Drop => {
            prop_assert!(theirs.is_none(), "the responder answers what the program drops");
            Ok("dropped".to_owned())
        }
    }
}
