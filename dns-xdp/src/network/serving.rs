//! Decides which interfaces and addresses are served. A pure function of the configuration and the present network.
//!
//! `interface` finds the links that should have a program. `address` finds the addresses that may receive queries.
//! Neither attaches or binds anything.
mod address;
mod interface;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Link, Network, VlanTag};
use crate::config::Listen;

pub use address::{AddressState, State};
pub use interface::{Interface, Port, Slave, Unserved};

/// The present state of the interfaces and addresses of `[listen]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serving {
    /// Every interface of the configuration, in the order of the configuration.
    pub interfaces: Vec<Interface>,
    /// Every address that is configured, or that a configured interface has.
    pub addresses: Vec<AddressState>,
    listeners: Vec<Listener>,
    places: Vec<Place>,
    alarms: Vec<String>,
}

/// The frames for an address that the XDP program answers: on this interface, with these tags, to this MAC address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The interface index in the frame's context: the index of the device, or of a bond's slave.
    pub interface: u32,
    /// The frame's VLAN tags, outermost first.
    pub tags: Vec<VlanTag>,
    /// The destination of the query.
    pub address: IpAddr,
    /// The frame's destination MAC address.
    pub mac: [u8; 6],
}

/// An address that the responder binds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// The address.
    pub address: IpAddr,
    /// Its VRF; `None`: it is in no VRF.
    pub device: Option<String>,
}

impl From<IpAddr> for Listener {
    /// Makes a listener on an address in no VRF.
    fn from(address: IpAddr) -> Self {
        Listener { address, device: None }
    }
}

impl Serving {
    /// Returns the places where the XDP program answers: distinct, in a fixed order.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Returns the addresses that the responder binds: the served addresses, and listed addresses that the machine
    /// lacks at present. They are distinct, in the order of the configuration or of its interfaces.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Returns why a part of `[listen]` is not served, and what to do about it. Does not include interfaces that cannot
    /// have XDP: see [`Interface::port`].
    pub fn alarms(&self) -> &[String] {
        &self.alarms
    }

    /// Returns the addresses that are served now.
    pub fn served(&self) -> Vec<IpAddr> {
        let served = self.addresses.iter().filter(|address| address.state == State::Served);
        served.map(|address| address.address).collect()
    }
}

/// Returns the addresses of `[listen]` that can never be served, each with the reason. The daemon refuses to start with
/// such an address.
pub fn impossible(listen: &Listen) -> Vec<String> {
    listen.addresses.iter().filter_map(|address| address::impossible(*address)).collect()
}

/// Decides which interfaces and addresses are served.
pub fn serving(listen: &Listen, network: &Network) -> Serving {
    let interfaces = interface::interfaces(&listen.interfaces, network);
    let configured = Configured::new(&interfaces, network);
    let found = address::addresses(listen, network, &configured);
    let listeners = found.iter().flat_map(|found| found.listeners(network, &configured));
    let mut seen = BTreeSet::new();
    let listeners = listeners.filter(|listener| seen.insert(listener.clone())).collect();
    let places: BTreeSet<Place> =
        found.iter().flat_map(|found| places(found, network, &configured)).collect();
    let alarms = alarms(listen, &interfaces, &found, network);
    let addresses = found.into_iter().map(|found| found.state).collect();
    Serving { interfaces, addresses, listeners, places: places.into_iter().collect(), alarms }
}

/// The configured interfaces that exist, each once.
#[derive(Debug)]
struct Configured<'a>(Vec<(&'a Link, Option<&'a Port>)>);

impl<'a> Configured<'a> {
    fn new(interfaces: &'a [Interface], network: &'a Network) -> Self {
        let there =
            interfaces.iter().filter(|interface| !matches!(interface.port, Err(Unserved::Repeated(_))));
        let link =
            |interface: &'a Interface| Some((network.link(interface.link?)?, interface.port.as_ref().ok()));
        Configured(there.filter_map(link).collect())
    }

    fn links(&self) -> impl Iterator<Item = &'a Link> {
        self.0.iter().map(|(link, _)| *link)
    }

    fn has(&self, index: u32) -> bool {
        self.links().any(|link| link.index == index)
    }

    /// Returns the ports of interfaces with Ethernet frames.
    fn ports(&self) -> impl Iterator<Item = &'a Port> {
        self.0.iter().filter_map(|(_, port)| port.filter(|port| port.mac.is_some()))
    }
}

/// Returns where an address is served. A tagged interface serves its own addresses. Untagged interfaces of a VRF also
/// serve each other's addresses, as Linux does (the weak host model, RFC 1122, section 3.3.4.2). An address that no
/// configured interface has is served on each of them.
fn places(found: &address::Found, network: &Network, configured: &Configured<'_>) -> Vec<Place> {
    let address = found.state.address;
    // A frame to a loopback address is forged.
    if found.state.state != State::Served || address.is_loopback() {
        return Vec::new();
    }
    let holders = found.holders.iter().filter_map(|index| network.link(*index));
    let (ours, others): (Vec<&Link>, Vec<&Link>) = holders.partition(|link| configured.has(link.index));
    let serves = |port: &&Port| {
        let is_in_vrf_of = |link: &&Link| network.vrf(link) == port.vrf.as_deref();
        if ours.is_empty() {
            return others.iter().any(is_in_vrf_of);
        }
        ours.iter().any(|link| {
            let is_own = link.index == port.index;
            let is_tagged = link.vlan.is_some() || !port.tags.is_empty();
            is_own || (!is_tagged && is_in_vrf_of(link))
        })
    };
    let ports = configured.ports().filter(serves);
    ports.flat_map(|port| port.places(address)).collect()
}

fn alarms(
    listen: &Listen,
    interfaces: &[Interface],
    found: &[address::Found],
    network: &Network,
) -> Vec<String> {
    let of_interfaces = interfaces.iter().filter_map(|interface| match &interface.port {
        Err(reason @ (Unserved::Missing(_) | Unserved::Repeated(_))) => Some(reason.to_string()),
        _ => {
            let link = network.link(interface.link?)?;
            let is_bare = listen.addresses.is_empty() && !found.iter().any(|found| found.is_served_on(link));
            interface::alarm(link, is_bare, network)
        }
    });
    let addresses = || found.iter().map(|found| &found.state);
    let of_addresses = addresses().filter(|address| address.is_alarm(listen));
    let of_addresses = of_addresses.filter_map(|address| address.reason.clone());
    let nothing = !addresses().any(|address| address.state == State::Served);
    let nothing = nothing.then(|| "no address is served: this server answers no queries".to_owned());
    nothing.into_iter().chain(of_interfaces).chain(of_addresses).collect()
}
