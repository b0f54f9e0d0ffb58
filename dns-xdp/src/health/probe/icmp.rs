//! `icmp`: the node answers an echo (RFC 792; RFC 4443, section 4).
//!
//! The probe uses a datagram socket if this process may have one (net.ipv4.ping_group_range). The kernel passes only
//! the answers to its own requests to such a socket. Otherwise the probe uses a raw socket, which needs CAP_NET_RAW.
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use dns_xdp_ebpf::checksum::Sum;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::{Fault, cannot_open, datagram, judge, judge_reported, unseen};

/// Type, code, checksum, identifier and sequence number.
const HEADER: usize = 8;
/// No port: an echo has none.
const NO_PORT: u16 = 0;

pub(super) async fn ask(address: IpAddr, deadline: Instant) -> Result<(), Fault> {
    ask_over(socket(address), address, deadline).await
}

async fn ask_over(socket: io::Result<Socket>, address: IpAddr, deadline: Instant) -> Result<(), Fault> {
    let socket = socket.map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Fault::Ours("cannot send an echo: it takes CAP_NET_RAW, or net.ipv4.ping_group_range".to_owned())
        }
        _ => cannot_open(&error),
    })?;
    // A connected socket gets no packets from other hosts, but it gets ICMP errors.
    let target = SocketAddr::new(address, NO_PORT);
    socket.connect(&target.into()).map_err(|error| unreachable(judge(&error)))?;
    let socket = UdpSocket::from_std(socket.into()).map_err(|error| cannot_open(&error))?;
    let request = Echo::new(address);
    socket.send(&request.packet()).await.map_err(|error| unreachable(judge(&error)))?;
    let read = |packet: &[u8]| request.is_answered_by(packet).then_some(Ok(()));
    let answered = datagram(&socket, deadline, judge_reported, read);
    answered.await.map_err(unreachable)
}

/// Whether this process may send an echo.
pub(super) fn permitted() -> bool {
    socket(Ipv4Addr::LOCALHOST.into()).is_ok()
}

