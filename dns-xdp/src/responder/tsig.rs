//! TSIG (RFC 8945): finds and verifies the signature of a message, and signs the answer.
//!
//! A message is verified before any of its names and data are parsed. Without a known key its cost is one pass over
//! its octets, which follows no pointer.
use std::sync::Arc;

use dns_xdp_ebpf::message::HEADER_LENGTH;
use hickory_proto::op::{Header, HeaderCounts};
use hickory_proto::rr::{Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder};
use ring::hmac;

use super::request::Reader;
use crate::records::{full_name, wire};
use crate::update::{Access, Algorithm, Key};

/// The most seconds between the clocks of client and server, whatever the client allows (RFC 8945, section 10).
pub(super) const FUDGE_SECONDS: u16 = 300;
/// The fewest octets of a truncated MAC (RFC 8945, section 5.2.2.1). This server accepts none that is truncated.
const TRUNCATED_MIN: usize = 10;
/// The class of the record, and its TTL (RFC 8945, section 4.2).
const CLASS_ANY: u16 = 255;
const TTL: u32 = 0;
/// Offsets of the header's fields.
const ID: std::ops::Range<usize> = 0..2;
const ADDITIONALS: std::ops::Range<usize> = 10..12;

/// The signature of a message, not verified.
#[derive(Debug, Clone)]
pub(super) struct Signature<'m> {
    /// Where the record begins in the message.
    at: usize,
    key_name: Name,
    algorithm: Name,
    /// Seconds since 1970, by the client's clock.
    pub(super) time: u64,
    /// The seconds that the clocks may differ.
    fudge: u16,
    /// The MAC.
    pub(super) mac: &'m [u8],
    original_id: u16,
    error: u16,
    other: &'m [u8],
}

/// The result of looking for a signature.
#[derive(Debug)]
pub(super) enum Search<'m> {
    /// The message is not signed, or not readable to its end.
    Unsigned,
    /// The signature is not the one last record, or is malformed: FORMERR (RFC 8945, section 5.2).
    Malformed,
    /// The message is signed.
    Signed(Box<Signature<'m>>),
}

/// The error in the record of an answer (RFC 8945, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TsigError {
    /// BADSIG: the MAC is not that of the message.
    Signature = 16,
    /// BADKEY: the key is not known, or it has another algorithm.
    Key = 17,
    /// BADTIME: the client's clock differs by more than the fudge, or the message is old.
    Time = 18,
    /// BADTRUNC: the MAC is truncated.
    Truncation = 22,
}

impl TsigError {
    /// Returns its mnemonic.
    pub(super) fn text(self) -> &'static str {
        match self {
            TsigError::Signature => "BADSIG",
            TsigError::Key => "BADKEY",
            TsigError::Time => "BADTIME",
            TsigError::Truncation => "BADTRUNC",
        }
    }
}

/// Why a signed message is not accepted.
#[derive(Debug)]
pub(super) enum Unverified {
    /// FORMERR: the MAC has an impossible length.
    Malformed,
    /// NOTAUTH with this error, in an answer that is not signed.
    Unsigned(TsigError),
    /// NOTAUTH with BADTIME, in an answer that the key signs.
    BadTime(Arc<Key>),
}

/// Looks for the signature of a message with these counts, of at most `records_max` records.
pub(super) fn search(message: &[u8], records_max: u32) -> Search<'_> {
    let Ok(Header { counts, .. }) = Header::read(&mut BinDecoder::new(message)) else {
        return Search::Unsigned;
    };
    let HeaderCounts { queries, answers, authorities, additionals } = counts;
    let records = u32::from(answers) + u32::from(authorities) + u32::from(additionals);
    if additionals == 0 || queries > 1 || records > records_max {
        return Search::Unsigned;
    }
    let mut reader = Reader::new(message);
    if queries == 1 && reader.pass_question().is_err() {
        return Search::Unsigned;
    }
    let mut signatures = 0;
    let mut last = None;
    for _ in 0..records {
        let at = reader.at();
        let Ok(record) = reader.record() else { return Search::Unsigned };
        let is_signature = record.rtype == RecordType::TSIG;
        signatures += u32::from(is_signature);
        last = is_signature.then_some((at, record));
    }
    match (signatures, last) {
        (0, _) => Search::Unsigned,
        (1, Some((at, record))) if reader.is_at_end() => {
            let is_right = record.class == CLASS_ANY && u32::from_be_bytes(record.ttl) == TTL;
            let signature = Signature::read(message, at, record.rdata).filter(|_| is_right);
            signature.map_or(Search::Malformed, |signature| Search::Signed(Box::new(signature)))
        }
        _ => Search::Malformed,
    }
}

