//! Fuzzes frames with libFuzzer: each input is a frame, and the program has to treat it as the oracle expects.
#![no_main]

use std::sync::LazyLock;

use dns_xdp_tests::oracle::frame_oracle::States;
use dns_xdp_tests::oracle::mutation;
use dns_xdp_tests::oracle::table::zone::zone;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

static STATES: LazyLock<States> = LazyLock::new(|| States::of(zone()));

fuzz_target!(|frame: &[u8]| {
    if let Err(broken) = STATES.hold(frame) {
        panic!("{broken}");
    }
});

// The program stops at the headers of a frame whose lengths contradict each other. Nearly all mutations of a frame
// produce such frames; most mutations of a message do not. Most changes therefore affect only the message, with
// corrected lengths, or turn the query into another valid query.
fuzz_mutator!(|frame: &mut [u8], size: usize, max_size: usize, seed: u32| {
    match seed % 8 {
        0..4 => {
            let another = mutation::mutated(&frame[..size], seed);
            let size = another.len().min(max_size);
            frame[..size].copy_from_slice(&another[..size]);
            size
        }
        4..7 if let Some(headers) = Headers::of(&frame[..size]) => {
            let message = headers.transport + UDP_LENGTH;
            let size = message + fuzzer_mutate(&mut frame[message..], size - message, max_size - message);
            headers.mend_lengths(&mut frame[..size]);
            size
        }
        _ => fuzzer_mutate(frame, size, max_size),
    }
});

const UDP_LENGTH: usize = 8;

/// The offsets of the headers of a frame with a datagram.
struct Headers {
    /// Offset of the field with the length according to IP, and the offset from which it counts.
    ip_length: (usize, usize),
    transport: usize,
}

impl Headers {
    fn of(frame: &[u8]) -> Option<Headers> {
        let mut network = 14;
        while matches!(frame.get(network - 2..network)?, [0x81, 0x00] | [0x88, 0xa8]) {
            network += 4;
        }
        let (ip_length, transport) = match frame.get(network - 2..network)? {
            [0x08, 0x00] => ((network + 2, network), network + 20),
            [0x86, 0xdd] => ((network + 4, network + 40), network + 40),
            _ => return None,
        };
        frame.get(transport + UDP_LENGTH..).map(|_message| Headers { ip_length, transport })
    }

    /// Sets the lengths so that the datagram ends at the end of the frame.
    fn mend_lengths(&self, frame: &mut [u8]) {
        let (field, from) = self.ip_length;
        for (field, from) in [(field, from), (self.transport + 4, self.transport)] {
            let length = u16::try_from(frame.len() - from).unwrap_or(u16::MAX);
            frame[field..field + 2].copy_from_slice(&length.to_be_bytes());
        }
    }
}
