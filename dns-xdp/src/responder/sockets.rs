//! The sockets of the served addresses, and the errors if an address cannot be bound.
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use thiserror::Error;

use super::counters::Transport;
use crate::network::Listener;

/// The name of this program's process.
pub(crate) const DAEMON: &str = "dns-xdp";

/// The most connections that wait to be accepted. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 1024;

/// Seconds after which a silent connection is accepted (TCP_DEFER_ACCEPT, tcp(7)).
const SILENT_SECONDS: i32 = 1;

/// Octets that may wait in a UDP socket. A daemon that takes over binds its sockets early, and reads them when it is
/// ready. A driver with XDP uses a page for each datagram, so about 1,000 datagrams fit.
const UDP_BUFFER: usize = 4 << 20;

/// The sockets of the served addresses, on one port.
#[derive(Debug)]
pub struct Sockets {
    pub(super) port: u16,
    pub(super) bound: Vec<(Listener, Bound)>,
}

/// The sockets of one address.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) udp: UdpSocket,
    pub(super) tcp: TcpListener,
}

impl Sockets {
    /// Makes an empty set of sockets. Port 0 takes a free port for each address.
    pub fn new(port: u16) -> Self {
        Sockets { port, bound: Vec::new() }
    }

    /// Binds UDP and TCP on an address.
    ///
    /// # Errors
    /// The address cannot be bound. The others stay bound.
    pub fn add(&mut self, listener: &Listener) -> Result<(), BindError> {
        self.bound.push((listener.clone(), Bound::new(listener, self.port)?));
        Ok(())
    }

    /// Returns the served addresses and ports, which are the same over UDP and TCP.
    ///
    /// # Errors
    /// The errors of getsockname(2).
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.bound.iter().map(|(_, bound)| bound.tcp.local_addr()).collect()
    }
}

/// Why an address cannot be served.
#[derive(Debug, Error)]
pub enum BindError {
    /// EADDRINUSE
    #[error("{transport} port {port} on {address} is taken{}", advice(holder.as_ref(), *address, *port))]
    Taken {
        /// The address asked for.
        address: IpAddr,
        /// The port asked for.
        port: u16,
        /// `udp` or `tcp`.
        transport: &'static str,
        /// The process that holds it, if it was looked up.
        holder: Option<(u32, String)>,
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
        "{address} is not an address that can be bound: see `ip address`, and correct `[listen] addresses`"
    )]
    Missing {
        /// The address asked for.
        address: IpAddr,
    },
    /// `0.0.0.0` or `::`. The source address of an answer could differ from the destination of the query.
    #[error("{address} is not one address: name the addresses that clients ask in `[listen] addresses`")]
    Unspecified {
        /// The address asked for.
        address: IpAddr,
    },
    /// Any other error.
    #[error("binding port {port} on {address}")]
    Other {
        /// The address asked for.
        address: IpAddr,
        /// The port asked for.
        port: u16,
        /// The kernel's error.
        source: io::Error,
    },
}

/// Returns what to do about a port that is taken.
fn advice(holder: Option<&(u32, String)>, address: IpAddr, port: u16) -> String {
    match holder {
        Some((pid, name)) if name == DAEMON => {
            format!(" by another {name} (pid {pid}): stop it, or give `run --replace` its [control] socket")
        }
        Some((pid, name)) => format!(" by {name} (pid {pid}): stop it or keep it off {address}"),
        None => format!(
            " (systemd-resolved or dnsmasq often hold it): see `ss -lntup sport = :{port}`, \
             and stop that process or keep it off {address}"
        ),
    }
}

/// Binds UDP and TCP on each of the addresses, not on a wildcard. An answer therefore leaves from the queried address
/// (RFC 2181, section 4.1). An address that the machine does not have yet is bound too (IP_FREEBIND).
///
/// SO_REUSEPORT lets a daemon that takes over bind beside the running one. It also lets any other process of the same
/// user do so, and the kernel would then divide the queries among them. [`probe`] finds such a process.
///
/// # Errors
/// The first address that cannot be bound. No address is then bound.
pub fn bind(listeners: &[Listener], port: u16) -> Result<Sockets, BindError> {
    let mut sockets = Sockets::new(port);
    listeners.iter().try_for_each(|listener| sockets.add(listener))?;
    Ok(sockets)
}

