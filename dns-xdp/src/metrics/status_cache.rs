//! Caches the loop's status for the pages. However many readers there are, at most one request to
//! the loop is under way.
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::rates::{Rates, Samples, Totals};
use super::recorder::Recorder;
use super::text::answered_by;
use crate::control::api::{Stats, Status};
use crate::control::{Call, Command};
use crate::event::{Event, Journal};

/// The longest time for the loop's answer. Prometheus gives a scrape 10 s.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest age of an answer that is used again.
const FRESH: Duration = Duration::from_millis(250);
/// The loop counts as hung after this time without a heartbeat. The loop beats at least once a second.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// The number of events on the page.
const EVENTS: u64 = 20;

/// The cache that the pages read.
#[derive(Debug)]
pub struct StatusCache {
    server: String,
    calls: mpsc::Sender<Call>,
    journal: Arc<Journal>,
    recorder: Recorder,
    memory: Mutex<Memory>,
}

#[derive(Debug)]
struct Memory {
    origin: Instant,
    view: Option<Arc<View>>,
    asked: Option<Instant>,
    samples: Samples,
}

/// The loop's last answer.
#[derive(Debug)]
pub(super) struct View {
    pub(super) status: Status,
    pub(super) stats: Stats,
    /// The rates; `None`: there was no request shortly before.
    pub(super) rates: Option<Rates>,
    /// The time of the answer.
    pub(super) at: Timestamp,
}

/// Whether the loop runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    /// Nothing is published yet.
    Starting,
    Running,
    /// The loop has not run for this long.
    Hung(Duration),
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Life::Starting => f.write_str("nothing is published yet: the first round of probes is under way"),
            Life::Running => f.write_str("the controller's loop does not answer: see the log"),
            Life::Hung(silence) => {
                let seconds = silence.as_secs();
                write!(
                    f,
                    "the controller's loop has not run for {seconds} s: see the log, restart the daemon"
                )
            }
        }
    }
}

impl StatusCache {
    /// Creates the cache. `server`: the name of this server.
    pub fn new(server: String, calls: mpsc::Sender<Call>, journal: Arc<Journal>, recorder: Recorder) -> Self {
        let memory = Memory { origin: Instant::now(), view: None, asked: None, samples: Samples::default() };
        StatusCache { server, calls, journal, recorder, memory: Mutex::new(memory) }
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Returns whether the loop runs. It asks no other task, so that a hanging loop is detected at once.
    pub(super) fn life(&self) -> Life {
        match self.recorder.heartbeat_age() {
            silence if silence > LONGEST_SILENCE => Life::Hung(silence),
            _ if self.recorder.is_live() => Life::Running,
            _ => Life::Starting,
        }
    }

    /// Returns the loop's answer, or its last answer if it does not answer now; `None`: there has been none.
    pub(super) async fn view(&self) -> Option<Arc<View>> {
        let mut memory = self.memory.lock().await;
        let fresh = memory.asked.is_some_and(|asked| asked.elapsed() < FRESH);
        if fresh || self.life() != Life::Running {
            return memory.view.clone();
        }
        let answers = tokio::join!(self.ask::<Status>(Command::Status), self.ask::<Stats>(Command::Stats));
        let now = Instant::now();
        memory.asked = Some(now);
        if let (Some(status), Some(stats)) = answers {
            let [kernel, responder] = answered_by(&stats);
            let at = now - memory.origin;
            let rates = memory.samples.add(at, Totals { kernel, responder });
            memory.view = Some(Arc::new(View { status, stats, rates, at: Timestamp::now() }));
        }
        memory.view.clone()
    }

    /// The newest events, in reverse order.
    pub(super) fn events(&self) -> Vec<Event> {
        let after = self.journal.newest().saturating_sub(EVENTS);
        let mut events = self.journal.page(None, after, EVENTS as usize).events;
        events.reverse();
        events
    }

    async fn ask<T: DeserializeOwned>(&self, command: Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.calls.send(Call { command, until: None, reply }).await.ok()?;
            answer.await.ok()?.ok()
        };
        serde_json::from_value(timeout(STATUS_TIMEOUT, asked).await.ok()??).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::text::tests::example;
    use super::*;

    /// Returns a cache and the inbox of its loop, which has published and beats once.
    pub(in crate::metrics) fn status_cache() -> (Arc<StatusCache>, mpsc::Receiver<Call>) {
        status_cache_with(Recorder::default())
    }

    fn status_cache_with(recorder: Recorder) -> (Arc<StatusCache>, mpsc::Receiver<Call>) {
        let (calls, inbox) = mpsc::channel(4);
        let journal = Arc::new(Journal::new(Timestamp::UNIX_EPOCH));
        recorder.go_live();
        (Arc::new(StatusCache::new("node1".to_owned(), calls, journal, recorder)), inbox)
    }

    /// Runs a loop that answers with the example. Returns the number of questions about the status.
    pub(in crate::metrics) async fn answer(mut inbox: mpsc::Receiver<Call>) -> usize {
        let mut asked = 0;
        while let Some(Call { command, reply, .. }) = inbox.recv().await {
            let (status, stats) = example();
            let answer = match command {
                Command::Status => {
                    asked += 1;
                    serde_json::to_value(status)
                }
                _ => serde_json::to_value(stats),
            };
            reply.send(Ok(answer.unwrap())).unwrap();
        }
        asked
    }

    #[tokio::test]
    async fn however_many_look_the_loop_is_asked_one_question_at_a_time() {
        let (status_cache, inbox) = status_cache();
        let controller = tokio::spawn(answer(inbox));
        let looks: Vec<_> = (0..100)
            .map(|_| {
                let status_cache = Arc::clone(&status_cache);
                tokio::spawn(async move { status_cache.view().await.is_some() })
            })
            .collect();
        for look in looks {
            assert!(look.await.unwrap());
        }
        drop(status_cache);
        assert_eq!(controller.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_loop_that_does_not_answer_holds_up_one_client_and_its_last_words_are_shown() {
        let (status_cache, mut inbox) = status_cache();
        let start = Instant::now();
        assert!(status_cache.view().await.is_none());
        assert!(start.elapsed() >= STATUS_TIMEOUT);
        let next = Instant::now();
        assert!(status_cache.view().await.is_none());
        assert!(next.elapsed() < STATUS_TIMEOUT / 2, "the next client waits all over again");
        while inbox.try_recv().is_ok() {}
        let controller = tokio::spawn(answer(inbox));
        tokio::time::sleep(FRESH).await;
        let said = status_cache.view().await.unwrap();
        controller.abort();
        tokio::time::sleep(FRESH).await;
        assert_eq!(status_cache.view().await.unwrap().at, said.at);
    }

    #[tokio::test]
    async fn a_loop_that_hangs_is_not_even_asked() {
        let (status_cache, mut inbox) =
            status_cache_with(Recorder::since(Instant::now() - Duration::from_secs(9)));
        assert!(matches!(status_cache.life(), Life::Hung(silence) if silence >= Duration::from_secs(9)));
        assert!(status_cache.view().await.is_none());
        assert!(inbox.try_recv().is_err());
    }
}
