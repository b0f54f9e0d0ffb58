//! Messages to the responder under libFuzzer, as they come or made of the input part by part.
#![no_main]

use std::sync::LazyLock;

use dns_xdp::zone::Zone;
use dns_xdp_tests::table::zone::zone;
use dns_xdp_tests::untrusted::request;
use libfuzzer_sys::fuzz_target;

static ZONE: LazyLock<Zone> = LazyLock::new(zone);

fuzz_target!(|input: &[u8]| {
    if let Err(broken) = request::hold(&ZONE, &request::message(input)) {
        panic!("{broken}");
    }
});
