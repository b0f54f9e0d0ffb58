//! The DNS client of the test bed, which sends from a namespace to port 53 of a server, over UDP and TCP.
//!
//! [`Client`] asks typed questions and reads the answers. [`Udp`] and [`Tcp`] send messages as they are and account for
//! every answer. [`mod@dig`] runs the real `dig`, for tests of what a user of that tool sees.
pub mod dig;
mod tcp;
mod udp;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

use crate::bed::netns::Namespace;

pub use tcp::Tcp;
pub use udp::Udp;

const DNS_PORT: u16 = 53;
/// How long [`Udp`] and [`Tcp`] wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a [`Client`] for queries in quick succession waits.
const SHORT_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a [`Client`] for single queries waits.
const LONG_TIMEOUT: Duration = Duration::from_secs(1);

/// A client's two UDP sockets, one for each family.
#[derive(Debug)]
pub struct Client {
    ipv4: UdpSocket,
    ipv6: UdpSocket,
}

impl Client {
    /// Opens sockets that stay in `from`, even when another thread uses them. They wait 300 ms for an answer.
    ///
    /// # Errors
    /// The sockets cannot be opened.
    pub fn open(from: &Namespace) -> Result<Self> {
        Client::open_with(from, SHORT_TIMEOUT)
    }

    /// Opens sockets as [`Client::open`] does. They wait a second for an answer.
    ///
    /// # Errors
    /// The sockets cannot be opened.
    pub fn open_patient(from: &Namespace) -> Result<Self> {
        Client::open_with(from, LONG_TIMEOUT)
    }

    fn open_with(from: &Namespace, timeout: Duration) -> Result<Self> {
        from.enter(|| {
            let ipv4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot open a socket")?;
            let ipv6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).context("cannot open a socket")?;
            ipv4.set_read_timeout(Some(timeout))?;
            ipv6.set_read_timeout(Some(timeout))?;
            Ok(Client { ipv4, ipv6 })
        })
    }

    /// Asks once over UDP and returns the whole response. The query has no OPT record and no flags.
    ///
    /// # Errors
    /// No response comes in time, or the response cannot be parsed.
    pub fn ask(&self, server: IpAddr, name: &str, rtype: RecordType) -> Result<Message> {
        let query = query(name, rtype)?;
        let socket = if server.is_ipv4() { &self.ipv4 } else { &self.ipv6 };
        let address = SocketAddr::new(server, DNS_PORT);
        socket.send_to(&query.to_vec()?, address).with_context(|| format!("cannot send to {server}"))?;
        let mut buffer = [0; 4096];
        loop {
            let received = socket.recv_from(&mut buffer);
            let (length, from) = received.with_context(|| format!("{server} does not answer {name}"))?;
            let response = Message::from_vec(&buffer[..length])?;
            // A late answer to an earlier query is no error.
            if from.ip() == server && response.metadata.id == query.metadata.id {
                return Ok(response);
            }
        }
    }

    /// Returns the addresses that `server` answers for `name`: its A or its AAAA records.
    ///
    /// # Errors
    /// The same as for [`Client::ask`], or there is no such record.
    pub fn addresses(&self, server: IpAddr, name: &str, rtype: RecordType) -> Result<Vec<IpAddr>> {
        let response = self.ask(server, name, rtype)?;
        let addresses: Vec<IpAddr> =
            response.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
        ensure!(
            !addresses.is_empty(),
            "{server} has no {rtype} of {name}: {}",
            response.metadata.response_code
        );
        Ok(addresses)
    }

    /// Returns every address in the response, of all sections.
    ///
    /// # Errors
    /// The same as for [`Client::ask`].
    pub fn every_address(&self, server: IpAddr, name: &str, rtype: RecordType) -> Result<Vec<IpAddr>> {
        let response = self.ask(server, name, rtype)?;
        Ok(response.all_sections().filter_map(|record| record.data.ip_addr()).collect())
    }
}

/// A query without an OPT record and without flags.
fn query(name: &str, rtype: RecordType) -> Result<Message> {
    let mut query = Message::query();
    query.add_query(Query::query(Name::from_ascii(name)?, rtype));
    Ok(query)
}

/// The addresses in the answer section of a response, sorted.
pub fn addresses_in(response: &Message) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> =
        response.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
    addresses.sort_unstable();
    addresses
}
