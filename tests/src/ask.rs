//! Queries in quick succession from a client's namespace, where starting `dig` each time would take too long.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};

use crate::netns::Namespace;

const DNS_PORT: u16 = 53;
const TIMEOUT: Duration = Duration::from_millis(300);

/// A client's two sockets.
#[derive(Debug)]
pub struct Asker {
    ipv4: UdpSocket,
    ipv6: UdpSocket,
}

impl Asker {
    /// Sockets that stay in `from`, whoever uses them.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub fn open(from: &Namespace) -> Result<Self> {
        from.enter(|| {
            let ipv4 = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot open a socket")?;
            let ipv6 = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).context("cannot open a socket")?;
            ipv4.set_read_timeout(Some(TIMEOUT))?;
            ipv6.set_read_timeout(Some(TIMEOUT))?;
            Ok(Asker { ipv4, ipv6 })
        })
    }

    /// Asks once and returns the whole response.
    ///
    /// # Errors
    /// When none comes within 300 ms, or it cannot be parsed.
    pub fn ask(&self, server: IpAddr, name: &str, rtype: RecordType) -> Result<Message> {
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name)?, rtype));
        let socket = if server.is_ipv4() { &self.ipv4 } else { &self.ipv6 };
        let address = SocketAddr::new(server, DNS_PORT);
        socket.send_to(&query.to_vec()?, address).with_context(|| format!("cannot send to {server}"))?;
        let mut buffer = [0; 4096];
        loop {
            let received = socket.recv_from(&mut buffer);
            let (length, from) = received.with_context(|| format!("{server} does not answer {name}"))?;
            let response = Message::from_vec(&buffer[..length])?;
            // A late answer to an earlier query is nobody's fault.
            if from.ip() == server && response.metadata.id == query.metadata.id {
                return Ok(response);
            }
        }
    }

    /// The addresses that `server` answers for `name`: its A or its AAAA records.
    ///
    /// # Errors
    /// As [`Asker::ask`], and when there is no such record.
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

    /// Every address in the response, in whichever section.
    ///
    /// # Errors
    /// As [`Asker::ask`].
    pub fn every_address(&self, server: IpAddr, name: &str, rtype: RecordType) -> Result<Vec<IpAddr>> {
        let response = self.ask(server, name, rtype)?;
        Ok(response.all_sections().filter_map(|record| record.data.ip_addr()).collect())
    }
}
