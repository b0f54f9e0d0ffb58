//! The daemon and the command line of dns-xdp.
//!
//! All answers come from one value: [`zone::Zone`], the finished answers. Pure functions derive it, and it is published
//! to both the program and the responder. Therefore they agree, except for a moment during a change.
//!
//! ```text
//!  probes ──► health (pure state machine) ─┐
//!  config file, CLI (membership, admin) ───┼─► failover (pure: decides every answer) ─► Zone ─┬─► datapath (BPF maps)
//!                                          │                                                  └─► responder (hickory)
//!  clock ──────────────────────────────────┘                          status, metrics, events observe it
//! ```
#![cfg_attr(not(test), warn(clippy::print_stderr, clippy::print_stdout))]

pub mod answered_by;
mod atomic_file;
pub mod authorities;
pub mod bench;
pub mod cli;
pub mod cluster;
pub mod config;
mod connections;
pub mod control;
pub mod controller;
pub mod datapath;
pub mod delegation;
pub mod doctor;
pub mod event;
pub mod failover;
pub mod flood_limits;
mod fnv;
pub mod health;
pub mod intent;
mod log;
pub mod metrics;
pub mod network;
pub mod pin_directory;
mod privileges;
pub mod program_features;
pub mod records;
pub mod repair_bound;
pub mod responder;
pub mod severity;
pub mod store;
pub mod subprocess;
mod unprivileged;
pub mod update;
pub mod zone;
