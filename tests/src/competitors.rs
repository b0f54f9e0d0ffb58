//! The name servers that the benches compare: each has the same zone, one thread for queries, and one core.
//!
//! The queries that they get are [`load`](crate::load)'s. NSD and gdnsd in a cluster are in [`bed`](crate::bed).
mod gdnsd;
mod knot;
mod nsd;
pub mod ours;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use hickory_proto::rr::RecordType;

use crate::bed::client::Client;
use crate::bed::process::tail;
use crate::bed::run::Run;
use crate::bed::wait;
use crate::load::cores::{self, Workers, spawn};
use crate::load::generator::Generator;
use crate::load::queries::{ZONE, name};
use crate::load::wire;
use crate::load::wire::{Counting, SERVER, Wire};

/// The longest time until a server with 1,000 names answers.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// A name server, and the path of queries to it.
#[derive(Debug, Clone, Copy)]
pub struct Competitor {
    /// Its name in tables.
    pub title: &'static str,
    /// Its name on the command line.
    pub word: &'static str,
    /// Whether it puts an XDP program on the interface; otherwise queries reach it through the stack.
    pub has_xdp: bool,
    command: fn(&Run, &Wire) -> Result<Command>,
}

/// All servers, the slowest first.
pub const ALL: [Competitor; 6] = [
    Competitor { title: "dns-xdp, XDP off", word: "fallback", has_xdp: false, command: ours::fallback },
    Competitor { title: "gdnsd", word: "gdnsd", has_xdp: false, command: gdnsd::command },
    Competitor { title: "Knot DNS", word: "knot", has_xdp: false, command: knot::sockets },
    Competitor { title: "NSD", word: "nsd", has_xdp: false, command: nsd::command },
    Competitor { title: "Knot DNS, XDP", word: "knot-xdp", has_xdp: true, command: knot::xdp },
    OURS,
];

/// dns-xdp itself.
pub const OURS: Competitor =
    Competitor { title: "dns-xdp", word: "dns-xdp", has_xdp: true, command: ours::command };

/// A running server. A drop kills the started process. The server's other processes end with their [`Run`].
#[derive(Debug)]
pub struct Server {
    /// The threads that work for it.
    pub workers: Workers,
    _process: Process,
}

#[derive(Debug)]
struct Process {
    child: Child,
    log: PathBuf,
}

impl Competitor {
    /// Starts the server on the server's end of a wire, waits for its first answer, and moves the wire's work to its
    /// cores.
    ///
    /// # Errors
    /// The server does not come up. The error has the end of its log.
    pub fn start(
        &self,
        run: &Run,
        wire: &Wire,
        generator: &mut Generator,
        counting: Counting,
    ) -> Result<Server> {
        if !self.has_xdp {
            generator.attach("through", &wire.server, &wire.server_end.device)?;
        }
        let log = run.directory().join(format!("{}.log", self.word));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let command = (self.command)(run, wire)?;
        let mut process = Process { child: spawn(&wire.server, cores::SERVER, &command, output)?, log };
        process.wait_until_it_answers(self, wire).map_err(|error| {
            anyhow!("{} does not come up: {error:#}\n{}", self.title, tail(&process.log, 10))
        })?;
        Ok(Server { workers: wire.thread(counting)?, _process: process })
    }
}

impl Process {
    /// Waits until it answers over the namespace's own loopback, because the counter takes answers from the wire.
    fn wait_until_it_answers(&mut self, competitor: &Competitor, wire: &Wire) -> Result<()> {
        let owner = format!("{}.{ZONE}", name(0));
        let (ended, _) = wait::until("it answers", START_TIMEOUT, || {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            let client = Client::open_patient(&wire.server)?;
            for (server, rtype) in SERVER.into_iter().zip([RecordType::A, RecordType::AAAA]) {
                let addresses = client.addresses(server, &owner, rtype)?;
                ensure!(addresses == [server], "{server} answers {addresses:?}");
            }
            ensure!(wire::has_xdp(&wire.server, &wire.server_end.device)?, "there is no XDP program");
            Ok(None)
        })?;
        match ended {
            Some(status) => bail!("{} has ended ({status})", competitor.title),
            None => Ok(()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
