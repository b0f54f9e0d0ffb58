//! The text of a configuration under libFuzzer.
#![no_main]

use dns_xdp_tests::oracle::untrusted::configuration;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Err(broken) = configuration::hold(text) {
        panic!("{broken}");
    }
});
