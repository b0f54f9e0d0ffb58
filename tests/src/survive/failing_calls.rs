//! Row 3: a `bpf()` call fails, at every step of a start, of an adoption and of a publication in turn.
use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use hickory_proto::op::Message as Response;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

use super::{Length, Row, SOON};
use crate::bed::client::Client;
use crate::bed::client::Tcp;
use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::plan::{Plan, ZONE};
use crate::bed::run::Run;
use crate::bed::strace::{Attached, Call, calls, injected, injecting, wrapper};
use crate::bed::wait;
use crate::bed::watch::{Question, Watch};
use crate::oracle::frames::message::{A, IN, Message, name};

/// The kernel's errors (forbidden, no memory, no room), and their texts in a message.
const ERRORS: [(&str, &str); 3] =
    [("EPERM", "(os error 1)"), ("ENOMEM", "(os error 12)"), ("ENOSPC", "(os error 28)")];

/// The words for each failed call. A refusal has to contain one of the words.
const STEPS: [(&str, &[&str]); 12] = [
    ("BPF_BTF_LOAD", &["BTF"]),
    ("BPF_MAP_GET_FD_BY_ID", &["map"]),
    ("BPF_LINK_CREATE", &["attach"]),
    ("BPF_LINK_UPDATE", &["attach"]),
    ("BPF_MAP_CREATE", &["map"]),
    ("BPF_MAP_FREEZE", &["map"]),
    ("BPF_MAP_LOOKUP_ELEM", &["map"]),
    ("BPF_MAP_UPDATE_ELEM", &["map"]),
    ("BPF_OBJ_GET_INFO_BY_FD", &["map", "pin"]),
    ("BPF_OBJ_GET", &["map", "pin"]),
    ("BPF_OBJ_PIN", &["pin"]),
    ("BPF_PROG_TEST_RUN", &["lease"]),
];

/// The log lines that are not the final message.
const LEVELS: [&str; 3] = [" INFO ", " WARN ", "ERROR "];

/// Plays the row.
///
/// # Errors
/// A failure has another effect than expected.
pub fn run(length: Length) -> Result<Row> {
    let plan = Plan::quick(2)
        .line("xdp", "mode = \"native\"")
        .line("xdp", "capacity = 16")
        .line("xdp", "stale-after = \"300s\"")
        .line("xdp", "stop-grace = \"300s\"");
    let run = Run::unique()?;
    let directory = run.directory();
    let mut cluster = Cluster::lay(run, &plan)?;
    cluster.nodes.iter_mut().try_for_each(Node::start_database)?;
    let mut failures =
        Failures { length, directory, traces: 0, failed: 0, refused: 0, steps: BTreeSet::new() };
    failures.of_a_start(&mut cluster).context("at a start")?;
    failures.of_an_adoption(&mut cluster).context("at an adoption")?;
    failures.of_a_publication(&mut cluster).context("at a publication")?;
    let Failures { failed, refused, steps, .. } = failures;
    let steps = steps.len();
    let result = format!(
        "{failed} failures at {steps} steps: {refused} refused with the step's name, the others compensated; 0 answers lost or wrong"
    );
    Ok(Row::new(3, result, true))
}

/// The failures that were caused.
#[derive(Debug)]
struct Failures {
    length: Length,
    directory: PathBuf,
    traces: usize,
    failed: usize,
    refused: usize,
    /// Phase and number of the call.
    steps: BTreeSet<(&'static str, usize)>,
}

impl Failures {
    /// A refused start without a predecessor leaves nothing.
    fn of_a_start(&mut self, cluster: &mut Cluster) -> Result<()> {
        let calls = self.trace_start(&mut cluster.nodes[0], Signal::SIGINT)?;
        for step in self.steps(&calls) {
            let step_text = step.to_string();
            let started = self.start("start", &mut cluster.nodes[0], &step).context(step_text.clone())?;
            if started {
                Both::of(cluster)?.say(cluster.nodes[1].ipv4()).context(step_text.clone())?;
                cluster.nodes[0].stop(Signal::SIGINT)?;
            }
            let remains = cluster.nodes[0].remains()?;
            ensure!(remains.is_empty(), "{step_text}: {remains:?} are left");
        }
        Ok(())
    }

