//! The load: queries from one core, answered on another, counted where the answers arrive.
//!
//! ```text
//!  core 0                                   core 1
//!  generator, live frames ──► veth's ring ──► NAPI thread: XDP, or the stack and a server
//!  NAPI thread: counter ◄──── veth's ring ◄───────────────────────────────────┘
//! ```
//!
//! Each NAPI thread is pinned, because a veth device does its work on the sender's core otherwise.
pub mod cores;
pub mod figures;
pub mod generator;
pub mod plot;
pub mod queries;
pub mod sample;
pub mod window;
pub mod wire;
