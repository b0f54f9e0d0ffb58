//! The right result for a frame, a query or an untrusted input, and the inputs to test.
//!
//! - [`table`] has the rows of the packet table. [`frames`] builds their packets and parses the answers. [`mod@host`]
//!   and [`mod@kernel`] run the path of a query over them.
//! - [`frame_oracle`] has the expected result for every frame, and [`property`] tests it with random [`queries`] in
//!   random [`zones`].
//! - [`meaning`] compares two answers. [`nsd_differences`] lists the differences between the responder's answers and
//!   NSD's to the queries of [`query_corpus`]; NSD serves the zone of [`dns_xdp::zone::zone_file`].
//! - [`untrusted`] has the properties of the other inputs, [`seeds`] and [`mutation`] are for the fuzzer.
//!
//! This module starts no daemon and makes no namespace; [`bed`](crate::bed) does that.
pub mod frame_oracle;
pub mod frames;
pub mod host;
pub mod kernel;
pub mod meaning;
pub mod mutation;
pub mod nsd_differences;
pub mod property;
pub mod queries;
pub mod query_corpus;
pub mod seeds;
pub mod table;
#[cfg(feature = "tests")]
pub mod untrusted;
pub mod zones;
