//! A store that the servers share: three members of etcd, each in its own station, so that each can fail alone.
pub mod access;
pub mod lone;
pub mod member;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

pub use access::Access;
pub use member::Member;

use crate::bed::netns::Namespace;
use crate::bed::network::{INTERFACE, Network};
use crate::bed::node::Node;
use crate::bed::plan::ZONE;
use crate::bed::process;
use crate::bed::run::Run;
use crate::bed::wait;

/// The addresses of the members.
pub const ADDRESSES: [Ipv4Addr; 3] =
    [Ipv4Addr::new(192, 0, 2, 61), Ipv4Addr::new(192, 0, 2, 62), Ipv4Addr::new(192, 0, 2, 63)];
/// The port for clients.
pub const PORT: u16 = 2379;

/// The longest time for an election among three members on a busy machine.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a member stands still: long enough to delay its clients, and too short for an election.
const HELD_UP: Duration = Duration::from_millis(100);
/// A MAC address of no station: frames to it are lost, and the sender gets no error.
const UNUSED_MAC: &str = "02:00:00:00:00:99";

/// The members, running or not. They have to be ended, or their namespaces removed.
#[derive(Debug)]
pub struct Etcd {
    /// `etcd1` to `etcd3`.
    pub members: Vec<Member>,
    access: Access,
    directory: PathBuf,
}

/// The prefix of the clients' keys.
pub fn prefix() -> String {
    format!("/dns-xdp/{ZONE}")
}

/// The URLs that clients connect to.
pub fn endpoints(access: Access) -> Vec<String> {
    ADDRESSES.iter().map(|address| format!("{}://{address}:{PORT}", access.scheme())).collect()
}

impl Etcd {
    /// Connects the members, starts them and waits until all take part.
    ///
    /// # Errors
    /// etcd is not installed or does not come up.
    pub fn start(run: &Run, network: &mut Network, access: Access) -> Result<Self> {
        let directory = run.directory();
        access.prepare(&directory)?;
        let mut members = Vec::new();
        for (number, address) in (1..).zip(ADDRESSES) {
            let name = member::name(number);
            let (namespace, _) = network.plug(run, &name, &[address.into()])?;
            members.push(Member::new(&directory, number, address, namespace, access));
        }
        let mut etcd = Etcd { members, access: access.at_first(), directory };
        let started = etcd.start_all().and_then(|()| etcd.admit(access));
        if let Err(error) = started {
            etcd.end();
            return Err(error.context(etcd.logs()));
        }
        Ok(etcd)
    }

    /// Starts the members that do not run, and waits until all take part.
    ///
    /// # Errors
    /// A member does not come up.
    pub fn start_all(&mut self) -> Result<()> {
        for member in self.members.iter_mut().filter(|member| !member.is_started()) {
            member.start()?;
        }
        self.wait_until_healthy(&[0, 1, 2])
    }

    /// Waits until these members (from 0) take part in the majority's decisions.
    ///
    /// # Errors
    /// A member does not take part within 20 s.
    pub fn wait_until_healthy(&self, members: &[usize]) -> Result<()> {
        for member in members.iter().map(|member| &self.members[*member]) {
            wait::until(&format!("{} takes part", member.name), ELECTION_TIMEOUT, || {
                let endpoint = self.endpoint(member);
                member.namespace.succeed(&mut self.ctl_at(&endpoint, &["get", "/ready"]))
            })?;
        }
        Ok(())
    }

    /// Returns the leader (from 0).
    ///
    /// # Errors
    /// There is no leader.
    pub fn leader(&self) -> Result<usize> {
        for (number, member) in self.members.iter().enumerate().filter(|(_, member)| member.is_started()) {
            let endpoint = self.endpoint(member);
            let mut command = self.ctl_at(&endpoint, &["endpoint", "status", "-w", "json"]);
            let Ok(status) = member.namespace.succeed(&mut command) else { continue };
            let status: Value = serde_json::from_str(&status)?;
            let status = &status[0]["Status"];
            if status["leader"] == status["header"]["member_id"] {
                return Ok(number);
            }
        }
        bail!("no member leads")
    }

