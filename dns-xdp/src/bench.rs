//! Builds the frames of the timed queries, for `dns-xdp bench` and `cargo xtask bench program`.
//!
//! `kind` chooses the queries, `query` writes their frames. The stopwatch itself is in `datapath`.
mod kind;
mod query;

pub use kind::{Kind, Routes, kinds};
pub use query::{Between, Edns, Query, Route};
