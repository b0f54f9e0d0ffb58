//! The threads for files. One thread writes the configuration file, and another thread writes the state and the copy of
//! the store. Each change has its own thread that reads the configuration and looks up names. A hanging filesystem
//! delays only the work on its own files.
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::{Done, last_answers};
use crate::config::Replacement;
use crate::control::{Refusal, RefusalKind};
use crate::controller::core::{Input, Job, Prepared, WorkId, unwritten};
use crate::failover::{Answers, LastAnswers};
use crate::intent::{self, Intents, Local};
use crate::privileges;
use crate::store::{Known, last_good};

/// The threads that write files, and their results.
#[derive(Debug)]
pub(super) struct Files {
    /// The orders to the thread that writes the state and the copy.
    state: mpsc::UnboundedSender<Write>,
    /// The orders to the thread that writes the configuration file.
    config: mpsc::UnboundedSender<Write>,
    done: mpsc::UnboundedSender<Done>,
    /// The answers that wait to be written, if any.
    answers: Newest,
    /// The write that each thread is busy with.
    under_way: [UnderWay; 2],
}

type Newest = Arc<Mutex<Option<(PathBuf, Arc<Answers>, Timestamp)>>>;

/// The write that a thread is busy with: its file, and since when.
#[derive(Debug, Clone, Default)]
struct UnderWay(Arc<Mutex<Option<(PathBuf, Instant)>>>);

impl UnderWay {
    fn begin(&self, path: &Path) {
        self.set(Some((path.to_owned(), Instant::now())));
    }

    fn end(&self) {
        self.set(None);
    }

    fn set(&self, write: Option<(PathBuf, Instant)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = write;
    }

    /// The alarm about a stalled write; `None`: no write is stalled.
    fn alarm(&self, now: Instant) -> Option<String> {
        let write = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (path, since) = write.as_ref()?;
        let stalled = now.saturating_duration_since(*since);
        (stalled >= STALLED).then(|| {
            format!(
                "writing {} has not ended for {} s: look at the disk; decisions made since then are not on disk",
                path.display(),
                stalled.as_secs()
            )
        })
    }
}

/// The time after which a write raises an alarm.
const STALLED: Duration = Duration::from_secs(5);

/// An order to a thread; a thread performs its orders one after another.
#[derive(Debug)]
enum Write {
    Intents {
        work: WorkId,
        path: PathBuf,
        intents: Intents,
    },
    Local {
        work: WorkId,
        path: PathBuf,
        local: Local,
    },
    /// Write the newest answers.
    Answers,
    Copy {
        path: PathBuf,
        prefix: String,
        known: Box<Known>,
    },
    /// Write the new text of the configuration file beside it. A newer text replaces all earlier ones.
    Stage {
        work: WorkId,
        path: PathBuf,
        text: String,
        staged: oneshot::Sender<io::Result<()>>,
    },
    /// Replace the file by the staged text.
    Commit(WorkId),
    /// Remove the staged text.
    Drop(WorkId),
    /// Report when every earlier write is done.
    Flush(oneshot::Sender<()>),
}

