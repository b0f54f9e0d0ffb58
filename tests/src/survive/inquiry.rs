//! A query of the load, and every answer that is right for it.
use std::net::IpAddr;
use std::slice;

use anyhow::{Context, Error, Result, ensure};

use crate::bed::client::{Tcp, Udp};
use crate::bed::netns::Namespace;
use crate::bed::plan::ZONE;
use crate::oracle::frames::Checksum;
use crate::oracle::frames::message::{A, AAAA, IN, Message, name};
use crate::oracle::meaning::Meaning;

/// Octets of a header.
const HEADER: usize = 12;
/// QR and AA; nothing else is set in an answer to a query without RD.
const ANSWER: [u8; 2] = [0x84, 0];
/// A pointer to the question's name (RFC 1035, section 4.1.4).
const QNAME: [u8; 2] = [0xc0, HEADER as u8];
/// The type of a text record, which no name of the zone has.
const TXT: u16 = 16;

/// A query, and its expected answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// The server.
    pub server: IpAddr,
    /// The message, with the identification 0.
    pub message: Vec<u8>,
    expected: Expected,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    /// One of these sets of addresses, whole, in any order, with a TTL of at most this many seconds.
    Addresses { sets: Vec<Vec<IpAddr>>, ttl_max: u32 },
    /// One of these messages, octet by octet, after the id.
    Octets(Vec<Vec<u8>>),
}

impl Inquiry {
    /// Asks for the addresses of a name, which are one of these sets. All addresses are of one family.
    ///
    /// # Panics
    /// When there is no address.
    pub fn addresses(server: IpAddr, qname: &str, mut sets: Vec<Vec<IpAddr>>, ttl_max: u32) -> Inquiry {
        sets.iter_mut().for_each(|set| set.sort());
        let qtype = if sets[0][0].is_ipv4() { A } else { AAAA };
        let message = question(qname, qtype);
        Inquiry { server, message, expected: Expected::Addresses { sets, ttl_max } }
    }

    /// Asks a question whose expected answer is the server's own at this moment. The program answers it over UDP and
    /// the responder over TCP; the two compress differently and have to mean the same.
    ///
    /// # Errors
    /// The program or the responder does not answer, or their answers differ.
    pub fn as_now(from: &Namespace, server: IpAddr, qname: &str, qtype: u16) -> Result<Inquiry> {
        let message = question(qname, qtype);
        let over_udp =
            Udp::connect(from, server, Checksum::Whole)?.exchange(slice::from_ref(&message))?.pop();
        let answers = [over_udp.flatten(), Tcp::new(from, server).exchange(&message)?];
        let silent = || format!("{server} does not answer {qname}");
        let answers: Vec<Vec<u8>> = answers.into_iter().collect::<Option<_>>().with_context(silent)?;
        let meanings: Vec<Meaning> =
            answers.iter().map(|answer| Meaning::of(answer).map_err(Error::msg)).collect::<Result<_>>()?;
        ensure!(meanings[0] == meanings[1], "{server} disagrees with itself about {qname}: {meanings:?}");
        let octets = answers.into_iter().map(|answer| answer[2..].to_vec()).collect();
        Ok(Inquiry { server, message, expected: Expected::Octets(octets) })
    }

