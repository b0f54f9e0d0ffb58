//! A whole cluster on this machine: switch, nodes, a client, and the parent zone if it is wanted.
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::programs::xdp::XdpLink;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use crate::bed::client::Client;
use crate::bed::client::dig::{Reply, dig};
use crate::bed::etcd::{Access, Etcd};
use crate::bed::netns::Namespace;
use crate::bed::network::{Cable, Network};
use crate::bed::node::{Node, healths};
use crate::bed::parent::{Parent, root_hints};
use crate::bed::plan::Plan;
use crate::bed::process;
use crate::bed::redis::Cli;
use crate::bed::run::Run;
use crate::bed::unbound::{self, Unbound};
use crate::bed::wait;

/// The addresses of the client.
pub const CLIENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100)),
];

/// The cluster. A drop removes the cluster, and shows the ends of the logs on stderr if a test is failing.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, in the order of the configuration.
    pub nodes: Vec<Node>,
    /// The namespace that queries come from.
    pub client: Namespace,
    /// The server of the parent zone, once [`Cluster::delegate`] has started it.
    pub parent: Option<Parent>,
    /// A resolver beside the client, once [`Cluster::resolve`] has started it.
    pub resolver: Option<Unbound>,
    /// The store that the servers share, once [`Cluster::share`] has started it.
    pub etcd: Option<Etcd>,
    store: Option<Access>,
    network: Network,
    run: Run,
}

impl Cluster {
    /// Builds the network and writes the configurations; no program runs yet.
    ///
    /// # Errors
    /// The caller is not root, or the kernel lacks veth, bridges or XDP.
    pub fn lay(run: Run, plan: &Plan) -> Result<Self> {
        let mut network = Network::create(&run)?;
        let mut nodes = Vec::new();
        for number in 1..=plan.nodes {
            let name = format!("node{number}");
            let (namespace, cable) = network.plug(&run, &name, &crate::bed::plan::addresses(number))?;
            let node = Node::new(&run, number, namespace, Some(cable));
            fs::write(&node.config, plan.config(&run, number))
                .with_context(|| format!("cannot write {}", node.config.display()))?;
            nodes.push(node);
        }
        if plan.store.is_some() {
            let shared = shared_file(&run);
            fs::write(&shared, plan.shared_config(&run))
                .with_context(|| format!("cannot write {}", shared.display()))?;
        }
        let (client, _) = network.plug(&run, "client", &CLIENT)?;
        let store = plan.store;
        Ok(Cluster { nodes, client, parent: None, resolver: None, etcd: None, store, network, run })
    }

    /// Starts the store of the plan, with nothing in it.
    ///
    /// # Errors
    /// The plan has no store, etcd is not installed, or etcd does not come up.
    pub fn start_store(&mut self) -> Result<()> {
        let access = self.store.context("the plan has no store")?;
        self.etcd = Some(Etcd::start(&self.run, &mut self.network, access)?);
        Ok(())
    }

    /// Writes the shared part of the configuration into the store, as an operator does once.
    ///
    /// # Errors
    /// The command line fails.
    pub fn share(&self) -> Result<String> {
        let shared = shared_file(&self.run);
        let shared = shared.to_str().context("the file's path is no text")?;
        self.nodes[0].cli_ok(&["cluster", "init", "--config", shared])
    }

    /// The store.
    ///
    /// # Errors
    /// The store has not been started.
    pub fn etcd(&mut self) -> Result<&mut Etcd> {
        self.etcd.as_mut().context("there is no store")
    }

    /// Starts the store of the plan (unless it runs), every database and every daemon. Waits until all daemons see all
    /// nodes up.
    ///
    /// # Errors
    /// A program does not come up. [`Cluster::logs`] has details.
    pub fn start(&mut self) -> Result<()> {
        if self.store.is_some() && self.etcd.is_none() {
            self.start_store()?;
            self.share()?;
        }
        for node in &mut self.nodes {
            node.start_database()?;
            node.spawn(&[])?;
        }
        for node in &mut self.nodes {
            node.wait_until_ready()?;
        }
        self.wait_until_healthy()
    }

