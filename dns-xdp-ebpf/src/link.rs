//! Reads the headers of Ethernet, VLAN tags, IPv4, IPv6 and UDP, and swaps their addresses for the answer.
use network_types::eth::{EthHdr, EtherType};
use network_types::ip::{IpProto, Ipv4Hdr, Ipv6Hdr};
use network_types::udp::UdpHdr;

use crate::checksum::Sum;
use crate::frame::{Field, Frame, Region};
use crate::host::{Host, Packet};
use crate::message::{HEADER_LENGTH, TYPE_CLASS_LENGTH};
use crate::outcome::{OrRefuse, Outcome};
use crate::table::{Local, Tags, UDP_SIZE};
use crate::verifier::{widen, widen_offset};

/// The link's part of a frame that holds an IP packet.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    /// Octets of VLAN tags. Offsets are counted as if there were no tags, so that the offsets up to the question are
    /// constants.
    tags_length: usize,
    tags: Tags,
    mac: u64,
    /// The frame's IP version.
    pub version: Version,
}

/// A UDP datagram for a served address, as offsets into its frame.
#[derive(Debug, Clone, Copy)]
pub struct Datagram {
    /// As in [`Link`].
    pub tags_length: usize,
    version: Version,
    /// Offset behind the DNS message. Padding may follow in the frame.
    pub end: usize,
}

/// The message behind swapped headers, and the sum of those headers.
pub struct Turned<'f> {
    udp: Region<'f, UDP_LENGTH>,
    /// The DNS header.
    pub message: Region<'f, HEADER_LENGTH>,
    /// The sum of the pseudo-header and of the UDP header without its checksum.
    pub sum: Sum,
}

/// Version of the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

const IPV4_LENGTH: usize = Ipv4Hdr::LEN;
const IPV6_LENGTH: usize = Ipv6Hdr::LEN;
const UDP_LENGTH: usize = UdpHdr::LEN;
/// DNS header, root name, type and class (RFC 1035, section 4.1).
const MESSAGE_MIN: usize = HEADER_LENGTH + 1 + TYPE_CLASS_LENGTH;
/// TTL or hop limit of an answer (the assigned default, RFC 1340).
const HOPS: u8 = 64;

const ETHERNET_DESTINATION: Field<u64, 0> = Field::new();
const ETHERNET_SOURCE: Field<u64, 6> = Field::new();
const ETHERNET_TYPE: Field<u16, 12> = Field::new();
/// A tag's control information.
const TAG_CONTROL: Field<u16, 0> = Field::new();
/// The inner type behind a tag.
const TAG_TYPE: Field<u16, 2> = Field::new();

/// Version 4, five words of header (RFC 791, section 3.1).
const IPV4_PLAIN: u8 = 0x45;
/// The "more fragments" bit and the fragment's offset.
const IPV4_FRAGMENT: u16 = 0x3fff_u16.to_be();
/// The fragment's offset.
const IPV4_FRAGMENT_OFFSET: u16 = 0x1fff_u16.to_be();
/// The fragment's offset (RFC 8200, section 4.5).
const IPV6_FRAGMENT_OFFSET: u16 = 0xfff8_u16.to_be();
/// The most extension headers that are read.
const EXTENSIONS_MAX: usize = 4;
/// Octets of the shortest extension header.
const EXTENSION_LENGTH_MIN: usize = 8;
/// "Don't fragment". With this bit the identification has no meaning, and is zero here (RFC 6864, section 4.1).
const IPV4_WHOLE: u32 = 0x0000_4000_u32.to_be();

mod ipv4 {
    use crate::frame::Field;
    pub(super) const VERSION_IHL: Field<u8, 0> = Field::new();
    pub(super) const VERSION_TO_FRAGMENT: Field<u64, 0> = Field::new();
    pub(super) const TOTAL_LENGTH: Field<u16, 2> = Field::new();
    pub(super) const FRAGMENT: Field<u16, 6> = Field::new();
    pub(super) const TTL_TO_CHECKSUM: Field<u32, 8> = Field::new();
    pub(super) const PROTOCOL: Field<u8, 9> = Field::new();
    pub(super) const SOURCE: Field<u32, 12> = Field::new();
    pub(super) const DESTINATION: Field<u32, 16> = Field::new();
    pub(super) const SOURCE_PORT: Field<u16, 20> = Field::new();
    pub(super) const DESTINATION_PORT: Field<u16, 22> = Field::new();
}