    /// `etcdctl` with all members as endpoints; returns what it writes to stdout.
    ///
    /// # Errors
    /// `etcdctl` fails.
    pub fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.ctl_at(&endpoints(self.access).join(","), arguments);
        self.station().succeed(&mut command)
    }

    /// Writes these keys with their values, all at once.
    ///
    /// # Errors
    /// `etcdctl` fails.
    pub fn put_all(&self, pairs: &[(String, String)]) -> Result<()> {
        let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
        let put =
            |(key, value): &(String, String)| format!("put \"{}\" \"{}\"\n", quoted(key), quoted(value));
        // The transaction has no conditions, these writes for success, and nothing for failure.
        let request = format!("\n{}\n\n", pairs.iter().map(put).collect::<String>());
        let mut command = self.ctl_at(&endpoints(self.access).join(","), &["txn"]);
        self.station().enter(|| process::succeed(&mut command, &request))?;
        Ok(())
    }

    /// The namespace that `etcdctl` runs in.
    fn station(&self) -> &Namespace {
        let running = self.members.iter().find(|member| member.is_started());
        &running.unwrap_or(&self.members[0]).namespace
    }

    fn endpoint(&self, member: &Member) -> String {
        format!("{}://{}:{PORT}", self.access.scheme(), member.address)
    }

    fn ctl_at(&self, endpoints: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(endpoints);
        command.args(["--command-timeout", "2s"]).args(self.access.credentials(&self.directory));
        command.args(arguments);
        command
    }

    /// Returns a document; `key` is without the prefix.
    ///
    /// # Errors
    /// There is no such document.
    pub fn read(&self, key: &str) -> Result<String> {
        let key = format!("{}/{key}", prefix());
        let value = self.ctl(&["get", &key, "--print-value-only"])?;
        ensure!(!value.is_empty(), "there is no {key}");
        Ok(value)
    }

    /// Writes a document, as a client that is none of the servers.
    ///
    /// # Errors
    /// No member accepts the document.
    pub fn write(&self, key: &str, value: &str) -> Result<()> {
        let key = format!("{}/{key}", prefix());
        // A write without a leader is lost, and the client gets no error.
        wait::until(&format!("{key} is written"), ELECTION_TIMEOUT, || {
            self.ctl(&["put", &key, "--", value])
        })?;
        Ok(())
    }

    /// Returns the keys below the prefix, without the prefix.
    ///
    /// # Errors
    /// No member answers.
    pub fn keys(&self) -> Result<Vec<String>> {
        let prefix = format!("{}/", prefix());
        let keys = self.ctl(&["get", &prefix, "--prefix", "--keys-only"])?;
        Ok(keys.lines().filter_map(|key| key.strip_prefix(&prefix)).map(ToOwned::to_owned).collect())
    }

    /// The store's revision.
    ///
    /// # Errors
    /// No member answers.
    pub fn revision(&self) -> Result<u64> {
        let reply: Value = serde_json::from_str(&self.ctl(&["get", "/", "-w", "json"])?)?;
        reply["header"]["revision"].as_u64().with_context(|| format!("no revision in {reply}"))
    }

    /// Compacts the whole history.
    ///
    /// # Errors
    /// No member answers.
    pub fn compact(&self) -> Result<()> {
        let revision = self.revision()?;
        self.ctl(&["compact", "--physical", &revision.to_string()]).map(drop)
    }

    /// Makes the store slow: every member stands still for half of the time, until `is_over`.
    ///
    /// # Errors
    /// A member does not run.
    pub fn hold_up(&self, is_over: &AtomicBool) -> Result<()> {
        let all = |signal| self.members.iter().try_for_each(|member| member.signal(signal));
        while !is_over.load(Ordering::Relaxed) {
            for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
                all(signal)?;
                sleep(HELD_UP);
            }
        }
        Ok(())
    }

    /// Saves a backup. Returns its path.
    ///
    /// # Errors
    /// The first member that runs does not answer.
    pub fn save(&self, name: &str) -> Result<PathBuf> {
        let file = self.directory.join(name);
        let path = file.to_str().context("the run's directory is no text")?;
        let member = self.members.iter().find(|member| member.is_started());
        let member = member.context("no member runs")?;
        let endpoint = self.endpoint(member);
        member.namespace.succeed(&mut self.ctl_at(&endpoint, &["snapshot", "save", path]))?;
        Ok(file)
    }

    /// Ends all members, removes their data, and starts them from a backup.
    ///
    /// # Errors
    /// The file is no backup, or the members do not come up.
    pub fn restore(&mut self, backup: &Path) -> Result<()> {
        for member in &mut self.members {
            member.end();
            member.wipe()?;
            let mut command = Command::new("etcdctl");
            command.env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(backup);
            command.args(member.founding());
            process::succeed(&mut command, "")?;
        }
        self.start_all()
    }

    /// Cuts a node's server off from the members silently: packets in both directions are lost without an error.
    ///
    /// # Errors
    /// The node or a member is gone.
    pub fn cut_off(&self, node: &Node) -> Result<()> {
        self.at_both_ends(node, |address| {
            format!("neigh replace {address} lladdr {UNUSED_MAC} dev {INTERFACE} nud permanent\n")
        })
    }

    /// Ends [`Etcd::cut_off`].
    ///
    /// # Errors
    /// The node was not cut off.
    pub fn join(&self, node: &Node) -> Result<()> {
        self.at_both_ends(node, |address| format!("neigh del {address} dev {INTERFACE}\n"))
    }

    fn at_both_ends(&self, node: &Node, line: impl Fn(&str) -> String) -> Result<()> {
        let members = self.members.iter().map(|member| line(&member.address.to_string()));
        node.namespace.ip(&members.collect::<String>())?;
        let line = line(&node.ipv4().to_string());
        self.members.iter().try_for_each(|member| member.namespace.ip(&line))
    }

    /// Sets up the access control for clients.
    fn admit(&mut self, access: Access) -> Result<()> {
        for line in access.users(&prefix()) {
            self.ctl(&line.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        self.access = access;
        Ok(())
    }

    /// The ends of the members' logs.
    pub fn logs(&self) -> String {
        let tail = |member: &Member| {
            format!("--- the log of {} ends:\n{}\n", member.name, process::tail(&member.log, 5))
        };
        self.members.iter().map(tail).collect()
    }

    /// Kills the running members.
    pub fn end(&mut self) {
        self.members.iter_mut().for_each(Member::end);
    }

    /// Replaces the servers' credentials by wrong ones; a server reads them when it connects.
    ///
    /// # Errors
    /// The credentials cannot be written.
    pub fn spoil(&self) -> Result<()> {
        self.access.spoil(&self.directory)
    }

    /// Restores the right credentials.
    ///
    /// # Errors
    /// The credentials cannot be written.
    pub fn mend(&self) -> Result<()> {
        self.access.mend(&self.directory)
    }
}
