//! Datagrams from addresses that are not the sender's.
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use anyhow::{Context, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};

use crate::bed::netns::Namespace;
use crate::oracle::frames::{Checksum, Datagram};
use crate::oracle::table::zone::{ask, over_ipv4, over_ipv6};

/// The length of an Ethernet header, which the kernel makes.
const LINK: usize = 14;

/// Sockets that send whole IP packets, one for each family.
#[derive(Debug)]
pub struct Spoofer {
    sockets: [OwnedFd; 2],
}

impl Spoofer {
    /// Opens the sockets, which stay in `from`.
    ///
    /// # Errors
    /// The caller is not root.
    pub fn open(from: &Namespace) -> Result<Self> {
        let open = |family| {
            socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw)
                .context("cannot open a raw socket")
        };
        from.enter(|| Ok(Spoofer { sockets: [open(AddressFamily::Inet)?, open(AddressFamily::Inet6)?] }))
    }

    /// Sends a message that seems to come from `source`; both addresses are of one family.
    ///
    /// # Errors
    /// There is no route to the destination.
    pub fn send(&self, source: SocketAddr, destination: SocketAddr, message: &[u8]) -> Result<()> {
        self.send_datagram(&Spoofer::datagram(source, destination, message))
    }

    /// Returns the datagram of such a message.
    pub fn datagram(source: SocketAddr, destination: SocketAddr, message: &[u8]) -> Datagram {
        let plain = ask("@", 1);
        Datagram {
            source: source.ip(),
            destination: destination.ip(),
            source_port: source.port(),
            destination_port: destination.port(),
            checksum: Checksum::Whole,
            message: message.to_vec(),
            ..if destination.is_ipv4() { over_ipv4(&plain) } else { over_ipv6(&plain) }
        }
    }

    /// Sends a datagram unchanged, except for its Ethernet header.
    ///
    /// # Errors
    /// There is no route to the destination.
    pub fn send_datagram(&self, datagram: &Datagram) -> Result<()> {
        let Datagram { source, destination, .. } = datagram;
        let descriptor = &self.sockets[usize::from(destination.is_ipv6())];
        // A raw socket has no ports.
        let to: SockaddrStorage = SocketAddr::new(*destination, 0).into();
        sendto(descriptor.as_raw_fd(), &datagram.frame()[LINK..], &to, MsgFlags::empty())
            .with_context(|| format!("cannot send to {destination} as {source}"))?;
        Ok(())
    }
}

/// Port 53 of an address.
pub fn server(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 53)
}
