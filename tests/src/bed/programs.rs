//! The objects that the kernel loads for tests and benches alone.

/// The stub for the other end of a veth pair, and what a switch does to a connection.
pub const TESTBED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/testbed"));

/// The load generator's programs.
pub const LOAD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/load"));
