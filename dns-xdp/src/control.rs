//! The control socket: HTTP and JSON over a unix socket, server and client.
//!
//! One request is `POST /command` with a [`Command`] as JSON. The answer is the JSON of [`api`], or a [`Refusal`] with
//! the HTTP status of its kind.
pub mod api;
mod client;
mod connections;
mod server;
#[cfg(test)]
mod tests;

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

pub use api::{Call, Command, Refusal, RefusalKind};
pub use client::{CallError, Client};
pub use server::{BindError, Server, SocketFile, remove_stale};

/// The one resource of the socket.
const COMMAND_PATH: &str = "/command";
/// The request header with the time when the client gives up, in milliseconds of [`monotonic`].
const UNTIL: &str = "x-dns-xdp-until";

/// Returns the time of CLOCK_MONOTONIC. No user sets this clock, and it is the same in all processes.
pub fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}
