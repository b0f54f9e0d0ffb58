//! The signals that a daemon obeys.
use std::io;

use tokio::signal::unix::{self, SignalKind};

use crate::controller::core::Signal;

#[derive(Debug)]
pub(super) struct Signals {
    hangup: unix::Signal,
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Catches the signals from now on, so that they no longer end the process.
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

    /// Waits for the next signal that asks the daemon to end.
    pub(super) async fn end(&mut self) {
        while self.next().await == Signal::Hangup {}
    }
}
