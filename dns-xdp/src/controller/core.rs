//! The controller as one pure state machine: it takes an [`Input`] and the time, and returns [`Effect`]s.
//!
//! Every decision is made here. The core opens no file or socket, reads no clock and never waits. Work that takes time
//! is an effect; its result comes back as an input. The daemon's shell and the simulation drive the same core.
//!
//! ```text
//!  Input ──► State (config, intents, verdicts) ──► decision ──► Answering ──► Effect::Publish
//!              ▲                  ▲                                │
//!            Changes           Shared                       events, metrics
//!   (file, commands, intents)  (store, peers)
//! ```
mod admin;
mod answer_diff;
mod changes;
mod cluster_change;
mod commands;
mod confirmation;
mod failback;
mod input;
mod job;
mod listing;
mod local;
pub(in crate::controller) mod occurrences;
mod operator_changes;
mod peers;
mod probing;
mod publication;
mod query;
mod rates;
mod repair_timer;
pub(in crate::controller) mod resolver_caches;
mod services_down;
mod shared;
mod shared_view;
mod source;
pub(in crate::controller) mod state;
mod status;
mod top_names;
mod update;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::answer_diff::Reported;
use self::changes::Changes;
use self::probing::Probing;
use self::publication::{Answering, Step, UnderWay};
use self::rates::Rates;
use self::repair_timer::Falls;
use self::shared::Shared;
use self::state::State;
use self::top_names::TopNames;
use crate::config::Config;
use crate::control::{Command, Refusal, RefusalKind};
use crate::event::{Kind, Occurrence};
use crate::failover::{Answers, LastAnswers};
use crate::intent::{Intents, Local};
use crate::store::client::Seen;

#[cfg(test)]
pub(in crate::controller) use self::answer_diff::Changes as AnswerChanges;
pub(in crate::controller) use self::changes::unwritten;
pub(in crate::controller) use self::input::{
    CallId, Effect, Exit, Input, Now, Publication, Published, Purpose, Readings, Record, Signal, WorkId,
};
pub(in crate::controller) use self::job::{Job, Prepared};
pub(in crate::controller) use self::operator_changes::STORE_WRITE_TIMEOUT;
pub(in crate::controller) use self::shared::STORE_SESSION;
#[cfg(test)]
pub(in crate::controller) use self::shared_view::digest;
#[cfg(test)]
pub(in crate::controller) use self::source::Proposal;
pub(in crate::controller) use self::source::Source;

/// How long the start waits for a first view of the store.
const FIRST_VIEW: Duration = Duration::from_secs(1);

/// The whole state of the controller.
#[derive(Debug)]
pub(in crate::controller) struct Core {
    pub(in crate::controller) health: State,
    source: Arc<Source>,
    answering: Answering,
    probing: Probing,
    changes: Changes,
    /// The store and its other servers; `None`: there is no store.
    shared: Option<Shared>,
    /// This server's decisions that the store does not have.
    local: Local,
    /// The time of the last change of `local`, since the origin.
    local_changed: Duration,
    /// The decision and the answers that the last events reported.
    reported: Option<Arc<Reported>>,
    /// The answers that were last kept on disk.
    kept_answers: Option<Arc<Answers>>,
    repair_timer: Falls,
    rates: Rates,
    top_names: TopNames,
    /// Why the last reload by SIGHUP or by the watch was refused.
    refused: Option<String>,
    lease: ProgramLease,
    /// Tasks of the shell that have ended by a defect, and why.
    ended: BTreeMap<&'static str, String>,
    phase: Phase,
    /// The name of the node that runs this daemon, for the event of the start.
    identity: String,
    next_work: WorkId,
    now: Now,
    effects: Vec<Effect>,
}

/// How far the start has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Some node or witness has no first result yet.
    FirstRound,
    /// The daemon waits for a first view of the store, until `until` at the latest. Its first answers then equal the
    /// other servers' answers.
    Joining { until: Duration },
    /// The first answers are being published.
    Opening,
    /// Queries are answered.
    Live,
}

/// How long the program answers without a daemon.
#[derive(Debug, Default)]
struct ProgramLease {
    renewed: Duration,
    trouble: Option<String>,
}

