//! Messages to the responder: any octets get one answer or none, of the right size, at a bounded cost.
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use dns_xdp::responder::{Arrival, Rcode, Transport, respond};
use dns_xdp::zone::Zone;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsCode;

use crate::oracle::meaning::Meaning;
use crate::oracle::table::zone::{COOKIES, within};

const HEADER: usize = 12;
const QR: u8 = 0x80;
const TC: u8 = 0x02;
/// Opcode and RD in one octet, CD in the next.
const COPIED: (u8, u8) = (0x79, 0x10);
/// The most octets of a datagram without EDNS, and with it (RFC 1035, section 4.2.1; RFC 9715, section 3.2).
const PLAIN_MAX: usize = 512;
const DATAGRAM_MAX: usize = 1232;
const IDENTITY: &[u8] = b"node1";
/// The most steps of reading a message. Each option is one step, and has at least four octets. Each label in the names
/// of the records is one step.
const OCTETS_A_STEP: usize = 4;
const STEPS_OF_NAMES: usize = 9 * 128;
const TIMES: usize = 3;
/// Names that exist, and neighbours of them.
const NAMES: [&str; 8] = ["@", "node1", "node3", "node9", "ns1", "service", "seventeen", "withheld"];

/// The message of an input: the input itself after a leading zero, or a message that is made from it, part by part.
pub fn message(input: &[u8]) -> Vec<u8> {
    match input {
        [0, message @ ..] => message.to_vec(),
        input => Query::arbitrary_take_rest(Unstructured::new(input))
            .map(|query| query.bytes())
            .unwrap_or_default(),
    }
}

/// Whether an answer over UDP and one over TCP are equal, except for the idle timeout that only the latter has (RFC 7828).
fn are_alike(udp: &[u8], tcp: &[u8]) -> bool {
    /// The option with its length, and the timeout.
    const KEEPALIVE: [u8; 4] = [0, 11, 0, 2];
    const KEEPALIVE_LENGTH: usize = KEEPALIVE.len() + 2;
    if udp == tcp {
        return true;
    }
    let (Ok(udp_says), Ok(mut tcp_says)) = (Meaning::of(udp), Meaning::of(tcp)) else { return false };
    if let Some(opt) = &mut tcp_says.edns {
        opt.options_mut().remove(EdnsCode::Keepalive);
    }
    udp_says == tcp_says
        && tcp.len() == udp.len() + KEEPALIVE_LENGTH
        && tcp.windows(KEEPALIVE.len()).any(|octets| octets == KEEPALIVE)
}

/// Checks the property for one message.
///
/// # Errors
/// An answer is wrong. The error has the fault and the answer.
pub fn hold(zone: &Zone, message: &[u8]) -> Result<(), String> {
    let answer = |transport| answer(message, transport, Some(zone));
    let answers =
        (answer(Transport::Udp), answer(Transport::Tcp), self::answer(message, Transport::Udp, None));
    let expected = message.len() >= HEADER && message[2] & QR == 0;
    let (udp, tcp, without) = match answers {
        (Some(udp), Some(tcp), Some(without)) if expected => (udp, tcp, without),
        (None, None, None) if !expected => return Ok(()),
        answers => return Err(format!("an answer is expected: {expected}; there is {answers:?}")),
    };
    let steps_max = message.len() / OCTETS_A_STEP + STEPS_OF_NAMES;
    if tcp.steps > steps_max {
        return Err(format!("{} steps for {} octets", tcp.steps, message.len()));
    }
    for response in [&udp, &tcp, &without] {
        check(message, response).map_err(|what| format!("{what}: {response:02x?} to {message:02x?}"))?;
    }
    let truncated = udp.message[2] & TC != 0;
    if udp.message.len() > DATAGRAM_MAX {
        return Err(format!("a datagram of {} octets", udp.message.len()));
    }
    if message.len() < PLAIN_MAX && udp.message.len() > PLAIN_MAX && !has_opt(message) {
        return Err(format!("a datagram of {} octets without EDNS", udp.message.len()));
    }
    if tcp.message[2] & TC != 0 || (!truncated && !are_alike(&udp.message, &tcp.message)) {
        return Err(format!("{:02x?} over UDP, {:02x?} over TCP", udp.message, tcp.message));
    }
    Ok(())
}

/// The time to find and write the answer: the minimum of several tries, because other programs run too.
pub fn answer_time(zone: &Zone, message: &[u8]) -> Duration {
    let time = |_| {
        let start = Instant::now();
        black_box(answer(black_box(message), Transport::Tcp, Some(zone)));
        start.elapsed()
    };
    (0..TIMES).map(time).min().unwrap_or_default()
}

/// An answer as it is sent.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    rcode: Rcode,
    steps: usize,
    message: Vec<u8>,
}

fn answer(message: &[u8], transport: Transport, zone: Option<&Zone>) -> Option<Sent> {
    let arrival = Arrival {
        transport,
        client: Ipv4Addr::new(198, 51, 100, 100).into(),
        port: 4096,
        seconds: COOKIES.0,
    };
    let response = respond(message, arrival, zone, IDENTITY)?;
    Some(Sent { rcode: response.rcode, steps: response.steps, message: response.encode() })
}