    /// The questions of most loads. They ask for the node's own name in both families and in mixed case. They also ask
    /// for a type that the name does not have, and for a missing name. All of these are answered in the kernel.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn of_node(from: &Namespace, label: &str, addresses: [IpAddr; 2]) -> Result<Vec<Inquiry>> {
        const TTL: u32 = 5;
        let qname = format!("{label}.{ZONE}.");
        let mixed = qname.replacen('n', "N", 2);
        let mut all = Vec::new();
        for server in addresses {
            for (qname, address) in [(&qname, 0), (&mixed, 0), (&qname, 1)] {
                all.push(Inquiry::addresses(server, qname, vec![vec![addresses[address]]], TTL));
            }
            all.push(Inquiry::as_now(from, server, &qname, TXT)?);
            all.push(Inquiry::as_now(from, server, &format!("no-{label}.{ZONE}."), A)?);
        }
        Ok(all)
    }

    /// Which of the permitted answers this message is, from 0.
    ///
    /// # Errors
    /// The fault of the message.
    pub fn judge(&self, answer: &[u8]) -> Result<usize, String> {
        let wrong = |what: &str| Err(format!("{what}: {answer:02x?}"));
        match &self.expected {
            Expected::Octets(all) => match answer.get(2..) {
                Some(octets) if all.iter().any(|one| one == octets) => Ok(0),
                _ => wrong("not what it said before"),
            },
            Expected::Addresses { sets, ttl_max } => {
                let question = &self.message[HEADER..];
                let Some((header, rest)) = answer.split_at_checked(HEADER) else { return wrong("short") };
                if header[2..6] != [ANSWER, [0, 1]].concat() || header[8..] != [0; 4] {
                    return wrong("flags or counts");
                }
                let Some(records) = rest.strip_prefix(question) else { return wrong("another question") };
                let Some(mut addresses) = read(records, &question[question.len() - 4..], *ttl_max) else {
                    return wrong("records");
                };
                if addresses.len() != usize::from(u16::from_be_bytes([header[6], header[7]])) {
                    return wrong("count of answers");
                }
                addresses.sort();
                match sets.iter().position(|set| *set == addresses) {
                    Some(which) => Ok(which),
                    None => Err(format!("{addresses:?} is none of {sets:?}")),
                }
            }
        }
    }
}

fn question(qname: &str, qtype: u16) -> Vec<u8> {
    Message { id: 0, ..Message::query(&name(qname), qtype, IN) }.bytes()
}

/// The addresses of records that own the question's name, type and class, and fill the rest of the message.
fn read(mut records: &[u8], kind: &[u8], ttl_max: u32) -> Option<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    while !records.is_empty() {
        records = records.strip_prefix(&QNAME)?.strip_prefix(kind)?;
        let (ttl, rest) = records.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        if u32::from_be_bytes(*ttl) > ttl_max {
            return None;
        }
        let (address, rest) = match u16::from_be_bytes(*length) {
            4 => rest.split_first_chunk::<4>().map(|(octets, rest)| (IpAddr::from(*octets), rest))?,
            16 => rest.split_first_chunk::<16>().map(|(octets, rest)| (IpAddr::from(*octets), rest))?,
            _ => return None,
        };
        addresses.push(address);
        records = rest;
    }
    Some(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inquiry() -> Inquiry {
        let set = |octets: &[u8]| octets.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect();
        Inquiry::addresses([192, 0, 2, 1].into(), "a.example.", vec![set(&[2, 1]), set(&[3, 4])], 5)
    }

    fn answer(last: &[u8], ttl: u8) -> Vec<u8> {
        let mut bytes = vec![7, 7, 0x84, 0, 0, 1, 0, last.len() as u8, 0, 0, 0, 0];
        bytes.extend(&inquiry().message[HEADER..]);
        for octet in last {
            bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, ttl, 0, 4, 192, 0, 2, *octet]);
        }
        bytes
    }

    #[test]
    fn a_whole_set_in_any_order_is_right() {
        assert_eq!(inquiry().judge(&answer(&[1, 2], 5)), Ok(0));
        assert_eq!(inquiry().judge(&answer(&[4, 3], 1)), Ok(1));
    }

    #[test]
    fn a_mixture_a_part_a_long_life_and_any_changed_octet_are_wrong() {
        for (last, ttl) in [(&[1, 3][..], 5), (&[1], 5), (&[], 5), (&[1, 2, 3], 5), (&[1, 2], 6)] {
            assert!(inquiry().judge(&answer(last, ttl)).is_err(), "{last:?} {ttl}");
        }
        let right = answer(&[1, 2], 5);
        for at in 2..right.len() {
            let mut changed = right.clone();
            changed[at] ^= 0x40;
            assert!(inquiry().judge(&changed).is_err(), "octet {at}");
            assert!(inquiry().judge(&right[..at]).is_err(), "{at} octets");
        }
        assert!(inquiry().judge(&[&right[..], &[0]].concat()).is_err());
    }

    #[test]
    fn another_response_code_than_before_is_wrong() {
        let octets = answer(&[], 0)[2..].to_vec();
        let inquiry = Inquiry { expected: Expected::Octets(vec![octets]), ..inquiry() };
        assert_eq!(inquiry.judge(&answer(&[], 0)), Ok(0));
        let mut servfail = answer(&[], 0);
        servfail[3] = 2;
        assert!(inquiry.judge(&servfail).is_err());
    }
}
