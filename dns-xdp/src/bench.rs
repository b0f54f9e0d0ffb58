//! What is timed: queries as frames, for `dns-xdp bench` and `cargo xtask bench program`.
mod kind;
mod query;

pub use kind::{Kind, Routes, kinds};
pub use query::{Between, Edns, Query, Route};
