//! The shell around the core: it performs effects, each on a task or thread of its own, and feeds the results back. The
//! shell decides nothing.
mod event_sink;
mod file_watch;
mod files;
mod last_answers;
mod listeners;
mod network;
mod on_event;
mod pause;
mod publisher;
mod signals;
mod skydns;
pub(super) mod start;
mod store_session;
mod systemd;
mod updates;

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use self::event_sink::EventSink;
use self::file_watch::FileWatch;
use self::files::Files;
use self::listeners::Listeners;
use self::network::Bindings;
use self::publisher::{Ending, Order, Publisher};
use self::signals::Signals;
use self::skydns::SkyDns;
use self::store_session::StoreSession;
use self::updates::Updates;
use super::Unloaded;
use super::core::{Core, Effect, Exit, Input, Now, Readings, Record, STORE_SESSION};
use crate::config::Config;
use crate::control::api::Done as Nothing;
use crate::control::{Call, Refusal, RefusalKind};
use crate::health::{Prober, Report};
use crate::metrics::Recorder;
use crate::network::{Listener, Monitor};
use crate::privileges;
use crate::responder::update::Order as UpdateOrder;
use crate::responder::{Responder, Sockets};
use crate::store::client::Seen;

/// The interval at which the core checks its clock.
const PULSE: Duration = Duration::from_millis(100);
/// The longest time between two renewals of the program lease, so that the lease ends soon after the daemon.
const LONGEST_TICK: Duration = Duration::from_secs(1);
/// The renewals within one lease: 3 may be late.
const TICKS_PER_LEASE: u32 = 4;

type Reply = oneshot::Sender<Result<Value, Refusal>>;

/// The longest time that the stop waits for the writes under way, because the disk may hang.
const WRITES_TIMEOUT: Duration = Duration::from_secs(1);
/// The pauses before a task is started again: the first and the longest. Each restart doubles the pause. If a task has
/// run for twice the longest pause, its next pause is the first again.
const RESTART_DELAYS: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];

/// A task that is started again if a defect ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Task {
    StoreSession,
    SkyDns,
    FileWatch,
    ControlSocket,
    Metrics,
}

impl Task {
    fn text(self) -> &'static str {
        match self {
            Task::StoreSession => STORE_SESSION,
            Task::SkyDns => "skydns",
            Task::FileWatch => "file-watch",
            Task::ControlSocket => "control-socket",
            Task::Metrics => "metrics",
        }
    }
}

/// A message to the shell's loop from one of the shell's tasks or threads.
#[derive(Debug)]
enum Done {
    /// For the core.
    Input(Input),
    /// These addresses have to be served from now on.
    Followed(Vec<Listener>),
    /// The first answers could not be published.
    StartFailed(anyhow::Error),
    /// A task that has ended has to be started again.
    Restart(Task),
}

/// The state of the shell: everything that performs effects.
#[derive(Debug)]
struct Shell {
    origin: Instant,
    config: std::sync::Arc<Config>,
    prober: Prober,
    reports: mpsc::Receiver<Report>,
    publisher: Publisher,
    files: Files,
    monitor: Monitor,
    bindings: Bindings,
    /// The bound sockets, until the responder takes them.
    sockets: Option<Sockets>,
    responder: Option<Responder>,
    identity: String,
    events: EventSink,
    recorder: Recorder,
    inbox: mpsc::Receiver<Call>,
    /// The updates from the responder.
    updates: Updates,
    /// The reply of each command under way.
    calls: HashMap<u64, Reply>,
    next_call: u64,
    done: mpsc::UnboundedReceiver<Done>,
    tell: mpsc::UnboundedSender<Done>,
    file_watch: Option<FileWatch>,
    session: Option<StoreSession>,
    listeners: Listeners,
    /// Whether the file has to be watched.
    watches: bool,
    /// The time when each task was last started again, and the pause before that.
    restarts: HashMap<Task, (Instant, Duration)>,
    skydns: SkyDns,
    signals: Signals,
}

