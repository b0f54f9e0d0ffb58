//! The sockets of the served addresses, and what to do where an address cannot be had.
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::counters::Transport;

/// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Octets that may wait in a UDP socket. A daemon that takes over binds its sockets when it begins to start and reads
/// them when it is ready: at a page for each datagram, which is what a driver with XDP takes, it is a thousand of them.
const UDP_BUFFER: usize = 4 << 20;

/// One UDP socket and one TCP listener for each address served.
#[derive(Debug)]
pub struct Sockets {
    pub(super) udp: Vec<UdpSocket>,
    pub(super) tcp: Vec<TcpListener>,
}

impl Sockets {
    /// The addresses and ports served, the same over UDP and TCP.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.tcp.iter().map(TcpListener::local_addr).collect()
    }
}

/// Why an address cannot be served.
#[derive(Debug, Error)]
pub enum BindError {
    /// EADDRINUSE
    #[error(
        "{transport} port {port} on {address} is taken (systemd-resolved or dnsmasq often hold it): \
         see `ss -lntup sport = :{port}`, and stop what is there or keep it off {address}"
    )]
    Taken {
        /// The address asked for.
        address: IpAddr,
        /// The port asked for.
        port: u16,
        /// `udp` or `tcp`.
        transport: &'static str,
    },
    /// EACCES
    #[error("may not bind port {port} on {address}: run as root, or with CAP_NET_BIND_SERVICE")]
    Denied {
        /// The address asked for.
        address: IpAddr,
        /// The port asked for.
        port: u16,
    },
    /// EADDRNOTAVAIL
    #[error(
        "{address} is not an address of this machine, or not ready yet: see `ip address`, \
         and correct `[listen] addresses`"
    )]
    Missing {
        /// The address asked for.
        address: IpAddr,
    },
    /// `0.0.0.0` or `::`, from which an answer might leave with another source than was asked.
    #[error("{address} is not one address: name in `[listen] addresses` those that clients ask")]
    Unspecified {
        /// The address asked for.
        address: IpAddr,
    },
    /// Anything else.
    #[error("binding port {port} on {address}")]
    Other {
        /// The address asked for.
        address: IpAddr,
        /// The port asked for.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Binds UDP and TCP on each of the addresses, and on no wildcard, so that an answer leaves from the address
/// that was asked (RFC 2181, section 4.1). Port 0 takes a free one for each address.
///
/// SO_REUSEPORT lets a daemon that takes over bind beside the running one. It lets any other process of the
/// same user do so too, and the kernel then shares the queries out among them: that no second daemon runs
/// unknowingly is for the caller to see to.
///
/// # Errors
/// The first address that cannot be had; nothing is left bound then.
pub fn bind(addresses: &[IpAddr], port: u16) -> Result<Sockets, BindError> {
    let mut sockets = Sockets { udp: Vec::new(), tcp: Vec::new() };
    for &address in addresses {
        if address.is_unspecified() {
            return Err(BindError::Unspecified { address });
        }
        let endpoint = SocketAddr::new(address, port);
        let listener = listener(endpoint).map_err(|error| explain(error, endpoint, Transport::Tcp))?;
        // The same port for both, also when the kernel chose it.
        let endpoint = listener.local_addr().map_err(|error| explain(error, endpoint, Transport::Tcp))?;
        sockets.udp.push(socket(endpoint).map_err(|error| explain(error, endpoint, Transport::Udp))?);
        sockets.tcp.push(listener);
    }
    Ok(sockets)
}

fn listener(endpoint: SocketAddr) -> io::Result<TcpListener> {
    let socket = unbound(endpoint, Type::STREAM, Protocol::TCP)?;
    // Connections of a predecessor may linger in TIME_WAIT. Not for UDP, where it would let us share the port
    // with a server that knows nothing of it.
    socket.set_reuse_address(true)?;
    socket.bind(&endpoint.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(endpoint: SocketAddr) -> io::Result<UdpSocket> {
    let socket = unbound(endpoint, Type::DGRAM, Protocol::UDP)?;
    if setsockopt(&socket, sockopt::RcvBufForce, &UDP_BUFFER).is_err() {
        // Without CAP_NET_ADMIN the kernel caps it at net.core.rmem_max.
        socket.set_recv_buffer_size(UDP_BUFFER)?;
    }
    socket.bind(&endpoint.into())?;
    Ok(socket.into())
}

fn unbound(endpoint: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(endpoint), kind, Some(protocol))?;
    if endpoint.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn explain(source: io::Error, endpoint: SocketAddr, transport: Transport) -> BindError {
    let (address, port) = (endpoint.ip(), endpoint.port());
    let transport = match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
    };
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::Taken { address, port, transport },
        io::ErrorKind::PermissionDenied => BindError::Denied { address, port },
        io::ErrorKind::AddrNotAvailable => BindError::Missing { address },
        _ => BindError::Other { address, port, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn both_transports_of_an_address_have_the_same_port() {
        let sockets = bind(&[LOOPBACK, LOOPBACK], 0).unwrap();
        let udp: Vec<_> = sockets.udp.iter().map(|socket| socket.local_addr().unwrap()).collect();
        assert_eq!(sockets.addresses().unwrap(), udp);
        assert_ne!(udp[0], udp[1]);
    }

    #[test]
    fn a_daemon_that_takes_over_binds_beside_the_running_one() {
        let running = bind(&[LOOPBACK], 0).unwrap();
        let port = running.addresses().unwrap()[0].port();
        assert!(bind(&[LOOPBACK], port).is_ok());
    }

    #[test]
    fn a_port_that_another_server_holds_is_named_with_the_remedy() {
        let other = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        let message = bind(&[LOOPBACK], port).unwrap_err().to_string();
        assert!(message.starts_with(&format!("udp port {port} on 127.0.0.1 is taken")), "{message}");
        assert!(message.contains(&format!("`ss -lntup sport = :{port}`")), "{message}");
    }

    #[test]
    fn an_address_that_the_machine_does_not_have_is_named() {
        let address = "192.0.2.1".parse().unwrap();
        assert!(
            matches!(bind(&[address], 0), Err(BindError::Missing { address: named }) if named == address)
        );
    }

    #[test]
    fn a_wildcard_address_is_refused() {
        let error = bind(&["::".parse().unwrap()], 0).unwrap_err();
        assert!(matches!(error, BindError::Unspecified { .. }));
    }
}
