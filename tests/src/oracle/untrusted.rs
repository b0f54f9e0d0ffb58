//! The daemon's untrusted inputs and the properties for every input. The fuzzer uses them, and tests replay its
//! findings.
//!
//! Each property takes any octets, so that a file of the corpus is a test. The octets are messages to the responder
//! ([`request`], and [`update`] for those that keys sign), the text of a configuration ([`configuration`]), or bytes on the control socket ([`control`]). Frames
//! have an oracle of their own ([`crate::oracle::frame_oracle`]).
pub mod configuration;
pub mod control;
pub mod request;
pub mod update;