impl<'m> Signature<'m> {
    /// Reads the record that begins at `at` (RFC 8945, section 4.2).
    fn read(message: &'m [u8], at: usize, rdata: &'m [u8]) -> Option<Signature<'m>> {
        let key_name = Name::read(&mut BinDecoder::new(message).clone(u16::try_from(at).ok()?)).ok()?;
        let mut names = BinDecoder::new(rdata);
        let algorithm = Name::read(&mut names).ok()?;
        let mut rest = rdata.get(names.index()..)?;
        let mut take = |length: usize| {
            let (taken, behind) = rest.split_at_checked(length)?;
            rest = behind;
            Some(taken)
        };
        let number =
            |octets: &[u8]| octets.iter().fold(0_u64, |number, octet| (number << 8) | u64::from(*octet));
        let time = number(take(6)?);
        let fudge = number(take(2)?) as u16;
        let mac_length = number(take(2)?) as usize;
        let mac = take(mac_length)?;
        let original_id = number(take(2)?) as u16;
        let error = number(take(2)?) as u16;
        let other_length = number(take(2)?) as usize;
        let other = take(other_length)?;
        let read = Signature { at, key_name, algorithm, time, fudge, mac, original_id, error, other };
        rest.is_empty().then_some(read)
    }

    /// Returns the key's name, for messages.
    pub(super) fn key_name(&self) -> &Name {
        &self.key_name
    }

    /// The last second at which the message is accepted.
    pub(super) fn expires(&self) -> u64 {
        self.time.saturating_add(self.fudge().into())
    }

    fn fudge(&self) -> u16 {
        self.fudge.min(FUDGE_SECONDS)
    }

    /// Returns the key that has signed the message (RFC 8945, section 5.2): checks the key, the MAC, and the time, in
    /// this order. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// The message is not accepted.
    pub(super) fn verify(&self, message: &[u8], access: &Access, now: u64) -> Result<Arc<Key>, Unverified> {
        let key = access
            .key(&self.key_name)
            .filter(|key| algorithm_name(key.algorithm) == self.algorithm.to_lowercase());
        let key = key.ok_or(Unverified::Unsigned(TsigError::Key))?;
        let whole = key.algorithm.octets();
        if self.mac.len() > whole || self.mac.len() < TRUNCATED_MIN.max(whole / 2) {
            return Err(Unverified::Malformed);
        }
        if self.mac.len() < whole {
            return Err(Unverified::Unsigned(TsigError::Truncation));
        }
        let mut digested = message.get(..self.at).unwrap_or_default().to_vec();
        if let Some(id) = digested.get_mut(ID) {
            id.copy_from_slice(&self.original_id.to_be_bytes());
        }
        count_additionals(&mut digested, |count| count.saturating_sub(1));
        digested.extend(variables(key, self.time, self.fudge, self.error, self.other));
        hmac::verify(&mac_key(key), &digested, self.mac)
            .map_err(|_| Unverified::Unsigned(TsigError::Signature))?;
        if now.abs_diff(self.time) > self.fudge().into() {
            return Err(Unverified::BadTime(Arc::clone(key)));
        }
        Ok(Arc::clone(key))
    }

    /// Appends to an answer the record of an error that no key signs (RFC 8945, section 5.3.2).
    pub(super) fn append_unsigned(&self, answer: &mut Vec<u8>, error: TsigError) {
        let rdata =
            Rdata { algorithm: &self.algorithm, time: self.time, mac: &[], error: error as u16, other: &[] };
        rdata.append(answer, &self.key_name);
    }

    /// Signs an answer with the error BADTIME. It has the client's time, and the server's as other data (RFC 8945, section
    /// 5.2.3).
    pub(super) fn sign_bad_time(&self, answer: &mut Vec<u8>, key: &Key, now: u64) {
        sign(answer, key, self.mac, self.time, Some(TsigError::Time), &now.to_be_bytes()[2..]);
    }
}