fn socket(address: IpAddr) -> io::Result<Socket> {
    let (domain, protocol) = match address {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
    };
    let open = |kind| Socket::new(domain, kind, Some(protocol));
    let socket = open(Type::DGRAM).or_else(|_| open(Type::RAW))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Judges an error as a host that cannot be reached. The error's sender need not be the host.
fn unreachable(fault: Fault) -> Fault {
    match fault {
        Fault::Theirs(failure) if failure.visible => unseen(failure.reason),
        fault => fault,
    }
}

/// An echo request with a token that another sender cannot guess.
struct Echo {
    address: IpAddr,
    token: [u8; 8],
}

impl Echo {
    fn new(address: IpAddr) -> Self {
        // The standard library's hash seeds are random.
        Echo { address, token: RandomState::new().hash_one(0).to_ne_bytes() }
    }

    fn request_type(&self) -> u8 {
        if self.address.is_ipv4() { 8 } else { 128 }
    }

    fn reply_type(&self) -> u8 {
        if self.address.is_ipv4() { 0 } else { 129 }
    }

    fn packet(&self) -> Vec<u8> {
        let [id_high, id_low, ..] = self.token;
        let mut packet = vec![self.request_type(), 0, 0, 0, id_high, id_low, 0, 1];
        packet.extend(self.token);
        // The kernel computes the checksum for IPv6, because the checksum covers addresses too. The kernel also adapts
        // the checksum to the identifier that it chooses.
        let checksum = Sum::ZERO.add_bytes(&packet).checksum();
        packet[2..4].copy_from_slice(&checksum.to_ne_bytes());
        packet
    }

    fn is_answered_by(&self, packet: &[u8]) -> bool {
        let message = match packet.first() {
            // A raw socket also delivers the IPv4 header. Its first octet differs from the wanted ICMP types.
            Some(first) if self.address.is_ipv4() && first >> 4 == 4 => {
                packet.get(usize::from(first & 0xf) * 4..)
            }
            _ => Some(packet),
        };
        message.is_some_and(|message| {
            message.first() == Some(&self.reply_type()) && message.get(HEADER..) == Some(&self.token)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use nix::errno::Errno;

    use super::*;

    #[test]
    fn a_request_has_the_checksum_of_the_standard() {
        let request = Echo { address: Ipv4Addr::LOCALHOST.into(), token: *b"\xab\xcdghijkl" };
        let packet = request.packet();
        assert_eq!(packet[..2], [8, 0]);
        let words = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
        let sum: u32 = words.sum();
        assert_eq!(
            (sum & 0xffff) + (sum >> 16),
            0xffff,
            "RFC 1071, section 1: the sum of it all has no zero bit"
        );
    }

    #[test]
    fn only_the_reply_with_our_token_is_an_answer() {
        let request = Echo { address: Ipv4Addr::LOCALHOST.into(), token: *b"abcdefgh" };
        let mut reply = request.packet();
        assert!(!request.is_answered_by(&reply), "this probe's own request, as the loopback shows it");
        reply[0] = 0;
        assert!(request.is_answered_by(&reply));
        let mut raw = vec![0x45; 20];
        raw.extend(&reply);
        assert!(request.is_answered_by(&raw), "behind an IPv4 header");
        reply[HEADER] ^= 1;
        assert!(!request.is_answered_by(&reply), "another process' echo");
        assert!(![&[][..], &[0], &[0x4f, 0]].iter().any(|short| request.is_answered_by(short)));
    }

    #[test]
    fn an_unreachable_is_no_proof_of_life() {
        assert_eq!(unreachable(judge(&Errno::ECONNREFUSED.into())), unseen("refused"));
        assert!(matches!(unreachable(judge(&Errno::EPERM.into())), Fault::Ours(_)));
    }

    #[tokio::test]
    async fn the_loopback_answers_an_echo_where_the_system_lets_us_send_one() {
        let may_send = may_send();
        assert_eq!(permitted(), may_send, "by the system's files");
        for address in ["127.0.0.1", "::1"].map(|address| address.parse().unwrap()) {
            let answer = ask(address, Instant::now() + Duration::from_secs(5)).await;
            if may_send {
                assert_eq!(answer, Ok(()), "{address}");
            } else {
                assert!(matches!(answer, Err(Fault::Ours(_))), "{address}: {answer:?}");
            }
        }
    }

    #[tokio::test]
    async fn an_echo_that_we_may_not_send_is_our_own_fault_and_says_what_it_takes() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let refused = |errno: Errno| ask_over(Err(errno.into()), Ipv4Addr::LOCALHOST.into(), deadline);
        for errno in [Errno::EPERM, Errno::EACCES] {
            let Err(Fault::Ours(reason)) = refused(errno).await else { panic!("{errno}") };
            assert!(reason.contains("CAP_NET_RAW") && reason.contains("ping_group_range"), "{reason}");
        }
        let Err(Fault::Ours(reason)) = refused(Errno::EMFILE).await else { panic!("no descriptor") };
        assert!(!reason.contains("CAP_NET_RAW"), "{reason}");
    }

    /// Whether this process may send an echo, by procfs: by its capability, or by its group.
    fn may_send() -> bool {
        const CAP_NET_RAW: u32 = 13;
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        let effective = u64::from_str_radix(field("CapEff:"), 16).unwrap();
        let range = fs::read_to_string("/proc/sys/net/ipv4/ping_group_range").unwrap();
        let range: Vec<u32> = range.split_whitespace().map(|group| group.parse().unwrap()).collect();
        // The effective group is the second of four; the others are the supplementary ones.
        let groups = field("Gid:").split_whitespace().nth(1).into_iter();
        let mut groups = groups.chain(field("Groups:").split_whitespace());
        effective >> CAP_NET_RAW & 1 == 1
            || groups.any(|group| (range[0]..=range[1]).contains(&group.parse().unwrap()))
    }
}
