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
#[cfg(feature = "tests")]
pub mod frame_oracle;
pub mod frames;
#[cfg(feature = "tests")]
pub mod host;
#[cfg(feature = "tests")]
pub mod kernel;
#[cfg(feature = "tests")]
pub mod meaning;
#[cfg(feature = "tests")]
pub mod mutation;
#[cfg(feature = "tests")]
pub mod nsd_differences;
#[cfg(feature = "tests")]
pub mod property;
#[cfg(feature = "tests")]
pub mod queries;
#[cfg(feature = "tests")]
pub mod query_corpus;
#[cfg(feature = "tests")]
pub mod seeds;
#[cfg(feature = "tests")]
pub mod table;
#[cfg(feature = "tests")]
pub mod untrusted;
#[cfg(feature = "tests")]
pub mod zones;