mod ipv6 {
    use crate::frame::Field;
    pub(super) const VERSION_CLASS: Field<u8, 0> = Field::new();
    pub(super) const VERSION_TO_FLOW_LABEL: Field<u32, 0> = Field::new();
    pub(super) const LENGTH_TO_HOP_LIMIT: Field<u32, 4> = Field::new();
    pub(super) const PAYLOAD_LENGTH: Field<u16, 4> = Field::new();
    pub(super) const NEXT_HEADER: Field<u8, 6> = Field::new();
    pub(super) const SOURCE_HIGH: Field<u64, 8> = Field::new();
    pub(super) const SOURCE_LOW: Field<u64, 16> = Field::new();
    pub(super) const DESTINATION_HIGH: Field<u64, 24> = Field::new();
    pub(super) const DESTINATION_LOW: Field<u64, 32> = Field::new();
    pub(super) const SOURCE_PORT: Field<u16, 40> = Field::new();
    pub(super) const DESTINATION_PORT: Field<u16, 42> = Field::new();
}

/// Extension headers: their numbers (IANA, "IPv6 Extension Header Types") and the fields that they begin with.
mod extension {
    use crate::frame::Field;
    pub(super) const HOP_BY_HOP: u8 = 0;
    pub(super) const ROUTING: u8 = 43;
    pub(super) const FRAGMENT: u8 = 44;
    pub(super) const AUTHENTICATION: u8 = 51;
    pub(super) const DESTINATION_OPTIONS: u8 = 60;
    pub(super) const MOBILITY: u8 = 135;
    pub(super) const HIP: u8 = 139;
    pub(super) const SHIM6: u8 = 140;
    pub(super) const NEXT_HEADER: Field<u8, 0> = Field::new();
    pub(super) const LENGTH: Field<u8, 1> = Field::new();
    pub(super) const FRAGMENT_OFFSET: Field<u16, 2> = Field::new();
}

mod udp {
    use crate::frame::Field;
    pub(super) const SOURCE: Field<u16, 0> = Field::new();
    pub(super) const DESTINATION: Field<u16, 2> = Field::new();
    pub(super) const LENGTH: Field<u16, 4> = Field::new();
    pub(super) const CHECKSUM: Field<u16, 6> = Field::new();
    pub(super) const LENGTH_CHECKSUM: Field<u32, 4> = Field::new();
}

impl Link {
    /// Reads up to the IP header.
    #[inline(always)]
    pub fn read(frame: Frame<'_>) -> Result<Self, Outcome> {
        let ethernet: Region<'_, { EthHdr::LEN }> = frame.fixed(0).or_refuse(Outcome::NotForUs)?;
        let mac = ethernet.read(ETHERNET_DESTINATION) & Local::MAC;
        let mut ethertype = ethernet.read(ETHERNET_TYPE);
        let (mut tags, mut tags_length) = (Tags::NONE, 0);
        for _ in 0..Tags::MAX {
            let is_dot1ad = ethertype == EtherType::Ieee8021ad as u16;
            if !is_dot1ad && ethertype != EtherType::Ieee8021q as u16 {
                break;
            }
            let tag: Region<'_, { Tags::LENGTH }> =
                frame.region(EthHdr::LEN + tags_length).or_refuse(Outcome::NotForUs)?;
            ethertype = tag.read(TAG_TYPE);
            tags = tags.with(is_dot1ad, u16::from_be(tag.read(TAG_CONTROL)));
            tags_length += Tags::LENGTH;
        }
        let version = if ethertype == EtherType::Ipv4 as u16 {
            Version::V4
        } else if ethertype == EtherType::Ipv6 as u16 {
            Version::V6
        } else {
            return Outcome::NotForUs.refuse();
        };
        let tags = Tags(widen(tags.0.into(), mac) as u32);
        Ok(Link { tags_length: widen_offset(tags_length, mac), tags, mac, version })
    }

