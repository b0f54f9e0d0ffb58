//! `dns-xdp`: arguments, logging, exit code.
fn main() {}
