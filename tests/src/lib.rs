//! The common code of the tests, the demo, the lab and the benches.
//!
//! [`bed`] makes a cluster on one machine, in network namespaces. [`oracle`] has the right answer to each query.
//! [`load`] measures one server of [`competitors`]. [`survive`] plays faults under a load that accounts for every
//! query. The tests themselves are in `tests/tests`, one binary for each kind.
pub mod bed;
pub mod competitors;
pub mod jitter;
pub mod load;
pub mod oracle;
pub mod rng;
pub mod survive;
