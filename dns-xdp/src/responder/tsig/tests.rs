//! Tests of signatures: what is accepted, and the error for everything else (RFC 8945, section 5.2).
use data_encoding::BASE64;

use super::*;
use crate::update::Secret;

pub(in super::super) const NOW: u64 = 1_800_000_000;

pub(in super::super) fn name(text: &str) -> Name {
    full_name(text, &Name::root()).unwrap()
}

pub(in super::super) fn key(text: &str, algorithm: Algorithm) -> Key {
    let secret = Secret::from_base64(&BASE64.encode(&[7; 32])).unwrap();
    Key { name: name(text), algorithm, secret, grants: Vec::new() }
}

fn access() -> Access {
    let keys = vec![key("certbot", Algorithm::HmacSha256), key("other", Algorithm::HmacSha512)];
    Access { apex: name("demo.example.com."), keys: keys.into_iter().map(Arc::new).collect() }
}

/// An UPDATE with a zone section and nothing else.
pub(in super::super) fn plain() -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 0x28, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    message.extend(wire(&name("demo.example.com.")));
    message.extend([0, 6, 0, 1]);
    message
}

fn signed(key: &Key, time: u64) -> Vec<u8> {
    let mut message = plain();
    sign_request(&mut message, key, time);
    message
}

fn verified(message: &[u8], now: u64) -> Result<Arc<Key>, String> {
    match search(message, 1000) {
        Search::Signed(signature) => signature.verify(message, &access(), now).map_err(|error| match error {
            Unverified::Malformed => "FORMERR".to_owned(),
            Unverified::Unsigned(error) => error.text().to_owned(),
            Unverified::BadTime(_) => "BADTIME".to_owned(),
        }),
        Search::Unsigned => Err("unsigned".to_owned()),
        Search::Malformed => Err("malformed".to_owned()),
    }
}

#[test]
fn what_a_known_key_has_signed_is_accepted() {
    for key in access().keys {
        let message = signed(&key, NOW);
        assert_eq!(verified(&message, NOW), Ok(Arc::clone(&key)));
        // The id may change on the way (RFC 8945, section 5.1); the original id is signed.
        let mut forwarded = message.clone();
        forwarded[0] ^= 1;
        assert_eq!(verified(&forwarded, NOW), Ok(Arc::clone(&key)));
    }
    let upper = Key { name: Name::from_ascii("CERTBOT.").unwrap(), ..key("certbot", Algorithm::HmacSha256) };
    let mut message = plain();
    sign_request(&mut message, &key("certbot", Algorithm::HmacSha256), NOW);
    let at = message.windows(8).position(|octets| octets == b"\x07certbot").unwrap();
    message[at..at + 8].copy_from_slice(&wire(&upper.name)[..8]);
    assert!(verified(&message, NOW).is_ok(), "names have no case (RFC 8945, section 4.3.3)");
}

#[test]
fn what_was_signed_otherwise_has_its_error() {
    let good = key("certbot", Algorithm::HmacSha256);
    assert_eq!(verified(&plain(), NOW), Err("unsigned".to_owned()));
    assert_eq!(verified(&signed(&key("nobody", Algorithm::HmacSha256), NOW), NOW), Err("BADKEY".to_owned()));
    assert_eq!(verified(&signed(&key("certbot", Algorithm::HmacSha512), NOW), NOW), Err("BADKEY".to_owned()));
    let other = Key { secret: Secret::from_base64(&BASE64.encode(&[8; 32])).unwrap(), ..good.clone() };
    assert_eq!(verified(&signed(&other, NOW), NOW), Err("BADSIG".to_owned()));
    let message = signed(&good, NOW);
    for at in 2..message.len() {
        let mut changed = message.clone();
        changed[at] ^= 0x40;
        let outcome = verified(&changed, NOW);
        assert!(outcome.is_err() || changed[at].eq_ignore_ascii_case(&message[at]), "octet {at}");
    }
    for length in 0..message.len() {
        assert!(verified(&message[..length], NOW).is_err(), "half a message of {length} octets");
    }
}

