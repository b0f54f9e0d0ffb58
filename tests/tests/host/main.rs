//! Tests that need no privileges: the packet table and its properties on host code, and untrusted input.
//!
//! `cargo test` runs them. Tests in the kernel are in `kernel`, tests in network namespaces in `net` and `store`.
mod fallback_shares;
mod packets;
mod property_host_equals_responder;
mod property_of_frames;
mod rotation;
mod untrusted;
