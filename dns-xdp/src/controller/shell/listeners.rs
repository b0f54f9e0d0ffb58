//! The listeners through which others reach the loop: the control socket and the metrics. Each is a task, which is
//! started again where it ends by a defect.
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

/// The running listeners. Dropping them removes the file of the control socket, and leaves them running to the end of the
/// runtime.
#[derive(Debug)]
pub(super) struct Listeners {
    control: Option<JoinHandle<()>>,
    socket: Arc<SocketFile>,
    metrics: Option<JoinHandle<()>>,
    places: Places,
    stop: CancellationToken,
}

/// Where they listen, and for what.
#[derive(Debug)]
pub(super) struct Places {
    /// The control socket.
    pub(super) socket: PathBuf,
    /// The address of the metrics.
    pub(super) metrics: Option<SocketAddr>,
    /// The name of this server, for the metrics.
    pub(super) identity: String,
    /// What the loop writes down.
    pub(super) recorder: Recorder,
    /// Where what is asked goes.
    pub(super) calls: mpsc::Sender<Call>,
    /// Where events are read.
    pub(super) journal: Arc<Journal>,
}

impl Listeners {
    /// Passes what is asked on.
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

    /// Completes when one of them has ended, which none does by itself. Cancel safe.
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

    /// Starts one of them again.
    ///
    /// # Errors
    /// Why it cannot be bound.
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

    /// Gives the answers under way and closes. The control socket goes last: a successor waits for it, and then
    /// finds the metrics' port free.
    pub(super) async fn stop(mut self) {
        if let Some(metrics) = self.metrics.take() {
            metrics.abort();
            // It was cut off: there is no result.
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

/// Waits for ever where there is no task. Cancel safe.
async fn finished(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => drop(task.await),
        None => std::future::pending().await,
    }
}
