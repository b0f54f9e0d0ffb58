//! The listeners for clients of the daemon's loop: the control socket and the metrics. Each is a task, which is started
//! again if a defect ends it.
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Task;
use crate::control::{Call, Server, SocketFile};
use crate::event::Journal;
use crate::metrics::{self, Recorder, StatusCache};

/// The running listeners. Dropping them removes the file of the control socket, and leaves them running to the end of
/// the runtime.
#[derive(Debug)]
pub(super) struct Listeners {
    control: Option<JoinHandle<()>>,
    socket: Arc<SocketFile>,
    metrics: Option<JoinHandle<()>>,
    places: Places,
    stop: CancellationToken,
}

/// The settings of the listeners.
#[derive(Debug)]
pub(super) struct Places {
    /// The control socket.
    pub(super) socket: PathBuf,
    /// The address of the metrics.
    pub(super) metrics: Option<SocketAddr>,
    /// The name of this server, for the metrics.
    pub(super) identity: String,
    /// The counters that the loop keeps.
    pub(super) recorder: Recorder,
    /// The channel that commands go to.
    pub(super) calls: mpsc::Sender<Call>,
    /// The journal that events are read from.
    pub(super) journal: Arc<Journal>,
}

impl Listeners {
    /// Starts the listeners, which pass commands on to the loop.
    pub(super) fn start(control: Server, metrics: Option<TcpListener>, places: Places) -> Self {
        let stop = CancellationToken::new();
        let socket = control.file();
        let mut listeners = Listeners { control: None, socket, metrics: None, places, stop };
        listeners.serve_control(control);
        if let Some(metrics) = metrics {
            listeners.serve_metrics(metrics);
        }
        listeners
    }

    fn serve_control(&mut self, control: Server) {
        let Places { calls, journal, .. } = &self.places;
        self.socket = control.file();
        let serving = control.serve(calls.clone(), Arc::clone(journal), self.stop.clone());
        self.control = Some(tokio::spawn(serving));
    }

    fn serve_metrics(&mut self, listener: TcpListener) {
        let Places { calls, journal, identity, recorder, .. } = &self.places;
        let status_cache =
            StatusCache::new(identity.clone(), calls.clone(), Arc::clone(journal), recorder.clone());
        self.metrics = Some(tokio::spawn(metrics::serve(listener, Arc::new(status_cache))));
    }

    /// Completes when a listener has ended, which only a defect does. Cancel safe.
    pub(super) async fn ended(&mut self) -> Task {
        tokio::select! {
            () = finished(&mut self.control) => {
                self.control = None;
                Task::ControlSocket
            }
            () = finished(&mut self.metrics) => {
                self.metrics = None;
                Task::Metrics
            }
        }
    }

    /// Starts a listener again.
    ///
    /// # Errors
    /// The listener cannot be bound.
    pub(super) fn restart(&mut self, task: Task) -> anyhow::Result<()> {
        match (task, self.places.metrics) {
            (Task::ControlSocket, _) => {
                self.socket.remove();
                let control = Server::bind(&self.places.socket)?;
                self.serve_control(control);
            }
            (Task::Metrics, Some(address)) => {
                let listener = metrics::bind(address)?;
                self.serve_metrics(listener);
            }
            _ => {}
        }
        Ok(())
    }

    /// Sends the answers under way and closes. The control socket goes last: a successor waits for it, and then finds
    /// the metrics' port free.
    pub(super) async fn stop(mut self) {
        if let Some(metrics) = self.metrics.take() {
            metrics.abort();
            // The task was aborted: there is no result.
            metrics.await.ok();
        }
        self.stop.cancel();
        if let Some(control) = self.control.take()
            && let Err(error) = control.await
        {
            tracing::error!(%error, "the control socket failed");
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.socket.remove();
    }
}

/// Completes when the task has ended. Without a task it waits for ever. Cancel safe.
async fn finished(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}