/// The facts that the core begins with.
#[derive(Debug)]
pub(in crate::controller) struct Beginning {
    pub(in crate::controller) config: Config,
    pub(in crate::controller) source: Source,
    pub(in crate::controller) intents: Intents,
    /// The name of this server in its store, and its first view of the store; `None`: there is no store.
    pub(in crate::controller) shared: Option<(String, Seen)>,
    /// This server's own decisions, kept on disk because the store did not have them; empty without a store.
    pub(in crate::controller) local: Local,
    /// The name of the node that runs this daemon.
    pub(in crate::controller) identity: String,
    /// The answers of the last daemon when it ended; `None`: they are not known.
    pub(in crate::controller) last_answers: Option<LastAnswers>,
}

impl Core {
    /// Creates a core that knows nothing of any node and has decided nothing. Also returns the effects that the start
    /// begins with.
    pub(in crate::controller) fn new(beginning: Beginning, now: Now) -> (Core, Vec<Effect>) {
        let Beginning { config, source, intents, shared, local, identity, last_answers } = beginning;
        let mut core = Core {
            health: State::new(config, &intents),
            source: Arc::new(source),
            answering: Answering::new(now.wall),
            probing: Probing::default(),
            changes: Changes::default(),
            shared: shared.map(Shared::new),
            local,
            local_changed: now.elapsed,
            reported: None,
            kept_answers: None,
            repair_timer: Falls::default(),
            rates: Rates::default(),
            top_names: TopNames::default(),
            refused: None,
            lease: ProgramLease::default(),
            ended: BTreeMap::new(),
            phase: Phase::FirstRound,
            identity,
            next_work: 0,
            now,
            effects: Vec::new(),
        };
        core.begin_with_local();
        if let Some(last) = &last_answers {
            let released = core.shared.is_some().then_some(&core.local.released);
            core.health.remember(last, released);
        }
        core.reconcile_probes();
        let effects = std::mem::take(&mut core.effects);
        (core, effects)
    }

    /// Takes one input. Returns the effects that follow, to be performed in this order.
    pub(in crate::controller) fn step(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.now = now;
        match input {
            Input::Pulse { ended } => self.pulse(&ended),
            Input::Tick => self.tick(),
            Input::Probed { probe, at, observation } => self.probed(&probe, at, &observation),
            Input::Asked { call, command } => self.asked(call, command),
            Input::Update { call, update } => self.update(call, *update),
            Input::Signal(signal) => self.signalled(signal),
            Input::FileSettled(text) => self.file_settled(&text),
            Input::StoreSeen(seen) => self.store_seen(*seen),
            Input::Opened(publication) => self.opened(&publication),
            Input::Published(result) => self.published(result.as_deref().map_err(String::as_str)),
            Input::LeaseRenewed(result) => self.lease_renewed(result),
            Input::Read { what, readings } => self.read(what, *readings),
            Input::Prepared { work, result } => self.prepared(work, result),
            Input::FileCommitted { work, result } => self.file_committed(work, result),
            Input::IntentsSaved { work, result } => self.intents_saved(work, result),
            Input::Swapped { work, result } => self.swapped(work, result),
            Input::WasStopped(stopped) => self.was_stopped(stopped),
            Input::TaskEnded { task, reason } => self.task_ended(task, &reason),
            Input::TaskStarted { task } => drop(self.ended.remove(task)),
        }
        self.go_on_with_the_start();
        std::mem::take(&mut self.effects)
    }

    /// Whether the daemon takes commands.
    pub(in crate::controller) fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Whether there is a store.
    #[cfg(test)]
    pub(in crate::controller) fn shares(&self) -> bool {
        self.shared.is_some()
    }

    /// This server's decisions that the store does not have.
    #[cfg(test)]
    pub(in crate::controller) fn local(&self) -> &Local {
        &self.local
    }

    fn emit(&mut self, occurrence: Occurrence) {
        self.effects.push(Effect::Emit(occurrence));
    }

    fn work(&mut self) -> WorkId {
        self.next_work += 1;
        self.next_work
    }

