//! What reaches the daemon from others, and what must hold whatever it is: for the fuzzer, and for what it has found.
//!
//! Each takes any octets, so that a file of the corpus is a test: messages to the responder ([`request`]), the text
//! of a configuration ([`configuration`]), and bytes on the control socket ([`control`]). Frames have an oracle of
//! their own ([`crate::oracle::frame_oracle`]).
pub mod configuration;
pub mod control;
pub mod request;
