//! Tests of whole messages and their answers.
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};

use super::super::tsig::tests::{NOW, key, name, plain};
use super::*;
use crate::update::{Algorithm, Change};

fn access() -> Access {
    let keys = vec![Arc::new(key("certbot", Algorithm::HmacSha256))];
    Access { apex: name("demo.example.com."), keys }
}

/// An update that deletes the TXT records of a name.
fn removal(owner: &str) -> Vec<u8> {
    let mut message = plain();
    message[9] = 1;
    message.extend(crate::records::wire(&name(owner)));
    message.extend([0, 16, 0, 255, 0, 0, 0, 0, 0, 0]);
    message
}

fn signed(mut message: Vec<u8>) -> Vec<u8> {
    sign_request(&mut message, &access().keys[0], NOW);
    message
}

fn with_opt(mut message: Vec<u8>) -> Vec<u8> {
    message[11] = 1;
    message.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
    message
}

/// The rcode, the answer, and the length of its MAC.
fn answered(message: &[u8], now: u64) -> Option<(&'static str, Message, usize)> {
    let (rcode, answer) = answer_of_update(message, &access(), now)?;
    let read = Message::from_vec(&answer).unwrap();
    assert_eq!((read.metadata.id, read.queries.len()), (0x1234, 1));
    assert_eq!(Into::<ResponseCode>::into(rcode).low(), read.metadata.response_code.low());
    let Search::Signed(signature) = search(&answer, 9) else {
        panic!("the answer has a TSIG: {answer:02x?}")
    };
    Some((rcode.text(), read, signature.mac.len()))
}

#[test]
fn a_verified_update_is_read_and_every_fault_has_a_signed_answer() {
    let owner = "_acme-challenge.demo.example.com.";
    let whole = signed(removal(owner));
    match verify(&whole, IpAddr::from([192, 0, 2, 7]), &access(), NOW) {
        Verification::Verified { signed, expires } => {
            assert_eq!((expires, signed.key.name.to_string().as_str()), (NOW + 300, "certbot."));
            let update = message::update(&whole, &access().apex).unwrap();
            let expected = Change::RemoveSet { owner: name(owner), rtype: RecordType::TXT };
            assert_eq!(update.changes, [expected]);
        }
        other => panic!("{other:?}"),
    }
    for (message, expected) in [(removal(owner), "NOERROR"), (removal("example.org."), "NOTZONE")] {
        let (rcode, _, mac) = answered(&signed(message), NOW).unwrap();
        assert_eq!((rcode, mac), (expected, 32));
    }
}

#[test]
fn the_error_of_a_signature_is_in_the_answer() {
    let other = |name: &str, octet: u8| {
        let secret = data_encoding::BASE64.encode(&[octet; 32]);
        let secret = crate::update::Secret::from_base64(&secret).unwrap();
        let mut message = removal("x.demo.example.com.");
        sign_request(&mut message, &Key { secret, ..key(name, Algorithm::HmacSha256) }, NOW);
        message
    };
    for (message, now, mac) in
        [(other("nobody", 7), NOW, 0), (other("certbot", 8), NOW, 0), (other("certbot", 7), NOW + 999, 32)]
    {
        let (rcode, _, found) = answered(&message, now).unwrap();
        assert_eq!((rcode, found), ("NOTAUTH", mac));
    }
    assert!(answered(&removal("x.demo.example.com."), NOW).is_none(), "it is not signed");
    assert!(answer_of_update(&signed(plain()), &Access::default(), NOW).is_none(), "there are no keys");
    let mut query = signed(plain());
    query[2] = 0;
    assert!(answer_of_update(&query, &access(), NOW).is_none(), "it is no update");
}

#[test]
fn the_reason_is_in_the_answer_to_a_message_with_edns() {
    let (_, answer, _) = answered(&signed(with_opt(removal("x.example.org."))), NOW).unwrap();
    let text = format!("{:?}", answer.edns.expect("there is an OPT"));
    let reason = "x.example.org. is outside the zone demo.example.com.";
    let octets = reason.bytes().map(|octet| octet.to_string()).collect::<Vec<_>>().join(", ");
    assert!(text.contains(reason) || text.contains(&octets), "{text}");
    let (_, plain, _) = answered(&signed(removal("x.example.org.")), NOW).unwrap();
    assert!(plain.edns.is_none());
}