    fn tick(&mut self) {
        self.effects.extend([Effect::RenewLease, Effect::Alive]);
        if self.phase != Phase::Live {
            return;
        }
        if self.answering.is_pending() {
            self.decide_and_publish();
        }
        self.expire();
        self.keep_intents_again();
        self.end_holds();
        self.share_local();
        self.give_up_work();
        self.reload_if_due();
        self.try_refused_documents_again();
        self.answer_waiting();
        self.write_own();
        if self.rates.due(self.now.elapsed) {
            self.effects.push(Effect::Read(Purpose::Rates));
        }
        self.top_names.end_unless_looked_at(self.now.elapsed);
    }

    fn signalled(&mut self, signal: Signal) {
        match (signal, self.phase) {
            (Signal::Hangup, Phase::Live) => self.reload_unasked(),
            (Signal::Hangup, _) => {}
            (signal, Phase::FirstRound | Phase::Joining { .. }) => {
                self.effects.push(Effect::Exit(Exit::Abandon(signal)));
            }
            (Signal::Interrupt, _) => self.exit(Exit::Detach(None)),
            (Signal::Terminate, _) => self.exit(Exit::Leave),
        }
    }

    fn exit(&mut self, exit: Exit) {
        self.emit(occurrences::stop(exit.text()));
        self.effects.push(Effect::Exit(exit));
    }

    fn asked(&mut self, call: CallId, command: Command) {
        match command {
            Command::Handover => self.exit(Exit::HandOver(call)),
            Command::Unload => self.exit(Exit::Detach(Some(call))),
            _ if self.phase != Phase::Live => {
                let refusal = Refusal::new(RefusalKind::Failed, "nothing is published yet; ask again");
                self.effects.push(Effect::Reply { call, answer: Err(refusal) });
            }
            command => self.command(call, command),
        }
    }