    /// A predecessor was killed. Its program answers, whether the successor starts or not.
    fn of_an_adoption(&mut self, cluster: &mut Cluster) -> Result<()> {
        cluster.nodes[0].wrapper.clear();
        cluster.nodes[0].start()?;
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        let questions = Question::all(&[cluster.nodes[0].ipv4()], &["node1", "node2"]);
        let watch = Watch::start(&cluster.client, questions)?;
        let calls = self.trace_start(&mut cluster.nodes[0], Signal::SIGKILL)?;
        for step in self.steps(&calls) {
            let started = self.start("adoption", &mut cluster.nodes[0], &step);
            if started.with_context(|| step.to_string())? {
                cluster.nodes[0].stop(Signal::SIGKILL)?;
            }
        }
        let (changes, asked) = watch.finish()?;
        ensure!(
            asked.count > 0 && changes.len() == 2,
            "the answers of the predecessor's program: {changes:?}"
        );
        Ok(())
    }

    /// A change that cannot be published is in no answer of program or responder, and is reported. It is published as
    /// soon as possible.
    fn of_a_publication(&mut self, cluster: &mut Cluster) -> Result<()> {
        let node = &mut cluster.nodes[0];
        node.wrapper.clear();
        node.start()?;
        let pid = node.status()?["pid"].to_string();
        let [here, there] = [0, 1].map(|node| cluster.nodes[node].ipv4());
        let (mut both, node) = (Both::of(cluster)?, &cluster.nodes[0]);
        let trace = self.trace();
        let strace = Attached::to(&pid, &trace, &[])?;
        node.cli_ok(&["node", "down", "node2"])?;
        drop(strace);
        both.say(here)?;
        for step in self.steps(&calls(&trace)?) {
            node.cli_ok(&["node", "auto", "node2"])?;
            both.say(there)?;
            let trace = self.trace();
            let strace = Attached::to(&pid, &trace, &injecting(step.error, &format!("{}+", step.number)))?;
            let output = node.cli(&["node", "down", "node2"])?;
            let failed = injected(&trace)?;
            if output.status.success() {
                both.say(here).with_context(|| step.to_string())?;
            } else {
                let message = String::from_utf8_lossy(&output.stderr).into_owned();
                let failed = failed.as_ref().with_context(|| format!("no call has failed: {message}"))?;
                step.judge(&failed.command, &message)?;
                both.say(there).with_context(|| step.to_string())?;
                let alarms = node.status()?["alarms"].to_string();
                ensure!(alarms.contains("not up to date"), "{step}: the alarms are {alarms}");
                self.refused += 1;
            }
            if failed.is_some() {
                self.note("publication", &step);
            }
            drop(strace);
            wait::until(&format!("{step} is compensated"), SOON, || both.say(here))?;
        }
        Ok(())
    }

    /// The calls of a start that succeeds, up to the lease; the daemon is ended then.
    fn trace_start(&mut self, node: &mut Node, end: Signal) -> Result<Vec<Call>> {
        let trace = self.trace();
        node.wrapper = wrapper(&trace, &[]);
        node.start()?;
        node.stop(end)?;
        let calls = calls(&trace)?;
        let pinned = calls.iter().rposition(|call| call.line.contains("/program\""));
        // The call after the program's pin renews the lease.
        let last = pinned.context("no program was pinned")? + 1;
        Ok(calls.into_iter().take(last + 1).collect())
    }

    /// Starts a daemon and makes one of its calls fail. `false`: the daemon refused to start, with a message that names
    /// the step.
    fn start(&mut self, phase: &'static str, node: &mut Node, step: &Step) -> Result<bool> {
        let trace = self.trace();
        node.wrapper = wrapper(&trace, &injecting(step.error, &step.number.to_string()));
        fs::write(&node.log, "")?;
        let started = node.start();
        let failed = injected(&trace)?;
        if failed.is_some() {
            self.note(phase, step);
        }
        let Err(error) = started else { return Ok(true) };
        let log = fs::read_to_string(&node.log)?;
        ensure!(format!("{error:#}").contains("exit status: 1)"), "{error:#}: {log}");
        // The verifier may have written more than one line.
        let message = log.lines().filter(|line| !LEVELS.iter().any(|level| line.contains(level)));
        let message = message.collect::<Vec<_>>().join("\n");
        step.judge(&failed.context("no call has failed")?.command, &message)?;
        self.refused += 1;
        Ok(false)
    }

