//! The fuzzer's findings and seeds, replayed against the daemon's properties for untrusted input.
use std::fs;
use std::path::PathBuf;

use dns_xdp_tests::oracle::seeds;
use dns_xdp_tests::oracle::table::zone::zone;
use dns_xdp_tests::oracle::untrusted::{configuration, control, request, update};

/// The inputs of a target. Some have once broken its property, and are named by the fault. The others are the fuzzer's
/// seeds.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let regressions =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../dns-xdp-ebpf/fuzz/regressions").join(target);
    let found = fs::read_dir(&regressions).into_iter().flatten().map(|entry| {
        let path = entry.expect("the directory can be listed").path();
        (path.display().to_string(), fs::read(&path).expect("the input can be read"))
    });
    let seeds = seeds::of(target).into_iter().enumerate().map(|(nth, seed)| (format!("seed {nth}"), seed));
    found.chain(seeds).collect()
}

#[test]
fn every_message_has_the_answer_that_it_may_have() {
    let zone = zone();
    let inputs = inputs("request");
    assert!(inputs.len() > 100, "{} inputs", inputs.len());
    for (what, input) in inputs {
        request::hold(&zone, &request::message(&input)).unwrap_or_else(|broken| panic!("{what}: {broken}"));
    }
}

#[test]
fn every_update_has_the_answer_that_its_signature_allows() {
    let zone = zone();
    let mut rng = dns_xdp_tests::rng::Rng(1);
    let random = (0..20_000).map(|nth| {
        let length = 1 + rng.below(400);
        (format!("random {nth}"), (0..length).map(|_| rng.below(256) as u8).collect::<Vec<u8>>())
    });
    let mut accepted = 0;
    for (what, input) in inputs("update").into_iter().chain(random) {
        let sent = update::message(&input);
        accepted += usize::from(sent.accepted);
        update::hold(&zone, &sent).unwrap_or_else(|broken| panic!("{what}: {broken}"));
    }
    assert!(accepted > 100, "{accepted} messages are accepted");
}

#[test]
fn every_text_is_a_configuration_or_refused() {
    let whole = inputs("configuration").into_iter().filter(|(what, input)| {
        configuration::hold(input).unwrap_or_else(|broken| panic!("{what}: {broken}"))
    });
    assert!(whole.count() >= 3, "nearly everything is refused");
}

#[test]
fn every_input_on_the_control_socket_is_answered_or_disconnected() {
    let socket = control::Socket::serve().unwrap();
    let inputs = inputs("control");
    assert!(inputs.len() > 10, "{} inputs", inputs.len());
    for (what, input) in inputs {
        socket.hold(&input).unwrap_or_else(|broken| panic!("{what}: {broken}"));
    }
}