    fn lease_renewed(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => self.lease = ProgramLease { renewed: self.now.elapsed, trouble: None },
            Err(error) => {
                let trouble = format!("the lease cannot be renewed and will run out: {error}");
                if self.lease.trouble.as_ref() != Some(&trouble) {
                    self.effects.push(Effect::Warn(trouble.clone()));
                }
                self.lease.trouble = Some(trouble);
            }
        }
    }

    fn task_ended(&mut self, task: &'static str, reason: &str) {
        let alarm = format!("the task {task} ended by a defect of dns-xdp and is started again: {reason}");
        self.effects.push(Effect::Warn(alarm.clone()));
        self.ended.insert(task, alarm);
        if task == STORE_SESSION {
            self.store_lost("this server's own session with the store ended");
        }
    }

    /// Publishes the first answers when each node and witness was probed once. With a store, first waits at most
    /// [`FIRST_VIEW`] for a view of it.
    fn go_on_with_the_start(&mut self) {
        if self.phase == Phase::FirstRound && self.health.round_complete() {
            self.phase = Phase::Joining { until: self.now.elapsed + FIRST_VIEW };
        }
        let Phase::Joining { until } = self.phase else { return };
        let is_waiting = self.shared.as_ref().is_some_and(|shared| !shared.is_joined());
        if is_waiting && self.now.elapsed < until {
            return;
        }
        if self.join_at_the_start() {
            self.effects.push(Effect::BeginDeciding);
        }
        self.reconcile_probes();
        self.health.decide();
        if let Some(published) = Published::of(&self.health) {
            self.answering.begin(published.clone(), false);
            self.effects.push(Effect::Open(published));
            self.phase = Phase::Opening;
        }
    }

    fn opened(&mut self, publication: &Publication) {
        let Some((under_way, _)) = self.answering.succeeded(publication, self.now) else { return };
        self.phase = Phase::Live;
        self.lease.renewed = self.now.elapsed;
        let Published { answers, reported, .. } = under_way.published;
        for occurrence in reported.at_the_start(publication, &self.identity) {
            self.emit(occurrence);
        }
        self.keep_answers(&answers, reported.is_frozen());
        self.reported = Some(reported);
        // A node that was down at the start was never answered, so this is not a repair.
        drop(self.repair_timer.answered(self.now.elapsed));
        if let Some(took) = publication.took {
            self.effects.push(Effect::Record(Record::PublishingTook(took)));
        }
        self.effects.extend([Effect::Serve, Effect::Record(Record::Live)]);
        self.configure_shell();
        // The store and the probes may have reported something meanwhile.
        self.take_over_from_store();
        self.decide_and_publish();
        self.write_own();
    }

    /// Passes `[events]`, `[control] watch` and the keys of updates on to the shell.
    fn configure_shell(&mut self) {
        let config = self.health.config();
        let watch = config.control.watch;
        let events = config.events.clone();
        self.effects.extend([Effect::ConfigureEvents(events), Effect::WatchFile(watch)]);
        self.configure_updates();
    }

    /// Decides again and publishes the new answers. A failed publication is tried again with the next tick.
    fn decide_and_publish(&mut self) {
        if self.phase == Phase::Live {
            self.health.decide();
            if self.hold_fallen() {
                // Decide again: services with their own probes lose held members too.
                self.health.decide();
            }
            self.publish();
            self.write_own();
        }
    }

    fn publish(&mut self) {
        let Some(published) = Published::of(&self.health) else { return };
        match self.answering.begin(published.clone(), false) {
            Step::Same => {
                self.keep_answers(&published.answers, published.reported.is_frozen());
                self.tell(published.reported, None, None);
            }
            Step::Publish => self.effects.push(Effect::Publish(published)),
            Step::Later => {}
        }
    }

    fn published(&mut self, result: Result<&Publication, &str>) {
        let over = match result {
            Ok(publication) => self.answering.succeeded(publication, self.now),
            Err(error) => self.answering.failed(error),
        };
        let Some((under_way, occurrence)) = over else { return };
        if let Some(occurrence) = occurrence {
            self.emit(occurrence);
        }
        if let Ok(Publication { took: Some(took), .. }) = result {
            self.effects.push(Effect::Record(Record::PublishingTook(*took)));
        }
        let UnderWay { published: Published { answers, reported, .. }, is_change } = under_way;
        if result.is_ok() {
            self.keep_answers(&answers, reported.is_frozen());
        }
        if is_change {
            self.change_published(result, reported);
        } else {
            self.tell(reported, result.ok(), None);
        }
        if !self.answering.is_settled() && !self.answering.is_busy() {
            self.publish();
        }
        self.go_on_with_changes();
        self.answer_waiting();
        self.write_own();
    }

    /// Writes the answers to disk, because a restart without a quorum begins with them. Frozen answers are
    /// those on disk with the operators' intents, which are kept too.
    fn keep_answers(&mut self, answers: &Arc<Answers>, is_frozen: bool) {
        // While a node has no verdict, the answers in the file rest on more results than this daemon has.
        let is_known = self.health.round_complete()
            && self.health.health_by_subject().values().all(|known| !known.inconclusive);
        let is_same = self.kept_answers.as_ref().is_some_and(|kept| kept.names_as(answers));
        if is_frozen || is_same || !is_known || answers.refused() {
            return;
        }
        self.kept_answers = Some(Arc::clone(answers));
        let (path, answers) = (self.health.config().control.answers(), Arc::clone(answers));
        self.effects.push(Effect::KeepAnswers { path, answers, at: self.now.wall });
    }

    /// Emits the events for the differences between this decision and the last one reported.
    fn tell(&mut self, now: Arc<Reported>, publication: Option<&Publication>, change: Option<Occurrence>) {
        if let Some(before) = &self.reported {
            let reported = now.since(before, publication, change);
            if reported.iter().any(|occurrence| occurrence.kind == Kind::Failover) {
                self.repair_timer.moved();
            }
            self.effects.extend(reported.into_iter().map(Effect::Emit));
        }
        let is_settled = !self.answering.is_pending() && self.answering.is_settled();
        if !now.is_frozen() && is_settled && !self.health.falls_wait() {
            // The answers now agree with the verdicts.
            let repairs = self.repair_timer.answered(self.now.elapsed);
            let repairs = repairs.into_iter().map(|repair| Effect::Record(Record::Repaired(repair)));
            self.effects.extend(repairs);
        }
        self.reported = Some(now);
    }
}

#[cfg(test)]
mod tests;
