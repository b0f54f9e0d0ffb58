//! The on-event command. It runs for one event after another and never delays the loop.
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config;
use crate::event::Event;
use crate::subprocess::{self, Leftovers};

/// The most events that wait for the command. The command does not get further events.
const WAITING: usize = 64;
/// The time for the last events when the daemon stops.
const LAST_EVENTS: Duration = Duration::from_secs(1);

/// The queue in front of the command.
#[derive(Debug)]
pub(super) struct Notifier {
    queue: mpsc::Sender<Arc<Event>>,
    config: watch::Sender<config::Events>,
    counts: Arc<Counts>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// The counters of the runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Notified {
    /// The number of runs that failed, or were killed after their time limit.
    pub(super) failures: u64,
    /// The number of events that the queue had no room for.
    pub(super) overflows: u64,
}

#[derive(Debug, Default)]
struct Counts {
    failures: AtomicU64,
    overflows: AtomicU64,
    overflowing: AtomicBool,
}

impl Notifier {
    /// Starts the queue. Needs a tokio runtime.
    pub(super) fn start(config: &config::Events) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let (config, obeyed) = watch::channel(config.clone());
        let counts = Arc::new(Counts::default());
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(waiting, obeyed, Arc::clone(&counts), stop.clone()));
        Notifier { queue, config, counts, stop, task: Mutex::new(Some(task)) }
    }

    /// Queues an event if there is a command and room.
    pub(super) fn offer(&self, event: Arc<Event>) {
        if self.config.borrow().on_event.is_empty() {
            return;
        }
        match self.queue.try_send(event) {
            Ok(()) => self.counts.overflowing.store(false, Ordering::Relaxed),
            Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(event)) => {
                self.counts.overflows.fetch_add(1, Ordering::Relaxed);
                if !self.counts.overflowing.swap(true, Ordering::Relaxed) {
                    let seq = event.seq;
                    tracing::warn!(
                        "the on-event command is behind by {WAITING} events: it misses events from {seq} on, until there is room"
                    );
                }
            }
        }
    }

    pub(super) fn configure(&self, config: &config::Events) {
        self.config.send_replace(config.clone());
    }

    pub(super) fn notified(&self) -> Notified {
        Notified {
            failures: self.counts.failures.load(Ordering::Relaxed),
            overflows: self.counts.overflows.load(Ordering::Relaxed),
        }
    }

    pub(super) async fn finish(&self) {
        self.stop.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut task) = task else {
            return;
        };
        if tokio::time::timeout(LAST_EVENTS, &mut task).await.is_err() {
            tracing::warn!("the on-event command is killed: it has not ended with the daemon");
            task.abort();
            // The task was aborted: there is no result.
            task.await.ok();
        }
    }
}

async fn run(
    mut waiting: mpsc::Receiver<Arc<Event>>,
    config: watch::Receiver<config::Events>,
    counts: Arc<Counts>,
    stop: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            event = waiting.recv() => event,
            () = stop.cancelled(), if !waiting.is_closed() => {
                waiting.close();
                continue;
            }
        };
        let Some(event) = event else {
            return;
        };
        let config = config.borrow().clone();
        if let Some((program, arguments)) = config.on_event.split_first()
            && let Err(failure) = notified(program, arguments, config.on_event_timeout, &event).await
        {
            counts.failures.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                "the on-event command {program} failed for event {} ({}): {failure}",
                event.seq,
                event.what.kind
            );
        }
    }
}

/// Runs the command for one event, in its own task, so that a defect ends only this run.
async fn notified(
    program: &str,
    arguments: &[String],
    limit: Duration,
    event: &Arc<Event>,
) -> Result<(), String> {
    let (program, arguments, event) = (program.to_owned(), arguments.to_vec(), Arc::clone(event));
    let mut run = JoinSet::new();
    run.spawn(async move { notify(&program, &arguments, limit, &event).await });
    match run.join_next().await {
        Some(Ok(ended)) => ended,
        Some(Err(defect)) => Err(format!("a defect of dns-xdp: {defect}")),
        None => Ok(()),
    }
}

