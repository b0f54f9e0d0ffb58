//! Asks name servers over UDP and TCP. The number of questions at once and the time of each are bounded.
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use dns_xdp_ebpf::table::UDP_SIZE;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The port that resolvers use, whatever `[listen] port` says.
const PORT: u16 = 53;
const TIMEOUT: Duration = Duration::from_secs(2);
/// Attempts over UDP. The second one is for a lost datagram.
const ATTEMPTS: usize = 2;
/// The most sockets at once, for a cluster of hundreds of nodes.
const AT_ONCE: usize = 64;

/// Whether the client wants the server to resolve (RD).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recursion {
    /// The client wants recursion.
    Desired,
    /// The client wants only the server's own data.
    No,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoAnswer {
    /// The server did not answer any attempt.
    #[error("no answer within {} s, asked twice", TIMEOUT.as_secs())]
    Silence,
    /// The connection was closed without an answer.
    #[error("the server closed the connection without an answer")]
    Closed,
    /// A problem of this machine, for example no IPv6. It says nothing about the server.
    #[error("this machine has no route to it")]
    NoRoute,
    /// The system's error: connection refused, host unreachable.
    #[error("{0}")]
    Io(String),
    /// The answer is not a DNS message.
    #[error("the answer cannot be read: {0}")]
    Unreadable(String),
}

/// Asks the questions. A verification uses a single value, so that the limits hold for all its questions.
#[derive(Debug)]
pub struct Asker {
    port: u16,
    timeout: Duration,
    at_once: Semaphore,
}

impl Default for Asker {
    fn default() -> Self {
        Asker::new(PORT, TIMEOUT)
    }
}

impl Asker {
    pub(super) fn new(port: u16, timeout: Duration) -> Self {
        Asker { port, timeout, at_once: Semaphore::new(AT_ONCE) }
    }

    /// Asks over UDP, and over TCP if the answer is truncated (RFC 7766, section 5).
    pub async fn ask(
        &self,
        server: IpAddr,
        name: &Name,
        rtype: RecordType,
        recursion: Recursion,
    ) -> Result<Message, NoAnswer> {
        let response = self.udp(server, name, rtype, recursion).await?;
        if response.metadata.truncation {
            return self.tcp(server, name, rtype, recursion).await;
        }
        Ok(response)
    }

    /// Asks over UDP. The answer may be truncated.
    pub async fn udp(
        &self,
        server: IpAddr,
        name: &Name,
        rtype: RecordType,
        recursion: Recursion,
    ) -> Result<Message, NoAnswer> {
        self.attempts(async || exchange_udp((server, self.port).into(), &query(name, rtype, recursion)).await)
            .await
    }

    /// Asks over TCP. Returns the first message of the answer.
    pub async fn tcp(
        &self,
        server: IpAddr,
        name: &Name,
        rtype: RecordType,
        recursion: Recursion,
    ) -> Result<Message, NoAnswer> {
        self.attempts(async || exchange_tcp((server, self.port).into(), &query(name, rtype, recursion)).await)
            .await
    }

    async fn attempts<F>(&self, exchange: impl Fn() -> F) -> Result<Message, NoAnswer>
    where
        F: Future<Output = Result<Message, NoAnswer>>,
    {
        let _permit = self.at_once.acquire().await.expect("the semaphore is never closed");
        for _ in 0..ATTEMPTS {
            if let Ok(answered) = timeout(self.timeout, exchange()).await {
                return answered;
            }
        }
        Err(NoAnswer::Silence)
    }
}

fn query(name: &Name, rtype: RecordType, recursion: Recursion) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(name.clone(), rtype));
    message.metadata.recursion_desired = recursion == Recursion::Desired;
    let mut opt = Edns::new();
    opt.set_max_payload(UDP_SIZE).set_version(0);
    message.edns = Some(opt);
    message
}

async fn exchange_udp(server: SocketAddr, query: &Message) -> Result<Message, NoAnswer> {
    let ours: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((ours, 0)).await.map_err(|error| failed(&error))?;
    // A connected socket receives only this server's datagrams, and ICMP errors.
    socket.connect(server).await.map_err(|error| failed(&error))?;
    socket.send(&packet(query)?).await.map_err(|error| failed(&error))?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await.map_err(|error| failed(&error))?;
        // A message that does not answer the query is ignored: it may be forged (RFC 5452, section 9.1).
        if let Ok(response) = Message::from_vec(&buffer[..length])
            && answers(&response, query)
        {
            return Ok(response);
        }
    }
}