    /// Reads up to the message. First decides whether the frame is for the served port of a served address. Every later
    /// refusal therefore concerns a query to this server.
    #[inline(always)]
    pub fn datagram<P: Packet, H: Host>(
        &self,
        packet: &P,
        host: &H,
        version: Version,
    ) -> Result<Datagram, Outcome> {
        let datagram = |end| Datagram { tags_length: self.tags_length, version, end };
        let (datagram, local) = match version {
            Version::V4 => {
                let (end, local) = self.read_ipv4(packet, host)?;
                (datagram(end), local)
            }
            Version::V6 => {
                let (end, local) = self.read_ipv6(packet, host)?;
                (datagram(end), local)
            }
        };
        if local.mac & Local::GENERIC != 0
            && datagram.has_partial_checksum(datagram.frame(packet)).or_refuse(Outcome::Length)?
        {
            return Outcome::PartialChecksum.refuse();
        }
        Ok(datagram)
    }

    /// Returns the served address that the frame is for.
    #[inline(always)]
    fn local<'h, P: Packet, H: Host>(
        &self,
        packet: &P,
        host: &'h H,
        destination: [u64; 2],
    ) -> Result<&'h Local, Outcome> {
        let (interface, tags) = (packet.interface(), self.tags);
        let local = host.local(interface, tags, destination).or_refuse(Outcome::ForeignAddress)?;
        if local.address != destination || local.interface != interface || local.tags != tags {
            return Outcome::ForeignAddress.refuse();
        }
        if local.mac & Local::MAC != self.mac {
            let is_group = self.mac & Local::GROUP != 0;
            return if is_group { Outcome::GroupMac.refuse() } else { Outcome::ForeignMac.refuse() };
        }
        Ok(local)
    }

    /// Returns a number that the verifier does not know.
    #[inline(always)]
    pub fn unknown(&self) -> u64 {
        self.mac
    }

    /// Returns the same link, with a version that is a constant where this is inlined.
    #[inline(always)]
    pub fn of_version(self, version: Version) -> Link {
        Link { version, ..self }
    }

    /// Returns the sender's address, as [`address_words`](crate::table::address_words) has it.
    #[inline(always)]
    pub fn source<P: Packet>(&self, packet: &P) -> Option<[u64; 2]> {
        source(self.version, packet.frame().from(self.tags_length))
    }

    #[inline(always)]
    fn read_ipv4<'h, P: Packet, H: Host>(
        &self,
        packet: &P,
        host: &'h H,
    ) -> Result<(usize, &'h Local), Outcome> {
        let frame = packet.frame().from(self.tags_length);
        let ip: Region<'_, { IPV4_LENGTH + UDP_LENGTH }> =
            frame.fixed(EthHdr::LEN).or_refuse(Outcome::NotForUs)?;
        if ip.read(ipv4::PROTOCOL) != IpProto::Udp as u8 {
            return Outcome::NotForUs.refuse();
        }
        if ip.read(ipv4::VERSION_IHL) != IPV4_PLAIN || ip.read(ipv4::FRAGMENT) & IPV4_FRAGMENT != 0 {
            return self.refuse_ipv4(packet, host);
        }
        let udp = ip.part::<IPV4_LENGTH, UDP_LENGTH>();
        if udp.read(udp::DESTINATION) != host.port() {
            return Outcome::NotForUs.refuse();
        }
        let destination = [Local::IPV4, u64::from(ip.read(ipv4::DESTINATION))];
        let local = self.local(packet, host, destination)?;
        // "This network", loopback, multicast and above: RFC 6890.
        let source = ip.read(ipv4::SOURCE);
        if matches!(u32::from_be(source) >> 24, 0 | 127 | 224..) || source == ip.read(ipv4::DESTINATION) {
            return Outcome::SourceAddress.refuse();
        }
        let length = u16::from_be(ip.read(ipv4::TOTAL_LENGTH)).wrapping_sub(IPV4_LENGTH as u16);
        Ok((read_udp(packet, frame, udp, EthHdr::LEN + IPV4_LENGTH, length)?, local))
    }

    /// Refuses a header with options, or a fragment of a datagram. A later fragment does not contain its port, and is
    /// useless without the first.
    #[inline(always)]
    fn refuse_ipv4<T, P: Packet, H: Host>(&self, packet: &P, host: &H) -> Result<T, Outcome> {
        let frame = packet.frame().from(self.tags_length);
        let ip: Region<'_, { IPV4_LENGTH + UDP_LENGTH }> =
            frame.fixed(EthHdr::LEN).or_refuse(Outcome::NotForUs)?;
        let (version_ihl, fragment) = (ip.read(ipv4::VERSION_IHL), ip.read(ipv4::FRAGMENT));
        let length = 4 * usize::from(version_ihl & 0x0f);
        if version_ihl >> 4 != 4 || length < IPV4_LENGTH || fragment & IPV4_FRAGMENT_OFFSET != 0 {
            return Outcome::NotForUs.refuse();
        }
        let udp: Region<'_, UDP_LENGTH> = frame.region(EthHdr::LEN + length).or_refuse(Outcome::NotForUs)?;
        if udp.read(udp::DESTINATION) != host.port() {
            return Outcome::NotForUs.refuse();
        }
        self.local(packet, host, [Local::IPV4, u64::from(ip.read(ipv4::DESTINATION))])?;
        if fragment & IPV4_FRAGMENT == 0 { Outcome::IpHeader.refuse() } else { Outcome::Fragment.refuse() }
    }

    #[inline(always)]
    fn read_ipv6<'h, P: Packet, H: Host>(
        &self,
        packet: &P,
        host: &'h H,
    ) -> Result<(usize, &'h Local), Outcome> {
        let frame = packet.frame().from(self.tags_length);
        let ip: Region<'_, { IPV6_LENGTH + UDP_LENGTH }> =
            frame.fixed(EthHdr::LEN).or_refuse(Outcome::NotForUs)?;
        if ip.read(ipv6::VERSION_CLASS) >> 4 != 6 {
            return Outcome::NotForUs.refuse();
        }
        if ip.read(ipv6::NEXT_HEADER) != IpProto::Udp as u8 {
            return self.refuse_ipv6(packet, host);
        }
        let udp = ip.part::<IPV6_LENGTH, UDP_LENGTH>();
        if udp.read(udp::DESTINATION) != host.port() {
            return Outcome::NotForUs.refuse();
        }
        let destination = [ip.read(ipv6::DESTINATION_HIGH), ip.read(ipv6::DESTINATION_LOW)];
        // These 64 bits mark a served IPv4 address in the table. An IPv6 address that begins with them is a multicast
        // address.
        if destination[0] == Local::IPV4 {
            return Outcome::ForeignAddress.refuse();
        }
        let local = self.local(packet, host, destination)?;
        // ::/64 holds the unspecified, the loopback and the IPv4-mapped addresses, ff00::/8 is multicast: RFC 4291.
        let source = [ip.read(ipv6::SOURCE_HIGH), ip.read(ipv6::SOURCE_LOW)];
        if source[0] == 0 || u64::from_be(source[0]) >> 56 == 0xff || source == destination {
            return Outcome::SourceAddress.refuse();
        }
        let length = u16::from_be(ip.read(ipv6::PAYLOAD_LENGTH));
        let end = read_udp(packet, frame, udp, EthHdr::LEN + IPV6_LENGTH, length)?;
        // Only IPv4 allows a datagram without a checksum (RFC 8200, section 8.1).
        if udp.read(udp::CHECKSUM) == 0 {
            return Outcome::Checksum.refuse();
        }
        Ok((end, local))
    }

    /// Refuses extension headers (RFC 8200, section 4) and other protocols. A chain that is longer than the loop, or that
    /// leaves the frame, counts as a query: the next fragment may hold the rest.
    #[inline(always)]
    fn refuse_ipv6<T, P: Packet, H: Host>(&self, packet: &P, host: &H) -> Result<T, Outcome> {
        let frame = packet.frame().from(self.tags_length);
        let ip: Region<'_, IPV6_LENGTH> = frame.fixed(EthHdr::LEN).or_refuse(Outcome::NotForUs)?;
        let mut next = ip.read(ipv6::NEXT_HEADER);
        let mut at = EthHdr::LEN + IPV6_LENGTH;
        let mut outcome = Outcome::IpHeader;
        let region = |at| if at == Frame::MAX_LENGTH { None } else { frame.region::<UDP_LENGTH>(at) };
        for _ in 0..EXTENSIONS_MAX {
            if !is_extension(next) {
                break;
            }
            let Some(header) = region(at) else { break };
            let length = usize::from(header.read(extension::LENGTH));
            let length = match next {
                extension::FRAGMENT => {
                    if header.read(extension::FRAGMENT_OFFSET) & IPV6_FRAGMENT_OFFSET != 0 {
                        return Outcome::NotForUs.refuse();
                    }
                    outcome = Outcome::Fragment;
                    EXTENSION_LENGTH_MIN
                }
                extension::AUTHENTICATION => 4 * (length + 2),
                _ => 8 * (length + 1),
            };
            next = header.read(extension::NEXT_HEADER);
            // Octets behind this offset are not read.
            let behind = at + length;
            at = widen_offset(if behind > Frame::MAX_LENGTH { Frame::MAX_LENGTH } else { behind }, self.mac);
        }
        if next == IpProto::Udp as u8 {
            if region(at).is_some_and(|udp| udp.read(udp::DESTINATION) != host.port()) {
                return Outcome::NotForUs.refuse();
            }
        } else if !is_extension(next) {
            return Outcome::NotForUs.refuse();
        }
        self.local(packet, host, [ip.read(ipv6::DESTINATION_HIGH), ip.read(ipv6::DESTINATION_LOW)])?;
        outcome.refuse()
    }
}