async fn notify(program: &str, arguments: &[String], limit: Duration, event: &Event) -> Result<(), String> {
    let mut line = serde_json::to_vec(event).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let what = &event.what;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("DNS_XDP_EVENT", what.kind.text())
        .env("DNS_XDP_SUBJECT", what.subject.as_deref().unwrap_or_default())
        .env("DNS_XDP_REASON", what.reason.as_deref().unwrap_or_default());
    let ended = subprocess::run(command, &line, limit, Leftovers::Spare).await;
    let ended = ended.map_err(|error| format!("it cannot be run: {error}"))?;
    let how = match ended.status {
        Some(status) if status.success() => return Ok(()),
        Some(status) => status.to_string(),
        None => format!("killed after {}", humantime::format_duration(limit)),
    };
    if ended.last_line.is_empty() { Err(how) } else { Err(format!("{how}: {}", ended.last_line)) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use jiff::Timestamp;
    use tempfile::TempDir;

    use super::*;
    use crate::event::{Kind, Occurrence};

    fn sh(script: &str, timeout: Duration) -> config::Events {
        let on_event = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        config::Events { on_event, on_event_timeout: timeout }
    }

    fn event(seq: u64) -> Arc<Event> {
        let what = Occurrence::new(Kind::Down).about("node2").because("refused");
        Arc::new(Event { seq, at: Timestamp::UNIX_EPOCH, what, grave: true })
    }

    const LONG: Duration = Duration::from_secs(20);

    async fn until(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + LONG;
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// A file that a script appends to.
    fn file() -> (TempDir, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("heard").display().to_string();
        (directory, path)
    }

    fn lines(path: &str) -> Vec<String> {
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn each_event_is_told_on_stdin_and_in_the_environment_one_after_the_other() {
        let (_directory, heard) = file();
        let script = format!(
            "read line; sleep 0.05; echo \"$DNS_XDP_EVENT|$DNS_XDP_SUBJECT|$DNS_XDP_REASON|$line\" >> {heard}"
        );
        let notifier = Notifier::start(&sh(&script, LONG));
        for seq in 1..=3 {
            notifier.offer(event(seq));
        }
        until("three events are heard", || lines(&heard).len() == 3).await;
        for (seq, line) in (1..).zip(lines(&heard)) {
            let json = line.strip_prefix("+down|node2|refused|").unwrap();
            let told: Event = serde_json::from_str(json).unwrap();
            assert_eq!(told, *event(seq));
        }
        assert_eq!(notifier.notified(), Notified { failures: 0, overflows: 0 });
    }

    #[tokio::test]
    async fn a_run_that_fails_or_hangs_is_counted_and_the_next_one_starts() {
        let (_directory, heard) = file();
        let script = format!("echo x >> {heard}; test $(wc -l < {heard}) = 1 && exit 3; sleep 300");
        let notifier = Notifier::start(&sh(&script, Duration::from_millis(200)));
        for seq in 1..=3 {
            notifier.offer(event(seq));
        }
        until("three runs failed", || notifier.notified().failures == 3).await;
        assert_eq!(lines(&heard).len(), 3);
        notifier.configure(&sh("/nonexistent", LONG));
        notifier.offer(event(4));
        until("the new command failed", || notifier.notified().failures == 4).await;
    }

    #[tokio::test]
    async fn a_full_queue_drops_events_without_waiting_and_counts_them() {
        let notifier = Notifier::start(&sh("sleep 300", LONG));
        let start = Instant::now();
        for seq in 1..=1_000 {
            notifier.offer(event(seq));
        }
        assert!(start.elapsed() < Duration::from_secs(1));
        // One event may have been taken out of the queue meanwhile.
        let overflows = notifier.notified().overflows;
        assert!((935..=936).contains(&overflows), "{overflows}");
    }

    #[tokio::test]
    async fn without_a_command_nothing_is_queued() {
        let none = config::Events { on_event: Vec::new(), on_event_timeout: LONG };
        let notifier = Notifier::start(&none);
        for seq in 1..=1_000 {
            notifier.offer(event(seq));
        }
        assert_eq!(notifier.notified().overflows, 0);
        let (_directory, heard) = file();
        notifier.configure(&sh(&format!("cat >> {heard}"), LONG));
        notifier.offer(event(1_001));
        until("the command is obeyed from then on", || lines(&heard).len() == 1).await;
        assert!(lines(&heard)[0].contains("\"seq\":1001"));
    }

    #[tokio::test]
    async fn the_last_events_are_told_at_the_end_and_a_run_that_hangs_is_not_waited_for() {
        let (_directory, heard) = file();
        let notifier = Notifier::start(&sh(&format!("cat >> {heard}"), LONG));
        notifier.offer(event(1));
        notifier.offer(event(2));
        notifier.finish().await;
        assert_eq!(lines(&heard).len(), 2);
        notifier.offer(event(3));
        let hanging = Notifier::start(&sh("sleep 300", LONG));
        hanging.offer(event(1));
        let start = Instant::now();
        hanging.finish().await;
        assert!(start.elapsed() < LAST_EVENTS * 3, "{:?}", start.elapsed());
    }
}
