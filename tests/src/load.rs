//! The load of the benches: queries from one core, answered on another, counted where the answers arrive.
//!
//! The slower load that accounts for every query is in [`survive`](crate::survive::load).
//!
//! ```text
//!  core 0                                      core 1
//!  generator, live frames ──► ring of a veth ──► NAPI thread: XDP, or the stack and a server
//!                 counter ◄── ring of a veth ◄──────────────────────────────────┘
//! ```
//!  The counter is the XDP program of the generator's end; [`wire::Counting`] chooses the core that does its work. NAPI
//! threads are pinned, because otherwise a veth device works on the sender's core.
pub mod cores;
pub mod figures;
pub mod generator;
pub mod plot;
pub mod queries;
pub mod sample;
pub mod window;
pub mod wire;