/// Whether this "next header" number names an extension header. UDP may come behind such a header.
#[inline(always)]
const fn is_extension(next: u8) -> bool {
    use extension::*;
    matches!(
        next,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | MOBILITY | HIP | SHIM6
    )
}

/// Checks the UDP header and returns the offset behind the message. `length` is the number of octets from the UDP
/// header on, according to IP.
#[inline(always)]
fn read_udp<P: Packet>(
    packet: &P,
    frame: Frame<'_>,
    udp: Region<'_, UDP_LENGTH>,
    transport: usize,
    length: u16,
) -> Result<usize, Outcome> {
    if udp.read(udp::SOURCE) == 0 {
        return Outcome::SourcePort.refuse();
    }
    let udp_length = usize::from(u16::from_be(udp.read(udp::LENGTH)));
    let end = transport + udp_length;
    if !packet.is_linear()
        || udp_length != usize::from(length)
        || udp_length < UDP_LENGTH + MESSAGE_MIN
        || udp_length > UDP_LENGTH + UDP_SIZE as usize
        || end > frame.length()
    {
        return Outcome::Length.refuse();
    }
    Ok(end)
}

/// Returns the source address of an IP packet, as [`address_words`](crate::table::address_words) has it.
#[inline(always)]
fn source(version: Version, frame: Frame<'_>) -> Option<[u64; 2]> {
    match version {
        Version::V4 => {
            let ip: Region<'_, IPV4_LENGTH> = frame.fixed(EthHdr::LEN)?;
            Some([Local::IPV4, u64::from(ip.read(ipv4::SOURCE))])
        }
        Version::V6 => {
            let ip: Region<'_, IPV6_LENGTH> = frame.fixed(EthHdr::LEN)?;
            Some([ip.read(ipv6::SOURCE_HIGH), ip.read(ipv6::SOURCE_LOW)])
        }
    }
}

