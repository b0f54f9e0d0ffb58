//! An interface looked at from outside, for `doctor`: nothing is attached, loaded or changed.
use std::path::Path;

use aya::programs::loaded_programs;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType};

use super::interface::{ask, driver, on_interface, present};
use super::pins;

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
    /// The kernel's number of it.
    pub id: u32,
    /// Its name; empty where that cannot be read.
    pub name: String,
    /// In the driver; otherwise in the network stack.
    pub native: bool,
    /// It hangs on the link that the configuration's directory pins.
    pub ours: bool,
}

/// Looks at an interface. The error says what is there instead.
pub fn inspect(name: &str, pin: &Path) -> Result<Inspection, String> {
    let message = ask(name).map_err(|error| match error.raw_os_error() {
        Some(libc::ENODEV) => format!("there is no such interface; there are {}", present().join(", ")),
        _ => format!("the kernel does not tell: {error}"),
    })?;
    let flags = message.header.flags;
    let mtu = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    let on_it = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Xdp(xdp) => on_interface(xdp),
        _ => None,
    });
    let program = on_it.map(|there| {
        let loaded = loaded_programs().flatten().find(|program| program.id() == there.id);
        let program = loaded.and_then(|program| Some(program.name_as_str()?.to_owned())).unwrap_or_default();
        let ours = pins::link(pin, name).exists();
        ProgramThere { id: there.id, name: program, native: there.native, ours }
    });
    Ok(Inspection {
        index: message.header.index,
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        driver: driver(&message.attributes),
        mtu: mtu.unwrap_or_default(),
        program,
    })
}
