//! The two enums between the core and its shell: the inputs that the core takes, and the effects that it asks for.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::answer_diff::{Changes, Reported};
use super::job::{Job, Prepared};
use super::listing::Listing;
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
use crate::update::{Access, SignedUpdate};
use crate::zone::Zone;

/// One reading of the shell's clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controller) struct Now {
    /// The time since the shell's origin, on a monotonic clock.
    pub(in crate::controller) elapsed: Duration,
    /// The wall clock, for times that operators read and for times that outlive a restart.
    pub(in crate::controller) wall: Timestamp,
}

/// A command that waits for its answer.
pub(in crate::controller) type CallId = u64;
/// The number of work that the shell does for the core; the result carries the same number.
pub(in crate::controller) type WorkId = u64;

/// An event that the shell reports to the core.
#[derive(Debug)]
pub(in crate::controller) enum Input {
    /// Asks the core to check its clock. The shell sends it ten times a second and before each [`Input::Probed`].
    /// `ended` are the probes whose task has ended.
    Pulse { ended: Vec<ProbeId> },
    /// Comes at least once a second, and several times in each lease. The core renews the lease and ends everything
    /// that is over.
    Tick,
    /// A probe has a result, or is overdue, at this time since the origin. Only probes of the last [`Effect::Probe`]
    /// report.
    Probed { probe: ProbeId, at: Duration, observation: Observation },
    /// A command has arrived. The core answers with [`Effect::Reply`], or with [`Effect::Exit`] if the command ends the
    /// daemon.
    Asked { call: CallId, command: Command },
    /// A verified DNS UPDATE has arrived. The core answers with [`Effect::Reply`].
    Update { call: CallId, update: Box<SignedUpdate> },
    /// A signal has come.
    Signal(Signal),
    /// The text of the watched file has changed, or the file cannot be read.
    FileSettled(Result<String, String>),
    /// The session with the store has a new view or a new mode.
    StoreSeen(Box<Seen>),
    /// Answers [`Effect::Open`]. If that fails, the shell abandons the start.
    Opened(Box<Publication>),
    /// Answers [`Effect::Publish`]. After an error, kernel and responder have the previous zone.
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
    /// The machine was stopped for this long. The clock of [`Now::elapsed`] stood still meanwhile.
    WasStopped(Duration),
    /// A task of the shell has ended by a defect. The shell starts it again after a pause; repeated ends lengthen the
    /// pause.
    TaskEnded { task: &'static str, reason: String },
    /// That task runs again.
    TaskStarted { task: &'static str },
}

/// Something that the core wants done. The shell performs effects in their order; slow ones run on their own task or
/// thread.
#[derive(Debug)]
pub(in crate::controller) enum Effect {
    /// Probe these targets from now on and no others. Each result comes as [`Input::Probed`].
    Probe(BTreeMap<ProbeId, Target>),
    /// Abandon every attempt under way. Each probe makes its next attempt within its interval.
    RestartProbes,
    /// Make the next attempts of a probe at this pace.
    Pace(ProbeId, Pace),
    /// Publish the first answers, give the program its lease and attach it. The shell answers with [`Input::Opened`].
    Open(Published),
    /// Take queries: give up privileges and start the responder.
    Serve,
    /// Publish answers. Answered by [`Input::Published`]; at most one is under way.
    Publish(Published),
    /// Renew the program lease. Answered by [`Input::LeaseRenewed`].
    RenewLease,
    /// Renew the service manager's watchdog. The publisher does it, because a daemon that cannot publish must not count
    /// as running.
    Alive,
    /// Read counters and states. The shell answers by [`Input::Read`].
    Read(Purpose),
    /// Make the program sample 1 of this many queries.
    Sample(u64),
    /// Prepare a change outside the loop: read files, look names up, parse. The shell answers with [`Input::Prepared`].
    /// The file's new text then lies beside the file until it is committed or dropped.
    Prepare { work: WorkId, job: Box<Job> },
    /// Replace the file by the new text that lies beside it. Answered by [`Input::FileCommitted`].
    CommitFile { work: WorkId },
    /// Remove the new text that lies beside the file.
    DropFile { work: WorkId },
    /// Keep operators' intents on disk. Answered by [`Input::IntentsSaved`].
    SaveIntents { work: WorkId, path: PathBuf, intents: Intents },
    /// Write to disk this server's decisions that the store does not have. Answered by [`Input::IntentsSaved`].
    SaveLocal { work: WorkId, path: PathBuf, local: Box<Local> },
    /// Change documents of the store. Answered by [`Input::Swapped`].
    Swap { work: WorkId, swap: Swap },
    /// Write the answers to disk, for a start without a quorum.
    KeepAnswers { path: PathBuf, answers: Arc<Answers>, at: Timestamp },
    /// Write a copy of the documents to disk, for a start without the store.
    KeepCopy { path: PathBuf, prefix: String, known: Box<Known> },
    /// Begin a new session with the store.
    RenewSession,
    /// Note that decisions are made from now on: the session may join the store after its probation.
    BeginDeciding,
    /// Write this entry into the store, now and in every session until a newer one replaces it.
    WriteOwn(Box<Own>),
    /// Accept the store's documents on all servers.
    AcceptStore,
    /// Answer a command.
    Reply { call: CallId, answer: Result<Value, Refusal> },
    /// Answer a command with a listing. A large one takes too long for the core.
    ReplyListing { call: CallId, listing: Listing },
    /// Report an occurrence to the log, the journal and the on-event command.
    Emit(Occurrence),
    /// Log a warning that is not an event.
    Warn(String),
    /// Count for the metrics.
    Record(Record),
    /// Use this `[events]` section from now on.
    ConfigureEvents(config::Events),
    /// Let these keys update the zone from now on, and no others.
    ConfigureUpdates(Access),
    /// Watch the configuration file, or stop watching it.
    WatchFile(bool),
    /// Tell the service manager that a reload begins, or that it is over.
    Reloading(bool),
    /// End the daemon.
    Exit(Exit),
}

/// Answers that are to be published: the zone follows from configuration and answers.
#[derive(Debug, Clone)]
pub(in crate::controller) struct Published {
    /// The configuration.
    pub(in crate::controller) config: Arc<Config>,
    /// The node that answers for each node, and the nodes that each service answers.
    pub(in crate::controller) answers: Arc<Answers>,
    /// The decision, to be reported once the answers are published.
    pub(super) reported: Arc<Reported>,
}

/// The result of [`Effect::Publish`].
#[derive(Debug)]
pub(in crate::controller) struct Publication {
    /// The zone that is answered now.
    pub(in crate::controller) zone: Arc<Zone>,
    /// The names whose addresses have changed, as events report them.
    pub(in crate::controller) changes: Changes,
    /// Addresses that some name no longer answers, each with the longest TTL that it was answered with.
    pub(in crate::controller) left: BTreeMap<IpAddr, Duration>,
    /// Every address that is answered.
    pub(in crate::controller) answered: BTreeSet<IpAddr>,
    /// How long the publication took; `None`: the zone has not changed.
    pub(in crate::controller) took: Option<Duration>,
}

/// The reason why counters are read.
#[derive(Debug)]
pub(in crate::controller) enum Purpose {
    /// The rate of queries.
    Rates,
    /// A command.
    Command { call: CallId, command: Command },
}

/// Counters and states that the core does not keep itself.
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
    /// Answers that the driver failed to send, by interface.
    pub(in crate::controller) transmit_errors: BTreeMap<String, u64>,
    /// Names that were sampled since the last reading; only for [`Command::Names`].
    pub(in crate::controller) sampled_names: Vec<String>,
    /// The numbers of events reported, of failed on-event commands, and of events that the command missed.
    pub(in crate::controller) events: [u64; 3],
    /// Alarms from the shell, the program and the responder.
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

/// Something that is counted for the metrics.
#[derive(Debug)]
pub(in crate::controller) enum Record {
    /// A probe has a result.
    Probed { subject: Subject, kind: &'static str, observation: Observation },
    /// The health of a subject has changed, as a whole or in one address family.
    Turned(Subject, Option<Family>, Health),
    /// A node that had failed is no longer in any answer.
    Repaired(Repair),
    /// A reload is in force or was refused.
    Reloaded { ok: bool },
    /// The daemon has begun to answer.
    Live,
    /// The time that a publication took.
    PublishingTook(Duration),
}

/// A signal that the daemon obeys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controller) enum Signal {
    /// SIGHUP: read the configuration again.
    Hangup,
    /// SIGINT: detach and unpin everything.
    Interrupt,
    /// SIGTERM: let the program answer for `[xdp] stop-grace`.
    Terminate,
}

/// How the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::controller) enum Exit {
    /// The daemon ends before its first answer.
    Abandon(Signal),
    /// The program answers for `[xdp] stop-grace`, after SIGTERM.
    Leave,
    /// The program answers for a lease, and the successor that asked gets its reply.
    HandOver(CallId),
    /// Everything is detached and unpinned, for SIGINT or for `unload`, which gets its reply.
    Detach(Option<CallId>),
}

impl Exit {
    /// The reason in the stop event.
    pub(super) fn text(self) -> &'static str {
        match self {
            Exit::Abandon(_) => "nothing was answered yet",
            Exit::Leave => "the program answers on for [xdp] stop-grace",
            Exit::HandOver(_) => "another daemon takes over",
            Exit::Detach(_) => "the program is detached",
        }
    }
}