fn updates() -> (Updates, mpsc::Receiver<Order>) {
    let (orders, waiting) = mpsc::channel(UPDATES_MAX);
    let (_, access) = watch::channel(Arc::new(access()));
    (Updates::new(UpdateChannel { access, orders }), waiting)
}

/// An update that is signed now.
fn fresh(owner: &str) -> Vec<u8> {
    let mut message = removal(owner);
    sign_request(&mut message, &access().keys[0], seconds());
    message
}

const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)), 4096);

#[tokio::test]
async fn a_repeated_message_is_made_once_and_gets_the_answer_of_the_first() {
    let (updates, mut waiting) = updates();
    let message = fresh("x.demo.example.com.");
    let Step::Pending(pending) = updates.arrive(&message, CLIENT) else { panic!("it is new") };
    assert!(matches!(updates.arrive(&message, CLIENT), Step::Repeated));
    let Order { reply, update } = waiting.recv().await.unwrap();
    assert_eq!((update.client, update.update.changes.len()), (CLIENT.ip(), 1));
    reply.send(Err(Failure::new(ResponseCode::NXRRSet, "x has no TXT records"))).unwrap();
    let (rcode, _) = pending.finish().await;
    assert_eq!(rcode, Rcode::NxRrset);
    let Step::Answer { rcode: Rcode::NxRrset, verified: true, .. } = updates.arrive(&message, CLIENT) else {
        panic!("its result is remembered")
    };
    assert!(waiting.try_recv().is_err(), "the controller has it once");
}

#[tokio::test]
async fn updates_under_way_are_limited_and_the_rest_may_try_again() {
    let (updates, mut waiting) = updates();
    let mut pending = Vec::new();
    for number in 0..UPDATES_MAX {
        match updates.arrive(&fresh(&format!("x{number}.demo.example.com.")), CLIENT) {
            Step::Pending(one) => pending.push(one),
            other => panic!("{number}: {other:?}"),
        }
    }
    let more = fresh("more.demo.example.com.");
    assert!(matches!(updates.arrive(&more, CLIENT), Step::Answer { rcode: Rcode::ServFail, .. }));
    while waiting.try_recv().is_ok() {}
    for one in pending.drain(..) {
        assert_eq!(one.finish().await.0, Rcode::ServFail, "the controller has dropped it");
    }
    for _ in 0..2 {
        let Step::Pending(given_up) = updates.arrive(&more, CLIENT) else {
            panic!("there is room, and it was not made before")
        };
        drop(given_up);
    }
    drop(waiting);
    for _ in 0..2 {
        let step = updates.arrive(&more, CLIENT);
        assert!(matches!(step, Step::Answer { rcode: Rcode::ServFail, .. }), "the controller has gone");
    }
}

#[tokio::test]
async fn the_answer_to_a_signed_query_is_signed_too() {
    let (updates, _waiting) = updates();
    let mut query = plain();
    query[2] = 0;
    assert!(matches!(updates.query(&query, CLIENT), Query::Plain));
    sign_request(&mut query, &access().keys[0], seconds());
    let Query::Signed(signed) = updates.query(&query, CLIENT) else { panic!("a key has signed it") };
    let mut short = answer(&signed.request, Rcode::NoError, None);
    signed.sign(&mut short, Transport::Udp);
    assert!(matches!(search(&short, 9), Search::Signed(signature) if signature.mac.len() == 32));
    let mut long = answer(&signed.request, Rcode::NoError, None);
    long.resize(500, 0);
    signed.sign(&mut long, Transport::Udp);
    assert!(long.len() < 200 && long[2] & 2 != 0, "the signature has no room");
    let late = {
        let mut late = plain();
        late[2] = 0;
        sign_request(&mut late, &access().keys[0], 1);
        late
    };
    assert!(matches!(updates.query(&late, CLIENT), Query::Answer { rcode: Rcode::NotAuth, .. }));
}

#[test]
fn an_answer_names_the_zone_of_the_update() {
    let (_, answer, _) = answered(&signed(removal("x.demo.example.com.")), NOW).unwrap();
    assert_eq!(*answer.queries[0].name(), Name::from_ascii("demo.example.com.").unwrap());
    assert_eq!(answer.queries[0].query_type(), RecordType::SOA);
}
