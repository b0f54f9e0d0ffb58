//! Sends messages over UDP unchanged, and distinguishes a missing answer from a late one.
use std::cell::Cell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, send, setsockopt, socket, sockopt,
};

use super::{ANSWER_TIMEOUT, DNS_PORT};
use crate::bed::netns::Namespace;
use crate::oracle::frames::Checksum;
use crate::oracle::frames::message::{Message, name};

/// Octets of a header. A shorter message gets no answer.
const HEADER: usize = 12;
/// TXT and CH: every server here answers `id.server` (RFC 4892).
const TXT: u16 = 16;
const CH: u16 = 3;

/// Binds a socket whose port other sockets may share.
fn bind(address: SocketAddr) -> Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(UdpSocket::from(socket))
}

/// A client's socket to one server over UDP.
#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    checksum: Checksum,
    sent: Cell<u64>,
}

impl Udp {
    /// Opens a socket in `from` to port 53 of `server`. The socket receives only from that address. `checksum`: the
    /// kind of checksum of its datagrams; "none" is only for IPv4.
    ///
    /// # Errors
    /// The socket cannot be opened.
    pub fn connect(from: &Namespace, server: IpAddr, checksum: Checksum) -> Result<Self> {
        Udp::connect_by(from, server, checksum, 0)
    }

    /// Like [`Udp::connect`], from this port, which other sockets of [`Udp`] to other servers may share; 0: a free
    /// port.
    ///
    /// # Errors
    /// The same as for [`Udp::connect`].
    pub fn connect_by(from: &Namespace, server: IpAddr, checksum: Checksum, port: u16) -> Result<Self> {
        let unspecified: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Udp::connect_as(from, SocketAddr::new(unspecified, port), server, checksum)
    }

    /// Like [`Udp::connect_by`], from this address of `from`.
    ///
    /// # Errors
    /// The same as for [`Udp::connect`].
    pub fn connect_as(
        from: &Namespace,
        local: SocketAddr,
        server: IpAddr,
        checksum: Checksum,
    ) -> Result<Self> {
        let socket = from.enter(|| {
            let socket = bind(local).context("cannot open a socket")?;
            socket.connect((server, DNS_PORT)).with_context(|| format!("no way to {server}"))?;
            Ok(socket)
        })?;
        socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        if checksum == Checksum::Zero {
            omit_checksums(&socket)?;
        }
        Ok(Udp { socket, checksum, sent: Cell::new(0) })
    }

    /// Returns the number of messages sent, including the markers.
    pub fn sent(&self) -> u64 {
        self.sent.get()
    }

    /// The port that messages are sent from.
    ///
    /// # Errors
    /// The kernel does not report the socket's address.
    pub fn port(&self) -> Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Sends all messages, which have different ids, and returns the answer to each. A marker follows them: a query
    /// that is certainly answered. The marker's answer normally comes last. A server may answer in another order, so a
    /// second marker is sent if an answer is missing. A message without an answer by then gets `None`.
    ///
    /// # Errors
    /// A message is answered twice, an answer fits no message, or nothing comes for 3 s.
    pub fn exchange(&self, messages: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        let places: HashMap<u16, usize> =
            (0..).zip(messages).filter_map(|(place, message)| Some((id(message)?, place))).collect();
        let mut answers = vec![None; messages.len()];
        for message in messages {
            self.send(message)?;
        }
        for last in (0..=u16::MAX).filter(|id| !places.contains_key(id)).take(2) {
            let marker = marker(last);
            self.send(&marker.bytes())?;
            self.collect(&marker, &places, &mut answers)?;
            if answers.iter().all(Option::is_some) {
                break;
            }
        }
        Ok(answers)
    }

    /// Puts each answer in its message's place until the marker's answer comes.
    fn collect(
        &self,
        marker: &Message,
        places: &HashMap<u16, usize>,
        answers: &mut [Option<Vec<u8>>],
    ) -> Result<()> {
        loop {
            let answer = self.receive()?;
            let place = id(&answer).and_then(|id| places.get(&id));
            match place.and_then(|place| answers.get_mut(*place)) {
                Some(Some(_)) => bail!("answered twice: {answer:02x?}"),
                Some(unanswered) => *unanswered = Some(answer),
                None if is_to(marker, &answer) => return Ok(()),
                None => bail!("an answer to nothing that was asked: {answer:02x?}"),
            }
        }
    }

    /// Sends all messages and returns the answers, until none has come for this long.
    ///
    /// # Errors
    /// The messages cannot be sent.
    pub fn burst(&self, messages: &[Vec<u8>], quiet: Duration) -> Result<Vec<Vec<u8>>> {
        for message in messages {
            self.send(message)?;
        }
        self.socket.set_read_timeout(Some(quiet))?;
        let answers = std::iter::from_fn(|| self.receive().ok()).collect();
        self.socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(answers)
    }

    /// Sends a message and returns its answer; `None` if none comes in this time.
    ///
    /// # Errors
    /// The message cannot be sent.
    pub fn ask(&self, message: &[u8], patience: Duration) -> Result<Option<Vec<u8>>> {
        self.send(message)?;
        self.socket.set_read_timeout(Some(patience))?;
        // A late answer to an earlier message is ignored.
        let answer = std::iter::from_fn(|| self.receive().ok()).find(|answer| id(answer) == id(message));
        self.socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(answer)
    }

    /// Checks that no answer is on its way any more: two queries, one after another, get only their own answers.
    /// Earlier answers of the server have arrived by then, however busy the machine is.
    ///
    /// # Errors
    /// Another message arrives.
    pub fn expect_quiet(&self) -> Result<()> {
        for last in [0, 1] {
            let marker = marker(last);
            self.send(&marker.bytes())?;
            let answer = self.receive()?;
            ensure!(is_to(&marker, &answer), "an answer too many: {answer:02x?}");
        }
        Ok(())
    }

    fn send(&self, message: &[u8]) -> Result<()> {
        let descriptor = self.socket.as_raw_fd();
        if self.checksum == Checksum::Whole {
            // With MSG_MORE the kernel computes the checksum itself, and does not leave it to the device.
            send(descriptor, message, MsgFlags::from_bits_retain(libc::MSG_MORE)).context("cannot send")?;
            send(descriptor, &[], MsgFlags::empty()).context("cannot send")?;
        } else {
            send(descriptor, message, MsgFlags::empty()).context("cannot send")?;
        }
        self.sent.set(self.sent.get() + 1);
        Ok(())
    }

    fn receive(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let length = self.socket.recv(&mut buffer).context("no answer")?;
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// A query that is certainly answered.
fn marker(id: u16) -> Message {
    Message { id, ..Message::query(&name("id.server"), TXT, CH) }
}

/// Whether an answer has the identification and the question of a query.
fn is_to(query: &Message, answer: &[u8]) -> bool {
    id(answer) == Some(query.id) && answer[HEADER..].starts_with(&query.question)
}

fn omit_checksums(socket: &UdpSocket) -> Result<()> {
    let on: libc::c_int = 1;
    #[expect(unsafe_code, reason = "no crate knows SO_NO_CHECK")]
    // SAFETY: the option is an int, which outlives the call, and the descriptor is the socket's.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    Errno::result(result).context("cannot switch checksums off")?;
    Ok(())
}

fn id(message: &[u8]) -> Option<u16> {
    message.get(..HEADER).map(|header| u16::from_be_bytes([header[0], header[1]]))
}