    fn note(&mut self, phase: &'static str, step: &Step) {
        self.failed += 1;
        self.steps.insert((phase, step.number));
    }

    fn trace(&mut self) -> PathBuf {
        self.traces += 1;
        self.directory.join(format!("trace{}", self.traces))
    }

    /// The calls to fail, and their errors. The long form fails each call with every error. The short form uses one
    /// error for each call. It fails the first call of every third command, and the last write to a map, when all
    /// listeners exist.
    fn steps(&self, calls: &[Call]) -> Vec<Step> {
        let object = calls.iter().rposition(|call| call.command == "BPF_BTF_LOAD").unwrap_or(0);
        let step = |at: usize, (error, text)| Step {
            number: at + 1,
            command: calls[at].command.clone(),
            probe: at < object,
            error,
            text,
        };
        let first = |at: &usize| calls[..*at].iter().all(|before| before.command != calls[*at].command);
        let all = 0..calls.len();
        let last = calls.iter().rposition(|call| call.command == "BPF_MAP_UPDATE_ELEM");
        match self.length {
            Length::Long => all.flat_map(|at| ERRORS.map(|error| step(at, error))).collect(),
            Length::Short => all
                .filter(first)
                .step_by(3)
                .chain(last)
                .zip(ERRORS.into_iter().cycle())
                .map(|(at, error)| step(at, error))
                .collect(),
        }
    }
}

/// A call that is to fail.
#[derive(Debug)]
struct Step {
    number: usize,
    command: String,
    /// This call only probes the kernel's features. A missing feature shows later, in another call.
    probe: bool,
    error: &'static str,
    text: &'static str,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at call {}, {}", self.error, self.number, self.command)
    }
}

impl Step {
    /// Whether a refusal names the step and the kernel's error.
    fn judge(&self, command: &str, message: &str) -> Result<()> {
        if self.probe {
            let named = ["BTF", "map", "load"].iter().any(|word| message.contains(word));
            ensure!(named, "{self}: the message names no step: {message}");
            return Ok(());
        }
        // aya treats a pin that it cannot open as missing. It then makes a map, and there is no room for the map.
        let text = if command == "BPF_OBJ_GET" { "(os error " } else { self.text };
        let words = STEPS.iter().find(|(step, _)| *step == command).map_or(&["load"][..], |(_, words)| words);
        let named = words.iter().any(|word| message.contains(word)) && message.contains(text);
        ensure!(named, "{self}: the message does not name the step ({words:?}) and the cause: {message}");
        Ok(())
    }
}

/// Asks the program over UDP, and the responder over TCP, about the second node.
#[derive(Debug)]
struct Both {
    server: IpAddr,
    program: Client,
    responder: Tcp,
}

impl Both {
    fn of(cluster: &Cluster) -> Result<Self> {
        let server = cluster.nodes[0].ipv4();
        Ok(Both { server, program: cluster.dns_client()?, responder: Tcp::new(&cluster.client, server) })
    }

    /// Whether both answer this address.
    fn say(&mut self, address: IpAddr) -> Result<()> {
        let qname = format!("node2.{ZONE}.");
        let program = self.program.addresses(self.server, &qname, RecordType::A)?;
        let query = Message::query(&name(&format!("node2.{ZONE}")), A, IN);
        let response = self.responder.exchange(&query.bytes())?.context("the responder is silent")?;
        let response = Response::from_vec(&response)?;
        let responder: Vec<IpAddr> =
            response.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
        ensure!(program == [address], "the program says {program:?}, not {address}");
        ensure!(responder == [address], "the responder says {responder:?}, not {address}");
        Ok(())
    }
}
