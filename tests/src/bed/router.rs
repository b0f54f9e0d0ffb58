//! A router to a network behind the switch, which forwards packets, or refuses them after a delay with any ICMP code.
//!
//! ```text
//!   node1 … nodeN      router        far
//!     │       │          │            │
//!   ══╧═══════╧══════════╧════════════╧══      one switch, two networks: `far` is reached only through the router
//! ```
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use dns_xdp_ebpf::checksum::Sum;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::bed::cluster::Cluster;
use crate::bed::netns::Namespace;

/// The host behind the router.
pub const FAR: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 2))];
/// The router's addresses, on both sides.
const NEAR_SIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
const FAR_SIDE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1))];
/// The delay of a refusal.
const LATE: Duration = Duration::from_millis(50);
/// The time between two checks whether the router has to end.
const POLL: Duration = Duration::from_millis(50);
const LONGEST_PACKET: usize = 2048;
/// The type of "destination unreachable" (RFC 792; RFC 4443, section 3.1).
const IPV4_UNREACHABLE: u8 = 3;
const IPV6_UNREACHABLE: u8 = 1;
const RETURNED: usize = 512;

/// The router. A drop ends its refusals.
#[derive(Debug)]
pub struct Router {
    /// The namespace of the router.
    pub namespace: Namespace,
    /// The namespace of [`FAR`].
    pub far: Namespace,
    refused: Arc<Mutex<Refused>>,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The code to refuse with, and the refusals so far.
#[derive(Debug, Default)]
struct Refused {
    code: Option<u8>,
    times: BTreeMap<u8, usize>,
}

impl Router {
    /// Connects the router and the far host, and gives each node the route to it.
    ///
    /// # Errors
    /// The caller is not root.
    pub fn start(cluster: &mut Cluster) -> Result<Self> {
        let (namespace, _) = cluster.plug("router", &[NEAR_SIDE, FAR_SIDE].concat())?;
        let (far, _) = cluster.plug("far", &FAR)?;
        let [near4, near6] = NEAR_SIDE;
        let [far4, far6] = FAR_SIDE;
        far.ip(&format!("route add 192.0.2.0/24 via {far4}\nroute add 2001:db8::/64 via {far6}\n"))?;
        for node in &cluster.nodes {
            let ways =
                format!("route add 198.51.100.0/24 via {near4}\nroute add 2001:db8:1::/64 via {near6}\n");
            node.namespace.ip(&ways)?;
        }
        // The two networks are on one switch. The router would send redirects because of that.
        for station in cluster.nodes.iter().map(|node| &node.namespace).chain([&far]) {
            set(station, "ipv6/conf/eth0/accept_redirects", "0")?;
        }
        for scope in ["all", "eth0"] {
            set(&namespace, &format!("ipv4/conf/{scope}/send_redirects"), "0")?;
        }
        let (refused, over) = (Arc::new(Mutex::new(Refused::default())), Arc::new(AtomicBool::new(false)));
        let refuser = Refuser::open(&namespace)?;
        let thread = thread::spawn({
            let (refused, over) = (refused.clone(), over.clone());
            move || refuser.run(&refused, &over)
        });
        let router = Router { namespace, far, refused, over, thread: Some(thread) };
        router.forward(true)?;
        Ok(router)
    }

    /// Refuses all packets to the far host with this code of "destination unreachable".
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn refuse(&self, code: u8) -> Result<()> {
        self.forward(false)?;
        lock(&self.refused).code = Some(code);
        Ok(())
    }

    /// Forwards packets again.
    ///
    /// # Errors
    /// The namespace is gone.
    pub fn open(&self) -> Result<()> {
        lock(&self.refused).code = None;
        self.forward(true)
    }

    /// The number of packets refused with this code.
    pub fn refusals(&self, code: u8) -> usize {
        lock(&self.refused).times.get(&code).copied().unwrap_or(0)
    }