/// Inputs whose number is not bounded.
enum Come {
    Report(Report),
    Call(Call),
    Update(UpdateOrder),
}

/// How the loop ends.
enum End {
    /// The core has asked for this end.
    Exit(Exit),
    /// Something could not be started.
    Failed(anyhow::Error),
}

impl Shell {
    fn now(&self) -> Now {
        Now { elapsed: self.origin.elapsed(), wall: Timestamp::now() }
    }

    /// Drives the core until the daemon ends.
    async fn run(&mut self, core: &mut Core, beginning: Vec<Effect>) -> End {
        if let Some(end) = self.perform_all(beginning).await {
            return end;
        }
        let mut pulse = interval(PULSE);
        let mut tick = interval(tick(&self.config));
        loop {
            // Signals, ticks and results do not wait behind probes and commands, whose number is not bounded.
            let input = tokio::select! {
                biased;
                signal = self.signals.next() => Input::Signal(signal),
                _ = tick.tick() => {
                    if self.publisher.is_ended() || self.files.is_ended() {
                        let text = "a thread ended by a defect of dns-xdp, see above; the program answers on for [xdp] stop-grace at most";
                        return End::Failed(anyhow::anyhow!(text));
                    }
                    self.publisher.follow();
                    if self.skydns.has_ended() {
                        let ended = self.ended(Task::SkyDns);
                        self.tell.send(Done::Input(ended)).ok();
                    }
                    Input::Tick
                }
                _ = pulse.tick() => Input::Pulse { ended: self.prober.ended() },
                Some(done) = self.done.recv() => match self.done(done) {
                    Ok(Some(input)) => input,
                    Ok(None) => continue,
                    Err(error) => return End::Failed(error),
                },
                seen = next_seen(&mut self.session) => match seen {
                    Some(seen) => Input::StoreSeen(Box::new(seen)),
                    None => self.ended(Task::StoreSession),
                },
                task = self.listeners.ended() => self.ended(task),
                () = self.monitor.changed() => {
                    self.publisher.follow();
                    continue;
                }
                text = settled(&mut self.file_watch) => match text {
                    Some(text) => Input::FileSettled(text.map_err(|error| error.to_string())),
                    None => self.ended(Task::FileWatch),
                },
                come = next_of(&mut self.reports, &mut self.inbox, &mut self.updates, core.is_live()) => match come {
                    Come::Report(report) => {
                        if let Some(end) = self.report(core, report).await {
                            return end;
                        }
                        continue;
                    }
                    Come::Call(call) if call.is_abandoned() => continue,
                    Come::Call(call) => self.asked(call),
                    Come::Update(order) => self.update(order),
                },
            };
            if let Some(end) = self.turn(core, input).await {
                return end;
            }
        }
    }

    /// Makes one turn of the loop: gives the core one input and performs the effects.
    async fn turn(&mut self, core: &mut Core, input: Input) -> Option<End> {
        let began = Instant::now();
        let effects = core.step(self.now(), input);
        let end = self.perform_all(effects).await;
        self.recorder.loop_turned(began.elapsed());
        end
    }

    /// Passes a report on. The core first checks its clock, so that it does not trust a result from a time when it was
    /// held up.
    async fn report(&mut self, core: &mut Core, report: Report) -> Option<End> {
        if let Some(end) = self.turn(core, Input::Pulse { ended: Vec::new() }).await {
            return Some(end);
        }
        if !self.prober.is_current(&report) {
            return None;
        }
        let Report { probe, at, observation, .. } = report.clone();
        let end = self.turn(core, Input::Probed { probe, at, observation }).await;
        self.prober.heard(&report);
        end
    }

    fn asked(&mut self, Call { command, reply, .. }: Call) -> Input {
        self.next_call += 1;
        self.calls.insert(self.next_call, reply);
        Input::Asked { call: self.next_call, command }
    }

    fn update(&mut self, order: UpdateOrder) -> Input {
        self.next_call += 1;
        self.updates.begin(self.next_call, order)
    }

