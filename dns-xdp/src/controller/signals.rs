//! The signals that a daemon obeys.
use std::io;

use tokio::signal::unix::{self, SignalKind};

/// What the signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGHUP: read the configuration again.
    Hangup,
    /// SIGINT: leave nothing behind.
    Interrupt,
    /// SIGTERM: let the program answer for the grace.
    Terminate,
}

#[derive(Debug)]
pub(super) struct Signals {
    hangup: unix::Signal,
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// From now on the signals come here and end nothing by themselves.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Signals {
            hangup: unix::signal(SignalKind::hangup())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        })
    }

    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::Hangup,
            _ = self.interrupt.recv() => Signal::Interrupt,
            _ = self.terminate.recv() => Signal::Terminate,
        }
    }

    /// The next one that asks for an end.
    pub(super) async fn end(&mut self) {
        while self.next().await == Signal::Hangup {}
    }
}
