//! A link as the kernel describes it (RTM_NEWLINK).
use std::fs;

use netlink_packet_core::{NlaBuffer, NlasIterator, ParseableParametrized, parse_string, parse_u16};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkHeader, LinkLayerType, LinkXdp, Prop};

use super::ethtool;

/// Octets of `struct ifinfomsg`.
const HEADER: usize = 16;
/// linux/if_link.h: the kind of a virtual link, and the data of that kind.
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
/// linux/if_link.h: the data of kind `vlan`.
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VLAN_PROTOCOL: u16 = 5;
/// linux/if_ether.h: the ethertypes of a customer tag and of a service tag.
const ETH_P_8021Q: u16 = 0x8100;
const ETH_P_8021AD: u16 = 0x88a8;

/// A network interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of the link. A new link of the same name has another number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alternative names.
    pub altnames: Vec<String>,
    /// Whether its frames are Ethernet frames.
    pub is_ethernet: bool,
    /// Whether it is a loopback interface.
    pub is_loopback: bool,
    /// The MAC address of an Ethernet link.
    pub mac: Option<[u8; 6]>,
    /// The longest packet, in octets.
    pub mtu: u32,
    /// Whether it is set up administratively.
    pub up: bool,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// The bond, team, bridge, VRF or Hyper-V device that it belongs to.
    pub master: Option<u32>,
    /// The link below it, if that is in this network namespace: a VLAN's parent.
    pub lower: Option<u32>,
    /// Its kind: `vlan`, `bond`, `team`, `veth`, `vrf`, `bridge`; `None`: hardware, or `lo`.
    pub kind: Option<String>,
    /// The tag of a VLAN.
    pub vlan: Option<VlanTag>,
    /// The driver of its device, or the kind of a virtual link.
    pub driver: Option<String>,
    /// The XDP programs on it, at most one in each mode; the driver's comes first.
    pub programs: Vec<OnInterface>,
    /// The other end of a veth.
    pub peer: Option<Peer>,
}

/// A VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VlanTag {
    /// The kind of tag.
    pub protocol: VlanProtocol,
    /// The VLAN's number, 12 bits.
    pub id: u16,
}

/// The ethertype of a VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VlanProtocol {
    /// IEEE 802.1Q, a customer tag: 0x8100.
    Dot1Q,
    /// IEEE 802.1ad, a service tag: 0x88a8.
    Dot1Ad,
}

/// An XDP program on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnInterface {
    /// The kernel's number of the program.
    pub id: u32,
    /// Whether it runs in the driver or on the card. Otherwise it runs in the network stack.
    pub native: bool,
}

/// The other end of a veth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its index, in its own network namespace.
    pub index: u32,
    /// The number that this namespace has for the other namespace; `None`: the same namespace.
    pub namespace_id: Option<i32>,
}

impl Link {
    /// Returns the XDP program on the link; with several, the driver's.
    pub fn program(&self) -> Option<OnInterface> {
        self.programs.first().copied()
    }

    /// Whether its driver runs an XDP program.
    pub fn has_native_program(&self) -> bool {
        self.programs.iter().any(|program| program.native)
    }

    /// Whether the link is of this kind.
    pub fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// Reads the payload of an RTM_NEWLINK. Leaves out an attribute that cannot be read. `None`: the header cannot be
    /// read.
    pub(super) fn parse(payload: &[u8]) -> Option<Link> {
        let header = LinkHeader::parse(payload).ok()?;
        let mut link = Link {
            index: header.index,
            is_ethernet: header.link_layer_type == LinkLayerType::Ether,
            is_loopback: header.flags.contains(LinkFlags::Loopback),
            up: header.flags.contains(LinkFlags::Up),
            carrier: header.flags.contains(LinkFlags::LowerUp),
            ..Link::default()
        };
        let (mut below, mut namespace_id) = (None, None);
        let (mut bus, mut device) = (None, None);
        for attribute in NlasIterator::new(payload.get(HEADER..)?).flatten() {
            if attribute.kind() == IFLA_LINKINFO {
                link.read_info(&attribute);
                continue;
            }
            match LinkAttribute::parse_with_param(&attribute, AddressFamily::Unspec) {
                Ok(LinkAttribute::IfName(name)) => link.name = name,
                Ok(LinkAttribute::Address(octets)) if link.is_ethernet => link.mac = octets.try_into().ok(),
                Ok(LinkAttribute::Mtu(octets)) => link.mtu = octets,
                Ok(LinkAttribute::Controller(index)) => link.master = Some(index),
                Ok(LinkAttribute::Link(index)) => below = Some(index),
                Ok(LinkAttribute::LinkNetNsId(id)) => namespace_id = Some(id),
                Ok(LinkAttribute::Xdp(xdp)) => link.programs = programs(&xdp),
                Ok(LinkAttribute::PropList(properties)) => link.altnames = altnames(properties),
                Ok(LinkAttribute::ParentDevBusName(name)) => bus = Some(name),
                Ok(LinkAttribute::ParentDevName(name)) => device = Some(name),
                _ => {}
            }
        }
        // Some kinds of link name themselves here, and a link without a lower link has 0.
        let below = below.filter(|below| *below != 0);
        if link.is("veth") {
            link.peer = below.map(|index| Peer { index, namespace_id });
        } else if namespace_id.is_none() {
            link.lower = below.filter(|below| *below != link.index);
        }
        link.driver = driver(&link, bus.zip(device)).or_else(|| link.kind.clone());
        Some(link)
    }