    /// Waits until every daemon sees every node up that it probes.
    ///
    /// # Errors
    /// The wait takes longer than 15 s.
    pub fn wait_until_healthy(&self) -> Result<()> {
        for node in &self.nodes {
            wait::until(&format!("{} sees all nodes up", node.name), Duration::from_secs(15), || {
                let status = node.status()?;
                let healths = healths(&status)?;
                let is_well = |health: &&str| ["up", "unprobed"].contains(health);
                ensure!(healths.iter().all(is_well), "it sees {healths:?}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Starts the server of the parent zone, with the delegation that `dns-xdp delegation show` prints.
    ///
    /// # Errors
    /// NSD is not installed or does not come up.
    pub fn delegate(&mut self) -> Result<()> {
        let delegation = self.delegation()?;
        self.parent = Some(Parent::start(&self.run, &mut self.network, &delegation)?);
        Ok(())
    }

    /// The lines that the parent zone needs, as the first node's configuration has them.
    ///
    /// # Errors
    /// The command line fails.
    pub fn delegation(&self) -> Result<String> {
        let node = &self.nodes[0];
        let config = node.config.to_str().context("the configuration's path is no text")?;
        node.cli_ok(&["delegation", "show", "--config", config, "--format", "bind"])
    }

    /// Starts a resolver beside the client, which resolves from the root.
    ///
    /// # Errors
    /// Unbound is not installed or does not come up.
    pub fn resolve(&mut self) -> Result<()> {
        self.resolver = Some(Unbound::start(&self.client, &self.run.directory(), &root_hints())?);
        Ok(())
    }

    /// A real client of the databases, which asks the resolver beside it.
    ///
    /// # Errors
    /// The client's settings cannot be written.
    pub fn redis_cli(&self) -> Result<Cli> {
        Cli::new(&self.client, &self.run.directory(), unbound::ADDRESS)
    }

    /// Runs `delegation verify` beside the client, with the first node's configuration, the client's resolver and more
    /// arguments.
    ///
    /// # Errors
    /// The command cannot be started. The caller judges its exit code.
    pub fn verify(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(process::sibling("dns-xdp")?);
        command.args(["delegation", "verify", "--config"]).arg(&self.nodes[0].config);
        command.arg("--resolver").arg(unbound::ADDRESS.to_string()).args(arguments);
        self.client.output(&mut command)
    }

    /// Attaches a foreign program to the interface of a node (from 0), until the link is dropped.
    ///
    /// # Errors
    /// The interface already has a program.
    pub fn occupy(&mut self, node: usize) -> Result<XdpLink> {
        self.network.occupy(&self.nodes[node].namespace)
    }

    /// Makes every second connection to a node (from 0) over IPv4 fail, counted separately for each other station.
    ///
    /// # Errors
    /// The program that drops frames cannot be attached to the switch's port.
    pub fn halve(&mut self, node: usize) -> Result<()> {
        let node = &self.nodes[node];
        // A SYN-ACK that is sent again would break the alternation.
        node.namespace.enter(|| Ok(fs::write("/proc/sys/net/ipv4/tcp_synack_retries", "0")?))?;
        self.network.halve(&self.run, &node.name)
    }

    /// The switch's end of a node's cable (from 0) drops the frames that the node sends with `XDP_TX`, as veth devices
    /// do by default.
    ///
    /// # Errors
    /// The port drops these frames already.
    pub fn drop_replies(&self, node: usize) -> Result<()> {
        self.network.drop_replies(&self.run, &self.nodes[node].name)
    }

    /// Undoes [`Cluster::drop_replies`].
    ///
    /// # Errors
    /// The port does not drop these frames.
    pub fn let_replies_through(&mut self, node: usize) -> Result<()> {
        self.network.let_replies_through(&self.run, &self.nodes[node].name)
    }

    /// Removes a node's (from 0) interface.
    ///
    /// # Errors
    /// The node has no interface.
    pub fn remove_interface(&mut self, node: usize) -> Result<()> {
        self.network.unplug(&self.run, &self.nodes[node].name)
    }

    /// Gives a node (from 0) whose interface was removed a new one with the same name and addresses.
    ///
    /// # Errors
    /// The node has an interface.
    pub fn make_interface(&mut self, node: usize) -> Result<()> {
        let node = &self.nodes[node];
        self.network.connect(&self.run, &node.name, &node.namespace, &node.addresses)
    }

    /// Connects a station that is not a node.
    ///
    /// # Errors
    /// There is already a station of that name.
    pub fn plug(&mut self, station: &str, addresses: &[IpAddr]) -> Result<(Namespace, Cable)> {
        self.network.plug(&self.run, station, addresses)
    }

    /// Asks `server` once from the client's namespace, as [`Client::ask`] does, and waits a second.
    ///
    /// # Errors
    /// No answer comes.
    pub fn ask(&self, server: IpAddr, name: &str, rtype: RecordType) -> Result<Message> {
        Client::open_patient(&self.client)?.ask(server, name, rtype)
    }

    /// Runs the real `dig` in the client's namespace, asking `server`.
    ///
    /// # Errors
    /// No answer comes.
    pub fn dig(&self, server: IpAddr, arguments: &[&str]) -> Result<Reply> {
        dig(&self.client, server, arguments)
    }

    /// Opens a DNS client in the client's namespace, for queries in quick succession.
    ///
    /// # Errors
    /// The sockets cannot be opened.
    pub fn dns_client(&self) -> Result<Client> {
        Client::open(&self.client)
    }

    /// The ends of the daemons' logs.
    pub fn logs(&self) -> String {
        let tail =
            |node: &Node| format!("--- the log of {} ends:\n{}\n", node.name, process::tail(&node.log, 15));
        let store = self.etcd.as_ref().map(Etcd::logs).unwrap_or_default();
        self.nodes.iter().map(tail).collect::<String>() + &store
    }

    /// Leaves everything running when this process ends.
    pub fn keep(mut self) {
        self.run.keep();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if thread::panicking() {
            eprint!("{}", self.logs());
        }
        if !self.run.is_kept() {
            self.nodes.iter_mut().for_each(Node::end);
            self.parent.iter_mut().for_each(Parent::end);
            self.resolver.iter_mut().for_each(Unbound::end);
            self.etcd.iter_mut().for_each(Etcd::end);
        }
    }
}

/// The file that `cluster init` writes into the store.
fn shared_file(run: &Run) -> PathBuf {
    run.directory().join("shared.toml")
}

/// Plays one scene: builds and starts the cluster of `plan`, gives it to `play`, and removes it in any case.
///
/// # Panics
/// When the cluster does not come up or `play` fails: the test has failed.
pub fn scene(plan: &Plan, play: impl FnOnce(&mut Cluster) -> Result<()>) {
    stage(plan, |cluster| {
        cluster.start()?;
        play(cluster)
    });
}

/// Like [`scene`], but starts nothing.
///
/// # Panics
/// Like [`scene`].
pub fn stage(plan: &Plan, play: impl FnOnce(&mut Cluster) -> Result<()>) {
    let laid = Run::unique().and_then(|run| Cluster::lay(run, plan));
    let mut cluster = laid.unwrap_or_else(|error| panic!("the network cannot be laid: {error:#}"));
    if let Err(error) = play(&mut cluster) {
        // The panic happens before the cluster is dropped, so that the drop shows the logs.
        panic!("{error:#}");
    }
}
