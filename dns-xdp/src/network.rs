//! This machine's network: reads it from the kernel, watches its changes, and decides which part is served.
//!
//! ```text
//! rtnetlink ─► Network (links, addresses) ─┐
//!                                          ├─► serving ─► ports, places (datapath), listeners (responder), alarms
//! [listen] ────────────────────────────────┘
//! ```
mod addresses;
pub mod ethtool;
mod holders;
mod links;
mod monitor;
mod netlink;
mod serving;

use std::io;

pub use self::addresses::Address;
pub use self::holders::{Holder, holders};
pub use self::links::{Link, OnInterface, Peer, VlanProtocol, VlanTag};
pub use self::monitor::Monitor;
pub use self::netlink::{peer, peer_has_native_program};
pub use self::serving::{
    AddressState, Interface, Listener, Place, Port, Serving, Slave, State, Unserved, impossible, serving,
};

/// The links and addresses of this network namespace at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// Every link, by its index.
    pub links: Vec<Link>,
    /// Every address, in the kernel's order.
    pub addresses: Vec<Address>,
}

impl Network {
    /// Asks the kernel for all links and addresses. 1,000 of them take a few milliseconds.
    ///
    /// # Errors
    /// The errors of a netlink socket; `Interrupted` if the network changed during each of several dumps.
    pub fn read() -> io::Result<Network> {
        let mut links = netlink::links()?;
        links.sort_by_key(|link| link.index);
        Ok(Network { links, addresses: netlink::addresses()? })
    }

    /// Returns the link with this index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// Returns the link with this name or, if there is none, with this alternative name.
    pub fn named(&self, name: &str) -> Option<&Link> {
        let by_name = self.links.iter().find(|link| link.name == name);
        by_name.or_else(|| self.links.iter().find(|link| link.altnames.iter().any(|other| other == name)))
    }

    /// Returns a VLAN above a device, if clients can reach the VLAN: it is up and has an address.
    pub fn vlan_above(&self, device: u32) -> Option<&Link> {
        let has_address = |link: &Link| self.addresses.iter().any(|address| address.link == link.index);
        let mut vlans = self.links.iter().filter(|link| link.is("vlan") && link.lower == Some(device));
        vlans.find(|link| link.up && has_address(link))
    }

    /// Returns the name of the VRF that a link belongs to.
    pub fn vrf(&self, link: &Link) -> Option<&str> {
        let master = self.link(link.master?)?;
        master.is("vrf").then_some(&*master.name)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn this_machine_has_a_loopback_interface_with_its_address() {
        let network = Network::read().unwrap();
        let loopback = network.named("lo").unwrap();
        assert!(loopback.is_loopback && !loopback.is_ethernet && loopback.mac.is_none(), "{loopback:?}");
        assert_eq!(network.link(loopback.index), Some(loopback));
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let address = network.addresses.iter().find(|address| address.ip == localhost).unwrap();
        assert_eq!((address.link, address.prefix_length), (loopback.index, 8));
    }

    #[test]
    fn a_name_goes_before_an_alternative_name() {
        let link = |index, name: &str, altname: &str| Link {
            index,
            name: name.to_owned(),
            altnames: vec![altname.to_owned()],
            ..Link::default()
        };
        let network =
            Network { links: vec![link(2, "eth0", "wan"), link(3, "wan", "uplink")], addresses: vec![] };
        let found = |name| network.named(name).map(|link| link.index);
        assert_eq!(["eth0", "wan", "uplink", "eth1"].map(found), [Some(2), Some(3), Some(3), None]);
    }
}