    /// Reads IFLA_LINKINFO without the crate's parser, which refuses all of it for one unknown part.
    fn read_info<T: AsRef<[u8]> + ?Sized>(&mut self, info: &NlaBuffer<&T>) {
        for part in NlasIterator::new(info.value()).flatten() {
            match part.kind() {
                IFLA_INFO_KIND => self.kind = parse_string(part.value()).ok(),
                // The kind comes before the data.
                IFLA_INFO_DATA if self.is("vlan") => self.vlan = vlan_tag(part.value()),
                _ => {}
            }
        }
    }
}

/// Returns the driver of a link's device. Since Linux 5.14 the link names its device by bus and name. This function
/// looks the device up by its bus. It does not use /sys/class/net: if /sys was mounted in another network namespace,
/// that directory has the links of the other namespace. On older kernels this function asks the driver for its name.
fn driver(link: &Link, device: Option<(String, String)>) -> Option<String> {
    let Some((bus, device)) = device else {
        let is_hardware = link.kind.is_none() && !link.is_loopback;
        return is_hardware.then(|| ethtool::driver(&link.name)).flatten();
    };
    let driver = fs::read_link(format!("/sys/bus/{bus}/devices/{device}/driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}

fn programs(xdp: &[LinkXdp]) -> Vec<OnInterface> {
    let program = |xdp: &LinkXdp| match xdp {
        LinkXdp::DrvProgId(id) | LinkXdp::HwProgId(id) => Some(OnInterface { id: *id, native: true }),
        LinkXdp::SkbProgId(id) => Some(OnInterface { id: *id, native: false }),
        _ => None,
    };
    let mut programs: Vec<OnInterface> = xdp.iter().filter_map(program).collect();
    programs.sort_by_key(|program| !program.native);
    programs
}

fn altnames(properties: Vec<Prop>) -> Vec<String> {
    let altname = |property| match property {
        Prop::AltIfName(name) => Some(name),
        _ => None,
    };
    properties.into_iter().filter_map(altname).collect()
}

fn vlan_tag(data: &[u8]) -> Option<VlanTag> {
    let (mut id, mut protocol) = (None, Some(VlanProtocol::Dot1Q));
    for part in NlasIterator::new(data).flatten() {
        match part.kind() {
            IFLA_VLAN_ID => id = parse_u16(part.value()).ok(),
            IFLA_VLAN_PROTOCOL => protocol = vlan_protocol(part.value()),
            _ => {}
        }
    }
    Some(VlanTag { protocol: protocol?, id: id? })
}

fn vlan_protocol(value: &[u8]) -> Option<VlanProtocol> {
    match u16::from_be_bytes(value.try_into().ok()?) {
        ETH_P_8021Q => Some(VlanProtocol::Dot1Q),
        ETH_P_8021AD => Some(VlanProtocol::Dot1Ad),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{DefaultNla, Emitable};
    use netlink_packet_route::link::{LinkMessage, XdpAttached};

    use super::*;

    const ETH0: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn parsed(attributes: Vec<LinkAttribute>, link_info: &[(u16, Vec<u8>)]) -> Link {
        let mut message = LinkMessage::default();
        message.header.index = 7;
        message.header.link_layer_type = LinkLayerType::Ether;
        message.header.flags = LinkFlags::Up;
        message.attributes = attributes;
        if !link_info.is_empty() {
            message.attributes.push(LinkAttribute::Other(DefaultNla::new(IFLA_LINKINFO, nested(link_info))));
        }
        let mut octets = vec![0; message.buffer_len()];
        message.emit(&mut octets);
        Link::parse(&octets).unwrap()
    }

    fn nested(parts: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let parts: Vec<_> = parts.iter().map(|(kind, value)| DefaultNla::new(*kind, value.clone())).collect();
        let mut octets = vec![0; parts.as_slice().buffer_len()];
        parts.as_slice().emit(&mut octets);
        octets
    }

    fn kind(kind: &str) -> (u16, Vec<u8>) {
        (IFLA_INFO_KIND, [kind.as_bytes(), b"\0"].concat())
    }

    #[test]
    fn the_attributes_of_a_link_are_read() {
        let link = parsed(
            vec![
                LinkAttribute::IfName("wan7".to_owned()),
                LinkAttribute::Address(ETH0.to_vec()),
                LinkAttribute::Mtu(1500),
                LinkAttribute::Controller(3),
                LinkAttribute::PropList(vec![Prop::AltIfName("enp1s0".to_owned())]),
            ],
            &[],
        );
        let expected = Link {
            index: 7,
            name: "wan7".to_owned(),
            altnames: vec!["enp1s0".to_owned()],
            is_ethernet: true,
            mac: Some(ETH0),
            mtu: 1500,
            up: true,
            master: Some(3),
            ..Link::default()
        };
        assert_eq!(link, expected);
    }

    #[test]
    fn programs_in_several_modes_are_read_and_the_drivers_comes_first() {
        let xdp = [LinkXdp::SkbProgId(5), LinkXdp::DrvProgId(9), LinkXdp::Attached(XdpAttached::Multiple)];
        let link = parsed(vec![LinkAttribute::Xdp(xdp.to_vec())], &[]);
        let [native, generic] = [(9, true), (5, false)].map(|(id, native)| OnInterface { id, native });
        assert_eq!(link.programs, [native, generic]);
        assert_eq!(link.program(), Some(native));
    }

    #[test]
    fn a_vlan_has_a_tag_and_a_parent() {
        let data = [
            (IFLA_VLAN_PROTOCOL, vec![0x88, 0xa8]),
            (IFLA_VLAN_ID, 91_u16.to_ne_bytes().to_vec()),
            (99, vec![1, 2, 3]),
        ];
        let link = parsed(vec![LinkAttribute::Link(2)], &[kind("vlan"), (IFLA_INFO_DATA, nested(&data))]);
        assert_eq!((link.kind.as_deref(), link.lower), (Some("vlan"), Some(2)));
        assert_eq!(link.vlan, Some(VlanTag { protocol: VlanProtocol::Dot1Ad, id: 91 }));
    }

    #[test]
    fn a_parent_in_another_namespace_is_no_link_of_this_one() {
        let attributes = vec![LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(0)];
        let link = parsed(attributes, &[kind("vlan")]);
        assert_eq!(link.lower, None);
    }

    #[test]
    fn the_peer_of_a_veth_is_not_below_it() {
        let here = parsed(vec![LinkAttribute::Link(8)], &[kind("veth")]);
        assert_eq!((here.lower, here.peer), (None, Some(Peer { index: 8, namespace_id: None })));
        let attributes = vec![LinkAttribute::Link(2), LinkAttribute::LinkNetNsId(4)];
        let elsewhere = parsed(attributes, &[kind("veth")]);
        assert_eq!(elsewhere.peer, Some(Peer { index: 2, namespace_id: Some(4) }));
    }

    #[test]
    fn what_cannot_be_read_is_left_out_and_the_rest_stays() {
        let broken = LinkAttribute::Other(DefaultNla::new(4, vec![1]));
        let link =
            parsed(vec![broken, LinkAttribute::IfName("eth0".to_owned())], &[(77, vec![]), kind("bond")]);
        assert_eq!((link.mtu, &*link.name, link.kind.as_deref()), (0, "eth0", Some("bond")));
        assert_eq!(Link::parse(&[0; 15]), None);
    }
}
