//! Changes a query into another valid one, which random octets seldom do.
use crate::oracle::frames::message::{A, DO, Message, Opt, name, option};
use crate::oracle::frames::{Checksum, Datagram, SERVICE_TAG, TAG, read};
use crate::oracle::table::zone::{APEX_LENGTH, LETTERS, ask, over_ipv4, over_ipv6, sized, within};
use crate::rng::Rng;

/// The flags that a query may have: AA, RD, RA, Z, AD and CD.
const QUERY_FLAGS: u16 = 0x05f0;
const NAMES: [&str; 11] =
    ["@", "node1", "node2", "node3", "node9", "service", "sixteen", "seventeen", "prod", "withheld", LETTERS];
/// A, NS, SOA, TXT, AAAA, HTTPS, ANY.
const QTYPES: [u16; 7] = [1, 2, 6, 16, 28, 65, 255];
const SIZES: [u16; 6] = [0, 511, 512, 600, 1232, 4096];

/// Returns the frame of another query. If this frame has no plain query, it starts from a standard one.
pub fn mutated(frame: &[u8], seed: u32) -> Vec<u8> {
    let mut rng = Rng(seed.into());
    let query = |datagram: Datagram| Message::read(&datagram.message).map(|query| (datagram, query));
    let (mut datagram, mut query) = read::datagram(frame).and_then(query).unwrap_or_else(|| {
        let query = ask("node3", A);
        (over_ipv4(&query), query)
    });
    for _ in 0..=rng.below(3) {
        change(&mut datagram, &mut query, &mut rng);
    }
    datagram.message = query.bytes();
    datagram.frame()
}

fn change(datagram: &mut Datagram, query: &mut Message, rng: &mut Rng) {
    let qname_length = query.question.len() - 4;
    match rng.below(12) {
        0 => query.id = rng.number(),
        1 => query.flags = rng.number() & QUERY_FLAGS,
        2 => {
            let qtype = rng.one_of(&QTYPES).unwrap_or_else(|| rng.number());
            query.question[qname_length..][..2].copy_from_slice(&qtype.to_be_bytes());
        }
        3 => {
            let length = APEX_LENGTH + 2 + rng.below(255 - APEX_LENGTH - 1);
            let qname = rng.one_of(&NAMES).map_or_else(|| sized(length), within);
            query.question.splice(..qname_length, name(&qname));
        }
        4 => {
            // Up to 63 octets it is a label.
            let label = rng.octets(80);
            query.question.splice(..0, [&[label.len() as u8], &label[..]].concat());
        }
        5 => {
            // Letters, and octets that differ from others by the same bit.
            for octet in query.question[..qname_length].iter_mut().filter(|octet| **octet >= b'@') {
                *octet ^= 0x20 * rng.below(2) as u8;
            }
        }
        6 => query.opt = None,
        7 => {
            let size = rng.one_of(&SIZES).unwrap_or_else(|| rng.number());
            let flags = if rng.below(2) == 0 { rng.number() } else { DO };
            let options = (0..rng.below(10)).flat_map(|_| option(rng.number(), &rng.octets(30)));
            let options = options.collect();
            query.opt = Some(Opt { flags, options, ..Opt::of_size(size) });
        }
        8 => {
            let tags = [(SERVICE_TAG, rng.number()), (TAG, rng.number())];
            datagram.tags = tags[rng.below(3)..].to_vec();
        }
        9 => datagram.checksum = [Checksum::Whole, Checksum::Zero, Checksum::Partial][rng.below(3)],
        10 => datagram.padding = rng.octets(200),
        _ => {
            let (tags, padding) = (datagram.tags.clone(), datagram.padding.clone());
            let over = if datagram.source.is_ipv4() { over_ipv6 } else { over_ipv4 };
            *datagram = Datagram { tags, padding, source_port: rng.number(), ..over(query) };
        }
    }
}