    /// Returns the input for the core that follows from a message.
    fn done(&mut self, done: Done) -> anyhow::Result<Option<Input>> {
        match done {
            Done::Input(input) => Ok(Some(input)),
            Done::Followed(listeners) => {
                if let Some(responder) = &mut self.responder {
                    self.bindings.bind(responder, listeners);
                }
                Ok(None)
            }
            Done::StartFailed(error) => Err(error),
            Done::Restart(task) => Ok(self.restart(task)),
        }
    }

    /// Notes that a defect has ended a task, and starts it again after a growing pause.
    fn ended(&mut self, task: Task) -> Input {
        if task == Task::FileWatch {
            self.file_watch = None;
        }
        let [first, longest] = RESTART_DELAYS;
        let wait = match self.restarts.get(&task) {
            Some((at, waited)) if at.elapsed() < 2 * longest => (*waited * 2).min(longest),
            _ => first,
        };
        self.restarts.insert(task, (Instant::now() + wait, wait));
        let tell = self.tell.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            tell.send(Done::Restart(task)).ok();
        });
        Input::TaskEnded { task: task.text(), reason: "see the log for its last words".to_owned() }
    }

    fn restart(&mut self, task: Task) -> Option<Input> {
        let started = match task {
            Task::StoreSession | Task::SkyDns => {
                let session = self.session.as_mut()?;
                if task == Task::StoreSession {
                    session.restart();
                }
                self.skydns.restart(session);
                Ok(())
            }
            Task::FileWatch => self.watch_file(self.watches).map_err(anyhow::Error::from),
            Task::ControlSocket | Task::Metrics => self.listeners.restart(task),
        };
        if let Err(error) = started {
            tracing::error!("cannot start the task {} again: {error:#}", task.text());
            return Some(self.ended(task));
        }
        Some(Input::TaskStarted { task: task.text() })
    }

    async fn perform_all(&mut self, effects: Vec<Effect>) -> Option<End> {
        for effect in effects {
            match effect {
                Effect::Exit(exit) => return Some(End::Exit(exit)),
                Effect::Serve => {
                    if let Err(error) = self.serve().await {
                        if let Err(left) = self.publisher.end(Ending::Detach).await {
                            tracing::error!("{left:#}");
                        }
                        return Some(End::Failed(error));
                    }
                }
                effect => self.perform(effect),
            }
        }
        None
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Probe(targets) => {
                self.prober.reconcile(&targets);
                self.recorder.attend(&targets);
            }
            Effect::RestartProbes => self.prober.restart(),
            Effect::Pace(probe, pace) => self.prober.pace(&probe, pace),
            Effect::Open(published) => {
                self.config = std::sync::Arc::clone(&published.config);
                self.publisher.order(Order::Open(published));
            }
            Effect::Publish(published) => self.publisher.order(Order::Publish(published)),
            Effect::RenewLease => self.publisher.order(Order::Renew),
            Effect::Alive => self.publisher.order(Order::Alive),
            Effect::Read(what) => {
                let readings = self.readings();
                self.publisher.order(Order::Read(what, Box::new(readings)));
            }
            Effect::Sample(one_of) => self.publisher.order(Order::Sample(one_of)),
            Effect::Prepare { work, job } => self.files.prepare(work, *job),
            Effect::CommitFile { work } => self.files.commit(work),
            Effect::DropFile { work } => self.files.drop_staged(work),
            Effect::SaveIntents { work, path, intents } => self.files.save_intents(work, path, intents),
            Effect::SaveLocal { work, path, local } => self.files.save_local(work, path, *local),
            Effect::KeepAnswers { path, answers, at } => self.files.keep_answers(path, answers, at),
            Effect::KeepCopy { path, prefix, known } => self.files.keep_copy(path, prefix, *known),
            Effect::RenewSession => {
                if let Some(session) = &mut self.session {
                    session.restart();
                    self.skydns.restart(session);
                }
            }
            Effect::Swap { work, swap } => match &self.session {
                Some(session) => session.swap(work, swap, self.tell.clone()),
                None => {
                    let gone =
                        crate::store::Error::Unreachable("the session with the store has ended".to_owned());
                    self.tell.send(Done::Input(Input::Swapped { work, result: Err(gone) })).ok();
                }
            },
            Effect::BeginDeciding => self.session.iter().for_each(StoreSession::begin_deciding),
            Effect::WriteOwn(own) => {
                self.session.iter().for_each(|session| session.write(Clone::clone(&own)));
            }
            Effect::AcceptStore => self.session.iter().for_each(StoreSession::accept),
            Effect::Reply { call, answer } => {
                if let Some(reply) = self.calls.remove(&call) {
                    // The client may have closed its connection meanwhile.
                    reply.send(answer).ok();
                } else {
                    self.updates.end(call, answer);
                }
            }
            Effect::ReplyListing { call, listing } => {
                if let Some(reply) = self.calls.remove(&call) {
                    tokio::task::spawn_blocking(move || {
                        let failed =
                            |error: serde_json::Error| Refusal::new(RefusalKind::Failed, error.to_string());
                        reply.send(listing.to_json().map_err(failed)).ok();
                    });
                }
            }
            Effect::Emit(occurrence) => self.events.tell(occurrence),
            Effect::Warn(text) => tracing::error!("{text}"),
            Effect::Record(record) => self.record(record),
            Effect::ConfigureEvents(config) => self.events.configure(&config),
            Effect::ConfigureUpdates(access) => self.updates.configure(access),
            Effect::WatchFile(is_wanted) => {
                if let Err(error) = self.watch_file(is_wanted) {
                    tracing::error!("cannot watch {}: {error}", self.config.path.display());
                    let ended = self.ended(Task::FileWatch);
                    self.tell.send(Done::Input(ended)).ok();
                }
            }
            Effect::Reloading(true) => systemd::reloading(),
            Effect::Reloading(false) => systemd::ready(),
            Effect::Serve | Effect::Exit(_) => {}
        }
    }

    fn record(&self, record: Record) {
        match record {
            Record::Probed { subject, kind, observation } => {
                self.recorder.probed(&subject, kind, &observation);
            }
            Record::Turned(subject, family, health) => self.recorder.turned(&subject, family, health),
            Record::Repaired(repair) => self.recorder.repaired(repair),
            Record::Reloaded { ok } => self.recorder.reloaded(ok),
            Record::Live => self.recorder.go_live(),
            Record::PublishingTook(took) => self.recorder.published(took),
        }
    }

    /// The shell's readings. The publisher adds the readings of the program.
    fn readings(&self) -> Readings {
        let responder = self.responder.as_ref().map(|responder| responder.counters().total());
        let notified = self.events.notified();
        let alarms =
            self.skydns.alarms().into_iter().chain(self.bindings.alarms()).chain(self.files.alarms());
        Readings {
            responder: responder.unwrap_or_default(),
            events: [self.events.count(), notified.failures, notified.overflows],
            alarms: alarms.collect(),
            ..Readings::default()
        }
    }

    /// Gives up privileges and begins to take queries.
    async fn serve(&mut self) -> anyhow::Result<()> {
        self.publisher.drop_privileges().await;
        privileges::drop_privileges(&self.config);
        tokio::spawn(privileges::look_at_threads());
        let Some(sockets) = self.sockets.take() else { return Ok(()) };
        let zone = self.publisher.subscribe();
        let lease = self.publisher.lease();
        let updates = self.updates.channel();
        let responder = Responder::start(
            sockets,
            zone,
            lease,
            &self.identity,
            privileges::drop_thread_privileges,
            updates,
        );
        self.responder = Some(responder.context("cannot serve the sockets of [listen]")?);
        pause::watch(self.tell.clone()).context("cannot start a thread")?;
        systemd::ready();
        self.publisher.order(Order::PrefillStandby);
        self.publisher.follow();
        Ok(())
    }

    fn watch_file(&mut self, is_wanted: bool) -> io::Result<()> {
        self.watches = is_wanted;
        if !is_wanted {
            self.file_watch = None;
        } else if self.file_watch.is_none() {
            self.file_watch = Some(FileWatch::start(&self.config.path)?);
        }
        Ok(())
    }

    /// Ends in order: the program and the store first, because clients and other servers depend on them.
    async fn stop(mut self, exit: Exit) -> anyhow::Result<()> {
        systemd::stopping();
        drop((self.prober, self.skydns));
        let leaving = async {
            if let (Some(session), Exit::Leave | Exit::Detach(_)) = (self.session, exit) {
                session.leave().await;
            }
        };
        let (ending, call) = match exit {
            Exit::Abandon(signal) => {
                tracing::info!("stopped by {signal:?} before the first round of probes was over");
                return self.publisher.end(Ending::Abandon).await;
            }
            Exit::Leave => (Ending::Leave, None),
            Exit::HandOver(call) => (Ending::HandOver, Some(call)),
            Exit::Detach(call) => (Ending::Detach, call),
        };
        let (mut done, ()) = tokio::join!(self.publisher.end(ending), leaving);
        if exit == Exit::Detach(None) {
            // The `unload` command that asked removes the rest itself.
            done = done.context("as root, try `dns-xdp unload`");
        }
        if let Some(reply) = call.and_then(|call| self.calls.remove(&call)) {
            let answer = match &done {
                Ok(()) => Ok(serde_json::json!(Nothing::default())),
                // This daemon ends in any case, and the successor has to serve.
                Err(error) if matches!(exit, Exit::HandOver(_)) => {
                    let notes = vec![format!("{error:#}")];
                    Ok(serde_json::json!(Nothing { notes, cached_ms: None }))
                }
                Err(error) => Err(Refusal::new(RefusalKind::Failed, format!("{error:#}"))),
            };
            // The client may have closed its connection meanwhile.
            reply.send(answer).ok();
        }
        // A successor reads the files that are being written.
        tokio::time::timeout(WRITES_TIMEOUT, self.files.flush()).await.ok();
        // Commands that still wait get an error instead of an answer.
        drop((self.calls, self.inbox));
        self.listeners.stop().await;
        let responder = async {
            if let Some(responder) = self.responder {
                responder.shutdown().await;
            }
        };
        tokio::join!(responder, self.events.finish());
        tracing::info!("stopped");
        match done {
            // Even if something could not be removed, the service manager must not start the daemon again.
            Ok(()) if matches!(exit, Exit::Detach(Some(_))) => Err(Unloaded.into()),
            Err(error) if matches!(exit, Exit::Detach(Some(_))) => {
                Err(anyhow::Error::new(Unloaded).context(format!("{error:#}")))
            }
            done => done,
        }
    }
}

