//! What is timed: queries as frames, for `dns-xdp bench` and `cargo xtask bench program`.
mod query;

pub use query::{Between, Edns, Query, Route};
