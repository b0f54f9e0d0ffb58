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
