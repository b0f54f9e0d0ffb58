//! Passes the log of a loaded program on to the daemon's log.
use std::time::Duration;

use aya::Ebpf;
use tokio::task::AbortHandle;

use super::Error;

/// The interval between two readings of the program's log, if the log is on.
const LOG_INTERVAL: Duration = Duration::from_millis(50);

/// The task that passes the log of one loaded program on. Each program has its own ring, so the task ends with the
/// program.
#[derive(Debug)]
pub(super) struct LogTask(AbortHandle);

impl LogTask {
    /// Starts the task. Needs a tokio runtime.
    pub(super) fn start(object: &mut Ebpf) -> Result<Self, Error> {
        let failed = || Error::new("cannot follow the program's log");
        let mut logger = aya_log::EbpfLogger::init(object).map_err(|error| failed().because_of(error))?;
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(LOG_INTERVAL);
            loop {
                tick.tick().await;
                logger.flush();
            }
        });
        Ok(LogTask(task.abort_handle()))
    }
}

impl Drop for LogTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}
