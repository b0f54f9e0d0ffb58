//! The listeners through which others reach the loop: the control socket and the metrics.
use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::control::{Call, Server};
use crate::event::Journal;
use crate::metrics::{self, Desk, Recorder};

/// The running listeners. Dropping them leaves them running to the end of the runtime.
#[derive(Debug)]
pub(super) struct Servers {
    control: JoinHandle<()>,
    metrics: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Servers {
    /// Passes what is asked on to `calls`; events are read from the journal. `metrics`: where, as whom, and what the
    /// loop writes down.
    pub(super) fn start(
        control: Server,
        metrics: Option<(TcpListener, String, Recorder)>,
        calls: mpsc::Sender<Call>,
        journal: Arc<Journal>,
    ) -> Self {
        let stop = CancellationToken::new();
        let metrics = metrics.map(|(listener, server, recorder)| {
            let desk = Desk::new(server, calls.clone(), Arc::clone(&journal), recorder);
            tokio::spawn(metrics::serve(listener, Arc::new(desk)))
        });
        Servers { control: tokio::spawn(control.serve(calls, journal, stop.clone())), metrics, stop }
    }

    /// Gives the answers under way and closes. The control socket goes last: a successor waits for it, and then
    /// finds the metrics' port free.
    pub(super) async fn stop(self) {
        if let Some(metrics) = self.metrics {
            metrics.abort();
            // It was cut off: there is no result.
            metrics.await.ok();
        }
        self.stop.cancel();
        if let Err(error) = self.control.await {
            tracing::error!(%error, "the control socket failed");
        }
    }
}
