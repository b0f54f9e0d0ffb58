//! What has to come out of a frame, a query or an untrusted input, and the inputs that are tried.
//!
//! - [`table`] has the rows of the packet table. [`frames`] builds their packets and takes the answers apart. [`mod@host`]
//!   and [`mod@kernel`] run the path of a query over them.
//! - [`frame_oracle`] says what is expected of any frame whatever, and [`property`] tries it on random [`queries`] in
//!   random [`zones`].
//! - [`meaning`] is what two answers are compared by. [`nsd_differences`] lists where ours differ from NSD's, to which
//!   [`query_corpus`] is sent; NSD serves what [`mod@zone_file`] writes.
//! - [`untrusted`] has the properties of the other inputs, [`seeds`] and [`mutation`] are for the fuzzer.
//!
//! Nothing here starts a daemon or makes a namespace: that is [`bed`](crate::bed)'s.
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
pub mod untrusted;
pub mod zone_file;
pub mod zones;
