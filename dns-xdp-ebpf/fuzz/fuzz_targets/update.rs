//! Fuzzes updates of the zone with libFuzzer. The input is the message, or the message is made from its parts and signed.
#![no_main]

use std::sync::LazyLock;

use dns_xdp::zone::Zone;
use dns_xdp_tests::oracle::table::zone::zone;
use dns_xdp_tests::oracle::untrusted::update;
use libfuzzer_sys::fuzz_target;

static ZONE: LazyLock<Zone> = LazyLock::new(zone);

fuzz_target!(|input: &[u8]| {
    if let Err(broken) = update::hold(&ZONE, &update::message(input)) {
        panic!("{broken}");
    }
});
