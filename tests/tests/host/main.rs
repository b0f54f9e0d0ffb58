//! Tests that need no privileges: the packet table and its properties on host code, and untrusted input.
//!
//! `cargo test` runs them. What takes the kernel is in `kernel`, what takes network namespaces is in `net` and `store`.
mod fallback_shares;
mod packets;
mod property_host_equals_responder;
mod property_of_frames;
mod rotation;
mod untrusted;
