//! Network interfaces: index, MAC address, addresses, and the XDP program that the kernel says is on them.
use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkInfo, LinkLayerType, LinkMessage, LinkXdp, XdpAttached};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::ifaddrs::getifaddrs;

use super::{Attached, Error};

/// An interface as the kernel describes it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interface {
    /// Its name.
    pub(super) name: String,
    /// Its index, which a new interface of the same name does not share.
    pub(super) index: u32,
    /// Its MAC address.
    pub(super) mac: [u8; 6],
    /// The XDP program on it.
    pub(super) program: Option<OnInterface>,
    /// What it is driven by: the driver of its device, or the kind of a virtual interface.
    pub(super) driver: Option<String>,
}

/// An XDP program on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OnInterface {
    /// The kernel's number of the program.
    pub(super) id: u32,
    /// In the driver; otherwise in the network stack.
    pub(super) native: bool,
}

impl Interface {
    /// Asks the kernel about an interface.
    pub(super) fn find(name: &str) -> Result<Self, Error> {
        let message = ask(name).map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => {
                let present = present().join(", ");
                Error::new(format!(
                    "there is no interface {name} (there are {present}): correct [listen] interfaces"
                ))
            }
            _ => Error::new(format!("cannot ask the kernel about interface {name}")).because(error),
        })?;
        if message.header.link_layer_type != LinkLayerType::Ether {
            return Err(Error::new(format!(
                "interface {name} is not an Ethernet interface: serve it with [xdp] mode = \"off\""
            )));
        }
        let mac = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Address(octets) => octets.as_slice().try_into().ok(),
            _ => None,
        });
        let mac = mac.ok_or_else(|| Error::new(format!("interface {name} has no MAC address")))?;
        let program = message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Xdp(xdp) => on_interface(xdp),
            _ => None,
        });
        let driver = driver(&message.attributes);
        Ok(Interface { name: name.to_owned(), index: message.header.index, mac, program, driver })
    }

    /// How the program there is attached, whosever it is.
    pub(super) fn attached(&self) -> Attached {
        match self.program {
            Some(program) if program.native => Attached::Native,
            Some(_) => Attached::Generic,
            None => Attached::Off,
        }
    }
}

pub(super) fn on_interface(xdp: &[LinkXdp]) -> Option<OnInterface> {
    let native = xdp.iter().any(|xdp| matches!(xdp, LinkXdp::Attached(XdpAttached::Driver)));
    xdp.iter().find_map(|xdp| match xdp {
        LinkXdp::ProgId(id) => Some(OnInterface { id: *id, native }),
        _ => None,
    })
}

/// The device is looked up by its bus, for /sys/class/net has the interfaces of another network namespace where only
/// that was entered.
pub(super) fn driver(attributes: &[LinkAttribute]) -> Option<String> {
    let bus = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::ParentDevBusName(bus) => Some(bus),
        _ => None,
    });
    let device = attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::ParentDevName(device) => Some(device),
        _ => None,
    });
    if let (Some(bus), Some(device)) = (bus, device) {
        let driver = std::fs::read_link(format!("/sys/bus/{bus}/devices/{device}/driver")).ok()?;
        return Some(driver.file_name()?.to_string_lossy().into_owned());
    }
    let mut infos = attributes.iter().filter_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    infos.find_map(|infos| {
        infos.iter().find_map(|info| match info {
            LinkInfo::Kind(kind) => Some(kind.to_string()),
            _ => None,
        })
    })
}

/// RTM_GETLINK for one interface.
pub(super) fn ask(name: &str) -> io::Result<LinkMessage> {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut request = NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetLink(link)));
    request.finalize();
    let mut octets = vec![0; request.header.length as usize];
    request.serialize(&mut octets);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&octets, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::other(format!("an unexpected netlink message: {other:?}"))),
    }
}

pub(super) fn present() -> Vec<String> {
    let mut names: Vec<String> =
        getifaddrs().map(|all| all.map(|one| one.interface_name).collect()).unwrap_or_default();
    names.sort();
    names.dedup();
    names
}

/// Every global unicast address of the interfaces, in the kernel's order.
///
/// # Errors
/// An interface is missing, or there is no address.
pub fn addresses(interfaces: &[String]) -> Result<Vec<IpAddr>, Error> {
    for interface in interfaces {
        Interface::find(interface)?;
    }
    let all = getifaddrs()
        .map_err(|error| Error::new("cannot list this host's addresses").because(error.into()))?;
    let mut addresses = Vec::new();
    for one in all.filter(|one| interfaces.contains(&one.interface_name)) {
        let Some(address) = one.address else { continue };
        let ipv4 = address.as_sockaddr_in().map(|socket| IpAddr::V4(socket.ip()));
        let ip = ipv4.or_else(|| address.as_sockaddr_in6().map(|socket| IpAddr::V6(socket.ip())));
        addresses.extend(ip.filter(global));
    }
    if addresses.is_empty() {
        let interfaces = interfaces.join(", ");
        return Err(Error::new(format!(
            "no global address on {interfaces}: give it one, or name the addresses in [listen] addresses"
        )));
    }
    Ok(addresses)
}

fn global(ip: &IpAddr) -> bool {
    let scoped = match ip {
        IpAddr::V4(ipv4) => ipv4.is_link_local(),
        IpAddr::V6(ipv6) => ipv6.is_unicast_link_local(),
    };
    !scoped && !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}
