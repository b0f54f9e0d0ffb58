//! The two enums between the core and its shell: what the core is told, and what it wants done.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::answer_diff::{Changes, Reported};
use super::job::{Job, Prepared};
use crate::cluster::Family;
use crate::config;
use crate::config::Config;
use crate::control::{Command, Refusal};
use crate::datapath::InterfaceState;
use crate::event::Occurrence;
use crate::failover::Answers;
use crate::health::{Health, Observation, Pace, ProbeId, Subject, Target};
use crate::intent::{Intents, Local};
use crate::metrics::Repair;
use crate::network::AddressState;
use crate::store::client::{Own, Seen};
use crate::store::{Error, Known, Revision, Swap};
use crate::zone::Zone;

/// A moment, as the shell reads its clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controller) struct Now {
    /// Since the shell's origin, on a clock that nobody sets.
    pub(in crate::controller) elapsed: Duration,
    /// On the wall clock, for what operators read and for what outlives a restart.
    pub(in crate::controller) wall: Timestamp,
}

/// A command that waits for its answer.
pub(in crate::controller) type CallId = u64;
/// Work that the shell does for the core; its result carries the same number.
pub(in crate::controller) type WorkId = u64;

/// What the core is told.
#[derive(Debug)]
pub(in crate::controller) enum Input {
    /// Ten times a second, and before each [`Input::Probed`]: the core runs. `ended` are the probes whose task has ended.
    Pulse { ended: Vec<ProbeId> },
    /// Once a second at least, and several times in each lease. The core renews the lease and ends what is over.
    Tick,
    /// A probe has a result, or is overdue, at this time since the origin. Only for probes as they were last asked for.
    Probed { probe: ProbeId, at: Duration, observation: Observation },
    /// A command has arrived. Answered by [`Effect::Reply`] or, for commands that end the daemon, by [`Effect::Exit`].
    Asked { call: CallId, command: Command },
    /// A signal has come.
    Signal(Signal),
    /// The watched file has another text, or cannot be read.
    FileSettled(Result<String, String>),
    /// The session with the store has another view or another mode.
    StoreSeen(Box<Seen>),
    /// Answers [`Effect::Open`]; where that fails, the shell gives the start up.
    Opened(Box<Publication>),
    /// Answers [`Effect::Publish`]. After an error both readers have the zone before.
    Published(Result<Box<Publication>, String>),
    /// Answers [`Effect::RenewLease`].
    LeaseRenewed(Result<(), String>),
    /// Answers [`Effect::Read`].
    Read { what: Purpose, readings: Box<Readings> },
    /// Answers [`Effect::Prepare`].
    Prepared { work: WorkId, result: Result<Box<Prepared>, Refusal> },
    /// Answers [`Effect::CommitFile`].
    FileCommitted { work: WorkId, result: Result<(), String> },
    /// Answers [`Effect::SaveIntents`] and [`Effect::SaveLocal`].
    IntentsSaved { work: WorkId, result: Result<(), String> },
    /// Answers [`Effect::Swap`].
    Swapped { work: WorkId, result: Result<Revision, Error> },
    /// The machine was stopped for so long, and the clock of [`Now::elapsed`] with it.
    WasStopped(Duration),
    /// A task of the shell has ended by a defect. The shell starts it again, after a pause that grows.
    TaskEnded { task: &'static str, reason: String },
    /// That task runs again.
    TaskStarted { task: &'static str },
}

/// What the core wants done. The shell performs them in their order; what takes time runs on a task or thread of its own.
#[derive(Debug)]
pub(in crate::controller) enum Effect {
    /// Probe these from now on and no others. Each result comes as [`Input::Probed`].
    Probe(BTreeMap<ProbeId, Target>),
    /// Give every attempt under way up, and probe everybody at once.
    RestartProbes,
    /// Make the next attempts of a probe at this pace.
    Pace(ProbeId, Pace),
    /// Publish the first answers, give the program its lease and attach it. Answered by [`Input::Opened`].
    Open(Published),
    /// Take queries: give privileges up and start the responder.
    Serve,
    /// Publish answers. Answered by [`Input::Published`]; at most one is under way.
    Publish(Published),
    /// Renew the program lease. Answered by [`Input::LeaseRenewed`].
    RenewLease,
    /// Renew the watchdog of the service manager, and say that the daemon runs. By way of the publisher: a daemon that
    /// cannot publish any more does not run.
    Alive,
    /// Read counters and states. Answered by [`Input::Read`].
    Read(Purpose),
    /// Have the program sample one question in this many.
    Sample(u64),
    /// Work out a change off the loop: read files, look names up, parse. Answered by [`Input::Prepared`]. A file's new text
    /// then lies beside the file, until it is committed or dropped.
    Prepare { work: WorkId, job: Box<Job> },
    /// Put the text that lies beside the file in its place. Answered by [`Input::FileCommitted`].
    CommitFile { work: WorkId },
    /// Remove that text.
    DropFile { work: WorkId },
    /// Keep what operators want on disk. Answered by [`Input::IntentsSaved`].
    SaveIntents { work: WorkId, path: PathBuf, intents: Intents },
    /// Keep on disk what this server has decided and the store does not have. Answered by [`Input::IntentsSaved`].
    SaveLocal { work: WorkId, path: PathBuf, local: Box<Local> },
    /// Change documents of the store. Answered by [`Input::Swapped`].
    Swap { work: WorkId, swap: Swap },
    /// Write the answers to disk, for a start without a quorum.
    KeepAnswers { path: PathBuf, answers: Arc<Answers>, at: Timestamp },
    /// Write a copy of the documents to disk, for a start without the store.
    KeepCopy { path: PathBuf, prefix: String, known: Box<Known> },
    /// Begin a new session with the store.
    RenewSession,
    /// Decisions are made from now on: join the store by way of a probation.
    BeginDeciding,
    /// Write this into the store, now and in every session until there is another.
    WriteOwn(Box<Own>),
    /// Accept what the store holds, on all servers.
    AcceptStore,
    /// Answer a command.
    Reply { call: CallId, answer: Result<Value, Refusal> },
    /// Tell log, journal and on-event command.
    Emit(Occurrence),
    /// Log a warning that is no event.
    Warn(String),
    /// Count for the metrics.
    Record(Record),
    /// Obey this `[events]` section.
    ConfigureEvents(config::Events),
    /// Watch the configuration file, or do not.
    WatchFile(bool),
    /// Tell the service manager that a reload begins, or that it is over.
    Reloading(bool),
    /// End.
    Exit(Exit),
}

/// Answers that are to be published: the zone follows from the two.
#[derive(Debug, Clone)]
pub(in crate::controller) struct Published {
    /// The configuration.
    pub(in crate::controller) config: Arc<Config>,
    /// The node that answers for each node, and the nodes that each service answers.
    pub(in crate::controller) answers: Arc<Answers>,
    /// What is to be told when they are published.
    pub(super) reported: Arc<Reported>,
}

/// What became of [`Effect::Publish`].
#[derive(Debug)]
pub(in crate::controller) struct Publication {
    /// What is answered now.
    pub(in crate::controller) zone: Arc<Zone>,
    /// The names whose addresses have changed, as events tell them.
    pub(in crate::controller) changes: Changes,
    /// Addresses that some name answers no more, with the longest TTL that they were handed out with.
    pub(in crate::controller) left: BTreeMap<IpAddr, Duration>,
    /// Every address that is handed out.
    pub(in crate::controller) answered: BTreeSet<IpAddr>,
    /// How long it took; `None`: the zone is the one before.
    pub(in crate::controller) took: Option<Duration>,
}

/// What counters are read for.
#[derive(Debug)]
pub(in crate::controller) enum Purpose {
    /// The rate of queries.
    Rates,
    /// A command.
    Command { call: CallId, command: Command },
}

/// Counters and states at the daemon's edges.
#[derive(Debug)]
pub(in crate::controller) struct Readings {
    /// How each interface is served.
    pub(in crate::controller) interfaces: Vec<InterfaceState>,
    /// Each address that is served or waited for.
    pub(in crate::controller) addresses: Vec<AddressState>,
    /// The program's counters by their text; the error says why they cannot be read.
    pub(in crate::controller) xdp: Result<BTreeMap<&'static str, u64>, String>,
    /// The responder's counters by their text.
    pub(in crate::controller) responder: BTreeMap<&'static str, u64>,
    /// Answers that the driver lost, by interface.
    pub(in crate::controller) transmit_errors: BTreeMap<String, u64>,
    /// Names that were sampled since the last reading; only for [`Command::Names`].
    pub(in crate::controller) sampled_names: Vec<String>,
    /// Events told, on-event commands that failed, and events that they missed.
    pub(in crate::controller) events: [u64; 3],
    /// What went wrong there.
    pub(in crate::controller) alarms: Vec<String>,
}

impl Default for Readings {
    fn default() -> Self {
        Readings {
            interfaces: Vec::new(),
            addresses: Vec::new(),
            xdp: Ok(BTreeMap::new()),
            responder: BTreeMap::new(),
            transmit_errors: BTreeMap::new(),
            sampled_names: Vec::new(),
            events: [0; 3],
            alarms: Vec::new(),
        }
    }
}

/// What is counted for the metrics.
#[derive(Debug)]
pub(in crate::controller) enum Record {
    /// A probe has a result.
    Probed { subject: Subject, kind: &'static str, observation: Observation },
    /// The health of a subject has become another, or that in one family of its addresses.
    Turned(Subject, Option<Family>, Health),
    /// A node that had failed is in no answer any more.
    Repaired(Repair),
    /// The configuration was to be read again, and is in force or was refused.
    Reloaded { ok: bool },
    /// The first answers are given.
    Live,
    /// The time that a publication took.
    PublishingTook(Duration),
}

/// A signal that the daemon obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controller) enum Signal {
    /// SIGHUP: read the configuration again.
    Hangup,
    /// SIGINT: leave nothing behind.
    Interrupt,
    /// SIGTERM: let the program answer for the grace.
    Terminate,
}

/// How the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controller) enum Exit {
    /// Nothing was answered yet.
    Abandon(Signal),
    /// The program answers for the grace: SIGTERM.
    Leave,
    /// The program answers for a lease, and the successor that asked is told.
    HandOver(CallId),
    /// Nothing is left: SIGINT, or `unload`, which is told.
    Detach(Option<CallId>),
}

impl Exit {
    /// For the event of the end.
    pub(super) fn text(self) -> &'static str {
        match self {
            Exit::Abandon(_) => "nothing was answered yet",
            Exit::Leave => "the program answers on for [xdp] stop-grace",
            Exit::HandOver(_) => "another daemon takes over",
            Exit::Detach(_) => "the program is detached",
        }
    }
}
