//! What of the network is served: a pure function of the configuration and the network as it is.
//!
//! `interface` finds the links that a program belongs on, `address` the addresses that queries may come to. Neither attaches
//! or binds anything.
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

/// The interfaces and addresses of `[listen]` as they are now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Serving {
    /// Every interface of the configuration, in its order.
    pub interfaces: Vec<Interface>,
    /// Every address that is configured, or on a configured interface.
    pub addresses: Vec<AddressState>,
    listeners: Vec<Listener>,
    places: Vec<Place>,
    alarms: Vec<String>,
}

/// Where the XDP program answers for an address: a frame that carries this interface and these tags, to this MAC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The index that the frame's context has: the device's, or a slave's of a bond.
    pub interface: u32,
    /// The frame's VLAN tags, outermost first.
    pub tags: Vec<VlanTag>,
    /// The destination of the query.
    pub address: IpAddr,
    /// The frame's destination.
    pub mac: [u8; 6],
}

/// What the responder binds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listener {
    /// The address.
    pub address: IpAddr,
    /// The VRF in which it is; `None`: in none.
    pub device: Option<String>,
}

impl From<IpAddr> for Listener {
    /// The address in no VRF.
    fn from(address: IpAddr) -> Self {
        Listener { address, device: None }
    }
}

impl Serving {
    /// Where the XDP program answers: distinct, in a fixed order.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The addresses that the responder binds: the served ones, and listed ones that the machine does not have now.
    /// Distinct, in the configuration's order or that of its interfaces.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// What keeps something of `[listen]` from being served, and what to do about it. That an interface cannot have XDP
    /// is not among these: see [`Interface::port`].
    pub fn alarms(&self) -> &[String] {
        &self.alarms
    }

    /// The addresses that are served now.
    pub fn served(&self) -> Vec<IpAddr> {
        let served = self.addresses.iter().filter(|address| address.state == State::Served);
        served.map(|address| address.address).collect()
    }
}

/// Addresses of `[listen]` that can never be served, each with the reason: a start is refused for one.
pub fn impossible(listen: &Listen) -> Vec<String> {
    listen.addresses.iter().filter_map(|address| address::impossible(*address)).collect()
}

/// What of the network is served.
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

/// The interfaces of the configuration that are there, each once.
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

    /// Those that take Ethernet frames.
    fn ports(&self) -> impl Iterator<Item = &'a Port> {
        self.0.iter().filter_map(|(_, port)| port.filter(|port| port.mac.is_some()))
    }
}

/// A tagged interface serves its own addresses. The untagged ones serve each other's, as Linux does (the weak host model,
/// RFC 1122, section 3.3.4.2), within a VRF. An address that no configured interface has is served on each.
fn places(found: &address::Found, network: &Network, configured: &Configured<'_>) -> Vec<Place> {
    let address = found.state.address;
    // A loopback address in a frame is a forgery.
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
    let nothing = nothing.then(|| "no address is served: this server answers nobody".to_owned());
    nothing.into_iter().chain(of_interfaces).chain(of_addresses).collect()
}