impl Files {
    /// Starts the threads.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn start(done: mpsc::UnboundedSender<Done>) -> anyhow::Result<Files> {
        let answers = Newest::default();
        let start = |name: &str| -> anyhow::Result<_> {
            let (writes, waiting) = mpsc::unbounded_channel();
            let (told, newest, under_way) = (done.clone(), Arc::clone(&answers), UnderWay::default());
            let thread = thread::Builder::new().name(name.to_owned());
            let at = under_way.clone();
            drop(thread.spawn(move || run(waiting, &told, &newest, &at)).context("cannot start a thread")?);
            Ok((writes, under_way))
        };
        let ((state, at_state), (config, at_config)) = (start("state-file")?, start("config-file")?);
        Ok(Files { state, config, done, answers, under_way: [at_state, at_config] })
    }

    /// Whether a thread has ended, which only a defect does.
    pub(super) fn is_ended(&self) -> bool {
        self.state.is_closed() || self.config.is_closed()
    }

    /// One alarm for each file whose write is stalled.
    pub(super) fn alarms(&self) -> Vec<String> {
        self.under_way.iter().filter_map(|under_way| under_way.alarm(Instant::now())).collect()
    }

    /// Prepares a change in its own thread, and orders the write of the file's new text beside the file.
    pub(super) fn prepare(&self, work: WorkId, job: Job) {
        let (done, writes) = (self.done.clone(), self.config.clone());
        let thread = thread::Builder::new().name("prepare".to_owned());
        let spawned = thread.spawn(move || {
            privileges::drop_thread_privileges();
            let defect = || Refusal::new(RefusalKind::Failed, "a defect of dns-xdp: see its log");
            let prepared = catch_unwind(AssertUnwindSafe(|| prepared(work, job, &writes)));
            let result = prepared.unwrap_or_else(|_| Err(defect())).map(Box::new);
            done.send(Done::Input(Input::Prepared { work, result })).ok();
        });
        if let Err(error) = spawned {
            let refusal = Refusal::new(RefusalKind::Failed, format!("cannot start a thread: {error}"));
            self.done.send(Done::Input(Input::Prepared { work, result: Err(refusal) })).ok();
        }
    }

    /// Replaces the file by the text that a change has staged.
    pub(super) fn commit(&self, work: WorkId) {
        self.config.send(Write::Commit(work)).ok();
    }

    /// Removes the text that a change has staged.
    pub(super) fn drop_staged(&self, work: WorkId) {
        self.config.send(Write::Drop(work)).ok();
    }

    /// Writes the operators' intents.
    pub(super) fn save_intents(&self, work: WorkId, path: PathBuf, intents: Intents) {
        self.state.send(Write::Intents { work, path, intents }).ok();
    }

    /// Writes this server's decisions that the store does not have.
    pub(super) fn save_local(&self, work: WorkId, path: PathBuf, local: Local) {
        self.state.send(Write::Local { work, path, local }).ok();
    }

    /// Writes the answers. Answers that still wait are replaced by newer ones.
    pub(super) fn keep_answers(&self, path: PathBuf, answers: Arc<Answers>, at: Timestamp) {
        let mut newest = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.replace((path, answers, at)).is_none() {
            self.state.send(Write::Answers).ok();
        }
    }

    /// Writes a copy of the store's documents.
    pub(super) fn keep_copy(&self, path: PathBuf, prefix: String, known: Known) {
        self.state.send(Write::Copy { path, prefix, known: Box::new(known) }).ok();
    }

    /// Waits for the writes that were ordered before.
    pub(super) async fn flush(&self) {
        for writes in [&self.state, &self.config] {
            let (written, waits) = oneshot::channel();
            writes.send(Write::Flush(written)).ok();
            waits.await.ok();
        }
    }
}

fn run(
    mut waiting: mpsc::UnboundedReceiver<Write>,
    done: &mpsc::UnboundedSender<Done>,
    newest: &Newest,
    under_way: &UnderWay,
) {
    privileges::drop_thread_privileges();
    let mut staged: BTreeMap<WorkId, Replacement> = BTreeMap::new();
    let mut newest_staged = 0;
    let mut file = PathBuf::new();
    loop {
        under_way.end();
        let Some(write) = waiting.blocking_recv() else { return };
        let input = match write {
            Write::Intents { work, path, intents } => {
                under_way.begin(&path);
                let result = intent::store(&path, &intents).map_err(|error| error.to_string());
                Input::IntentsSaved { work, result }
            }
            Write::Local { work, path, local } => {
                under_way.begin(&path);
                let result = intent::store_local(&path, &local).map_err(|error| error.to_string());
                Input::IntentsSaved { work, result }
            }
            Write::Stage { work, path, text, staged: told } => {
                let result = if work < newest_staged {
                    // All staged texts have the same place beside the file.
                    Err(io::Error::other("a later change has taken its place"))
                } else {
                    under_way.begin(&path);
                    path.clone_into(&mut file);
                    newest_staged = work;
                    staged.clear();
                    Replacement::write(&path, &text).map(|replacement| drop(staged.insert(work, replacement)))
                };
                told.send(result).ok();
                continue;
            }
            Write::Commit(work) => {
                under_way.begin(&file);
                let committed = match staged.remove(&work) {
                    Some(replacement) => replacement.take_effect().map_err(|error| error.to_string()),
                    None => Err("a defect of dns-xdp: its new text is not beside it".to_owned()),
                };
                Input::FileCommitted { work, result: committed }
            }
            Write::Answers => {
                let newest = newest.lock().unwrap_or_else(PoisonError::into_inner).take();
                let Some((path, answers, at)) = newest else { continue };
                under_way.begin(&path);
                if let Err(error) = last_answers::store(&path, &LastAnswers::new(&answers, at)) {
                    tracing::warn!("cannot keep the answers in {}: {error}", path.display());
                }
                continue;
            }
            Write::Copy { path, prefix, known } => {
                under_way.begin(&path);
                keep_copy(&path, &prefix, &known);
                continue;
            }
            Write::Drop(work) => {
                under_way.begin(&file);
                drop(staged.remove(&work));
                continue;
            }
            Write::Flush(written) => {
                written.send(()).ok();
                continue;
            }
        };
        done.send(Done::Input(input)).ok();
    }
}

