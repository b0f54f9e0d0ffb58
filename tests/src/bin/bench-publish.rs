//! Measures the cost of a publication by the number of changed names: map elements written, and the time until packets
//! see the change.
//!
//! Two banks of the table take turns. A publication therefore writes the names that have changed. It also writes the
//! names that the previous publication changed in the other bank.
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::Result;
use dns_xdp::datapath::{Unattached, Variant, places};
use dns_xdp::zone::{Addresses, Zone};
use dns_xdp_tests::oracle::table::zone::zone_of;

const SIZES: [usize; 3] = [100, 5_000, 65_000];
const CHANGES: [usize; 4] = [1, 10, 100, 1_000];
const ROUNDS: usize = 11;
const CAPACITY: u32 = 65_536;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PORT: u16 = 53;
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11));

fn main() -> Result<()> {
    println!(
        "| names | changed | map writes | writes / changed | ms until packets see it |\n|---:|---:|---:|---:|---:|"
    );
    for size in SIZES {
        for changed in CHANGES.into_iter().filter(|changed| *changed <= size) {
            let (writes, took) = publications(size, changed)?;
            let ratio = writes as f64 / changed as f64;
            println!("| {size} | {changed} | {writes} | {ratio:.1} | {:.2} |", took.as_secs_f64() * 1e3);
        }
    }
    Ok(())
}

/// The median writes and time of publications that each change `changed` of `size` names.
fn publications(size: usize, changed: usize) -> Result<(usize, Duration)> {
    let mut program = Unattached::load(Variant::default(), &places(&[SERVER], MAC), PORT, CAPACITY)?;
    let mut versions = vec![0u32; size];
    // Each bank is written whole once.
    for _ in 0..2 {
        program.publish(&zone(&versions))?;
    }
    let (mut writes, mut times) = (Vec::new(), Vec::new());
    let mut next = (0..size).cycle();
    for _ in 0..ROUNDS {
        for name in next.by_ref().take(changed) {
            versions[name] += 1;
        }
        let zone = zone(&versions);
        let start = Instant::now();
        writes.push(program.publish(&zone)?);
        times.push(start.elapsed());
    }
    writes.sort_unstable();
    times.sort_unstable();
    Ok((writes[ROUNDS / 2], times[ROUNDS / 2]))
}

/// Returns a zone that gives each name the address of its version.
fn zone(versions: &[u32]) -> Zone {
    let address = |version: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + version));
    zone_of(
        versions
            .iter()
            .enumerate()
            .map(|(number, version)| (format!("node{number:05}"), Addresses::new(5, [address(*version)]))),
    )
}
