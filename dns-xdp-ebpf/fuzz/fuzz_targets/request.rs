//! Fuzzes messages to the responder with libFuzzer. The input is the message, or the message is made from its parts.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use dns_xdp::zone::Zone;
use dns_xdp_tests::oracle::table::zone::zone;
use dns_xdp_tests::oracle::untrusted::request;
use libfuzzer_sys::fuzz_target;

/// Without instrumentation, each message takes less than a millisecond. With it, everything takes about 10 times as
/// long.
const TIME_MAX: Duration = Duration::from_millis(10);

static ZONE: LazyLock<Zone> = LazyLock::new(zone);

fuzz_target!(|input: &[u8]| {
    let message = request::message(input);
    if let Err(broken) = request::hold(&ZONE, &message) {
        panic!("{broken}");
    }
    let time = request::answer_time(&ZONE, &message);
    assert!(time <= TIME_MAX, "{} octets take {time:?}", message.len());
});