/// The time between two renewals of program lease and watchdog.
fn tick(config: &Config) -> Duration {
    let lease =
        config.xdp.stale_after.map_or(LONGEST_TICK, |lease| (lease / TICKS_PER_LEASE).min(LONGEST_TICK));
    lease.min(systemd::watchdog_interval().unwrap_or(Duration::MAX))
}

fn interval(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The next report of a probe, the next command, or the next update. Cancel safe.
async fn next_of(
    reports: &mut mpsc::Receiver<Report>,
    inbox: &mut mpsc::Receiver<Call>,
    updates: &mut Updates,
    is_live: bool,
) -> Come {
    tokio::select! {
        Some(report) = reports.recv() => Come::Report(report),
        Some(call) = inbox.recv(), if is_live => Come::Call(call),
        order = updates.next() => Come::Update(order),
        else => std::future::pending().await,
    }
}

/// The next view of the store; `None`: the session has ended. Without a store it waits for ever. Cancel safe.
async fn next_seen(session: &mut Option<StoreSession>) -> Option<Seen> {
    match session {
        Some(session) if !session.is_ended() => session.next().await,
        _ => std::future::pending().await,
    }
}

/// The next text of the watched file. Without a watched file it waits for ever. Cancel safe.
async fn settled(file: &mut Option<FileWatch>) -> Option<io::Result<String>> {
    match file {
        Some(file) => file.next().await,
        None => std::future::pending().await,
    }
}
