//! The BPF objects that only tests and benches use.

/// The stub for the other end of a veth pair, and the programs of a switch's ports.
pub const TESTBED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/testbed"));

/// The load generator's programs.
pub const LOAD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/load"));