    /// Switches forwarding on or off. A kernel that does not forward silently drops packets for other hosts.
    fn forward(&self, whether: bool) -> Result<()> {
        let value = if whether { "1" } else { "0" };
        set(&self.namespace, "ipv4/ip_forward", value)?;
        set(&self.namespace, "ipv6/conf/all/forwarding", value)
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn lock(refused: &Mutex<Refused>) -> MutexGuard<'_, Refused> {
    refused.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set(namespace: &Namespace, name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    namespace.enter(|| fs::write(&path, value).with_context(|| format!("cannot write {path}")))
}

/// Receives the packets and sends the refusals as whole IP packets, with one socket for each family.
struct Refuser {
    packets: OwnedFd,
    senders: [Arc<OwnedFd>; 2],
}

impl Refuser {
    fn open(namespace: &Namespace) -> Result<Self> {
        namespace.enter(|| {
            let packets =
                socket(AddressFamily::Packet, SockType::Datagram, SockFlag::empty(), SockProtocol::EthAll)
                    .context("cannot open a packet socket")?;
            setsockopt(&packets, sockopt::ReceiveTimeout, &TimeVal::new(0, POLL.as_micros().try_into()?))?;
            let sender = |family| {
                socket(family, SockType::Raw, SockFlag::empty(), SockProtocol::Raw)
                    .context("cannot open a raw socket")
                    .map(Arc::new)
            };
            let senders = [sender(AddressFamily::Inet)?, sender(AddressFamily::Inet6)?];
            Ok(Refuser { packets, senders })
        })
    }

    fn run(&self, refused: &Mutex<Refused>, over: &AtomicBool) {
        let mut buffer = [0; LONGEST_PACKET];
        while !over.load(Ordering::Relaxed) {
            let Ok(length) = recv(self.packets.as_raw_fd(), &mut buffer, MsgFlags::empty()) else { continue };
            let Some(code) = lock(refused).code else { continue };
            let Some((to, refusal)) = refusal(&buffer[..length], code) else { continue };
            *lock(refused).times.entry(code).or_default() += 1;
            let sender = self.senders[usize::from(to.is_ipv6())].clone();
            thread::spawn(move || {
                thread::sleep(LATE);
                let to: SockaddrStorage = SocketAddr::new(to, 0).into();
                // If a refusal is lost, the next one follows.
                sendto(sender.as_raw_fd(), &refusal, &to, MsgFlags::empty()).ok();
            });
        }
    }
}

/// Returns the ICMP error that a router sends for a packet to the far host, and the address of its destination.
fn refusal(packet: &[u8], code: u8) -> Option<(IpAddr, Vec<u8>)> {
    let returned = &packet[..packet.len().min(RETURNED)];
    match packet.first()? >> 4 {
        4 => {
            let [source, destination] = [12, 16].map(|at| packet.get(at..at + 4)?.first_chunk::<4>());
            let [IpAddr::V4(far), IpAddr::V4(router)] = [FAR[0], NEAR_SIDE[0]] else { return None };
            let source = Ipv4Addr::from(*source?);
            (Ipv4Addr::from(*destination?) == far).then_some(())?;
            let mut message = [&[IPV4_UNREACHABLE, code, 0, 0, 0, 0, 0, 0][..], returned].concat();
            let checksum = Sum::ZERO.add_bytes(&message).checksum();
            message[2..4].copy_from_slice(&checksum.to_ne_bytes());
            // The kernel fills in the length, the identifier and the checksum.
            let header = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, 1, 0, 0][..], &router.octets(), &source.octets()];
            Some((source.into(), [header.concat(), message].concat()))
        }
        6 => {
            let [source, destination] = [8, 24].map(|at| packet.get(at..at + 16)?.first_chunk::<16>());
            let [IpAddr::V6(far), IpAddr::V6(router)] = [FAR[1], NEAR_SIDE[1]] else { return None };
            let source = Ipv6Addr::from(*source?);
            (Ipv6Addr::from(*destination?) == far).then_some(())?;
            let mut message = [&[IPV6_UNREACHABLE, code, 0, 0, 0, 0, 0, 0][..], returned].concat();
            let length = u16::try_from(message.len()).ok()?.to_be_bytes();
            let addresses = [router.octets(), source.octets()].concat();
            let pseudo = [&addresses[..], &[0, 0], &length, &[0, 0, 0, 58]].concat();
            let checksum = Sum::ZERO.add_bytes(&pseudo).add_bytes(&message).checksum();
            message[2..4].copy_from_slice(&checksum.to_ne_bytes());
            let header = [&[0x60, 0, 0, 0][..], &length, &[58, 64], &addresses].concat();
            Some((source.into(), [header, message].concat()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_goes_back_with_the_packet_and_with_good_checksums() {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 11, 198, 51, 100, 2];
        packet.extend([1; 8]);
        let (to, reply) = refusal(&packet, 13).unwrap();
        assert_eq!(to, "192.0.2.11".parse::<IpAddr>().unwrap());
        assert_eq!((&reply[20..22], &reply[28..]), (&[3, 13][..], &packet[..]));
        assert_eq!(Sum::ZERO.add_bytes(&reply[20..]).checksum(), 0);
        packet[19] = 3;
        assert_eq!(refusal(&packet, 13), None, "for another host");

        let mut packet = vec![0x60, 0, 0, 0, 0, 8, 6, 64];
        packet.extend("2001:db8::11".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("2001:db8:1::2".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend([1; 8]);
        let (to, reply) = refusal(&packet, 5).unwrap();
        assert_eq!(to, "2001:db8::11".parse::<IpAddr>().unwrap());
        assert_eq!((&reply[40..42], &reply[48..]), (&[1, 5][..], &packet[..]));
    }
}
