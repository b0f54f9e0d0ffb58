//! Finds where the frames of a configured interface arrive, or why the program cannot answer there.
use std::fmt;
use std::net::IpAddr;

use super::super::{Link, Network, VlanTag};
use super::Place;

/// The most tags that the XDP program reads.
const TAGS_MAX: usize = 2;
/// The most VLANs that are walked through. Linux allows 8.
const WALK_MAX: usize = 16;
/// The most names that a message lists.
const NAMES_MAX: usize = 10;
/// Kinds of master whose XDP program does not run for its slaves' frames.
const NOT_AGGREGATES: [&str; 3] = ["bridge", "vrf", "openvswitch"];

/// The present state of a configured interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the configuration.
    pub name: String,
    /// The index of the link; `None`: there is no such link.
    pub link: Option<u32>,
    /// The port of its frames, or why the XDP program cannot answer there. If the link exists, the responder serves its
    /// addresses in both cases.
    pub port: Result<Port, Unserved>,
}

/// Why the XDP program does not answer on an interface, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unserved {
    /// There is no such link.
    Missing(String),
    /// An earlier entry of `[listen] interfaces` is the same link.
    Repeated(String),
    /// The program cannot distinguish its frames from others.
    OutOfReach(String),
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Unserved::Missing(reason) | Unserved::Repeated(reason) | Unserved::OutOfReach(reason)) = self;
        f.write_str(reason)
    }
}

/// The device that receives an interface's frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The index of the configured link.
    pub index: u32,
    /// The device to attach an XDP program to: the link, or a VLAN's parent.
    pub device: u32,
    /// The device's name.
    pub device_name: String,
    /// The slaves of a bond, a team or a Hyper-V device. An XDP program on the device runs with the index of a slave.
    pub slaves: Vec<Slave>,
    /// The VLAN tags of the link's frames, outermost first; at most two.
    pub tags: Vec<VlanTag>,
    /// The link's MAC address; `None`: it is not Ethernet, and cannot have XDP.
    pub mac: Option<[u8; 6]>,
    /// The device's MTU, in octets.
    pub mtu: u32,
    /// The VRF that the link belongs to.
    pub vrf: Option<String>,
    /// The device's kind; `None`: hardware.
    pub kind: Option<String>,
    /// The device's driver.
    pub driver: Option<String>,
}

/// A slave of a bond, a team or a Hyper-V device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slave {
    /// Its index.
    pub index: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
}

impl Port {
    /// Whether its frames are Ethernet frames.
    pub fn is_ethernet(&self) -> bool {
        self.mac.is_some()
    }

    /// Returns where frames for this address of the port arrive.
    pub(super) fn places(&self, address: IpAddr) -> Vec<Place> {
        let Some(mac) = self.mac else { return Vec::new() };
        let place = |interface, mac| Place { interface, tags: self.tags.clone(), address, mac };
        // A bond may announce a slave's MAC address. A VLAN has its own MAC address on every slave.
        let on_slave = |slave: &Slave| {
            let mac = if self.tags.is_empty() { slave.mac } else { mac };
            place(slave.index, mac)
        };
        let on_slaves = self.slaves.iter().map(on_slave);
        std::iter::once(place(self.device, mac)).chain(on_slaves).collect()
    }
}

/// Returns the state of each configured interface.
pub(super) fn interfaces(names: &[String], network: &Network) -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for name in names {
        let link = network.named(name);
        let earlier =
            interfaces.iter().find(|earlier| link.is_some_and(|link| earlier.link == Some(link.index)));
        let port = match (link, earlier) {
            (None, _) => Err(Unserved::Missing(format!(
                "there is no interface {name} (there are {}): it is served when it appears",
                names_of(network)
            ))),
            (Some(_), Some(earlier)) => Err(Unserved::Repeated(format!(
                "{name} is the same interface as {}, and is served once: remove one of them from [listen] interfaces",
                earlier.name
            ))),
            (Some(link), None) => port(link, network).map_err(Unserved::OutOfReach),
        };
        interfaces.push(Interface { name: name.clone(), link: link.map(|link| link.index), port });
    }
    interfaces
}

/// Returns what is wrong with an existing interface. `is_bare`: whether none of its addresses is served, although
/// `[listen] addresses` is empty.
pub(super) fn alarm(link: &Link, is_bare: bool, network: &Network) -> Option<String> {
    let name = &link.name;
    if !link.up {
        return Some(format!("{name} is down: it is served after `ip link set {name} up`"));
    }
    let master = link.master.and_then(|master| network.link(master)).filter(|master| !master.is("vrf"));
    match master {
        _ if !is_bare => None,
        Some(master) => Some(format!(
            "{name} belongs to {master} and has no address of its own: name {master} in [listen] interfaces",
            master = master.name
        )),
        None => Some(format!(
            "{name} has no address that can be served: it is served when it gets one, \
             or name the addresses in [listen] addresses"
        )),
    }
}

fn names_of(network: &Network) -> String {
    let mut names: Vec<&str> = network.links.iter().map(|link| &*link.name).collect();
    names.sort_unstable();
    let more = names.len().saturating_sub(NAMES_MAX);
    names.truncate(NAMES_MAX);
    let names = names.join(", ");
    if more == 0 { names } else { format!("{names} and {more} more") }
}

/// Walks from a VLAN down to the device that receives its frames.
fn port(link: &Link, network: &Network) -> Result<Port, String> {
    let name = &link.name;
    let mut device = link;
    let mut tags = Vec::new();
    while device.is("vlan") {
        if tags.len() == WALK_MAX {
            return Err(format!("{name} is a VLAN that is its own parent: the responder answers on it"));
        }
        let tag = device.vlan.ok_or_else(|| {
            format!("the VLAN tag of {} is of an unknown kind: the responder answers on {name}", device.name)
        })?;
        let parent = device.lower.and_then(|parent| network.link(parent)).ok_or_else(|| {
            format!(
                "the parent of {} is in another network namespace, where its frames arrive: \
                 the responder answers on {name}",
                device.name
            )
        })?;
        tags.push(tag);
        device = parent;
    }
    if tags.len() > TAGS_MAX {
        let count = tags.len();
        return Err(format!(
            "the frames of {name} have {count} VLAN tags, the XDP program reads {TAGS_MAX}: the responder answers on it"
        ));
    }
    tags.reverse();
    Ok(Port {
        index: link.index,
        device: device.index,
        device_name: device.name.clone(),
        slaves: slaves(device, network),
        tags,
        mac: link.mac.filter(|_| link.is_ethernet && device.is_ethernet),
        mtu: device.mtu,
        vrf: network.vrf(link).map(str::to_owned),
        kind: device.kind.clone(),
        driver: device.driver.clone(),
    })
}

fn slaves(device: &Link, network: &Network) -> Vec<Slave> {
    if device.kind.as_deref().is_some_and(|kind| NOT_AGGREGATES.contains(&kind)) {
        return Vec::new();
    }
    let slaves = network.links.iter().filter(|link| link.master == Some(device.index));
    slaves.filter_map(|link| Some(Slave { index: link.index, mac: link.mac? })).collect()
}
