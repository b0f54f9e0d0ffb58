//! ICMP errors of a socket, with the machines that sent them (ip(7), IP_RECVERR; ipv6(7), IPV6_RECVERR).
//!
//! | an error from | means |
//! |---|---|
//! | the node itself | the literal error: a closed port is a visible host |
//! | a router | a dead path, for every error |
//! | a firewall of this machine | this machine's own trouble |
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};

use super::{Fault, judge, judge_reported, unseen};

/// The most errors that are read from a queue.
const MOST: usize = 16;
/// The type of "destination unreachable" (RFC 792; RFC 4443, section 3.1).
const IPV4_UNREACHABLE: u8 = 3;
const IPV6_UNREACHABLE: u8 = 1;

/// The errors of a socket.
pub(super) struct IcmpErrors {
    /// A second descriptor of the socket.
    socket: OwnedFd,
    target: IpAddr,
}

impl IcmpErrors {
    /// Makes the kernel keep the errors of a socket that will be connected to `target`.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub(super) fn of(socket: &impl AsFd, target: IpAddr) -> io::Result<Self> {
        let errors = IcmpErrors { socket: socket.as_fd().try_clone_to_owned()?, target };
        errors.keep(true);
        Ok(errors)
    }

    /// Makes the kernel keep no more errors. A later error is only a hint to the connection (RFC 1122, section
    /// 4.2.3.9).
    pub(super) fn end(self) {
        self.keep(false);
    }

    /// Judges an error that came from the network, by the machine that sent it.
    pub(super) fn judge(&self, error: &io::Error) -> Fault {
        self.judge_as(error, judge_reported)
    }

    /// Judges an error of the call that sent the first packet. The error comes from this machine's route or firewall.
    pub(super) fn judge_at_once(&self, error: &io::Error) -> Fault {
        self.judge_as(error, judge)
    }

    /// Judges an error by its sender; `otherwise` judges an error without a sender.
    fn judge_as(&self, error: &io::Error, otherwise: fn(&io::Error) -> Fault) -> Fault {
        let Some(last) = self.last().filter(|last| last.sender != self.target) else {
            return otherwise(error);
        };
        if last.is_refusal_of_ours() {
            return rejected_here();
        }
        match otherwise(error) {
            Fault::Theirs(failure) => unseen(format!("{}, says {}", failure.reason, last.sender)),
            ours @ Fault::Ours(_) => ours,
        }
    }

    /// Judges the silence after a timeout. The kernel does not report an error that occurs while it sends the packet.
    pub(super) fn judge_silence(&self) -> Fault {
        match self.last().filter(|last| last.sender != self.target) {
            Some(last) if last.is_refusal_of_ours() => rejected_here(),
            _ => unseen("timeout"),
        }
    }

    /// Makes the kernel keep errors, or stop keeping them. If the kernel cannot keep errors, they come without their
    /// senders.
    fn keep(&self, whether: bool) {
        if self.target.is_ipv4() {
            setsockopt(&self.socket, sockopt::Ipv4RecvErr, &whether).ok();
        } else {
            setsockopt(&self.socket, sockopt::Ipv6RecvErr, &whether).ok();
        }
    }

    /// The last error; `None`: it was not an ICMP error.
    fn last(&self) -> Option<IcmpError> {
        let mut last = None;
        let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
        for _error in 0..MOST {
            let mut octet = [0];
            let mut packet = [IoSliceMut::new(&mut octet)];
            let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::MSG_ERRQUEUE);
            let Ok(message) = recvmsg::<SockaddrStorage>(socket, &mut packet, Some(&mut control), flags)
            else {
                break;
            };
            let errors = message.cmsgs().into_iter().flatten();
            last = errors.filter_map(|message| IcmpError::read(&message)).last().or(last);
        }
        last
    }
}

/// One ICMP error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct IcmpError {
    sender: IpAddr,
    kind: u8,
    code: u8,
}

