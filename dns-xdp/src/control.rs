//! The control socket: HTTP and JSON over a unix socket, server and client.
//!
//! One request is `POST /command` with a [`Command`] as JSON; the answer is the JSON of
//! [`api`], or a [`Refusal`] with the status that its kind names.
pub mod api;
mod client;
mod connections;
mod server;
#[cfg(test)]
mod tests;

pub use api::{Call, Command, Refusal, RefusalKind};
pub use client::{CallError, Client};
pub use server::{BindError, Server, remove_stale};

/// The one resource of the socket.
const COMMAND_PATH: &str = "/command";
