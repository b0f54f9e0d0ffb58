//! Tells which addresses can belong to one machine (RFC 6890).
use std::fmt;
use std::net::IpAddr;

/// A kind of address that does not lead every client to the same machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialAddress {
    /// Every machine has this address.
    Loopback,
    /// Every link may have this address.
    LinkLocal,
    /// 0/8
    ThisNetwork,
    /// 240/4
    Reserved,
    /// `::`
    Unspecified,
    /// Many machines have this address.
    Multicast,
    /// `::ffff:0:0/96`
    Mapped,
    /// `::/96`, which RFC 4291, section 2.5.5.1, deprecates.
    Compatible,
}

impl SpecialAddress {
    /// Returns why an address cannot be a node's; `None`: it can.
    pub fn of(address: IpAddr) -> Option<Self> {
        let special = match address {
            _ if address.is_loopback() => SpecialAddress::Loopback,
            _ if address.is_multicast() => SpecialAddress::Multicast,
            IpAddr::V4(ipv4) if ipv4.is_link_local() => SpecialAddress::LinkLocal,
            IpAddr::V4(ipv4) if ipv4.octets()[0] == 0 => SpecialAddress::ThisNetwork,
            IpAddr::V4(ipv4) if ipv4.octets()[0] >= 240 => SpecialAddress::Reserved,
            IpAddr::V6(ipv6) if ipv6.is_unicast_link_local() => SpecialAddress::LinkLocal,
            IpAddr::V6(ipv6) if ipv6.is_unspecified() => SpecialAddress::Unspecified,
            IpAddr::V6(ipv6) if ipv6.to_ipv4_mapped().is_some() => SpecialAddress::Mapped,
            IpAddr::V6(ipv6) if ipv6.to_ipv4().is_some() => SpecialAddress::Compatible,
            _ => return None,
        };
        Some(special)
    }

    /// Returns why this machine cannot listen at an address or probe it; `None`: it can. A link-local IPv4 address is
    /// allowed: unlike a link-local IPv6 address, it needs no interface beside it.
    pub fn of_local(address: IpAddr) -> Option<Self> {
        SpecialAddress::of(address).filter(|special| match special {
            SpecialAddress::Loopback => false,
            SpecialAddress::LinkLocal => address.is_ipv6(),
            _ => true,
        })
    }
}

impl fmt::Display for SpecialAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpecialAddress::Loopback => "a loopback address, which is another machine's for each client",
            SpecialAddress::LinkLocal => "a link-local address",
            SpecialAddress::ThisNetwork => "an address of \"this network\"",
            SpecialAddress::Reserved => "a reserved address",
            SpecialAddress::Unspecified => "the unspecified address",
            SpecialAddress::Multicast => "a multicast address",
            SpecialAddress::Mapped => "an IPv4 address in the form of IPv6",
            SpecialAddress::Compatible => "an IPv4 address in a form of IPv6 that is out of use",
        })
    }
}

/// Addresses that no node can have, each with the text of its kind.
#[cfg(test)]
pub(crate) const NO_NODES: [(&str, &str); 14] = [
    ("127.0.0.1", "a loopback address"),
    ("127.9.9.9", "a loopback address"),
    ("0.1.2.3", "an address of \"this network\""),
    ("169.254.1.1", "a link-local address"),
    ("240.0.0.1", "a reserved address"),
    ("255.255.255.254", "a reserved address"),
    ("224.0.0.1", "a multicast address"),
    ("::1", "a loopback address"),
    ("fe80::1", "a link-local address"),
    ("febf::1", "a link-local address"),
    ("ff02::1", "a multicast address"),
    ("::", "the unspecified address"),
    ("::ffff:192.0.2.1", "an IPv4 address in the form of IPv6"),
    ("::c000:201", "an IPv4 address in a form of IPv6"),
];
