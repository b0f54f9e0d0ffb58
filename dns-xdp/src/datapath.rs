//! The kernel's half as userspace sees it: load, attach, pin, adopt, publish, count. The only module that names aya.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Config, Xdp};
use crate::zone::Zone;

/// The program `pass` and what else tests and benchmarks need in the kernel; no part of the released binary uses it.
pub const TESTBED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/testbed"));

/// How the program is attached to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// In the network stack, after the skb is made.
    Generic,
    /// Not at all: the responder answers everything.
    Off,
}

/// Why the kernel's half did not do what it was told. The message names the step and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

/// The loaded program, its maps and its links; or nothing of it, where the configuration or the kernel has no XDP.
#[derive(Debug)]
pub struct Datapath {}

impl Datapath {
    /// Loads the program for these interfaces and served addresses, and takes over the maps and links that a
    /// predecessor pinned. A predecessor's program goes on answering; nothing that did not answer before does now.
    pub fn load(_config: &Config, _addresses: &[IpAddr]) -> Result<Self, Error> {
        Err(Error("not built yet".to_owned()))
    }

    /// Whether a predecessor's program is attached and its lease lives: then the lease is ours to renew at once.
    pub fn answers(&self) -> bool {
        false
    }

    /// Publishes a zone, whole: a query is answered from the one before or from this one.
    ///
    /// # Errors
    /// The zone has more names than `[xdp] capacity`; nothing has changed then.
    pub fn publish(&mut self, _zone: &Zone) -> Result<(), Error> {
        Ok(())
    }

    /// Attaches the program to every interface, or swaps it in where a predecessor's is attached, and pins it.
    /// To be called after the first [`Datapath::publish`]. Where it fails nothing stays attached that was not before.
    pub fn attach(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Lets the program answer for this long from now; `None`: for ever.
    pub fn renew(&mut self, _lease: Option<Duration>) -> Result<(), Error> {
        Ok(())
    }

    /// Every interface with the way the program is attached to it.
    pub fn interfaces(&self) -> Vec<(String, Attached)> {
        Vec::new()
    }

    /// Every outcome's counter, summed over the CPUs. Counters go on over an adoption.
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
        Ok(BTreeMap::new())
    }

    /// Lets go of the program without detaching it: it and its maps stay pinned.
    pub fn leave(self) {}

    /// Detaches and unpins everything.
    pub fn detach(self) -> Result<(), Error> {
        Ok(())
    }
}

/// The addresses that are served when the configuration names none: every global address of the interfaces.
///
/// # Errors
/// An interface is missing, or there is no address.
pub fn interface_addresses(_interfaces: &[String]) -> Result<Vec<IpAddr>, Error> {
    Ok(Vec::new())
}

/// Detaches and unpins what is left of a stopped daemon, and says what that was.
pub fn unload(_xdp: &Xdp) -> anyhow::Result<Vec<String>> {
    anyhow::bail!("the datapath is not built yet")
}