impl Datagram {
    /// Returns the frame as it is now, from the octet that offsets are counted from.
    #[inline(always)]
    pub fn frame<'p, P: Packet>(&self, packet: &'p P) -> Frame<'p> {
        packet.frame().from(self.tags_length)
    }

    /// Returns the offset of the DNS message.
    #[inline(always)]
    pub fn message(&self) -> usize {
        let ip = match self.version {
            Version::V4 => IPV4_LENGTH,
            Version::V6 => IPV6_LENGTH,
        };
        EthHdr::LEN + ip + UDP_LENGTH
    }

    /// Returns the sender's address, as [`address_words`](crate::table::address_words) has it.
    #[inline(always)]
    pub fn source(&self, frame: Frame<'_>) -> Option<[u64; 2]> {
        source(self.version, frame)
    }

    /// Returns the sender's port.
    #[inline(always)]
    pub fn source_port(&self, frame: Frame<'_>) -> Option<u16> {
        let udp: Region<'_, UDP_LENGTH> = frame.fixed(self.message() - UDP_LENGTH)?;
        Some(u16::from_be(udp.read(udp::SOURCE)))
    }

    /// Whether the checksum covers the pseudo-header alone. A local sender leaves such a checksum for the device to
    /// complete. One of 65,536 complete checksums has the same value.
    ///
    /// In generic mode the kernel would complete the checksum at its place in the query. The answer has the checksum at
    /// another place.
    #[inline(always)]
    fn has_partial_checksum(&self, frame: Frame<'_>) -> Option<bool> {
        let (addresses, udp): (Sum, Region<'_, UDP_LENGTH>) = match self.version {
            Version::V4 => {
                let ip: Region<'_, { IPV4_LENGTH + UDP_LENGTH }> = frame.fixed(EthHdr::LEN)?;
                let addresses = Sum::ZERO.add_u32(ip.read(ipv4::SOURCE)).add_u32(ip.read(ipv4::DESTINATION));
                (addresses, ip.part::<IPV4_LENGTH, _>())
            }
            Version::V6 => {
                let ip: Region<'_, { IPV6_LENGTH + UDP_LENGTH }> = frame.fixed(EthHdr::LEN)?;
                let source = Sum::ZERO.add_u64(ip.read(ipv6::SOURCE_HIGH)).add_u64(ip.read(ipv6::SOURCE_LOW));
                let addresses =
                    source.add_u64(ip.read(ipv6::DESTINATION_HIGH)).add_u64(ip.read(ipv6::DESTINATION_LOW));
                (addresses, ip.part::<IPV6_LENGTH, _>())
            }
        };
        let pseudo_header = addresses.add_u16(udp.read(udp::LENGTH)).add_u16((IpProto::Udp as u16).to_be());
        Some(udp.read(udp::CHECKSUM) == pseudo_header.fold())
    }

    /// Swaps the link's addresses. `from_frame` may begin further back than `to_frame`. `None` cannot happen, here or
    /// below, but the verifier demands the check.
    #[inline(always)]
    pub fn turn_link_round(&self, from_frame: Frame<'_>, to_frame: Frame<'_>) -> Option<()> {
        let from: Region<'_, { EthHdr::LEN }> = from_frame.fixed(0)?;
        let to: Region<'_, { EthHdr::LEN }> = to_frame.fixed(0)?;
        let (destination, source) = (from.read(ETHERNET_DESTINATION), from.read(ETHERNET_SOURCE));
        let ethertype = from.read(ETHERNET_TYPE);
        // Each address is written as 8 octets. The next write replaces the last two of them.
        to.write(ETHERNET_DESTINATION, source);
        to.write(ETHERNET_SOURCE, destination);
        to.write(ETHERNET_TYPE, ethertype);
        let (mut from, mut to) = (from_frame.fixed_cursor(EthHdr::LEN), to_frame.fixed_cursor(EthHdr::LEN));
        for tags in 1..=Tags::MAX {
            if tags * Tags::LENGTH > self.tags_length {
                break;
            }
            let tag: u32 = from.take()?;
            to.put(tag)?;
        }
        Some(())
    }

    /// Swaps addresses and ports, and sets the lengths for a message of `length` octets. Writes the new headers at the
    /// start of the frame. The old headers may begin further back.
    #[inline(always)]
    pub fn turn_round<'t>(&self, from: Frame<'_>, to: Frame<'t>, length: usize) -> Option<Turned<'t>> {
        match self.version {
            Version::V4 => Self::turn_round_ipv4(from, to, length),
            Version::V6 => Self::turn_round_ipv6(from, to, length),
        }
    }

    #[inline(always)]
    fn turn_round_ipv4<'t>(from: Frame<'_>, to: Frame<'t>, length: usize) -> Option<Turned<'t>> {
        let from: Region<'_, { IPV4_LENGTH + UDP_LENGTH }> = from.fixed(EthHdr::LEN)?;
        let to: Region<'_, { IPV4_LENGTH + UDP_LENGTH + HEADER_LENGTH }> = to.fixed(EthHdr::LEN)?;
        let (source, destination) = (from.read(ipv4::SOURCE), from.read(ipv4::DESTINATION));
        let (source_port, port) = (from.read(ipv4::SOURCE_PORT), from.read(ipv4::DESTINATION_PORT));
        let addresses = Sum::ZERO.add_u32(source).add_u32(destination);
        let total = (IPV4_LENGTH + UDP_LENGTH + length) as u16;
        let first = (u32::from(IPV4_PLAIN) << 24 | u32::from(total)).to_be();
        let ttl_protocol = (u16::from(HOPS) << 8 | IpProto::Udp as u16).to_be();
        let header = addresses.add_u32(first).add_u32(IPV4_WHOLE).add_u16(ttl_protocol);
        to.write(ipv4::VERSION_TO_FRAGMENT, u64::from(first) | u64::from(IPV4_WHOLE) << 32);
        to.write(ipv4::TTL_TO_CHECKSUM, u32::from(ttl_protocol) | u32::from(header.checksum()) << 16);
        to.write(ipv4::SOURCE, destination);
        to.write(ipv4::DESTINATION, source);
        to.write(ipv4::SOURCE_PORT, port);
        to.write(ipv4::DESTINATION_PORT, source_port);
        let (udp, message) = (to.part::<IPV4_LENGTH, _>(), to.part::<{ IPV4_LENGTH + UDP_LENGTH }, _>());
        Some(Turned { udp, message, sum: udp_sum(addresses.add_u16(source_port).add_u16(port), length) })
    }

    #[inline(always)]
    fn turn_round_ipv6<'t>(from: Frame<'_>, to: Frame<'t>, length: usize) -> Option<Turned<'t>> {
        let from: Region<'_, { IPV6_LENGTH + UDP_LENGTH }> = from.fixed(EthHdr::LEN)?;
        let to: Region<'_, { IPV6_LENGTH + UDP_LENGTH + HEADER_LENGTH }> = to.fixed(EthHdr::LEN)?;
        let source = [from.read(ipv6::SOURCE_HIGH), from.read(ipv6::SOURCE_LOW)];
        let destination = [from.read(ipv6::DESTINATION_HIGH), from.read(ipv6::DESTINATION_LOW)];
        let (source_port, port) = (from.read(ipv6::SOURCE_PORT), from.read(ipv6::DESTINATION_PORT));
        let addresses = Sum::ZERO.add_u64(source[0]).add_u64(source[1]);
        let addresses = addresses.add_u64(destination[0]).add_u64(destination[1]);
        let payload = (UDP_LENGTH + length) as u32;
        to.write(ipv6::VERSION_TO_FLOW_LABEL, 0x6000_0000_u32.to_be());
        to.write(
            ipv6::LENGTH_TO_HOP_LIMIT,
            (payload << 16 | (IpProto::Udp as u32) << 8 | u32::from(HOPS)).to_be(),
        );
        to.write(ipv6::SOURCE_HIGH, destination[0]);
        to.write(ipv6::SOURCE_LOW, destination[1]);
        to.write(ipv6::DESTINATION_HIGH, source[0]);
        to.write(ipv6::DESTINATION_LOW, source[1]);
        to.write(ipv6::SOURCE_PORT, port);
        to.write(ipv6::DESTINATION_PORT, source_port);
        let (udp, message) = (to.part::<IPV6_LENGTH, _>(), to.part::<{ IPV6_LENGTH + UDP_LENGTH }, _>());
        Some(Turned { udp, message, sum: udp_sum(addresses.add_u16(source_port).add_u16(port), length) })
    }
}

impl Turned<'_> {
    /// Writes the UDP length and checksum. `sum` is the sum of everything else (RFC 768; RFC 8200, section 8.1).
    #[inline(always)]
    pub fn seal(&self, length: usize, sum: Sum) {
        let length = ((UDP_LENGTH + length) as u16).to_be();
        self.udp.write(udp::LENGTH_CHECKSUM, u32::from(length) | u32::from(sum.udp_checksum()) << 16);
    }
}

/// Returns the UDP sum. The length counts twice: in the pseudo-header and in the UDP header.
#[inline(always)]
fn udp_sum(addresses_ports: Sum, length: usize) -> Sum {
    let length = ((UDP_LENGTH + length) as u16).to_be();
    addresses_ports.add_u16(length).add_u16(length).add_u16((IpProto::Udp as u16).to_be())
}