impl IcmpError {
    fn read(message: &ControlMessageOwned) -> Option<Self> {
        let (error, sender) = match message {
            ControlMessageOwned::Ipv4RecvErr(error, Some(sender)) => {
                (error, IpAddr::V4(Ipv4Addr::from(sender.sin_addr.s_addr.to_ne_bytes())))
            }
            ControlMessageOwned::Ipv6RecvErr(error, Some(sender)) => {
                (error, IpAddr::V6(Ipv6Addr::from(sender.sin6_addr.s6_addr)))
            }
            _ => return None,
        };
        let is_icmp = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6].contains(&error.ee_origin);
        is_icmp.then_some(IcmpError { sender, kind: error.ee_type, code: error.ee_code })
    }

    fn is_refusal_of_ours(self) -> bool {
        self.is_refusal() && is_ours(self.sender)
    }

    /// Whether the error is a firewall's refusal. The codes for an unreachable host or network do not count: this
    /// machine sends them to itself if a neighbour does not answer.
    fn is_refusal(self) -> bool {
        match self.sender {
            // Protocol and port unreachable; prohibited (RFC 1122, section 3.2.2.1; RFC 1812, section 5.2.7.1).
            IpAddr::V4(_) => self.kind == IPV4_UNREACHABLE && [2, 3, 9, 10, 13].contains(&self.code),
            // Prohibited, port unreachable, failed policy, reject route (RFC 4443, section 3.1).
            IpAddr::V6(_) => self.kind == IPV6_UNREACHABLE && [1, 4, 5, 6].contains(&self.code),
        }
    }
}

fn rejected_here() -> Fault {
    Fault::Ours("cannot probe: a firewall of this machine rejects the packet".to_owned())
}

/// Whether an address belongs to this machine, so that a socket can be bound to it.
fn is_ours(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::wrong;
    use super::*;
    use nix::errno::Errno;
    use std::net::SocketAddr;
    use tokio::io::Interest;

    #[test]
    fn a_firewall_says_other_codes_than_a_neighbour_that_is_silent() {
        let refusal =
            |sender: &str, kind, code| IcmpError { sender: sender.parse().unwrap(), kind, code }.is_refusal();
        let ipv4 = (0..16).filter(|code| refusal("192.0.2.1", 3, *code)).collect::<Vec<_>>();
        assert_eq!(ipv4, [2, 3, 9, 10, 13]);
        let ipv6 = (0..8).filter(|code| refusal("2001:db8::1", 1, *code)).collect::<Vec<_>>();
        assert_eq!(ipv6, [1, 4, 5, 6]);
        assert!(!refusal("192.0.2.1", 11, 0) && !refusal("2001:db8::1", 3, 0), "time exceeded");
    }

    #[test]
    fn an_address_is_ours_where_a_socket_takes_it() {
        assert!(is_ours(Ipv4Addr::LOCALHOST.into()) && is_ours(Ipv6Addr::LOCALHOST.into()));
        assert!(!is_ours(Ipv4Addr::new(192, 0, 2, 1).into()));
    }

    #[tokio::test]
    async fn an_error_of_the_host_itself_is_what_it_says() {
        for address in ["127.0.0.1", "::1"] {
            let address: IpAddr = address.parse().unwrap();
            let closed = UdpSocket::bind((address, 0)).unwrap().local_addr().unwrap();
            let socket = tokio::net::UdpSocket::bind((address, 0)).await.unwrap();
            let errors = IcmpErrors::of(&socket, address).unwrap();
            socket.connect(closed).await.unwrap();
            socket.send(b"x").await.unwrap();
            socket.ready(Interest::READABLE | Interest::ERROR).await.unwrap();
            let error = socket.recv(&mut [0; 1]).await.unwrap_err();
            assert_eq!(errors.judge(&error), wrong("refused"), "{address}");
        }
    }

    /// Errors on the loopback come from the probed address. If another address was probed, the same errors come from a
    /// firewall of this machine.
    #[tokio::test]
    async fn an_error_of_this_machine_about_another_is_our_own_trouble() {
        let closed: SocketAddr = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let errors = IcmpErrors::of(&socket, Ipv4Addr::new(192, 0, 2, 1).into()).unwrap();
        socket.connect(closed).await.unwrap();
        socket.send(b"x").await.unwrap();
        let error = socket.recv(&mut [0; 1]).await.unwrap_err();
        let Fault::Ours(reason) = errors.judge(&error) else { panic!("a firewall of this machine") };
        assert!(reason.contains("firewall of this machine"), "{reason}");
        assert_eq!(errors.judge(&Errno::ECONNREFUSED.into()), wrong("refused"), "the queue is read up");
    }
}
