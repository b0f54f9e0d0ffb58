//! DNS UPDATE messages: unsigned, by a wrong key, at a wrong time, and in halves. Any octets get the answer that they may
//! have, and nobody without the key gets an update read.
use std::net::Ipv4Addr;
use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use dns_xdp::responder::update::{answer_of_update, sign_request};
use dns_xdp::responder::{Arrival, Rcode, Transport, respond};
use dns_xdp::update::{Access, Algorithm, Key, Secret};
use dns_xdp::zone::Zone;
use hickory_proto::op::Message;
use hickory_proto::rr::Name;

use crate::oracle::table::zone::within;

/// The server's time, in seconds since 1970.
const NOW: u64 = 1_800_000_000;
/// The most seconds that clocks may differ.
const FUDGE: u64 = 300;
const QR: u8 = 0x80;
const TSIG: u16 = 250;
/// The secrets of the known key, in Base64, and of a stranger's key.
const SECRETS: [&str; 2] = ["AAECAwQFBgcICQoLDA0ODw==", "BBECAwQFBgcICQoLDA0ODw=="];
const NAMES: [&str; 5] = ["@", "node1", "_acme-challenge", "_acme-challenge.node1", "node9"];

/// A message, and whether it may be accepted: the known key has signed it, at the right time, as it is.
#[derive(Debug)]
pub struct Sent {
    /// The octets.
    pub message: Vec<u8>,
    /// Whether the known key has signed it.
    pub accepted: bool,
}

/// The message of an input: the input itself after a leading zero, or a message that is made from it, part by part.
pub fn message(input: &[u8]) -> Sent {
    match input {
        [0, message @ ..] => Sent { message: message.to_vec(), accepted: false },
        input => UpdateParts::arbitrary_take_rest(Unstructured::new(input))
            .map(|update| update.sent())
            .unwrap_or_else(|_| Sent { message: Vec::new(), accepted: false }),
    }
}

fn key(name: &str, secret: usize) -> Key {
    Key {
        name: Name::from_ascii(name).expect("the name is right"),
        algorithm: Algorithm::HmacSha256,
        secret: Secret::from_base64(SECRETS[secret]).expect("the secret is right"),
        grants: Vec::new(),
    }
}

fn access() -> Access {
    let apex = Name::from_ascii(format!("{}.", within("@"))).expect("the apex is right");
    Access { apex, keys: vec![Arc::new(key("certbot.", 0))] }
}

/// Checks the property for one message.
///
/// # Errors
/// The answer is wrong. The error has the fault and the answer.
pub fn hold(zone: &Zone, Sent { message, accepted }: &Sent) -> Result<(), String> {
    let Some((rcode, answer)) = answer_of_update(message, &access(), NOW) else {
        return without_a_signature(zone, message, *accepted);
    };
    let wrong = |what: &str| Err(format!("{what}: {rcode:?} {answer:02x?} to {message:02x?}"));
    let read = Message::from_vec(&answer).map_err(|error| format!("unreadable ({error}): {answer:02x?}"))?;
    if answer[..2] != message[..2] || answer[2] & QR == 0 || !read.answers.is_empty() {
        return wrong("no response to this");
    }
    let is_signed = answer.len() >= UNSIGNED_MAX;
    let is_about_the_signature = matches!(rcode, Rcode::NotAuth | Rcode::FormErr);
    if *accepted && !is_signed {
        return wrong("the answer to the key is not signed");
    }
    if !*accepted && !is_about_the_signature {
        return wrong("read without a key");
    }
    if answer.len() > message.len() + OCTETS_MORE {
        return wrong("an amplifier");
    }
    Ok(())
}

/// The most octets of an answer without a MAC: a header, the zone section, and a TSIG record with the longest name here.
const UNSIGNED_MAX: usize = 12 + 24 + 9 + 10 + 13 + 16 + 10;

/// The octets of an answer beyond those of its message: a MAC, the server's time, and the text of an error.
const OCTETS_MORE: usize = 64 + 6 + 220;

