//! Messages sent as they are, and what comes back: one answer each, or silence that is no mere lateness.
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, send, setsockopt, socket, sockopt,
};

use crate::frames::Checksum;
use crate::frames::message::{Message, name};
use crate::netns::Namespace;

const DNS_PORT: u16 = 53;
const TIMEOUT: Duration = Duration::from_secs(3);
/// Octets of a header, without which a message is not answered.
const HEADER: usize = 12;
/// TXT and CH: `id.server` is a name that every server here has an answer to (RFC 4892).
const TXT: u16 = 16;
const CH: u16 = 3;

/// A socket whose port others may be bound to.
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
}

impl Udp {
    /// A socket in `from` to port 53 of `server`, which takes answers from nowhere else. Its datagrams have such a
    /// checksum; none is for IPv4 alone.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn connect(from: &Namespace, server: IpAddr, checksum: Checksum) -> Result<Self> {
        Udp::connect_by(from, server, checksum, 0)
    }

    /// The same from this port, which other sockets of [`Udp`] to other servers may have too; 0: a free one.
    ///
    /// # Errors
    /// As for [`Udp::connect`].
    pub fn connect_by(from: &Namespace, server: IpAddr, checksum: Checksum, port: u16) -> Result<Self> {
        let unspecified: IpAddr =
            if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        Udp::connect_as(from, SocketAddr::new(unspecified, port), server, checksum)
    }

    /// The same from this address of `from`.
    ///
    /// # Errors
    /// As for [`Udp::connect`].
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
        socket.set_read_timeout(Some(TIMEOUT))?;
        if checksum == Checksum::Zero {
            omit_checksums(&socket)?;
        }
        Ok(Udp { socket, checksum })
    }

    /// The port that messages leave by.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn port(&self) -> Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Sends all messages, which have identifications of their own, and returns the answer to each of them. Behind
    /// them goes a query that is answered for certain: what has no answer by then will not have one. A server may
    /// turn the order of what waits in its socket, so where answers are missing that query goes out once more.
    ///
    /// # Errors
    /// When a message is answered twice, what is none of them is answered, or nothing comes for three seconds.
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

    /// Puts each answer in its message's place until the one to the marker comes.
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

    /// Sends all messages and returns what comes, until nothing has come for so long.
    ///
    /// # Errors
    /// When they cannot be sent.
    pub fn burst(&self, messages: &[Vec<u8>], quiet: Duration) -> Result<Vec<Vec<u8>>> {
        for message in messages {
            self.send(message)?;
        }
        self.socket.set_read_timeout(Some(quiet))?;
        let answers = std::iter::from_fn(|| self.receive().ok()).collect();
        self.socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(answers)
    }

    /// Sends a message and returns its answer; none within this time is none.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn ask(&self, message: &[u8], patience: Duration) -> Result<Option<Vec<u8>>> {
        self.send(message)?;
        self.socket.set_read_timeout(Some(patience))?;
        // What comes too late for an earlier one is passed over.
        let answer = std::iter::from_fn(|| self.receive().ok()).find(|answer| id(answer) == id(message));
        self.socket.set_read_timeout(Some(TIMEOUT))?;
        Ok(answer)
    }

    /// Nothing is on its way any more: two queries, one after the other, get their own answers and nothing else. What the
    /// server said before them has come by then, however busy the machine is.
    ///
    /// # Errors
    /// When something else comes.
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
            // The device is not asked to complete the checksum of what was yet to grow.
            send(descriptor, message, MsgFlags::from_bits_retain(libc::MSG_MORE)).context("cannot send")?;
            send(descriptor, &[], MsgFlags::empty()).context("cannot send")?;
        } else {
            send(descriptor, message, MsgFlags::empty()).context("cannot send")?;
        }
        Ok(())
    }

    fn receive(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let length = self.socket.recv(&mut buffer).context("no answer")?;
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// A query that is answered for certain.
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

/// What a connection that the other side has closed looks like.
const CLOSED: [ErrorKind; 3] = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];

/// A client's connection to one server over TCP, opened anew when the server has closed it.
#[derive(Debug)]
pub struct Tcp {
    from: Namespace,
    server: IpAddr,
    stream: Option<TcpStream>,
}

impl Tcp {
    /// A client in `from` of port 53 of `server`.
    pub fn new(from: &Namespace, server: IpAddr) -> Self {
        Tcp { from: from.clone(), server, stream: None }
    }

    /// Sends a message and returns the answer; none when the server closes the connection instead. A connection that
    /// has brought answers may have been closed behind the last of them: the message goes out again on a new one.
    ///
    /// # Errors
    /// When there is no connection to be had, or neither answer nor end comes for three seconds.
    pub fn exchange(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(stream) = self.stream.take()
            && let Some(answer) = self.exchange_on(stream, message)?
        {
            return Ok(Some(answer));
        }
        let stream = self.connect()?;
        self.exchange_on(stream, message)
    }

    fn exchange_on(&mut self, mut stream: TcpStream, message: &[u8]) -> Result<Option<Vec<u8>>> {
        let length = u16::try_from(message.len()).context("a message has less than 64 KiB")?;
        let mut answer_length = [0; 2];
        let sent = stream.write_all(&[&length.to_be_bytes(), message].concat());
        match sent.and_then(|()| stream.read_exact(&mut answer_length)) {
            Err(error) if CLOSED.contains(&error.kind()) => return Ok(None),
            read => read.context("no answer over tcp")?,
        }
        let mut answer = vec![0; u16::from_be_bytes(answer_length).into()];
        stream.read_exact(&mut answer).context("half an answer over tcp")?;
        self.stream = Some(stream);
        Ok(Some(answer))
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = self.from.enter(|| {
            TcpStream::connect((self.server, DNS_PORT))
                .with_context(|| format!("no connection to {}", self.server))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        Ok(stream)
    }
}
