//! The parent zone on NSD with a delegation, and the root above it, so that a resolver can begin at the root.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::bed::netns::Namespace;
use crate::bed::network::Network;
use crate::bed::nsd::{Nsd, Zone};
use crate::bed::run::Run;

/// The parent zone.
pub const PARENT: &str = "example.com";
/// The addresses of its server.
pub const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 53)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x53))];

/// The running server of the parent zone.
#[derive(Debug)]
pub struct Parent {
    /// The namespace that it runs in.
    pub namespace: Namespace,
    directory: PathBuf,
    server: Nsd,
}

impl Parent {
    /// Starts the server in its own station and waits for its first answer. `delegation` is lines of its zone file.
    ///
    /// # Errors
    /// NSD is not installed, refuses the delegation or does not come up.
    pub fn start(run: &Run, network: &mut Network, delegation: &str) -> Result<Self> {
        let (namespace, _) = network.plug(run, "parent", &ADDRESSES)?;
        let directory = run.directory();
        let server = serve(&namespace, &directory, delegation)?;
        Ok(Parent { namespace, directory, server })
    }

    /// Changes the delegation.
    ///
    /// # Errors
    /// The same as for [`Parent::start`].
    pub fn change(&mut self, delegation: &str) -> Result<()> {
        self.server.end();
        self.server = serve(&self.namespace, &self.directory, delegation)?;
        Ok(())
    }

    /// Kills the server.
    pub fn end(&mut self) {
        self.server.end();
    }
}

fn serve(namespace: &Namespace, directory: &Path, delegation: &str) -> Result<Nsd> {
    let (root, parent) = (root(), zone(delegation));
    let zones = [Zone { apex: ".", text: &root }, Zone { apex: PARENT, text: &parent }];
    Nsd::start(namespace, directory, &ADDRESSES, &zones)
}

/// The hints file for the resolvers of this test bed: the root's server.
pub fn root_hints() -> String {
    format!(". 3600 NS root.\nroot. 3600 A {}\nroot. 3600 AAAA {}\n", ADDRESSES[0], ADDRESSES[1])
}

/// A root zone that delegates only the parent zone.
fn root() -> String {
    format!(
        "$TTL 3600\n\
         . SOA root. hostmaster.{PARENT}. 1 14400 3600 604800 300\n\
         {hints}\
         {PARENT}. NS ns.{PARENT}.\n\
         ns.{PARENT}. A {}\n\
         ns.{PARENT}. AAAA {}\n",
        ADDRESSES[0],
        ADDRESSES[1],
        hints = root_hints(),
    )
}

/// The parent zone around a delegation.
pub fn zone(delegation: &str) -> String {
    format!(
        "$ORIGIN {PARENT}.\n\
         $TTL 60\n\
         @ SOA ns hostmaster 1 14400 3600 604800 300\n\
         @ NS ns\n\
         ns A {}\n\
         ns AAAA {}\n\
         {delegation}",
        ADDRESSES[0], ADDRESSES[1]
    )
}
