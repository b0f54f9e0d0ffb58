//! What the tests, the demo, the lab and the benches share.
//!
//! [`bed`] makes a cluster on one machine, in network namespaces. [`oracle`] tells what has to come out of a query.
//! [`load`] measures one server, and [`competitors`] are the servers that it is put on. [`survive`] plays what goes wrong
//! under a load that accounts for every query. The tests themselves are in `tests/tests`, one binary for each kind.
pub mod bed;
pub mod competitors;
pub mod jitter;
pub mod load;
pub mod oracle;
pub mod rng;
pub mod survive;