/// Writes the copy of the documents. Without the store, the daemon starts from this copy.
pub(super) fn keep_copy(path: &Path, prefix: &str, known: &Known) {
    if let Err(error) = last_good::store(path, prefix, known) {
        tracing::warn!("cannot keep a copy of the store in {}: {error}", path.display());
    }
}

fn prepared(work: WorkId, job: Job, writes: &mpsc::UnboundedSender<Write>) -> Result<Prepared, Refusal> {
    let source = job.source();
    let prepared = job.run(|path| fs::read_to_string(path).map_err(|error| error.to_string()))?;
    let (Prepared::Proposal(proposal) | Prepared::Reload { own: proposal, .. }) = &prepared else {
        return Ok(prepared);
    };
    if let Some(reason) = privileges::beyond(&proposal.config) {
        return Err(Refusal::new(RefusalKind::Conflict, format!("nothing was reloaded: {reason}")));
    }
    if let Some(text) = proposal.write.clone() {
        let (staged, told) = oneshot::channel();
        writes.send(Write::Stage { work, path: source.path().to_owned(), text, staged }).ok();
        let gone = || Err(io::Error::other("the thread that writes files has ended"));
        let result = told.blocking_recv().unwrap_or_else(|_| gone());
        result.map_err(|error| unwritten(&source, &error.to_string()))?;
    }
    Ok(prepared)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stages a text. Returns the result of the write.
    fn stage(files: &Files, work: WorkId, path: &Path, text: &str) -> io::Result<()> {
        let (staged, told) = oneshot::channel();
        let (path, text) = (path.to_owned(), text.to_owned());
        files.config.send(Write::Stage { work, path, text, staged }).unwrap();
        told.blocking_recv().unwrap()
    }

    #[test]
    fn a_write_without_an_end_is_an_alarm_until_it_ends() {
        let under_way = UnderWay::default();
        let start = Instant::now();
        assert_eq!(under_way.alarm(start + STALLED), None);
        under_way.begin(Path::new("/var/lib/dns-xdp/state"));
        assert_eq!(under_way.alarm(start), None);
        let alarm = under_way.alarm(Instant::now() + STALLED).unwrap();
        assert!(alarm.starts_with("writing /var/lib/dns-xdp/state has not ended for 5 s"), "{alarm}");
        under_way.end();
        assert_eq!(under_way.alarm(Instant::now() + STALLED), None);
    }

    #[test]
    fn a_change_that_was_given_up_does_not_touch_the_text_of_a_later_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dns-xdp.toml");
        fs::write(&path, "old").unwrap();
        let (tell, mut done) = mpsc::unbounded_channel();
        let files = Files::start(tell).unwrap();
        stage(&files, 1, &path, "given up").unwrap();
        stage(&files, 2, &path, "new").unwrap();
        files.drop_staged(1);
        assert!(stage(&files, 1, &path, "too late").is_err());
        files.commit(2);
        let committed = done.blocking_recv();
        assert!(
            matches!(committed, Some(Done::Input(Input::FileCommitted { work: 2, result: Ok(()) }))),
            "{committed:?}"
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        files.commit(1);
        let committed = done.blocking_recv();
        assert!(
            matches!(committed, Some(Done::Input(Input::FileCommitted { work: 1, result: Err(_) }))),
            "{committed:?}"
        );
    }
}