async fn exchange_tcp(server: SocketAddr, query: &Message) -> Result<Message, NoAnswer> {
    let mut stream = TcpStream::connect(server).await.map_err(|error| failed(&error))?;
    let packet = packet(query)?;
    let length = u16::try_from(packet.len()).expect("a query has a few hundred octets");
    stream.write_all(&[&length.to_be_bytes()[..], &packet].concat()).await.map_err(|error| failed(&error))?;
    let length = stream.read_u16().await.map_err(|error| failed(&error))?;
    let mut packet = vec![0; length.into()];
    stream.read_exact(&mut packet).await.map_err(|error| failed(&error))?;
    let response = Message::from_vec(&packet).map_err(|error| NoAnswer::Unreadable(error.to_string()))?;
    if answers(&response, query) {
        Ok(response)
    } else {
        Err(NoAnswer::Unreadable("it answers another query".to_owned()))
    }
}

fn packet(query: &Message) -> Result<Vec<u8>, NoAnswer> {
    query.to_vec().map_err(|error| NoAnswer::Io(format!("the query cannot be written: {error}")))
}

fn answers(response: &Message, query: &Message) -> bool {
    let metadata = &response.metadata;
    metadata.message_type == MessageType::Response
        && metadata.op_code == OpCode::Query
        && metadata.id == query.metadata.id
        // A server that refuses a query may leave the question out.
        && (response.queries == query.queries || response.queries.is_empty())
}

fn failed(error: &io::Error) -> NoAnswer {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            NoAnswer::Closed
        }
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable => NoAnswer::NoRoute,
        io::ErrorKind::ConnectionRefused => NoAnswer::Io("connection refused".to_owned()),
        // The error number adds nothing to the text.
        _ => {
            let text = error.to_string().to_lowercase();
            NoAnswer::Io(text.split(" (os error").next().unwrap_or_default().to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use hickory_proto::op::ResponseCode;
    use tokio::net::TcpListener;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn name() -> Name {
        Name::from_ascii("demo.example.com.").unwrap()
    }

    fn answer(packet: &[u8], truncated: bool) -> Message {
        let mut response = Message::from_vec(packet).unwrap().into_response();
        response.metadata.truncation = truncated;
        response
    }

    #[tokio::test]
    async fn a_lost_datagram_is_sent_again_and_other_answers_are_passed_over() {
        let server = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        let asker = Asker::new(server.local_addr().unwrap().port(), Duration::from_millis(300));
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            server.recv_from(&mut buffer).await.unwrap();
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            let mut other = answer(&buffer[..length], false);
            other.metadata.id ^= 1;
            server.send_to(&other.to_vec().unwrap(), from).await.unwrap();
            let mut right = answer(&buffer[..length], false);
            right.metadata.response_code = ResponseCode::Refused;
            server.send_to(&right.to_vec().unwrap(), from).await.unwrap();
        });
        let response = asker.ask(LOOPBACK, &name(), RecordType::SOA, Recursion::No).await.unwrap();
        assert_eq!(response.metadata.response_code, ResponseCode::Refused);
        assert!(!response.metadata.recursion_desired);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn what_does_not_fit_is_asked_for_over_tcp() {
        let listener = TcpListener::bind((LOOPBACK, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let datagrams = UdpSocket::bind((LOOPBACK, port)).await.unwrap();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = datagrams.recv_from(&mut buffer).await.unwrap();
            datagrams.send_to(&answer(&buffer[..length], true).to_vec().unwrap(), from).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let length = usize::from(stream.read_u16().await.unwrap());
            stream.read_exact(&mut buffer[..length]).await.unwrap();
            let packet = answer(&buffer[..length], false).to_vec().unwrap();
            stream.write_u16(packet.len().try_into().unwrap()).await.unwrap();
            stream.write_all(&packet).await.unwrap();
        });
        let asker = Asker::new(port, Duration::from_secs(5));
        let response = asker.ask(LOOPBACK, &name(), RecordType::NS, Recursion::Desired).await.unwrap();
        assert!(!response.metadata.truncation && response.metadata.recursion_desired);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn silence_has_an_end_and_a_closed_port_is_told() {
        let silent = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
        let asker = Asker::new(silent.local_addr().unwrap().port(), Duration::from_millis(50));
        let start = Instant::now();
        let silence = asker.udp(LOOPBACK, &name(), RecordType::SOA, Recursion::No).await.unwrap_err();
        assert_eq!(silence, NoAnswer::Silence);
        assert!(start.elapsed() >= Duration::from_millis(100));
        let refused = asker.tcp(LOOPBACK, &name(), RecordType::SOA, Recursion::No).await.unwrap_err();
        assert_eq!(refused, NoAnswer::Io("connection refused".to_owned()));
    }
}
