//! The parent zone on NSD: the delegation of the cluster's zone with glue, as an operator would write it.
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::netns::Namespace;
use crate::network::Network;
use crate::node::Node;
use crate::nsd::Nsd;
use crate::plan::ZONE;
use crate::run::Run;

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
    server: Nsd,
}

impl Parent {
    /// Starts it in a station of its own and waits for its first answer.
    ///
    /// # Errors
    /// When NSD is not installed or does not come up.
    pub fn start(run: &Run, network: &mut Network, nodes: &[Node]) -> Result<Self> {
        let (namespace, _) = network.plug(run, "parent", &ADDRESSES)?;
        let server = Nsd::start(&namespace, &run.directory(), &ADDRESSES, PARENT, &zone(nodes))?;
        Ok(Parent { namespace, server })
    }

    /// Kills the server.
    pub fn end(&mut self) {
        self.server.end();
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