#[test]
fn a_signature_is_accepted_for_five_minutes_at_most() {
    let message = signed(&key("certbot", Algorithm::HmacSha256), NOW);
    for now in [NOW - 300, NOW, NOW + 300] {
        assert!(verified(&message, now).is_ok());
    }
    for now in [0, NOW - 301, NOW + 301, u64::MAX] {
        assert_eq!(verified(&message, now), Err("BADTIME".to_owned()));
    }
}

/// The message with another MAC length: the MAC is cut, and the rest moves up.
fn truncated(octets: usize) -> Vec<u8> {
    let message = signed(&key("certbot", Algorithm::HmacSha256), NOW);
    let Search::Signed(signature) = search(&message, 9) else { panic!("it is signed") };
    let at = message.windows(32).position(|window| window == signature.mac).unwrap();
    let mut cut = [&message[..at + octets], &message[at + 32..]].concat();
    cut[at - 1] = octets as u8;
    let length_at = at - 2 - 2 - 6 - wire(&name("hmac-sha256")).len() - 1;
    cut[length_at] -= 32 - octets as u8;
    cut
}

#[test]
fn a_truncated_mac_is_refused() {
    assert!(verified(&truncated(32), NOW).is_ok());
    for octets in [16, 20, 31] {
        assert_eq!(verified(&truncated(octets), NOW), Err("BADTRUNC".to_owned()), "{octets}");
    }
    for octets in [0, 9, 15] {
        assert_eq!(verified(&truncated(octets), NOW), Err("FORMERR".to_owned()), "{octets}");
    }
}

#[test]
fn a_signature_is_the_one_last_record() {
    let message = signed(&key("certbot", Algorithm::HmacSha256), NOW);
    let with = |more: &[u8], additionals: u8| {
        let mut message = [&message[..], more].concat();
        message[11] = additionals;
        verified(&message, NOW).unwrap_err()
    };
    let opt = [0, 0, 41, 4, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(with(&opt, 2), "malformed", "a record behind it");
    assert_eq!(with(&[0], 1), "malformed", "an octet behind it");
    assert_eq!(with(&message[plain().len()..], 2), "malformed", "two of them");
    assert_eq!(with(&[], 2), "unsigned", "fewer records than the header says");
    let mut other_class = message.clone();
    let at = plain().len() + wire(&name("certbot")).len();
    other_class[at + 3] = 1;
    assert_eq!(verified(&other_class, NOW), Err("malformed".to_owned()));
}

#[test]
fn a_message_that_no_key_can_have_signed_costs_no_more_than_its_header() {
    let mut many = plain();
    many[8..12].copy_from_slice(&[0xff; 4]);
    assert!(matches!(search(&many, 1000), Search::Unsigned));
}

#[test]
fn an_answer_is_signed_with_the_mac_of_its_request() {
    let key = key("certbot", Algorithm::HmacSha256);
    let request = signed(&key, NOW);
    let Search::Signed(signature) = search(&request, 9) else { panic!("it is signed") };
    let mut answer = plain();
    answer[2] |= 0x80;
    let unsigned = answer.clone();
    sign(&mut answer, &key, signature.mac, NOW + 1, None, &[]);
    let Search::Signed(own) = search(&answer, 9) else { panic!("it is signed") };
    assert_eq!((own.time, own.error, own.original_id), (NOW + 1, 0, 0x1234));
    // As a client verifies it (RFC 8945, section 5.3.1).
    let mut digested = [&[0, 32], signature.mac, &unsigned].concat();
    digested.extend(variables(&key, NOW + 1, FUDGE_SECONDS, 0, &[]));
    hmac::verify(&mac_key(&key), &digested, own.mac).unwrap();

    let mut late = unsigned.clone();
    signature.sign_bad_time(&mut late, &key, NOW + 999);
    let Search::Signed(own) = search(&late, 9) else { panic!("it is signed") };
    assert_eq!((own.time, own.error, own.mac.len()), (NOW, 18, 32));
    assert_eq!(own.other, &(NOW + 999).to_be_bytes()[2..]);

    let mut bad = unsigned;
    signature.append_unsigned(&mut bad, TsigError::Key);
    let Search::Signed(own) = search(&bad, 9) else { panic!("it has the record") };
    assert_eq!((own.error, own.mac.len()), (17, 0));
}
