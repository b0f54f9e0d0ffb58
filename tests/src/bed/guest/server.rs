//! A daemon at the server's end of a wire, and the client that asks it from the other end.
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dns_xdp::datapath::program_on;
use dns_xdp::network::Network;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

use super::wire::Wire;
use crate::bed::client::Client;
use crate::bed::node::{DatabaseProgram, Node};
use crate::bed::plan::{Plan, ZONE};
use crate::bed::process;
use crate::bed::wait;

/// The longest time for a start: the emulated processor is about 20 times slower than a real one, and the verifier has
/// much work.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest time for the first answer: it waits for the neighbour's address.
const FIRST_ANSWER: Duration = Duration::from_secs(10);
const RECORDS: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// The daemon of a plan's first node. A drop ends the daemon.
pub struct Server {
    /// The node, which scenes may change.
    pub node: Node,
    dns: Client,
}

impl Server {
    /// Starts a daemon with the plan's configuration and waits until it has a verdict about its node.
    ///
    /// # Errors
    /// The daemon ends or takes too long. The error has the end of its log.
    pub fn start(wire: &Wire, plan: &Plan) -> Result<Self> {
        let mut server = Server::prepare(wire, &plan.config(&wire.run, 1))?;
        server.node.start_database()?;
        server.node.start().with_context(|| server.log())?;
        Ok(server)
    }

    /// Like [`Server::start`], with the caller's configuration, and without starting the daemon.
    ///
    /// # Errors
    /// The configuration cannot be written.
    pub fn prepare(wire: &Wire, config: &str) -> Result<Self> {
        let mut node = Node::new(&wire.run, 1, wire.server.clone(), None);
        node.patience = START_TIMEOUT;
        node.database_program = DatabaseProgram::StandIn;
        fs::write(&node.config, config).with_context(|| format!("cannot write {}", node.config.display()))?;
        Ok(Server { node, dns: Client::open(&wire.client)? })
    }

    /// Mode and reason of an interface, as in `status --json`.
    ///
    /// # Errors
    /// The daemon does not answer, or does not know the interface.
    pub fn mode(&self, interface: &str) -> Result<(String, String)> {
        let status = self.node.status()?;
        let interfaces = status["interfaces"].as_array().context("status has no interfaces")?;
        let found = interfaces.iter().find(|of| of["name"] == interface);
        let found = found.with_context(|| format!("status does not have {interface}"))?;
        let word = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
        Ok((word("mode"), word("reason")))
    }

    /// The name of the XDP program on an interface; empty: there is none.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn program(&self, interface: &str) -> Result<String> {
        let network = self.node.namespace.enter(|| Ok(Network::read()?))?;
        let link = network.named(interface).with_context(|| format!("there is no {interface}"))?;
        let there = program_on(link, &self.node.pins);
        Ok(there.map(|there| there.program.name).unwrap_or_default())
    }

    /// Asks for the node's address this many times, over IPv4 and over IPv6.
    ///
    /// # Errors
    /// A query is not answered, or is answered with other addresses.
    pub fn ask(&self, queries: u64) -> Result<()> {
        for (server, record) in self.node.addresses.into_iter().zip(RECORDS) {
            let ask = || self.dns.addresses(server, &format!("{}.{ZONE}", self.node.name), record);
            wait::until("the first answer", FIRST_ANSWER, ask)?;
            for _ in 1..queries {
                let answer = ask()?;
                ensure!(answer == [server], "{server} answers {answer:?}");
            }
        }
        Ok(())
    }

    /// Asks for the node's IPv4 address once, at this address of the server.
    ///
    /// # Errors
    /// The query is not answered.
    pub fn ask_at(&self, server: IpAddr) -> Result<()> {
        let name = format!("{}.{ZONE}", self.node.name);
        let answer = self.dns.addresses(server, &name, RecordType::A)?;
        ensure!(answer == [self.node.ipv4()], "{server} answers {answer:?}");
        Ok(())
    }

    /// Checks that a name below the zone has exactly this IPv4 address.
    ///
    /// # Errors
    /// The name has another address, or no answer comes.
    pub fn expect_address(&self, name: &str, address: IpAddr) -> Result<()> {
        let answer = self.dns.addresses(self.node.ipv4(), &format!("{name}.{ZONE}"), RecordType::A)?;
        ensure!(answer == [address], "{name} has {answer:?}");
        Ok(())
    }

    /// Like [`Server::ask`], and checks that the program answers all queries.
    ///
    /// # Errors
    /// The same as for [`Server::ask`], or the program has counted fewer answers.
    pub fn expect_answers_in_kernel(&mut self, queries: u64) -> Result<()> {
        let before = self.node.stats()?.answered_by_xdp();
        self.ask(queries).with_context(|| self.log())?;
        let answered = self.node.stats()?.answered_by_xdp() - before;
        let sent = 2 * queries;
        ensure!(answered >= sent, "the program answered {answered} of {sent} queries; {}", self.log());
        Ok(())
    }

    /// Stops the daemon by SIGINT, which removes everything.
    ///
    /// # Errors
    /// The daemon does not end, or leaves something.
    pub fn end(&mut self) -> Result<()> {
        self.node.stop(Signal::SIGINT)?;
        let remains = self.node.remains()?;
        ensure!(remains.is_empty(), "the daemon has ended and left {}", remains.join(", "));
        Ok(())
    }

    /// The end of the daemon's log.
    pub fn log(&self) -> String {
        format!("the daemon's log ends: {}", process::tail(&self.node.log, 6))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.node.end();
    }
}
