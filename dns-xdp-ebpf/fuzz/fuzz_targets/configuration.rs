//! Fuzzes the text of a configuration with libFuzzer.
#![no_main]

use dns_xdp_tests::oracle::untrusted::configuration;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Err(broken) = configuration::hold(text) {
        panic!("{broken}");
    }
});