/// Signs an answer to the message with this MAC (RFC 8945, section 5.3.1).
pub(super) fn sign(
    answer: &mut Vec<u8>,
    key: &Key,
    request_mac: &[u8],
    time: u64,
    error: Option<TsigError>,
    other: &[u8],
) {
    let error = error.map_or(0, |error| error as u16);
    let mut digested = (request_mac.len() as u16).to_be_bytes().to_vec();
    digested.extend(request_mac);
    digested.extend_from_slice(answer);
    digested.extend(variables(key, time, FUDGE_SECONDS, error, other));
    let mac = hmac::sign(&mac_key(key), &digested);
    let algorithm = algorithm_name(key.algorithm);
    Rdata { algorithm: &algorithm, time, mac: mac.as_ref(), error, other }.append(answer, &key.name);
}

/// Signs a message as a client does (RFC 8945, section 5.1).
pub(super) fn sign_request(message: &mut Vec<u8>, key: &Key, time: u64) {
    let mut digested = message.clone();
    digested.extend(variables(key, time, FUDGE_SECONDS, 0, &[]));
    let mac = hmac::sign(&mac_key(key), &digested);
    let algorithm = algorithm_name(key.algorithm);
    Rdata { algorithm: &algorithm, time, mac: mac.as_ref(), error: 0, other: &[] }.append(message, &key.name);
}

/// The fields of a record to be written.
struct Rdata<'a> {
    algorithm: &'a Name,
    time: u64,
    mac: &'a [u8],
    error: u16,
    other: &'a [u8],
}

impl Rdata<'_> {
    /// Appends the record to a message, whose id is the original id.
    fn append(&self, message: &mut Vec<u8>, key_name: &Name) {
        let id = message.get(ID).unwrap_or_default().to_vec();
        let rdata = [
            &wire(self.algorithm)[..],
            &self.time.to_be_bytes()[2..],
            &FUDGE_SECONDS.to_be_bytes(),
            &(self.mac.len() as u16).to_be_bytes(),
            self.mac,
            &id,
            &self.error.to_be_bytes(),
            &(self.other.len() as u16).to_be_bytes(),
            self.other,
        ]
        .concat();
        message.extend(wire(key_name));
        message.extend(u16::from(RecordType::TSIG).to_be_bytes());
        message.extend(CLASS_ANY.to_be_bytes());
        message.extend(TTL.to_be_bytes());
        message.extend((rdata.len() as u16).to_be_bytes());
        message.extend(rdata);
        count_additionals(message, |count| count.saturating_add(1));
    }
}

/// The fields that are digested after the message (RFC 8945, section 4.3.3). Names are in canonical form.
fn variables(key: &Key, time: u64, fudge: u16, error: u16, other: &[u8]) -> Vec<u8> {
    [
        &wire(&key.name)[..],
        &CLASS_ANY.to_be_bytes(),
        &TTL.to_be_bytes(),
        &wire(&algorithm_name(key.algorithm)),
        &time.to_be_bytes()[2..],
        &fudge.to_be_bytes(),
        &error.to_be_bytes(),
        &(other.len() as u16).to_be_bytes(),
        other,
    ]
    .concat()
}

fn algorithm_name(algorithm: Algorithm) -> Name {
    full_name(algorithm.text(), &Name::root()).unwrap_or_default()
}

fn mac_key(key: &Key) -> hmac::Key {
    let algorithm = match key.algorithm {
        Algorithm::HmacSha256 => hmac::HMAC_SHA256,
        Algorithm::HmacSha384 => hmac::HMAC_SHA384,
        Algorithm::HmacSha512 => hmac::HMAC_SHA512,
    };
    hmac::Key::new(algorithm, key.secret.octets())
}

fn count_additionals(message: &mut [u8], change: impl Fn(u16) -> u16) {
    if message.len() >= HEADER_LENGTH
        && let Some(&[high, low]) = message.get(ADDITIONALS)
        && let Some(place) = message.get_mut(ADDITIONALS)
    {
        place.copy_from_slice(&change(u16::from_be_bytes([high, low])).to_be_bytes());
    }
}

#[cfg(test)]
pub(super) mod tests;
