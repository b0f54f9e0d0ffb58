//! An address as the kernel describes it (RTM_NEWADDR).
use std::net::IpAddr;

use netlink_packet_core::{NlasIterator, Parseable};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeader, AddressScope};

/// Octets of `struct ifaddrmsg`.
const HEADER: usize = 8;

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The index of its link.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// Bits of its network.
    pub prefix_length: u8,
    /// Whether duplicate address detection still runs (RFC 4862, section 5.4).
    pub tentative: bool,
    /// Whether duplicate address detection found another holder.
    pub dad_failed: bool,
    /// Whether its preferred lifetime is over. New connections should not use it.
    pub deprecated: bool,
    /// Whether it is a privacy address, which another address soon replaces (RFC 8981). IPv6 only.
    pub temporary: bool,
    /// Whether it is usable although it is tentative (RFC 4429).
    pub optimistic: bool,
    /// Its scope.
    pub scope: AddressScope,
}

impl Address {
    /// Makes an address without flags, of scope "universe".
    pub fn new(link: u32, ip: IpAddr, prefix_length: u8) -> Self {
        Address {
            link,
            ip,
            prefix_length,
            tentative: false,
            dad_failed: false,
            deprecated: false,
            temporary: false,
            optimistic: false,
            scope: AddressScope::Universe,
        }
    }

    /// Whether the kernel accepts packets to it and sends packets from it.
    pub fn is_usable(&self) -> bool {
        !self.dad_failed && (!self.tentative || self.optimistic)
    }

    /// Reads the payload of an RTM_NEWADDR. Leaves out an attribute that cannot be read. `None`: there is no address.
    pub(super) fn parse(payload: &[u8]) -> Option<Address> {
        let header = AddressHeader::parse(payload).ok()?;
        // The header has the lowest 8 flags; IFA_FLAGS has all 32.
        let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
        let (mut address, mut local) = (None, None);
        for attribute in NlasIterator::new(payload.get(HEADER..)?).flatten() {
            match AddressAttribute::parse(&attribute) {
                Ok(AddressAttribute::Flags(all)) => flags = all,
                Ok(AddressAttribute::Address(ip)) => address = Some(ip),
                Ok(AddressAttribute::Local(ip)) => local = Some(ip),
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the peer's address.
        let ip: IpAddr = local.or(address)?;
        Some(Address {
            tentative: flags.contains(AddressFlags::Tentative),
            dad_failed: flags.contains(AddressFlags::Dadfailed),
            deprecated: flags.contains(AddressFlags::Deprecated),
            // For an IPv4 address the same bit means that it is not the first of its network.
            temporary: ip.is_ipv6() && flags.contains(AddressFlags::Secondary),
            optimistic: flags.contains(AddressFlags::Optimistic),
            scope: header.scope,
            ..Address::new(header.index, ip, header.prefix_len)
        })
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;
    use netlink_packet_route::AddressFamily;
    use netlink_packet_route::address::AddressMessage;

    use super::*;

    fn parsed(attributes: Vec<AddressAttribute>) -> Option<Address> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet6;
        message.header.index = 7;
        message.header.prefix_len = 64;
        message.attributes = attributes;
        let mut octets = vec![0; message.buffer_len()];
        message.emit(&mut octets);
        Address::parse(&octets)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_address_is_read_with_its_flags() {
        let flags = AddressFlags::Tentative | AddressFlags::Optimistic | AddressFlags::Secondary;
        let six = ip("2001:db8::1");
        let address = parsed(vec![AddressAttribute::Address(six), AddressAttribute::Flags(flags)]);
        let expected =
            Address { tentative: true, optimistic: true, temporary: true, ..Address::new(7, six, 64) };
        assert_eq!(address, Some(expected));
        assert!(expected.is_usable());
    }

    #[test]
    fn a_tentative_address_and_one_that_another_machine_has_are_not_usable() {
        let address = Address::new(1, ip("2001:db8::1"), 64);
        assert!(address.is_usable());
        assert!(!Address { tentative: true, ..address }.is_usable());
        assert!(!Address { tentative: true, dad_failed: true, optimistic: true, ..address }.is_usable());
    }

    #[test]
    fn a_secondary_ipv4_address_is_not_temporary() {
        let flags = AddressAttribute::Flags(AddressFlags::Secondary | AddressFlags::Permanent);
        let address = parsed(vec![AddressAttribute::Local(ip("192.0.2.12")), flags]).unwrap();
        assert!(!address.temporary);
    }

    #[test]
    fn the_peer_of_a_point_to_point_link_is_no_address_of_this_machine() {
        let (ours, peers) = (ip("192.0.2.1"), ip("192.0.2.2"));
        let address = parsed(vec![AddressAttribute::Address(peers), AddressAttribute::Local(ours)]);
        assert_eq!(address.unwrap().ip, ours);
        assert_eq!(parsed(vec![]), None);
    }
}