/// Checks that no process holds the port on one of the addresses. It also finds a process of the same user, although
/// [`bind`] would succeed beside it. [`bind`] reports all other reasons.
///
/// # Errors
/// [`BindError::Taken`] for the first address with a held port.
pub fn probe(listeners: &[Listener], port: u16) -> Result<(), BindError> {
    for listener in listeners {
        let endpoint = SocketAddr::new(listener.address, port);
        let kinds =
            [(Transport::Udp, Type::DGRAM, Protocol::UDP), (Transport::Tcp, Type::STREAM, Protocol::TCP)];
        for (transport, kind, protocol) in kinds {
            let bound = unbound(endpoint, kind, protocol, listener.device.as_deref()).and_then(|socket| {
                // A connection in TIME_WAIT is not a holder.
                socket.set_reuse_address(transport == Transport::Tcp)?;
                socket.bind(&endpoint.into())
            });
            let taken = bound.err().filter(|error| error.kind() == io::ErrorKind::AddrInUse);
            taken.map_or(Ok(()), |error| Err(explain(error, endpoint, transport)))?;
        }
    }
    Ok(())
}

impl Bound {
    /// Binds UDP and TCP on an address. Port 0 takes a free port, the same for both.
    pub(super) fn new(listener: &Listener, port: u16) -> Result<Self, BindError> {
        let Listener { address, device } = listener;
        if address.is_unspecified() {
            return Err(BindError::Unspecified { address: *address });
        }
        let endpoint = SocketAddr::new(*address, port);
        let of_tcp = |error| explain(error, endpoint, Transport::Tcp);
        let tcp = tcp(endpoint, device.as_deref()).map_err(of_tcp)?;
        let endpoint = tcp.local_addr().map_err(of_tcp)?;
        let udp = udp(endpoint, device.as_deref());
        Ok(Bound { udp: udp.map_err(|error| explain(error, endpoint, Transport::Udp))?, tcp })
    }
}

fn tcp(endpoint: SocketAddr, device: Option<&str>) -> io::Result<TcpListener> {
    let socket = unbound(endpoint, Type::STREAM, Protocol::TCP, device)?;
    socket.set_reuse_port(true)?;
    // Connections of a predecessor may linger in TIME_WAIT. For UDP this option would share the port with another
    // server, so it is not set there.
    socket.set_reuse_address(true)?;
    socket.bind(&endpoint.into())?;
    await_message(&socket)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn udp(endpoint: SocketAddr, device: Option<&str>) -> io::Result<UdpSocket> {
    let socket = unbound(endpoint, Type::DGRAM, Protocol::UDP, device)?;
    socket.set_reuse_port(true)?;
    if setsockopt(&socket, sockopt::RcvBufForce, &UDP_BUFFER).is_err() {
        // Without CAP_NET_ADMIN the kernel caps the size at net.core.rmem_max.
        socket.set_recv_buffer_size(UDP_BUFFER)?;
    }
    forget_path_mtu(&socket, endpoint)?;
    socket.bind(&endpoint.into())?;
    Ok(socket.into())
}

/// Sends datagrams unfragmented, and ignores what ICMP messages say about the path: they can be forged (RFC 9715,
/// section 3.1).
fn forget_path_mtu(socket: &Socket, endpoint: SocketAddr) -> io::Result<()> {
    let (level, option, value) = if endpoint.is_ipv6() {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_OMIT)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT)
    };
    set_option(socket, level, option, value)
}

/// Makes the kernel deliver a connection when its first message arrives, or after [`SILENT_SECONDS`]. The message is
/// then read at once. Until then the connection does not count for the limit, so a newer one cannot displace it.
fn await_message(socket: &Socket) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, SILENT_SECONDS)
}

