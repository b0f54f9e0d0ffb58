//! Frames for the tests, built and parsed without any of the tested code.
pub mod message;
pub mod read;
pub mod reply;

use std::net::IpAddr;

/// A MAC address.
pub type Mac = [u8; 6];

/// EtherType of an 802.1Q tag.
pub const TAG: u16 = 0x8100;
/// EtherType of an 802.1ad tag.
pub const SERVICE_TAG: u16 = 0x88a8;
/// The protocol number of UDP.
pub const UDP: u8 = 17;
/// More fragments follow (RFC 791, section 3.1).
pub const MORE_FRAGMENTS: u16 = 0x2000;

/// A DNS message in its UDP datagram and its frame, as a client sends it. Every field is sent as given, valid or not; a
/// field that is `None` gets its valid value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The destination MAC address.
    pub destination_mac: Mac,
    /// The source MAC address.
    pub source_mac: Mac,
    /// The EtherType and the rest of each VLAN tag, the outermost first.
    pub tags: Vec<(u16, u16)>,
    /// The EtherType behind the tags.
    pub ethertype: Option<u16>,
    /// The datagram's source; both addresses are of one family.
    pub source: IpAddr,
    /// The datagram's destination.
    pub destination: IpAddr,
    /// First octet of the IP header: the version, and in IPv4 the length in words.
    pub version: Option<u8>,
    /// IPv4 options, or IPv6 extension headers.
    pub ip_options: Vec<u8>,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// The protocol, or the next header.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 total length or IPv6 payload length, in octets.
    pub ip_length: Option<u16>,
    /// Port that the datagram comes from.
    pub source_port: u16,
    /// Port that it goes to.
    pub destination_port: u16,
    /// Octets of UDP header and message.
    pub udp_length: Option<u16>,
    /// The UDP checksum.
    pub checksum: Checksum,
    /// The DNS message.
    pub message: Vec<u8>,
    /// The octets after the datagram.
    pub padding: Vec<u8>,
}

/// The kind of UDP checksum of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksum {
    /// A complete checksum.
    Whole,
    /// No checksum (RFC 768).
    Zero,
    /// The sum of the pseudo-header alone, which a local sender leaves for the interface to complete.
    Partial,
}

impl Datagram {
    /// The frame.
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = [self.destination_mac, self.source_mac].concat();
        for (ethertype, control) in &self.tags {
            frame.extend(octets(&[*ethertype, *control]));
        }
        frame.extend(self.ethertype().to_be_bytes());
        let udp = self.udp();
        frame.extend(if self.source.is_ipv4() { self.ipv4(udp.len()) } else { self.ipv6(udp.len()) });
        frame.extend(udp);
        frame.extend(&self.padding);
        frame
    }

    fn ethertype(&self) -> u16 {
        self.ethertype.unwrap_or(if self.source.is_ipv4() { 0x0800 } else { 0x86dd })
    }

    fn ipv4(&self, udp_length: usize) -> Vec<u8> {
        let header_length = 20 + self.ip_options.len();
        let version = self.version.unwrap_or(0x40 | length(header_length / 4) as u8);
        let total = self.ip_length.unwrap_or(length(header_length + udp_length));
        let identification = 0x4d49;
        let mut header = vec![version, 0];
        header.extend(octets(&[total, identification, self.fragment]));
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(address(self.source));
        header.extend(address(self.destination));
        header.extend(&self.ip_options);
        let checksum = !sum(&[&header]);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }

    fn ipv6(&self, udp_length: usize) -> Vec<u8> {
        let payload = self.ip_length.unwrap_or(length(self.ip_options.len() + udp_length));
        // A traffic class and a flow label, which an answer does not copy.
        let mut header = vec![self.version.unwrap_or(0x6a), 0xb1, 0xc2, 0xd3];
        header.extend(payload.to_be_bytes());
        header.extend([self.protocol, self.ttl]);
        header.extend(address(self.source));
        header.extend(address(self.destination));
        header.extend(&self.ip_options);
        header
    }

    fn udp(&self) -> Vec<u8> {
        let length = self.udp_length.unwrap_or(length(8 + self.message.len()));
        let mut udp = octets(&[self.source_port, self.destination_port, length, 0]);
        udp.extend(&self.message);
        let pseudo = pseudo_header(self.source, self.destination, udp.len());
        let checksum = match self.checksum {
            Checksum::Zero => 0,
            Checksum::Partial => sum(&[&pseudo]),
            Checksum::Whole => match !sum(&[&pseudo, &udp]) {
                0 => 0xffff,
                checksum => checksum,
            },
        };
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        udp
    }
}

/// The octets of 16-bit numbers in network order.
pub fn octets(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ipv4) => ipv4.octets().to_vec(),
        IpAddr::V6(ipv6) => ipv6.octets().to_vec(),
    }
}

/// The pseudo-header, which the UDP checksum covers besides the datagram (RFC 768; RFC 8200, section 8.1).
fn pseudo_header(source: IpAddr, destination: IpAddr, udp_length: usize) -> Vec<u8> {
    let length = [&[0, 0], &length(udp_length).to_be_bytes()[..], &[0, 0, 0, UDP]].concat();
    [address(source), address(destination), length].concat()
}

/// The ones' complement sum (RFC 1071) of parts; all parts except the last have an even number of octets.
fn sum(parts: &[&[u8]]) -> u16 {
    let octets = parts.concat();
    let words =
        octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn length(octets: usize) -> u16 {
    u16::try_from(octets).expect("a datagram has less than 64 KiB")
}