fn check(message: &[u8], Sent { rcode, message: response, .. }: &Sent) -> Result<(), String> {
    let read = Message::from_vec(response).map_err(|error| format!("unreadable ({error})"))?;
    if response[..2] != message[..2] || response[2] & QR == 0 {
        return Err("no response to this".to_owned());
    }
    if response[2] & COPIED.0 != message[2] & COPIED.0 || response[3] & COPIED.1 != message[3] & COPIED.1 {
        return Err("opcode, RD or CD is another".to_owned());
    }
    if u16::from(read.metadata.response_code) != u16::from(Into::<ResponseCode>::into(*rcode)) {
        return Err(format!("not {rcode:?}, as is counted"));
    }
    if *rcode != Rcode::FormErr
        && *rcode != Rcode::NotImp
        && *rcode != Rcode::Refused
        && read.queries.len() != 1
    {
        return Err("the question is missing".to_owned());
    }
    let again = answer(response, Transport::Udp, None);
    if again.is_some() { Err("it would be answered itself".to_owned()) } else { Ok(()) }
}

/// Whether the message may have an OPT record: the record's type may be anywhere in it.
fn has_opt(message: &[u8]) -> bool {
    message.windows(2).any(|octets| octets == [0, 41])
}

/// A message that is made of parts. Each part may be wrong.
#[derive(Debug, Arbitrary)]
struct Query {
    id: u16,
    flags: u16,
    /// Numbers that are added to the right counts.
    miscounted: Option<[u8; 4]>,
    questions: Vec<(Name, u16, Class)>,
    records: Vec<Record>,
    opt: Option<Opt>,
    trailing: Vec<u8>,
    cut: Option<u16>,
}

#[derive(Debug, Arbitrary)]
enum Name {
    Known(u8),
    Labels(Vec<Vec<u8>>),
    Pointer(u16),
    Raw(Vec<u8>),
}

#[derive(Debug, Arbitrary)]
enum Class {
    In,
    Chaos,
    Other(u16),
}

#[derive(Debug, Arbitrary)]
struct Record {
    owner: Name,
    rtype: u16,
    class: u16,
    ttl: u32,
    rdata: Vec<u8>,
    length: Option<u16>,
}

#[derive(Debug, Arbitrary)]
struct Opt {
    size: u16,
    extended: [u8; 4],
    options: Vec<(u16, Vec<u8>)>,
    length: Option<u16>,
}

impl Query {
    fn bytes(&self) -> Vec<u8> {
        let count = |number: usize, at: usize| {
            let more = self.miscounted.map_or(0, |more| u16::from(more[at]));
            u16::try_from(number).unwrap_or(u16::MAX).wrapping_add(more).to_be_bytes()
        };
        let additionals = self.records.len() + usize::from(self.opt.is_some());
        let mut bytes = [self.id.to_be_bytes(), self.flags.to_be_bytes()].concat();
        bytes.extend(count(self.questions.len(), 0));
        bytes.extend([count(0, 1), count(0, 2), count(additionals, 3)].concat());
        for (name, qtype, class) in &self.questions {
            name.write(&mut bytes);
            bytes.extend(qtype.to_be_bytes());
            bytes.extend(class.number().to_be_bytes());
        }
        for record in &self.records {
            record.owner.write(&mut bytes);
            bytes.extend([record.rtype.to_be_bytes(), record.class.to_be_bytes()].concat());
            bytes.extend(record.ttl.to_be_bytes());
            write_data(&mut bytes, &record.rdata, record.length);
        }
        if let Some(opt) = &self.opt {
            bytes.extend([0, 0, 41]);
            bytes.extend(opt.size.to_be_bytes());
            bytes.extend(opt.extended);
            let mut rdata = Vec::new();
            for (code, value) in &opt.options {
                rdata.extend(code.to_be_bytes());
                write_data(&mut rdata, value, None);
            }
            write_data(&mut bytes, &rdata, opt.length);
        }
        bytes.extend(&self.trailing);
        bytes.truncate(self.cut.map_or(usize::from(u16::MAX), usize::from));
        bytes
    }
}

impl Class {
    fn number(&self) -> u16 {
        match self {
            Class::In => 1,
            Class::Chaos => 3,
            Class::Other(number) => *number,
        }
    }
}

impl Name {
    fn write(&self, bytes: &mut Vec<u8>) {
        let label = |bytes: &mut Vec<u8>, label: &[u8]| {
            // No label may be 64 octets or longer.
            bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
            bytes.extend(label);
        };
        match self {
            Name::Known(which) => {
                let name = within(NAMES[usize::from(*which) % NAMES.len()]);
                name.trim_end_matches('.').split('.').for_each(|part| label(bytes, part.as_bytes()));
                bytes.push(0);
            }
            Name::Labels(labels) => {
                labels.iter().for_each(|part| label(bytes, part));
                bytes.push(0);
            }
            Name::Pointer(to) => bytes.extend((to | 0xc000).to_be_bytes()),
            Name::Raw(raw) => bytes.extend(raw),
        }
    }
}

/// Data with its length in front, or with a wrong one.
fn write_data(bytes: &mut Vec<u8>, data: &[u8], length: Option<u16>) {
    let right = u16::try_from(data.len()).unwrap_or(u16::MAX);
    bytes.extend(length.unwrap_or(right).to_be_bytes());
    bytes.extend(data);
}
