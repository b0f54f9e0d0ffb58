//! An interface looked at from outside, for `doctor`: nothing is attached, loaded or changed.
use std::path::Path;

use super::foreign::Foreign;
use super::pins;
use crate::network::Network;

/// An interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its index.
    pub index: u32,
    /// Ethernet, and not, say, a tunnel.
    pub ethernet: bool,
    /// Switched on.
    pub up: bool,
    /// Something is at the other end of the cable.
    pub carrier: bool,
    /// What drives it, where the kernel tells.
    pub driver: Option<String>,
    /// The longest packet, in octets.
    pub mtu: u32,
    /// The XDP program on it.
    pub program: Option<ProgramThere>,
}

/// The XDP program on an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramThere {
    /// What the kernel tells of it.
    pub program: Foreign,
    /// It hangs on the link that the configuration's directory pins.
    pub ours: bool,
}

/// Looks at an interface. The error says what is there instead.
pub fn inspect(name: &str, pin: &Path) -> Result<Inspection, String> {
    let network = Network::read().map_err(|error| format!("the kernel does not tell: {error}"))?;
    let link = network.named(name).ok_or_else(|| {
        let names: Vec<&str> = network.links.iter().map(|link| &*link.name).collect();
        format!("there is no such interface; there are {}", names.join(", "))
    })?;
    let program = link.program().map(|there| {
        let ours = pins::link(pin, &link.name).exists();
        ProgramThere { program: Foreign::find(there), ours }
    });
    Ok(Inspection {
        index: link.index,
        ethernet: link.is_ethernet,
        up: link.up,
        carrier: link.carrier,
        driver: link.driver.clone(),
        mtu: link.mtu,
        program,
    })
}
