//! The zone under load, and the queries: 1,024 frames of a kind, one for each name.
use clap::ValueEnum;
use dns_xdp_testbed::load::{FRAME_MAX, Seen, TEMPLATES, Template};

use super::wire::{CLIENT, SERVER, Wire};
use crate::oracle::frames::Datagram;
use crate::oracle::frames::message::{self, IN, Message, Opt};
use crate::oracle::table::zone::{over_ipv4, over_ipv6};

/// The zone.
pub const ZONE: &str = "demo.example.com";
/// The number of names to ask for, each with the server's addresses.
pub const NAMES: usize = TEMPLATES;

/// The EDNS size of a resolver (RFC 9715, section 3).
const EDNS_SIZE: u16 = 1232;

/// The kind of query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A over IPv4.
    A,
    /// A with an OPT record, over IPv4.
    AOpt,
    /// AAAA over IPv6.
    AaaaOverIpv6,
    /// A of names that do not exist, over IPv4.
    #[value(name = "nxdomain")]
    NxDomain,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 4] = [Kind::A, Kind::AOpt, Kind::AaaaOverIpv6, Kind::NxDomain];

    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Kind::A => "A",
            Kind::AOpt => "A, OPT",
            Kind::AaaaOverIpv6 => "AAAA over IPv6",
            Kind::NxDomain => "NXDOMAIN",
        }
    }

    /// The kind of its answers.
    pub fn expected(self) -> Seen {
        match self {
            Kind::NxDomain => Seen::NxDomain,
            Kind::A | Kind::AOpt | Kind::AaaaOverIpv6 => Seen::Answer,
        }
    }

    /// Whether it is sent over IPv6.
    pub fn is_ipv6(self) -> bool {
        self == Kind::AaaaOverIpv6
    }

    /// The query with this id.
    pub fn query(self, wire: &Wire, id: u16) -> Datagram {
        let nth = usize::from(id) % NAMES;
        let name = match self {
            Kind::NxDomain => format!("{}.{ZONE}.", absent(nth)),
            _ => format!("{}.{ZONE}.", name(nth)),
        };
        let qtype = if self.is_ipv6() { message::AAAA } else { message::A };
        let message = Message { id, ..Message::query(&message::name(&name), qtype, IN) };
        let message = if self == Kind::AOpt { message.with(Opt::of_size(EDNS_SIZE)) } else { message };
        let family = usize::from(self.is_ipv6());
        let plain = if self.is_ipv6() { over_ipv6(&message) } else { over_ipv4(&message) };
        Datagram {
            destination_mac: wire.server_end.mac,
            source_mac: wire.generator_end.mac,
            source: CLIENT[family],
            destination: SERVER[family],
            source_port: !id,
            ..plain
        }
    }

    /// The frames for the generator.
    pub fn templates(self, wire: &Wire) -> Vec<Template> {
        (0..NAMES).map(|nth| template(&self.at_id_zero(wire, nth).frame(), self.is_ipv6())).collect()
    }

    /// The query about name `nth` with id 0: the generator writes the true one, without touching the checksum.
    fn at_id_zero(self, wire: &Wire, nth: usize) -> Datagram {
        let id = u16::try_from(nth).expect("there are fewer names than ids");
        let mut query = self.query(wire, id);
        query.message[..2].fill(0);
        Datagram { source_port: !0, ..query }
    }
}

/// A name that exists, relative to the zone.
pub fn name(nth: usize) -> String {
    format!("host{nth}")
}

/// A name that does not exist.
fn absent(nth: usize) -> String {
    format!("random-{:04x}", nth.wrapping_mul(0x9e37) & 0xffff)
}

fn template(frame: &[u8], ipv6: bool) -> Template {
    assert!(frame.len() <= FRAME_MAX, "{} octets are too many for the generator", frame.len());
    let mut template: Template = [0; _];
    let [length, family, words @ ..] = &mut template;
    *length = frame.len() as u64;
    *family = u64::from(ipv6);
    for (word, octets) in words.iter_mut().zip(frame.chunks(8)) {
        let mut eight = [0; 8];
        eight[..octets.len()].copy_from_slice(octets);
        *word = u64::from_ne_bytes(eight);
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::netns::Namespace;
    use crate::load::wire::End;

    fn wire() -> Wire {
        let end = |last: u8| End { device: format!("end{last}"), mac: [2, 0, 0, 0, 0, last] };
        let [generator, server] = ["generator", "server"].map(Namespace::named);
        Wire { generator, server, generator_end: end(1), server_end: end(2) }
    }

    #[test]
    fn a_template_with_an_id_written_in_is_the_frame_of_that_query() {
        let wire = wire();
        for kind in Kind::ALL {
            let templates = kind.templates(&wire);
            for id in [0_u16, 1, 1023, 1024, 0x7fff] {
                let [length, _, words @ ..] = templates[usize::from(id) % NAMES];
                let mut frame: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                frame.truncate(length as usize);
                let udp = if kind.is_ipv6() { 54 } else { 34 };
                frame[udp..udp + 2].copy_from_slice(&(!id).to_be_bytes());
                frame[udp + 8..udp + 10].copy_from_slice(&id.to_be_bytes());
                assert_eq!(frame, kind.query(&wire, id).frame(), "{kind:?} {id}");
            }
        }
    }

    #[test]
    fn the_names_that_do_not_exist_differ_from_each_other() {
        let absent: std::collections::HashSet<String> = (0..NAMES).map(absent).collect();
        assert_eq!(absent.len(), NAMES);
    }
}
