//! Sends messages over TCP, with one answer to each. It opens a new connection when the server has closed the old one.
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, TcpStream};

use anyhow::{Context, Result};
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType;

use super::{ANSWER_TIMEOUT, DNS_PORT, query};
use crate::bed::netns::Namespace;

/// The errors of a connection that the other side has closed.
const CLOSED: [ErrorKind; 3] = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];

/// A client's connection to one server over TCP, opened again when the server has closed it.
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

    /// Sends a message and returns the answer; `None` if the server closes the connection instead. If the server had
    /// closed the connection after its last answer, the message is sent again on a new connection.
    ///
    /// # Errors
    /// No connection can be made, or neither an answer nor an end comes for 3 s.
    pub fn exchange(&mut self, message: &[u8]) -> Result<Option<Vec<u8>>> {
        if let Some(stream) = self.stream.take()
            && let Some(answer) = self.exchange_on(stream, message)?
        {
            return Ok(Some(answer));
        }
        let stream = self.connect()?;
        self.exchange_on(stream, message)
    }

    /// Asks once and returns the whole response. Sends the same query as [`Client::ask`](super::Client::ask).
    ///
    /// # Errors
    /// The same as for [`Tcp::exchange`]; or the server closes the connection instead, or the response cannot be
    /// parsed.
    pub fn ask(&mut self, name: &str, rtype: RecordType) -> Result<Message> {
        let answer = self.exchange(&query(name, rtype)?.to_vec()?)?;
        Ok(Message::from_vec(&answer.with_context(|| format!("{} does not answer {name}", self.server))?)?)
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
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(stream)
    }
}
