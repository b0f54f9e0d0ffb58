//! Programs for the kernel that tests and benches alone use: the test bed's, and the load generator with its contract. What
//! ships is in `dns-xdp-ebpf`; the build script of the tests' crate builds these.
#![no_std]

pub mod load;