/// A message that no key can have signed is refused, and costs no more than before there were keys.
fn without_a_signature(zone: &Zone, message: &[u8], accepted: bool) -> Result<(), String> {
    let arrival = Arrival {
        transport: Transport::Udp,
        client: Ipv4Addr::new(198, 51, 100, 100).into(),
        port: 4096,
        seconds: NOW as u32,
    };
    let Some(response) = respond(message, arrival, Some(zone), b"node1") else { return Ok(()) };
    let is_update = message.get(2).is_some_and(|flags| flags >> 3 == 5);
    if accepted || is_update && response.rcode != Rcode::Refused {
        return Err(format!("{:?} to {message:02x?}", response.rcode));
    }
    Ok(())
}

/// A message that is made of parts. Each part may be wrong.
#[derive(Debug, Arbitrary)]
struct UpdateParts {
    id: u16,
    zone_is_other: bool,
    prerequisites: Vec<Part>,
    changes: Vec<Part>,
    signature: Signature,
    /// Where the message is cut.
    cut: Option<u16>,
    /// An octet that changes on the way, and how.
    flip: Option<(u16, u8)>,
}

#[derive(Debug, Arbitrary)]
struct Part {
    name: u8,
    rtype: Option<u16>,
    class: u8,
    ttl: Option<u32>,
    rdata: Vec<u8>,
}

#[derive(Debug, Arbitrary)]
enum Signature {
    None,
    Right,
    OtherSecret,
    OtherName,
    /// The seconds that the client's clock is off, in either direction.
    Late(u32),
    Early(u32),
}

impl UpdateParts {
    fn sent(&self) -> Sent {
        let count = |parts: &[Part]| u16::try_from(parts.len()).unwrap_or(u16::MAX).to_be_bytes();
        let mut message = [self.id.to_be_bytes(), [0x28, 0], [0, 1]].concat();
        message.extend([count(&self.prerequisites), count(&self.changes), [0, 0]].concat());
        write_name(&mut message, if self.zone_is_other { "example.org." } else { "@" });
        message.extend([0, 6, 0, 1]);
        for part in self.prerequisites.iter().chain(&self.changes) {
            part.write(&mut message);
        }
        let (key, time) = match self.signature {
            Signature::None => (None, NOW),
            Signature::Right => (Some(key("certbot.", 0)), NOW),
            Signature::OtherSecret => (Some(key("certbot.", 1)), NOW),
            Signature::OtherName => (Some(key("nobody.", 0)), NOW),
            Signature::Late(seconds) => (Some(key("certbot.", 0)), NOW.saturating_sub(seconds.into())),
            Signature::Early(seconds) => (Some(key("certbot.", 0)), NOW + u64::from(seconds)),
        };
        let mut accepted = match self.signature {
            Signature::Right => true,
            Signature::Late(seconds) | Signature::Early(seconds) => u64::from(seconds) <= FUDGE,
            Signature::None | Signature::OtherSecret | Signature::OtherName => false,
        };
        let records = self.prerequisites.len() + self.changes.len();
        accepted &= records < 1000 && message.len() < 60_000;
        // Another signature among the records makes the message malformed.
        accepted &= !self.prerequisites.iter().chain(&self.changes).any(|part| part.rtype == Some(TSIG));
        if let Some(key) = key {
            sign_request(&mut message, &key, time);
        }
        let whole = message.len();
        message.truncate(self.cut.map_or(whole, usize::from));
        accepted &= message.len() == whole;
        // The id is not signed, and the case of a key's name does not count.
        if let Some((at, change)) = self.flip.filter(|(at, change)| *at >= 2 && ![0, 0x20].contains(change))
            && let Some(octet) = message.get_mut(usize::from(at))
        {
            *octet ^= change;
            accepted = false;
        }
        Sent { message, accepted }
    }
}

impl Part {
    fn write(&self, message: &mut Vec<u8>) {
        write_name(message, NAMES[usize::from(self.name) % NAMES.len()]);
        message.extend(self.rtype.unwrap_or(16).to_be_bytes());
        message.extend([0, [1, 254, 255, self.class][usize::from(self.class) % 4]]);
        message.extend(self.ttl.unwrap_or(0).to_be_bytes());
        message.extend(u16::try_from(self.rdata.len()).unwrap_or(u16::MAX).to_be_bytes());
        message.extend(&self.rdata);
    }
}

fn write_name(message: &mut Vec<u8>, name: &str) {
    let whole = if name.ends_with('.') { name.to_owned() } else { within(name) };
    for label in whole.trim_end_matches('.').split('.') {
        message.push(u8::try_from(label.len()).expect("a label is short"));
        message.extend(label.as_bytes());
    }
    message.push(0);
}
