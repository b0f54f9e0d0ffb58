//! The common code of the tests, the demo, the lab and the benches.
//!
//! [`bed`] makes a cluster on one machine, in network namespaces. [`oracle`] has the right answer to each query.
//! [`load`] measures one server of [`competitors`]. [`survive`] plays faults under a load that accounts for every
//! query. The tests themselves are in `tests/tests`, one binary for each kind. Without the feature `tests` there is only
//! the code of the demo, which is then built sooner.
pub mod bed;
#[cfg(feature = "tests")]
pub mod competitors;
#[cfg(feature = "tests")]
pub mod jitter;
#[cfg(feature = "tests")]
pub mod load;
pub mod oracle;
pub mod rng;
#[cfg(feature = "tests")]
pub mod survive;
