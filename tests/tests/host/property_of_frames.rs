//! The oracle of frames over the packet table, over mutations of its rows, and over the fuzzer's findings.
use std::collections::BTreeMap;
use std::fs;

use dns_xdp_ebpf::outcome::Action;
use dns_xdp_tests::oracle::frame_oracle::States;
use dns_xdp_tests::oracle::table::zone::zone;
use dns_xdp_tests::oracle::table::{Row, rows};

/// Frames of the fuzzer that have broken a property. Each is named by its fault. Some faults were put into a copy of
/// the path to see whether the fuzzer finds them.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dns-xdp-ebpf/fuzz/regressions/frame");
/// The number of queries of the packet table whose mutations are tested.
const QUERIES: usize = 20;

#[test]
fn every_frame_that_the_fuzzer_has_found_is_treated_as_expected() {
    let states = States::of(zone());
    let mut replayed = 0;
    for entry in fs::read_dir(REGRESSIONS).unwrap() {
        let path = entry.unwrap().path();
        if let Err(broken) = states.hold(&fs::read(&path).unwrap()) {
            panic!("{}: {broken}", path.display());
        }
        replayed += 1;
    }
    assert!(replayed >= 15, "{REGRESSIONS} has only {replayed} frames");
}

#[test]
fn every_frame_of_the_packet_table_is_treated_as_expected() {
    let states = States::of(zone());
    let mut kinds = BTreeMap::new();
    for row in rows() {
        let kind = states.hold(&row.frame).unwrap_or_else(|broken| panic!("{}: {broken}", row.what));
        *kinds.entry(kind).or_insert(0) += 1;
    }
    println!("{kinds:?}");
    assert_eq!(kinds.len(), 6, "{kinds:?}");
}

#[test]
fn every_frame_that_is_a_bit_or_an_octet_away_from_a_query_is_treated_as_expected() {
    let states = States::of(zone());
    let short = |row: &Row| row.outcome.action() == Action::Transmit && row.frame.len() < 120;
    let frames: Vec<Vec<u8>> = rows().into_iter().filter(short).map(|row| row.frame).collect();
    for frame in frames.iter().step_by(frames.len() / QUERIES) {
        let hold = |frame: &[u8], what: &str, at: usize| {
            states.hold(frame).unwrap_or_else(|broken| panic!("{what} {at} of {frame:02x?}: {broken}"));
        };
        for at in 0..frame.len() {
            hold(&frame[..at], "cut at octet", at);
            hold(&[&frame[..at], &frame[at + 1..]].concat(), "without octet", at);
            hold(&[&frame[..at], &[frame[at]], &frame[at..]].concat(), "twice octet", at);
            for bit in 0..8 {
                let mut changed = frame.clone();
                changed[at] ^= 1 << bit;
                hold(&changed, "changed octet", at);
            }
        }
    }
}
