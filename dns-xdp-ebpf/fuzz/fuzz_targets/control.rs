//! Fuzzes the input of the control socket with libFuzzer.
#![no_main]

use std::sync::LazyLock;

use dns_xdp_tests::oracle::untrusted::control::Socket;
use libfuzzer_sys::fuzz_target;

static SOCKET: LazyLock<Socket> = LazyLock::new(|| Socket::serve().expect("there is room for a socket"));

fuzz_target!(|said: &[u8]| {
    if let Err(broken) = SOCKET.hold(said) {
        panic!("{broken}");
    }
});
