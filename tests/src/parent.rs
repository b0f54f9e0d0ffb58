//! The parent zone on NSD: the delegation of the cluster's zone with glue, as an operator would write it.
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::dig::dig;
use crate::netns::Namespace;
use crate::network::Network;
use crate::node::Node;
use crate::plan::ZONE;
use crate::process;
use crate::run::Run;
use crate::wait;

/// The parent zone.
pub const PARENT: &str = "example.com";
/// Where its server lives.
pub const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53))];

/// The running server of the parent zone.
#[derive(Debug)]
pub struct Parent {
    /// Where it lives.
    pub namespace: Namespace,
    server: Child,
}

impl Parent {
    /// Starts it in a station of its own and waits for its first answer.
    ///
    /// # Errors
    /// When NSD is not installed or does not come up.
    pub fn start(run: &Run, network: &mut Network, nodes: &[Node]) -> Result<Self> {
        let (namespace, _) = network.plug(run, "parent", &ADDRESSES)?;
        let directory = run.directory();
        fs::write(directory.join("parent.zone"), zone(nodes)).context("cannot write the parent zone")?;
        fs::write(directory.join("nsd.conf"), configuration(&directory)).context("cannot write nsd.conf")?;
        let log = directory.join("nsd.log");
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("nsd");
        command.arg("-d").arg("-c").arg(directory.join("nsd.conf"));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let server = namespace.spawn(&mut command).context("is nsd installed?")?;
        let parent = Parent { namespace, server };
        let first = wait::until("nsd answers", Duration::from_secs(10), || {
            dig(&parent.namespace, ADDRESSES[0], &[PARENT, "SOA"])
        });
        first.map_err(|error| anyhow!("{error:#}\n{}", process::tail(&log, 10)))?;
        Ok(parent)
    }

    /// Kills the server.
    pub fn end(&mut self) {
        self.server.kill().and_then(|()| self.server.wait()).ok();
    }
}

/// `demo` delegated to `ns1.demo` and so on, each with the address of its node.
fn zone(nodes: &[Node]) -> String {
    let mut zone = format!(
        "$ORIGIN {PARENT}.\n\
         $TTL 60\n\
         @ SOA ns hostmaster 1 14400 3600 604800 300\n\
         @ NS ns\n\
         ns A {}\n\
         ns AAAA {}\n",
        ADDRESSES[0], ADDRESSES[1]
    );
    for (index, node) in nodes.iter().enumerate() {
        let ns = format!("ns{}.{ZONE}.", index + 1);
        let [ipv4, ipv6] = node.addresses;
        write!(zone, "{ZONE}. NS {ns}\n{ns} A {ipv4}\n{ns} AAAA {ipv6}\n").expect("a String takes all");
    }
    zone
}

fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "server:\n\
         \tip-address: {}\n\
         \tip-address: {}\n\
         \tusername: \"\"\n\
         \tzonesdir: \"{directory}\"\n\
         \tpidfile: \"{directory}/nsd.pid\"\n\
         \tdatabase: \"\"\n\
         \txfrdfile: \"{directory}/nsd.xfrd\"\n\
         \txfrdir: \"{directory}\"\n\
         \tzonelistfile: \"{directory}/nsd.zones\"\n\
         remote-control:\n\
         \tcontrol-enable: no\n\
         zone:\n\
         \tname: {PARENT}\n\
         \tzonefile: parent.zone\n",
        ADDRESSES[0], ADDRESSES[1]
    )
}
