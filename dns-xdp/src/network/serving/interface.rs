//! An interface of the configuration: where its frames come in, or why they cannot be taken there.
use std::fmt;
use std::net::IpAddr;

use super::super::{Link, Network, VlanTag};
use super::Place;

/// Tags that the XDP program reads.
const TAGS_MAX: usize = 2;
/// VLANs that are walked through; Linux allows eight.
const WALK_MAX: usize = 16;
/// Names that a message lists.
const NAMES_MAX: usize = 10;
/// Kinds of master on which no XDP program runs for its slaves.
const NOT_AGGREGATES: [&str; 3] = ["bridge", "vrf", "openvswitch"];

/// An interface of the configuration as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name in the configuration.
    pub name: String,
    /// The index of the link; `None`: it is not there.
    pub link: Option<u32>,
    /// Where its frames come in; or why the XDP program cannot answer there. The responder serves the addresses of a
    /// link that is there all the same.
    pub port: Result<Port, Unserved>,
}

/// Why the XDP program does not answer on an interface, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unserved {
    /// There is no such link.
    Missing(String),
    /// An earlier entry of `[listen] interfaces` is the same link.
    Repeated(String),
    /// Its frames come in where the program cannot tell them from others.
    OutOfReach(String),
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Unserved::Missing(reason) | Unserved::Repeated(reason) | Unserved::OutOfReach(reason)) = self;
        f.write_str(reason)
    }
}

/// Where an interface's frames come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The index of the configured link.
    pub index: u32,
    /// The device that an XDP program is attached to: the link, or its parent when it is a VLAN.
    pub device: u32,
    /// The device's name.
    pub device_name: String,
    /// The slaves of a bond, a team or a Hyper-V device: an XDP program on it runs with the index of one of these.
    pub slaves: Vec<Slave>,
    /// The VLAN tags of the link's frames, outermost first; at most two.
    pub tags: Vec<VlanTag>,
    /// The link's MAC address; `None`: it is not Ethernet, and there is no XDP on it.
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
    /// Its frames are Ethernet frames.
    pub fn is_ethernet(&self) -> bool {
        self.mac.is_some()
    }

    /// Where frames for this address of the port come in.
    pub(super) fn places(&self, address: IpAddr) -> Vec<Place> {
        let Some(mac) = self.mac else { return Vec::new() };
        let place = |interface, mac| Place { interface, tags: self.tags.clone(), address, mac };
        // A bond may give its peers a slave's MAC address; a VLAN has its own on every slave.
        let on_slave = |slave: &Slave| {
            let mac = if self.tags.is_empty() { slave.mac } else { mac };
            place(slave.index, mac)
        };
        let on_slaves = self.slaves.iter().map(on_slave);
        std::iter::once(place(self.device, mac)).chain(on_slaves).collect()
    }
}

/// Each name of the configuration.
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

/// What is wrong with an interface that is there; `is_bare`: none of its addresses is served, and it was to tell them.
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

/// Walks from a VLAN down to the device that its frames come in by.
fn port(link: &Link, network: &Network) -> Result<Port, String> {
    let name = &link.name;
    let mut device = link;
    let mut tags = Vec::new();
    while device.is("vlan") {
        if tags.len() == WALK_MAX {
            return Err(format!("{name} is a VLAN that is its own parent: the responder answers on it"));
        }
        let tag = device.vlan.ok_or_else(|| {
            format!(
                "the VLAN tag of {} is none that is known here: the responder answers on {name}",
                device.name
            )
        })?;
        let parent = device.lower.and_then(|parent| network.link(parent)).ok_or_else(|| {
            format!(
                "the parent of {} is in another network namespace, where its frames come in: \
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
