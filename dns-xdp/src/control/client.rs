//! The command line's side of the control socket.
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::api::{Command, Refusal};
use super::{COMMAND_PATH, UNTIL, monotonic};

/// The longest wait for an answer. A command answers when its effect is visible, after one probe round at most.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer in octets: the zone file of a zone with as many names as the largest table, and 10 addresses each.
const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// A client of the daemon on one socket. It makes a connection for each command.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
    patience: Duration,
}

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no socket, or no daemon listens on it.
    #[error(
        "no dns-xdp answers on {socket}: start it with 'dns-xdp run' or name its socket with --socket",
        socket = socket.display()
    )]
    NoDaemon {
        /// The socket.
        socket: PathBuf,
    },
    /// This user may not use the socket.
    #[error("may not use {socket}: run this as root", socket = socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon has refused the command.
    #[error("{0}")]
    Refused(Refusal),
    /// The daemon has not answered in time.
    #[error(
        "the dns-xdp on {socket} did not answer within {}: look at its log",
        humantime::format_duration(*patience),
        socket = socket.display()
    )]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// How long the client waited.
        patience: Duration,
    },
    /// The reply was not a valid answer.
    #[error(
        "the dns-xdp on {socket} gave no valid answer ({reason}): is it another version?",
        socket = socket.display()
    )]
    Garbled {
        /// The socket.
        socket: PathBuf,
        /// The fault of the reply.
        reason: String,
    },
}

impl Client {
    /// Makes a client of the daemon on `socket`. It does not connect yet.
    pub fn new(socket: &Path) -> Self {
        Client { socket: socket.to_owned(), patience: COMMAND_TIMEOUT }
    }

    /// Returns the client with this time limit for an answer.
    pub fn with_patience(self, patience: Duration) -> Self {
        Client { patience, ..self }
    }

    /// Sends a command and returns the answer in its type.
    pub async fn ask<T: DeserializeOwned>(&self, command: &Command) -> Result<T, CallError> {
        let answer = self.call(command).await?;
        serde_json::from_value(answer).map_err(|error| self.garbled(error))
    }

    /// Sends a command and returns the answer as JSON.
    pub async fn call(&self, command: &Command) -> Result<Value, CallError> {
        let silent = |_| CallError::Silent { socket: self.socket.clone(), patience: self.patience };
        tokio::time::timeout(self.patience, self.exchange(command)).await.map_err(silent)?
    }

    async fn exchange(&self, command: &Command) -> Result<Value, CallError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unconnected(&error))?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (mut sender, connection) = handshake.await.map_err(|error| self.garbled(error))?;
        let connection = tokio::spawn(connection);
        let body = serde_json::to_vec(command).map_err(|error| self.garbled(error))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(COMMAND_PATH)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .header(UNTIL, (monotonic() + self.patience).as_millis().to_string())
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.garbled(error))?;
        let response = sender.send_request(request).await.map_err(|error| self.garbled(error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), LONGEST_ANSWER).collect().await;
        connection.abort();
        let body = body.map_err(|error| self.garbled(error))?.to_bytes();
        self.answer(status, &body)
    }

    fn answer(&self, status: StatusCode, body: &[u8]) -> Result<Value, CallError> {
        if status == StatusCode::OK {
            return serde_json::from_slice(body).map_err(|error| self.garbled(error));
        }
        match serde_json::from_slice(body) {
            Ok(refusal) => Err(CallError::Refused(refusal)),
            Err(_) => Err(self.garbled(status)),
        }
    }

    fn unconnected(&self, error: &io::Error) -> CallError {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => CallError::NoDaemon { socket },
            io::ErrorKind::PermissionDenied => CallError::Denied { socket },
            _ => self.garbled(error),
        }
    }

    fn garbled(&self, reason: impl std::fmt::Display) -> CallError {
        CallError::Garbled { socket: self.socket.clone(), reason: reason.to_string() }
    }
}