/// Sets an option of a socket whose value is an `int`.
fn set_option(socket: &Socket, level: i32, option: i32, value: i32) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    #[expect(unsafe_code, reason = "no library has these options")]
    // SAFETY: the option is an int, which lives until the call returns.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes a socket that can be bound to an address that does not exist or is not ready yet. `device`: its VRF.
fn unbound(endpoint: SocketAddr, kind: Type, protocol: Protocol, device: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(endpoint), kind, Some(protocol))?;
    if endpoint.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    if let Some(device) = device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
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
        io::ErrorKind::AddrInUse => BindError::Taken { address, port, transport, holder: None },
        io::ErrorKind::PermissionDenied => BindError::Denied { address, port },
        io::ErrorKind::AddrNotAvailable => BindError::Missing { address },
        _ => BindError::Other { address, port, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn on(address: IpAddr) -> [Listener; 1] {
        [Listener::from(address)]
    }

    #[test]
    fn both_transports_of_an_address_have_the_same_port() {
        let sockets = bind(&[on(LOOPBACK), on(LOOPBACK)].concat(), 0).unwrap();
        let udp: Vec<_> = sockets.bound.iter().map(|(_, bound)| bound.udp.local_addr().unwrap()).collect();
        assert_eq!(sockets.addresses().unwrap(), udp);
        assert_ne!(udp[0], udp[1]);
    }

    #[test]
    fn a_daemon_that_takes_over_binds_beside_the_running_one_which_a_probe_tells_of() {
        let running = bind(&on(LOOPBACK), 0).unwrap();
        let port = running.addresses().unwrap()[0].port();
        assert!(matches!(probe(&on(LOOPBACK), port), Err(BindError::Taken { .. })));
        assert!(bind(&on(LOOPBACK), port).is_ok());
        drop(running);
        probe(&on(LOOPBACK), port).unwrap();
    }

    #[test]
    fn a_probe_looks_at_both_transports() {
        let (udp, tcp) = (UdpSocket::bind((LOOPBACK, 0)).unwrap(), TcpListener::bind((LOOPBACK, 0)).unwrap());
        for (transport, taken) in [("udp", udp.local_addr().unwrap()), ("tcp", tcp.local_addr().unwrap())] {
            let message = probe(&on(LOOPBACK), taken.port()).unwrap_err().to_string();
            assert!(message.starts_with(transport), "{message}");
        }
    }

    #[test]
    fn a_port_that_another_server_holds_is_named_with_the_remedy() {
        let other = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        let port = other.local_addr().unwrap().port();
        let message = bind(&on(LOOPBACK), port).unwrap_err().to_string();
        assert!(message.starts_with(&format!("udp port {port} on 127.0.0.1 is taken")), "{message}");
        assert!(message.contains(&format!("`ss -lntup sport = :{port}`")), "{message}");
        let held = |name: &str| advice(Some(&(7, name.to_owned())), LOOPBACK, 53);
        assert_eq!(held("named"), " by named (pid 7): stop it or keep it off 127.0.0.1");
        assert!(held(DAEMON).contains("pid 7") && held(DAEMON).contains("--replace"));
    }

    #[test]
    fn an_address_that_the_machine_does_not_have_is_bound() {
        for address in ["192.0.2.1", "2001:db8::1"] {
            let address: IpAddr = address.parse().unwrap();
            let sockets = bind(&on(address), 0).unwrap();
            assert_eq!(sockets.addresses().unwrap()[0].ip(), address);
        }
    }

    #[test]
    fn a_vrf_that_is_not_there_keeps_one_address_from_being_bound() {
        let mut sockets = Sockets::new(0);
        let device = Some("novrf0".to_owned());
        let error = sockets.add(&Listener { address: LOOPBACK, device }).unwrap_err();
        assert!(matches!(error, BindError::Other { .. }), "{error}");
        sockets.add(&on(LOOPBACK)[0]).unwrap();
    }

    #[test]
    fn a_wildcard_address_is_refused() {
        let error = bind(&on("::".parse().unwrap()), 0).unwrap_err();
        assert!(matches!(error, BindError::Unspecified { .. }));
    }
}
